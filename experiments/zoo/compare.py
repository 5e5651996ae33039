"""The zoo: every cell of jaxrnn on the same three tasks, with the same number of parameters and the same time.

Tasks (`zoo_tasks.py`): adding two marked numbers of a hundred; 8 x 8 digits, a pixel a step in a random order; the next
character of the standard library's source. Each cell stands alone between what it needs to read the task's input and a
`Dense` readout. It is as wide as the parameters allow, at most as --hidden-size says. Each learning rate trains one
network, all of them as one program; the validation data choose one, which is tested. What diverges, or cannot be
trained, is told.

Time is that of a processor core, of training alone: compiling is told beside it. A core works on one cell at a time.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import common  # first: its clock starts the run's
import course
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import BadInputError
from jax import Array
from tqdm import tqdm
from workers import cores, in_workers
from zoo_models import count, fit
from zoo_results import Entry, Results
from zoo_tasks import TASKS, Sequences, Task, judge

import jaxrnn

CHUNK = 0.5  # seconds of updates between two looks at the clock
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
Named = Literal["adding", "digits", "characters"]


@dataclass(frozen=True)
class Config(common.Config):
    minutes: float = 600.0  # After which no more cells are begun; --resume goes on with what is missing
    steps: int | None = None  # Updates of each network; if given, --seconds says nothing
    seconds: float = 12.0  # Of a processor core, to train each cell on each task
    parameters: int = 10_000  # At most, of each network
    hidden_size: int = 128  # At most; a cell without full matrices would be a thousand wide
    task: tuple[Named, ...] = ("adding", "digits", "characters")
    cell: tuple[str, ...] = ()  # Cells of jaxrnn, by name; none given: all
    learning_rate: tuple[float, ...] = (2e-3, 1e-2)  # Of Adam, falling to zero
    batch: int = 32
    jobs: int | None = None  # Cells trained at once, a core each; None: as many as there are cores; on a GPU 1

    of_the_call: ClassVar[tuple[str, ...]] = (*common.Config.of_the_call, "minutes", "jobs")

    def check(self) -> None:
        super().check()
        common.above(0, seconds=self.seconds, **{f"learning_rate {rate}": rate for rate in self.learning_rate})
        common.at_least(1, parameters=self.parameters, hidden_size=self.hidden_size, batch=self.batch)
        common.at_least(1, task=len(self.task), learning_rate=len(self.learning_rate), jobs=self.jobs or 1)
        for name in self.cell:
            common.cell_class(name)

    @property
    def entries(self) -> list[Entry]:
        cells = self.cell or [kind.__name__ for kind in jaxrnn.cells.all()]
        return [Entry(task, cell) for cell in cells for task in self.task]


class Train(NamedTuple):
    step: Array
    params: Any  # with an axis of the learning rates in front, as the next
    adam: Any


@partial(jax.jit, static_argnames=("config", "task", "model"), donate_argnames="train")
def update(
    config: Config, task: str, model: jaxrnn.Layer, train: Train, updates: Array, progress: Array
) -> tuple[Train, Array]:
    """Makes some updates; returns also their mean losses. Each has the same sequences for all networks."""

    def loss_of(params: Any, sequences: Sequences) -> Array:
        return judge(TASKS[task](), jaxrnn.unroll(model, params, sequences.xs)[1], sequences)[0]

    def learn(params: Any, adam: Any, rate: Array, sequences: Sequences, scale: Array) -> tuple[Any, Any, Array]:
        loss, gradient = jax.value_and_grad(loss_of)(params, sequences)
        change, adam = optimizer.update(gradient, adam)
        return jax.tree.map(lambda p, c: (p - scale * rate * c).astype(p.dtype), params, change), adam, loss

    def one(_: int, carry: tuple[Train, Array]) -> tuple[Train, Array]:
        train, total = carry
        key = jax.random.fold_in(jax.random.key(config.seed), train.step)
        done = train.step / config.steps if config.steps else progress
        scale = jnp.minimum(1, (train.step + 1) / 20) * (0.5 + 0.5 * jnp.cos(jnp.pi * jnp.minimum(done, 1)))
        sequences = TASKS[task]().draw(key, config.batch)
        rates = jnp.array(config.learning_rate)
        params, adam, loss = jax.vmap(learn, (0, 0, 0, None, None))(train.params, train.adam, rates, sequences, scale)
        return Train(train.step + 1, params, adam), total + loss

    train, total = jax.lax.fori_loop(0, updates, one, (train, jnp.zeros(len(config.learning_rate))))
    return train, total / updates


@partial(jax.jit, static_argnames=("task", "model"))
def measure(task: str, model: jaxrnn.Layer, params: Any, sequences: Sequences) -> Array:
    """What each network is measured by."""

    def one(params: Any) -> Array:
        return judge(TASKS[task](), jaxrnn.unroll(model, params, sequences.xs)[1], sequences)[1]

    return jax.lax.map(one, params)


def train_entry(config: Config, entry: Entry) -> dict[str, Any]:
    """A row of the results."""
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    task: Task = TASKS[entry.task]()
    model = fit(entry.cell, task, config.parameters, config.hidden_size)
    params = jax.jit(lambda: model.layer.init(jax.random.key(config.seed), task.inputs))()
    told = {"hidden_size": model.hidden_size, "parameters": count(params)}
    params = jax.tree.map(lambda p: jnp.stack([p] * len(config.learning_rate)), params)
    train = Train(jnp.int32(0), params, jax.vmap(optimizer.init)(params))
    started = clock()
    more = update.lower(config, entry.task, model.layer, train, 1, 0.0).compile()
    compiled, started = clock() - started, clock()
    number, losses = 1, [math.nan]
    while (done := int(train.step) / config.steps if config.steps else (clock() - started) / config.seconds) < 1:
        before = clock()
        train, losses = jax.block_until_ready(more(train, number, done))
        rate = number / (clock() - before)
        left = config.steps - int(train.step) if config.steps else rate * (config.seconds - (clock() - started))
        number = max(1, min(int(rate * CHUNK), int(left)))
    seconds = clock() - started
    valid = np.nan_to_num(measure(entry.task, model.layer, train.params, task.valid), nan=np.inf)
    best = int(valid.argmin())
    tested = float(measure(entry.task, model.layer, train.params, task.test)[best])
    told |= {
        "learning_rate": config.learning_rate[best],
        "valid": float(valid[best]),
        "test": tested,
        "loss": float(losses[best]),
    }
    told |= {"updates": int(train.step), "seconds": seconds, "compiled": compiled}
    return told | {"failure": "" if math.isfinite(tested) else "diverged"}


def attempt(config: Config, entry: Entry) -> tuple[Entry, dict[str, Any]]:
    """`train_entry`, or why it failed: that is a result too."""
    try:
        row = train_entry(config, entry)
    except Exception as error:
        name = "" if isinstance(error, BadInputError) else f"{type(error).__name__}: "
        row = {"failure": name + (str(error).strip().splitlines() or [""])[0]}
    jax.clear_caches()
    return entry, row


def compare(config: Config) -> None:
    run = common.Run(config, facts={})
    results, entries = Results(run.path), config.entries
    missing = [entry for entry in entries if entry not in results.rows]
    jobs = min(config.jobs or (cores() if jax.default_backend() == "cpu" else 1), max(1, len(missing)))
    for name in config.task:
        TASKS[name]()  # data that cannot be had is told before anything is trained
    print(f"run     {run.path}: {len(entries)} entries, {len(missing)} of them to train, {jobs} at once", flush=True)
    with (
        course.Interrupt() as interrupt,
        tqdm(total=len(missing), disable=not sys.stderr.isatty()) as bar,
        contextlib.closing(in_workers(partial(attempt, config), missing, jobs)) as found,
    ):
        for entry, row in found:
            results.add(entry, row)
            bar.update()
            bar.write(results.line(entry))
            sys.stdout.flush()
            if interrupt.requested or time.perf_counter() > course.STARTED + 60 * config.minutes:
                break
    if results.rows:
        results.save()
    left = [entry for entry in entries if entry not in results.rows]
    if interrupt.requested and left:
        common.fail(f"stopped with {len(left)} entries missing; go on with: {run.command('--resume')}", 130)
    print("", results.table(), sep="\n")
    rest = {"go on with": run.command("--resume")} if left else {}
    common.print_table(table=f"{run.path / 'table.md'}, {results.path}", plot=str(run.path / "zoo.png"), **rest)


def main() -> None:
    try:
        common.run(compare, Config)
    except BrokenProcessPool:
        common.fail("a worker died, perhaps for want of memory; what was finished is kept: --resume goes on", 1)


if __name__ == "__main__":
    main()
