"""The zoo: its tasks against their definitions, sizes within the limits, resumed runs, reported failures."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo.compare
from data.text import SHORTER, Text
from sklearn.datasets import load_digits
from support.cells import cell_class
from zoo.fitting import AS_WIDE_AS_INPUT, CONVOLUTIONAL, READINGS, count, fit, model_of, shapes_of
from zoo.results import Entry, Results
from zoo.tasks import TASKS, WINDOW

import jaxrnn
from tests.support.scripts import EXPERIMENTS

pytestmark = pytest.mark.usefixtures("quick")
QUICK = ("--steps", "2", "--jobs", "1", "--batch", "4")


def call(monkeypatch, *options: str) -> int:
    """Runs the zoo in this process and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["zoo", *options])
    try:
        zoo.compare.run_zoo()
    except SystemExit as end:
        return end.code
    return 0


def rows(run_dir: str = "runs/zoo/1") -> list[dict[str, str]]:
    """The results but for the time they took."""
    with Path(run_dir, "results.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in ("seconds", "compiled")} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_digits_are_those_of_scikit_learn_in_one_order():
    images, labels = load_digits(return_X_y=True)
    order, half = np.random.default_rng(0).permutation(64), len(images) // 2
    test = TASKS["digits"]().test
    np.testing.assert_allclose(test.xs[..., 0], images[half:].T[order] / 16)
    np.testing.assert_array_equal(test.targets[-1], labels[half:])
    assert test.counted.sum() == test.counted[-1].sum() == len(images) - half
    drawn = TASKS["digits"]().draw(jax.random.key(0), 50)
    known = {
        image.tobytes(): label for image, label in zip(images[:half].astype(np.float32) / 16, labels, strict=False)
    }
    for n in range(50):  # each is an image of the half for training, with its label
        assert known[np.asarray(drawn.xs[np.argsort(order), n, 0]).tobytes()] == drawn.targets[-1, n]


@pytest.mark.slow
def test_characters_are_those_of_the_text():
    text, task = Text.of(None, SHORTER), TASKS["characters"]()
    for part, from_, to in ((task.draw(jax.random.key(0), 9), 0, 0.9), (task.valid, 0.9, 0.951), (task.test, 0.949, 1)):
        read = np.concatenate([part.xs, part.targets[-1:]]).T.astype(text.symbols.dtype)
        some = text.symbols[int(from_ * len(text.symbols)) : int(to * len(text.symbols)) + 1].tobytes()
        assert all(window.tobytes() in some for window in read)
        np.testing.assert_array_equal(part.xs[1:], part.targets[:-1])
    assert task.draw(jax.random.key(0), 9).counted.all()
    np.testing.assert_array_equal(task.test.counted[:, 0], np.arange(WINDOW) >= WINDOW // 2)


@pytest.mark.slow
def test_every_part_is_of_other_sequences():
    for task in (TASKS[name]() for name in TASKS):
        drawn = task.draw(jax.random.key(0), 64).xs
        parts = [
            {np.asarray(part[:, n]).tobytes() for n in range(part.shape[1])}
            for part in (drawn, task.valid.xs, task.test.xs)
        ]
        assert len(parts[1] | parts[2]) == len(parts[1]) + len(parts[2])
        assert not parts[0] & parts[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LSTM", "IndRNN", "ClockworkRNN", "LRU", "CfC"])
@pytest.mark.parametrize("task", TASKS)
def test_models_are_as_wide_as_the_limits_allow(task, name):
    made = TASKS[task]()
    model = fit(name, made, 3000, 64)
    params = model.layer.init(jax.random.key(0), made.inputs)
    complex_too = sum(leaf.size * (1 + jnp.iscomplexobj(leaf)) for leaf in jax.tree.leaves(params))
    assert count(params) == complex_too <= 3000
    if model.hidden_size < 64:
        assert count(shapes_of(model_of(name, made, model.hidden_size + 4), made)) > 3000


ODD = {*READINGS, *AS_WIDE_AS_INPUT, *CONVOLUTIONAL, "MUT1", "MogrifierLSTM"}  # these do not read symbols
FEW = ("ConvGRU", "GRUD", "LSTM", "SelectiveSSM")  # a cell of each kind of model


@pytest.mark.parametrize(
    "name",
    [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in (c.__name__ for c in jaxrnn.cells.all())],
)
def test_every_cell_has_a_model(name):
    task = TASKS["adding"]() if name in FEW else TASKS["characters" if name in ODD else "digits"]()
    model = model_of(name, task, 8)
    assert any(isinstance(getattr(layer, "cell", layer), cell_class(name)) for layer in model.layers)
    shapes_of(model, task)  # raises if it does not run


def test_the_cells_that_do_not_read_symbols_exist():
    assert {kind.__name__ for kind in jaxrnn.cells.all()} >= ODD


def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = (*QUICK, "--task", "adding", "--cell", "Elman", "LSTM", "--hidden-size", "4", "--parameters", "60")
    assert call(monkeypatch, *options) == 0
    fine, failed = rows()
    assert not fine["failure"]
    assert failed["failure"].startswith("LSTM has ")
    assert capsys.readouterr().out.count("| 1 | `Elman` | **") == 1
    assert Path("runs/zoo/1/zoo.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_cell_learns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ("--task", "digits", "--cell", "GRU", "--steps", "250", "--jobs", "1", "--hidden-size", "24")
    assert call(monkeypatch, *options, "--learning-rate", "1e-9", "1e-2") == 0
    (row,) = rows()
    assert float(row["test"]) < 0.6  # a guess: 0.9
    assert row["learning_rate"] == "0.01"  # chosen by the validation data
    assert "| 1 | `GRU` | **0." in capsys.readouterr().out
    assert Path("runs/zoo/1/zoo.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_results_are_the_same_in_any_order_and_with_any_workers(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    options = ("--task", "digits", "--cell", "Elman", "IndRNN", "--steps", "2", "--batch", "4")
    assert call(monkeypatch, *options, "--jobs", "1") == 0
    whole, table = rows(), Path("runs/zoo/1/results.csv")
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:2]))  # as if stopped after the first
    assert call(monkeypatch, "--resume") == 0
    assert rows() == whole
    assert (
        subprocess.run(
            [sys.executable, str(EXPERIMENTS / "zoo"), *options, "--jobs", "2", "--run-dir", "two"]
        ).returncode
        == 0
    )
    assert sorted(rows("two"), key=str) == sorted(whole, key=str)


@pytest.mark.slow
def test_failures_are_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *QUICK, "--task", "digits", "--cell", "LSTM", "Elman", "--parameters", "120") == 0
    failed, fine = rows()
    assert failed["failure"] == "LSTM has 146 parameters at size 4, above the limit of 120"
    assert not fine["failure"]
    out = capsys.readouterr().out
    assert out.index("| 1 | `Elman` |") < out.index("| 2 | `LSTM` | LSTM has 146")
    options = (*QUICK, "--task", "adding", "--cell", "Elman", "--learning-rate", "1e30", "--steps", "30")
    assert call(monkeypatch, *options, "--hidden-size", "4") == 0
    assert rows("runs/zoo/2")[0]["failure"] == "diverged"


def test_it_stops_and_says_how_to_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ("--task", "digits", "--cell", "LSTM", "GRU", "--parameters", "60")  # neither fits: nothing is trained
    assert call(monkeypatch, *QUICK, *options, "--minutes", "1e-9") == 0
    out = capsys.readouterr().out
    assert len(rows()) == 1
    assert "--run-dir runs/zoo/1 --resume" in out


def test_bad_options_are_reported_in_one_line(monkeypatch, capsys):
    for options, message in (
        (("--cell", "LSTN"), "there is no cell named 'LSTN': did you mean LSTM"),
        (("--seconds", "0"), "--seconds must be above 0"),
        (("--parameters", "0"), "--parameters must be at least 1"),
        (("--learning-rate", "-1"), "--learning-rate -1.0 must be above 0"),
        (("--task", "none"), "--help lists the options"),
    ):
        assert call(monkeypatch, *options) == 2
        err = capsys.readouterr().err
        assert message in err
        assert len(err.splitlines()) == 1


def test_rows_of_another_run_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    other = Results(tmp_path)
    for n, cell in enumerate(("LSTM", "GRU")):
        other.add(
            Entry("adding", cell), {"test": 0.1 + n, "failure": "", "hidden_size": 8, "updates": 10, "compiled": 1}
        )
    options = ("--task", "adding", "--cell", "GRU", "--parameters", "60", "--others", "results.csv")  # it does not fit
    assert call(monkeypatch, *QUICK, *options) == 0
    kept, own = rows()
    assert (kept["cell"], kept["test"], kept["failure"]) == ("LSTM", "0.1", "")
    assert own["failure"].startswith("GRU has ")
    assert "| 1 | `LSTM` | **0.1** |" in Path("runs/zoo/1/table.md").read_text()
    assert call(monkeypatch, "--resume") == 0
    assert rows() == [kept, own]
    assert call(monkeypatch, "--others", "none.csv") == 2
    assert f"--others must be a file, but there is none at {tmp_path}/none.csv" in capsys.readouterr().err
    other.add(Entry("adding", "LSTN"), {"failure": "diverged"})
    assert call(monkeypatch, "--others", "results.csv") == 2
    assert "there is no cell named 'LSTN'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_published_table_is_that_of_the_published_results():
    folder = EXPERIMENTS / "zoo"
    published = Results(folder)
    assert published.table() == (folder / "table.md").read_text()
    assert {entry.cell for entry in published.rows} == {kind.__name__ for kind in jaxrnn.cells.all()}


def test_the_order_of_the_table(tmp_path):
    results = Results(tmp_path)
    # 0.1 and 0.10001 are equal in the table.
    reached = {"LSTM": (0.2, 0.3), "GRU": (0.10001, 0.4), "Elman": (0.1, 0.1), "IndRNN": (None, 0.05)}
    for cell, values in reached.items():
        for task, value in zip(("adding", "digits"), values, strict=True):
            row = {"failure": "diverged"} if value is None else {"test": value, "failure": ""}
            results.add(Entry(task, cell), row)
    # Mean ranks, counted from 0: Elman (0.5 + 1), IndRNN (3 + 0), GRU (0.5 + 3), LSTM (2 + 2).
    assert results.cells() == ["Elman", "IndRNN", "GRU", "LSTM"]
    assert Results(tmp_path).cells() == results.cells()
    assert cell_class("LSTM") is jaxrnn.LSTM
