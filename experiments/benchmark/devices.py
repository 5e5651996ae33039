"""Times training steps on several devices and in several processes of this machine, and computes those of clusters."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from subprocess import PIPE, Popen, TimeoutExpired
from typing import Any, NamedTuple

import numpy as np
from support.errors import BadInputError
from support.plots import figure
from support.processes import available_cores

from benchmark.cases import Size
from benchmark.clusters import FLOP, GRADIENT, H100, Hardware, Link, fit_link
from benchmark.measuring import Benchmark
from benchmark.report import COLORS, Table


class Layout(NamedTuple):
    processes: int
    devices: int  # of each process

    @property
    def all_devices(self) -> int:
        return self.processes * self.devices

    @property
    def name(self) -> str:
        return f"{self.devices} device{'s' * (self.devices > 1)}" + (" each" if self.processes > 1 else "")

    @property
    def group(self) -> str:
        return f"{self.processes} process{'es' * (self.processes > 1)}"


ONE, TWO, FOUR, APART = LAYOUTS = Layout(1, 1), Layout(1, 2), Layout(1, 4), Layout(2, 1)
FITTED = {"update": (ONE, TWO), "all-reduce": (TWO, APART)}  # what the constants of this machine are fitted to
PATIENCE = 10  # seconds in which processes end by themselves
SMALL = 4  # bytes of an all-reduce that takes only latency
SHARE = 64, 128  # sequences of a batch on each device of a cluster, and their length
BATCH = 16_384  # sequences of a batch of fixed size on a cluster
PARAMETERS = {"1 M parameters": 10**6, "100 M parameters": 10**8, "1 B parameters": 10**9}
CLUSTERS = 8, 256, 10_000  # devices


# --- Measured here ---


class Group:
    """The processes of a layout. They run what they are asked for together."""

    def __init__(self, layout: Layout, how: dict[str, Any], log: Any):
        worker, self._log = str(Path(__file__).with_name("device_worker.py")), log
        with socket.create_server(("localhost", 0)) as free:
            port = free.getsockname()[1]
        how = how | {"processes": layout.processes, "devices": layout.devices, "port": port}
        self._processes: list[Any] = [
            Popen(
                [sys.executable, worker, json.dumps(how | {"process": n})],
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                text=True,
            )
            for n in range(layout.processes)
        ]

    def answers(self) -> list[Any]:
        lines = [process.stdout.readline() for process in self._processes]
        if not all(lines):
            raise BadInputError(f"a process of --suite devices has ended: its error is in {self._log.name}")
        return [json.loads(line) for line in lines]

    def milliseconds(self, request: Any) -> float:
        """Returns how long a request takes: until the last process has finished it."""
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError):  # it has ended, and does not answer
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
        return max(self.answers())

    def end(self) -> None:
        """Ends the processes together, because each of several would report that another one has died."""
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(PATIENCE)
            except TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def start_groups(bench: Benchmark, cell: str, size: Size) -> Iterator[dict[Layout, Group]]:
    """Starts the processes of all layouts, which wait for requests."""
    batch, length, hidden = size
    options = {"cell": cell, "batch": batch, "sequence_length": length, "hidden_size": hidden}
    how = {"options": options, "updates": 1 if bench.options.quick else 5, "repeats": 2 if bench.options.quick else 50}
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((bench.path / "processes.log").open("a"))
        groups = {layout: Group(layout, how, log) for layout in LAYOUTS}
        for group in groups.values():
            stack.callback(group.end)
        yield groups


class Measured(NamedTuple):
    """Measurements of a layout, in milliseconds, and what its program is."""

    layout: Layout
    facts: dict[str, Any]
    update: list[float]
    small: list[float]  # all-reduces of a few bytes
    large: list[float]  # all-reduces of as many bytes as those of a training step


def measure_layouts(bench: Benchmark, cell: str, size: Size) -> list[Measured]:
    """Times training steps and all-reduces of all layouts, which take turns."""
    with start_groups(bench, cell, size) as groups:
        found = {layout: Measured(layout, group.answers()[0], [], [], []) for layout, group in groups.items()}
        requests = {layout: requests_of(each) for layout, each in found.items()}
        for layout, group in groups.items():
            for request, _ in requests[layout]:
                group.milliseconds(request)  # the first call of each is slower
        for _ in range(bench.options.rounds):
            for layout, group in groups.items():
                for request, samples in requests[layout]:
                    samples.append(group.milliseconds(request))
    return list(found.values())


def requests_of(one: Measured) -> list[tuple[Any, list[float]]]:
    """Returns what to ask a layout for, and where to put the answers."""
    return [("update", one.update), (SMALL, one.small), (payload(one), one.large)]


def payload(one: Measured) -> int:
    """Returns the bytes of all collectives of a training step."""
    return sum(size for _, size in one.facts["collectives"])


def disk_bandwidth(path: Path, size: int) -> float:
    """Returns how many bytes per second can be written to a new file."""
    block = os.urandom(2**20)
    started = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    path.unlink()
    return size / seconds


def fit(measured: list[Measured], tokens: int, disk: float, cores: int) -> Hardware:
    """Returns the constants of this machine: the speed of one device and of two, and the links between two."""
    by_layout = {one.layout: one for one in measured}
    one, two = by_layout[ONE], by_layout[TWO]
    alone = 1e-3 * median(one.update)

    def link(layout: Layout) -> Link:
        own = by_layout[layout]
        small, large = ((size, 1e-3 * median(ms)) for size, ms in ((SMALL, own.small), (payload(own), own.large)))
        return fit_link(layout.all_devices, small, large)

    here = Hardware(
        FLOP * one.facts["parameters"] * tokens / alone, TWO.devices, link(TWO), link(APART), disk, cores=cores
    )
    computing = 1e-3 * median(two.update) - here.all_reduce(payload(two), 2)
    return dataclasses.replace(here, beside=computing / here.compute(one.facts["parameters"], tokens, 2))


def predict(here: Hardware, one: Measured, tokens: int) -> dict[str, float]:
    """Returns the milliseconds of a training step and of its all-reduce that the model expects of a layout."""
    here = dataclasses.replace(here, per_node=one.layout.devices)
    devices = one.layout.all_devices
    all_reduce = here.all_reduce(payload(one), devices)
    update = here.compute(one.facts["parameters"], tokens, devices) + all_reduce
    return {"update": 1e3 * update, "all-reduce": 1e3 * all_reduce}


def measured_table(title: str, measured: list[Measured], here: Hardware, tokens: int) -> Table:
    def compared(one: Measured, what: str, expected: float, found: float) -> str:
        if one.layout in FITTED[what]:
            return f"{expected:.2f} (fitted)"
        return f"{expected:.2f} ({expected / found - 1:+.0%})"

    columns = ["ms per update", "model (error)", "all-reduce, ms", "model (error)", "collectives"]
    lines = []
    for one in measured:
        expected = predict(here, one, tokens)
        update, all_reduce = median(one.update), median(one.large)
        texts = [f"{update:.2f}", compared(one, "update", expected["update"], update), "", "", ""]
        if one.layout.all_devices > 1:
            texts[2:] = [f"{all_reduce:.2f}", compared(one, "all-reduce", expected["all-reduce"], all_reduce)]
            texts.append(f"{len(one.facts['collectives'])} of {payload(one):,} bytes")
        lines.append((one.layout.group, one.layout.name, texts))
    return Table(title, columns, lines)


# --- Computed for clusters ---


def cluster_tables(hardware: Hardware, name: str) -> list[Table]:
    """Returns a table of training steps on clusters, and one of where more devices stop helping."""
    sequences, length = SHARE
    columns = ["compute, ms", "all-reduce, ms", "checkpoint every", "lost to it", "computing"]
    steps, ends = [], []
    for label, number in PARAMETERS.items():
        for n in CLUSTERS:
            tokens = n * sequences * length
            texts = [f"{1e3 * hardware.compute(number, tokens, n):,.2f}"]
            texts.append(f"{1e3 * hardware.all_reduce(GRADIENT * number, n):,.2f}")
            texts += [f"{hardware.interval(number, n):,.0f} s", f"{hardware.lost(number, n):.1%}"]
            steps.append((label, f"{n:,} devices", [*texts, f"{hardware.useful(number, tokens, n):.1%}"]))
        fastest = hardware.fastest(number, BATCH, length)
        faster = hardware.update(number, BATCH * length, CLUSTERS[0]) / hardware.update(number, BATCH * length, fastest)
        most = hardware.most_devices(number, sequences * length)
        ends.append(("", label, [f"{most:,}", f"{fastest:,}", f"{faster:.1f} times"]))
    share = f"{sequences} sequences of {length} tokens on each device"
    last = ["most devices", "fastest", f"faster than {CLUSTERS[0]} by"]
    what = f"the most devices that compute half of the time, with {share}; the fastest number for {BATCH:,} sequences"
    return [
        Table(f"devices, computed for {name}, {share}", columns, steps),
        Table(f"devices, computed for {name}, {what}", last, ends),
    ]


# --- The suite ---


def plot(path: Path, title: str, measured: list[Measured], here: Hardware, tokens: int, hardware: Hardware) -> None:
    """Draws the measurements beside the model, and the model of clusters."""
    with figure(path, columns=2, dpi=130, figsize=(12, 4)) as (drawn, grid):
        left, right = grid[0]
        for color, processes in zip(COLORS, dict.fromkeys(one.layout.processes for one in measured), strict=False):
            some = [one for one in measured if one.layout.processes == processes]
            devices = [one.layout.all_devices for one in some]
            left.plot(devices, [median(one.update) for one in some], "o", color=color, label=some[0].layout.group)
            expected = [predict(here, one, tokens)["update"] for one in some]
            left.plot(devices, expected, "x--", color=color, label=f"model, {some[0].layout.group}")
        left.set(xlabel="devices", ylabel="milliseconds", title="training step, measured here", ylim=(0, None))
        left.set_xticks(sorted({one.layout.all_devices for one in measured}))
        numbers = np.unique(np.geomspace(1, 10 * CLUSTERS[-1], 200).astype(int)).tolist()
        share = SHARE[0] * SHARE[1]
        for color, (label, number) in zip(COLORS, PARAMETERS.items(), strict=False):
            right.plot(numbers, [hardware.useful(number, n * share, n) for n in numbers], color=color, label=label)
        right.axhline(0.5, color="#333333", linewidth=1)
        right.set(xscale="log", ylim=(0, 1.02), xlabel="devices", ylabel="fraction of the time that devices compute")
        right.set_title("clusters, computed")
        for axes in (left, right):
            axes.legend(fontsize="small")
        drawn.suptitle(title)


def devices_suite(bench: Benchmark) -> None:
    """Times training steps against devices and processes, and computes them for clusters."""
    disk = disk_bandwidth(bench.path / "disk.tmp", 2**20 if bench.options.quick else 2**28)
    for cell in bench.options.cells_of("devices"):
        for size in bench.options.sizes_of("devices"):
            batch, length, hidden = size
            measured, tokens = measure_layouts(bench, cell, size), batch * length
            here = fit(measured, tokens, disk, available_cores())
            title = f"devices, {cell}, B = {batch}, T = {length}, H = {hidden}, measured here"
            bench.tables.append(measured_table(title, measured, here, tokens))
            bench.tables.append(constants_table(f"devices, {cell}, constants fitted to this machine", here))
            path = bench.path / f"devices_{cell}_{batch}x{length}x{hidden}.png"
            plot(path, f"char_lm.py, {cell}, on {bench.device}", measured, here, tokens, H100)
            bench.drawn.append(str(path))
            layouts = [one._asdict() | {"model": predict(here, one, tokens)} for one in measured]
            fitted = dataclasses.asdict(here)
            bench.found.append({"suite": "devices", "cell": cell, "size": size, "fitted": fitted, "layouts": layouts})
            bench.save()
    bench.tables += cluster_tables(H100, "NVIDIA H100")


def constants_table(title: str, here: Hardware) -> Table:
    columns = ["GFLOP/s of a device", "beside others", "link, GB/s", "link, µs", "disk, GB/s"]
    speeds = [f"{1e-9 * here.flops:.1f}", f"{here.beside:.2f} times as long"]
    lines = []
    for name, link in (("1 process", here.node), ("2 processes", here.network)):
        texts = [f"{1e-9 * link.bandwidth:.2f}", f"{1e6 * link.latency:.1f}", f"{1e-9 * here.disk:.2f}"]
        lines.append(("", name, [*speeds, *texts]))
    return Table(title, columns, lines)
