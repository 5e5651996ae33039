"""How many training sequences each cell needs to solve tasks that require a memory.

The tasks are adding, copying, temporal order and parity (data/memory_tasks.py). Every training step draws new
sequences. A task is solved as defined by Hochreiter and Schmidhuber: the last 2,000 training sequences were all
processed correctly when they were drawn, with a small mean error. For adding, a sequence is correct if its error is
below 0.08 (0.04 on their scale), and the mean error must be below 0.02 (0.01). For the other tasks, a sequence is
correct if the true class's probability is within 0.3 of one at each step that counts, and the mean of each sequence's
largest error must be below 0.1. A network that has solved its task stops learning and is tested on 2,560 new sequences.
With one sequence per training step, their LSTM needed 74,000 sequences for adding at length 100, and 31,390 for
temporal order.

S. Hochreiter, J. Schmidhuber, "Long short-term memory", 1997, experiments 4 and 6a; C. Tallec, Y. Ollivier, "Can
recurrent neural networks warp time?", 2018, for the chrono initializer.
"""

from __future__ import annotations

if __name__ == "__main__":
    from support.early import check_command_line

    check_command_line(__file__)  # before the imports below, which take seconds

import dataclasses
import math
import time
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from data.memory_tasks import TASKS, judge
from jax import Array
from support.cells import make_cell
from support.clock import duration, process_start
from support.command_line import launch
from support.ensemble import Ensemble
from support.errors import INTERRUPTED, BadInputError, fail
from support.files import read_table, write_table
from support.options import OptionGroup, RunFolder, SavedOptions, Several, above, at_least
from support.plots import GRAY, figure
from support.progress import Interrupt, Progress, print_table
from support.run import Run
from support.training import Steps, many_steps

import jaxrnn

RECENT = 2000  # sequences that must be correct
STEPS_PER_POINT = 100  # training steps per point of the curves
TEST = 2560  # sequences of the test, as in the paper
TaskName = Literal["adding", "copying", "order", "parity"]


@dataclass(frozen=True)
class Options(SavedOptions):
    steps: int = 4000  # Number of training steps after which a task counts as not solved
    seed: int = 0  # Random seed
    # Tasks to solve
    task: tuple[Literal["adding", "copying", "order", "parity"], ...] = (
        "adding",
        "copying",
        "order",
        "parity",
    )
    length: Several[int] = ()  # Lengths of the sequences. Default: 100, for parity 50; for copying a pause of 10
    cell: Several[str] = ()  # Names of cells in jaxrnn. Default: Elman, GRU, LSTM, and LSTM with chrono
    forget_bias: Several[
        float | Literal["chrono"]
    ] = ()  # Biases of the gate that keeps the state. Default: the cell's own
    hidden_size: int | None = None  # Hidden size of each cell. None: 16; for copying 64
    batch: int = 20  # Number of sequences in a batch
    seeds: int = 3  # Number of seeds. Each trains one network, all side by side
    learning_rate: float | None = None  # Learning rate. None: that of the task

    def check(self) -> None:
        at_least(0, seed=self.seed)
        at_least(1, steps=self.steps, batch=self.batch, seeds=self.seeds, task=len(self.task))
        at_least(1, hidden_size=1 if self.hidden_size is None else self.hidden_size)
        at_least(10, length=min(self.length, default=10))
        above(0, learning_rate=1 if self.learning_rate is None else self.learning_rate)
        for bias in self.forget_bias:
            above(-math.inf, forget_bias=0 if bias == "chrono" else bias)
        for entry in entries_of(self):
            make_model(self, entry)


@dataclass(frozen=True)
class Limit(OptionGroup):
    minutes: float = 10.0  # Time limit of this call in minutes. --resume trains the missing entries

    def check(self) -> None:
        above(0, minutes=self.minutes)


class Entry(NamedTuple):
    """An entry of the table: networks of a cell that learn a task. An empty forget bias is the cell's own."""

    task: str
    length: int
    cell: str
    forget_bias: float | Literal["chrono", ""]

    def __str__(self) -> str:
        return f"{self.task} {self.length} | {self.named_cell}"

    @property
    def named_cell(self) -> str:
        return f"{self.cell} {self.forget_bias}".strip()


