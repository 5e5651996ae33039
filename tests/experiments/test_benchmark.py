"""The benchmark: its files, that all contenders do the same work, and that missing contenders are left out."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import types
from typing import Any

import jax
import numpy as np
import pytest
from benchmark import budget, cases, choosing, contenders, matrices, measuring, million, report, suites, words, work
from support.errors import BadInputError

import jaxrnn
from tests.support.scripts import EXPERIMENTS
from tests.support.tiers import slow, slow_but

COLUMNS = {"suite", "cell", "contender", "mode", "B", "T", "I", "H", "median_ms", "min_ms", "ratio", "device"}


def small(tmp_path, **options) -> suites.Options:
    return suites.Options(tmp_path / "run", quick=True, rounds=1, **options)


def rows_of(tmp_path, **options):
    """Returns the rows of a small run, and everything in its benchmark.json."""
    suites.main(small(tmp_path, **options))
    made = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    return made["rows"], made


def row(contender, ratio, cell="LSTM", mode="gradient", size=(32, 64, 256), **other):
    batch, time, hidden = size
    sizes = {"B": batch, "T": time, "I": hidden, "H": hidden, "L": 1}
    given = {"suite": "grid", "cell": cell, "contender": contender, "mode": mode, "precision": "float32", **sizes}
    given |= {"unroll": 1, "varied": "", "median_ms": 2 * ratio, "min_ms": ratio, "ratio": ratio, "temporary_mib": None}
    return given | {"fraction_of_bound": 0.8 / ratio, "counted": "", "per_second": None} | other


# --- Whole runs ---


BOTH = ("forward", "gradient")
NETWORKS = ("two bidirectional layers", "three layers", "lengths", "one layer")
MODES = {
    "layer": BOTH,
    "model": ("training step, characters", "training step, words"),
    "scaling": ("gradient", "compile"),
    "memory": ("gradient",),
    "grid": BOTH,
    "odd": BOTH,
    "networks": NETWORKS,
}


def names_here(suite, mode):
    """Returns the contenders that a suite must time for an LSTM on this machine."""
    here = {name for name in suites.LAYERS if not contenders.missing(name) and contenders.knows(name, "LSTM")}
    here -= {name for name in here if contenders.unfit(name, "float32")}
    torch = {name for name in here if name.startswith("torch")}
    ours = {contenders.OURS, contenders.DEFERRED, contenders.NATIVE} & here
    if mode == "training step, words":
        return {contenders.OURS, *torch}
    return {"layer": here, "model": here, "grid": ours | torch, "networks": ours | torch, "odd": ours}[suite]


@pytest.mark.slow
@pytest.mark.parametrize("names", [("layer", "memory", "scaling"), ("model",), ("grid", "odd", "networks")])
def test_every_suite_and_contender(tmp_path, names):
    command = [sys.executable, str(EXPERIMENTS / "benchmark"), "--quick", "--rounds", "1", "--cell", "LSTM"]
    command += ["--run-dir", "run", "--suite", *names]
    # Other tests run at the same time, and spinning threads would wait for them.
    settings = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in names:
        assert (tmp_path / "run" / f"{name}.png").stat().st_size > 10_000
    made = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert min(made["bounds_gflops"].values()) > 0
    rows = made["rows"]
    assert all(row.keys() >= COLUMNS for row in rows)
    timed = {(name, mode) for name in names for mode in MODES[name]}
    assert {(row["suite"], row["mode"]) for row in rows} == {("bound", "product"), *timed}
    assert all(row["temporary_mib"] > 0 for row in rows if row["suite"] == "memory")
    for suite, mode in timed:
        if suite in ("scaling", "memory"):
            continue
        some = [row for row in rows if (row["suite"], row["mode"]) == (suite, mode)]
        here = names_here(suite, mode)
        assert {row["contender"] for row in some} == here, (suite, mode)
        assert len(some) == len(here)
        first = some[0]
        assert first["contender"] == contenders.OURS
        assert first["ratio"] == 1
        for row in some:
            assert 0 < row["min_ms"] <= row["median_ms"]
            assert row["ratio"] == pytest.approx(row["median_ms"] / first["median_ms"])
            assert row["fraction_of_bound"] == pytest.approx(row["gflops"] / made["bounds_gflops"][row["precision"]])
    if "layer" in names:
        known = {name for name in suites.LAYERS if contenders.knows(name, "LSTM")}
        for name in known - names_here("layer", "gradient"):
            assert f"left out: {name}: " in done.stdout


@pytest.mark.parametrize(
    ("suite", "cell", "modes"),
    [
        ("grid", "Elman", {"forward", "gradient"}),
        slow("odd", "MGU", {"forward", "gradient"}),
        ("networks", "Elman", {"two bidirectional layers", "three layers", "lengths", "one layer"}),
    ],
)
def test_suites_with_limited_time(tmp_path, monkeypatch, capsys, suite, cell, modes):
    missing = {contenders.NATIVE: "llvmlite", "torch": "torch", contenders.SLEEPING: "torch"}
    monkeypatch.setattr(measuring, "missing", missing.get)
    monkeypatch.setattr(work, "missing", missing.get)
    rows, made = rows_of(tmp_path, suite=(suite,), cell=(cell,))
    some = [row for row in rows if row["suite"] == suite]
    assert {row["mode"] for row in some} == modes
    assert {row["contender"] for row in some} == {contenders.OURS, contenders.DEFERRED}
    assert made["left_out"][contenders.NATIVE] == "llvmlite is not installed"
    assert "torch" in made["left_out"] or suite == "odd"
    out = capsys.readouterr().out
    assert f"{suite}: {len(modes)} points of 1 to 1 rounds, about 0." in out
    table = (tmp_path / "run" / "table.md").read_text()
    assert table.startswith("One run of `python experiments/benchmark")
    assert f"{suite}, time relative to jaxrnn:\n\n| | | {cell} |\n" in table
    assert (tmp_path / "run" / f"{suite}.png").exists()


@pytest.mark.slow
def test_parallel_suite_counts_iterations(tmp_path):
    rows, _ = rows_of(tmp_path, suite=("parallel",), cell=("ParaGRU",))
    counted = [row for row in rows if row["iterations"] is not None]
    assert {row["mode"] for row in counted} == {"iterations at initialization", "iterations after training"}
    assert {row["contender"] for row in counted} == set(contenders.PARALLEL)
    assert all(1 <= row["iterations"] <= row["T"] for row in counted)
    timed = {row["contender"] for row in rows if row["suite"] == "parallel" and row["median_ms"]}
    assert timed >= {contenders.OURS, contenders.DEFERRED, *contenders.PARALLEL}
    table = (tmp_path / "run" / "table.md").read_text()
    assert "parallel against T, iterations after training, iterations:" in table
    assert (tmp_path / "run" / "parallel.png").exists()


@pytest.mark.slow
def test_parallel_suite_times_cells_with_matrices(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # other tests run at the same time
    rows, _ = rows_of(tmp_path, suite=("parallel",), cell=("MLSTM", "LinearAttention"))
    rows = [row for row in rows if row["suite"] == "parallel"]
    loops = {contenders.OURS, contenders.DEFERRED, contenders.NATIVE}
    peers = {name for name in contenders.MLSTM_KERNELS if not contenders.missing(name)}
    found = {(row["cell"], row["mode"], row["contender"]) for row in rows}
    assert found == {
        *itertools.product(["MLSTM"], ["gradient, 4 heads", "gradient, 1 head"], loops | peers),
        *itertools.product(["LinearAttention"], ["gradient, 1 head"], loops),
    }
    for row in rows:
        assert row["median_ms"] > 0
        assert (row["temporary_mib"] is None) == (row["contender"] in peers)
    table = (tmp_path / "run" / "table.md").read_text()
    assert "| MLSTM | gradient, 4 heads, 2x9x8 | " in table


@pytest.mark.parametrize("name", slow_but(matrices.CELLS, ["Retention"]))
def test_the_default_loop_of_cells_with_matrices_is_chunked(name):
    (size,) = suites.Options(quick=True).sizes_of("matrices")
    cells = [cell for heads in matrices.HEADS if (cell := matrices.make_matrix_cell(name, size[-1], heads))]
    assert [getattr(cell, "num_heads", 1) for cell in cells] == ([1] if name == "LinearAttention" else [4, 1])
    for cell in cells:
        case = matrices.make_case(name, cell, size, "float32")
        (choice,) = jaxrnn.loops.Auto().choose(cell, *case.params, case.xs)
        assert isinstance(choice.loop, jaxrnn.loops.Chunked)


@pytest.mark.slow
def test_loops_suite_compares_what_can_run_each_cell(tmp_path):
    rows, _ = rows_of(tmp_path, suite=("loops",))
    timed = {(row["cell"], row["contender"]) for row in rows if row["suite"] == "loops"}
    assert {cell for cell, _ in timed} == set(choosing.KINDS)
    assert {cell for cell, loop in timed if loop == contenders.NEWTON} == {"LSTM", "GRU", "ParaGRU"}
    assert {cell for cell, loop in timed if loop == contenders.ASSOCIATIVE} == {"MinGRU", "LRU"}
    table = (tmp_path / "run" / "table.md").read_text()
    assert "loops, CPU, time of the gradient relative to the fastest loop (bold: the default):" in table
    assert "| ParaGRU (nonlinear, elementwise) | B = 1 | not measured | not measured | not measured |" in table
    assert "| | B = 8 | not measured | not measured | not measured |" in table


def test_loops_are_named_in_the_order_of_their_times(monkeypatch):
    monkeypatch.setattr(choosing, "platform", lambda: "cpu")
    monkeypatch.setattr(choosing, "default_loop", lambda name, size: "Deferred")
    names = (contenders.OURS, "jaxrnn Scan", "jaxrnn Native")
    rows = [row(name, ratio, suite="loops", size=(1, 100, 64)) for name, ratio in zip(names, (1.5, 3, 1), strict=True)]
    rows += [row(contenders.OURS, 1.0, suite="loops", size=(32, 1000, 64))]
    here, other = choosing.tables(rows)
    assert here.columns == ["T = 100", "T = 1,000"]
    assert here.lines == [
        ("LSTM (nonlinear, dense)", "B = 1", ["Native (2 ms), **Deferred** 1.5, Scan 3", "not measured"]),
        ("LSTM (nonlinear, dense)", "B = 32", ["not measured", "**Deferred** (2 ms)"]),
    ]
    assert other.columns == ["T = 1,024", "T = 16,384", "T = 131,072"]
    assert [texts for _, _, texts in other.lines] == [["not measured"] * 3] * 3


def test_loops_that_need_too_much_memory_are_left_out(monkeypatch):
    monkeypatch.setattr(choosing, "default_loop", lambda name, size: "Native")
    assert contenders.NEWTON in choosing.loops_of("LSTM", (1, 1000, 64))
    assert contenders.NEWTON not in choosing.loops_of("LSTM", (32, 1000, 64))  # 32,000 Jacobians of 128 x 128
    assert contenders.NEWTON in choosing.loops_of("ParaGRU", (1, 100_000, 64))
    assert contenders.NATIVE not in choosing.loops_of("LSTM", (1, 100, 64))


@pytest.mark.slow
def test_million_suite_measures_both_ways(tmp_path, capsys):
    _, made = rows_of(tmp_path, suite=("million",))
    assert [(one["cell"], one["mode"], one["way"]) for one in made["found"]] == [
        *itertools.product(("LSTM", "LRU"), million.MODES, million.WAYS)
    ]
    for one in made["found"]:
        assert len(one["long"]) == 1
        assert min(one["long"] + one["short"]) > 0
        assert one["peak_mib"] >= one["before_mib"] > 10
    assert not made["wrong"]
    assert "million, LRU, B = 1, T = 40, H = 8" in capsys.readouterr().out
    assert "million, LSTM, B = 1, T = 40, H = 8:" in (tmp_path / "run" / "table.md").read_text()
    assert not (tmp_path / "run" / "series.npy").exists()


def test_ways_of_a_million_steps_that_differ_are_found():
    found = {
        (mode, way): {"loss": 1.0 + 0.01 * (way == million.WAYS[1]), "norm": 2.0}
        for mode in million.MODES
        for way in million.WAYS
    }
    bench: Any = types.SimpleNamespace(wrong=[])
    million.check(bench, "LSTM", found)
    assert bench.wrong == ["million: the loss of LSTM is 1.0 in one call, but 1.01 from a file"] * 2


def test_million_suite_needs_whole_pieces(tmp_path):
    with pytest.raises(BadInputError, match="--suite million needs a number of steps that is a multiple of 10000"):
        suites.Options(suite=("million",), sizes=("1x12345x64",)).check()


def test_a_process_of_the_million_suite_that_ends_is_an_error(tmp_path):
    bench: Any = types.SimpleNamespace(path=tmp_path)
    with pytest.raises(
        BadInputError, match=r"a process of --suite million has ended: its error is in .*processes\.log"
    ):
        million.measure_one(bench, {"cell": "none"})
    assert "Error" in (tmp_path / "processes.log").read_text()


@pytest.mark.slow
def test_gpu_suite_measures_three_precisions(tmp_path):
    few = ("jaxrnn Deferred, unroll 2", "torch")
    rows, _ = rows_of(tmp_path, suite=("gpu",), contenders=few)
    rows = [row for row in rows if row["suite"] == "gpu"]
    assert {(row["cell"], row["mode"], row["precision"]) for row in rows} == {
        *itertools.product(("LSTM", "GRU", "Elman"), ("gradient",), ("float32", "tf32", "bfloat16")),
        *itertools.product(("LSTM",), ("forward",), ("float32", "tf32", "bfloat16")),
        *itertools.product(("LSTM",), ("training step, characters", "training step, words"), ("float32", "tf32")),
    }
    unrolled = [row for row in rows if row["varied"] == "unroll"]
    assert {(row["contender"], row["unroll"]) for row in unrolled} == {
        (contenders.OURS, 1),
        (contenders.DEFERRED, 2),
    }
    assert "LSTM, unroll = 2" in (tmp_path / "run" / "table.md").read_text()


# --- All contenders do the same work ---


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["GRU", "Elman", "ResetBeforeGRU", "ReluElman", "PeepholeLSTM", "ProjectedLSTM"])
def test_contenders_of_other_cells_agree(tmp_path, cell):
    """A contender whose outputs or gradients differ from jaxrnn's stops the benchmark."""
    suites.main(small(tmp_path, suite=("layer",), cell=(cell,)))
    rows = json.loads((tmp_path / "run" / "benchmark.json").read_text())["rows"]
    assert {row["contender"] for row in rows} >= {contenders.OURS, "jaxrnn Scan", "lax.scan"}


