"""Gradients against the lag: they are the derivatives, and cells whose gradients do not vanish learn."""

from __future__ import annotations

import re
from pathlib import Path

import gradients
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.options import RunFolder

import jaxrnn
from tests.support.scripts import call_script, error_line

pytestmark = pytest.mark.usefixtures("quick")


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "gradients.py", options, gradients.main, gradients.Options, RunFolder)


def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ("--cell", "GRU", "--length", "20", "--seeds", "2", "--hidden-size", "4", "--steps", "3")
    assert call(monkeypatch, *options, "--run-dir", "run") == 0
    out = capsys.readouterr().out
    assert re.search(r"GRU +[\d.]+% correct, [\d.]+% from lag 10 on", out)
    before, after = map(float, re.search(r"gradient there (\S+) before training, (\S+) after it", out).groups())
    assert before > 0
    assert after > 0
    assert Path("run/gradients.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_gated_cell_learns_what_was_long_ago(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ("--cell", "LSTM", "--length", "20", "--seeds", "1", "--hidden-size", "24", "--learning-rate", "1e-2")
    assert call(monkeypatch, *options, "--steps", "400", "--run-dir", "run") == 0
    out = capsys.readouterr().out
    share = float(re.search(r"LSTM +([\d.]+)% correct", out)[1])
    chance = float(re.search(r"baseline +chance ([\d.]+)% correct", out)[1])
    assert chance == 25.0
    assert share > 2 * chance
    before, after = map(float, re.search(r"gradient there (\S+) before training, (\S+) after it", out).groups())
    assert after > before
    assert Path("run/gradients.png").read_bytes().startswith(b"\x89PNG")


def test_a_sequence_holds_one_symbol_at_its_lag():
    xs, classes, lags = map(np.asarray, gradients.draw(jax.random.key(0), 500, 30))
    assert ((xs < gradients.CLASSES).sum(0) == 1).all()
    assert (xs[29 - lags, np.arange(500)] == classes).all()
    assert xs.max() < gradients.CLASSES + gradients.NOISE
    assert set(classes) == set(range(gradients.CLASSES))
    assert set(lags) == set(range(30))


@pytest.mark.parametrize(
    "cell",
    [
        jaxrnn.Elman(5),
        pytest.param(jaxrnn.LSTM(5), marks=pytest.mark.slow),
        pytest.param(jaxrnn.GRU(5), marks=pytest.mark.slow),
    ],
    ids=lambda cell: type(cell).__name__,
)
def test_norms_are_those_of_the_jacobian(cell):
    time, batch, key = 4, 2, jax.random.key(2)
    params = cell.init(jax.random.key(0), 4)
    xs = jax.random.randint(jax.random.key(1), (time, batch), 0, 4)
    v = jax.random.normal(key, (batch, 5))
    v = v / jnp.linalg.norm(v, axis=-1, keepdims=True)
    expected = []
    for lag in range(time):  # by the Jacobian of all later steps, one sequence after the other
        norms = []
        for n in range(batch):
            state, _ = jaxrnn.unroll(cell, params, xs[: time - lag, n])
            if lag == 0:
                jacobian = jax.jacobian(lambda s: cell.readout(params, s, None))(state)
            else:
                rest = xs[time - lag :, n]
                jacobian = jax.jacfwd(
                    lambda s, rest=rest: jaxrnn.unroll(cell, params, rest, s, loop=jaxrnn.loops.Scan())[1][-1]
                )(state)
            norms.append(np.linalg.norm(np.concatenate([v[n] @ leaf for leaf in jax.tree.leaves(jacobian)])))
        expected.append(np.mean(norms))
    np.testing.assert_allclose(gradients.gradient_norms(cell, params, xs, key), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--cell", "LSMT"], "no cell named 'LSMT'"),
        (["--cell"], "--cell"),
        (["--length", "5"], "--length must be at least 20"),
        (["--hidden-size", "0"], "--hidden-size must be at least 1"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--learning-rate", "nan"], "--learning-rate must be above 0"),
    ],
)
def test_bad_input_is_reported_in_one_line(tmp_path, monkeypatch, capsys, options, complaint):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert complaint in line
