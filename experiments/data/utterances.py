"""Utterances: features of sound, and the symbols that were said; in three splits, and as arrays."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from support.errors import BadInputError

from data.spectrograms import HOP_SECONDS, log_mel, normalized, stacked


class Segment(NamedTuple):
    """A symbol in an utterance, from its beginning to its end in seconds. The symbol of a pause is empty."""

    symbol: str
    start: float
    end: float


class Utterance(NamedTuple):
    """What was said, and its sound.

    Attributes:
      name: The name or the file.
      symbols: What was said.
      features: Normalized log-mel features [frames, bands].
      sound: A function that returns the samples and their rate.
      segments: Where the symbols are, if this is known.
    """

    name: str
    symbols: list[str]
    features: np.ndarray
    sound: Callable[[], tuple[np.ndarray, int]]
    segments: tuple[Segment, ...] = ()

    @staticmethod
    def of(
        name: str,
        symbols: list[str],
        sound: Callable[[], tuple[np.ndarray, int]],
        segments: tuple[Segment, ...] = (),
    ) -> Utterance:
        return Utterance(name, symbols, normalized(log_mel(*sound())), sound, segments)

    @property
    def needed(self) -> int:
        """Number of steps of the shortest path to these symbols: between two equal ones is a blank."""
        return len(self.symbols) + sum(a == b for a, b in itertools.pairwise(self.symbols))


class Utterances(NamedTuple):
    """Utterances in three splits, with different speakers if these are known."""

    name: str
    speakers: tuple[int, int, int]  # in each split; 0: unknown
    train: list[Utterance]
    valid: list[Utterance]
    test: list[Utterance]

    @property
    def vocabulary(self) -> list[str]:
        """The symbols of the training utterances. Their labels count from 1, because 0 is the blank."""
        return sorted({symbol for utterance in self.train for symbol in utterance.symbols})

    @property
    def digest(self) -> str:
        found = hashlib.sha256()
        for split in (self.train, self.valid, self.test):
            for utterance in split:
                found.update(repr((utterance.name, utterance.symbols, utterance.features.shape)).encode())
                found.update(utterance.features.tobytes())
        return found.hexdigest()

    def __str__(self) -> str:
        whats = ("to train", "to validate", "to test")
        splits = zip((self.train, self.valid, self.test), self.speakers, whats, strict=True)
        parts = [
            f"{len(split):,} utterances{f' of {speakers} speakers' if speakers else ''} {what}"
            for split, speakers, what in splits
        ]
        minutes = sum(len(u.features) for u in itertools.chain(*self[2:])) * HOP_SECONDS / 60
        symbols = f"{len(self.vocabulary)} symbols"
        return f"{self.name}: {', '.join(parts)}; {minutes:.1f} minutes, {symbols}; sha256 {self.digest[:12]}"

    def num_features(self, stack: int) -> int:
        """Number of features of a step that joins some frames."""
        return stack * self.train[0].features.shape[1]

    def check_steps(self, stack: int) -> None:
        """Raises `BadInputError` if an utterance has too few steps for its symbols."""
        for utterance in itertools.chain(self.train, self.valid, self.test):
            steps = -(-len(utterance.features) // stack)
            if steps < utterance.needed:
                length = f"{steps} steps of {1000 * HOP_SECONDS * stack:.0f} ms"
                text = f"{len(utterance.symbols)} symbols, which need at least {utterance.needed}"
                advice = "correct the transcript, remove the recording" + ", or lower --stack" * (stack > 1)
                raise BadInputError(f"{utterance.name} has {length}, but its transcript has {text}: {advice}")


class Batch(NamedTuple):
    """Utterances as padded arrays."""

    xs: Any  # [time, utterances, features]
    lengths: Any  # [utterances]
    labels: Any  # [utterances, longest]
    sizes: Any  # [utterances], numbers of labels


def labels_of(utterance: Utterance, vocabulary: list[str]) -> list[int]:
    """Returns the labels of an utterance, from 1. Symbols that are not in the vocabulary have none."""
    label_of = {symbol: label for label, symbol in enumerate(vocabulary, 1)}
    return [label_of[symbol] for symbol in utterance.symbols if symbol in label_of]


def as_arrays(utterances: Sequence[Utterance], vocabulary: list[str], stack: int) -> Batch:
    """Returns padded arrays, with steps of some frames."""
    xs = [stacked(utterance.features, stack) for utterance in utterances]
    labels = [labels_of(utterance, vocabulary) for utterance in utterances]
    lengths, sizes = (np.array([*map(len, rows)], np.int32) for rows in (xs, labels))
    batch = Batch(
        np.zeros((lengths.max(), len(xs), xs[0].shape[1]), np.float32),
        lengths,
        np.zeros((len(xs), max(1, sizes.max())), np.int32),
        sizes,
    )
    for n in range(len(xs)):
        batch.xs[: lengths[n], n] = xs[n]
        batch.labels[n, : sizes[n]] = labels[n]
    return batch
