"""Text as symbols: integers into an alphabet."""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from support.errors import BadInputError
from support.files import read_text

LENGTH = 4_000_000  # characters of the standard library to train on: too many to memorize in a few minutes
SHORTER = 1_115_394  # characters of it for other purposes: as many as tinyshakespeare has
VALIDATED = 150_000  # characters for validation, at most


@dataclass(frozen=True)
class Text:
    """A text as symbols: integers into its sorted alphabet.

    The last tenth of it, but at most `VALIDATED` characters, is for validation.
    """

    name: str
    alphabet: str
    symbols: np.ndarray  # [characters], integers
    digest: str  # of the UTF-8 bytes

    @staticmethod
    def of(path: Path | None, length: int = LENGTH) -> Text:
        """Reads a UTF-8 file. None: `length` characters of the running Python's standard library."""
        if path is None:
            return Text.from_string(f"Python {platform.python_version()}'s standard library", standard_library(length))
        characters = read_text(path)
        if not characters:
            raise BadInputError(f"{path} is empty")
        return Text.from_string(path.name, characters)

    @staticmethod
    def from_string(name: str, characters: str) -> Text:
        points = np.frombuffer(characters.encode("utf-32-le"), np.uint32)
        alphabet, symbols = np.unique(points, return_inverse=True)
        digest = hashlib.sha256(characters.encode()).hexdigest()
        smallest = np.min_scalar_type(len(alphabet))
        return Text(name, "".join(map(chr, alphabet)), symbols.astype(smallest), digest)

    @property
    def num_train(self) -> int:
        """How many characters at the beginning are for training."""
        return max(len(self.symbols) * 9 // 10, len(self.symbols) - VALIDATED)

    def __str__(self) -> str:
        size = f"{len(self.symbols):,} characters, {len(self.alphabet)} symbols"
        valid = len(self.symbols) - self.num_train
        return f"{self.name}: {size}, the last {valid:,} for validation; sha256 {self.digest[:12]}"


def encode(characters: str, alphabet: str) -> np.ndarray:
    if unknown := sorted(set(characters) - set(alphabet)):
        raise BadInputError(f"the prompt has characters that the training text lacks: {', '.join(map(repr, unknown))}")
    return np.array([alphabet.index(c) for c in characters], np.int32)


def decode(symbols: np.ndarray, alphabet: str) -> str:
    return "".join(alphabet[s] for s in np.asarray(symbols).tolist())


def line_end(alphabet: str) -> str:
    """Returns the character that ends lines; the first symbol if a text has no lines."""
    return "\n" if "\n" in alphabet else alphabet[0]


def standard_library(length: int = SHORTER) -> str:
    """Returns the beginning of the standard library's top-level modules that are in ASCII, sorted by name."""
    files = (path.read_bytes() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))
    return b"".join(file for file in files if file.isascii()).decode().replace("\r\n", "\n")[:length]
