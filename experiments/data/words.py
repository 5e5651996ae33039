"""Texts as words: the splits of a corpus, its windows, and the best n-gram."""

from __future__ import annotations

import hashlib
import platform
import sysconfig
import tokenize
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from support.errors import BadInputError
from support.files import read_lines

from data.fields import fields
from data.ngrams import kneser_ney

END, UNKNOWN = "<eos>", "<unk>"  # the end of a line; any word that the vocabulary lacks
SPLITS = ("train", "valid", "test")
LENGTH = 300_000  # words of the standard library, at most


@dataclass(frozen=True)
class Corpus:
    """A text as words in three splits, each an array of integers into the vocabulary; 0 is the end of a line."""

    name: str
    vocabulary: tuple[str, ...]
    train: np.ndarray  # [words]
    valid: np.ndarray
    test: np.ndarray

    @staticmethod
    def of(folder: Path | None, size: int) -> Corpus:
        """Reads train.txt, valid.txt and test.txt in the format of the Penn Treebank.

        Words are separated by blanks, and the end of a line is a word too.

        Args:
          folder: The folder of the files. None means the source of the running Python's standard library.
          size: Number of words to keep, the most frequent ones; all others become one unknown word.
        """
        if folder is None:
            name, splits = f"Python {platform.python_version()}'s standard library", standard_library()
        else:
            name, splits = folder.name, [read_words(folder / f"{split}.txt") for split in SPLITS]
        frequent = [word for word, _ in Counter(splits[0]).most_common() if word not in (END, UNKNOWN)][: size - 2]
        vocabulary = (END, *frequent, UNKNOWN)
        number = {word: n for n, word in enumerate(vocabulary)}
        unknown = number[UNKNOWN]
        ids = (np.array([number.get(word, unknown) for word in split], np.int32) for split in splits)
        return Corpus(name, vocabulary, *ids)

    @property
    def digest(self) -> str:
        text = " ".join(self.vocabulary).encode()
        return hashlib.sha256(text + b"".join(ids.tobytes() for ids in (self.train, self.valid, self.test))).hexdigest()

    def __str__(self) -> str:
        sizes = " / ".join(f"{len(ids):,}" for ids in (self.train, self.valid, self.test))
        unknown = np.mean(self.test == len(self.vocabulary) - 1)
        known = f"vocabulary of {len(self.vocabulary):,}, {unknown:.1%} of the test unknown"
        return f"{self.name}: {sizes} words for training / validation / test, {known}; sha256 {self.digest[:12]}"


def read_words(path: Path) -> list[str]:
    lines = read_lines(path)
    lines = lines[:-1] if not lines[-1] else lines
    if not any(map(fields, lines)):
        raise BadInputError(f"{path} has no words")
    return [word for line in lines for word in (*fields(line), END)]


def standard_library() -> list[list[str]]:
    """Reads at most `LENGTH` tokens of the top-level modules. One file in ten validates, another one tests."""
    splits: list[list[str]] = [[], [], []]
    for n, path in enumerate(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))):
        if sum(map(len, splits)) >= LENGTH:
            break
        splits[{8: 1, 9: 2}.get(n % 10, 0)] += tokens(path)
    return splits


def tokens(path: Path) -> list[str]:
    """Returns the tokens of a module without its comments. All strings are one token, and so are all numbers."""
    words = {
        tokenize.NEWLINE: END,
        tokenize.INDENT: "<indent>",
        tokenize.DEDENT: "<dedent>",
        tokenize.STRING: "<string>",
        tokenize.NUMBER: "<number>",
    }
    kept = (tokenize.NAME, tokenize.OP, *words)
    with tokenize.open(path) as file:
        found = tokenize.generate_tokens(file.readline)
        return [words.get(token.type, token.string) for token in found if token.type in kept]


def windows_of(words: np.ndarray, batch: int, length: int) -> np.ndarray:
    """Returns windows [windows, length + 1, batch]; each begins with the last word of the one before."""
    number = (len(words) // batch - 1) // length
    if number < 1:
        needed = f"one batch of windows takes {batch} * {length + 1}"
        raise BadInputError(f"the text is too short: training has {len(words):,} words, but {needed}")
    streams = words[: len(words) // batch * batch].reshape(batch, -1).T
    starts = np.arange(number)[:, None] * length
    return streams[starts + np.arange(length + 1)]


def best_ngram(corpus: Corpus, orders: int = 6) -> tuple[int, float, float]:
    """Returns the order of the best n-gram on the validation text, and its mean losses there and on the test text."""
    text = np.concatenate([corpus.train, corpus.valid, corpus.test])
    losses = -kneser_ney(text, len(corpus.train), len(corpus.vocabulary), orders)
    valid, test = (part.mean(1) for part in np.split(losses, [len(corpus.valid)], axis=1))
    best = int(valid.argmin())
    return best + 1, float(valid[best]), float(test[best])
