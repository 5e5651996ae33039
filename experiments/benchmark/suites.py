"""How fast recurrent layers are: ours beside PyTorch's, Flax', Haiku's, Keras' and Equinox', and beside a plain scan.

Everyone has the same weights and data, in float32 and time-major where a library can; before a contender is timed, its
outputs and gradients are compared with ours. Compiling is not timed, every call waits for its results, and contenders
take turns, round by round, each after a call of its own that is not timed. JAX's libraries share a process and its
threads; PyTorch has one for each way of its idle threads, spinning (its default, which suffers where other programs
run too) and asleep, so that no one's settings are another's. Ratios are of medians; above 1 ours is faster.
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
from typing import Any, Literal, cast

import common  # first: its clock starts the run's
import jax
import numpy as np
import run_directory
import tasks
from cases import Case, gigaflop, make_case, make_cell, sizes_of
from common import BadInputError
from contenders import NAMES, OURS, SLEEPING, knows, missing, unfit
from report import plot, print_ratios
from tasks import Task, Unavailable, measure

import jaxrnn

Suite = Literal["layer", "model", "scaling", "memory", "bound"]
SYMBOLS = 96  # of the language model
MODEL_CELLS = ("LSTM", "GRU", "ResetBeforeGRU")
LAYERS = [name for name in NAMES if name != "torch.compile"]  # which is for the whole model
FEW = (OURS, "jaxrnn Scan", "flax linen", "torch", SLEEPING)  # where work grows


@dataclass(frozen=True)
class Config:
    run_dir: Path | None = None  # Where tables and plots lie; None: a new numbered folder in runs/benchmark
    suite: tuple[Suite, ...] = ("bound", "layer", "model", "scaling", "memory")  # What to measure
    quick: bool = False  # Tiny sizes: shows that all runs, and not how fast
    cells: tuple[str, ...] = ("LSTM", "GRU", "Elman", "ResetBeforeGRU", "ReluElman")  # Of jaxrnn, by name
    sizes: tuple[str, ...] = ("32x64x128", "32x128x256", "64x64x512")  # Batch x time x hidden size, the input's too
    contenders: tuple[str, ...] = tuple(NAMES)  # Beside ours
    rounds: int = 7  # How often contenders take turns
    precision: Literal["float32", "tf32", "bfloat16"] = (
        "float32"  # Of products on a GPU; bfloat16: of one layer's arrays
    )

    continues = False  # as a training run would

    def check(self) -> None:
        common.at_least(1, rounds=self.rounds)
        for size in self.sizes:
            if len(parts := size.split("x")) != 3 or not all(part.isdecimal() and int(part) for part in parts):
                raise BadInputError(f"--sizes are like 32x64x128 (batch x time x hidden size), but one is {size!r}")
        for name in self.contenders:
            if name not in NAMES:
                raise BadInputError(f"there is no contender {name!r}; they are {', '.join(NAMES)}")
        for name in self.cells:
            make_cell(name, 1)
        if self.precision == "bfloat16" and set(self.suite) - {"bound", "layer"}:
            raise BadInputError("--precision bfloat16 is for --suite layer")

    @property
    def points(self) -> list[tuple[int, int, int]]:
        sizes = ("2x5x8",) if self.quick else self.sizes
        return [cast("tuple[int, int, int]", tuple(map(int, size.split("x")))) for size in sizes]


class Benchmark:
    """Measures, prints, and keeps the rows of benchmark.json."""

    def __init__(self, config: Config):
        self.config, self.rows, self.left_out = config, cast("list[dict[str, Any]]", []), dict[str, str]()
        self.path = run_directory.new_run_dir(cast("Any", config))
        run_directory.try_writing(self.path)
        self.device = f"{jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores"
        print(f"device  {self.device}\nrun     {self.path}", flush=True)
        self.bound = 0.0  # GFLOP/s
        size = 128 if config.quick else 2048 if jax.default_backend() == "cpu" else 8192
        samples = measure(tasks.products(size), config.rounds)
        self.bound = max(2e-6 * size**3 / min(ms) for ms in samples.values())
        self.add("bound", "product", "product", dict.fromkeys("BTIH", size), samples, work=2e-9 * size**3)

    def contenders(
        self, cell: str, make: Callable[[str], Task], among: Sequence[str] = NAMES, tolerance: float = 2e-4
    ) -> dict[str, Task]:
        """Those that have the cell, run here, and compute what ours does."""
        chosen, expected = {}, None
        known = [name for name in among if name in self.config.contenders and name != OURS and knows(name, cell)]
        for name in [OURS, *known]:
            try:
                if package := missing(name):
                    raise Unavailable(f"{package} is not installed")
                if reason := unfit(name, self.config.precision):
                    raise Unavailable(reason)
                task = make(name)
            except Unavailable as reason:
                self.leave_out(name, str(reason))
                continue
            results = [array for _ in range(3) for array in task.results(task.call())]
            expected = results if expected is None else expected
            for array, ours in zip(results, expected, strict=True):
                error = np.abs(array - ours).max() / np.abs(ours).max()
                if not error < {"float32": tolerance, "tf32": 5e-2, "bfloat16": 1e-1}[self.config.precision]:
                    common.fail(f"{name} is not the same function as ours: its relative error is {error:.1e}", 1)
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
        work: float | None = None,
        unit: str = "ms",
    ) -> None:
        """Adds a row for each contender, prints the table, and saves all rows."""
        print(f"\n{suite}: {cell}, {mode}, {', '.join(f'{k} = {v}' for k, v in sizes.items())}")
        first = float(np.median(next(iter(samples.values()))))
        for name, values in samples.items():
            median, least = float(np.median(values)), float(min(values))
            row = {"suite": suite, "cell": cell, "contender": name, "mode": mode, **sizes, "varied": varied}
            timed = unit == "ms"
            row |= {"median_ms": median if timed else None, "min_ms": least if timed else None}
            row |= {"ratio": median / first, "device": self.device, "temporary_mib": None if timed else median}
            speed = 1e3 * work / least if work else None
            row |= {"gflops": speed, "fraction_of_bound": speed / self.bound if speed else None}
            tokens = sizes["B"] * sizes["T"]
            row["characters_per_second"] = 1e3 * tokens / median if mode == "training" else None
            self.rows.append(row)
            line = f"  {name:<32} {median:10.3f} {unit}  least {least:10.3f}  ratio {row['ratio']:6.2f}"
            line += f"  {row['fraction_of_bound']:6.1%} of the bound" if work else ""
            line += f"  {row['characters_per_second']:12,.0f} characters/s" if mode == "training" else ""
            print(line, flush=True)
        versions = {"python": platform.python_version(), "jax": jax.__version__, "jaxrnn": jaxrnn.__version__}
        made = {"config": dataclasses.asdict(self.config), "versions": versions, "bound_gflops": self.bound}
        text = json.dumps({**made, "left_out": self.left_out, "rows": self.rows}, indent=1, default=str)
        run_directory.write(self.path / "benchmark.json", text)


def time_layers(bench: Benchmark, suite: str, case: Case, mode: str, among: Sequence[str], varied: str = "") -> None:
    chosen = bench.contenders(case.name, lambda name: tasks.layers(name, case, mode), among)
    samples = measure(chosen, bench.config.rounds)
    bench.add(suite, case.name, mode, sizes_of(case), samples, varied, gigaflop(case, mode))


def layer_suite(bench: Benchmark) -> None:
    """One layer over a sequence: its outputs, and with the gradient of parameters and inputs."""
    for size in bench.config.points:
        for name in bench.config.cells:
            for mode in ("forward", "gradient"):
                dtype = "bfloat16" if bench.config.precision == "bfloat16" else "float32"
                time_layers(bench, "layer", make_case(name, size, dtype=dtype), mode, LAYERS)


def model_suite(bench: Benchmark) -> None:
    """One update of a character model: symbols, a recurrent layer, logits; the gradient's norm clipped, Adam."""
    for size in bench.config.points:
        for name in filter(MODEL_CELLS.__contains__, bench.config.cells):
            case = make_case(name, size, symbols=SYMBOLS)
            among = LAYERS if bench.config.quick else NAMES
            # Adam's first updates go by gradients' signs, and the sign of what is almost zero is a matter of rounding.
            chosen = bench.contenders(name, lambda name, case=case: tasks.model(name, case), among, tolerance=2e-3)
            samples = measure(chosen, bench.config.rounds)
            bench.add("model", name, "training", sizes_of(case), samples, work=gigaflop(case, "training"))


