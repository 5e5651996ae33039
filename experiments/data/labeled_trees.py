"""Trees with a label at every node, generated or from files, and the accuracy of predicted labels."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from support.errors import BadInputError
from support.files import read_lines

from data.fields import fields
from jaxrnn import trees
from jaxrnn.trees import Node, Trees

OPEN, CLOSE, UNKNOWN = 0, 1, 2  # the first symbols
DEEPEST = 300  # levels of a tree in a file; functions of trees are recursive


class ExpressionTask(NamedTuple):
    """Expressions over the values 0, 1, ..., with operators on one or two of them."""

    values: int
    operators: dict[str, Any]


TASKS = {
    "arithmetic": ExpressionTask(
        values=10,
        operators={
            "+": lambda a, b: (a + b) % 10,
            "-": lambda a, b: (a - b) % 10,
            "*": lambda a, b: a * b % 10,
        },
    ),
    "logic": ExpressionTask(
        values=2,
        operators={
            "not": lambda a: 1 - a,
            "and": lambda a, b: a & b,
            "or": lambda a, b: a | b,
            "xor": lambda a, b: a ^ b,
            "implies": lambda a, b: (1 - a) | b,
        },
    ),
}


class Examples(NamedTuple):
    """Trees, and the same trees as sequences. A node's label is its class, its height and its place in the sequence."""

    trees: Trees
    symbols: Any  # [time, trees]
    lengths: Any  # [trees]
    counted: Any  # bool [slots, trees], whether a node counts for accuracies

    @staticmethod
    def of(forest: Iterable[Node], lowest: int) -> Examples:
        """Packs trees. Nodes of height `lowest` and above count."""
        sequences: list[list[int]] = []
        placed = []
        for tree in forest:
            line: list[int] = []
            placed.append(write_out(tree, line))
            sequences.append(line)
        packed = trees.pack(placed, arity=2)
        symbols = np.array(list(itertools.zip_longest(*sequences, fillvalue=0)), np.int32)
        counted = packed.valid & (packed.labels[..., 1] >= lowest)
        return Examples(packed, symbols, np.array([len(line) for line in sequences]), counted)

    def take(self, which: Any) -> Examples:
        return Examples(
            trees.take(self.trees, which), self.symbols[:, which], self.lengths[which], self.counted[:, which]
        )


def write_out(node: Node, line: list[int]) -> Node:
    """Appends a tree to a line of symbols, with operators before their last operand.

    Returns the tree with the class, the height and the place in the line as the label of each node.
    """
    if not node.children:
        line.append(node.x)
        return node._replace(label=(node.label, 0, len(line) - 1))
    line.append(OPEN)
    children = [write_out(child, line) for child in node.children[:-1] if child]
    if node.x is not None:
        line.append(node.x)
    children.append(write_out(node.children[-1], line))  # type: ignore[arg-type]
    line.append(CLOSE)
    height = 1 + max(child.label[1] for child in children)
    return Node(node.x, tuple(children), (node.label, height, len(line) - 1))


def expression(rng: random.Random, task: str, depth: int) -> Node:
    """Draws an expression of exactly this depth. Its label is its value."""
    values, operators = TASKS[task]
    if depth == 0:
        value = rng.randrange(values)
        return Node(UNKNOWN + 1 + value, label=value)
    operator = rng.randrange(len(operators))
    function = list(operators.values())[operator]
    depths = [depth - 1, rng.randrange(depth)][: function.__code__.co_argcount]
    rng.shuffle(depths)
    operands = tuple(expression(rng, task, d) for d in depths)
    return Node(UNKNOWN + 1 + values + operator, operands, function(*(node.label for node in operands)))


def generated(task: str, seen: int, deepest: int, number: int, seed: int) -> tuple[list[Examples], int, int]:
    """Generates expressions. No tree for validation or testing is in the training data.

    Returns:
      Examples for training, validation and testing; the number of symbols; the number of classes.
    """
    rng = random.Random(seed)
    held_out: dict[Node, None] = {}  # a set in the order of insertion
    for_test = [(depth, 300) for depth in range(2, deepest + 1)]
    for_validation = [(depth, 100) for depth in range(2, seen + 1)]
    for depth, more in for_test + for_validation:
        enough = len(held_out) + more
        while len(held_out) < enough:
            held_out[expression(rng, task, depth)] = None
    num_test = sum(more for _, more in for_test)
    drawn = (expression(rng, task, rng.randint(1, seen)) for _ in itertools.count())
    train = itertools.islice((tree for tree in drawn if tree not in held_out), number)
    values, operators = TASKS[task]
    parts: list[Iterable[Node]] = [train, list(held_out)[num_test:], list(held_out)[:num_test]]
    # Leaves do not count: their values are given.
    return [Examples.of(part, lowest=1) for part in parts], UNKNOWN + 1 + values + len(operators), values