@pytest.mark.slow
def test_bfloat16(tmp_path):
    few = ("lax.scan", "flax linen", "torch, threads asleep")
    options = {"suite": ("layer",), "cell": ("LSTM",), "contenders": few, "precision": "bfloat16"}
    suites.main(small(tmp_path, **options))
    rows = json.loads((tmp_path / "run" / "benchmark.json").read_text())["rows"]
    assert {row["contender"] for row in rows} >= {n for n in few if not contenders.missing(n)} | {contenders.OURS}


@pytest.mark.slow
@pytest.mark.skipif(bool(contenders.missing("torch")), reason="torch is not installed")
def test_word_models_train_alike():
    """Without dropout, the losses of many training steps are equal."""
    small = dataclasses.replace(words.TINY, dropout=0.0, learning_rate=1.0)
    ours, theirs = (words.word_model(name, words.make_words(small)) for name in (contenders.OURS, contenders.SLEEPING))
    losses = [[task.results(task.call())[0] for _ in range(3)] for task in (ours, theirs)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_word_model_is_that_of_the_script(monkeypatch):
    """A call makes STEPS training steps of the script, and its time is that of one of them."""
    monkeypatch.setattr(words, "STEPS", 2)
    some = words.make_words(dataclasses.replace(words.TINY, layers=1))
    task = words.word_model(contenders.OURS, some)
    first, second = (task.results(task.call())[0] for _ in range(2))
    assert np.isfinite([first, second]).all()
    assert first != second
    times = iter((1.0, 3.0))
    monkeypatch.setattr(work.time, "perf_counter", lambda: next(times))
    assert task.milliseconds() == 1000


def test_tf32_can_be_run_by_cudnn():
    """jax.experimental.rnn refuses the name "default", which means bfloat16 to it."""
    from jax.experimental import rnn

    allowed = {name: rnn._lstm_cudnn_allow_tf32(measuring.PRODUCTS[name]) for name in ("float32", "tf32")}
    assert allowed == {"float32": False, "tf32": True}


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


def test_a_contender_that_is_not_installed_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measuring, "missing", lambda name: "haiku" if name == "haiku" else None)
    chosen = ("haiku", "lax.scan")
    suites.main(small(tmp_path, suite=("layer",), cell=("LSTM",), contenders=chosen))
    assert "left out: haiku: haiku is not installed" in capsys.readouterr().out
    made = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert made["left_out"] == {"haiku": "haiku is not installed"}
    assert {row["contender"] for row in made["rows"] if row["suite"] == "layer"} == {contenders.OURS, "lax.scan"}


