"""What can be remembered: how many sequences each cell takes to solve tasks that need a memory.

The tasks are adding, copying, temporal order and parity, described in `memory_tasks.py`. Every update has new ones, so
their number is that of updates times the batch. Solved is meant as by Hochreiter and Schmidhuber: the last 2,000
sequences trained on were all processed correctly, by the network as it was when they came, and with a small mean error.
Correct is, in adding, an error below 0.08 (0.04 on their scale), the mean below 0.02 (0.01); elsewhere, that the true
class's probability is within 0.3 of one at each step that counts, and of each sequence's largest error the mean below
0.1. A network that has solved its task learns no further and is tested on 2,560 new sequences. They took, with one
sequence an update, 74,000 sequences for adding at length 100, and 31,390 for temporal order.

S. Hochreiter, J. Schmidhuber, "Long short-term memory", 1997, experiments 4 and 6a; C. Tallec, Y. Ollivier, "Can
recurrent neural networks warp time?", 2018, for the chrono initializer.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, ClassVar, Literal, NamedTuple

import common  # first: its clock starts the run's
import course
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import BadInputError
from jax import Array
from memory_results import EACH, TEST, Entry, Results
from memory_tasks import TASKS, Sequences, judge
from tqdm import tqdm

import jaxrnn

RECENT, UPDATES = 2000, 4000  # sequences that must be correct; updates of an entry
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


@dataclass(frozen=True)
class Config(common.Config):
    minutes: float = 10.0  # After which the run stops; --resume goes on with what is missing
    steps: int | None = UPDATES  # Updates after which a task counts as not solved
    task: tuple[Literal["adding", "copying", "order", "parity"], ...] = ("adding", "copying", "order", "parity")
    length: tuple[int, ...] = ()  # Of the sequences; none given: 100, of parity 50, of copying's pause 10
    cell: tuple[str, ...] = ()  # Cells of jaxrnn, by name; none given: Elman, GRU, LSTM, LSTM with chrono
    forget_bias: tuple[float | Literal["chrono"], ...] = ()  # Initial biases of the gate that keeps the state
    hidden_size: int | None = None  # Of each cell's state; None: 16, for copying 64
    batch: int = 20  # Sequences an update
    seeds: int = 3  # Networks that are trained at once, of as many seeds
    learning_rate: float | None = None  # Of Adam; None: the task's

    of_the_call: ClassVar[tuple[str, ...]] = (*common.Config.of_the_call, "minutes")

    def check(self) -> None:
        super().check()
        common.at_least(1, batch=self.batch, seeds=self.seeds, task=len(self.task))
        common.at_least(1, hidden_size=1 if self.hidden_size is None else self.hidden_size)
        common.at_least(10, length=min(self.length, default=10))
        common.above(0, learning_rate=1 if self.learning_rate is None else self.learning_rate)
        for bias in self.forget_bias:
            common.above(-math.inf, forget_bias=0 if bias == "chrono" else bias)
        for entry in self.entries:
            self.model(entry)

    @property
    def updates(self) -> int:
        return self.steps or UPDATES

    @property
    def entries(self) -> list[Entry]:
        cells: list[tuple[str, Any]] = [("Elman", ""), ("GRU", ""), ("LSTM", ""), ("LSTM", "chrono")]
        if self.cell or self.forget_bias:
            cells = list(product(self.cell or ("LSTM",), self.forget_bias or ("",)))
        lengths = [(task, length) for task in self.task for length in self.length or (TASKS[task].length,)]
        return [Entry(*task, *cell) for task, cell in product(lengths, cells)]

    def model(self, entry: Entry) -> jaxrnn.Stack:
        cell: Any = common.make_cell(entry.cell, self.hidden_size or TASKS[entry.task].hidden_size)
        if entry.forget_bias != "":
            names = {field.name for field in dataclasses.fields(cell)} & {"forget_bias", "update_bias"}
            if not names:
                raise BadInputError(f"{entry.cell} has no --forget-bias: it has no gate that keeps its state")
            bias = jaxrnn.Chrono(entry.length) if entry.forget_bias == "chrono" else entry.forget_bias
            cell = dataclasses.replace(cell, **dict.fromkeys(names, bias))
        return jaxrnn.Stack(cell, jaxrnn.Dense(TASKS[entry.task].sizes[1]))


class Learner(NamedTuple):
    """The networks of an entry. Each array has an axis of the seeds in front."""

    seed: Array
    params: Any
    adam: Any
    correct: Array  # sequences since the last that was not
    errors: Array  # their sum over those
    solved: Array  # after so many sequences; 0: not yet


class Train(NamedTuple):
    step: Array
    learners: Learner


@partial(jax.jit, static_argnames=("config", "entry"))
def begin(config: Config, entry: Entry) -> Train:
    def one(seed: Array) -> Learner:
        params = config.model(entry).init(jax.random.key(seed), TASKS[entry.task].sizes[0])
        return Learner(seed, params, optimizer.init(params), jnp.int32(0), jnp.float32(0), jnp.int32(0))

    return Train(jnp.int32(0), jax.vmap(one)(config.seed + jnp.arange(config.seeds)))


@partial(jax.jit, static_argnames=("config", "entry"), donate_argnames="train")
def update(config: Config, entry: Entry, train: Train, updates: Array) -> tuple[Train, Array]:
    """Makes some updates, each on new sequences; and each seed's measure in their mean."""
    task, model, rate = TASKS[entry.task], config.model(entry), config.learning_rate or TASKS[entry.task].learning_rate

    def loss_of(params: Any, sequences: Sequences) -> tuple[Array, tuple[Array, Array]]:
        return judge(task, jaxrnn.unroll(model, params, sequences.xs)[1], sequences)

    def learn(learner: Learner, step: Array) -> tuple[Learner, Array]:
        sequences = task.draw(jax.random.fold_in(jax.random.key(learner.seed), step), entry.length, config.batch)
        gradient, (measure, errors) = jax.grad(loss_of, has_aux=True)(learner.params, sequences)
        goes_on = (errors < task.largest).all()
        correct = jnp.where(goes_on, learner.correct + config.batch, 0)
        total = jnp.where(goes_on, learner.errors + errors.sum(), 0.0)
        solves = (learner.solved == 0) & (correct >= RECENT) & (total < task.mean * correct)
        solved = jnp.where(solves, (step + 1) * config.batch, learner.solved)
        change, adam = optimizer.update(gradient, learner.adam)
        params = jax.tree.map(lambda p, c: jnp.where(solved, p, p - rate * c), learner.params, change)
        return Learner(learner.seed, params, adam, correct, total, solved), measure

    def one(_: int, carry: tuple[Train, Array]) -> tuple[Train, Array]:
        train, total = carry
        learners, measure = jax.vmap(learn, (0, None))(train.learners, train.step)
        return Train(train.step + 1, learners), total + measure

    train, total = jax.lax.fori_loop(0, updates, one, (train, jnp.zeros(config.seeds)))
    return train, total / updates


