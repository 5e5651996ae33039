"""Sequences with a label each: images of digits, names of languages; and the baselines for them."""

from __future__ import annotations

import hashlib
import itertools
import unicodedata
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from support.errors import BadInputError
from support.files import read_lines

LONGEST_NAME = 60
split: Any = train_test_split


class LabeledSequences(NamedTuple):
    """Sequences with one label each, or with one label per step."""

    name: str
    classes: Sequence[str]
    alphabet: str  # of symbols, plus one for characters that training lacks; empty: inputs are numbers
    xs: np.ndarray  # [time, sequences, features], or symbols [time, sequences]
    lengths: np.ndarray  # [sequences]
    labels: np.ndarray  # [sequences] or [time, sequences]
    train: np.ndarray  # indices of the sequences for training
    valid: np.ndarray  # for validation
    test: np.ndarray  # for testing

    @property
    def num_features(self) -> int:
        """Number of features of a step, or of symbols."""
        return len(self.alphabet) + 1 if self.alphabet else self.xs.shape[-1]

    @property
    def steps(self) -> np.ndarray:
        """Booleans [time, sequences], False in the padding."""
        return np.arange(len(self.xs))[:, None] < self.lengths

    def string(self, sequence: int) -> str:
        return "".join((self.alphabet + "\ufffd")[symbol] for symbol in self.xs[: self.lengths[sequence], sequence])

    @property
    def digest(self) -> str:
        return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in self[3:])).hexdigest()

    def __str__(self) -> str:
        parts = f"{len(self.train):,} to train, {len(self.valid):,} to validate, {len(self.test):,} to test"
        return f"{self.name}: sequences {parts}; {len(self.classes)} classes; sha256 {self.digest[:12]}"


def padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    return np.array(list(itertools.zip_longest(*rows, fillvalue=0)), np.int32)  # [time, sequences]


def encoded(texts: Sequence[str], train: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    """Returns the alphabet of the training texts, all texts as symbols [time, texts], and their lengths."""
    alphabet = "".join(sorted(set("".join(texts[i] for i in train))))  # type: ignore
    symbol = {character: number for number, character in enumerate(alphabet)}
    rows = [[symbol.get(character, len(alphabet)) for character in text] for text in texts]
    return alphabet, padded(rows), np.array([len(row) for row in rows], np.int32)


def digits() -> LabeledSequences:
    """Loads scikit-learn's images, whose rows are steps. A half is for training, and a seventh of it to validate."""
    loaded: Any = load_digits(return_X_y=True)
    images, labels = loaded
    half = len(images) // 2
    train, valid = split(np.arange(half), test_size=1 / 7, random_state=0, stratify=labels[:half])
    xs = (images.reshape(-1, 8, 8) / 16).astype(np.float32).swapaxes(0, 1)
    lengths = np.full(len(images), 8, np.int32)
    test = np.arange(half, len(images))
    return LabeledSequences("digits", "0123456789", "", xs, lengths, labels.astype(np.int32), train, valid, test)


def names(folder: Path) -> LabeledSequences:
    """Reads <language>.txt per language. A fifth of the names is for testing, a tenth of the rest for validation."""
    paths = sorted(folder.glob("*.txt"))
    if len(paths) < 2:
        raise BadInputError(f"{folder} is not a folder of languages: it has {len(paths)} files <language>.txt")
    found: list[tuple[str, int]] = []
    for label, path in enumerate(paths):
        distinct = sorted({unicodedata.normalize("NFC", line.strip()) for line in read_lines(path)} - {""})
        if len(distinct) < 10:
            raise BadInputError(f"{path} has {len(distinct)} different names, but a language needs at least 10")
        if len(longest := max(distinct, key=len)) > LONGEST_NAME:
            raise BadInputError(f"{path} has more than one name a line: {longest[:LONGEST_NAME]}...")
        found += [(name, label) for name in distinct]
    labels = np.array([label for _, label in found], np.int32)
    rest, test = split(np.arange(len(found)), test_size=0.2, random_state=0, stratify=labels)
    train, valid = split(rest, test_size=0.1, random_state=0, stratify=labels[rest])
    coded = encoded([name for name, _ in found], train)
    return LabeledSequences("names", [path.stem for path in paths], *coded, labels, train, valid, test)


def sequence_baselines(data: LabeledSequences) -> dict[str, float]:
    """Returns accuracies of other methods on the test sequences. They learn from the validation sequences too."""
    rest = np.concatenate([data.train, data.valid])
    if data.alphabet:
        inputs = np.array([data.string(n) for n in range(len(data.labels))])
        grams = CountVectorizer(analyzer="char_wb", ngram_range=(1, 3), lowercase=False)
        others = {"logistic regression, 1-3-grams": make_pipeline(grams, LogisticRegression(max_iter=1000))}
    else:
        inputs = 16 * data.xs.swapaxes(0, 1).reshape(len(data.labels), -1)
        machine: Any = SVC
        others = {"SVC": machine(gamma=0.001), "logistic regression": LogisticRegression(max_iter=10_000)}
    right = {
        name: float(other.fit(inputs[rest], data.labels[rest]).score(inputs[data.test], data.labels[data.test]))
        for name, other in others.items()
    }
    return right | majority(data.classes, data.labels[rest], data.labels[data.test])


def majority(classes: Sequence[str], known: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Returns the accuracy of always answering with the most frequent known class."""
    most = int(np.bincount(known).argmax())
    return {f"always {classes[most]}": float((wanted == most).mean())}


def warp(key: Array, images: Array) -> Array:
    """Rotates, slants, scales and shifts each of the images [rows, batch, columns] a little, at random."""
    k_turn, k_move = jax.random.split(key)
    batch = images.shape[1]
    middle = 3.5
    turn = jnp.eye(2) + 0.12 * jax.random.normal(k_turn, (batch, 2, 2))
    move = 0.5 * jax.random.normal(k_move, (batch, 2, 1, 1))
    grid = jnp.indices((8, 8)) - middle
    places = jnp.einsum("bij,jrc->birc", turn, grid) + middle + move
    return jax.vmap(partial(jax.scipy.ndimage.map_coordinates, order=1), (1, 0), 1)(images, places)  # type: ignore
