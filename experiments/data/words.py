"""Texts as words: the splits of a corpus, windows of it, and n-grams to compare with."""

from __future__ import annotations

import hashlib
import platform
import sysconfig
import tokenize
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import BadInputError

END, UNKNOWN = "<eos>", "<unk>"  # of a line; for every word that the vocabulary has not
SPLITS = ("train", "valid", "test")
LENGTH = 300_000  # words of the standard library, at most


@dataclass(frozen=True)
class Corpus:
    """A text as words in three splits, each an array of integers into the vocabulary, in which a line's end is 0."""

    name: str
    vocabulary: tuple[str, ...]
    train: np.ndarray  # [words]
    valid: np.ndarray
    test: np.ndarray

    @staticmethod
    def of(folder: Path | None, size: int) -> Corpus:
        """Reads train.txt, valid.txt and test.txt as the Penn Treebank has them: words apart by blanks, a line's end is
        a word too. None: the source of the running Python's standard library, for which there is nothing to download.

        Args:
          size: number of words to keep, the most frequent; the others become one word, unknown.
        """
        if folder is None:
            name, splits = f"Python {platform.python_version()}'s standard library", standard_library()
        else:
            name, splits = folder.name, [read(folder / f"{split}.txt") for split in SPLITS]
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


def read(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is not UTF-8 text: byte {error.start} is no character's") from None
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from None
    lines = lines[:-1] if not lines[-1] else lines
    if not any(line.split() for line in lines):
        raise BadInputError(f"{path} has no words")
    return [word for line in lines for word in (*line.split(), END)]


def standard_library() -> list[list[str]]:
    """The top-level modules' tokens, as many as `LENGTH`; of each ten files one is for validation, one for the test."""
    splits: list[list[str]] = [[], [], []]
    for n, path in enumerate(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))):
        if sum(map(len, splits)) >= LENGTH:
            break
        splits[{8: 1, 9: 2}.get(n % 10, 0)] += tokens(path)
    return splits


def tokens(path: Path) -> list[str]:
    """A module's tokens without its comments; strings and numbers are all one."""
    words = {tokenize.NEWLINE: END, tokenize.INDENT: "<indent>", tokenize.DEDENT: "<dedent>"}
    words |= {tokenize.STRING: "<string>", tokenize.NUMBER: "<number>"}
    with tokenize.open(path) as file:
        found = tokenize.generate_tokens(file.readline)
        kept = (tokenize.NAME, tokenize.OP, *words)
        return [words.get(token.type, token.string) for token in found if token.type in kept]


def windows_of(words: np.ndarray, batch: int, length: int) -> np.ndarray:
    """[windows, length + 1, batch]: each window begins with the last word of the one before."""
    number = (len(words) // batch - 1) // length
    if number < 1:
        needed = f"one batch of windows takes {batch} * {length + 1}"
        raise BadInputError(f"the text is too short: training has {len(words):,} words, but {needed}")
    streams = words[: len(words) // batch * batch].reshape(batch, -1).T
    starts = np.arange(number)[:, None] * length
    return streams[starts + np.arange(length + 1)]


def kneser_ney(text: np.ndarray, num_train: int, num_words: int, order: int) -> np.ndarray:
    r"""Log probabilities, in n-grams of order 1 to `order`, of a text's words after the first `num_train`.

    .. math:: P_n(w \mid h) = \frac{\max(c(h w) - D, 0) + D\, T(h) P_{n-1}(w \mid h')}{\sum_v c(h v)}

    :math:`h` is the context of :math:`n - 1` words, :math:`h'` the same without its first, :math:`T(h)` the number of
    different words seen after :math:`h`. :math:`c` counts occurrences at the highest order and, at all lower ones, the
    different words seen before :math:`h w`. :math:`D = n_1 / (n_1 + 2 n_2)`, of each order's grams that are counted
    once and twice; :math:`P_0` is uniform.

    The first `num_train` words are counted, the rest are predicted.

    Returns:
      [order, words].

    Reference: S. Chen, J. Goodman, "An empirical study of smoothing techniques for language modeling", 1998.
    """
    text = text.astype(np.int64)
    context = np.zeros(len(text), np.int64)  # a number for what stands before each word
    grams, contexts, firsts = [], [], []
    for _ in range(order + 1):
        # Grams are numbered anew at each order, so that no product of numbers outgrows an integer.
        _, first, gram = np.unique(context * num_words + text, return_index=True, return_inverse=True)
        grams.append(gram)
        contexts.append(context)
        firsts.append(first)
        context = np.concatenate([[len(first)], gram[:-1]])  # before the first word stands nothing

    def interpolated(n: int, count: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """The probabilities of order n + 1, of its grams' counts and the probabilities of order n."""
        discount = (count == 1).sum() / max(1, (count == 1).sum() + 2 * (count == 2).sum())
        of = contexts[n][firsts[n]]  # each gram's context
        total = np.bincount(of, count, contexts[n].max() + 1)[contexts[n][num_train:]]
        kinds = np.bincount(of, count > 0, contexts[n].max() + 1)[contexts[n][num_train:]]
        seen = count[grams[n][num_train:]]
        shared = np.maximum(seen - discount, 0) + discount * kinds * lower
        return np.where(total > 0, shared / np.maximum(total, 1), lower)

    lower, logs = np.full(len(text) - num_train, 1 / num_words), []
    for n in range(order):
        occurrences = np.bincount(grams[n][:num_train], minlength=len(firsts[n]))
        logs.append(np.log(interpolated(n, occurrences, lower)))
        longer = firsts[n + 1][firsts[n + 1] < num_train]  # where each longer gram stands first
        before = np.bincount(grams[n][longer], minlength=len(firsts[n]))
        lower = interpolated(n, before, lower)
    return np.array(logs)


def best_ngram(corpus: Corpus, orders: int = 6) -> tuple[int, float, float]:
    """The order of the best n-gram on the validation text, and its mean losses there and on the test."""
    text = np.concatenate([corpus.train, corpus.valid, corpus.test])
    losses = -kneser_ney(text, len(corpus.train), len(corpus.vocabulary), orders)
    valid, test = (part.mean(1) for part in np.split(losses, [len(corpus.valid)], axis=1))
    best = int(valid.argmin())
    return best + 1, float(valid[best]), float(test[best])
