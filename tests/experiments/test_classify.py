"""Sequences to labels: that the networks learn, what the data and the baselines are, how bad input is reported."""

from __future__ import annotations

import csv
import random
import re
from pathlib import Path

import classify
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data import labeled_sequences
from support.options import RunFolder

from tests.support.scripts import call_script, error_line

pytestmark = pytest.mark.usefixtures("quick")
SMALL = ("--hidden-size", "16", "--batch", "16")
VOWELS = {"North": "aei", "South": "ou\u00f6"}  # what tells the languages apart


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with a folder of names, to work in."""
    monkeypatch.chdir(tmp_path)
    Path("names").mkdir()
    for language, vowels in VOWELS.items():
        rng = random.Random(language)
        words = [
            "".join(rng.choice("BKLMNT") + rng.choice(vowels) for _ in range(rng.randint(1, 4))) for _ in range(60)
        ]
        Path("names", f"{language}.txt").write_text("\n".join(words) + "\n", "utf-8")
    return tmp_path


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "classify.py", options, classify.main, classify.Options, RunFolder)


def share(out: str, name: str) -> float:
    return float(re.search(rf"^  {name} +(\d\.\d{{3}})$", out, re.MULTILINE)[1])


def test_it_runs(here, monkeypatch, capsys):
    options = ("--hidden-size", "4", "--batch", "8", "--data", "names", "--steps", "2")
    assert call(monkeypatch, *options, "--cell", "GRU", "--bidirectional") == 0
    out = capsys.readouterr().out
    assert "2 classes" in out
    assert 0 <= share(out, "bidirectional GRU") <= 1
    assert share(out, "logistic regression, 1-3-grams") > 0.9
    assert Path("runs/classify/1/curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_digits(here, monkeypatch, capsys):
    options = (*SMALL, "--steps", "150", "--dropout", "0.1", "--learning-rate", "0.02")
    assert call(monkeypatch, *options, "--run-dir", "whole") == 0
    out = capsys.readouterr().out
    assert share(out, "SVC") == pytest.approx(0.969, abs=0.002)  # scikit-learn's example
    assert 0.92 < share(out, "logistic regression") < 0.95
    assert share(out, "always 3") == pytest.approx(0.101, abs=0.001)
    for name in ("Elman", "LSTM", "GRU", "bidirectional LSTM"):
        assert share(out, name) > 0.3, name
    assert share(out, "all together") > 0.6
    with Path("whole/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert float(rows[-1]["valid_loss"]) < 0.6 * np.log(10)
    assert Path("whole/curves.png").read_bytes().startswith(b"\x89PNG")

    assert call(monkeypatch, "--resume", "--run-dir", "whole") == 0  # it has ended: only its result is printed again
    assert capsys.readouterr().out.split("Accuracy on the test set")[1] == out.split("Accuracy on the test set")[1]


@pytest.mark.slow
def test_names_in_both_directions(here, monkeypatch, capsys):
    options = (
        *SMALL,
        "--data",
        "names",
        "--steps",
        "80",
        "--cell",
        "GRU",
        "--bidirectional",
        "--learning-rate",
        "0.02",
    )
    assert call(monkeypatch, *options) == 0
    out = capsys.readouterr().out
    assert "2 classes" in out
    assert share(out, "always [NS][a-z]+") < 0.6
    assert share(out, "bidirectional GRU") > 0.9
    assert "all together" not in out


def test_each_name_is_in_one_part_and_read_to_its_end(here):
    with Path("names/South.txt").open("a", encoding="utf-8") as file:
        file.write("  Bo\u0308ko \r\n\nB\u00f6ko\n")  # one name, spelt in two ways
    data = labeled_sequences.names(Path("names"))
    assert list(data.classes) == ["North", "South"]
    everything = np.concatenate([data.train, data.valid, data.test])
    assert sorted(everything) == list(range(len(data.labels)))
    strings = [data.string(n) for n in everything]
    assert len(set(strings)) == len(strings)
    assert strings.count("B\u00f6ko") == 1
    for label, language in enumerate(VOWELS):
        lines = Path("names", f"{language}.txt").read_text("utf-8").replace("o\u0308", "\u00f6").split("\n")
        known = {line.strip() for line in lines} - {""}
        assert {data.string(n) for n in np.flatnonzero(data.labels == label)} == known
        assert (data.labels[data.test] == label).sum() == pytest.approx(len(known) / 5, abs=1)


def test_symbols_that_training_has_not_are_one():
    alphabet, xs, lengths = labeled_sequences.encoded(["ab", "bc", "abzx"], np.array([0, 1]))
    assert alphabet == "abc"
    assert xs.T.tolist() == [[0, 1, 0, 0], [1, 2, 0, 0], [0, 1, 3, 3]]
    assert lengths.tolist() == [2, 2, 4]


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "bidirectional"), [("ProjectedLSTM", False), ("Elman", True)])
def test_padding_changes_nothing(here, cell, bidirectional):
    data = labeled_sequences.names(Path("names"))
    config = classify.Options(cell=cell, bidirectional=bidirectional, hidden_size=6)
    (network,) = classify.make_networks(config, data)
    params = network.init(jax.random.key(0), data.num_features)
    logits = network.logits(params, data.xs, data.lengths)
    other = network.logits(params, np.where(data.steps, data.xs, 3), data.lengths)
    np.testing.assert_array_equal(logits, other)
    short = data.lengths == 4
    alone = network.logits(params, data.xs[:4, short], data.lengths[short])
    np.testing.assert_allclose(alone, logits[short], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_together_is_the_mean_of_all():
    data = labeled_sequences.digits()
    configs = [classify.Options(cell=cell, hidden_size=4) for cell in ("Elman", "GRU")]
    networks = tuple(classify.make_networks(config, data)[0] for config in configs)
    params = classify.begin(configs[0], networks, data.num_features).params
    found = jnp.exp(classify.log_probabilities(networks, params, data.xs[:, :3], data.lengths[:3]))
    assert found.shape == (3, 3, 10)
    np.testing.assert_allclose(found[-1], found[:-1].mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)


@pytest.mark.slow
def test_warped_images_differ_a_little():
    data = labeled_sequences.digits()
    images = jnp.asarray(data.xs[:, :200])
    warped = labeled_sequences.warp(jax.random.key(0), images)
    assert warped.shape == images.shape
    assert not np.isnan(warped).any()
    likeness = [np.corrcoef(images[:, n].ravel(), warped[:, n].ravel())[0, 1] for n in range(200)]
    assert 0.5 < np.mean(likeness) < 0.99


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", "missing"], "missing is not a folder of languages: it has 0 files"),
        (["--data", "one"], "one is not a folder of languages: it has 1 files"),
        (["--data", "bytes"], "bytes/B.txt is not UTF-8 text: byte 3 is 0xff"),
        (["--data", "few"], "few/B.txt has 2 different names"),
        (["--data", "prose"], "prose/B.txt has more than one name a line: x+"),
        (["--cell", "LSMT"], "no cell named 'LSMT'"),
        (["--bidirectional"], "--bidirectional needs --cell"),
        (["--dropout", "1"], "--dropout must be from 0 to below 1"),
        (["--layers", "0"], "--layers must be at least 1"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--hidden-size", "many"], "--hidden-size.*'many'"),
        (["--learning-rate", "0"], "--learning-rate must be above 0"),
        (["--resume"], "there is no run in runs/classify"),
    ],
)
def test_bad_input_is_reported_in_one_line(here, monkeypatch, capsys, options, complaint):
    good = "\n".join("abcdefghijkl").encode()
    for folder, content in (
        ("bytes", b"abc\xff"),
        ("few", b"a\nb\na\n"),
        ("prose", good + b"\n" + 70 * b"x"),
        ("one", b""),
    ):
        Path(folder).mkdir()
        Path(folder, "A.txt").write_bytes(good)
        if content:
            Path(folder, "B.txt").write_bytes(content)
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
    assert not Path("runs").exists()
