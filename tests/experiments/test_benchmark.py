"""The benchmark: the files that it writes, that all contenders do the same work, that missing ones are left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from benchmark import cases, contenders, suites, work
from support.errors import BadInputError

from tests.support.scripts import EXPERIMENTS

COLUMNS = {"suite", "cell", "contender", "mode", "B", "T", "I", "H", "median_ms", "min_ms", "ratio", "device"}


@pytest.fixture
def precision():
    """The benchmark sets it for its process."""
    before = jax.config.jax_default_matmul_precision
    yield
    jax.config.update("jax_default_matmul_precision", before)


def small(tmp_path, **options) -> suites.Options:
    return suites.Options(tmp_path / "run", quick=True, rounds=1, **options)


@pytest.mark.slow
def test_every_suite_and_contender(tmp_path):
    command = [sys.executable, str(EXPERIMENTS / "benchmark"), "--quick", "--rounds", "1", "--cell", "LSTM"]
    command += ["--run-dir", "run"]
    # Other tests run at the same time, and spinning threads would wait for them.
    settings = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "benchmark.png").stat().st_size > 10_000
    made = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert made["bound_gflops"] > 0
    rows = made["rows"]
    assert all(row.keys() >= COLUMNS for row in rows)
    assert {(row["suite"], row["mode"]) for row in rows} == {
        ("bound", "product"),
        ("layer", "forward"),
        ("layer", "gradient"),
        ("model", "training"),
        ("scaling", "gradient"),
        ("scaling", "compile"),
        ("memory", "gradient"),
    }
    here = {name for name in suites.LAYERS if not contenders.missing(name) and contenders.knows(name, "LSTM")}
    here -= {name for name in here if contenders.unfit(name, "float32")}
    for suite, mode in (("layer", "forward"), ("layer", "gradient"), ("model", "training")):
        some = [row for row in rows if (row["suite"], row["mode"]) == (suite, mode)]
        assert {row["contender"] for row in some} == here
        assert len(some) == len(here)
        ours = some[0]
        assert ours["contender"] == contenders.OURS
        assert ours["ratio"] == 1
        for row in some:
            assert 0 < row["min_ms"] <= row["median_ms"]
            assert row["ratio"] == pytest.approx(row["median_ms"] / ours["median_ms"])
            assert row["fraction_of_bound"] == pytest.approx(row["gflops"] / made["bound_gflops"])
    assert all(row["temporary_mib"] > 0 for row in rows if row["suite"] == "memory")
    for name in set(suites.LAYERS) - here:
        assert f"left out: {name}: " in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("precision")
@pytest.mark.parametrize("cell", ["GRU", "Elman", "ResetBeforeGRU", "ReluElman", "PeepholeLSTM", "ProjectedLSTM"])
def test_contenders_of_other_cells_agree(tmp_path, cell):
    """A contender whose outputs or gradients differ from jaxrnn's stops the benchmark."""
    suites.main(small(tmp_path, suite=("layer",), cell=(cell,)))
    rows = json.loads((tmp_path / "run" / "benchmark.json").read_text())["rows"]
    assert {row["contender"] for row in rows} >= {contenders.OURS, "jaxrnn Scan", "lax.scan"}


@pytest.mark.slow
@pytest.mark.usefixtures("precision")
def test_bfloat16(tmp_path):
    few = ("lax.scan", "flax linen", "torch, threads asleep")
    options = {"suite": ("layer",), "cell": ("LSTM",), "contenders": few, "precision": "bfloat16"}
    suites.main(small(tmp_path, **options))
    rows = json.loads((tmp_path / "run" / "benchmark.json").read_text())["rows"]
    assert {row["contender"] for row in rows} >= {n for n in few if not contenders.missing(n)} | {contenders.OURS}


@pytest.mark.slow
def test_cudnn_has_its_weights_in_its_own_order(monkeypatch):
    """With JAX's description of it in the place of cuDNN."""
    from jax.experimental import rnn

    def lstm(x, h, c, weights, lengths, *sizes_and_precision):
        *sizes, _ = sizes_and_precision
        unpacked = rnn.unpack_lstm_weights(weights, *sizes[:3], sizes[-1])
        return rnn.lstm_ref(x, h, c, *unpacked, lengths, *sizes)

    monkeypatch.setattr(rnn, "lstm", lstm)
    case = cases.make_case("LSTM", (2, 5, 8))
    for mode in ("forward", "gradient"):
        ours, theirs = (
            task.results(task.call())
            for task in (work.layers(name, case, mode) for name in (contenders.OURS, "jax.experimental.rnn"))
        )
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("precision")
def test_a_contender_that_is_not_installed_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suites, "missing", lambda name: "haiku" if name == "haiku" else None)
    chosen = ("haiku", "lax.scan")
    suites.main(small(tmp_path, suite=("layer",), cell=("LSTM",), contenders=chosen))
    assert "left out: haiku: haiku is not installed" in capsys.readouterr().out
    made = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert made["left_out"] == {"haiku": "haiku is not installed"}
    assert {row["contender"] for row in made["rows"] if row["suite"] == "layer"} == {contenders.OURS, "lax.scan"}


@pytest.mark.usefixtures("precision")
@pytest.mark.parametrize("wrong", ["outputs", pytest.param("gradient", marks=pytest.mark.slow)])
def test_a_contender_that_computes_something_else_is_found(tmp_path, monkeypatch, capsys, wrong):
    def build(cell, params):
        right = contenders.textbook(cell, params)

        def run(params, xs):
            ys = right.run(params, xs)
            return 1.01 * ys if wrong == "outputs" else ys + 0.01 * (ys - jax.lax.stop_gradient(ys))

        return right._replace(run=run)

    monkeypatch.setitem(contenders.BUILDS, "lax.scan", {contenders.ANY: build})
    with pytest.raises(SystemExit):
        suites.main(small(tmp_path, suite=("layer",), cell=("LSTM",), contenders=("lax.scan",)))
    assert "lax.scan does not compute the same as ours" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": ("32x64",)}, "--sizes are like"),
        ({"sizes": ("0x1x1",)}, "--sizes are like"),
        ({"contenders": ("numpy",)}, "there is no contender 'numpy'"),
        ({"cell": ("LSMT",)}, "there is no cell named 'LSMT'"),
        ({"precision": "bfloat16"}, "--precision bfloat16 is for --suite layer"),
        ({"rounds": 0}, "--rounds must be at least 1"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(BadInputError, match=message):
        suites.Options(**options).check()
