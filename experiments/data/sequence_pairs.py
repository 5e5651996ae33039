"""Pairs of sequences: written dates, sums, parallel text; their symbols, their score, and a baseline."""

from __future__ import annotations

import datetime
import hashlib
import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sacrebleu
from sklearn.feature_extraction.text import TfidfVectorizer
from support.errors import BadInputError
from support.files import read_text

from data.fields import fields

END, UNKNOWN = 0, 1  # symbols of either side; END is also what a decoder reads first, and the padding
LONGEST = 50  # words of a sentence in training
WAYS = (
    "{0:%A}, {0.day} {0:%B} {0:%Y}", "{0.day}/{0.month}/{0:%y}", "{0:%d}.{0:%m}.{0:%Y}", "{0:%B} {0.day}, {0:%Y}",
    "{0.day} {0:%b} {0:%y}", "{0:%a} {0.day} {0:%b} {0:%Y}", "the {0.day} of {0:%B} {0:%Y}",
)  # fmt: skip

Pair = tuple[list[str], list[str]]  # tokens of source and target


class SequencePairs(NamedTuple):
    """Pairs of a source and a target, in three splits."""

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
        """Number of symbols of the longest training target, END included."""
        return 1 + max(len(target) for _, target in self.train)

    def vocabulary(self, side: int) -> list[str]:
        """Returns the training tokens of a side (0: source, 1: target) that occur at least twice, in symbol order."""
        tokens, counts = np.unique([token for pair in self.train for token in pair[side]], return_counts=True)
        return ["</s>", "<unk>", *tokens[counts > 1].tolist()]

    @property
    def unit(self) -> str:
        return "BLEU" if self.words else "% exact"

    def score_of(self, outputs: list[list[str]], pairs: list[Pair]) -> float:
        """Returns BLEU for sentences, and the percentage of exact matches for other tasks."""
        targets = [target for _, target in pairs]
        if not self.words:
            return 100 * float(np.mean([output == target for output, target in zip(outputs, targets, strict=True)]))
        texts = [" ".join(tokens) for tokens in outputs]
        references = [" ".join(tokens) for tokens in targets]
        return sacrebleu.BLEU(tokenize="none", force=True).corpus_score(texts, [references]).score

    def scores(self, outputs: list[list[str]], pairs: list[Pair]) -> str:
        """Returns BLEU for sentences, and for all tasks the percentage of exact matches and the error rate."""
        targets = [target for _, target in pairs]
        exact = 100 * np.mean([output == target for output, target in zip(outputs, targets, strict=True)])
        bleu = f"{self.score_of(outputs, pairs):.2f} BLEU, " if self.words else ""
        return f"{bleu}{exact:.2f} % exact, {100 * error_rate(outputs, targets):.2f} % errors per symbol"

    def nearest(self) -> list[list[str]]:
        """Returns the baseline: for each test source, the target of the most similar training source, by tf-idf."""

        def grams(tokens: list[str]) -> list[tuple[str, ...]]:
            return [gram for n in (1, 2, 3) for gram in zip(*(tokens[i:] for i in range(n)), strict=False)]

        tf_idf = TfidfVectorizer(analyzer=grams)  # type: ignore[arg-type]
        known = tf_idf.fit_transform([source for source, _ in self.train])
        wanted = tf_idf.transform([source for source, _ in self.test])
        similarities = ((wanted[i : i + 100] @ known.T).toarray() for i in range(0, len(self.test), 100))
        return [self.train[n][1] for part in similarities for n in part.argmax(axis=1)]


def error_rate(outputs: list[list[str]], targets: list[list[str]]) -> float:
    """Returns the insertions, deletions and substitutions that turn the outputs into the targets, per target symbol.

    This is the word error rate for words and the phoneme error rate for phonemes. It may be above 1.
    """
    errors = sum(edit_distance(output, target) for output, target in zip(outputs, targets, strict=True))
    return errors / max(1, sum(map(len, targets)))


