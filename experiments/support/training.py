"""The course of a run: its clock, Ctrl-C, the progress bar, and the loop that all experiments share."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Self

STARTED = time.perf_counter()  # before the slow imports: a run's minutes are those on the wall

import numpy as np  # noqa: E402
from run_directory import Run  # noqa: E402
from tqdm import tqdm  # noqa: E402

if TYPE_CHECKING:
    from common import Config


@dataclass(frozen=True)
class Stage:
    """The end of a stage of a run, where something is to be measured and told.

    Attributes:
      train: what training has changed so far.
      step: updates made.
      loss: their mean loss since the stage before.
      rate: updates a second.
    """

    train: Any
    step: int
    loss: float
    rate: float
    _run: Run
    _clock: Clock
    _bar: Progress

    def record(self, score: float, **measured: float) -> None:
        """Saves a checkpoint, the best if its score is the lowest, and a row of metrics.csv."""
        self._run.checkpoints.save(self.step, (self.train, self._clock.seconds), score)
        self._run.record(self.step, self._clock.seconds, train_loss=self.loss, **measured)

    def say(self, line: str) -> None:
        self._bar.say(f"update {self.step:,}: train {self.loss:.3f}, {line}, {span(self._clock.seconds_left)} left")

    def show(self, text: str) -> None:
        self._bar.say(text)


def training(
    config: Config,
    run: Run,
    train: Any,
    update: Callable[[Any, int, tuple[float, float]], tuple[Any, Any]],
    items: tuple[int, str] = (1, "updates"),
    stages: int = 20,
) -> Iterator[Stage]:
    """Makes updates until the run's end, and yields at the end of each stage.

    A run that is resumed goes on from its latest checkpoint. Ctrl-C saves and ends the program; so does a loss that is
    not finite, without saving.

    Args:
      train: all that training changes, a NamedTuple one field of which is `step`.
      update: (train, number of updates, (a, b)) -> (train, their mean loss). The run's progress is a + b * step.
      items: what is counted, so many an update.
      stages: how many parts the run has.
    """
    seconds = 0.0
    if run.checkpoints.step is not None:
        train, seconds = run.checkpoints.latest((train, seconds))
    run.checkpoints.save(int(train.step), (train, seconds))  # so that there always is one
    clock = Clock(config, int(train.step), seconds, stages)
    losses: list[float] = []  # since the last stage
    with Interrupt() as interrupt, Progress() as bar:
        while not (ended := clock.progress >= 1 and run.rows) and not interrupt.requested:
            updates, started = clock.updates(), time.perf_counter()
            train, loss = update(train, updates, clock.schedule)
            losses += updates * [float(loss)]
            clock.made(updates, time.perf_counter() - started)
            if not math.isfinite(losses[-1]):
                fail(f"the loss is not finite after update {clock.step}; {run.kept()}", 1)
            bar.show(clock, f"loss {losses[-1]:.3f}, {clock.rate * items[0]:,.0f} {items[1]}/s")
            if clock.due:
                yield Stage(train, clock.step, float(np.mean(losses)), clock.rate, run, clock, bar)
                losses = []
        if not ended:
            run.checkpoints.save(clock.step, (train, clock.seconds))
            fail(f"stopped after update {clock.step} and saved; go on with: {run.command('--resume')}", 130)


def fail(message: str, code: int) -> NoReturn:
    stopped = code == 128 + signal.SIGINT  # the person's wish, no error
    print(message if stopped else f"error: {message}", file=sys.stderr)
    sys.exit(code)


class Clock:
    """How far a run is: by its updates, or by the time since its start where that is what is limited.

    Args:
      config: its `steps`, or else its `minutes`.
      step: updates made by earlier processes of a resumed run.
      seconds: time they took.
      stages: how many parts the run has, at the end of each of which something is due.
    """

    def __init__(self, config: Config, step: int = 0, seconds: float = 0.0, stages: int = 20):
        self.steps, self.limit, self.stages = config.steps, 60 * config.minutes, stages
        self.step, self._before = step, seconds
        self.rate = math.nan  # updates a second
        self._stage = self._stage_at(step / self.steps if self.steps else seconds / self.limit)
        self._compiled = False

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - STARTED

    @property
    def progress(self) -> float:
        return self.step / self.steps if self.steps else self.seconds / self.limit

    @property
    def schedule(self) -> tuple[float, float]:
        """(a, b) of the progress a + b * step. By the steps it is that of each, whatever calls they are made in."""
        return (0.0, 1 / self.steps) if self.steps else (min(self.progress, 1.0), 0.0)

    @property
    def seconds_left(self) -> float:
        return (self.steps - self.step) / self.rate if self.steps else self.limit - self.seconds

    def updates(self, seconds: float = 0.5) -> int:
        """How many updates to make before looking again: some `seconds` of them, and not past what is due."""
        if math.isnan(self.rate):
            return 1
        if self.steps:
            most = math.ceil((self._stage + 1) * self.steps / self.stages) - self.step
        else:
            most = int(self.rate * self.seconds_left)
        return max(1, min(int(self.rate * seconds), most))

    def made(self, updates: int, seconds: float) -> None:
        """Tells the clock of updates made and of the time they took; the first call compiles and is not timed."""
        self.step += updates
        if self._compiled:
            rate = updates / seconds
            self.rate = rate if math.isnan(self.rate) else 0.8 * self.rate + 0.2 * rate
        self._compiled = True

    @property
    def due(self) -> bool:
        """Whether a stage has just ended; True once for each."""
        if math.isnan(self.rate) and self.progress < 1:  # all there is to tell is how long compiling took
            return False
        stage = self._stage_at(self.progress)
        ended, self._stage = stage > self._stage, max(stage, self._stage)
        return ended

    def _stage_at(self, progress: float) -> int:
        return min(self.stages, int(progress * self.stages + 1e-9))


class Interrupt:
    """Ctrl-C as a request to stop at the next good moment; a second one stops at once."""

    requested = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


class Progress:
    """A progress bar where someone watches; elsewhere only the lines that are said."""

    def __init__(self) -> None:
        form = "{percentage:3.0f}% |{bar:24}| {desc}"
        self._bar = tqdm(total=1.0, bar_format=form, disable=not sys.stderr.isatty(), leave=False, dynamic_ncols=True)

    def show(self, clock: Clock, line: str) -> None:
        self._bar.n = min(clock.progress, 1.0)
        self._bar.set_description_str(f"{line}, {span(clock.seconds_left)} left")

    def say(self, line: str) -> None:
        self._bar.write(line)
        sys.stdout.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def span(seconds: float) -> str:
    """A length of time as people write it: 1:05, 2:03:04."""
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