def parse(line: str) -> Node:
    """Parses a tree with words at its leaves: (label word), or (label tree) with one or two trees.

    Only blanks and tabs separate words, which may contain no-break spaces.
    """
    stack: list[list[Any]] = [[]]
    for token in re.findall("[()]|[^() \t]+", line):
        if token == "(":
            stack.append([])
        elif token == ")":
            label, *rest = stack.pop()
            leaf = len(rest) == 1 and isinstance(rest[0], str)
            if not leaf and (not 1 <= len(rest) <= 2 or not all(isinstance(child, Node) for child in rest)):
                raise ValueError
            stack[-1].append(Node(rest[0], (), int(label)) if leaf else Node(None, tuple(rest), int(label)))
        else:
            stack[-1].append(token)
    ((tree,),) = stack
    if not isinstance(tree, Node):
        raise ValueError
    return tree


def treebank(folder: Path) -> tuple[list[Examples], int, int]:
    """Reads train.txt, dev.txt and test.txt. Words that training has once become one unknown word.

    Returns:
      Examples for training, validation and testing; the number of symbols; the number of classes.
    """
    parts = [read_trees(folder / f"{name}.txt") for name in ("train", "dev", "test")]
    counts = Counter(node.x for tree in parts[0] for node in nodes(tree))
    words = sorted(word for word, number in counts.items() if word is not None and number > 1)
    symbol_of = {word: UNKNOWN + 1 + n for n, word in enumerate(words)}

    def as_symbols(node: Node) -> Node:
        x = None if node.x is None else symbol_of.get(node.x, UNKNOWN)
        return Node(x, tuple(as_symbols(child) for child in node.children if child), node.label)

    labels = {node.label for part in parts for tree in part for node in nodes(tree)}
    if min(labels) < 0:
        raise BadInputError(f"labels must be at least 0, but {folder} has {min(labels)}")
    return [Examples.of(map(as_symbols, part), lowest=0) for part in parts], UNKNOWN + 1 + len(words), max(labels) + 1


def read_trees(path: Path) -> list[Node]:
    return [tree for _, tree in numbered_trees(path)]


def numbered_trees(path: Path) -> list[tuple[int, Node]]:
    """Reads one tree per line, with the number of its line."""
    found = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            found += [(number, parse(line))] if fields(line) else []
        except (ValueError, IndexError, TypeError):
            raise BadInputError(f"{path}, line {number}: not a tree such as (3 (2 good) (2 film))") from None
        if levels(line) > DEEPEST:
            raise BadInputError(
                f"{path}, line {number}: a tree may have at most {DEEPEST} levels, but this one has more"
            )
    if not found:
        raise BadInputError(f"{path} is empty")
    return found


def levels(line: str) -> int:
    """Returns the largest number of parentheses that are open at the same time."""
    return max(itertools.accumulate((symbol == "(") - (symbol == ")") for symbol in line), default=0)


def nodes(tree: Node) -> Iterator[Node]:
    yield tree
    for child in tree.children:
        yield from nodes(child) if child else ()


def digest(parts: Iterable[Examples]) -> str:
    return hashlib.sha256(b"".join(leaf.tobytes() for part in parts for leaf in (*part.trees, *part[1:]))).hexdigest()


def accuracy_by_depth(examples: Examples, hits: np.ndarray, group: int) -> dict[int, tuple[float, float]]:
    """Returns accuracies for trees whose depth is in [key, key + group): of the roots, and of all nodes that count."""
    depths, roots = trees.at_roots(examples.trees, (examples.trees.labels[..., 1], hits))
    keys = depths // group * group
    found = {}
    for key in np.unique(keys).tolist():
        these = keys == key
        nodes_right = hits[:, these].mean(where=examples.counted[:, these])
        found[key] = float(roots[these].mean()), float(nodes_right)
    return found


def binary_accuracy(examples: Examples, positive: np.ndarray, neutral: int) -> tuple[float, float]:
    """Returns the binary accuracy of the roots and of all nodes: how often a label is on the predicted side of neutral.

    Neutral nodes, and those that do not count, are left out. An accuracy is NaN if no node is left.
    """
    labels = examples.trees.labels[..., 0]
    right = positive == (labels > neutral)
    counted = examples.counted & (labels != neutral)
    root_labels, roots_right = trees.at_roots(examples.trees, (labels, right))
    roots = roots_right[root_labels != neutral]
    return float(roots.mean()) if roots.size else math.nan, float(right[counted].mean()) if counted.any() else math.nan
