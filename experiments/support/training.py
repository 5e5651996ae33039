"""The training loop that all scripts share: many steps per call, stages at which to measure, resuming, Ctrl-C."""

from __future__ import annotations

import math
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
from support.errors import INTERRUPTED, fail
from support.progress import Interrupt, Progress
from support.run import Run

Update = Callable[..., tuple[Any, Array]]
Keys = Callable[[Array], Any]
Steps = Callable[[Any, Any, Any, Any], tuple[Any, Array]]


FEW = 20  # training steps that are too few to learn anything


@dataclass(frozen=True)
class Stage:
    """The end of a stage of a run, at which a script measures and reports.

    Attributes:
      train: The training state.
      step: Training steps made.
      loss: Their mean loss since the last stage.
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
        self._bar.say(f"step {self.step:,}: train {self.loss:z.3f}, {line}{left(self._clock.seconds_left)}")

    def show(self, text: str) -> None:
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
    """Compiles a function that makes many training steps in one call.

    Args:
      update: (train, data, key, progress) -> (train, loss), one training step. `train` has a field `step`, which
        counts them. The progress goes from 0 to 1 over a run. The loss is a number, or [models] for several models.
      keys: A function from a step to its random key or keys.
      models: Number of models that train side by side.
      params_of: A function that returns the parameters of a training state.
      mean: A function that averages several models' losses. A loss is NaN if the model's parameters are not finite.

    Returns:
      (train, data, number of steps, (a, b)) -> (train, mean loss), where a + b * step is the progress. The loss is
      NaN if the parameters are not finite, even if the last loss was.
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
    """Returns whether all parameters are finite: of the model, or of each of several models whose axes are `shape`."""
    leaves = [jnp.isfinite(leaf).reshape(*shape, -1).all(-1) for leaf in jax.tree.leaves(params)]
    return jnp.stack(leaves).all(0)


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

    A resumed run continues from its latest checkpoint. If it is resumed with a higher limit than before, its schedule
    is that of a run which had this limit from the start: training continues with the learning rate at the same fraction
    of the new limit. Ctrl-C saves and ends the program; so does a loss that is not
    finite, without saving.

    Args:
      run: The run directory.
      train: The initial training state, a NamedTuple with a field `step`.
      steps: A function that makes many training steps; see `many_steps`.
      data: The data that they learn from.
      limit: The number of training steps or None, and the time limit in minutes, which applies if that is None.
      items: The number of items that a step processes and their name, for the progress bar.
      stages: Number of stages.
    """
    seconds = 0.0
    if run.checkpoints.step is not None:
        train, seconds = run.checkpoints.latest((train, seconds))
    run.save(int(train.step), (train, seconds))  # so that there is always a checkpoint
    clock = Clock(*limit, run.started, int(train.step), seconds, stages)
    losses: list[float] = []  # since the last stage
    with Interrupt() as interrupt, Progress() as bar:
        while not (ended := clock.progress >= 1 and run.rows) and not interrupt.requested:
            number = clock.steps_to_make()
            began = time.perf_counter()
            train, loss = steps(train, data, number, clock.schedule)
            losses += number * [float(loss)]
            clock.made(number, time.perf_counter() - began)
            if not math.isfinite(losses[-1]):
                kept = f"the last good checkpoint, after step {run.checkpoints.step}, is in {run.path / 'checkpoints'}"
                fail(f"the loss is not finite after step {clock.step}; {kept}", 1)
            bar.show(clock, f"loss {losses[-1]:z.3f}, {clock.rate * items[0]:,.0f} {items[1]}/s")
            if clock.due:
                began = time.perf_counter()
                yield Stage(train, clock.step, float(np.mean(losses)), clock.rate, run, clock, bar)
                clock.measuring = time.perf_counter() - began
                losses = []
        if ended and clock.step < FEW:
            more = ("--steps", "1000") if clock.steps else ("--minutes", f"{max(1, 3 * clock.seconds / 60):.2g}")
            command = run.command("--resume", *more)
            few = "1 training step is" if clock.step == 1 else f"{clock.step} training steps are"
            bar.say(f"{few} too few to learn anything; train further with: {command}")
        if not ended:
            run.save(clock.step, (train, clock.seconds))
            fail(f"stopped after step {clock.step} and saved; resume with: {run.command('--resume')}", INTERRUPTED)
