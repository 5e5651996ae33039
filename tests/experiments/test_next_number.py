"""The next number: that both ways of running agree, and that sunspots and the baseline are what they should be."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import next_number
import numpy as np
import pytest
from data import sunspots
from support.options import RunFolder

from tests.support.scripts import EXPERIMENTS, call_script, error_line

pytestmark = pytest.mark.usefixtures("quick")


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "next_number.py", options, next_number.main, next_number.Options, RunFolder)


def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "--steps", "3", "--seeds", "1", "--hidden-size", "3", "--run-dir", "run") == 0
    out = capsys.readouterr().out
    assert re.search(r"sunspots +ARV ([\d.]+) .* alone ([\d.]+)", out)
    assert re.search(r"baselines +AR\(9\) 0.123, repeating the last year 0.416\n", out)
    assert len(re.findall(r" -> \S+ by hand, \S+ by unroll, true ", out)) == 4
    assert Path("run/sunspots.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_it_learns_both(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "--steps", "200", "--seeds", "2", "--run-dir", "run") == 0
    out = capsys.readouterr().out
    row = r"series +root mean square error ([\d.]+) .* ([\d.]+) by repeating .* at most (\S+)\n"
    error, last, apart = re.search(row, out).groups()
    assert float(error) < 0.3 * float(last)
    assert float(apart) < 1e-2
    score, alone = re.search(r"sunspots +ARV ([\d.]+) .* alone ([\d.]+)", out).groups()
    linear, repeating = re.search(r"baselines +AR\(9\) ([\d.]+), repeating the last year ([\d.]+)\n", out).groups()
    assert float(linear) == 0.123
    assert float(score) < 0.5 * float(repeating)
    assert float(score) <= float(alone)
    assert len(re.findall(r" -> \S+ by hand, \S+ by unroll, true ", out)) == 4
    assert Path("run/sunspots.png").read_bytes().startswith(b"\x89PNG")

    assert len(Path("run/metrics.csv").read_text().splitlines()) == 1 + 20
    assert call(monkeypatch, "--resume", "--run-dir", "run") == 0  # it has ended: the same is said again
    assert re.search(r"sunspots +ARV ([\d.]+)", capsys.readouterr().out)[1] == score


def test_steps_by_hand_are_the_unroll():
    model = next_number.make_models(next_number.Options(cell="LSTM"))[0]
    params = model.init(jax.random.key(0), 1)
    xs, sixth = next_number.draw_series(jax.random.key(1), 7)
    np.testing.assert_allclose(np.diff(np.append(xs[:, :, 0], sixth[None], axis=0), n=2, axis=0), 0, atol=1e-6)
    by_hand, by_unroll = (way(model, params, xs) for way in (next_number.by_hand, next_number.by_unroll))
    assert by_hand.shape == sixth.shape
    np.testing.assert_allclose(by_hand, by_unroll, atol=1e-6)


def test_the_sunspots_are_those_of_the_literature():
    numbers = sunspots.read_numbers(None)
    assert numbers.shape == sunspots.YEARS.shape == (256,)
    known = {1700: 5.0, 1712: 0.0, 1778: 154.4, 1920: 37.6, 1921: 26.1, 1947: 151.6, 1955: 38.0}
    assert {year: numbers[year - 1700] for year in known} == known
    assert len((EXPERIMENTS / "data/sunspots.csv").read_text().splitlines()) == 1 + 309


def test_the_autoregression_finds_the_coefficients_of_a_recurrence():
    numbers = [1.0, 2.0]
    while len(numbers) < 40:
        numbers.append(1.5 * numbers[-1] - 0.9 * numbers[-2] + 3.0)
    numbers = np.array(numbers)
    predicted = sunspots.autoregression(numbers, 2, np.arange(40) < 20)
    assert np.isnan(predicted[:2]).all()
    np.testing.assert_allclose(predicted[2:], numbers[2:], rtol=1e-8)


def test_the_autoregression_is_that_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    numbers = sunspots.read_numbers(None)
    windows = np.lib.stride_tricks.sliding_window_view(numbers, 9)[:-1]
    fitted = sunspots.YEARS <= 1920
    line = linear_model.LinearRegression().fit(windows[fitted[9:]], numbers[9:][fitted[9:]])
    predicted = sunspots.autoregression(numbers, 9, fitted)
    np.testing.assert_allclose(predicted[9:], line.predict(windows), rtol=1e-8)
    expected = np.mean((line.predict(windows)[-35:] - numbers[-35:]) ** 2) / 1535
    assert sunspots.arv(predicted, numbers, ~fitted) == pytest.approx(expected)


def test_blocks_part_the_training_years():
    block = sunspots.blocks(5)
    assert set(block) == {-1, 0, 1, 2, 3, 4}
    assert (block[sunspots.YEARS > 1920] == -1).all()
    assert (block[:12] == -1).all()
    inside = block[12 : 1921 - 1700]
    assert (np.diff(inside) >= 0).all()
    assert np.ptp(np.bincount(inside)) <= 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", "missing.csv"], "missing.csv: No such file"),
        (["--data", "."], "Is a directory"),
        (["--data", "words.csv"], "words.csv must have a header, then year,sunspots"),
        (["--data", "short.csv"], "must have each year from 1700 to 1955, but 1702 is missing"),
        (["--data", "bytes.csv"], "bytes.csv must have"),
        (["--data", "nan.csv"], "nan.csv must have finite numbers"),
        (["--cell", "LSMT"], "no cell named 'LSMT'"),
        (["--hidden-size", "0"], "--hidden-size must be at least 1"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--learning-rate", "0"], "--learning-rate must be above 0"),
        (["--noise", "-1"], "--noise must be at least 0"),
        (["--steps", "0"], "--steps must be at least 1"),
    ],
)
def test_bad_input_is_reported_in_one_line(tmp_path, monkeypatch, capsys, options, complaint):
    monkeypatch.chdir(tmp_path)
    Path("words.csv").write_text("year,sunspots\nmany,few\n")
    Path("short.csv").write_text("year,sunspots\n1700,5\n1701,11\n")
    Path("bytes.csv").write_bytes(b"year\n\xff\xff")
    Path("nan.csv").write_text((EXPERIMENTS / "data/sunspots.csv").read_text().replace("1701,11", "1701,nan"))
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert complaint in line
