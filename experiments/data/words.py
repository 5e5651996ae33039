"""Texts as words: the splits of a corpus, its vocabulary, and the best n-gram."""

from __future__ import annotations

import hashlib
import platform
import sysconfig
import tokenize
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from support.errors import BadInputError
from support.files import decode_utf8

from data.fields import fields
from data.ngrams import kneser_ney
from data.parts import IntegersInFile, checksum, parts_of

END, UNKNOWN = "<eos>", "<unk>"  # the end of a line; any word that the vocabulary lacks
SPLITS = ("train", "valid", "test")
LENGTH = 300_000  # words of the standard library, to the end of a module
COUNTED = 2_000_000  # largest number of different words whose occurrences are counted at the same time
NGRAM_WORDS = 2_000_000  # largest number of training words that the n-gram counts


@dataclass(frozen=True)
class Corpus:
    """A text as words in three splits, each an array of indices into the vocabulary. 0 is the end of a line."""

    name: str
    vocabulary: tuple[str, ...]
    train: np.ndarray | IntegersInFile  # [words]
    valid: np.ndarray
    test: np.ndarray
    digest: str  # SHA-256 of the vocabulary and the splits

    @staticmethod
    def of(folder: Path | None, size: int) -> Corpus:
        """Reads train.txt, valid.txt and test.txt in the format of the Penn Treebank. train.txt may be of any size.

        Words are separated by blanks, and the end of a line is a word too.

        Args:
          folder: The folder of the files. None means the source of the running Python's standard library.
          size: Size of the vocabulary, with the end of a line and the unknown word, which replaces rarer words.
        """
        if folder is None:
            name = f"Python {platform.python_version()}'s standard library"
            return Corpus.from_splits(name, standard_library(), size)
        train, valid, test = (WordFile.of(folder / f"{split}.txt") for split in SPLITS)
        vocabulary = vocabulary_of(train.counts, size)
        splits = [split.indices_in(vocabulary) for split in (train, valid, test)]
        digests = [split.digest for split in (train, valid, test)]
        return Corpus(folder.name, vocabulary, splits[0], splits[1][:], splits[2][:], digest_of(vocabulary, digests))

    @staticmethod
    def from_splits(name: str, splits: list[list[str]], size: int) -> Corpus:
        """Makes a corpus of words in memory."""
        vocabulary = vocabulary_of(Counter(splits[0]), size)
        number = {word: n for n, word in enumerate(vocabulary)}
        unknown = len(vocabulary) - 1
        train, valid, test = (np.array([number.get(word, unknown) for word in split], np.int32) for split in splits)
        digests = [hashlib.sha256(split.tobytes()).hexdigest() for split in (train, valid, test)]
        return Corpus(name, vocabulary, train, valid, test, digest_of(vocabulary, digests))

    def __str__(self) -> str:
        sizes = " / ".join(f"{len(ids):,}" for ids in (self.train, self.valid, self.test))
        unknown = np.mean(self.test == len(self.vocabulary) - 1)
        known = f"vocabulary of {len(self.vocabulary):,}, {unknown:.1%} of the test unknown"
        return f"{self.name}: {sizes} words for training / validation / test, {known}; sha256 {self.digest[:12]}"


def vocabulary_of(counts: Counter[str], size: int) -> tuple[str, ...]:
    frequent = [word for word, _ in counts.most_common() if word not in (END, UNKNOWN)][: size - 2]
    return (END, *frequent, UNKNOWN)


def digest_of(vocabulary: tuple[str, ...], digests: list[str]) -> str:
    return hashlib.sha256(" ".join((*vocabulary, *digests)).encode()).hexdigest()


@dataclass(frozen=True)
class WordFile:
    """A file of words of any size, with an index of its parts; see `IntegersInFile`."""

    path: Path
    starts: Sequence[int]
    indices: Sequence[int]
    checksums: Sequence[int]
    counts: Counter[str]  # number of occurrences of each word
    digest: str

    @staticmethod
    def of(path: Path) -> WordFile:
        """Reads a file once, part by part.

        Whenever more than `COUNTED` different words have been counted, the counts of the rarer ones are dropped.
        """
        digest, counts = hashlib.sha256(), Counter[str]()
        starts, indices, checksums = array("q", [0]), array("q", [0]), array("I")
        part = b""
        for position, part in parts_of(path, whole_words):
            digest.update(part)
            words = words_in(decode_utf8(part, path, position))
            counts.update(words)
            if len(counts) > COUNTED:
                counts = Counter(dict(counts.most_common(COUNTED // 2)))
            checksums.append(checksum(part))
            starts.append(position + len(part))
            indices.append(indices[-1] + len(words))
        if not counts.keys() - {END}:
            raise BadInputError(f"{path} has no words")
        if part[-1:] not in b"\r\n":  # the last line has an end, too
            indices[-1] += 1
        return WordFile(path, starts, indices, checksums, counts, digest.hexdigest())

    def indices_in(self, vocabulary: tuple[str, ...]) -> IntegersInFile:
        """Returns the words as indices into a vocabulary."""
        number = {word: n for n, word in enumerate(vocabulary)}
        unknown = len(vocabulary) - 1

        def decode(part: bytes) -> np.ndarray:
            words = [*words_in(part.decode("utf-8")), END]  # the end of the last line may be missing in the file
            return np.array([number.get(word, unknown) for word in words], np.int32)

        return IntegersInFile(self.path, self.starts, self.indices, self.checksums, decode, np.int32)


def whole_words(part: bytes) -> int:
    """Returns the number of bytes before a last word that may be incomplete."""
    return 1 + max(part.rfind(b"\n"), part.rfind(b" "), part.rfind(b"\t"))


def words_in(characters: str) -> list[str]:
    """Returns the words of a text, with `END` for the end of each line."""
    lines = characters.replace("\r\n", "\n").replace("\r", "\n").replace("\n", f" {END} ")
    return fields(lines)


def standard_library() -> list[list[str]]:
    """Reads about `LENGTH` tokens of the top-level modules. One module in ten is for validation, one for the test."""
    splits: list[list[str]] = [[], [], []]
    for n, path in enumerate(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))):
        if sum(map(len, splits)) >= LENGTH:
            break
        splits[{8: 1, 9: 2}.get(n % 10, 0)] += tokens(path)
    return splits


def tokens(path: Path) -> list[str]:
    """Returns the tokens of a module without comments. All strings are the same token, and so are all numbers."""
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


def best_ngram(corpus: Corpus, orders: int = 6) -> tuple[int, float, float]:
    """Returns the order of the best n-gram on the validation text, and its mean losses there and on the test text.

    The n-grams count the last `NGRAM_WORDS` words of the training text.
    """
    train = corpus.train[max(0, len(corpus.train) - NGRAM_WORDS) :]
    text = np.concatenate([train, corpus.valid, corpus.test])
    losses = -kneser_ney(text, len(train), len(corpus.vocabulary), orders)
    valid, test = (part.mean(1) for part in np.split(losses, [len(corpus.valid)], axis=1))
    best = int(valid.argmin())
    return best + 1, float(valid[best]), float(test[best])
