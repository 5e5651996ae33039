"""Texts as symbols, which are indices into an alphabet."""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from support.errors import BadInputError
from support.files import decode_utf8

from data.parts import IntegersInFile, checksum, parts_of

LENGTH = 4_000_000  # characters of the standard library to train on, too many to memorize in a few minutes
SHORTER = 1_115_394  # characters of it for other purposes, as many as in tinyshakespeare
VALIDATED = 150_000  # largest number of characters for validation


@dataclass(frozen=True)
class Text:
    """A text as symbols, which are indices into its sorted alphabet.

    The last tenth of the text, but at most `VALIDATED` characters, is for validation.
    """

    name: str
    alphabet: str
    symbols: np.ndarray | IntegersInFile  # [characters]
    digest: str  # SHA-256 of the UTF-8 bytes

    @staticmethod
    def of(path: Path | None, length: int = LENGTH) -> Text:
        """Opens a UTF-8 file of any size. None means `length` characters of the running Python's standard library.

        The file is read once, to find its alphabet and its hash. Symbols are read again when they are used.
        """
        if path is None:
            return Text.from_string(f"Python {platform.python_version()}'s standard library", standard_library(length))
        digest = hashlib.sha256()
        ascii_bytes, occurs = b"", np.zeros(0x110000, bool)  # the characters that occur in the text
        starts, indices, checksums = array("q", [0]), array("q", [0]), array("I")
        for position, part in parts_of(path, whole_characters):
            digest.update(part)
            if part.isascii():
                ascii_bytes += bytes({*part.translate(None, ascii_bytes)})
                number = len(part)
            else:
                points = code_points(decode_utf8(part, path, position))
                occurs[points] = True
                number = len(points)
            checksums.append(checksum(part))
            starts.append(position + len(part))
            indices.append(indices[-1] + number)
        if not indices[-1]:
            raise BadInputError(f"{path} is empty")
        occurs[[*ascii_bytes]] = True
        alphabet = np.flatnonzero(occurs)
        dtype = np.min_scalar_type(len(alphabet))
        symbol_of = np.zeros(alphabet[-1] + 1, dtype)
        symbol_of[alphabet] = np.arange(len(alphabet))

        def decode(part: bytes) -> np.ndarray:
            return symbol_of[np.frombuffer(part, np.uint8) if part.isascii() else code_points(part.decode())]

        symbols = IntegersInFile(path, starts, indices, checksums, decode, dtype)
        return Text(path.name, "".join(map(chr, alphabet)), symbols, digest.hexdigest())

    @staticmethod
    def from_string(name: str, characters: str) -> Text:
        alphabet, symbols = np.unique(code_points(characters), return_inverse=True)
        digest = hashlib.sha256(characters.encode()).hexdigest()
        smallest = np.min_scalar_type(len(alphabet))
        return Text(name, "".join(map(chr, alphabet)), symbols.astype(smallest), digest)

    @property
    def num_train(self) -> int:
        """Number of characters for training, from the beginning of the text."""
        return max(len(self.symbols) * 9 // 10, len(self.symbols) - VALIDATED)

    def __str__(self) -> str:
        size = f"{len(self.symbols):,} characters, {len(self.alphabet)} symbols"
        valid = len(self.symbols) - self.num_train
        return f"{self.name}: {size}, the last {valid:,} for validation; sha256 {self.digest[:12]}"


def code_points(characters: str) -> np.ndarray:
    return np.frombuffer(characters.encode("utf-32-le"), np.uint32)


def whole_characters(part: bytes) -> int:
    """Returns the number of bytes of UTF-8 before a last character that may be incomplete."""
    return next((len(part) - n for n in range(1, min(4, len(part)) + 1) if part[-n] & 0xC0 == 0xC0), len(part))


def encode(characters: str, alphabet: str) -> np.ndarray:
    if unknown := sorted(set(characters) - set(alphabet)):
        shown = ", ".join(map(repr, unknown[:10])) + ", ..." * (len(unknown) > 10)
        raise BadInputError(f"the prompt has characters that the training text lacks: {shown}")
    return np.array([alphabet.index(c) for c in characters], np.int32)


def decode(symbols: np.ndarray, alphabet: str) -> str:
    return "".join(alphabet[s] for s in np.asarray(symbols).tolist())


def line_end(alphabet: str) -> str:
    """Returns the character that ends lines, or the first one of the alphabet if it has none."""
    return "\n" if "\n" in alphabet else alphabet[0]


def standard_library(length: int = SHORTER) -> str:
    """Returns the first characters of the standard library: its top-level modules in ASCII, sorted by name."""
    files = (path.read_bytes() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))
    return b"".join(file for file in files if file.isascii()).decode().replace("\r\n", "\n")[:length]
