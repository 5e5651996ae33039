"""The training loop that all scripts share: many steps per call, stages with measurements, resuming, Ctrl-C."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from support.clock import Clock, left
from support.distributed import gather_numbers, is_first
from support.errors import INTERRUPTED, fail
from support.feeding import Feed
from support.progress import Interrupt, Progress
from support.run import Run

Update = Callable[..., tuple[Any, Array]]
Keys = Callable[[Array], Any]
Steps = Callable[[Any, Any, Any, Any], tuple[Any, Array]]


FEW = 20  # training steps that are too few to learn anything


@dataclass(frozen=True)
class Stage:
    """The end of a stage of a run, where a script measures and reports.

    Attributes:
      train: The training state.
      step: Number of training steps so far.
      loss: Mean training loss since the last stage.
      rate: Training steps per second.
    """

    train: Any
    step: int
    loss: float
    rate: float
    _run: Run
    _clock: Clock
    _bar: Progress

    def record(self, score: float, **measured: float) -> None:
        """Saves a checkpoint, the best one if its score is the lowest, and adds a row to metrics.csv."""
        self._run.record(self.step, self._clock.seconds, self.train, score, train_loss=self.loss, **measured)

    def say(self, line: str) -> None:
        self.show(f"step {self.step:,}: train {self.loss:z.3f}, {line}{left(self._clock.seconds_left)}")

    def show(self, text: str) -> None:
        if is_first():
            self._bar.say(text)


def step_keys(seed: int) -> Keys:
    """Returns a function from a training step to its random key."""
    return lambda step: jax.random.fold_in(jax.random.key(seed), step)


def many_steps(
    update: Update,
    keys: Keys,
    models: int = 1,
    params_of: Callable[[Any], Any] = lambda train: train.params,
    mean: Callable[[Array], Array] = jnp.mean,
) -> Steps:
    """Compiles a function that runs many training steps in one call.

    Args:
      update: (train, data, key, progress) -> (train, loss), one training step. The field `step` of `train` counts the
        steps. The progress goes from 0 to 1 over a run. The loss is a number, or [models] for several models.
      keys: A function from a step to its random key or keys.
      models: Number of models that train side by side.
      params_of: A function that returns the parameters of a training state.
      mean: A function that averages the losses of several models.

    Returns:
      (train, data, number of steps, (a, b)) -> (train, mean loss), where a + b * step is the progress. The loss of a
      model is NaN if its parameters are not finite after the last step.
    """

    @partial(jax.jit, donate_argnums=0)
    def steps(train: Any, data: Any, number: Array, schedule: tuple[Array, Array]) -> tuple[Any, Array]:
        def one(_: int, carry: tuple[Any, Array]) -> tuple[Any, Array]:
            train, total = carry
            train, loss = update(train, data, keys(train.step), schedule[0] + schedule[1] * train.step)
            return train, total + loss

        losses = jnp.zeros(() if models == 1 else models)
        train, total = jax.lax.fori_loop(0, number, one, (train, losses))
        return train, mean(jnp.where(all_finite(params_of(train), total.shape), total / number, jnp.nan))

    return steps


def all_finite(params: Any, shape: tuple[int, ...]) -> Array:
    """Returns whether all parameters of a model are finite, for one model or for each of several, with axes `shape`."""
    leaves = [jnp.isfinite(leaf).all(range(len(shape), leaf.ndim)) for leaf in jax.tree.leaves(params)]
    return jnp.stack(leaves).all(0)


@dataclass(frozen=True)
class Decision:
    """What all processes do next, according to the clock of the first one. Ctrl-C in any process stops all.

    Attributes:
      due: Whether a stage has ended.
      ended: Whether the run has ended.
      stopped: Whether Ctrl-C was pressed.
      steps: Number of training steps in the next call.
      schedule: (a, b) such that a + b * step is the run's progress.
    """

    due: bool
    ended: bool
    stopped: bool
    steps: int
    schedule: tuple[float, float]

    @staticmethod
    def of(clock: Clock, most: int, measured: bool, interrupt: Interrupt, after_steps: bool) -> Decision:
        ended = clock.progress >= 1 and measured
        due = after_steps and clock.due
        mine = (due, ended, interrupt.requested, min(clock.steps_to_make(), most), *clock.schedule)
        every = gather_numbers(mine)
        due, ended, _, steps, a, b = every[0]
        return Decision(bool(due), bool(ended), any(each[2] for each in every), int(steps), (a, b))


def training(
    run: Run,
    train: Any,
    steps: Steps,
    data: Any,
    limit: tuple[int | None, float],
    items: tuple[int, str] = (1, "steps"),
    stages: int = 20,
) -> Iterator[Stage]:
    """Trains until the end of the run, and yields at the end of each stage.

    A resumed run continues from its latest checkpoint. If its limit has changed, its schedule is that of a run with the
    new limit: the learning rate is that of the same step, or time, of such a run. Ctrl-C saves a checkpoint and ends
    the program. A loss that is not finite ends it without saving.

    Args:
      run: The run directory.
      train: The initial training state, a NamedTuple with a field `step`.
      steps: A function that runs many training steps; see `many_steps`.
      data: The training data, or a `Feed`. With several processes, all must make the same calls with the same data.
      limit: The number of training steps or None, and the time limit in minutes, which applies if the first is None.
      items: The number of items that a step processes, and their name, for the progress bar.
      stages: Number of stages.
    """
    seconds = 0.0
    if run.checkpoints.step is not None:
        train, seconds = run.checkpoints.latest((train, seconds))
    run.save(int(train.step), (train, seconds))  # so that there is always a checkpoint
    clock = Clock(*limit, run.started, int(train.step), seconds, stages)
    losses: list[float] = []  # since the last stage
    feed = data if isinstance(data, Feed) else None
    with Interrupt() as interrupt, Progress() as bar:

        def decide(after_steps: bool = False) -> Decision:
            most = sys.maxsize if feed is None else feed.capacity
            return Decision.of(clock, most, bool(run.rows), interrupt, after_steps)

        decision = decide()
        while not (decision.ended or decision.stopped):
            number = decision.steps
            began = time.perf_counter()
            train, loss = steps(train, data if feed is None else feed(clock.step, number), number, decision.schedule)
            if feed is not None:
                feed.prepare(clock.step + number, number * 5 // 4 + 1)  # the next call may have more steps
            losses += number * [float(loss)]
            clock.made(number, time.perf_counter() - began)
            if not math.isfinite(losses[-1]):
                kept = f"the last good checkpoint, after step {run.checkpoints.step}, is in {run.path / 'checkpoints'}"
                fail(f"the loss is not finite after step {clock.step}; {kept}", 1)
            if is_first():
                bar.show(clock, f"loss {losses[-1]:z.3f}, {clock.rate * items[0]:,.0f} {items[1]}/s")
            decision = decide(after_steps=True)
            if decision.due:
                began = time.perf_counter()
                yield Stage(train, clock.step, float(np.mean(losses)), clock.rate, run, clock, bar)
                clock.measuring = time.perf_counter() - began
                losses = []
                decision = decide()
        if decision.ended and clock.step < FEW and is_first():
            more = ("--steps", "1000") if clock.steps else ("--minutes", f"{max(1, 3 * clock.seconds / 60):.2g}")
            command = run.command("--resume", *more)
            few = "1 training step is" if clock.step == 1 else f"{clock.step} training steps are"
            bar.say(f"{few} too few to learn anything; train further with: {command}")
        if not decision.ended:
            run.save(clock.step, (train, clock.seconds))
            fail(f"stopped after step {clock.step} and saved; resume with: {run.command('--resume')}", INTERRUPTED)
