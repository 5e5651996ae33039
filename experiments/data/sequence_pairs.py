"""Pairs of sequences to learn from: written dates, sums, parallel text; their symbols, scores, a baseline, pictures."""

from __future__ import annotations

import datetime
import hashlib
import itertools
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import sacrebleu
from common import BadInputError
from matplotlib import font_manager, ft2font
from seq2seq import END, UNKNOWN
from sklearn.feature_extraction.text import TfidfVectorizer

LONGEST = 50  # words of a sentence in training
WAYS = (
    "{0:%A}, {0.day} {0:%B} {0:%Y}", "{0.day}/{0.month}/{0:%y}", "{0:%d}.{0:%m}.{0:%Y}", "{0:%B} {0.day}, {0:%Y}",
    "{0.day} {0:%b} {0:%y}", "{0:%a} {0.day} {0:%b} {0:%Y}", "the {0.day} of {0:%B} {0:%Y}",
)  # fmt: skip

Pair = tuple[list[str], list[str]]  # tokens of source and target


class Data(NamedTuple):
    name: str
    train: list[Pair]
    dev: list[Pair]
    test: list[Pair]
    words: bool  # whether tokens are words, not characters

    def __str__(self) -> str:
        sizes = f"{len(self.train):,} pairs for training, {len(self.dev):,} for validation, {len(self.test):,} for test"
        return f"{self.name}: {sizes}; sha256 {self.digest[:12]}"

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr((self.train, self.dev, self.test)).encode()).hexdigest()

    @property
    def longest(self) -> int:
        """Symbols of training's longest target, its END included."""
        return 1 + max(len(target) for _, target in self.train)

    def vocabulary(self, side: int) -> list[str]:
        """The tokens that training has twice or more; a token's place is its symbol."""
        tokens, counts = np.unique([token for pair in self.train for token in pair[side]], return_counts=True)
        return ["</s>", "<unk>", *tokens[counts > 1].tolist()]

    @property
    def unit(self) -> str:
        return "BLEU" if self.words else "% exact"

    def score_of(self, written: list[list[str]], pairs: list[Pair]) -> float:
        """BLEU of sentences, per cent of exact matches of other tasks."""
        if not self.words:
            return 100 * float(np.mean([w == right for w, (_, right) in zip(written, pairs, strict=True)]))
        texts, references = ([" ".join(tokens) for tokens in side] for side in (written, [right for _, right in pairs]))
        return sacrebleu.BLEU(tokenize="none", force=True).corpus_score(texts, [references]).score

    def nearest(self) -> list[list[str]]:
        """The baseline: for each test source the target of the training source most like it, by tf-idf."""

        def grams(tokens: list[str]) -> list[tuple[str, ...]]:
            return [gram for n in (1, 2, 3) for gram in zip(*(tokens[i:] for i in range(n)), strict=False)]

        tf_idf = TfidfVectorizer(analyzer=grams)  # type: ignore[arg-type]
        known = tf_idf.fit_transform([source for source, _ in self.train])
        asked = tf_idf.transform([source for source, _ in self.test])
        likeness = ((asked[i : i + 100] @ known.T).toarray() for i in range(0, len(self.test), 100))
        return [self.train[n][1] for part in likeness for n in part.argmax(axis=1)]


def arrays(pairs: list[Pair], *vocabularies: list[str]) -> tuple[np.ndarray, ...]:
    """Symbols [time, pairs], END after each sequence, and lengths [pairs], of sources and of targets."""
    found = []
    for side, vocabulary in enumerate(vocabularies):
        symbol_of = {token: symbol for symbol, token in enumerate(vocabulary)}
        rows = [[*(symbol_of.get(token, UNKNOWN) for token in pair[side]), END] for pair in pairs]
        found += [
            np.array([*itertools.zip_longest(*rows, fillvalue=END)], np.int32),
            np.array([*map(len, rows)], np.int32),
        ]
    return tuple(found)


