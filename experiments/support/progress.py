"""Interaction with a running script: a progress bar, Ctrl-C, and tables of results."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import Any, Self

from tqdm import tqdm

from support.clock import Clock, left
from support.distributed import number_of_processes
from support.supervisor import once


class Interrupt:
    """Turns Ctrl-C into a request to stop after the current call; a second Ctrl-C stops immediately."""

    requested = False

    def __enter__(self) -> Self:
        request = self._request if number_of_processes() == 1 else once(self._request)
        self._before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def columns() -> int:
    """Returns the width of the terminal; 80 if it is unknown."""
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    return 80


class Progress:
    """A progress bar on a terminal. Elsewhere a line at least every half minute, between the other lines.

    Args:
      total: The number at which the bar is full.
      form: Format of the text after the bar. {desc} is the line that is given to `update`.
    """

    silence = 30.0  # seconds without a line, at most

    def __init__(self, total: float = 1.0, form: str = "{desc}"):
        form = "{percentage:3.0f}% |{bar:24}| " + form
        self._bar = tqdm(total=total, bar_format=form, disable=not sys.stderr.isatty(), leave=False, ncols=columns())
        self._total = total
        self._last_line = time.monotonic()

    def show(self, clock: Clock, line: str) -> None:
        """Shows how far a run is."""
        self.update(min(clock.progress, 1.0), f"step {clock.step:,}: {line}{left(clock.seconds_left)}")

    def update(self, done: float, line: str) -> None:
        """Shows that `done` of the total is done, and a line of text."""
        if self._bar.disable:
            if time.monotonic() > self._last_line + self.silence:
                self.say(f"{done / self._total:4.0%}  {line}")
            return
        self._bar.ncols = columns()  # the window may have changed
        self._bar.n = done
        self._bar.set_description_str(line)

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        self._bar.write(line)
        sys.stdout.flush()
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def print_table(**rows: str) -> None:
    """Prints a name and a value per line, aligned."""
    width = max(map(len, rows))
    print("\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items()))
