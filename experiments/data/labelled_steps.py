"""Sequences with a label for each step: Python source, proteins; and what others make of them."""

from __future__ import annotations

import io
import keyword
import platform
import tokenize
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import BadInputError
from labelled import Data, encoded, majority, padded, read_lines
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from text import standard_library

PIECE = 128  # characters of a sequence of source
WINDOW = 13  # steps that a logistic regression sees around the one it labels, as Qian and Sejnowski's network did
MOST = 50_000  # steps that it learns from


def python_source() -> Data:
    """The running Python's standard library, each character with the class of its token, cut into pieces."""
    classes = ("whitespace", "keyword", "name", "number", "string", "comment", "operator")
    text = standard_library()
    labels = token_classes(text, classes)
    number = len(labels) // PIECE
    texts = [text[PIECE * n : PIECE * (n + 1)] for n in range(number)]
    train, valid, test = np.split(np.arange(number), [number * 8 // 10, number * 9 // 10])
    per_step = np.reshape(labels[: number * PIECE], (number, PIECE)).T
    name = f"Python {platform.python_version()}'s standard library"
    return Data(name, classes, *encoded(texts, train), per_step, train, valid, test)


def token_classes(text: str, classes: Sequence[str]) -> np.ndarray:
    """The class of each character, up to where the text ceases to be Python. What is no token is whitespace."""
    starts = np.cumsum([0] + [len(line) + 1 for line in text.split("\n")])
    labels, end = np.zeros(len(text), np.int32), 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            kind = tokenize.tok_name[token.type].lower()
            kind = "string" if "string" in kind else "operator" if kind == "op" else kind  # f-strings have parts
            kind = "keyword" if kind == "name" and keyword.iskeyword(token.string) else kind
            if kind in classes:
                start, end = (int(starts[row - 1]) + column for row, column in (token.start, token.end))
                labels[start:end] = classes.index(kind)
    except (tokenize.TokenError, SyntaxError):
        return labels[:end]
    return labels


def proteins(folder: Path) -> Data:
    """The protein of Qian and Sejnowski: a residue and its class a line, `<>` before a protein, `end` after it.

    Those of *.train are for training, each eighth of them for validation, those of *.test for testing.
    """
    parts: list[list[list[tuple[str, str]]]] = []
    for ending in ("train", "test"):
        if len(paths := list(folder.glob(f"*.{ending}"))) != 1:
            raise BadInputError(f"{folder} is no folder of proteins: it has {len(paths)} files *.{ending}, not one")
        parts.append(read_proteins(paths[0]))
    pairs = parts[0] + parts[1]
    order = np.random.default_rng(0).permutation(len(parts[0]))
    valid, train = np.split(np.arange(len(parts[0]))[order], [len(order) // 8])
    coded = encoded(["".join(residue for residue, _ in protein) for protein in pairs], train)
    labels = padded([["_he".index(kind) for _, kind in protein] for protein in pairs])
    test = np.arange(len(parts[0]), len(pairs))
    return Data("proteins", ("coil", "helix", "sheet"), *coded, labels, np.sort(train), np.sort(valid), test)


def read_proteins(path: Path) -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split("#")[0].split()
        if fields == ["<>"]:
            found.append([])
        elif len(fields) == 2 and len(fields[0]) == 1 and fields[1] in ("_", "h", "e") and found:
            found[-1].append((fields[0], fields[1]))
        elif fields not in ([], ["end"], ["<end>"]):
            raise BadInputError(f"{path}, line {number}: {line.strip()[:40]!r} is no residue with a class of _, h, e")
    if len(found := [protein for protein in found if protein]) < 8:
        raise BadInputError(f"{path} has {len(found)} proteins, but 8 at least are needed")
    return found


def step_baselines(data: Data) -> dict[str, float]:
    """Shares of the test sequences' steps that others get right. They learn from those for validation too."""
    rest = np.concatenate([data.train, data.valid])
    (seen, known), (unseen, wanted) = (
        (windows(data)[:, part][data.steps[:, part]], data.labels[:, part][data.steps[:, part]])
        for part in (rest, data.test)
    )
    some = np.random.default_rng(0).permutation(len(known))[:MOST]
    regression = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=1000))
    right = float(regression.fit(seen[some], known[some]).score(unseen, wanted))
    return {f"logistic regression, {WINDOW} steps": right} | majority(data.classes, known, wanted)


def windows(data: Data) -> np.ndarray:
    """The symbols around each step [time, sequences, WINDOW]; those outside its sequence are one of their own."""
    inside, margin = np.where(data.steps, data.xs, data.num_features), WINDOW // 2
    around = np.pad(inside, ((margin, margin), (0, 0)), constant_values=data.num_features)
    return np.stack([around[n : n + len(inside)] for n in range(WINDOW)], axis=-1)