def test_packages_that_contenders_need(monkeypatch):
    monkeypatch.setattr(contenders.importlib.util, "find_spec", lambda name: None)
    assert {name: contenders.missing(name) for name in contenders.NAMES if contenders.missing(name)} == {
        contenders.NATIVE: "llvmlite",
        **{name: "flax" for name in contenders.NAMES if name.startswith("flax")},
        **{name: name.partition(",")[0] for name in contenders.NAMES if name.startswith(("haiku", "keras", "equinox"))},
        **dict.fromkeys(("torch", contenders.SLEEPING, "torch.compile"), "torch"),
        **dict.fromkeys(contenders.MLSTM_KERNELS, "mlstm_kernels"),
    }


def test_a_contender_that_does_not_run_is_left_out(tmp_path, monkeypatch):
    def build(cell, params):
        raise TypeError("cannot run fft of URNN")

    monkeypatch.setitem(contenders.BUILDS, "lax.scan", {contenders.ANY: build})
    rows, made = rows_of(tmp_path, suite=("layer",), cell=("Elman",), contenders=("lax.scan",))
    assert made["left_out"] == {"lax.scan": "does not run here: cannot run fft of URNN (Elman)"}
    assert {row["contender"] for row in rows if row["suite"] == "layer"} == {contenders.OURS}


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


