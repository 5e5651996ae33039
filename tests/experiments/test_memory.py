"""The memory experiment: its tasks against their definitions, that short ones are solved, that a table is resumed."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import jax
import memory
import numpy as np
import pytest
from data.memory_tasks import TASKS, Sequences, judge
from support.cells import make_cell
from support.errors import BadInputError
from support.options import RunFolder

import jaxrnn
from tests.support.scripts import call_script, error_line

BATCH = 4000
CONVOLUTIONAL = {"ConvGRU", "ConvLSTM", "PeepholeConvLSTM"}  # these need a shape
pytestmark = pytest.mark.usefixtures("quick")


def draw(task: str, length: int) -> Sequences:
    draw = jax.jit(TASKS[task].draw, static_argnums=(1, 2))
    return Sequences(*map(np.asarray, draw(jax.random.key(1), length, BATCH)))


def last_steps(sequences: Sequences, length: int) -> np.ndarray:
    """The one step of each sequence that counts, wherever sequences are up to a tenth longer than `length`."""
    assert (sequences.counted.sum(0) == 1).all()
    last = sequences.counted.argmax(0)
    assert set(last) == set(range(length - 1, length + length // 10))
    return last


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "memory.py", options, memory.main, memory.Options, RunFolder, memory.Limit)


def rows(run_dir: str) -> list[dict[str, str]]:
    path = Path(run_dir, "results.csv")
    return list(csv.DictReader(path.open())) if path.exists() else []


def results_of(run_dir: str) -> list[dict[str, str]]:
    """Returns the results without their times."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(run_dir)]