def scaling_suite(bench: Benchmark) -> None:
    """An LSTM's gradient as one size grows, and how long it takes to compile."""
    base = {"B": 2, "T": 4, "H": 8, "L": 1} if bench.config.quick else {"B": 32, "T": 64, "H": 128, "L": 1}
    grown = {"T": (16, 64, 256, 1024), "H": (64, 128, 256, 512, 1024), "B": (1, 8, 32, 128), "L": (1, 2, 4)}
    grown = {"T": (4,), "L": (2,)} if bench.config.quick else grown
    repeats = 1 if bench.config.quick else 3
    for varied, values in grown.items():
        for value in values:
            at = base | {varied: value}
            case = make_case("LSTM", (at["B"], at["T"], at["H"]), at["L"])
            time_layers(bench, "scaling", case, "gradient", FEW, varied)
            if varied == "T":
                samples = {name: [compile_ms(name, case) for _ in range(repeats)] for name in jax_contenders(bench)}
                bench.add("scaling", case.name, "compile", sizes_of(case), samples, varied)


def memory_suite(bench: Benchmark) -> None:
    """What the compiled gradient allocates beside its arguments and results, as the sequence grows."""
    for name in filter(("LSTM", "GRU").__contains__, bench.config.cells):
        for length in (4,) if bench.config.quick else (64, 256, 1024):
            case = make_case(name, (2, length, 8) if bench.config.quick else (32, length, 256))
            samples = {}
            for contender in jax_contenders(bench):
                function, args, _ = tasks.jax_program(contender, case, "gradient")
                memory = function.lower(*args).compile().memory_analysis()
                samples[contender] = [memory.temp_size_in_bytes / 2**20]
            bench.add("memory", name, "gradient", sizes_of(case), samples, "T", unit="MiB")


