"""The character model: what it learns, the files that it writes, and that a run survives interruptions."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import char_lm
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data import ngrams, text
from models.language_model import validation_loss
from support import devices, feeding
from support.cells import scale_input_weights
from support.checkpoints import Checkpoints
from support.ensemble import Losses, mean_of_finite
from support.errors import BadInputError
from support.options import RunFolder, numbered_folders
from support.run import read_config, saved_options, write_config

import jaxrnn
from tests.support.scripts import EXPERIMENTS, call_script, error_line, read_metrics, stop_after

pytestmark = pytest.mark.usefixtures("quick")
SMALL = ("--hidden-size", "24", "--batch", "8", "--sequence-length", "16")


def prose(length: int) -> str:
    """Returns sentences of random words, so that their letters are predictable but their words are not."""
    words, rng = ("the", "cat", "sat", "on", "a", "mat", "and", "saw", "many", "small", "dogs"), random.Random(0)
    written = " ".join(rng.choice(words) + rng.choice(("", "", "", ",", ".\n")) for _ in range(length // 4))
    return written[:length]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with prose.txt in it, to work in."""
    monkeypatch.chdir(tmp_path)
    Path("prose.txt").write_text(prose(20_000))
    return tmp_path


def start(*options: str) -> subprocess.Popen:
    command = [sys.executable, str(EXPERIMENTS / "char_lm.py"), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, out + err
    return out, err


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    groups = (char_lm.Options, RunFolder, char_lm.Sampling)
    return call_script(monkeypatch, "char_lm.py", options, char_lm.main, *groups)


def wait_for_rows(process: subprocess.Popen, run_dir: str, number: int) -> None:
    while len(read_metrics(run_dir)) < number:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def saved(run_dir: str) -> tuple[int, list[np.ndarray]]:
    """The step of the latest checkpoint, and all of it but the seconds it took."""
    options = saved_options(char_lm.Options, Path(run_dir))
    num_symbols = len(read_config(Path(run_dir))["notes"]["alphabet"])
    model = char_lm.make_model(options, num_symbols)
    checkpoints = Checkpoints(Path(run_dir))
    train, _ = checkpoints.latest((char_lm.begin_all(options, model, num_symbols), 0.0))
    return checkpoints.step, [np.asarray(leaf) for leaf in jax.tree.leaves(train)]


def test_it_trains_resumes_and_samples(here, monkeypatch, capsys):
    options = (
        *SMALL,
        "--data",
        "prose.txt",
        "--steps",
        "8",
        "--devices",
        "one",
    )  # the first step compiles: no stage ends there
    assert call(monkeypatch, *options, "--run-dir", "whole") == 0
    out = capsys.readouterr().out
    assert re.search(r"data +prose.txt: 20,000 characters, \d\d symbols, .*sha256 [0-9a-f]{12}\n", out)
    assert re.search(r"model +Stack\(LSTM\(hidden_size=24.*[\d,]+ parameters\n", out)
    assert (
        len(re.findall(r"validation \d\.\d{3} \(order-5 n-gram \d\.\d{3}\)", out)) == 7
    )  # none after the first step, which compiles
    assert re.search(r"validation +\d\.\d{3} nats per character, \d\.\d{3} bits; best \d\.\d{3} nats\n", out)
    assert list(read_metrics("whole")[0]) == ["step", "seconds", "train_loss", "valid_loss", "chars_per_second"]
    assert [int(row["step"]) for row in read_metrics("whole")] == list(range(2, 9))
    files = [path.name for path in Path("whole").iterdir()]
    assert sorted(files) == ["checkpoints", "config.json", "curves.png", "metrics.csv"]

    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 4)
        assert call(monkeypatch, *options, "--run-dir", "halves") == 130
    assert call(monkeypatch, "--run-dir", "halves", "--resume") == 0
    for one, other in zip(saved("whole")[1], saved("halves")[1], strict=True):
        np.testing.assert_array_equal(one, other)

    sample = ("--run-dir", "whole", "--sample", "50", "--prompt", "the cat ", "--temperature", "0")
    capsys.readouterr()
    assert call(monkeypatch, *sample) == 0
    written = capsys.readouterr().out
    assert written.startswith("the cat ")
    assert len(written) == len("the cat ") + 50 + 1
    assert call(monkeypatch, *sample) == 0
    assert capsys.readouterr().out == written


