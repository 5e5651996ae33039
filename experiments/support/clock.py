"""When a process began, how far a run is, and how long is left."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path


def process_start() -> float:
    """Returns the time of `time.perf_counter` at which this process began, because a run's minutes include its imports.

    On systems without /proc, it is estimated from the processor time spent so far.
    """
    stat = Path("/proc/self/stat")
    if not stat.exists():
        return time.perf_counter() - time.process_time()
    after_name = stat.read_text().rpartition(")")[2].split()  # the process's name may contain blanks
    ticks = int(after_name[19])  # since boot
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.perf_counter() - age


class Clock:
    """How far a run is, measured by its training steps, or by the time since its start if the time is limited.

    Args:
      steps: Number of training steps of the run. None means that the time is limited instead.
      minutes: Time limit of the run.
      started: The time of `time.perf_counter` at which this process's part of the run began.
      step: Number of training steps made by earlier processes of a resumed run.
      seconds: Time that those steps took.
      stages: Number of stages of the run; `due` is True at the end of each.
    """

    def __init__(
        self, steps: int | None, minutes: float, started: float, step: int = 0, seconds: float = 0.0, stages: int = 20
    ):
        self.steps = steps
        self.limit = 60 * minutes
        self.stages = stages
        self.step = step
        self.measuring = 0.0  # seconds that a script takes at the end of a stage
        self._rate = math.nan  # training steps per second, without compilation
        self._first = math.nan  # the rate of the first call, which compiles
        self._started = started
        self._before = seconds
        self._stage = self._stage_at(step / steps if steps else seconds / self.limit)

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._started

    @property
    def progress(self) -> float:
        return self.step / self.steps if self.steps else self.seconds / self.limit

    @property
    def schedule(self) -> tuple[float, float]:
        """(a, b) such that the run's progress at a step is a + b * step.

        With a number of steps it is exact for each step, however the steps are divided into calls.
        """
        return (0.0, 1 / self.steps) if self.steps else (min(self.progress, 1.0), 0.0)

    @property
    def rate(self) -> float:
        """Training steps per second. Until a second call is made, they include compilation."""
        return self._first if math.isnan(self._rate) else self._rate

    @property
    def seconds_left(self) -> float:
        """The time left, including measurements at the end of stages. NaN if it is not yet known."""
        if not self.steps:
            return self.limit - self.seconds + self.measuring
        return (self.steps - self.step) / self._rate + (self.stages - self._stage) * self.measuring

    def steps_to_make(self, seconds: float = 0.5) -> int:
        """Returns how many steps to make in the next call: about `seconds` of them, but not past the end of a stage."""
        if math.isnan(self._rate):
            return 1
        if self.steps:
            most = math.ceil((self._stage + 1) * self.steps / self.stages) - self.step
        else:
            most = int(self._rate * (self.limit - self.seconds))
        return max(1, min(int(self._rate * seconds), most))

    def made(self, steps: int, seconds: float) -> None:
        """Records steps and the time they took. The first call compiles, so its rate is only used until the second."""
        self.step += steps
        rate = steps / seconds
        if math.isnan(self._first):
            self._first = rate
        else:
            self._rate = rate if math.isnan(self._rate) else 0.8 * self._rate + 0.2 * rate

    @property
    def due(self) -> bool:
        """Whether a stage has just ended. True once per stage."""
        if math.isnan(self._rate) and self.progress < 1:  # so far only the time of compilation is known
            return False
        stage = self._stage_at(self.progress)
        ended = stage > self._stage
        self._stage = max(stage, self._stage)
        return ended

    def _stage_at(self, progress: float) -> int:
        return min(self.stages, int(progress * self.stages + 1e-9))


def left(seconds: float) -> str:
    """Formats a time that is left, with a comma in front; empty at the end."""
    return "" if seconds < 0.5 else f", {duration(seconds)} left"


def duration(seconds: float) -> str:
    """Formats a length of time, such as 1:05 or 2:03:04."""
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