# --- Time, tables, options ---


def test_long_calls_have_the_time_that_is_there():
    cheap, dear = budget.Cost(1.0, 0.1), budget.Cost(1.0, 10.0)
    assert budget.fitting([cheap, dear], 1000, 7) == [7, 7]
    assert budget.fitting([cheap, dear], 45, 7) == [7, 4]
    assert budget.fitting([cheap, dear], 20, 7) == [7, 1]
    assert budget.fitting([cheap, dear], 1, 7) == [1, 1]
    assert budget.total([cheap, dear], [7, 4]) == pytest.approx(42.7)


def test_rounds_follow_the_time_that_points_take():
    costs = [budget.Cost(2.0, 2.0)] * 4
    now = [0.0]

    def run(factor):
        now[0] = 0.0
        made = []
        for rounds in budget.rounds_in_turn(costs, 1.0, 7, lambda: now[0]):
            made.append(rounds)
            now[0] += factor * (2.0 + 2.0 * rounds) if rounds else 0.0
        return made

    assert run(1.0) == [6, 6, 7, 7]  # 60 s
    assert run(2.0) == [6, 1, 2, 2]
    assert run(5.0) == [6, 0, 0, 0]


def test_long_calls_are_not_repeated_before_they_count():
    def task(ms):
        calls = itertools.count()
        return work.Task(lambda: None, list, lambda: (next(calls), ms)[1]), calls

    (short, shorts), (long, longs) = task(10.0), task(2 * work.LONG)
    samples = work.measure({"short": short, "long": long}, rounds=3)
    assert samples == {"short": [10.0] * 15, "long": [2 * work.LONG] * 3}
    assert (next(shorts), next(longs)) == (1 + 3 * (1 + 5), 3)