@pytest.mark.slow
def test_a_run_that_was_stopped_and_killed_ends_as_one_that_was_not(here):
    options = (*SMALL, "--data", "prose.txt", "--steps", "2000", "--dropout", "0.1")
    whole = start(*options, "--run-dir", "whole")
    out, _ = finish(whole)

    # What is said.
    assert re.search(r"data +prose.txt: 20,000 characters, \d\d symbols, .*sha256 [0-9a-f]{12}\n", out)
    assert re.search(r"model +Stack\(LSTM\(hidden_size=24.*[\d,]+ parameters\n", out)
    assert re.search(r"device +\S.*\n", out)
    assert len(re.findall(r"validation \d\.\d{3} \(order-5 n-gram \d\.\d{3}\)", out)) == 20
    assert re.search(r"validation +\d\.\d{3} nats per character, \d\.\d{3} bits; best \d\.\d{3} nats\n", out)

    # What is learned: more than how often each letter occurs.
    symbols = text.Text.of(Path("prose.txt"))
    unigram, *_ = ngrams.ngram_losses(np.asarray(symbols.symbols), symbols.num_train, len(symbols.alphabet), 1)
    assert float(read_metrics("whole")[-1]["valid_loss"]) < 0.6 * unigram

    # What remains.
    assert list(read_metrics("whole")[0]) == ["step", "seconds", "train_loss", "valid_loss", "chars_per_second"]
    assert [int(row["step"]) for row in read_metrics("whole")] == list(range(100, 2001, 100))
    assert Path("whole/curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(Path("whole/config.json").read_text())["config"]["hidden_size"] == 24
    assert sorted(path.name for path in Path("whole").iterdir()) == [
        "checkpoints", "config.json", "curves.png", "metrics.csv"
    ]  # fmt: skip

    interrupted = start(*options, "--run-dir", "ended")
    wait_for_rows(interrupted, "ended", 1)
    interrupted.send_signal(signal.SIGINT)
    _, err = finish(interrupted, 130)
    (line,) = err.splitlines()
    step = int(re.search(r"stopped after step (\d+) and saved; resume with: \S*python\S* .*char_lm.py", line)[1])
    assert line.endswith("--run-dir ended --resume")
    assert saved("ended")[0] == step < 2000

    killed = start("--run-dir", "ended", "--resume")
    wait_for_rows(killed, "ended", len(read_metrics("ended")) + 1)
    killed.kill()
    finish(killed, -signal.SIGKILL)
    assert len(read_metrics("ended")) < 20

    out, _ = finish(start("--run-dir", "ended", "--resume"))
    for one, other in zip(saved("whole")[1], saved("ended")[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert [row["valid_loss"] for row in read_metrics("whole")] == [row["valid_loss"] for row in read_metrics("ended")]


@pytest.mark.slow
def test_by_the_clock_in_a_numbered_folder_then_writing(here, monkeypatch, capsys):
    options = (*SMALL, "--data", "prose.txt", "--minutes", "0.1")
    out, _ = finish(start(*options, "--cell", "ProjectedLSTM"))
    assert "runs/char_lm/1" in out
    assert 5.5 <= float(read_metrics("runs/char_lm/1")[-1]["seconds"]) < 60
    step, before = saved("runs/char_lm/1")
    assert step > 0

    assert call(monkeypatch, "--sample", "50", "--prompt", "the cat ", "--temperature", "0") == 0
    written = capsys.readouterr().out
    assert written.startswith("the cat ")
    assert len(written) == len("the cat ") + 50 + 1
    assert call(monkeypatch, "--sample", "50", "--prompt", "the cat ", "--temperature", "0") == 0
    assert capsys.readouterr().out == written

    assert call(monkeypatch, "--resume") == 0  # it has ended: there is nothing to do
    for one, other in zip(before, saved("runs/char_lm/1")[1], strict=True):
        np.testing.assert_array_equal(one, other)
    Path("line.txt").write_text(prose(20_000).replace("\n", " "))
    assert call(monkeypatch, *SMALL, "--data", "line.txt", "--steps", "2") == 0
    assert [path.name for path in numbered_folders(Path("runs/char_lm"))] == ["1", "2"]


READS_NO_SYMBOLS = {"CfC", "GRUD", "PhasedLSTM", "TimeAwareLSTM"}  # they read numbers
READS_NO_SYMBOLS |= {"ConvGRU", "ConvLSTM", "PeepholeConvLSTM"}  # they read images
READS_NO_SYMBOLS |= {"MUT1", "MUT2"}  # they need as many symbols as units


@pytest.mark.parametrize("cell", sorted(READS_NO_SYMBOLS))
def test_cells_that_read_no_symbols_say_so(cell):
    with pytest.raises(BadInputError, match=f"--cell {cell} cannot be of size 8 here: "):
        char_lm.make_model(char_lm.Options(cell=cell, hidden_size=8), 9)


SYMBOL_READERS = sorted({kind.__name__ for kind in jaxrnn.cells.all()} - READS_NO_SYMBOLS)


@pytest.mark.parametrize(
    "cell", [cell if cell == "GRU" else pytest.param(cell, marks=pytest.mark.slow) for cell in SYMBOL_READERS]
)
def test_every_cell_can_be_named(cell):
    options, mesh = char_lm.Options(cell=cell, hidden_size=8, layers=2), devices.make_mesh("one", 32)
    model = char_lm.make_model(options, 9)
    train = jax.eval_shape(lambda: char_lm.begin_all(options, model, 9))
    block = feeding.Block(jnp.int32(0), jax.ShapeDtypeStruct((3, 65, 32), np.uint8))
    update = partial(char_lm.update, options, model, mesh)
    after, loss = jax.eval_shape(update, train, block, jax.random.key(0), jnp.float32(0.1))
    assert jax.tree.structure(after) == jax.tree.structure(train)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, train)
    assert loss.shape == ()


def test_input_weights_are_found_by_their_shape():
    for cell, scaled in ((jaxrnn.LSTM(5), {"w_x"}), (jaxrnn.RWKV(4), None)):
        params = cell.init(jax.random.key(0), 9)
        after = scale_input_weights(cell, params, 9)
        changed = {n for n, p in params._asdict().items() if not np.array_equal(p, getattr(after, n))}
        one_more = jax.eval_shape(lambda cell=cell: cell.init(jax.random.key(0), 10))
        wide = {n for n, p in params._asdict().items() if p.shape != getattr(one_more, n).shape}
        assert changed <= wide
        assert scaled is None or changed == scaled
        for name in changed:
            np.testing.assert_allclose(getattr(after, name), 3 * getattr(params, name), rtol=1e-6)


@pytest.mark.slow
def test_devices_share_the_work(here):
    options = (*SMALL, "--data", "prose.txt", "--steps", "200", "--dropout", "0")
    out, _ = finish(start(*options, "--devices", "all", "--run-dir", "all"))
    assert re.search(rf"device  {math.gcd(8, os.cpu_count())} x ", out) or os.cpu_count() not in (1, 2, 4, 8)
    out, _ = finish(start(*options, "--devices", "one", "--run-dir", "one"))
    assert "device  1 x " in out
    for one, other in zip(read_metrics("one"), read_metrics("all"), strict=True):
        assert float(one["valid_loss"]) == pytest.approx(float(other["valid_loss"]), rel=1e-3)
    for one, other in zip(saved("one")[1], saved("all")[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=0.02, atol=1e-3)


@pytest.mark.slow
def test_several_models_as_one_program_learn_what_each_learns_alone(here, monkeypatch, capsys):
    options = (*SMALL, "--data", "prose.txt", "--steps", "100", "--dropout", "0")
    assert (
        call(monkeypatch, *options, "--seeds", "2", "--learning-rate", "1e-3", "1e38", "1e-2", "--run-dir", "all") == 0
    )
    assert "model 4      seed 1, learning rate 1e+38: validation inf" in capsys.readouterr().out
    assert call(monkeypatch, *options, "--seed", "1", "--learning-rate", "1e-2", "--run-dir", "one") == 0
    for alone, together in zip(read_metrics("one"), read_metrics("all"), strict=True):
        assert float(together["member_5"]) == pytest.approx(float(alone["valid_loss"]), rel=1e-3)
    capsys.readouterr()
    assert call(monkeypatch, "--sample", "30", "--run-dir", "all") == 0  # of the best, which has learned
    assert set(capsys.readouterr().out) <= set(prose(20_000))


@pytest.mark.slow
def test_models_side_by_side_are_those_alone(here):
    prose_text = text.Text.of(Path("prose.txt"))
    mesh = devices.make_mesh("one", 2)

    def trained(**how) -> char_lm.Train:
        options = char_lm.Options(hidden_size=4, batch=2, sequence_length=4, cell="GRU", **how)
        model = char_lm.make_model(options, 20)
        feed = feeding.Feed(char_lm.streams_of(options, prose_text).cut, mesh, 2)
        return char_lm.make_steps(options, model, mesh)(char_lm.begin_all(options, model, 20), feed(0, 5), 5, (0, 0.1))[
            0
        ]

    together, alone = trained(seeds=2), trained(seed=1)
    for one, both in zip(jax.tree.leaves(alone.params), jax.tree.leaves(together.params), strict=True):
        np.testing.assert_allclose(both[1], one, rtol=1e-4, atol=1e-6)


def test_models_that_diverge_do_not_stop_the_others():
    assert mean_of_finite(jnp.array([1.0, np.nan, 3.0])) == 2
    assert np.isnan(mean_of_finite(jnp.array([np.nan, np.nan])))
    losses = Losses([1.0, np.nan, 3.0])
    assert (losses.best, losses.lowest, losses.mean) == (0, 1.0, math.inf)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(here, monkeypatch, capsys):
    options = (*SMALL, "--data", "prose.txt", "--steps", "50", "--run-dir", "run", "--learning-rate", "1e38")
    assert call(monkeypatch, *options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"loss is not finite after step \d+; the last good checkpoint, after step \d+, is in ", line)
    assert all(np.isfinite(leaf).all() for leaf in saved("run")[1])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", "missing.txt"], "missing.txt: No such file"),
        (["--data", "."], "Is a directory"),
        (["--data", "empty.txt"], "empty.txt is empty"),
        (["--data", "bytes.txt"], "not UTF-8 text: byte 4 is 0xff"),
        (["--data", "short.txt"], "too short: training has 90 characters, but one batch of windows takes 32 \\* 65"),
        (["--data", "prose.txt", "--prompt", "the"], "--prompt has no effect without --sample"),
        (["--data", "prose.txt", "--temperature", "1"], "--temperature has no effect without --sample"),
        (["--data", "prose.txt", "--steps", "9", "--minutes=3"], "--minutes has no effect, because --steps is 9"),
        (
            ["--sample", "9", "--run-dir", "old", "--prompt", "the é €"],
            "that the training text lacks: ' ', 'e', 'h', 't', 'é', '€'",
        ),
        (["--cell", "LSMT"], "no cell named 'LSMT': did you mean "),
        (["--hidden-size", "0"], "--hidden-size must be at least 1"),
        (["--layers", "-1"], "--layers must be at least 1"),
        (["--batch", "many"], "--batch.*'many'"),
        (["--sequence-length", "0"], "--sequence-length must be at least 1"),
        (["--learning-rate", "nan"], "--learning-rate must be above 0 and finite"),
        (["--dropout", "1"], "--dropout must be from 0 to below 1"),
        (["--minutes", "inf"], "--minutes must be above 0 and finite"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--temperature", "-1", "--sample", "9"], "there is no run in runs/char_lm"),
        (["--sample", "9", "--run-dir", "nowhere"], "nowhere holds no run"),
        (["--resume"], "there is no run in runs/char_lm"),
        (["--no-such-option"], "--no-such-option"),
        (["--data", "prose.txt", *SMALL, "--run-dir", "prose.txt/run"], "cannot write to prose.txt/run"),
        (["--data", "prose.txt", *SMALL, "--run-dir", "other"], "other holds other files"),
        (["--data", "prose.txt", *SMALL, "--run-dir", "old"], "old holds a run: resume it with --resume"),
        (["--resume", "--run-dir", "old", "--layers", "2", "--seed", "1"], "seed is 0 there and 1 here; layers is 1"),
        (["--sample", "9", "--run-dir", "old", "--cell", "GRU"], "cell is LSTM there and GRU here"),
        (["--sample", "9", "--run-dir", "old"], "there is no checkpoint"),
        (["--resume", "--run-dir", "old"], "another configuration: data is"),
        (["--resume", "--run-dir", "older"], "another version"),
    ],
)
def test_bad_input_is_reported_in_one_line(here, monkeypatch, capsys, options, complaint):
    for name, content in (("empty", b""), ("bytes", b"text\xff"), ("short", b"0123456789" * 10)):
        Path(f"{name}.txt").write_bytes(content)
    for name in ("old", "older", "other"):
        Path(name).mkdir()
    Path("other/file").touch()
    config = dataclasses.asdict(char_lm.Options(data=here / "prose.txt", hidden_size=4, batch=2))
    config |= {"data": str(config["data"])}
    rest = {"facts": {"data": "another text's"}, "notes": {"alphabet": "\n"}}
    write_config(Path("old"), {"config": config, **rest})
    write_config(Path("older"), {"config": {"depth": 1}, **rest})
    before = sorted(here.rglob("*"))

    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
    assert sorted(path for path in here.rglob("*") if path.name != "checkpoints") == before


def test_ngram_losses_are_those_of_a_slow_one():
    symbols = np.random.default_rng(0).choice(5, 400, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    num_train, num_symbols = 300, 6

    def probability(order: int, place: int) -> float:
        if order == 0:
            return 1 / num_symbols
        shorter = probability(order - 1, place)
        context = tuple(symbols[place - order + 1 : place])
        seen = followers[context]
        if not seen:
            return shorter
        return (seen[symbols[place]] + len(seen) * shorter) / (seen.total() + len(seen))

    followers: dict[tuple[int, ...], Counter] = defaultdict(Counter)
    for order in range(1, 5):
        for place in range(order - 1, num_train):
            followers[tuple(symbols[place - order + 1 : place])][symbols[place]] += 1
    expected = [-np.mean([math.log(probability(n, i)) for i in range(num_train, len(symbols))]) for n in range(1, 5)]
    np.testing.assert_allclose(ngrams.ngram_losses(symbols, num_train, num_symbols, 4), expected, rtol=1e-12)


@pytest.mark.parametrize("num_valid", [1000, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 100))])
def test_validation_loss_is_that_of_one_pass(num_valid):
    num_train = 1000
    symbols = jnp.asarray(np.random.default_rng(0).integers(0, 7, num_train + num_valid))
    model = jaxrnn.Stack(jaxrnn.LSTM(8), jaxrnn.Dense(7))
    params = model.init(jax.random.key(0), 7)
    _, logits = jaxrnn.unroll(model, params, symbols[:-1])
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), symbols[1:, None], axis=-1)
    mesh = devices.make_mesh("one", 1)
    expected = losses[num_train - 1 :].mean()
    np.testing.assert_allclose(validation_loss(model, params, symbols, num_train, mesh), expected, rtol=1e-5)
    tail = symbols[num_train - 129 :]  # all that is used
    np.testing.assert_allclose(validation_loss(model, params, tail, 129, mesh), expected, rtol=1e-5)


def test_the_standard_library_is_ascii_and_of_a_known_length():
    known = text.Text.of(None)
    assert len(known.symbols) <= text.LENGTH
    assert len(known.symbols) - known.num_train <= text.VALIDATED
    assert known.alphabet.isascii()
    assert text.decode(known.symbols[:100], known.alphabet) == text.standard_library()[:100]