def entries_of(options: Options) -> list[Entry]:
    cells: list[tuple[str, Any]] = [("Elman", ""), ("GRU", ""), ("LSTM", ""), ("LSTM", "chrono")]
    if options.cell or options.forget_bias:
        cells = list(product(options.cell or ("LSTM",), options.forget_bias or ("",)))
    lengths = [(task, length) for task in options.task for length in options.length or (TASKS[task].length,)]
    return [Entry(*task, *cell) for task, cell in product(lengths, cells)]


# --- Models ---

PLAIN_NUMBERS: dict[Any, str] = {jaxrnn.MinLSTM: "forget_bias"}  # keeping gates whose bias must be a number


def keep_bias_field(kind: Any) -> str | None:
    """Returns a cell's argument for the initial bias of the gate that keeps its state; None if it has no such gate.

    These biases have different names, but of all arguments only they accept a `Chrono`.
    """
    hints = typing.get_type_hints(kind)
    chrono = [f.name for f in dataclasses.fields(kind) if jaxrnn.initializers.Chrono in typing.get_args(hints[f.name])]
    return chrono[0] if chrono else PLAIN_NUMBERS.get(kind)


def make_model(options: Options, entry: Entry) -> jaxrnn.Stack:
    task = TASKS[entry.task]
    cell: Any = make_cell(entry.cell, options.hidden_size or task.hidden_size)
    if entry.forget_bias != "":
        name = keep_bias_field(type(cell))
        if name is None:
            reason = "no argument of it is the bias of a gate that keeps the state"
            raise BadInputError(f"{entry.cell} has no --forget-bias: {reason}")
        if entry.forget_bias != "chrono":
            bias = entry.forget_bias
        elif type(cell) in PLAIN_NUMBERS:
            raise BadInputError(f"the --forget-bias of {entry.cell} must be a number, but it is chrono")
        else:
            bias = jaxrnn.initializers.Chrono(entry.length)
        cell = dataclasses.replace(cell, **{name: bias})
    return jaxrnn.Stack(cell, jaxrnn.Dense(task.outputs))


# --- Training ---


class Train(NamedTuple):
    """Everything that training changes. With several seeds, all but the step have an axis of them in front."""

    step: Array
    params: Any
    adam: Any
    correct: Array  # number of sequences since the last incorrect one
    errors: Array  # sum of their errors
    solved: Array  # number of sequences after which the task was solved; 0: not yet


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


def begin(options: Options, entry: Entry, seed: Array) -> Train:
    params = make_model(options, entry).init(jax.random.key(seed), TASKS[entry.task].inputs)
    return Train(jnp.int32(0), params, optimizer.init(params), jnp.int32(0), jnp.float32(0), jnp.int32(0))


def update(
    options: Options, entry: Entry, train: Train, data: None, key: Array, progress: Array
) -> tuple[Train, Array]:
    """Runs one training step, on new sequences. Returns the task's measure."""
    task = TASKS[entry.task]
    model = make_model(options, entry)
    sequences = task.draw(key, entry.length, options.batch)

    def loss_fn(params: Any) -> tuple[Array, tuple[Array, Array]]:
        _, ys = jaxrnn.unroll(model, params, sequences.xs)
        return judge(task, ys, sequences)

    gradient, (measure, errors) = jax.grad(loss_fn, has_aux=True)(train.params)
    all_correct = (errors < task.largest_error).all()
    correct = jnp.where(all_correct, train.correct + options.batch, 0)
    total = jnp.where(all_correct, train.errors + errors.sum(), 0.0)
    solves = (train.solved == 0) & (correct >= RECENT) & (total < task.mean_error * correct)
    step = train.step + 1
    solved = jnp.where(solves, step * options.batch, train.solved)

    direction, adam = optimizer.update(gradient, train.adam)
    learning_rate = options.learning_rate or task.learning_rate
    params = jax.tree.map(lambda p, d: jnp.where(solved, p, p - learning_rate * d), train.params, direction)
    return Train(step, params, adam, correct, total, solved), measure