def jax_contenders(bench: Benchmark) -> list[str]:
    return [
        n for n in FEW if not n.startswith("torch") and not missing(n) and (n == OURS or n in bench.config.contenders)
    ]


def compile_ms(contender: str, case: Case) -> float:
    jax.clear_caches()
    function, args, _ = tasks.jax_program(contender, case, "gradient")
    started = time.perf_counter()
    function.lower(*args).compile()
    return 1e3 * (time.perf_counter() - started)


def benchmark(config: Config) -> None:
    jax.config.update("jax_default_matmul_precision", "highest" if config.precision == "float32" else "default")
    suites = {"layer": layer_suite, "model": model_suite, "scaling": scaling_suite, "memory": memory_suite}
    bench = Benchmark(config)
    for suite, run in suites.items():
        if suite in config.suite:
            run(bench)
    print("\nratios, above 1 where ours is faster: geometric mean over the sizes (least)")
    print_ratios(bench.rows, OURS)
    plot(bench.rows, bench.path / "benchmark.png", f"jaxrnn on {bench.device}")
    common.print_table(table=str(bench.path / "benchmark.json"), plot=str(bench.path / "benchmark.png"))


def main() -> None:
    common.run(benchmark, cast("Any", Config))


if __name__ == "__main__":
    main()
