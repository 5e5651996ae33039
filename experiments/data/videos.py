"""Videos in a NumPy file, such as Moving MNIST's mnist_test_seq.npy."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from support.errors import BadInputError

AXES = "[time, number, height, width]"
BYTES = 2**24  # of the parts in which a file is checked
LEAST = 10  # videos


@dataclass(frozen=True)
class Videos:
    """Videos [time, number, height, width] of pixels from 0 to 255 (`uint8`) or from 0 to 1 (floats, `bool`).

    The first eight tenths of the videos are for training, the next tenth is for validation, the last for testing.

    Attributes:
      name: Name of the file.
      frames: The array. That of a .npy file stays in the file until it is used.
      digest: SHA-256 of all frames.
    """

    name: str
    frames: np.ndarray
    digest: str

    @staticmethod
    def of(path: Path, length: int, patch: int) -> Videos:
        """Opens a file .npy, or .npz with one array, and reads it once to check and hash it.

        Args:
          path: The file.
          length: Number of frames that each video must have at least.
          patch: A number that must divide height and width.
        """
        frames = open_array(path)
        if frames.ndim != 4:
            raise BadInputError(f"{path} must have the axes {AXES}, but its shape is {frames.shape}")
        time, number, height, width = frames.shape
        if frames.dtype != np.uint8 and frames.dtype.kind not in "bf":
            raise BadInputError(f"{path} must hold uint8, bool or floats, but it holds {frames.dtype}")
        order = f"the axes of its shape {frames.shape} are {AXES}"
        if time < length:
            raise BadInputError(f"{path} has {time} frames per video, but --read and --predict need {length}: {order}")
        if number < LEAST:
            raise BadInputError(f"{path} has {number} videos, but at least {LEAST} are needed: {order}")
        if height % patch or width % patch or not height * width:
            raise BadInputError(f"--patch must divide height and width, but it is {patch}, and {order}")
        digest = hashlib.sha256(f"{frames.shape} {frames.dtype.str}".encode())
        together = max(1, BYTES // frames[0, 0].nbytes)
        highest = 0.0
        for t, first in product(range(time), range(0, number, together)):
            part = np.ascontiguousarray(frames[t, first : first + together])
            good = ((part >= 0) & (part <= white(frames))).all((1, 2))  # NaN is neither
            if not good.all():
                where = f"frame {t} of video {first + int(good.argmin())}"
                raise BadInputError(f"{path} must hold floats from 0 to 1, but {where} has other values")
            highest = max(highest, float(part.max()))
            digest.update(part.data)
        if highest <= white(frames) // 255:  # such as uint8 with ones for white
            raise BadInputError(f"{path} is black: its highest pixel is {highest:g}, but white is {white(frames)}")
        return Videos(path.name, frames, digest.hexdigest())

    @property
    def train(self) -> np.ndarray:
        return self.frames[:, : self.cuts[0]]

    @property
    def valid(self) -> np.ndarray:
        return self.frames[:, self.cuts[0] : self.cuts[1]]

    @property
    def test(self) -> np.ndarray:
        return self.frames[:, self.cuts[1] :]

    @property
    def cuts(self) -> tuple[int, int]:
        """Numbers of the first videos for validation and for testing."""
        number = self.frames.shape[1]
        return number * 8 // 10, number * 9 // 10

    def draw(self, seed: int, length: int, batch: int, step: int) -> np.ndarray:
        """Returns the batch of a training step [length, batch, height, width]: parts of random videos."""
        rng = np.random.default_rng((seed, step))
        drawn = rng.integers(self.cuts[0], size=batch)
        starts = rng.integers(len(self.frames) - length + 1, size=batch)
        found = self.frames[starts + np.arange(length)[:, None], drawn]
        return found if found.dtype == np.uint8 else as_floats(found)

    def __str__(self) -> str:
        time, number, height, width = self.frames.shape
        first, last = self.cuts
        parts = f"{first:,} to train, {last - first:,} to validate, {number - last:,} to test"
        doubt = f", if the axes are {AXES}" * (time > number)  # they may be swapped
        return f"{self.name}: videos {parts}; {time:,} frames of {height}x{width}{doubt}; sha256 {self.digest[:12]}"


def open_array(path: Path) -> np.ndarray:
    """Opens a .npy file without reading its array, or reads the only array of a .npz file."""
    try:
        opened: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(opened, np.ndarray):
            return opened
        with opened:
            if len(opened.files) != 1:
                names = ", ".join(opened.files) or "none"
                raise BadInputError(f"{path} must hold one array {AXES}, but it holds {len(opened.files)}: {names}")
            if isinstance(only := opened[opened.files[0]], np.ndarray):
                return only
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        pass
    raise BadInputError(f"{path} is not a .npy or .npz file of numbers, or it is damaged")


def as_floats(frames: Any) -> Any:
    """Converts frames to float32, from 0 to 1."""
    return frames.astype(np.float32) / white(frames)


def white(frames: Any) -> int:
    return 255 if frames.dtype == np.uint8 else 1
