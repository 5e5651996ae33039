"""The speed of recurrent layers: jaxrnn beside PyTorch, Flax, Haiku, Keras, Equinox and a plain scan.

All contenders have the same weights and data, in float32 and time-major if the library supports it. Before a contender
is timed, its outputs and gradients are compared with ours. Compilation is not timed, every call waits for its results,
and contenders take turns, each after an untimed call of its own. JAX libraries share a process and its threads. PyTorch
has one process in which idle threads spin (its default, which is slow when other programs run) and one in which they
sleep, so that no contender has another's settings. Ratios are of medians; above 1 ours is faster.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import jax
import numpy as np
from support.command_line import launch
from support.errors import BadInputError, fail
from support.files import write_whole
from support.options import OptionGroup, RunFolder, Several, at_least
from support.progress import print_table
from support.run import try_writing

import jaxrnn
from benchmark import work
from benchmark.cases import Case, gigaflop, make_case, make_cell, sizes_of
from benchmark.contenders import NAMES, OURS, SLEEPING, knows, missing, unfit
from benchmark.report import plot, print_ratios
from benchmark.work import Task, Unavailable, measure

Suite = Literal["layer", "model", "scaling", "memory", "bound"]
SYMBOLS = 96  # of the language model
MODEL_CELLS = ("LSTM", "GRU", "ResetBeforeGRU")
LAYERS = [name for name in NAMES if name != "torch.compile"]  # it is only for whole models
FEW = (OURS, "jaxrnn Scan", "flax linen", "torch", SLEEPING)  # for large sizes


@dataclass(frozen=True)
class Options(OptionGroup):
    run_dir: Path | None = None  # Directory for tables and plots. None: a new numbered folder in runs/benchmark
    suite: tuple[Suite, ...] = ("bound", "layer", "model", "scaling", "memory")  # What to measure
    quick: bool = False  # Whether to use tiny sizes, only to check that everything runs
    cell: tuple[str, ...] = ("LSTM", "GRU", "Elman", "ResetBeforeGRU", "ReluElman")  # Names of cells in jaxrnn
    sizes: tuple[str, ...] = ("32x64x128", "32x128x256", "64x64x512")  # Batch x time x hidden size (= input size)
    contenders: Several[str] = ()  # What to compare with jaxrnn. Default: all; a wrong name lists them
    rounds: int = 7  # Number of turns of each contender
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"  # Precision of products on a GPU, or of all arrays
    other_cells: ClassVar[tuple[str, ...]] = ("ReluElman",)

    def check(self) -> None:
        at_least(1, rounds=self.rounds)
        for size in self.sizes:
            parts = size.split("x")
            if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
                raise BadInputError(f"--sizes are like 32x64x128 (batch x time x hidden size), but one is {size!r}")
        for name in self.contenders:
            if name not in NAMES:
                raise BadInputError(f"there is no contender {name!r}; they are {', '.join(NAMES)}")
        for name in self.cell:
            make_cell(name, 1)
        if self.precision == "bfloat16" and set(self.suite) - {"bound", "layer"}:
            raise BadInputError("--precision bfloat16 is for --suite layer")

    @property
    def compared(self) -> tuple[str, ...]:
        return self.contenders or tuple(NAMES)

    @property
    def points(self) -> list[tuple[int, int, int]]:
        sizes = ("2x5x8",) if self.quick else self.sizes
        return [cast("tuple[int, int, int]", tuple(map(int, size.split("x")))) for size in sizes]


class Benchmark:
    """Measures, prints, and saves the rows of benchmark.json."""

    def __init__(self, options: Options):
        self.options = options
        self.rows: list[dict[str, Any]] = []
        self.left_out: dict[str, str] = {}
        self.path = RunFolder(options.run_dir).new
        try_writing(self.path)
        self.device = f"{jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores"
        print(f"device  {self.device}\nrun     {self.path}", flush=True)
        self.bound = 0.0  # GFLOP/s
        size = 128 if options.quick else 2048 if jax.default_backend() == "cpu" else 8192
        samples = measure(work.products(size), options.rounds)
        self.bound = max(2e-6 * size**3 / min(ms) for ms in samples.values())
        self.add("bound", "product", "product", dict.fromkeys("BTIH", size), samples, gigaflop=2e-9 * size**3)

    def contenders(
        self, cell: str, make: Callable[[str], Task], among: Sequence[str] = NAMES, tolerance: float = 2e-4
    ) -> dict[str, Task]:
        """Returns the contenders that have the cell, run here, and compute the same results as jaxrnn."""
        chosen, expected = {}, None
        known = [name for name in among if name in self.options.compared and name != OURS and knows(name, cell)]
        for name in [OURS, *known]:
            try:
                if package := missing(name):
                    raise Unavailable(f"{package} is not installed")
                if reason := unfit(name, self.options.precision):
                    raise Unavailable(reason)
                task = make(name)
            except Unavailable as reason:
                self.leave_out(name, str(reason))
                continue
            results = [array for _ in range(3) for array in task.results(task.call())]
            expected = results if expected is None else expected
            for array, ours in zip(results, expected, strict=True):
                error = np.abs(array - ours).max() / np.abs(ours).max()
                if not error < {"float32": tolerance, "tf32": 5e-2, "bfloat16": 1e-1}[self.options.precision]:
                    fail(f"{name} does not compute the same as ours: its relative error is {error:.1e}", 1)
            chosen[name] = task
        return chosen

    def leave_out(self, name: str, reason: str) -> None:
        if reason not in self.left_out.get(name, ""):
            self.left_out[name] = "; ".join(filter(None, (self.left_out.get(name), reason)))
            print(f"left out: {name}: {reason}")

    def add(
        self,
        suite: str,
        cell: str,
        mode: str,
        sizes: dict[str, Any],
        samples: dict[str, list[float]],
        varied: str = "",
        gigaflop: float | None = None,
        unit: str = "ms",
    ) -> None:
        """Adds a row per contender, prints them, and saves all rows."""
        print(f"\n{suite}: {cell}, {mode}, {', '.join(f'{k} = {v}' for k, v in sizes.items())}")
        first = float(np.median(next(iter(samples.values()))))
        for name, values in samples.items():
            median = float(np.median(values))
            least = float(min(values))
            row = {"suite": suite, "cell": cell, "contender": name, "mode": mode, **sizes, "varied": varied}
            timed = unit == "ms"
            row |= {"median_ms": median if timed else None, "min_ms": least if timed else None}
            row |= {"ratio": median / first, "device": self.device, "temporary_mib": None if timed else median}
            speed = 1e3 * gigaflop / least if gigaflop else None
            row |= {"gflops": speed, "fraction_of_bound": speed / self.bound if speed else None}
            tokens = sizes["B"] * sizes["T"]
            row["characters_per_second"] = 1e3 * tokens / median if mode == "training" else None
            self.rows.append(row)
            line = f"  {name:<32} {median:10.3f} {unit}  lowest {least:10.3f}  ratio {row['ratio']:6.2f}"
            line += f"  {row['fraction_of_bound']:6.1%} of the bound" if gigaflop else ""
            line += f"  {row['characters_per_second']:12,.0f} characters/s" if mode == "training" else ""
            print(line, flush=True)
        versions = {"python": platform.python_version(), "jax": jax.__version__, "jaxrnn": jaxrnn.__version__}
        made = {"config": dataclasses.asdict(self.options), "versions": versions, "bound_gflops": self.bound}
        text = json.dumps({**made, "left_out": self.left_out, "rows": self.rows}, indent=1, default=str)
        write_whole(self.path / "benchmark.json", text)


def time_layers(bench: Benchmark, suite: str, case: Case, mode: str, among: Sequence[str], varied: str = "") -> None:
    chosen = bench.contenders(case.name, lambda name: work.layers(name, case, mode), among)
    samples = measure(chosen, bench.options.rounds)
    bench.add(suite, case.name, mode, sizes_of(case), samples, varied, gigaflop(case, mode))


def layer_suite(bench: Benchmark) -> None:
    """Times one layer over a sequence: its outputs, and its gradient with respect to parameters and inputs."""
    for size in bench.options.points:
        for name in bench.options.cell:
            for mode in ("forward", "gradient"):
                dtype = "bfloat16" if bench.options.precision == "bfloat16" else "float32"
                time_layers(bench, "layer", make_case(name, size, dtype=dtype), mode, LAYERS)


def model_suite(bench: Benchmark) -> None:
    """Times one training step of a character model: symbols, a recurrent layer, logits; clipped gradients, Adam."""
    for size in bench.options.points:
        for name in filter(MODEL_CELLS.__contains__, bench.options.cell):
            case = make_case(name, size, symbols=SYMBOLS)
            among = LAYERS if bench.options.quick else NAMES
            # The first steps of Adam depend on the signs of gradients, which rounding decides if they are almost zero.
            chosen = bench.contenders(name, lambda name, case=case: work.model(name, case), among, tolerance=2e-3)
            samples = measure(chosen, bench.options.rounds)
            bench.add("model", name, "training", sizes_of(case), samples, gigaflop=gigaflop(case, "training"))


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
    for name in filter(("LSTM", "GRU").__contains__, bench.options.cell):
        for length in (4,) if bench.options.quick else (64, 256, 1024):
            case = make_case(name, (2, length, 8) if bench.options.quick else (32, length, 256))
            samples = {}
            for contender in jax_contenders(bench):
                function, args, _ = work.jax_program(contender, case, "gradient")
                memory = function.lower(*args).compile().memory_analysis()
                samples[contender] = [memory.temp_size_in_bytes / 2**20]
            bench.add("memory", name, "gradient", sizes_of(case), samples, "T", unit="MiB")


def jax_contenders(bench: Benchmark) -> list[str]:
    return [
        n for n in FEW if not n.startswith("torch") and not missing(n) and (n == OURS or n in bench.options.compared)
    ]


def compile_ms(contender: str, case: Case) -> float:
    jax.clear_caches()
    function, args, _ = work.jax_program(contender, case, "gradient")
    started = time.perf_counter()
    function.lower(*args).compile()
    return 1e3 * (time.perf_counter() - started)


def main(options: Options) -> None:
    jax.config.update("jax_default_matmul_precision", "highest" if options.precision == "float32" else "default")
    suites = {"layer": layer_suite, "model": model_suite, "scaling": scaling_suite, "memory": memory_suite}
    bench = Benchmark(options)
    for name, suite in suites.items():
        if name in options.suite:
            suite(bench)
    print("\nratios, above 1 where jaxrnn is faster: geometric mean over the sizes (lowest)")
    print_ratios(bench.rows, OURS)
    plot(bench.rows, bench.path / "benchmark.png", f"jaxrnn on {bench.device}")
    print_table(table=str(bench.path / "benchmark.json"), plot=str(bench.path / "benchmark.png"))


def run_benchmark() -> None:
    """Runs the benchmark with the options of the command line."""
    launch(main, Options)
