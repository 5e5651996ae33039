"""The zoo: every cell of jaxrnn on the same three tasks, with the same number of parameters and the same time.

The tasks (zoo/tasks.py): adding two marked numbers among a hundred; 8 x 8 digits, one pixel per step in a random order;
the next character of the standard library's source. Each model is one cell between the layers that it needs to read the
input of the task and a `Dense` readout. It is as wide as the number of parameters allows, up to --hidden-size. Each
learning rate trains one network, all of them side by side; the one that is best on the validation data is tested. Cells
that diverge or cannot be trained are listed as failures.

Times are those of one processor core. Training time does not include compilation, which is listed separately. A core
works on one cell at a time.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from data.memory_tasks import Sequences
from jax import Array
from support.cells import cell_class
from support.command_line import launch
from support.ensemble import Ensemble
from support.errors import INTERRUPTED, BadInputError, fail
from support.options import OptionGroup, RunFolder, SavedOptions, Several, above, at_least
from support.processes import available_cores, in_processes
from support.progress import Interrupt, print_table
from support.run import Run
from support.schedule import warmup_cosine
from support.training import many_steps, step_keys
from tqdm import tqdm

import jaxrnn
from zoo.fitting import count, fit
from zoo.results import Entry, Results, read_rows
from zoo.tasks import TASKS, Task, judge

SECONDS_PER_CALL = 0.5  # training time between two checks of the clock


@dataclass(frozen=True)
class Options(SavedOptions):
    steps: int | None = None  # Number of training steps of each network, instead of --seconds
    seed: int = 0  # Random seed
    seconds: float = 12.0  # Training time of each cell on each task, in seconds of a processor core
    parameters: int = 10_000  # Largest number of parameters of a network
    hidden_size: int = 128  # Largest hidden size; cells without full matrices would otherwise be a thousand wide
    task: tuple[Literal["adding", "digits", "characters"], ...] = ("adding", "digits", "characters")  # Tasks
    cell: Several[str] = ()  # Names of cells in jaxrnn. Default: all
    learning_rate: tuple[float, ...] = (2e-3, 1e-2)  # Peak learning rates. Each trains one network
    batch: int = 32  # Number of sequences in a batch
    others: Path | None = None  # A results.csv of another run. Its rows of other cells and tasks are kept in the table
    alternatives: ClassVar[tuple[str, ...]] = ("steps", "seconds")

    def check(self) -> None:
        at_least(0, seed=self.seed)
        at_least(1, steps=1 if self.steps is None else self.steps)
        above(0, seconds=self.seconds, **{f"learning_rate {rate}": rate for rate in self.learning_rate})
        at_least(1, parameters=self.parameters, hidden_size=self.hidden_size, batch=self.batch)
        at_least(1, task=len(self.task), learning_rate=len(self.learning_rate))
        for name in self.cell:
            cell_class(name)
        if self.others is not None and not self.others.is_file():
            raise BadInputError(f"--others must be a file, but there is none at {self.others}")
        for entry in self.kept:
            cell_class(entry.cell)

    @property
    def entries(self) -> list[Entry]:
        cells = self.cell or [kind.__name__ for kind in jaxrnn.cells.all()]
        return [Entry(task, cell) for cell in cells for task in self.task]

    @property
    def kept(self) -> dict[Entry, dict[str, str]]:
        """The rows of another run that this run does not replace."""
        others = read_rows(self.others) if self.others else {}
        return {entry: row for entry, row in others.items() if entry not in set(self.entries)}


@dataclass(frozen=True)
class Limit(OptionGroup):
    minutes: float = 600.0  # Time after which no more cells are started. --resume trains the missing entries
    jobs: int | None = None  # Number of cells trained at the same time. None: one per core, or one on a GPU

    def check(self) -> None:
        above(0, minutes=self.minutes)
        at_least(1, jobs=1 if self.jobs is None else self.jobs)


class Train(NamedTuple):
    """Everything that training changes. With several learning rates, all but the step have an axis of them in front."""

    step: Array
    params: Any
    adam: Any
    learning_rate: Array  # peak


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


def begin(options: Options, model: jaxrnn.Layer, inputs: int) -> Train:
    """Returns the initial training state, with the same parameters for each learning rate."""
    params = jax.jit(lambda: model.init(jax.random.key(options.seed), inputs))()

    def network(learning_rate: Array) -> Train:
        return Train(jnp.int32(0), jax.tree.map(jnp.asarray, params), optimizer.init(params), learning_rate)

    ensemble = Ensemble(len(options.learning_rate))
    return ensemble.begin(jax.jit(network), jnp.array(options.learning_rate))


def update(
    options: Options, task: str, model: jaxrnn.Layer, train: Train, data: None, key: Array, progress: Array
) -> tuple[Train, Array]:
    """Runs one training step, on new sequences, which are the same for all learning rates."""
    sequences = TASKS[task]().draw(key, options.batch)

    def loss_fn(params: Any) -> Array:
        _, ys = jaxrnn.unroll(model, params, sequences.xs)
        return judge(TASKS[task](), ys, sequences)[0]

    loss, gradient = jax.value_and_grad(loss_fn)(train.params)
    direction, adam = optimizer.update(gradient, train.adam)
    scale = train.learning_rate * warmup_cosine(train.step, progress, warmup=20)
    params = jax.tree.map(lambda p, d: (p - scale * d).astype(p.dtype), train.params, direction)
    return Train(train.step + 1, params, adam, train.learning_rate), loss


@partial(jax.jit, static_argnames=("task", "model"))
def measure(task: str, model: jaxrnn.Layer, params: Any, sequences: Sequences) -> Array:
    """Returns the task's measure for each network, [networks]."""

    def one(params: Any) -> Array:
        _, ys = jaxrnn.unroll(model, params, sequences.xs)
        return judge(TASKS[task](), ys, sequences)[1]

    return jax.lax.map(one, params)


