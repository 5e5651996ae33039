"""Labels for steps: that the networks learn, what the data and the baselines are, how bad input is reported."""

from __future__ import annotations

import operator
import random
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tagging
from data import labeled_steps
from support.options import RunFolder

import jaxrnn
from tests.support.scripts import call_script, error_line

pytestmark = pytest.mark.usefixtures("quick")
SMALL = ("--hidden-size", "16", "--batch", "8", "--dropout", "0", "--learning-rate", "0.02")


def fold(residues: str) -> str:
    """Returns classes that no window determines: helix before a protein's first W, sheet after it; coil without a W."""
    if "W" not in residues:
        return "_" * len(residues)
    return "h" * residues.index("W") + "e" * (len(residues) - residues.index("W"))


def written(residues: str) -> str:
    return "<>\n" + "".join(f"{r} {c}\n" for r, c in zip(residues, fold(residues), strict=True)) + "end\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with a folder of proteins, to work in."""
    monkeypatch.chdir(tmp_path)
    Path("proteins").mkdir()
    rng = random.Random(0)
    for ending, number in (("train", 80), ("test", 20)):
        found = []
        for _ in range(number):
            residues = [rng.choice("ACDEFG") for _ in range(rng.randint(20, 40))]
            if rng.random() < 0.7:
                residues[rng.randrange(len(residues))] = "W"
            found.append("".join(residues))
        Path("proteins", f"small.{ending}").write_text("# residues\n" + "\n".join(map(written, found)))
    return tmp_path


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "tagging.py", options, tagging.main, tagging.Options, RunFolder)


def share(out: str, name: str) -> float:
    return float(re.search(rf"^  {name} +(\d\.\d{{3}})$", out, re.MULTILINE)[1])


def test_it_runs(here, monkeypatch, capsys):
    options = (*SMALL, "--hidden-size", "4", "--data", "proteins", "--members", "2", "--steps", "3")
    assert call(monkeypatch, *options) == 0
    out = capsys.readouterr().out
    assert 0 < share(out, "bidirectional LSTM, 2 together") < 1
    assert share(out, "logistic regression, 13 steps") < 0.85
    assert Path("runs/tagging/1/labels.png").read_bytes().startswith(b"\x89PNG")
    assert Path("runs/tagging/1/curves.png").exists()


@pytest.mark.slow
def test_proteins_with_several_members(here, monkeypatch, capsys):
    options = (*SMALL, "--data", "proteins", "--cell", "GRU", "--members", "2", "--steps", "200")
    assert call(monkeypatch, *options) == 0
    out = capsys.readouterr().out
    assert share(out, "bidirectional GRU, 2 together") > 0.9
    assert share(out, "logistic regression, 13 steps") < 0.85
    assert Path("runs/tagging/1/labels.png").read_bytes().startswith(b"\x89PNG")
    assert Path("runs/tagging/1/curves.png").exists()

    assert call(monkeypatch, "--resume") == 0  # it has ended: only its result is printed again
    assert capsys.readouterr().out.split("Accuracy on")[1] == out.split("Accuracy on")[1]


@pytest.mark.slow
def test_python_source(here, monkeypatch, capsys):
    source = Path(tagging.__file__).read_text("utf-8") * 3
    monkeypatch.setattr(labeled_steps, "standard_library", lambda: source)
    assert call(monkeypatch, *SMALL, "--steps", "250") == 0
    out = capsys.readouterr().out
    assert share(out, "bidirectional LSTM") > 1.3 * share(out, "always [a-z]+")


def test_token_classes_are_those_of_the_tokens():
    lines = (
        ("def f(x):  # Why?\n", "kkk nonoo  cccccc "),
        ("    '''A\n", "    sssss"),
        ("    text.'''\n", "ssssssssssss "),
        ("    return x[-1] + 0x1f \\\n", "    kkkkkk noodo o dddd   "),
        ("        or rb'\\n' 'if'\n", "        kk ssssss ssss "),
    )
    text, expected = map("".join, zip(*lines, strict=True))
    classes = ("whitespace", "keyword", "name", "number", "string", "comment", "operator")
    found = labeled_steps.token_classes(text, classes)
    assert "".join(" kndsco"[label] for label in found) == expected


def test_token_classes_end_where_the_text_ceases_to_be_python():
    classes = ("whitespace", "name", "operator")
    assert labeled_steps.token_classes("a = b\nc = '''d", classes).tolist()[:9] == [1, 0, 2, 0, 1, 0, 1, 0, 2]
    assert len(labeled_steps.token_classes("a = b\nc = '''d", classes)) < 14


