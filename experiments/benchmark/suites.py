"""Measures the speed of recurrent layers in jaxrnn, PyTorch, Flax, Haiku, Keras, Equinox and a plain scan.

All contenders have the same weights and data, time-major if the library supports it. Before a contender is timed, its
outputs and gradients are compared with those of jaxrnn. Compilation is not timed, and every call waits for its results.
Contenders take turns, and each turn of short calls begins with an untimed call. JAX libraries share one process and its
threads. PyTorch has one process whose idle threads spin (its default, which is slow when other programs run) and one
whose idle threads sleep. Ratios are ratios of medians; above 1, jaxrnn is faster.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, cast

import jax
from support.command_line import launch
from support.errors import BadInputError, fail
from support.options import OptionGroup, Several, above, at_least
from support.progress import print_table

from benchmark import choosing, iterations, matrices, million, words, work
from benchmark.budget import Cost, fitting, predict, rounds_in_turn, total
from benchmark.cases import NETWORKS, Case, Size, gigaflop, make_case, make_cell, make_network, sizes_of
from benchmark.contenders import (
    COMPILED,
    CUDNN,
    DEFERRED,
    FEW,
    LAYERS,
    NAMES,
    NATIVE,
    OURS,
    PARALLEL,
    PEERS,
    SCAN,
    SLEEPING,
    TORCH,
    UNROLLED,
    knows,
    missing,
    unfit,
)
from benchmark.devices import FOUR, devices_suite
from benchmark.measuring import Benchmark, Precision
from benchmark.report import plot, tables_of, write_tables
from benchmark.work import measure

Suite = Literal[
    "bound",
    "layer",
    "model",
    "scaling",
    "memory",
    "grid",
    "odd",
    "networks",
    "parallel",
    "loops",
    "gpu",
    "devices",
    "million",
]
SYMBOLS = 96  # of the character model
THREE = ("LSTM", "GRU", "Elman")
CELLS = {  # of the suites
    "layer": (*THREE, "ResetBeforeGRU", "ReluElman"),
    "model": ("LSTM", "GRU", "ResetBeforeGRU"),
    "memory": ("LSTM", "GRU"),
    "grid": THREE,
    "odd": ("MGU", "JANET", "PeepholeLSTM", "IndRNN", "MUT1"),
    "networks": THREE,
    "parallel": ("LSTM", "GRU", "ParaGRU", "ParaLSTM", *matrices.CELLS),
    "loops": tuple(choosing.KINDS),
    "devices": ("LSTM",),
    "million": ("LSTM", "LRU"),
}
ONLY = ("model", "memory")  # suites that can only measure their own cells
SIZES = {
    "layer": ("32x64x128", "32x128x256", "64x64x512", "1x128x256", "64x128x64", "32x64x1024"),
    "model": ("32x64x128", "32x128x256"),
    "networks": ("32x64x128", "32x128x256", "64x64x512"),
    "grid": tuple(f"{b}x{t}x{h}" for h, b, t in itertools.product((64, 128, 256, 512, 1024), (1, 32, 64), (64, 128))),
    "parallel": ("1x256x32", "1x1024x32", "8x256x32", "1x4096x32"),
    "matrices": ("16x256x128",),  # of the cells with a matrix as state in the suite parallel
    "devices": ("32x64x256",),
    "million": ("1x1000000x64",),
    "odd": tuple(f"{b}x64x{h}" for h, b in itertools.product((64, 256, 1024), (1, 32, 64))),
}
# The sizes for --quick where four devices share the batch, where the default loop needs enough steps, and in pieces.
QUICK = {"devices": ("4x5x8",), "matrices": ("2x9x8",), "million": ("1x40x8",)}
# Sizes of the grid at which other JAX libraries are measured, too.
PEER_SIZES = ((1, 128, 256), (32, 64, 128), (32, 128, 256), (64, 64, 512))
MINUTES = {
    "layer": math.inf,
    "grid": 20.0,
    "odd": 6.0,
    "networks": 10.0,
    "parallel": 10.0,
    "loops": 5.0,
    "gpu": 9.0,
}


@dataclass(frozen=True)
class Options(OptionGroup):
    run_dir: Path | None = None  # Directory for tables and plots. None: a new numbered folder in runs/benchmark
    suite: tuple[Suite, ...] = ("bound", "layer", "model", "scaling", "memory")  # What to measure
    quick: bool = False  # Whether to use tiny sizes, only to check that everything runs
    cell: Several[str] = ()  # Names of cells in jaxrnn. Default: those of each suite
    sizes: Several[str] = ()  # Batch x time x hidden size (= input size), as in 32x64x128. Default: those of each suite
    contenders: Several[str] = ()  # What to compare with jaxrnn. Default: all; a wrong name lists them
    rounds: int = 7  # Number of turns of each contender, or the largest number where time is limited
    minutes: float | None = (
        None  # Time limit of a suite of layers. None: grid 20, odd 6, networks 10, parallel 10, loops 5, gpu 9
    )
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"  # Precision of products on a GPU, or of all arrays
    other_cells: ClassVar[tuple[str, ...]] = ("ReluElman",)

    def check(self) -> None:
        at_least(1, rounds=self.rounds)
        if self.minutes is not None:
            above(0, minutes=self.minutes)
            if not set(self.suite) & MINUTES.keys():
                raise BadInputError(f"--minutes is for --suite {', '.join(MINUTES)}")
        for size in self.sizes:
            parts = size.split("x")
            if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
                raise BadInputError(f"--sizes are like 32x64x128 (batch x time x hidden size), but one is {size!r}")
            if "devices" in self.suite and int(parts[0]) % FOUR.devices:
                raise BadInputError(
                    f"--suite devices needs batches that are multiples of {FOUR.devices}, not {parts[0]}"
                )
            if "million" in self.suite and int(parts[1]) % million.PIECE:
                raise BadInputError(
                    f"--suite million needs a number of steps that is a multiple of {million.PIECE}, not {parts[1]}"
                )
        for name in self.contenders:
            if name not in NAMES:
                raise BadInputError(f"there is no contender {name!r}; they are {', '.join(NAMES)}")
        for name in self.cell:
            make_cell(name, 8)
        if "gpu" in self.suite and self.precision != "float32":
            raise BadInputError("--suite gpu measures all precisions: leave out --precision")
        if "gpu" in self.suite and not self.quick and jax.default_backend() != "gpu":
            raise BadInputError("--suite gpu needs a GPU, but JAX finds none; with --quick it runs on a CPU")
        if self.precision == "bfloat16" and set(self.suite) - {"bound", "layer", "grid", "odd"}:
            raise BadInputError("--precision bfloat16 is for --suite layer, grid and odd")

    @property
    def compared(self) -> tuple[str, ...]:
        return self.contenders or tuple(NAMES)

    def cells_of(self, suite: str) -> tuple[str, ...]:
        if suite in ONLY and self.cell:
            return tuple(name for name in self.cell if name in CELLS[suite])
        return self.cell or CELLS[suite]

    def sizes_of(self, suite: str) -> list[Size]:
        sizes = QUICK.get(suite, ("2x5x8",)) if self.quick else self.sizes or SIZES.get(suite) or choosing.sizes_here()
        return [cast("Size", tuple(map(int, size.split("x")))) for size in sizes]


cached_case = lru_cache(maxsize=1)(make_case)  # the modes of one size are timed one after another


def time_layers(
    bench: Benchmark,
    suite: str,
    case: Case,
    mode: str,
    among: Sequence[str],
    varied: str = "",
    label: str = "",
    rounds: int | None = None,
) -> None:
    """Times the outputs of a layer, or its gradient with respect to parameters and inputs."""
    chosen = bench.contenders(case.name, lambda name: work.layers(name, case, mode), among)
    samples = measure(chosen, rounds or bench.options.rounds)
    bench.add(suite, case.name, label or mode, sizes_of(case), samples, varied, gigaflop(case, mode))


def time_model(
    bench: Benchmark, suite: str, name: str, size: Size, among: Sequence[str], rounds: int | None = None
) -> None:
    """Times one training step of a character model: one-hot symbols, a recurrent layer, a dense layer, and Adam."""
    case = make_case(name, size, symbols=SYMBOLS)
    # The first steps of Adam depend on the signs of gradients, which rounding decides if they are almost zero.
    chosen = bench.contenders(name, lambda name: work.model(name, case), among, tolerance=2e-3, calls=3)
    samples = measure(chosen, rounds or bench.options.rounds)
    flop = gigaflop(case, "training")
    bench.add(suite, name, "training step, characters", sizes_of(case), samples, gigaflop=flop, counted="characters")


def time_words(bench: Benchmark, suite: str, among: Sequence[str], rounds: int | None = None) -> None:
    """Times one training step of the word model. Results are compared without dropout, which is random."""
    some = words.make_words(words.TINY if bench.options.quick else words.RECIPE)
    plain, cell = words.without_dropout(some), some.options.cell
    equal = bench.contenders(cell, lambda name: words.word_model(name, plain), among, calls=3)
    chosen = {name: words.word_model(name, some) for name in equal}
    for task in chosen.values():
        task.call()  # compiles
    samples = measure(chosen, rounds or bench.options.rounds)
    sizes, flop = words.sizes_of(some), words.gigaflop(some)
    bench.add(suite, cell, "training step, words", sizes, samples, gigaflop=flop, counted="words")


# --- Suites without a time limit ---


def model_suite(bench: Benchmark) -> None:
    """Times training steps of a character model and of a word model."""
    cells = bench.options.cells_of("model")
    for size in bench.options.sizes_of("model"):
        for name in cells:
            time_model(bench, "model", name, size, LAYERS if bench.options.quick else [*LAYERS, COMPILED])
    if words.RECIPE.cell in cells:
        time_words(bench, "model", (OURS, TORCH, SLEEPING))


def scaling_suite(bench: Benchmark) -> None:
    """Times the gradient of an LSTM as one size grows, and its compilation."""
    base = {"B": 2, "T": 4, "H": 8, "L": 1} if bench.options.quick else {"B": 32, "T": 64, "H": 128, "L": 1}
    grown = {"T": (16, 64, 256, 1024), "H": (64, 128, 256, 512, 1024), "B": (1, 8, 32, 128), "L": (1, 2, 4)}
    grown = {"T": (4,), "L": (2,)} if bench.options.quick else grown
    repeats = 1 if bench.options.quick else 3
    for varied, values in grown.items():
        for value in values:
            at = base | {varied: value}
            case = make_case("LSTM", (at["B"], at["T"], at["H"]), at["L"])
            time_layers(bench, "scaling", case, "gradient", FEW, varied)
            if varied == "T":
                samples = {name: [compile_ms(name, case) for _ in range(repeats)] for name in jax_contenders(bench)}
                bench.add("scaling", case.name, "compile", sizes_of(case), samples, varied)


def memory_suite(bench: Benchmark) -> None:
    """Measures what the compiled gradient allocates besides its arguments and results, as the sequence grows."""
    for name in bench.options.cells_of("memory"):
        for length in (4,) if bench.options.quick else (64, 256, 1024):
            case = make_case(name, (2, length, 8) if bench.options.quick else (32, length, 256))
            samples = {}
            for contender in jax_contenders(bench):
                function, args, _ = work.jax_program(contender, case, "gradient")
                memory = function.lower(*args).compile().memory_analysis()
                samples[contender] = [memory.temp_size_in_bytes / 2**20]
            bench.add("memory", name, "gradient", sizes_of(case), samples, "T", unit="MiB")


def jax_contenders(bench: Benchmark) -> list[str]:
    here = [name for name in FEW if not (name.startswith(TORCH) or missing(name) or unfit(name, bench.precision))]
    return [name for name in here if name in (OURS, *bench.options.compared)]


def compile_ms(contender: str, case: Case) -> float:
    jax.clear_caches()
    function, args, _ = work.jax_program(contender, case, "gradient")
    started = time.perf_counter()
    function.lower(*args).compile()
    return 1e3 * (time.perf_counter() - started)


# --- Suites of many points, with a time limit ---


class Point(NamedTuple):
    """Something to time: its name, its predicted cost, and a function that times it in a number of rounds."""

    what: str
    cost: Cost
    time: Callable[[int], None]


def time_points(bench: Benchmark, suite: str, points: Sequence[Point]) -> None:
    """Times points, each in as many rounds as the time limit of the suite allows. Prints an estimate first."""
    costs, minutes = [point.cost for point in points], bench.options.minutes or MINUTES[suite]
    rounds = fitting(costs, 60 * minutes, bench.options.rounds)
    about = total(costs, rounds) / 60
    print(f"\n{suite}: {len(points)} points of {min(rounds)} to {max(rounds)} rounds, about {about:.1f} minutes")
    started = time.perf_counter()
    in_turn = rounds_in_turn(costs, minutes, bench.options.rounds)
    for n, (point, number) in enumerate(zip(points, in_turn, strict=True), 1):
        if number:
            print(f"\n{suite}: point {n} of {len(points)} after {(time.perf_counter() - started) / 60:.1f} minutes")
            point.time(number)
        else:
            bench.leave_out(point.what, "no time left")


def layer_point(
    bench: Benchmark,
    suite: str,
    name: str,
    size: Size,
    mode: str,
    among: Sequence[str],
    precision: Precision | None = None,
    network: str = "",
    label: str = "",
    varied: str = "",
) -> Point:
    """Returns the point of a layer, or of one of NETWORKS."""
    precision = precision or bench.precision
    compared = (OURS, *bench.options.compared)
    here = [other for other in among if other in compared and knows(other, name) and not missing(other)]

    def run(rounds: int) -> None:
        with bench.in_precision(precision):
            case = make_network(network, name, size) if network else cached_case(name, size, dtype=bench.dtype)
            time_layers(bench, suite, case, mode, among, varied, label, rounds)

    layer = NETWORKS.get(network, lambda cell: cell)(make_cell(name, size[-1]))
    bound = bench.bounds.get(precision, bench.bound)
    what = f"{suite}: {name}, {label or mode}, {precision}, {'x'.join(map(str, size))}"
    return Point(what, predict(layer, size, mode, here, bound), run)


def size_points(
    bench: Benchmark, suite: str, cells: Sequence[str], among: Callable[[Size], Sequence[str]]
) -> list[Point]:
    """Returns the points of one layer over a sequence: outputs, and gradients with respect to parameters and inputs."""
    return [
        layer_point(bench, suite, name, size, mode, among(size))
        for size in bench.options.sizes_of(suite)
        for name in cells
        for mode in ("forward", "gradient")
    ]


def time_sizes(bench: Benchmark, suite: str, among: Callable[[Size], Sequence[str]]) -> None:
    """Times one layer over a sequence."""
    time_points(bench, suite, size_points(bench, suite, bench.options.cells_of(suite), among))


def layer_suite(bench: Benchmark) -> None:
    """Times layers with all contenders."""
    time_sizes(bench, "layer", lambda size: LAYERS)


def grid_suite(bench: Benchmark) -> None:
    """Times layers at many sizes, with other JAX libraries at some of them."""
    few = (OURS, DEFERRED, NATIVE, TORCH, SLEEPING)
    time_sizes(bench, "grid", lambda size: (*few, *PEERS) if size in PEER_SIZES else few)


def odd_suite(bench: Benchmark) -> None:
    """Times cells that other libraries do not have, in our loops."""
    time_sizes(bench, "odd", lambda size: (OURS, DEFERRED, NATIVE))


def networks_suite(bench: Benchmark) -> None:
    """Times the gradients of several layers, of both directions, of lengths, and of low precision."""
    among = (OURS, DEFERRED, NATIVE, TORCH, SLEEPING)
    points = []
    for size in bench.options.sizes_of("networks"):
        for name in bench.options.cells_of("networks"):
            add = partial(layer_point, bench, "networks", name, size, "gradient", among)
            points += [add(network=network, label=network) for network in (*NETWORKS, "lengths")]
            points.append(add(precision="bfloat16", label="one layer"))
    time_points(bench, "networks", points)


def parallel_suite(bench: Benchmark) -> None:
    """Times loops that run many steps at once, and counts the iterations of `Newton` as the sequence grows."""
    of_matrices = [name for name in bench.options.cells_of("parallel") if matrices.is_matrix_cell(name)]
    others = [name for name in bench.options.cells_of("parallel") if name not in of_matrices]
    points = [Point(*point) for point in matrices.points(bench, of_matrices)]
    points += size_points(bench, "parallel", others, lambda size: (OURS, DEFERRED, *PARALLEL))
    time_points(bench, "parallel", points)
    quick = bench.options.quick
    for name in others:
        cell = make_cell(name, 4 if quick else 32)
        first = cell.init(jax.random.key(0), iterations.FEATURES)
        trained, error = iterations.train(cell, first, updates=2 if quick else 500)
        print(
            f"\nparallel: {name} is trained to repeat its input; the mean squared error is {error:.2f} (untrained 1.00)"
        )
        for mode, params in (("iterations at initialization", first), ("iterations after training", trained)):
            for length in (4, 8) if quick else (64, 256, 1024, 4096):
                samples = {loop: [iterations.count(cell, params, length, PARALLEL[loop])] for loop in PARALLEL}
                sizes = {"B": 1, "T": length, "I": iterations.FEATURES, "H": cell.hidden_size, "L": 1}
                bench.add("parallel", name, mode, sizes, samples, "T", unit="iterations")


def loops_suite(bench: Benchmark) -> None:
    """Times the gradient of each kind of cell with all loops that can run it, at several lengths."""
    points = [
        layer_point(bench, "loops", name, size, "gradient", choosing.loops_of(name, size))
        for size in bench.options.sizes_of("loops")
        for name in bench.options.cells_of("loops")
    ]
    time_points(bench, "loops", points)
    bench.tables += choosing.tables(bench.rows)


def gpu_suite(bench: Benchmark) -> None:
    """Times layers and models in three precisions. The most important points come first, because time is limited."""
    quick, model_cost = bench.options.quick, Cost(30.0, 2.0)
    middle, others = ((2, 5, 8), ()) if quick else ((64, 128, 512), ((32, 64, 128), (128, 128, 1024)))
    precisions: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
    for precision in precisions:  # measures the bounds
        with bench.in_precision(precision):
            pass
    peers = (OURS, TORCH, CUDNN, "lax.scan", "flax linen")
    unrolled = (SCAN, DEFERRED, *UNROLLED)

    def layers(name: str, size: Size, mode: str, among: Sequence[str], varied: str = "") -> list[Point]:
        return [layer_point(bench, "gpu", name, size, mode, among, p, varied=varied) for p in precisions]

    def model(precision: Precision, timed: Callable[[int], None]) -> Callable[[int], None]:
        def run(rounds: int) -> None:
            with bench.in_precision(precision):
                timed(rounds)

        return run

    points = layers("LSTM", middle, "gradient", peers)
    for p in precisions[:2]:
        timed = model(p, lambda rounds: time_model(bench, "gpu", "LSTM", middle, peers, rounds))
        points.append(Point(f"gpu: character model, {p}", model_cost, timed))
        timed = model(p, lambda rounds: time_words(bench, "gpu", (OURS, TORCH), rounds))
        points.append(Point(f"gpu: word model, {p}", model_cost, timed))
    points += layers("LSTM", middle, "gradient", unrolled, "unroll")
    for size in others:
        points += layers("LSTM", size, "gradient", peers[:3])
    for name in ("GRU", "Elman"):
        points += layers(name, middle, "gradient", peers)
    points += layers("LSTM", middle, "forward", peers)
    time_points(bench, "gpu", points)


SUITES: dict[str, Callable[[Benchmark], None]] = {
    "layer": layer_suite,
    "model": model_suite,
    "scaling": scaling_suite,
    "memory": memory_suite,
    "grid": grid_suite,
    "odd": odd_suite,
    "networks": networks_suite,
    "parallel": parallel_suite,
    "loops": loops_suite,
    "gpu": gpu_suite,
    "devices": devices_suite,
    "million": million.million_suite,
}


def main(options: Options) -> None:
    bench = Benchmark(options)
    with bench.in_precision(options.precision):
        try:
            for name, suite in SUITES.items():
                if name in options.suite:
                    suite(bench)
        finally:  # an interrupted run keeps what it has measured
            tables = [*tables_of(bench.rows), *bench.tables]
            write_tables(tables, bench.path / "table.md", bench.headline)
    for table in tables:
        print(table.as_text())
    drawn = [*plot(bench.rows, bench.path, f"jaxrnn on {bench.device}"), *bench.drawn]
    print_table(table=str(bench.path / "table.md"), rows=str(bench.path / "benchmark.json"), plots=", ".join(drawn))
    if bench.wrong:
        fail("; ".join(bench.wrong), 1)


def run_benchmark() -> None:
    """Runs the benchmark with the options of the command line."""
    launch(main, Options)