def train_entry(options: Options, entry: Entry) -> dict[str, Any]:
    """Trains a cell on a task. Returns a row of the results."""
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    task: Task = TASKS[entry.task]()
    model = fit(entry.cell, task, options.parameters, options.hidden_size)
    ensemble = Ensemble(len(options.learning_rate))
    train = begin(options, model.layer, task.inputs)
    parameters = count(ensemble.member(train.params, 0))

    began = clock()
    update_all = ensemble.update(partial(update, options, entry.task, model.layer), key_axis=None)
    steps: Any = many_steps(update_all, step_keys(options.seed), ensemble.size, mean=ensemble.stacked)
    compiled = steps.lower(train, None, 1, (0.0, 0.0)).compile()
    compile_seconds = clock() - began

    began = clock()
    number = 1
    losses = [math.nan]
    while (progress := int(train.step) / options.steps if options.steps else (clock() - began) / options.seconds) < 1:
        before = clock()
        schedule = (0.0, 1 / options.steps) if options.steps else (progress, 0.0)
        train, losses = jax.block_until_ready(compiled(train, None, number, schedule))
        rate = number / (clock() - before)
        left = options.steps - int(train.step) if options.steps else rate * (options.seconds - (clock() - began))
        number = max(1, min(int(rate * SECONDS_PER_CALL), int(left)))
    seconds = clock() - began

    params = ensemble.stacked(train.params)
    valid = np.nan_to_num(measure(entry.task, model.layer, params, task.valid), nan=np.inf)
    best = int(valid.argmin())
    tested = float(measure(entry.task, model.layer, params, task.test)[best])
    return {
        "hidden_size": model.hidden_size,
        "parameters": parameters,
        "learning_rate": options.learning_rate[best],
        "valid": float(valid[best]),
        "test": tested,
        "loss": float(losses[best]),
        "updates": int(train.step),
        "seconds": seconds,
        "compiled": compile_seconds,
        "failure": "" if math.isfinite(tested) else "diverged",
    }


def attempt(options: Options, entry: Entry) -> tuple[Entry, dict[str, Any]]:
    """Calls `train_entry`, and returns a row that describes the failure if it raises an exception."""
    try:
        row = train_entry(options, entry)
    except Exception as error:
        name = "" if isinstance(error, BadInputError) else f"{type(error).__name__}: "
        row = {"failure": name + (str(error).strip().splitlines() or [""])[0]}
    jax.clear_caches()
    return entry, row


def main(options: Options, folder: RunFolder, limit: Limit) -> None:
    run = Run(folder, options, facts={})
    results = Results(run.path)
    results.keep(options.kept)
    entries = options.entries
    missing = [entry for entry in entries if entry not in results.rows]
    most = limit.jobs or (available_cores() if jax.default_backend() == "cpu" else 1)
    jobs = min(most, max(1, len(missing)))
    for name in options.task:
        TASKS[name]()  # reports missing data before anything is trained
    print(f"run     {run.path}: {len(entries)} entries, {len(missing)} of them to train, {jobs} at once", flush=True)
    with (
        Interrupt() as interrupt,
        tqdm(total=len(missing), disable=not sys.stderr.isatty()) as bar,
        contextlib.closing(in_processes(partial(attempt, options), missing, jobs)) as found,
    ):
        for entry, row in found:
            results.add(entry, row)
            bar.update()
            bar.write(results.line(entry))
            sys.stdout.flush()
            if interrupt.requested or time.perf_counter() > run.started + 60 * limit.minutes:
                break
    if results.rows:
        results.save()
    left = [entry for entry in entries if entry not in results.rows]
    if interrupt.requested and left:
        fail(f"stopped with {len(left)} entries missing; resume with: {run.command('--resume')}", INTERRUPTED)
    print("", results.table(), sep="\n")
    rest = {"resume": run.command("--resume")} if left else {}
    print_table(table=f"{run.path / 'table.md'}, {results.path}", plot=str(run.path / "zoo.png"), **rest)


def run_zoo(started: float | None = None) -> None:
    """Runs the zoo with the options of the command line."""
    try:
        launch(main, Options, RunFolder, Limit, started=started)
    except BrokenProcessPool:
        fail("a worker died, perhaps for lack of memory; finished cells are kept: continue with --resume", 1)
