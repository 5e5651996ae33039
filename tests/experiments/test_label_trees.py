"""Labels for the nodes of trees: what is generated and read, how it is scored, and that networks learn it."""

from __future__ import annotations

import csv
import itertools
import random
import re
from pathlib import Path

import jax
import label_trees
import numpy as np
import pytest
from data import labeled_trees
from data.labeled_trees import Examples, expression, generated, parse, treebank
from support.options import RunFolder

from tests.support.scripts import call_script, error_line

pytestmark = pytest.mark.usefixtures("quick")
SMALL = ("--seen", "2", "--deepest", "3", "--expressions", "500", "--hidden-size", "24", "--batch", "32")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "label_trees.py", options, label_trees.main, label_trees.Options, RunFolder)


def bank(number: int, seed: int) -> str:
    """Sentences whose words have labels and whose phrases have the higher one, as a treebank writes them."""
    rng = random.Random(seed)
    words = {"dull": 0, "film": 1, "good": 2, "great": 3}

    def phrase(depth: int) -> tuple[int, str]:
        if depth == 0:
            word = rng.choice([*words])
            return words[word], f"({words[word]} {word})"
        parts = [phrase(depth - 1), phrase(rng.randrange(depth))]
        rng.shuffle(parts)
        label = max(label for label, _ in parts)
        return label, f"({label} {parts[0][1]} {parts[1][1]})"

    return "\n".join(phrase(rng.randint(1, 3))[1] for _ in range(number)) + "\n"


def write_bank(folder: Path) -> None:
    folder.mkdir()
    for seed, (name, number) in enumerate((("train", 300), ("dev", 50), ("test", 50))):
        (folder / f"{name}.txt").write_text(bank(number, seed))