def test_tables():
    rows = [
        *(row("jaxrnn", 1.0, mode=mode, size=(32, 64, h)) for mode in ("forward", "gradient") for h in (128, 256)),
        row("torch", 2.0, mode="forward", size=(32, 64, 128)),
        row("torch", 8.0, mode="forward"),
        row("torch", 1.0, size=(32, 64, 128)),
        row("torch", 4.0),
        row("haiku", 1.5),
        row("jaxrnn", 1.0, "GRU", mode="training", counted="words", per_second=1234.5),
    ]
    ratios, speeds, bounds = report.tables_of(rows)
    assert ratios.title == "grid, time relative to jaxrnn, geometric mean over 2 sizes (lowest)"
    assert ratios.columns == ["LSTM", "GRU"]
    assert ratios.lines == [
        ("forward", "torch", ["4.00 (2.00)", ""]),
        ("gradient", "torch", ["2.00 (1.00)", ""]),
        ("gradient", "haiku", ["1.50, 1 sizes", ""]),
        ("forward and gradient", "torch", ["2.83 (1.00)", ""]),
        ("forward and gradient", "haiku", ["1.50, 1 sizes", ""]),
    ]
    assert speeds.lines == [("training", "jaxrnn", ["1,234"])]
    assert bounds.lines == [
        ("forward", "jaxrnn", ["80%"]),
        ("forward", "torch", ["10%"]),
        ("gradient", "jaxrnn", ["80%"]),
        ("gradient", "torch", ["20%"]),
    ]
    lines = ratios.as_markdown().splitlines()
    assert lines[2:6] == [
        "| | | LSTM | GRU |",
        "| --- | --- | --- | --- |",
        "| forward | PyTorch | 4.00 (2.00) | |",
        "| gradient | PyTorch | 2.00 (1.00) | |",
    ]
    assert lines[6] == "| | Haiku | 1.50, 1 sizes | |"