@pytest.mark.parametrize("length", [10, pytest.param(40, marks=pytest.mark.slow)])
def test_adding(length):
    sequences = draw("adding", length)
    last = last_steps(sequences, length)
    values, marks = np.moveaxis(sequences.xs, -1, 0)
    assert np.abs(values).max() <= 1
    assert values.min() < -0.99
    for n in range(BATCH):
        one, other = np.flatnonzero(marks[:, n] == 1)
        assert 1 <= one < min(10, length // 2)
        assert one < other < length // 2
        assert set(np.flatnonzero(marks[:, n] == -1)) == {0, last[n]}
        expected = (values[one, n] + values[other, n]) / 2
        assert sequences.targets[last[n], n] == pytest.approx(expected, abs=1e-6)
    targets = sequences.targets[last, np.arange(BATCH)]
    assert np.mean((targets - targets.mean()) ** 2) == pytest.approx(TASKS["adding"].baseline(length), rel=0.05)


@pytest.mark.parametrize("length", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_copying(length):
    xs, targets, counted = draw("copying", length)
    assert xs.shape == (length + 20, BATCH)
    assert counted.all()
    symbols, pause, sign, wait = np.split(xs, [10, length + 9, length + 10])
    assert set(symbols.ravel()) == set(range(8))
    assert len(pause) == length - 1
    assert (pause == 8).all()
    assert (sign == 9).all()
    assert (wait == 8).all()
    np.testing.assert_array_equal(targets[-10:], symbols)
    assert (targets[:-10] == 8).all()
    # Without memory: certain of the blanks, and any of the eight symbols as likely at the end.
    logits = np.full((*targets.shape, 9), -1e3)
    logits[:-10, :, 8] = 0
    logits[-10:, :, :8] = 0
    loss, _ = judge(TASKS["copying"], logits, Sequences(xs, targets, counted))
    assert float(loss) == pytest.approx(TASKS["copying"].baseline(length), rel=1e-5)


@pytest.mark.parametrize("length", [10, pytest.param(40, marks=pytest.mark.slow)])
def test_order(length):
    sequences = draw("order", length)
    last = last_steps(sequences, length)
    classes = []
    for n, (symbols, end) in enumerate(zip(sequences.xs.T, last, strict=True)):
        assert (symbols[0], symbols[end]) == (4, 5)
        early, middle = np.flatnonzero(symbols >= 6)
        assert length / 10 <= early <= length / 5
        assert length / 2 <= middle <= 0.6 * length
        rest = np.delete(symbols, np.array([0, end, early, middle]))
        assert set(rest) <= set(range(4))
        classes.append({(6, 6): 0, (6, 7): 1, (7, 6): 2, (7, 7): 3}[symbols[early], symbols[middle]])
        assert sequences.targets[end, n] == classes[-1]
    most = max(np.bincount(classes, minlength=4)) / BATCH
    assert 1 - most == pytest.approx(TASKS["order"].baseline(length), abs=0.03)


def test_parity():
    bits, targets, counted = draw("parity", 30)
    assert counted.all()
    assert set(bits.ravel()) == {0, 1}
    odd = np.zeros(BATCH, int)
    for bit, target in zip(bits, targets, strict=True):
        odd ^= bit
        np.testing.assert_array_equal(target, odd)
    assert targets.mean() == pytest.approx(TASKS["parity"].baseline(30), abs=0.01)


def test_errors_are_those_of_numpy():
    rng = np.random.default_rng(0)
    counted = rng.random((7, 5)) < 0.5
    counted[0] = True
    targets, outputs = rng.random((7, 5)), rng.random((7, 5, 1))
    loss, (measure, errors) = judge(TASKS["adding"], outputs, Sequences(outputs, targets, counted))
    differences = np.abs(outputs[..., 0] - targets)
    np.testing.assert_allclose([loss, measure], np.mean(differences[counted] ** 2), rtol=1e-5)
    np.testing.assert_allclose(errors, np.where(counted, differences, 0).max(0), rtol=1e-5)

    classes, outputs = rng.integers(0, 4, (7, 5)), rng.normal(size=(7, 5, 4))
    loss, (measure, errors) = judge(TASKS["order"], outputs, Sequences(outputs, classes, counted))
    probabilities = np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)
    of_true = np.take_along_axis(probabilities, classes[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(loss, -np.log(of_true[counted]).mean(), rtol=1e-5)
    np.testing.assert_allclose(measure, (outputs.argmax(-1) != classes)[counted].mean(), rtol=1e-5)
    np.testing.assert_allclose(errors, np.where(counted, 1 - of_true, 0).max(0), rtol=1e-5)


@pytest.mark.slow
def test_short_tasks_are_solved(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ("--task", "adding", "order", "--length", "10", "--cell", "GRU", "--steps", "2000", "--seeds", "2")
    assert call(monkeypatch, *options) == 0
    out = capsys.readouterr().out
    for task in ("adding", "order"):
        after = int(re.search(rf"{task} 10 \| GRU +solved after ([\d,]+) ", out)[1].replace(",", ""))
        assert memory.RECENT <= after <= 2000 * 20
        for row in rows("runs/memory/1"):
            if row["task"] == task:
                assert float(row["curve"].split()[-1]) < 0.05 * TASKS[task].baseline(10)
                assert int(row["wrong"]) < 0.02 * memory.TEST
    assert Path("runs/memory/1/curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_is_resumed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ("--task", "parity", "--length", "10", "11", "--cell", "Elman", "--steps", "3", "--seeds", "2")
    assert call(monkeypatch, *options) == 0
    assert re.search(r"parity 10 \| Elman +not solved after 60 .*baseline 0.500", capsys.readouterr().out)

    # Without its last entry the table is as if the run had been stopped there.
    whole, table = results_of("runs/memory/1"), Path("runs/memory/1/results.csv")
    assert [row["length"] for row in whole] == ["10", "10", "11", "11"]
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-2]))
    assert call(monkeypatch, "--resume", "--minutes", "1e-9") == 0  # there is no time for it either
    out = capsys.readouterr().out
    assert re.search(r"parity 11 \| Elman +not run", out)
    assert re.search(r"resume .*--run-dir runs/memory/1 --resume", out)
    assert len(rows("runs/memory/1")) == 2
    assert call(monkeypatch, "--resume") == 0
    assert results_of("runs/memory/1") == whole


def test_the_entries():
    entries = memory.entries_of(memory.Options())
    assert len(entries) == 16
    assert {entry.length for entry in entries if entry.task == "adding"} == {100}
    assert [str(entry) for entry in entries[:4]] == [
        f"adding 100 | {cell}" for cell in ("Elman", "GRU", "LSTM", "LSTM chrono")
    ]
    config = memory.Options(task=("adding",), length=(100, 200), cell=("LSTM", "GRU"), forget_bias=(3.0, "chrono"))
    entries = memory.entries_of(config)
    assert len(entries) == 8
    for entry in entries:
        params = memory.make_model(config, entry).init(jax.random.key(0), 2)
        n, keeps = 16, 1  # LSTM: i, f, g, o; GRU: r, z, n
        keep = np.asarray(params[0].b)[keeps * n : (keeps + 1) * n]
        if entry.forget_bias == 3.0:
            np.testing.assert_array_equal(keep, 3.0)
        else:
            assert (keep >= 0).all()
            assert (keep <= math.log(entry.length - 1)).all()
            assert len(set(keep)) == n


@pytest.mark.parametrize("kind", jaxrnn.cells.all(), ids=lambda kind: kind.__name__)
def test_the_bias_of_a_keeping_gate_is_found(kind):
    """What a bias of 3 changes, and that the message of cells without such a bias is true."""
    entry = memory.Entry("parity", 10, kind.__name__, 3.0)
    name = memory.keep_bias_field(kind)
    assert (name is not None) == bool({"forget_bias", "update_bias", "keep_bias"} & set(kind.__dataclass_fields__))
    if name is None:
        with pytest.raises(BadInputError, match=f"{kind.__name__} has no --forget-bias"):
            memory.make_model(memory.Options(), entry)
    elif kind.__name__ not in CONVOLUTIONAL:
        cell = memory.make_model(memory.Options(hidden_size=8), entry).layers[0]
        assert getattr(cell, name) == 3.0
        assert cell != make_cell(kind.__name__, 8)


def test_cells_with_a_keep_bias_take_a_chrono():
    entry = memory.Entry("parity", 10, "ResetBeforeGRU", "chrono")
    params = memory.make_model(memory.Options(), entry).init(jax.random.key(0), 2)
    assert len(set(np.asarray(params[0].b).tolist())) > 10  # spread, not one number


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--task", "subtracting"], "'subtracting'.*--task"),
        (["--length", "9"], "--length must be at least 10"),
        (["--cell", "LSMT"], "no cell named 'LSMT': did you mean "),
        (["--cell", "Elman", "--forget-bias", "chrono"], "Elman has no --forget-bias"),
        (["--forget-bias", "high"], "--forget-bias.*high"),
        (["--forget-bias", "nan"], "--forget-bias must be .*finite"),
        (["--hidden-size", "0"], "--hidden-size must be at least 1"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--learning-rate", "-1"], "--learning-rate must be above 0"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--minutes", "0"], "--minutes must be above 0"),
        (["--resume"], "there is no run in runs/memory"),
    ],
)
def test_bad_input_is_reported_in_one_line(tmp_path, monkeypatch, capsys, options, complaint):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
    assert not list(tmp_path.iterdir())