@partial(jax.jit, static_argnames=("config", "entry"))
def wrong_in_test(config: Config, entry: Entry, learners: Learner) -> Array:
    """How many of the test's sequences each network processes wrongly."""
    task = TASKS[entry.task]

    def one(learner: Learner) -> Array:
        sequences = task.draw(jax.random.fold_in(jax.random.key(learner.seed), 2**31 - 1), entry.length, TEST)
        outputs = jaxrnn.unroll(config.model(entry), learner.params, sequences.xs)[1]
        return (judge(task, outputs, sequences)[1][1] >= task.largest).sum()

    return jax.vmap(one)(learners)


def train_entry(config: Config, entry: Entry, results: Results, bar: tqdm, interrupt: course.Interrupt) -> None:
    """Trains until all networks have solved the task or have had their updates. Stopped before, it leaves nothing."""
    train, started, curves = begin(config, entry), time.perf_counter(), []
    while train.step < config.updates and not (train.learners.solved > 0).all():
        if interrupt.requested or time.perf_counter() > course.STARTED + 60 * config.minutes:
            return
        updates = min(EACH, config.updates - int(train.step))
        train, measured = update(config, entry, train, updates)
        curves.append(np.asarray(measured))
        bar.set_description(f"{entry}: {TASKS[entry.task].measure} {np.median(curves[-1]):.3f}")
        bar.update(updates)
    results.add(entry, train.learners, wrong_in_test(config, entry, train.learners), curves, started)
    results.plot()
    bar.write(results.summary(entry))


def compare(config: Config) -> None:
    run = common.Run(config, facts={})
    results = Results(run.path, config.entries, config.updates, config.batch)
    print(f"run     {run.path}: {len(config.entries)} entries, each of {config.seeds} networks", flush=True)
    total, form = len(config.entries) * config.updates, "{percentage:3.0f}% |{bar:24}| {desc}, at most {remaining} left"
    with course.Interrupt() as interrupt, tqdm(total=total, bar_format=form, disable=not sys.stderr.isatty()) as bar:
        for n, entry in enumerate(config.entries):
            if not results.of(entry):
                train_entry(config, entry, results, bar, interrupt)
            bar.update((n + 1) * config.updates - bar.n)  # solved sooner, or there before
    missing = sum(not results.of(entry) for entry in config.entries)
    if interrupt.requested and missing:
        common.fail(f"stopped with {missing} entries missing; go on with: {run.command('--resume')}", 130)
    print("", *map(results.summary, config.entries), "", sep="\n")
    rest = {"go on with": run.command("--resume")} if missing else {"curves": str(run.path / "curves.png")}
    common.print_table(results=str(results.path), **rest)


def main() -> None:
    common.run(compare, Config)


if __name__ == "__main__":
    main()