@pytest.mark.slow
def test_python_source_is_labeled_all_along():
    data = labeled_steps.python_source()
    assert data.steps.sum() > 500_000
    right = dict.fromkeys(data.classes, "")
    for n in data.test[:50]:
        for label, character in zip(data.labels[:, n], data.string(n), strict=True):
            right[data.classes[label]] += character
    assert not right["whitespace"].strip(" \n\t\\")
    assert not re.sub(r"[\w]", "", right["keyword"] + right["name"])
    assert re.fullmatch(r"[^\w\s]*", right["operator"])


def test_proteins_are_read_as_written(here):
    data = labeled_steps.proteins(Path("proteins"))
    assert list(map(len, (data.train, data.valid, data.test))) == [70, 10, 20]
    assert sorted([*data.train, *data.valid, *data.test]) == list(range(100))
    text = "".join(Path("proteins", f"small.{ending}").read_text() for ending in ("train", "test"))
    for n, protein in enumerate(text.split("<>\n")[1:]):
        residues = "".join(re.findall(r"^([A-Z]) ", protein, re.MULTILINE))
        assert data.string(n) == residues
        assert "".join("_he"[label] for label in data.labels[: len(residues), n]) == fold(residues)


def test_windows_are_the_neighbors_of_each_step(here):
    data = labeled_steps.proteins(Path("proteins"))
    windows = labeled_steps.windows(data)
    margin, letters = labeled_steps.WINDOW // 2, data.alphabet + "?."
    for n in (0, 7, 99):
        string = data.string(n)
        around = "." * margin + string + "." * margin
        for step in range(len(string)):
            assert "".join(letters[s] for s in windows[step, n]) == around[step : step + labeled_steps.WINDOW]


@pytest.mark.slow
def test_members_are_judged_by_the_mean_of_their_probabilities(here):
    data = labeled_steps.proteins(Path("proteins"))
    config = tagging.Options(hidden_size=4, members=3, dropout=0.5)
    model = tagging.make_model(config, len(data.classes))
    params = tagging.begin_all(config, model, data.num_features).params
    found = jnp.exp(tagging.log_probabilities(model, 3, params, data.xs, data.lengths))
    n, length = 5, int(data.lengths[5])
    members = [jax.tree.map(operator.itemgetter(m), params) for m in range(3)]
    alone = [jax.nn.softmax(jaxrnn.unroll(model, member, data.xs[:length, n])[1]) for member in members]
    assert not np.allclose(alone[0], alone[1])
    np.testing.assert_allclose(found[:length, n], np.mean(alone, axis=0), rtol=1e-4)


@pytest.mark.slow
def test_padding_has_no_part_in_training(here):
    data = labeled_steps.proteins(Path("proteins"))
    config = tagging.Options(hidden_size=4, batch=4, steps=3)
    model = tagging.make_model(config, len(data.classes))
    other = data._replace(xs=np.where(data.steps, data.xs, 3), labels=np.where(data.steps, data.labels, 2))
    ends = []
    for d in (data, other):
        train = tagging.begin_all(config, model, data.num_features)
        arrays = tuple(map(jnp.asarray, (d.xs, d.lengths, d.labels)))
        ends.append(tagging.make_steps(config, model)(train, arrays, 3, (0.0, 0.1)))
    jax.tree.map(np.testing.assert_array_equal, *ends)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", "missing"], r"missing is not a folder of proteins: it has 0 files \*.train"),
        (["--data", "untested"], r"untested is not a folder of proteins: it has 0 files \*.test"),
        (["--data", "wrong"], "wrong/a.test, line 2: 'A x' is not a residue with a class"),
        (["--data", "few"], "few/a.test has 2 proteins, but at least 8"),
        (["--cell", "LSMT"], "no cell named 'LSMT'"),
        (["--members", "0"], "--members must be at least 1"),
        (["--sequence-length", "0"], "--sequence-length must be at least 1"),
        (["--dropout", "-1"], "--dropout must be from 0 to below 1"),
        (["--learning-rate", "inf"], "--learning-rate must be above 0 and finite"),
        (["--resume"], "there is no run in runs/tagging"),
    ],
)
def test_bad_input_is_reported_in_one_line(here, monkeypatch, capsys, options, complaint):
    for folder, tested in (("untested", None), ("wrong", "<>\nA x\n"), ("few", written("AC") * 2)):
        Path(folder).mkdir()
        Path(folder, "a.train").write_text(written("ACDW") * 9)
        if tested:
            Path(folder, "a.test").write_text(tested)
    monkeypatch.setattr(labeled_steps, "standard_library", lambda: "x = 1\n" * 500)
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
    assert not Path("runs").exists()
