"""Sentences with a label each: composed by a grammar, or read from lines or trees; and bags of words as baselines."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from support.errors import BadInputError
from support.files import read_lines

from data.composed_reviews import PARTS, Part, reviews
from data.labeled_trees import Node, nodes, numbered_trees

UNKNOWN = 0  # the symbol of all words that the vocabulary lacks
SIDES = ("negative", "positive")
DEGREES = ("very negative", "negative", "neutral", "positive", "very positive")
CONSTRUCTIONS = ("plain", "negation", "contrast", "both", "neutral")
NEGATIONS = {"not", "n't", "never", "no", "nobody", "none", "nothing", "nowhere", "neither", "nor", "cannot", "without",
             "hardly"}  # fmt: skip
CONTRASTS = {"although", "but", "despite", "however", "still", "though", "whereas", "while", "yet"}
HEADERS = set(itertools.product(("label", "sentiment", "class"), ("text", "sentence", "phrase", "review")))
VALIDATED, TESTED = 1000, 2000  # composed sentences
FEWEST, MOST = 10, 100  # sentences of a label in one file, and labels
STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # inverse regularization of the baselines, of which one is chosen


class Sentence(NamedTuple):
    words: tuple[str, ...]
    label: int
    construction: str


class Coded(NamedTuple):
    """Sentences as arrays."""

    xs: Any  # symbols [time, sentences]
    lengths: Any  # [sentences]
    labels: Any  # [sentences]

    def take(self, which: Any) -> Coded:
        return Coded(self.xs[:, which], self.lengths[which], self.labels[which])


class LabeledSentences(NamedTuple):
    """Sentences with labels, in three parts."""

    name: str
    classes: tuple[str, ...]
    train: list[Sentence]
    valid: list[Sentence]
    test: list[Sentence]

    def __str__(self) -> str:
        sizes = f"{len(self.train):,} to train, {len(self.valid):,} to validate, {len(self.test):,} to test"
        classes = ", ".join(self.classes[:6]) + ", ..." * (len(self.classes) > 6)
        return f"{self.name}: sentences {sizes}; {len(self.classes)} classes: {classes}; sha256 {self.digest[:12]}"

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(self[1:]).encode()).hexdigest()

    def vocabulary(self, size: int) -> dict[str, int]:
        """Returns the symbols of the most frequent training words, from 1 on."""
        counts = Counter(word for sentence in self.train for word in sentence.words)
        return {word: n for n, (word, _) in enumerate(counts.most_common(size), UNKNOWN + 1)}


def coded(sentences: Sequence[Sentence], vocabulary: dict[str, int], longest: int) -> Coded:
    """Returns sentences as arrays. Sentences of more than `longest` words are cut."""
    rows = [[vocabulary.get(word, UNKNOWN) for word in sentence.words[:longest]] for sentence in sentences]
    xs = np.array(list(itertools.zip_longest(*rows, fillvalue=UNKNOWN)), np.int32)
    lengths = np.array([len(row) for row in rows], np.int32)
    return Coded(xs, lengths, np.array([sentence.label for sentence in sentences], np.int32))


def words_of(text: str) -> tuple[str, ...]:
    """Splits a text into words, numbers and single other symbols, in lower case."""
    return tuple(re.findall(r"\w+(?:['-]\w+)*|[^\w\s]", text.lower().replace("\u2019", "'")))


def construction_of(words: Sequence[str]) -> str:
    """Guesses the construction of a sentence from English function words, such as "not" and "but"."""
    negation = any(word in NEGATIONS or word.endswith("n't") for word in words)
    contrast = any(word in CONTRASTS for word in words)
    return CONSTRUCTIONS[negation + 2 * contrast]


def composed(number: int, fine: bool, seed: int) -> LabeledSentences:
    """Composes sentences by the grammar of `composed_reviews`. Without `fine`, none of them is neutral."""
    classes = DEGREES if fine else SIDES

    def drawn(part: Part, number: int) -> list[Sentence]:
        found = reviews(random.Random(f"{seed} {part}"), part, number, neutral=fine)
        return [Sentence(words_of(one.text), label_of(one.value, fine), one.construction) for one in found]

    numbers = dict(zip(dict.fromkeys(PARTS), (number, VALIDATED, TESTED), strict=True))
    return LabeledSentences("composed reviews", classes, *(drawn(part, n) for part, n in numbers.items()))


def label_of(value: int, fine: bool) -> int:
    """Returns the class of a value from -2 to 2, one of `DEGREES` or of `SIDES`."""
    return value + 2 if fine else int(value > 0)


class Line(NamedTuple):
    """A line of a file, with a label and words, or with a tree, whose label is that of its root."""

    number: int
    label: str
    words: tuple[str, ...]
    tree: Node | None = None


def read_sentences(path: Path, fine: bool, phrases: bool, seed: int) -> LabeledSentences:
    """Reads labeled sentences: trees in the format of the Stanford Sentiment Treebank, or lines `label<TAB>text`.

    Args:
      path: A folder of train, dev and test (.tsv or .txt), or a single file. A tenth of it is for testing,
        another tenth for validation.
      fine: Whether trees have five classes. If not, neutral ones are left out, and the classes are the two sides.
      phrases: Whether the training data are all phrases of the training trees.
      seed: Random seed of the split of a single file.
    """
    paths = [file_in(path, part) for part in ("train", "dev", "test")] if path.is_dir() else [path]
    files = [read_file(one, fine) for one in paths]
    are_trees = [lines[0].tree is not None for lines in files]
    if len(set(are_trees)) > 1:
        kinds = ("lines of a label, a tab and a text", "trees")
        same = f"{paths[0]} has {kinds[are_trees[0]]}"
        other = are_trees.index(not are_trees[0])
        raise BadInputError(f"{same}, but {paths[other]} has {kinds[are_trees[other]]}: use one format for all files")
    for name, given in (("--fine", fine), ("--phrases", phrases)):
        if given and not are_trees[0]:
            raise BadInputError(f"{name} needs trees, but {paths[0]} has lines of a label, a tab and a text")

    found = classes_of(paths[0], files[0])
    classes = (DEGREES if fine else SIDES) if are_trees[0] else found
    if len(paths) == 1:
        train, valid, test = split(paths[0], files[0], seed)
    else:
        for other, lines in zip(paths[1:], files[1:], strict=True):
            for line in lines:
                if line.label not in classes:
                    raise BadInputError(
                        f"{other}, line {line.number}: the label {line.label!r} does not occur in {paths[0]}, which has"
                        f" {', '.join(map(repr, classes))}"
                    )
        train, valid, test = files
    seen = phrases_of(train, fine) if phrases else train
    parts = (
        [Sentence(line.words, classes.index(line.label), construction_of(line.words)) for line in lines]
        for lines in (seen, valid, test)
    )
    return LabeledSentences(path.name, classes, *parts)


def file_in(folder: Path, part: str) -> Path:
    found = [path for path in (folder / f"{part}.tsv", folder / f"{part}.txt") if path.exists()]
    if len(found) != 1:
        have = "both" if found else "neither"
        raise BadInputError(f"{folder} must have either {part}.tsv or {part}.txt, but it has {have}")
    return found[0]


def read_file(path: Path, fine: bool) -> list[Line]:
    """Reads a file. If its first line begins with a parenthesis and has no tab, it has trees."""
    lines = read_lines(path)
    first = next((line for line in lines if line.strip(" \t")), "").strip(" ")
    has_trees = first.startswith("(") and "\t" not in first
    found = tree_lines(path, fine) if has_trees else text_lines(path, lines)
    if not found:
        raise BadInputError(f"{path} has no sentence with a label" + " other than neutral" * has_trees)
    return found


def tree_lines(path: Path, fine: bool) -> list[Line]:
    found = []
    for number, tree in numbered_trees(path):
        for node in nodes(tree):
            if not 0 <= node.label < len(DEGREES):
                raise BadInputError(
                    f"{path}, line {number}: labels must be from 0, very negative, to 4, very positive, but one is"
                    f" {node.label}"
                )
        found += labeled(number, tree, fine)
    return found


def labeled(number: int, tree: Node, fine: bool) -> list[Line]:
    """Returns a tree as a line; none if it is neutral and there are only two classes."""
    value = tree.label - 2
    if not (fine or value):
        return []
    words = tuple(node.x.lower() for node in nodes(tree) if not node.children)
    return [Line(number, (DEGREES if fine else SIDES)[label_of(value, fine)], words, tree)]


def phrases_of(lines: list[Line], fine: bool) -> list[Line]:
    """Returns all different phrases of trees."""
    each = (one for line in lines for node in nodes(line.tree) for one in labeled(line.number, node, fine))  # type: ignore[arg-type]
    return list({(one.words, one.label): one for one in each}.values())


def text_lines(path: Path, lines: list[str]) -> list[Line]:
    """Reads lines of a label, a tab and a text. A header may name the columns, and change their order."""
    found = []
    label_column = 0
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip(" \t")]
    for number, line in filled:
        columns = line.split("\t", 1) if label_column == 0 else line.rsplit("\t", 1)
        if len(columns) < 2:
            raise BadInputError(f"{path}, line {number}: {line.strip()[:40]!r} is not a label, a tab and a text")
        names = [column.strip().lower() for column in columns]
        if number == filled[0][0] and (tuple(names) in HEADERS or tuple(names[::-1]) in HEADERS):
            label_column = int(tuple(names) not in HEADERS)
            continue
        label, words = columns[label_column].strip(), words_of(columns[1 - label_column])
        if not label or not words:
            raise BadInputError(
                f"{path}, line {number}: {'the text has no words' if label else 'the label is missing'}"
            )
        found.append(Line(number, label, words))
    return found


def classes_of(path: Path, lines: list[Line]) -> tuple[str, ...]:
    """Returns the labels of training lines, numbers in the order of their values."""
    labels = {line.label for line in lines}
    if len(labels) == 1:
        raise BadInputError(f"{path} must have at least two different labels, but all are {lines[0].label!r}")
    if len(labels) > MOST:
        raise BadInputError(
            f"{path} has {len(labels):,} different labels, such as {lines[0].label[:40]!r}, but at most {MOST} are"
            " possible: is the label before the tab, and the text after it?"
        )
    in_order = sorted(labels)
    try:
        return tuple(sorted(in_order, key=float))
    except ValueError:
        return tuple(in_order)


def split(path: Path, lines: list[Line], seed: int) -> tuple[list[Line], list[Line], list[Line]]:
    """Splits lines at random, with the same share of each label in all parts. A text that occurs twice counts once."""
    different = list({line.words: line for line in reversed(lines)}.values())[::-1]
    for label, number in Counter(line.label for line in different).items():
        if number < FEWEST:
            raise BadInputError(
                f"each label of {path} must have at least {FEWEST} different sentences, to be split into training,"
                f" validation and test, but {label[:40]!r} has {number}"
            )
    labels = [line.label for line in different]
    held_out = max(len(different) // 10, len(set(labels)))
    rest, test = parted(range(len(different)), held_out, seed, labels)
    train, valid = parted(rest, held_out, seed, [labels[n] for n in rest])
    return tuple([different[n] for n in sorted(part)] for part in (train, valid, test))  # type: ignore[return-value]


def parted(whole: Sequence[int], size: int, seed: int, labels: list[str]) -> tuple[list[int], list[int]]:
    halves: Any = train_test_split(whole, test_size=size, random_state=seed, stratify=labels)
    return halves


def bags_of_words(data: LabeledSentences) -> dict[str, np.ndarray]:
    """Returns the labels that logistic regression predicts for the test sentences, from words and from 1-2-grams.

    The weights of the words (counts or tf-idf) and the regularization are those with the highest accuracy in
    validation.
    """
    texts, labels = ([[one[field] for one in part] for part in (data.train, data.valid, data.test)] for field in (0, 1))
    kinds: tuple[Any, ...] = (CountVectorizer, TfidfVectorizer)
    found = {}
    for name, longest in (("bag of words", 1), ("bag of 1-2-grams", 2)):
        best = -1.0
        for kind in kinds:
            bag = kind(analyzer=partial(grams, longest=longest))  # the sentences are already split into words
            train, valid, test = bag.fit_transform(texts[0]), bag.transform(texts[1]), bag.transform(texts[2])
            for strength in STRENGTHS:
                model = LogisticRegression(C=strength, max_iter=1000).fit(train, labels[0])
                if (accuracy := float(model.score(valid, labels[1]))) > best:
                    best, found[name] = accuracy, model.predict(test)
    most = int(np.bincount(labels[0]).argmax())
    return found | {f"always {data.classes[most]}": np.full(len(labels[2]), most)}


def grams(words: Sequence[str], longest: int) -> list[str]:
    return [" ".join(gram) for n in range(1, longest + 1) for gram in zip(*(words[i:] for i in range(n)), strict=False)]


def by_construction(sentences: Sequence[Sentence]) -> dict[str, np.ndarray]:
    """Returns which sentences have each construction, as indices, after those of all sentences."""
    found = {"all": np.arange(len(sentences))}
    for construction in CONSTRUCTIONS:
        which = np.flatnonzero([sentence.construction == construction for sentence in sentences])
        if len(which):
            found[construction] = which
    return found