def test_it_runs(here, monkeypatch, capsys):
    options = ("--seen", "2", "--deepest", "2", "--expressions", "20", "--hidden-size", "4", "--batch", "4")
    assert call(monkeypatch, *options, "--task", "logic", "--steps", "2", "--run-dir", "run") == 0
    out = capsys.readouterr().out
    assert re.search(r"data +logic: 20 \+ 100 \+ 300 trees to train, validate and test, 10 symbols\n", out)
    assert re.search(r" all +NaryTreeLSTM \S+ and \S+, LSTM \S+ and \S+, always \d \S+ and \S+\n", out)
    for picture in ("curves", "depths"):
        assert Path(f"run/{picture}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_it_learns_expressions(here, monkeypatch, capsys):
    options = (*SMALL, "--task", "logic", "--steps", "200", "--learning-rate", "1e-2")
    assert call(monkeypatch, *options, "--run-dir", "run") == 0
    out = capsys.readouterr().out
    assert re.search(r"data +logic: 500 \+ 100 \+ 600 trees to train, validate and test, 10 symbols\n", out)
    row = re.search(r" all +NaryTreeLSTM (\S+) and (\S+), LSTM (\S+) and (\S+), always \d (\S+) and (\S+)\n", out)
    tree_roots, tree_nodes, roots, nodes, always_roots, always_nodes = map(float, row.groups())
    assert tree_roots > always_roots + 0.3
    assert tree_nodes > always_nodes + 0.3
    assert min(roots, nodes) > max(always_roots, always_nodes) + 0.05
    assert re.search(r"depth 2 .*\n.*depth 3, not in training .*\n", out)
    rows = list(csv.DictReader(Path("run/metrics.csv").read_text().splitlines()))
    assert len(rows) == 20
    assert float(rows[-1]["NaryTreeLSTM_loss"]) < 0.3 * float(rows[0]["NaryTreeLSTM_loss"])
    for picture in ("curves", "depths"):
        assert Path(f"run/{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert call(monkeypatch, "--resume", "--run-dir", "run") == 0  # it has ended: there is nothing to learn
    assert row[0] in capsys.readouterr().out


@pytest.mark.slow
def test_it_learns_a_treebank(here, monkeypatch, capsys):
    write_bank(here / "bank")
    options = ("--cell", "RNTN", "--hidden-size", "8", "--dropout", "0.1", "--batch", "16", "--steps", "200")
    assert call(monkeypatch, "--data", "bank", *options, "--learning-rate", "1e-2") == 0
    out = capsys.readouterr().out
    assert "300 + 50 + 50 trees to train, validate and test, 7 symbols" in out
    row = re.search(r"depth 0 to 4 +RNTN (\S+) and (\S+), always 3 (\S+) and (\S+)\n", out)
    roots, nodes, always_roots, always_nodes = map(float, row.groups())
    assert roots > always_roots + 0.1
    assert nodes > always_nodes + 0.3


@pytest.mark.parametrize("task", ["arithmetic", "logic"])
def test_labels_are_the_values_that_python_finds(task):
    values, operators = labeled_trees.TASKS[task]
    written = {"and": "&", "or": "|", "xor": "^", "implies": "<=", "not": "1-"}
    words = ["(", ")", "?", *map(str, range(values)), *(written.get(name, name) for name in operators)]
    rng = random.Random(0)
    forest = [expression(rng, task, depth) for depth in (0, 1, 2, 3, 4, 5) for _ in range(20)]
    examples = Examples.of(forest, lowest=1)
    for n, (tree, length) in enumerate(zip(forest, examples.lengths, strict=True)):
        line = [words[symbol] for symbol in examples.symbols[:length, n]]
        labels = examples.trees.labels[examples.trees.valid[:, n], n]
        assert sorted(labels[:, 2]) == [i for i, word in enumerate(line) if word == ")" or word.isdigit()]
        for value, height, place in labels:
            opened, start = 0, place
            while opened := opened + (line[start] == ")") - (line[start] == "("):
                start -= 1
            assert eval(" ".join(line[start : place + 1])) % values == value
            deepest = max(np.cumsum([(word == "(") - (word == ")") for word in line[start : place + 1]]), default=0)
            assert deepest == height
        assert labels[:, 1].max() == n // 20
        assert tree.label == examples.trees.labels[examples.trees.roots[n], n, 0]
    assert (examples.counted == (examples.trees.valid & (examples.trees.labels[..., 1] > 0))).all()


def test_what_is_tested_is_not_trained():
    parts, num_symbols, num_classes = generated("arithmetic", 3, 5, 2000, 0)
    train, valid, test = ([tuple(part.symbols[:length, n]) for n, length in enumerate(part.lengths)] for part in parts)
    assert (len(train), len(valid), len(test)) == (2000, 200, 1200)
    assert not set(train) & (set(valid) | set(test))
    assert not set(valid) & set(test)
    assert num_classes == 10
    assert max(map(max, train)) == num_symbols - 1
    depths = parts[2].trees.labels[parts[2].trees.roots, np.arange(1200), 1]
    assert np.bincount(depths).tolist() == [0, 0, 300, 300, 300, 300]


def test_a_treebank_is_read(here):
    tree = parse("(3 (2 It) (4 (4 great) (2 film)))")
    assert (tree.label, tree.x, len(tree.children)) == (3, None, 2)
    assert [(node.label, node.x) for node in labeled_trees.nodes(tree)] == [
        (3, None), (2, "It"), (4, None), (4, "great"), (2, "film")
    ]  # fmt: skip
    for name, lines in {
        "train": "(1 (0 a) (1 b))\n\n(0 (0 a) (1 b))\n(2 c)",
        "dev": "(0 (0 a) (0 (1 b) (0 c)))",
        "test": "(1 (1 (1 new)))",
    }.items():
        Path(f"{name}.txt").write_text(lines)
    (train, valid, test), num_symbols, num_classes = treebank(here)
    assert (num_symbols, num_classes) == (5, 3)
    assert train.symbols.T.tolist() == [[0, 3, 4, 1], [0, 3, 4, 1], [2, 0, 0, 0]]  # c was seen once: unknown
    assert valid.symbols.T.tolist() == [[0, 3, 0, 4, 2, 1, 1]]
    assert test.symbols.T.tolist() == [[0, 0, 2, 1, 1]]
    assert (train.counted == train.trees.valid).all()


def test_a_word_of_a_treebank_may_hold_a_space_that_is_not_a_blank():
    """Leaves such as 8 1/2 with a no-break space, as in the train.txt of the Stanford Sentiment Treebank."""
    tree = parse("(3 (2 8\u00a01\\/2) (4\t(2 \u3000) (2 film)))")
    assert [node.x for node in labeled_trees.nodes(tree) if node.x] == ["8\u00a01\\/2", "\u3000", "film"]


def test_binary_accuracy_is_that_of_a_loop():
    rng = random.Random(0)
    forest = [parse(line) for line in bank(40, 1).splitlines()]
    examples = Examples.of([relabel(tree, rng) for tree in forest], lowest=0)
    positive = np.random.default_rng(0).random(examples.trees.valid.shape) < 0.5
    nodes, roots = [], []
    for b, slot in itertools.product(range(40), range(len(positive))):
        label = examples.trees.labels[slot, b, 0]
        if examples.trees.valid[slot, b] and label != 2:
            nodes.append(positive[slot, b] == (label > 2))
            if slot == examples.trees.roots[b]:
                roots.append(nodes[-1])
    assert 0 < len(roots) < 40
    assert labeled_trees.binary_accuracy(examples, positive, 2) == pytest.approx((np.mean(roots), np.mean(nodes)))
    neutral = Examples.of([relabel(forest[0], rng, 2)], lowest=0)
    assert np.isnan(labeled_trees.binary_accuracy(neutral, neutral.counted, 2)).all()


def relabel(tree, rng, label=None):
    children = tuple(relabel(child, rng, label) for child in tree.children)
    x = 3 if tree.x else None
    return tree._replace(x=x, children=children, label=rng.randrange(5) if label is None else label)


def test_the_side_of_a_node_is_that_of_the_more_probable_classes():
    (_, valid, _), num_symbols, _ = generated("arithmetic", 2, 2, 50, 0)
    net = label_trees.Network.of(label_trees.Options(hidden_size=8), "RecursiveNet", 5)
    params = jax.tree.map(lambda p: 3 * p, net.init(jax.random.key(0), valid, num_symbols))
    found = label_trees.evaluate(net, params, valid)
    p = np.asarray(jax.nn.softmax(net.logits(params, valid)))
    np.testing.assert_array_equal(found.positive, p[..., 3] + p[..., 4] > p[..., 0] + p[..., 1])
    np.testing.assert_array_equal(found.right, p.argmax(-1) == valid.trees.labels[..., 0])
    assert 0 < found.positive.mean() < 1


def test_each_network_is_tested_at_its_own_best_validation(here, monkeypatch, capsys):
    write_bank(here / "bank")
    for path in Path("bank").iterdir():
        path.write_text(path.read_text().replace("(3 ", "(4 "))  # five classes, of which the middle one is neutral
    evaluate = label_trees.evaluate

    def other_way_round(net, params, examples):
        """What GRU gets wrong counts as right, so that it is best at the beginning."""
        found = evaluate(net, params, examples)
        return found._replace(right=~found.right) if net.name == "GRU" else found

    monkeypatch.setattr(label_trees, "evaluate", other_way_round)
    options = ("--cell", "RecursiveNet", "GRU", "--hidden-size", "4", "--batch", "8", "--learning-rate", "0.1")
    assert call(monkeypatch, "--data", "bank", *options, "--steps", "12", "--run-dir", "run") == 0
    out = capsys.readouterr().out
    rows = list(csv.DictReader(Path("run/metrics.csv").read_text().splitlines()))
    steps = {}
    for name in ("RecursiveNet", "GRU"):
        steps[name] = int(re.search(rf"on all nodes;.* {name} after step (\d+)", out)[1])
        accuracy = {int(float(row["step"])): float(row[f"{name}_accuracy"]) for row in rows}
        assert accuracy[steps[name]] == max(accuracy.values())
    assert steps["RecursiveNet"] != steps["GRU"]
    row = re.search(r"binary +RecursiveNet (\S+) and (\S+), GRU (\S+) and (\S+), always (\w+) (\S+) and (\S+)\n", out)
    assert all(0 <= float(share) <= 1 for share in row.group(1, 2, 3, 4, 6, 7))

    best = Path("run/networks/GRU", str(steps["GRU"]), "metrics.json")
    best.write_text(best.read_text().replace("0", "1"))
    assert call(monkeypatch, "--data", "bank", *options, "--steps", "12", "--run-dir", "run", "--resume") == 0
    out, err = capsys.readouterr()
    other = int(re.search(r"on all nodes;.* GRU after step (\d+)", out)[1])
    assert other != steps["GRU"]
    assert f"networks/GRU: {steps['GRU']} (metrics.json differs from SHA256SUMS); the latest good one is 12" in err
    assert f"the best good one {other}\n" in err


@pytest.mark.parametrize("name", ["LSTM", pytest.param("ProjectedLSTM", marks=pytest.mark.slow)])
def test_a_sequence_network_has_read_a_subtree_to_its_end_and_no_further(name):
    (_, valid, _), num_symbols, num_classes = generated("arithmetic", 2, 2, 50, 0)
    net = label_trees.Network.of(label_trees.Options(hidden_size=8), name, num_classes)
    params = net.init(jax.random.key(0), valid, num_symbols)
    slots = np.flatnonzero(valid.trees.valid[:, 7])
    copies = valid.take(np.full(len(slots), 7))  # one for each node, in which what comes after it is another
    places, times = copies.trees.labels[slots, 0, 2], np.arange(len(copies.symbols))[:, None]
    later, here = (
        np.where(changed, (copies.symbols + 1) % num_symbols, copies.symbols)
        for changed in (times > places, times == places)
    )
    logits = jax.jit(net.logits)
    ours, same, other = (logits(params, copies._replace(symbols=s)) for s in (copies.symbols, later, here))
    each = (slots, np.arange(len(slots)))
    np.testing.assert_allclose(same[each], ours[each], rtol=1e-5, atol=1e-6)
    assert (np.abs(other[each] - ours[each]).max(-1) > 1e-6).all()


def test_shares_by_depth_are_those_of_a_loop():
    parts, _, _ = generated("logic", 3, 4, 50, 0)
    test = parts[2]
    hits = np.random.default_rng(0).random(test.trees.valid.shape) < 0.5
    shares = labeled_trees.accuracy_by_depth(test, hits, 2)
    assert sorted(shares) == [2, 4]
    for first, (root_share, node_share) in shares.items():
        roots, nodes = [], []
        for b, root in enumerate(test.trees.roots):
            if first <= test.trees.labels[root, b, 1] < first + 2:
                roots.append(hits[root, b])
                nodes += [
                    hits[slot, b]
                    for slot in range(len(hits))
                    if test.trees.valid[slot, b] and test.trees.labels[slot, b, 1] > 0
                ]
        assert (root_share, node_share) == (pytest.approx(np.mean(roots)), pytest.approx(np.mean(nodes)))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", "missing"], "cannot read .*missing/train.txt: No such file"),
        (["--data", "bytes"], "dev.txt is not UTF-8 text: byte 3 is 0xff"),
        (["--data", "empty"], "test.txt is empty"),
        (["--data", "three"], r"train.txt, line 2: not a tree such as \(3 \(2 good\) \(2 film\)\)"),
        (["--data", "open"], "train.txt, line 1: not a tree"),
        (["--data", "close"], "train.txt, line 1: not a tree"),
        (["--data", "words"], "train.txt, line 1: not a tree"),
        (["--data", "label"], "train.txt, line 1: not a tree"),
        (["--data", "negative"], "labels must be at least 0, but .* has -1"),
        (["--data", "deep"], "train.txt, line 1: a tree may have at most 300 levels"),
        (["--data", "open", "--seen", "3"], "--seen has no effect with --data"),
        (["--data", "open", "--expressions", "3"], "--expressions has no effect with --data"),
        (["--task", "algebra"], "--task"),
        (["--cell", "TreeLSTM"], "no cell named 'TreeLSTM': did you mean ChildSumTreeLSTM or NaryTreeLSTM"),
        (["--seen", "1"], "--seen must be at least 2"),
        (["--deepest", "3"], "--deepest must be at least 4"),
        (["--expressions", "0"], "--expressions must be at least 1"),
        (["--dropout", "1"], "--dropout must be from 0 to below 1"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--learning-rate", "-1"], "--learning-rate must be above 0"),
    ],
)
def test_bad_input_is_reported_in_one_line(here, monkeypatch, capsys, options, complaint):
    bad = {"three": "(1 a)\n(1 (1 a) (1 b) (1 c))", "open": "(1 (1 a)", "close": "(1 a))", "words": "(1 a b)"}
    bad |= {"label": "(one a)", "negative": "(-1 a)", "deep": "(1 (1 a) " * 300 + "(1 a)" + ")" * 300}
    for name in ("bytes", "empty", *bad):
        write_bank(here / name)
    for name, line in bad.items():
        Path(name, "train.txt").write_text(line)
    Path("bytes/dev.txt").write_bytes(b"(1 \xff)")
    Path("empty/test.txt").write_text("\n")
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
    assert not Path("runs").exists()