def seeds_of(options: Options) -> Array:
    return options.seed + jnp.arange(options.seeds)


def seed_keys(options: Options, number: Any) -> Array:
    """Returns a random key for each seed, different for each number."""
    return jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), number))(seeds_of(options))


@partial(jax.jit, static_argnames=("options", "entry"))
def begin_all(options: Options, entry: Entry) -> Train:
    return Ensemble(options.seeds).begin(partial(begin, options, entry), seeds_of(options))


def make_steps(options: Options, entry: Entry) -> Steps:
    """Returns a compiled function that makes many training steps of all networks. It returns their measures [seeds]."""
    ensemble = Ensemble(options.seeds)
    update_all = ensemble.update(partial(update, options, entry))
    return many_steps(update_all, ensemble.keys(partial(seed_keys, options)), ensemble.size, mean=ensemble.stacked)


@partial(jax.jit, static_argnames=("options", "entry"))
def wrong_in_test(options: Options, entry: Entry, params: Any) -> Array:
    """Returns how many of the test sequences each network gets wrong, [seeds]."""
    task = TASKS[entry.task]
    model = make_model(options, entry)
    ensemble = Ensemble(options.seeds)

    def one(params: Any, key: Array) -> Array:
        sequences = task.draw(key, entry.length, TEST)
        _, ys = jaxrnn.unroll(model, params, sequences.xs)
        _, (_, errors) = judge(task, ys, sequences)
        return (errors >= task.largest_error).sum()

    keys = seed_keys(options, 2**31 - 1)  # no training step has this number
    return ensemble.stacked(ensemble.map(one)(params, ensemble.each(keys)))


def train_entry(
    options: Options, entry: Entry, out_of_time: Callable[[], bool], report: Callable[[int, float], None]
) -> list[dict[str, Any]] | None:
    """Trains until all networks have solved the task or made all steps. Returns a row per network; None if stopped."""
    began = time.perf_counter()
    train = begin_all(options, entry)
    steps = make_steps(options, entry)
    curves: list[np.ndarray] = []
    while int(train.step) < options.steps and not (train.solved > 0).all():
        if out_of_time():
            return None
        number = min(STEPS_PER_POINT, options.steps - int(train.step))
        train, measured = steps(train, None, number, (0.0, 0.0))
        curves.append(np.asarray(measured))
        report(int(train.step), float(np.median(curves[-1])))
    solved = Ensemble(options.seeds).stacked(train.solved)
    wrong = np.asarray(wrong_in_test(options, entry, train.params))
    seconds = f"{time.perf_counter() - began:.1f}"
    return [
        {
            **entry._asdict(),
            "seed": seed,
            "solved_after": after,
            "wrong": number,
            "seconds": seconds,
            "curve": " ".join(f"{measure:.4g}" for measure in curve),
        }
        for seed, after, number, curve in zip(seeds_of(options), solved, wrong, np.transpose(curves), strict=True)
    ]


# --- Results ---


COLUMNS: dict[str, Any] = dict.fromkeys(("task", "length", "cell", "forget_bias"), str)
COLUMNS |= {"solved_after": int, "wrong": int, "seconds": float, "curve": lambda curve: [*map(float, curve.split())]}


