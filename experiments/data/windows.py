"""Windows for truncated backpropagation: a long text is read in several streams at the same time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from support.errors import BadInputError


@dataclass(frozen=True)
class Streams:
    """Streams that start at equal distances in a text. Each training step reads the next window of every stream.

    A window begins with the last integer of the window before it, so that each integer is predicted once.

    Attributes:
      text: An array of integers, in memory or in a file.
      size: Number of integers to read, from the beginning of the text.
      number: Number of streams.
      length: Number of integers that are predicted in a window, which has one more.
      circular: If True, each stream continues through the whole text, and from its end to its beginning. If False, all
        streams return to their starts after the last whole window before the next stream.
      unit: What the integers represent, in the plural, for error messages.
    """

    text: Any
    size: int
    number: int
    length: int
    circular: bool
    unit: str

    def __post_init__(self) -> None:
        if self.size < self.number * (self.length + 1):
            needed = f"one batch of windows takes {self.number} * {self.length + 1}"
            raise BadInputError(f"the text is too short: training has {self.size:,} {self.unit}, but {needed}")

    @property
    def distance(self) -> int:
        """The distance between the starts of two streams."""
        return self.size // self.number

    @property
    def windows(self) -> int:
        """Number of whole windows between the starts of two streams."""
        return (self.distance - 1) // self.length

    def cut(self, step: int, steps: int, streams: range) -> np.ndarray:
        """Returns the windows [steps, length + 1, streams] of some training steps and streams."""
        found = np.empty((steps, self.length + 1, len(streams)), self.text.dtype)
        done = 0
        while done < steps:
            window = step + done if self.circular else (step + done) % self.windows
            more = steps - done if self.circular else min(steps - done, self.windows - window)
            for column, stream in enumerate(streams):
                read = self._read(stream * self.distance + window * self.length, more * self.length + 1)
                windows = np.lib.stride_tricks.sliding_window_view(read, self.length + 1)
                found[done : done + more, :, column] = windows[:: self.length]
            done += more
        return found

    def _read(self, start: int, length: int) -> np.ndarray:
        """Returns integers of the circular text."""
        parts = []
        while length > 0:
            start %= self.size
            parts.append(self.text[start : min(start + length, self.size)])
            start, length = start + len(parts[-1]), length - len(parts[-1])
        return np.concatenate(parts)
