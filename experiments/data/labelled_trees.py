"""Trees whose every node has a label, generated or from files, and how many of their nodes were labelled right."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from run_directory import BadInputError

from jaxrnn import trees
from jaxrnn.trees import Node, Trees

OPEN, CLOSE, UNKNOWN = 0, 1, 2  # the first symbols
TASKS: dict[str, tuple[int, dict[str, Any]]] = {  # how many values there are; operators on one or two of them
    "arithmetic": (10, {"+": lambda a, b: (a + b) % 10, "-": lambda a, b: (a - b) % 10, "*": lambda a, b: a * b % 10}),
    "logic": (2, {"not": lambda a: 1 - a, "and": lambda a, b: a & b, "or": lambda a, b: a | b,
                  "xor": lambda a, b: a ^ b, "implies": lambda a, b: (1 - a) | b}),
}  # fmt: skip


class Examples(NamedTuple):
    """Trees, and the same as sequences. A node's label is its class, its height and its place in the sequence."""

    trees: Trees
    symbols: Any  # [time, trees]
    lengths: Any  # [trees]
    counted: Any  # bool [slots, trees], the nodes of which shares are told

    @staticmethod
    def of(forest: Iterable[Node], lowest: int) -> Examples:
        """Counted are nodes of this height and above."""
        sequences: list[list[int]] = []
        packed = trees.pack([write_out(tree, sequences.append(line := []) or line) for tree in forest], arity=2)
        symbols = np.array(list(itertools.zip_longest(*sequences, fillvalue=0)), np.int32)
        counted = packed.valid & (packed.labels[..., 1] >= lowest)
        return Examples(packed, symbols, np.array([len(line) for line in sequences]), counted)

    def take(self, which: Any) -> Examples:
        return Examples(
            trees.take(self.trees, which), self.symbols[:, which], self.lengths[which], self.counted[:, which]
        )


def write_out(node: Node, line: list[int]) -> Node:
    """Writes a tree as a line of symbols, operators before their last operand, and places and heights on its nodes."""
    if not node.children:
        line.append(node.x)
        return node._replace(label=(node.label, 0, len(line) - 1))
    line.append(OPEN)
    children = [write_out(child, line) for child in node.children[:-1] if child]
    line += [] if node.x is None else [node.x]
    children.append(write_out(node.children[-1], line))  # type: ignore[arg-type]
    line.append(CLOSE)
    height = 1 + max(child.label[1] for child in children)
    return Node(node.x, tuple(children), (node.label, height, len(line) - 1))


def expression(rng: random.Random, task: str, depth: int) -> Node:
    """An expression of just this depth, its label its value."""
    values, operators = TASKS[task]
    if depth == 0:
        return Node(UNKNOWN + 1 + (value := rng.randrange(values)), label=value)
    operator = rng.randrange(len(operators))
    function = list(operators.values())[operator]
    depths = [depth - 1, rng.randrange(depth)][: function.__code__.co_argcount]
    rng.shuffle(depths)
    operands = tuple(expression(rng, task, d) for d in depths)
    return Node(UNKNOWN + 1 + values + operator, operands, function(*(node.label for node in operands)))


def generated(task: str, seen: int, deepest: int, number: int, seed: int) -> tuple[list[Examples], int, int]:
    """Examples to train, to validate and to test; how many symbols and classes. What is tested is not trained."""
    rng, held = random.Random(seed), dict[Node, None]()
    tested = 300 * (deepest - 1)
    for depth, more in [(d, 300) for d in range(2, deepest + 1)] + [(d, 100) for d in range(2, seen + 1)]:
        enough = len(held) + more
        while len(held) < enough:
            held[expression(rng, task, depth)] = None
    drawn = (expression(rng, task, rng.randint(1, seen)) for _ in itertools.count())
    train = itertools.islice((tree for tree in drawn if tree not in held), number)
    # What is written at a leaf is not to be found out: counted is what is computed.
    values, operators = TASKS[task]
    parts: list[Iterable[Node]] = [train, list(held)[tested:], list(held)[:tested]]
    return [Examples.of(part, lowest=1) for part in parts], UNKNOWN + 1 + values + len(operators), values


def parse(line: str) -> Node:
    """A tree whose leaves are words: (label word), or (label tree) with one or two trees."""
    stack: list[list[Any]] = [[]]
    for token in re.findall(r"[()]|[^()\s]+", line):
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
    parts: list[list[Node]] = []
    for path in (folder / f"{name}.txt" for name in ("train", "dev", "test")):
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
        parts.append([])
        for number, line in enumerate(lines, 1):
            try:
                parts[-1] += [parse(line)] if line.strip() else []
            except (ValueError, IndexError, TypeError):
                raise BadInputError(f"{path}, line {number}: not a tree such as (3 (2 good) (2 film))") from None
        if not parts[-1]:
            raise BadInputError(f"{path} is empty")
    counts = Counter(node.x for tree in parts[0] for node in nodes(tree))
    words = sorted(word for word, number in counts.items() if word is not None and number > 1)
    symbol_of = {word: UNKNOWN + 1 + n for n, word in enumerate(words)}  # words seen once stand for those never seen

    def as_symbols(node: Node) -> Node:
        x = None if node.x is None else symbol_of.get(node.x, UNKNOWN)
        return Node(x, tuple(as_symbols(child) for child in node.children if child), node.label)

    labels = {node.label for part in parts for tree in part for node in nodes(tree)}
    if min(labels) < 0:
        raise BadInputError(f"labels count from 0, but {folder} has {min(labels)}")
    return [Examples.of(map(as_symbols, part), lowest=0) for part in parts], UNKNOWN + 1 + len(words), max(labels) + 1


def nodes(tree: Node) -> Iterator[Node]:
    yield tree
    for child in tree.children:
        yield from nodes(child) if child else ()


def digest(parts: Iterable[Examples]) -> str:
    return hashlib.sha256(b"".join(leaf.tobytes() for part in parts for leaf in (*part.trees, *part[1:]))).hexdigest()


def by_depth(examples: Examples, hits: np.ndarray, group: int) -> dict[int, tuple[float, float]]:
    """Shares of hits among roots and the nodes that count, of the trees whose depth is in [key, key + group)."""
    depths, roots = trees.at_roots(examples.trees, (examples.trees.labels[..., 1], hits))
    of = {key: depths // group * group == key for key in np.unique(depths // group * group).tolist()}
    return {
        key: (float(roots[its].mean()), float(hits[:, its].mean(where=examples.counted[:, its])))
        for key, its in of.items()
    }


def in_words(shares: dict[str, tuple[float, float]]) -> str:
    return ", ".join(f"{name} {root:.3f} and {node:.3f}" for name, (root, node) in shares.items())


def draw(path: Path, shares: dict[str, dict[int, tuple[float, float]]], seen: int | None) -> None:
    """Draws these shares of each network against the depth."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    for column, (what, panel) in enumerate(zip(("roots", "nodes"), axes, strict=True)):
        for name, depths in shares.items():
            style = "--" if name.startswith("always") else "-"
            panel.plot([*depths], [pair[column] for pair in depths.values()], style, marker=".", label=name)
        if seen is not None:
            panel.axvline(seen + 0.5, color="#c1440e", linestyle=":", label="deeper ones never seen")
        panel.set(xlabel="depth of the tree", ylabel=f"share of {what} that are right", ylim=(0, 1.02))
        panel.grid(alpha=0.25)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=140)
    plt.close(figure)