def test_a_table_of_time_and_memory():
    rows = [
        row("jaxrnn", 1.0, "MLSTM", size=(2, 9, 8), temporary_mib=3.0),
        row("jaxrnn Deferred", 4.0, "MLSTM", size=(2, 9, 8), temporary_mib=12.0),
        row("mlstm-kernels", 1.5, "MLSTM", size=(2, 9, 8)),
        row("jaxrnn", 1.0, "DeltaNet", size=(2, 9, 8), temporary_mib=2.0),
        row("jaxrnn Native", 3.0, "DeltaNet", size=(2, 9, 8), temporary_mib=1.0),
    ]
    memory, ratios = report.tables_of(rows)
    assert memory.columns == ["jaxrnn, ms", "jaxrnn Deferred, time", "jaxrnn Native, time"] + [
        f"{name}, MiB" for name in ("jaxrnn", "jaxrnn Deferred", "jaxrnn Native")
    ]
    assert memory.lines == [
        ("MLSTM", "gradient, 2x9x8", ["2", "4.00 times", "", "3", "4.00 times", ""]),
        ("DeltaNet", "gradient, 2x9x8", ["2", "", "3.00 times", "2", "", "0.50 times"]),
    ]
    assert ratios.lines == [("gradient", "mlstm-kernels", ["1.50"])]


def test_plots_of_many_sizes_have_a_panel_per_cell(tmp_path):
    sizes = [(b, 64, h) for b in (1, 32, 64) for h in (64, 128, 256)]
    rows = [row(name, 1.5, cell, size=s) for name in ("jaxrnn", "torch") for cell in ("LSTM", "GRU") for s in sizes]
    assert [title for title, *_ in report.panels_of("grid", rows)] == ["grid: gradient, LSTM", "grid: gradient, GRU"]
    assert report.plot(rows, tmp_path, "title") == [str(tmp_path / "grid.png")]
    few = [row for row in rows if row["B"] == 1]
    assert [title for title, *_ in report.panels_of("grid", few)] == ["grid: gradient"]


def test_cells_that_need_some_size_can_be_chosen():
    suites.Options(cell=("Retention", "ClockworkRNN")).check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": ("32x64",)}, "--sizes are like"),
        ({"sizes": ("0x1x1",)}, "--sizes are like"),
        ({"contenders": ("numpy",)}, "there is no contender 'numpy'"),
        ({"cell": ("LSMT",)}, "there is no cell named 'LSMT'"),
        ({"precision": "bfloat16"}, "--precision bfloat16 is for --suite layer"),
        ({"precision": "bfloat16", "suite": ("networks",)}, "--precision bfloat16 is for --suite layer, grid and odd"),
        ({"precision": "tf32", "suite": ("gpu",)}, "--suite gpu measures all precisions: leave out --precision"),
        ({"suite": ("gpu",)}, "--suite gpu needs a GPU, but JAX finds none"),
        ({"rounds": 0}, "--rounds must be at least 1"),
        ({"minutes": 0.0, "suite": ("grid",)}, "--minutes must be above 0"),
        (
            {"minutes": 1.0, "suite": ("model",)},
            "--minutes is for --suite layer, grid, odd, networks, parallel, loops, gpu",
        ),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(BadInputError, match=message):
        suites.Options(**options).check()