class Results:
    """results.csv in the run directory: a row per network, written after each entry."""

    def __init__(self, run_dir: Path, options: Options):
        self.path = run_dir / "results.csv"
        self.entries = entries_of(options)
        self.options = options
        self.rows = read_table(self.path, **COLUMNS)

    def of(self, entry: Entry) -> list[dict[str, str]]:
        key = {name: str(value) for name, value in entry._asdict().items()}
        return [row for row in self.rows if key.items() <= row.items()]

    @property
    def missing(self) -> list[Entry]:
        return [entry for entry in self.entries if not self.of(entry)]

    def add(self, rows: list[dict[str, Any]]) -> None:
        self.rows += [{name: str(value) for name, value in row.items()} for row in rows]
        write_table(self.path, self.rows[0], self.rows)

    def summary(self, entry: Entry) -> str:
        """Returns a line of the table: medians over the networks."""
        rows = self.of(entry)
        if not rows:
            return f"{entry!s:<26} not run"
        task = TASKS[entry.task]
        solved = [int(row["solved_after"]) or math.inf for row in rows]
        median = float(np.median(solved))
        limit = self.options.steps * self.options.batch
        after = f"solved after {median:,.0f}" if median < math.inf else f"not solved after {limit:,}"
        error = np.median([float(row["curve"].split()[-1]) for row in rows])
        wrong = np.median([int(row["wrong"]) for row in rows])
        return (
            f"{entry!s:<26} {after:<26} {sum(map(math.isfinite, solved))} of {len(rows)} networks, {task.measure}"
            f" {error:.4f} (baseline {task.baseline(entry.length):.3f}), {wrong:,.0f} of {TEST:,} test sequences wrong,"
            f" {duration(float(rows[0]['seconds']))}"
        )

    def plot(self) -> None:
        """Draws the median network's error against the number of sequences: a panel per task, a curve per cell."""
        entries = [entry for entry in self.entries if self.of(entry)]
        panels = list(dict.fromkeys(entry[:2] for entry in entries))
        colors = {cell: f"C{n}" for n, cell in enumerate(dict.fromkeys(entry.named_cell for entry in entries))}
        down, across = math.ceil(len(panels) / 2), min(2, len(panels))
        path = self.path.with_name("curves.png")
        with figure(path, rows=down, columns=across, figsize=(4.6 * across, 3.3 * down)) as (_, grid):
            for (name, length), axes in zip(panels, grid.flat, strict=False):
                for entry in (entry for entry in entries if entry[:2] == (name, length)):
                    curve = np.median([np.array(row["curve"].split(), float) for row in self.of(entry)], axis=0)
                    steps = np.minimum(STEPS_PER_POINT * np.arange(1, len(curve) + 1), self.options.steps)
                    sequences = steps * self.options.batch / 1000
                    axes.plot(
                        sequences,
                        curve,
                        marker=".",
                        markersize=3,
                        linewidth=1.3,
                        color=colors[entry.named_cell],
                        label=entry.named_cell,
                    )
                baseline = TASKS[name].baseline(length)
                axes.axhline(baseline, color=GRAY, linestyle="--", label="no memory")
                axes.set(
                    title=f"{name} {length}",
                    xlabel="thousands of sequences",
                    ylabel=TASKS[name].measure,
                    ylim=(0, 1.4 * baseline),
                )
            grid.flat[0].legend(fontsize=8)
            for axes in grid.flat[len(panels) :]:
                axes.axis("off")


def main(options: Options, folder: RunFolder, limit: Limit) -> None:
    run = Run(folder, options, facts={})
    results = Results(run.path, options)
    number = len(results.entries)
    print(f"run     {run.path}: {number} entries, each of {options.seeds} networks", flush=True)
    with Interrupt() as interrupt, Progress(number * options.steps, "{desc}, at most {remaining} left") as bar:

        def out_of_time() -> bool:
            return interrupt.requested or time.perf_counter() > run.started + 60 * limit.minutes

        for n, entry in enumerate(results.entries):

            def report(step: int, measure: float, n: int = n, entry: Entry = entry) -> None:
                line = f"{entry}: step {step:,}, {TASKS[entry.task].measure} {measure:z.3f}"
                bar.update(n * options.steps + step, line)

            if entry in results.missing and (rows := train_entry(options, entry, out_of_time, report)):
                results.add(rows)
                results.plot()
                bar.say(results.summary(entry))
    if interrupt.requested and results.missing:
        fail(
            f"stopped with {len(results.missing)} entries missing; resume with: {run.command('--resume')}", INTERRUPTED
        )
    print("", *map(results.summary, results.entries), "", sep="\n")
    rest = {"resume": run.command("--resume")} if results.missing else {"curves": str(run.path / "curves.png")}
    print_table(results=str(results.path), **rest)


if __name__ == "__main__":
    launch(main, Options, RunFolder, Limit, started=process_start())