def dates() -> Data:
    rng = np.random.default_rng(0)
    days = [datetime.date(1950, 1, 1) + datetime.timedelta(int(n)) for n in rng.permutation(36525)]
    ways = rng.integers(len(WAYS), size=len(days))
    pairs = [(list(WAYS[way].format(day).lower()), list(day.isoformat())) for day, way in zip(days, ways, strict=True)]
    return Data("dates", pairs[2500:], pairs[:500], pairs[500:2500], words=False)


def additions() -> Data:
    rng, found = np.random.default_rng(0), {}
    while len(found) < 50_000:  # numbers of one, two or three digits; a sum and its other order are one question
        a, b = (int(rng.integers(10 ** rng.integers(1, 4))) for _ in range(2))
        found.setdefault((min(a, b), max(a, b)), (list(f"{a}+{b}"), list(str(a + b))))
    pairs = list(found.values())
    return Data("addition", pairs[:45_000], pairs[45_000:45_500], pairs[45_500:], words=False)


def parallel_text(folder: Path, *suffixes: str) -> Data:
    splits = []
    for split in ("train", "dev", "test"):
        sides = []
        for path in (folder / f"{split}.{suffix}" for suffix in suffixes):
            try:
                sides.append([line.split() for line in path.read_text("utf-8").removesuffix("\n").split("\n")])
            except UnicodeDecodeError as error:
                raise BadInputError(f"{path} is not UTF-8 text: byte {error.start} is wrong") from None
            except OSError as error:
                raise BadInputError(f"cannot read {path}: {error.strerror}") from None
        if len(sides[0]) != len(sides[1]):
            raise BadInputError(
                f"{split} has {len(sides[0])} lines in .{suffixes[0]}, {len(sides[1])} in .{suffixes[1]}"
            )
        splits.append(list(zip(*sides, strict=True)))
    train = [(s, t) for s, t in splits[0] if s and t and max(len(s), len(t)) <= LONGEST]
    if not train:
        raise BadInputError(f"{folder} has no training pair of at most {LONGEST} words")
    return Data(f"{folder.name}, {suffixes[0]} to {suffixes[1]}", train, *splits[1:], words=True)


def as_tokens(symbols: np.ndarray, vocabulary: list[str]) -> list[list[str]]:
    return [[vocabulary[s] for s in column[: np.argmin([*(column != END), False])]] for column in symbols.T]


def font_for(text: str) -> font_manager.FontProperties | None:
    """A font of this machine that has all characters."""
    for path in (font_manager.findfont("DejaVu Sans"), *sorted(font_manager.findSystemFonts())):
        try:
            if {*map(ord, text)} <= ft2font.FT2Font(path).get_charmap().keys():
                return font_manager.FontProperties(fname=path)
        except (OSError, RuntimeError):  # no font that can be read
            continue
    return None


def draw(path: Path, maps: list[tuple[np.ndarray, list[str], list[str]]]) -> None:
    """Attention maps: weights [target, source], tokens of both."""
    written = [font_for("".join(token for each in maps for token in each[side])) for side in (1, 2)]
    figure, grid = plt.subplots(2, 2, figsize=(11, 9), layout="constrained", squeeze=False)
    for axes, (weights, source, target) in zip(grid.flat, maps, strict=False):
        axes.imshow(weights[: len(target), : len(source)], cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for axis, tokens, font in zip((axes.xaxis, axes.yaxis), (source, target), written, strict=True):
            shown = tokens if font else [str(n) for n in range(1, 1 + len(tokens))]
            rotation = 90 if axis is axes.xaxis and max(map(len, shown)) > 1 else 0
            axis.set_ticks(range(len(shown)), shown, fontproperties=font, rotation=rotation, fontsize=9)
        sides = zip(("source", "output"), written, strict=True)
        x, y = (name if font else f"{name}, by number: no font here has its letters" for name, font in sides)
        axes.set(xlabel=x, ylabel=y)
    figure.savefig(path, dpi=160)
    plt.close(figure)
