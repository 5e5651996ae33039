"""Text files as arrays of integers that are read from the file on demand, so that they take no memory."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from support.errors import BadInputError

CHUNK = 2**15  # size of the parts of a file in bytes, which are decoded as a whole


class IntegersInFile:
    """An array of integers, one for each character or word of a text file. A slice reads its part of the file.

    Only an index of its parts is in memory, 20 bytes for each. A part that has changed since is never used.

    Args:
      path: The file.
      starts: The position of each part in the file, in bytes, followed by the size of the file.
      indices: The index of the first integer of each part, followed by the number of integers.
      checksums: The checksum of each part, from `checksum`.
      decode: A function from the bytes of one or several parts to their integers.
      dtype: The dtype of the integers.
    """

    def __init__(
        self,
        path: Path,
        starts: Sequence[int],
        indices: Sequence[int],
        checksums: Sequence[int],
        decode: Callable[[bytes], np.ndarray],
        dtype: Any,
    ):
        self._path, self._file = path, path.open("rb", buffering=0)
        self._starts, self._indices, self._checksums = map(np.array, (starts, indices, checksums))
        self._decode = decode
        self.dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return int(self._indices[-1])

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, step = part.indices(len(self))
        if start >= stop or step != 1:
            return np.asarray(self)[part] if step != 1 else np.zeros(0, self.dtype)
        first = int(np.searchsorted(self._indices, start, side="right")) - 1
        last = int(np.searchsorted(self._indices, stop))
        found = self._decode(self._read(first, last))
        before = self._indices[first]
        return found[start - before : stop - before].astype(self.dtype)

    def _read(self, first: int, last: int) -> bytes:
        """Returns the bytes of some parts. They are not mapped, because a file that shrinks would end the process."""
        starts = self._starts[first : last + 1] - self._starts[first]
        self._file.seek(self._starts[first])
        data = b""
        while more := self._file.read(starts[-1] - len(data)):  # a call may return less
            data += more
        parts = (data[start:stop] for start, stop in itertools.pairwise(starts))
        for part, expected in zip(parts, self._checksums[first:last], strict=True):
            if checksum(part) != expected:
                raise BadInputError(f"{self._path} has changed since it was opened: restore it, and resume the run")
        return data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype)


def parts_of(path: Path, ends: Callable[[bytes], int]) -> Iterator[tuple[int, bytes]]:
    """Yields the position and the bytes of each part of a file, of about `CHUNK` bytes, one at a time.

    Args:
      path: The file.
      ends: A function that returns how many of some bytes, from the first on, are complete characters or words; 0 if
        more bytes are needed. The last part ends with the file.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise BadInputError(
                f"{path} must be a file that can be read twice, but it is a device or a pipe: copy it to a file"
            )
        with path.open("rb", buffering=2**20) as file:
            position, rest = 0, b""
            while block := file.read(CHUNK):
                rest += block
                if end := ends(rest):
                    yield position, rest[:end]
                    position, rest = position + end, rest[end:]
            if rest:
                yield position, rest
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from None


def checksum(part: bytes) -> int:
    return zlib.crc32(part)
