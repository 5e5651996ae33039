"""One run of the benchmark: checks contenders against jaxrnn, and keeps the measurements for benchmark.json."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from support.files import write_whole
from support.options import RunFolder
from support.run import try_writing

import jaxrnn
from benchmark import work
from benchmark.contenders import NAMES, OURS, knows, missing, unfit
from benchmark.work import Task, Unavailable, measure

if TYPE_CHECKING:
    from benchmark.report import Table
    from benchmark.suites import Options

Precision = Literal["float32", "tf32", "bfloat16"]
PRODUCTS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}
TOLERANCES = {"float32": 2e-4, "tf32": 5e-2, "bfloat16": 1e-1}


class Benchmark:
    """Measures, prints, and saves the rows of benchmark.json.

    Attributes:
      options: The options of the command line.
      precision: The precision of the measurements, which `in_precision` changes.
      bounds: GFLOP/s of a large product in each precision used so far.
      rows: The measurements, one dict for each contender and case.
      found: What suites without contenders have found, one dict for each case.
      tables: Tables of such suites.
      drawn: Paths of plots of such suites.
      left_out: Contenders and points that were not measured, with the reasons.
      wrong: A message for each contender whose results differ from ours.
      path: The folder of the run.
      device: Name of the device.
    """

    def __init__(self, options: Options):
        self.options = options
        self.rows: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []
        self.tables: list[Table] = []
        self.drawn: list[str] = []
        self.left_out: dict[str, str] = {}
        self.wrong: list[str] = []
        self.bounds: dict[str, float] = {}
        self.precision: Precision = "float32"
        self.path = RunFolder(options.run_dir).new
        try_writing(self.path)
        self.device = describe_device()
        print(f"device  {self.device}\nrun     {self.path}", flush=True)

    @contextlib.contextmanager
    def in_precision(self, precision: Precision) -> Iterator[None]:
        """Sets the precision of products, and measures the speed of a large product if that is not known yet."""
        before, self.precision = self.precision, precision
        try:
            with jax.default_matmul_precision(PRODUCTS[precision]):
                if precision not in self.bounds:
                    self._measure_bound()
                yield
        finally:
            self.precision = before

    @property
    def bound(self) -> float:
        """GFLOP/s of a large product in the current precision."""
        return self.bounds[self.precision]

    @property
    def dtype(self) -> str:
        """The dtype of arrays in the current precision."""
        return "bfloat16" if self.precision == "bfloat16" else "float32"

    def _measure_bound(self) -> None:
        size = 128 if self.options.quick else 2048 if jax.default_backend() == "cpu" else 8192
        samples = measure(work.products(size, self.dtype), self.options.rounds)
        self.bounds[self.precision] = max(2e-6 * size**3 / min(ms) for ms in samples.values())
        self.add("bound", "product", "product", dict.fromkeys("BTIH", size), samples, gigaflop=2e-9 * size**3)

    def contenders(
        self,
        cell: str,
        make: Callable[[str], Task],
        among: Sequence[str] = NAMES,
        tolerance: float = 0.0,
        calls: int = 1,
    ) -> dict[str, Task]:
        """Returns the contenders that have the cell, run here, and compute the same results as jaxrnn.

        Args:
          cell: Name of the cell.
          make: Makes the task of a contender.
          among: Names of contenders.
          tolerance: Largest relative error; that of the precision if it is larger.
          calls: Number of calls whose results are compared.
        """
        chosen, expected = {}, []
        known = [name for name in among if name in self.options.compared and name != OURS and knows(name, cell)]
        for name in [OURS, *known]:
            if package := missing(name):
                self.leave_out(name, f"{package} is not installed")
                continue
            if reason := unfit(name, self.precision):
                self.leave_out(name, reason)
                continue
            try:
                task = make(name)
                results = [array for _ in range(calls) for array in task.results(task.call())]
            except Exception as error:  # an error in one library must not stop the others
                if name == OURS:
                    raise
                reason = str(error) if isinstance(error, Unavailable) else f"does not run here: {first_line(error)}"
                self.leave_out(name, f"{reason} ({cell})")
                continue
            expected = expected or results
            errors = [np.abs(a - ours).max() / np.abs(ours).max() for a, ours in zip(results, expected, strict=True)]
            if not max(errors) < max(tolerance, TOLERANCES[self.precision]):
                wrong = f"{name} does not compute the same as ours ({cell}): its relative error is {max(errors):.1e}"
                print(wrong, flush=True)
                self.wrong.append(wrong)
                continue
            chosen[name] = task
        return chosen

    @property
    def headline(self) -> str:
        """The line above the tables: command, device, speed of a large product, versions."""
        speeds = (f"{gflops:,.0f} GFLOP/s in a large {name} product" for name, gflops in self.bounds.items())
        packages = ", ".join(f"{package} {version}" for package, version in versions().items())
        return f"One run of `{command()}` on {self.device} ({'; '.join(speeds)}; {packages})."

    def leave_out(self, name: str, reason: str) -> None:
        """Records and prints why something is not measured; each reason once."""
        if reason not in self.left_out.get(name, ""):
            self.left_out[name] = "; ".join(filter(None, (self.left_out.get(name), reason)))
            print(f"left out: {name}: {reason}", flush=True)

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
        counted: str = "",
        memory: dict[str, float] | None = None,
    ) -> None:
        """Adds a row for each contender, prints the new rows, and saves all rows.

        Args:
          suite: Name of the suite.
          cell: Name of the cell.
          mode: What was timed.
          sizes: As returned by `sizes_of`.
          samples: Times, sizes of memory or numbers of iterations of each contender. The first contender is ours.
          varied: Name of the size that varies within a plot.
          gigaflop: Number of operations in the products, in units of 1e9.
          unit: Unit of the samples: "ms", "MiB" or "iterations".
          counted: What one step of one sequence is, such as "words", to report how many are processed per second.
          memory: MiB of temporaries of some contenders, if it is measured besides the time.
        """
        kind = mode if self.precision == "float32" else f"{mode}, {self.precision}"
        print(f"\n{suite}: {cell}, {kind}, {', '.join(f'{k} = {v}' for k, v in sizes.items())}")
        first = float(np.median(next(iter(samples.values()))))
        for name, values in samples.items():
            median = float(np.median(values))
            least = float(min(values))
            contender, _, unroll = name.partition(", unroll ")
            row = {"suite": suite, "cell": cell, "contender": contender, "mode": mode, "precision": self.precision}
            row |= {**sizes, "unroll": int(unroll or 1), "varied": varied}
            timed = unit == "ms"
            row |= {"median_ms": median if timed else None, "min_ms": least if timed else None, "calls": len(values)}
            row |= {"ratio": median / first, "device": self.device}
            row |= {"temporary_mib": median if unit == "MiB" else (memory or {}).get(name)}
            row |= {"iterations": median if unit == "iterations" else None}
            speed = 1e3 * gigaflop / least if gigaflop else None
            row |= {"gflops": speed, "fraction_of_bound": speed / self.bound if speed else None}
            row |= {"counted": counted, "per_second": 1e3 * sizes["B"] * sizes["T"] / median if counted else None}
            self.rows.append(row)
            line = f"  {name:<32} {median:10.3f} {unit}  lowest {least:10.3f}  ratio {row['ratio']:6.2f}"
            line += f"  {row['fraction_of_bound']:6.1%} of the bound" if gigaflop else ""
            line += f"  {row['per_second']:12,.0f} {counted}/s" if counted else ""
            line += (
                f"  {row['temporary_mib']:8.1f} MiB of temporaries"
                if timed and row["temporary_mib"] is not None
                else ""
            )
            print(line, flush=True)
        self.save()

    def save(self) -> None:
        """Writes benchmark.json."""
        made = {"command": command(), "config": dataclasses.asdict(self.options), "versions": versions()}
        made |= {"bounds_gflops": self.bounds, "left_out": self.left_out, "wrong": self.wrong}
        made |= {"rows": self.rows, "found": self.found}
        write_whole(self.path / "benchmark.json", json.dumps(made, indent=1, default=str))


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or repr(error)


def describe_device() -> str:
    """Returns the name of the device, or of the processor if JAX runs on a CPU, and the number of cores."""
    device = jax.devices()[0]
    name = device.device_kind
    cpuinfo = Path("/proc/cpuinfo")
    if device.platform == "cpu" and cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return f"{name}, {os.cpu_count()} CPU cores"


def command() -> str:
    """Returns the command line of this run."""
    return shlex.join(["python", "experiments/benchmark", *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Returns the versions of Python, jaxrnn and those compared packages that are installed."""
    found = {"python": platform.python_version(), "jaxrnn": jaxrnn.__version__}
    for package in ("jax", "torch", "flax", "dm-haiku", "keras", "equinox", "llvmlite", "mlstm-kernels"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
