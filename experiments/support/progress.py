"""Interaction with a running script: a progress bar, Ctrl-C, and tables of results."""

from __future__ import annotations

import signal
import sys
from typing import Any, Self

from tqdm import tqdm

from support.clock import Clock, duration


class Interrupt:
    """Turns Ctrl-C into a request to stop after the current call; a second Ctrl-C stops immediately."""

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
    """A progress bar on a terminal. Elsewhere only the printed lines appear."""

    def __init__(self) -> None:
        form = "{percentage:3.0f}% |{bar:24}| {desc}"
        self._bar = tqdm(total=1.0, bar_format=form, disable=not sys.stderr.isatty(), leave=False, dynamic_ncols=True)

    def show(self, clock: Clock, line: str) -> None:
        self._bar.n = min(clock.progress, 1.0)
        self._bar.set_description_str(f"{line}, {duration(clock.seconds_left)} left")

    def say(self, line: str) -> None:
        self._bar.write(line)
        sys.stdout.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def print_table(**rows: str) -> None:
    """Prints a name and a value per line, aligned."""
    width = max(map(len, rows))
    print("\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items()))