def edit_distance(output: list[str], target: list[str]) -> int:
    """Returns the least number of insertions, deletions and substitutions (Levenshtein's distance)."""
    numbers: dict[str, int] = {}
    of_output, of_target = (
        np.array([numbers.setdefault(token, len(numbers)) for token in s]) for s in (output, target)
    )
    columns = np.arange(len(target) + 1)
    row = columns  # distances of the first tokens of the output to the first tokens of the target
    for n, token in enumerate(of_output, 1):
        changed = np.concatenate([[n], np.minimum(row[:-1] + (of_target != token), row[1:] + 1)])
        row = np.minimum.accumulate(changed - columns) + columns  # insertions, each from the column before
    return int(row[-1])


def arrays(pairs: list[Pair], *vocabularies: list[str]) -> tuple[np.ndarray, ...]:
    """Returns symbols [time, pairs], with END after each sequence, and lengths [pairs], for sources, then targets."""
    found = []
    for side, vocabulary in enumerate(vocabularies):
        symbol_of = {token: symbol for symbol, token in enumerate(vocabulary)}
        rows = [[*(symbol_of.get(token, UNKNOWN) for token in pair[side]), END] for pair in pairs]
        found.append(np.array([*itertools.zip_longest(*rows, fillvalue=END)], np.int32))
        found.append(np.array([*map(len, rows)], np.int32))
    return tuple(found)


def dates() -> SequencePairs:
    """Draws days of 1950 to 2049, written in several ways, and their ISO dates."""
    rng = np.random.default_rng(0)
    days = [datetime.date(1950, 1, 1) + datetime.timedelta(int(n)) for n in rng.permutation(36525)]
    ways = rng.integers(len(WAYS), size=len(days))
    pairs = [(list(WAYS[way].format(day).lower()), list(day.isoformat())) for day, way in zip(days, ways, strict=True)]
    return SequencePairs("dates", pairs[2500:], pairs[:500], pairs[500:2500], words=False)


def additions() -> SequencePairs:
    """Draws sums of numbers of one, two or three digits. a+b and b+a count as the same sum."""
    rng = np.random.default_rng(0)
    found: dict[tuple[int, int], Pair] = {}
    while len(found) < 50_000:
        a, b = (int(rng.integers(10 ** rng.integers(1, 4))) for _ in range(2))
        found.setdefault((min(a, b), max(a, b)), (list(f"{a}+{b}"), list(str(a + b))))
    pairs = list(found.values())
    return SequencePairs("addition", pairs[:45_000], pairs[45_000:45_500], pairs[45_500:], words=False)


def parallel_text(folder: Path, *suffixes: str) -> SequencePairs:
    """Reads train, dev and test.SUFFIX for either side, one tokenized sentence per line."""
    splits = []
    for split in ("train", "dev", "test"):
        sides = []
        for suffix in suffixes:
            lines = read_text(folder / f"{split}.{suffix}").replace("\r\n", "\n").removesuffix("\n").split("\n")
            sides.append([fields(line) for line in lines])
        if len(sides[0]) != len(sides[1]):
            raise BadInputError(
                f"{split} has {len(sides[0])} lines in .{suffixes[0]}, {len(sides[1])} in .{suffixes[1]}"
            )
        splits.append(list(zip(*sides, strict=True)))
    train = [(s, t) for s, t in splits[0] if s and t and max(len(s), len(t)) <= LONGEST]
    if not train:
        raise BadInputError(f"{folder} has no training pair of at most {LONGEST} words")
    return SequencePairs(f"{folder.name}, {suffixes[0]} to {suffixes[1]}", train, *splits[1:], words=True)


def as_tokens(symbols: np.ndarray, vocabulary: list[str]) -> list[list[str]]:
    """Returns the tokens of symbols [time, sequences], each sequence up to its END."""
    return [[vocabulary[s] for s in column[: np.argmin([*(column != END), False])]] for column in symbols.T]
