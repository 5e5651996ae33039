"""The signals that units track: the labels, the scores, and the page are correct."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import char_lm
import gates
import jax
import numpy as np
import pytest
from data.source_labels import labels_of
from support.options import RunFolder

import jaxrnn
from tests.support.scripts import call_script, error_line

GROUPS = (char_lm.Options, RunFolder, char_lm.Sampling, gates.Page)
pytestmark = pytest.mark.usefixtures("quick")
SOURCE = '''\
def f(a, b=(1, [2])):  # a comment with "quotes" (and more
    s = "x(" + 'y'
    if a:
        """A text
        of two <lines>."""
        return {a: b}
g = 1 & 2
'''


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "gates.py", options, gates.main, *GROUPS)


def marked(source: str, label: np.ndarray) -> list[str]:
    """The stretches of text where a label is above zero."""
    marks = "".join("x" if on else " " for on in label > 0)
    return [source[found.start() : found.end()] for found in re.finditer("x+", marks)]


def test_labels_are_what_the_source_says():
    labels = labels_of(SOURCE)
    assert marked(SOURCE, labels["string"]) == ['"x(', "'y", '"""A text\n        of two <lines>.""']
    assert marked(SOURCE, labels["comment"]) == ['# a comment with "quotes" (and more']
    assert marked(SOURCE, labels["brackets"]) == ["(a, b=(1, [2])", "{a: b"]
    levels = {line.strip(): None for line in SOURCE.splitlines()}
    for line in levels:
        levels[line] = int(labels["indentation"][SOURCE.index(line)])
    assert levels == dict(zip(levels, [0, 1, 1, 2, 2, 2, 0], strict=True))
    assert all(len(label) == len(SOURCE) for label in labels.values())


def test_labels_end_where_the_source_breaks_off():
    whole, cut = labels_of(SOURCE * 5), labels_of(SOURCE * 5 + 'x = """no end\n')
    assert len(cut["string"]) >= 4 * len(SOURCE)
    number = min(len(whole["string"]), len(cut["string"])) - 1
    for name, label in cut.items():
        np.testing.assert_array_equal(label[:number], whole[name][:number])


def test_an_f_string_is_a_string():
    source = 'y = f"a{b}c" + d\n'
    string = labels_of(source)["string"]
    assert marked(source, string) == ['f"a{b}c']


def test_strengths_are_auc_and_spearman():
    metrics, stats = pytest.importorskip("sklearn.metrics"), pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 4, 300)
    signals = np.round(levels[:, None] * [1.0, -0.3, 0.0] + rng.normal(size=(300, 3)), 1)  # with ties
    auc = [metrics.roc_auc_score(levels > 1, signal) for signal in signals.T]
    np.testing.assert_allclose(gates.strengths(signals, (levels > 1).astype(int)), 2 * np.array(auc) - 1)
    spearman = [stats.spearmanr(signal, levels).statistic for signal in signals.T]
    np.testing.assert_allclose(gates.strengths(signals, levels), spearman)


def test_signals_are_those_of_the_cell():
    cell, xs = jaxrnn.LSTM(6), jax.random.randint(jax.random.key(1), (9,), 0, 5)
    params = cell.init(jax.random.key(0), 5)
    signals = np.asarray(gates.signals_of(cell, params, xs))
    assert signals.shape == (9, len(gates.SIGNALS), 6)
    _, hs = jaxrnn.unroll(cell, params, xs)
    np.testing.assert_allclose(signals[:, 0] * signals[:, 3], hs, atol=1e-6)  # h = o * tanh(c)
    c = np.arctanh(signals[:, 0].astype(float))
    assert (np.abs(c[1:] - signals[1:, 2] * c[:-1]) <= signals[1:, 1] + 1e-5).all()  # c = f * c + i * g, |g| <= 1


class Page(HTMLParser):
    """The text of each <pre>, and what is open at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.texts, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "pre":
            self.texts.append("")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "pre" in self.open:
            self.texts[-1] += data


def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("source.py").write_text(SOURCE * 60)
    options = ("--data", "source.py", "--hidden-size", "4", "--batch", "4", "--sequence-length", "8", "--steps", "2")
    assert call(monkeypatch, *options, "--devices", "one", "--excerpt", "100", "--run-dir", "run") == 0
    scores = re.findall(r"^  (string|comment|brackets|indentation) +-?[\d.]+ by the ", capsys.readouterr().out, re.M)
    assert scores == ["string", "comment", "brackets", "indentation"]
    page = Page()
    page.feed(Path("run/gates.html").read_text())
    assert not page.open
    assert len(page.texts) == 4


@pytest.mark.slow
def test_a_small_model_tracks_comments(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("source.py").write_text(source := SOURCE.replace("\n", "  # <&> and more words\n") * 150)
    options = ("--hidden-size", "32", "--batch", "16", "--sequence-length", "32", "--learning-rate", "2e-2")
    options = ("--data", "source.py", *options, "--devices", "one", "--excerpt", "400", "--run-dir", "run")
    assert call(monkeypatch, *options, "--steps", "300") == 0
    out = capsys.readouterr().out
    scores = dict(re.findall(r"^  (string|comment|brackets|indentation) +(-?[\d.]+) by the ", out, re.MULTILINE))
    assert set(scores) == {"string", "comment", "brackets", "indentation"}
    assert float(scores["comment"]) > 0.5  # 0 is what a coin says

    page = Page()
    page.feed(written := Path("run/gates.html").read_text())
    assert not page.open
    assert len(page.texts) == 4
    held_out = source[len(source) * 9 // 10 :]
    assert all(text in held_out and len(text) == 400 for text in page.texts)
    assert html.escape("<&>") in written
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert "http" not in written

    Path("run/gates.html").unlink()  # a run that is there: only the page is made again
    assert call(monkeypatch, "--resume", "--run-dir", "run", "--excerpt", "50") == 0
    assert len(Path("run/gates.html").read_text()) < len(written)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", "missing.py"], "missing.py: No such file"),
        (["--data", "prose.txt"], "prose.txt is not Python source"),
        (["--data", "plain.py"], "plain.py has no string, comment, brackets, indentation"),
        (["--cell", "GRU"], "--cell must be LSTM"),
        (["--excerpt", "0"], "--excerpt must be at least 1"),
        (["--hidden-size", "0"], "--hidden-size must be at least 1"),
    ],
)
def test_bad_input_is_reported_in_one_line(tmp_path, monkeypatch, capsys, options, complaint):
    monkeypatch.chdir(tmp_path)
    Path("prose.txt").write_text("  It's a text (of words\n that don't end.\n" * 200)
    Path("plain.py").write_text("a = b\n" * 1000)
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert complaint in line
