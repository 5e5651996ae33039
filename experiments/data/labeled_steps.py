"""Sequences with one label per step: Python source, proteins; and the baselines for them."""

from __future__ import annotations

import io
import keyword
import platform
import tokenize
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from support.errors import BadInputError
from support.files import read_lines

from data.fields import fields
from data.labeled_sequences import LabeledSequences, encoded, majority, padded
from data.text import standard_library

PIECE = 128  # characters of a sequence of source
WINDOW = 13  # steps that logistic regression reads around the one it labels, as Qian and Sejnowski's network did
MOST = 50_000  # steps that it is fitted to, at most


def python_source() -> LabeledSequences:
    """Returns the running Python's standard library in pieces, each character labeled with the class of its token."""
    classes = ("whitespace", "keyword", "name", "number", "string", "comment", "operator")
    text = standard_library()
    labels = token_classes(text, classes)
    number = len(labels) // PIECE
    texts = [text[PIECE * n : PIECE * (n + 1)] for n in range(number)]
    train, valid, test = np.split(np.arange(number), [number * 8 // 10, number * 9 // 10])
    per_step = np.reshape(labels[: number * PIECE], (number, PIECE)).T
    name = f"Python {platform.python_version()}'s standard library"
    return LabeledSequences(name, classes, *encoded(texts, train), per_step, train, valid, test)


def token_classes(text: str, classes: Sequence[str]) -> np.ndarray:
    """Returns the class of each character, up to the first error in the text. Outside of tokens it is whitespace."""
    starts = np.cumsum([0] + [len(line) + 1 for line in text.split("\n")])
    labels = np.zeros(len(text), np.int32)
    end = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            kind = tokenize.tok_name[token.type].lower()
            if "string" in kind:  # f-strings have several kinds of tokens
                kind = "string"
            elif kind == "op":
                kind = "operator"
            elif kind == "name" and keyword.iskeyword(token.string):
                kind = "keyword"
            if kind in classes:
                start, end = (int(starts[row - 1]) + column for row, column in (token.start, token.end))
                labels[start:end] = classes.index(kind)
    except (tokenize.TokenError, SyntaxError):
        return labels[:end]
    return labels


def proteins(folder: Path) -> LabeledSequences:
    """Reads proteins in the format of Qian and Sejnowski.

    Each line has a residue and its class; `<>` precedes a protein and `end` follows it. Proteins of *.train are for
    training, an eighth of them for validation; those of *.test are for testing.
    """
    parts: list[list[list[tuple[str, str]]]] = []
    for ending in ("train", "test"):
        if len(paths := list(folder.glob(f"*.{ending}"))) != 1:
            raise BadInputError(f"{folder} is not a folder of proteins: it has {len(paths)} files *.{ending}, not one")
        parts.append(read_proteins(paths[0]))
    pairs = parts[0] + parts[1]
    order = np.random.default_rng(0).permutation(len(parts[0]))
    valid, train = np.split(np.arange(len(parts[0]))[order], [len(order) // 8])
    coded = encoded(["".join(residue for residue, _ in protein) for protein in pairs], train)
    labels = padded([["_he".index(kind) for _, kind in protein] for protein in pairs])
    test = np.arange(len(parts[0]), len(pairs))
    return LabeledSequences(
        "proteins", ("coil", "helix", "sheet"), *coded, labels, np.sort(train), np.sort(valid), test
    )


def read_proteins(path: Path) -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for number, line in enumerate(read_lines(path), 1):
        parts = fields(line.split("#")[0])
        if parts == ["<>"]:
            found.append([])
        elif len(parts) == 2 and len(parts[0]) == 1 and parts[1] in ("_", "h", "e") and found:
            found[-1].append((parts[0], parts[1]))
        elif parts not in ([], ["end"], ["<end>"]):
            raise BadInputError(
                f"{path}, line {number}: {line.strip()[:40]!r} is not a residue with a class of _, h, e"
            )
    if len(found := [protein for protein in found if protein]) < 8:
        raise BadInputError(f"{path} has {len(found)} proteins, but at least 8 are needed")
    return found


def step_baselines(data: LabeledSequences) -> dict[str, float]:
    """Returns accuracies of other methods on the steps of the test sequences. They also learn from validation data."""
    rest = np.concatenate([data.train, data.valid])
    (seen, known), (unseen, wanted) = (
        (windows(data)[:, part][data.steps[:, part]], data.labels[:, part][data.steps[:, part]])
        for part in (rest, data.test)
    )
    some = np.random.default_rng(0).permutation(len(known))[:MOST]
    regression = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=1000))
    right = float(regression.fit(seen[some], known[some]).score(unseen, wanted))
    return {f"logistic regression, {WINDOW} steps": right} | majority(data.classes, known, wanted)


def windows(data: LabeledSequences) -> np.ndarray:
    """Returns the symbols around each step, [time, sequences, WINDOW]; outside of a sequence, one more symbol."""
    outside = data.num_features
    margin = WINDOW // 2
    inside = np.where(data.steps, data.xs, outside)
    around = np.pad(inside, ((margin, margin), (0, 0)), constant_values=outside)
    return np.stack([around[n : n + len(inside)] for n in range(WINDOW)], axis=-1)
