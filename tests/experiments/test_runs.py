"""Run directories: damaged files, full disks, two processes, and runs that are trained further."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import support.run
from support import files, training
from support.checkpoints import Checkpoints
from support.clock import Clock, left
from support.errors import BadInputError
from support.options import OptionGroup, RunFolder, RunOptions
from support.plots import visible_range
from support.progress import Progress
from support.run import Run
from support.schedule import cosine

from tests.support.scripts import EXPERIMENTS, call_script, error_line, read_metrics, stop_after

pytestmark = pytest.mark.usefixtures("quick")
STEPS = 40
"""A small script: it moves a number by the learning rate, and measures the number."""


class Train(NamedTuple):
    step: Any
    params: Any


@dataclass(frozen=True)
class Options(RunOptions):
    cell: str = "LSTM"  # Name of a cell
    size: int = 3  # Number of parameters


@dataclass(frozen=True)
class Reading(OptionGroup):
    read: bool = False  # Only print the best parameters

    @property
    def continues_run(self) -> bool:
        return self.read


def begin(options: Options) -> Train:
    return Train(jnp.int32(0), jnp.zeros(options.size))


def update(train: Train, data: None, key: Any, progress: Any) -> tuple[Train, Any]:
    params = train.params + cosine(progress)
    return Train(train.step + 1, params), 1 / (1 + params[0])


def main(options: Options, folder: RunFolder, reading: Reading) -> None:
    like = jax.eval_shape(lambda: (begin(options), 0.0))
    if reading.read:
        run = Run.open(folder.existing)
        print(f"best {run.best['step']:g}: {run.checkpoints.best(like)[0].params[0]:.3f}")
        return
    run = Run(folder, options, facts={"data": "none"})
    steps = training.many_steps(update, training.step_keys(options.seed))
    for stage in training.training(run, begin(options), steps, None, options.limit, stages=8):
        loss = 1 / (1 + float(stage.train.params[0]))
        stage.record(loss, valid_loss=loss)
        stage.say(f"validation {loss:.3f}")
    print(f"last {run.last['step']:g}: {run.checkpoints.latest(like)[0].params[0]:.3f}")


def call(monkeypatch, *options: str) -> int:
    return call_script(monkeypatch, "small.py", options, main, Options, RunFolder, Reading)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stopped(here, monkeypatch, capsys):
    """A run that was stopped after 20 of 40 steps; it has checkpoints of steps 15 and 20."""
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 20)
        assert call(monkeypatch, "--steps", str(STEPS), "--run-dir", "run") == 130
    capsys.readouterr()
    return Path("run")


def value_after(steps: int, limit: int = STEPS, start: int = 0) -> float:
    return sum(0.5 + 0.5 * math.cos(math.pi * n / limit) for n in range(start, steps))


def steps_in(run_dir: Path) -> list[int]:
    return [int(row["step"]) for row in read_metrics(run_dir)]


def contents(folder: Path) -> dict[str, Any]:
    """The files in a folder, with what is in them and when they were written."""
    return {str(path): (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


# --- Damage ---


def test_the_two_latest_checkpoints_and_the_best_are_kept(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    checkpoints = Checkpoints(tmp_path)
    for step, loss in enumerate([3.0, 1.0, 2.0, 1.0, 4.0, 5.0, 6.0]):
        checkpoints.save(step, {"w": jnp.full(3, loss)}, loss, [{"step": step}])
    folders = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert folders == ["3", "5", "6"]  # of equal losses, the later one is the best
    again = Checkpoints(tmp_path)
    assert (again.step, again.best_step, again.rows, again.damage) == (6, 3, [{"step": 6}], "")
    np.testing.assert_array_equal(again.best({"w": jnp.zeros(3)})["w"], np.ones(3))


def test_empty_arrays_are_restored(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    empty = {"w": jnp.arange(3), "like": jnp.zeros((0, 5), jnp.float16)}
    Checkpoints(tmp_path).save(1, empty)
    for like in (empty, jax.eval_shape(lambda: empty)):
        found = Checkpoints(tmp_path).latest(like)
        np.testing.assert_array_equal(found["w"], empty["w"])
        assert (found["like"].shape, found["like"].dtype) == ((0, 5), jnp.float16)


def test_checksums_are_those_of_sha256sum(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    Checkpoints(tmp_path).save(1, {"w": jnp.ones(3)})
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "checkpoints/1", capture_output=True)
    assert checked.returncode == 0


def damage(file: Path, kind: str, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    if kind == "delete":
        file.unlink()
    elif kind == "truncate":
        file.write_bytes(data[: rng.randrange(max(1, len(data)))])
    elif kind == "append":
        file.write_bytes(bytes(data) + b"\n0")
    elif data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(data)


def test_no_damaged_checkpoint_is_loaded(stopped):
    """Every file of the latest checkpoint, damaged in every way: the one before is used, and the line names both."""
    rng = random.Random(0)
    sound = Path("sound")
    shutil.copytree(stopped, sound)
    like = (begin(Options()), 0.0)
    names = [path.relative_to(sound) for path in sorted(sound.rglob("checkpoints/20/**/*")) if path.is_file()]
    assert len(names) > 8
    tried = 0
    for name in names:
        for kind in ("flip", "flip", "truncate", "append", "delete"):
            damage(stopped / name, kind, rng)
            changed = not (stopped / name).exists() or (stopped / name).read_bytes() != (sound / name).read_bytes()
            checkpoints = Checkpoints(stopped)
            if changed:
                tried += 1
                assert (checkpoints.step, list(checkpoints.damaged)) == (15, [20]), (name, kind)
                assert "the latest good one is 15" in checkpoints.damage
                assert "\n" not in checkpoints.damage
                assert checkpoints.latest(like)[0].params[0] == pytest.approx(value_after(15))
            shutil.copyfile(sound / name, stopped / name)
    assert tried > 34
    (stopped / "checkpoints/20/state/surplus").touch()
    assert Checkpoints(stopped).step == 15


def test_a_damaged_latest_checkpoint_costs_only_the_steps_since_the_one_before(stopped, monkeypatch, capsys):
    damage(stopped / "checkpoints/20/metrics.json", "flip", random.Random(1))
    assert call(monkeypatch, "--run-dir", "run", "--resume") == 0
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert re.match(r"damaged checkpoints in run/checkpoints: 20 \(metrics.json differs from SHA256SUMS\); ", line)
    assert line.endswith("the latest good one is 15, the best good one 15")
    assert f"last {STEPS}: {value_after(STEPS):.3f}" in out
    assert steps_in(stopped) == list(range(5, STEPS + 1, 5))
    assert (stopped / "checkpoints/20.damaged").exists()  # nothing is thrown away
    assert call(monkeypatch, "--run-dir", "run", "--read") == 0
    assert capsys.readouterr().err == ""


def test_reading_uses_the_best_good_checkpoint(stopped, monkeypatch, capsys):
    (stopped / "checkpoints/20/SHA256SUMS").unlink()
    before = contents(stopped)
    assert call(monkeypatch, "--run-dir", "run", "--read") == 0
    out, err = capsys.readouterr()
    assert out == f"best 15: {value_after(15):.3f}\n"
    assert "20 (it has no SHA256SUMS); the latest good one is 15, the best good one 15" in err
    assert contents(stopped) == before


def test_all_checkpoints_damaged(stopped, monkeypatch, capsys):
    for step in (15, 20):
        (stopped / f"checkpoints/{step}/metrics.json").unlink()
    before = contents(stopped)
    assert call(monkeypatch, "--run-dir", "run", "--read") == 2
    assert "20 (metrics.json differs from SHA256SUMS); there is no other" in error_line(capsys)
    assert call(monkeypatch, "--run-dir", "run", "--resume") == 2
    assert "there is no other" in error_line(capsys)
    assert {name: each[1] for name, each in contents(stopped).items() if "lock" not in name} == {
        name: each[1] for name, each in before.items() if "lock" not in name
    }


@pytest.mark.parametrize(
    "text", ["step\n1,2,3\n\0\n", *(pytest.param(text, marks=pytest.mark.slow) for text in (None, "", "step,sec"))]
)
def test_a_damaged_table_of_metrics_is_written_again(stopped, monkeypatch, capsys, text):
    table = stopped / "metrics.csv"
    before = table.read_text()
    if text is None:
        table.unlink()
    else:
        table.write_text(text)
    assert call(monkeypatch, "--run-dir", "run", "--resume") == 0
    assert capsys.readouterr().err == ""
    assert steps_in(stopped) == list(range(5, STEPS + 1, 5))
    assert table.read_text().startswith(before)


@pytest.mark.parametrize("kind", ["flip", "truncate", "append", "delete"])
def test_a_damaged_configuration_is_refused_and_can_be_repaired(stopped, monkeypatch, capsys, kind):
    rng = random.Random(0)
    config = stopped / "config.json"
    sound = config.read_bytes()
    for _ in range(10):
        damage(config, kind, rng)
        for option in ("--resume", "--read"):
            if kind != "append":
                assert call(monkeypatch, "--run-dir", "run", option) == 2
                assert "config.json is damaged: to repair it, copy run/checkpoints/20/config.json" in error_line(capsys)
        config.write_bytes(sound)
    shutil.copyfile(stopped / "checkpoints/20/config.json", config)
    assert call(monkeypatch, "--run-dir", "run", "--read") == 0


def test_a_damaged_configuration_without_a_copy(here, monkeypatch, capsys):
    Path("run").mkdir()
    Path("run/config.json").write_text(json.dumps({"config": {}, "facts": {}, "sha256": "0"}))
    assert call(monkeypatch, "--run-dir", "run", "--resume") == 2
    assert "run/config.json is damaged, or was made by another version of this script" in error_line(capsys)


def test_a_run_that_was_not_measured_cannot_be_read(here, monkeypatch, capsys):
    run = Run(RunFolder(Path("run")), Options(), facts={})
    run.save(0, (begin(Options()), 0.0))
    assert call(monkeypatch, "--run-dir", "run", "--read") == 2
    assert "the run in run was not measured yet" in error_line(capsys)


def test_a_pytree_of_another_structure(stopped):
    with pytest.raises(BadInputError, match="cannot restore checkpoint 20 in run/checkpoints: ") as caught:
        Checkpoints(stopped).latest({"other": jnp.zeros(3)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("table", [b"a,b\n1,2,3\n", b"\xff\xfe", b"a\n1\n", b"a,b\n1,x\n", b"\n"])
def test_a_damaged_table(tmp_path, table):
    path = tmp_path / "results.csv"
    path.write_bytes(table)
    with pytest.raises(BadInputError, match=r"results.csv is (damaged: it must be a table with .* a, b$|not UTF-8)"):
        files.read_table(path, a=str, b=float)


# --- Disks ---


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("place", "name", "file"),
    [
        (os, "replace", "metrics.csv"),
        (shutil, "copyfile", "checkpoints/25"),
        pytest.param(support.run, "write_table", None, marks=pytest.mark.slow),
        pytest.param(Path, "rename", "checkpoints/25", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_loses_nothing(stopped, monkeypatch, capsys, place, name, file):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, full)
        assert call(monkeypatch, "--run-dir", "run", "--resume") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot write {'run/' + file if file else ''}")
    assert "No space left on device; the last checkpoint is of step 2" in line
    assert line.endswith("--run-dir run --resume")
    assert not list(stopped.rglob("*.unfinished*"))
    assert Checkpoints(stopped).damage == ""
    assert call(monkeypatch, "--run-dir", "run", "--resume") == 0
    assert f"last {STEPS}: {value_after(STEPS):.3f}" in capsys.readouterr().out
    assert steps_in(stopped) == list(range(5, STEPS + 1, 5))


@pytest.mark.parametrize(
    "before", ["", pytest.param("del os.posix_fallocate", marks=pytest.mark.slow)], ids=["", "no-fallocate"]
)
def test_files_that_may_not_grow(stopped, before):
    """As on a full disk, by a limit on the size of files. Without a check of the space, the error is that of Orbax."""
    limited = f"""
import os, resource, sys
sys.path[:0] = [{str(EXPERIMENTS)!r}, {str(EXPERIMENTS.parent)!r}]
from pathlib import Path
import numpy as np
from support.checkpoints import Checkpoints
checkpoints = Checkpoints(Path("run"))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
{before}
try:
    checkpoints.save(25, {{"w": np.random.default_rng(0).normal(size=100_000)}})
except OSError as error:
    print(error.filename, error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=True)
    assert done.stdout == "run/checkpoints/25 File too large\n"
    assert before or not done.stderr
    assert Checkpoints(stopped).step == 20
    assert not list(stopped.rglob("*.unfinished"))


def test_reading_writes_nothing(stopped, monkeypatch, capsys):
    before = contents(stopped)
    for place, name in ((os, "replace"), (Path, "mkdir"), (Path, "touch"), (Path, "write_text"), (Path, "rename")):
        monkeypatch.setattr(place, name, full)
    assert call(monkeypatch, "--run-dir", "run", "--read") == 0
    assert capsys.readouterr().out == f"best 20: {value_after(20):.3f}\n"
    assert contents(stopped) == before


def test_errors_of_the_system_are_one_line(here, monkeypatch, capsys):
    def experiment(options: Options, folder: RunFolder, reading: Reading) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "file.txt")

    assert call_script(monkeypatch, "small.py", (), experiment, Options, RunFolder, Reading) == 2
    assert error_line(capsys) == "error: cannot open or write file.txt: Read-only file system"


# --- Two processes ---


HOLDS = """
import fcntl, os, time
file = open("run/checkpoints/lock", "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print(os.getpid(), file=file, end="", flush=True)
print("ready", flush=True)
time.sleep(300)
"""


def test_one_process_trains_a_run(stopped, monkeypatch, capsys):
    other = subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "ready\n"
        assert call(monkeypatch, "--run-dir", "run", "--resume") == 2
        line = error_line(capsys)
        assert line == f"error: the run in run is being trained by another process, number {other.pid}"
        assert call(monkeypatch, "--run-dir", "run", "--read") == 0
        other.kill()
        other.communicate()
        assert call(monkeypatch, "--run-dir", "run", "--resume") == 0  # the lock of a dead process does not count
    finally:
        other.kill()


def test_processes_that_start_together_take_different_numbers(here, monkeypatch):
    new = RunFolder.new.fget
    monkeypatch.setattr("sys.argv", ["small.py"])

    def slowly(folder: RunFolder) -> Path:
        path = new(folder)
        if path.name == "1":
            path.mkdir(parents=True)  # another process is faster
        return path

    monkeypatch.setattr(RunFolder, "new", property(slowly))
    assert Run(RunFolder(), Options(), facts={}).path == Path("runs/small/2")


# --- Training further ---


def test_a_run_is_trained_further(here, monkeypatch, capsys):
    assert call(monkeypatch, "--steps", "8", "--run-dir", "run") == 0
    out = capsys.readouterr().out
    assert "8 training steps are too few to learn anything; train further with: " in out
    assert "--resume --steps 1000" in out
    assert "nan" not in out
    assert "0:00" not in out
    assert call(monkeypatch, "--run-dir", "run", "--resume", "--steps", "40") == 0
    out = capsys.readouterr().out
    # The schedule is that of 40 steps, from the ninth on.
    assert f"last 40: {value_after(8, 8) + value_after(40, 40, 8):.3f}" in out
    assert "too few" not in out
    assert json.loads(Path("run/config.json").read_text())["config"]["steps"] == 40
    assert call(monkeypatch, "--run-dir", "run", "--resume") == 0  # it has ended
    assert "last 40: " in capsys.readouterr().out
    assert steps_in(Path("run"))[-1] == 40


def test_a_run_by_the_clock_is_trained_further(here, monkeypatch, capsys):
    assert call(monkeypatch, "--minutes", "0.001", "--run-dir", "run") == 0
    assert "--resume --minutes 1" in capsys.readouterr().out
    made = float(read_metrics("run")[-1]["seconds"]) / 60
    assert call(monkeypatch, "--run-dir", "run", "--resume", "--minutes", str(0.99 * made)) == 2
    err = capsys.readouterr().err
    assert re.search(r"the run in run has made [\d.e-]+ minutes: to train it further, --minutes must be above", err)
    step = steps_in(Path("run"))[-1]
    assert call(monkeypatch, "--run-dir", "run", "--resume", "--steps", str(step + 3)) == 0
    assert steps_in(Path("run"))[-1] == step + 3


@pytest.mark.slow
def test_a_run_by_the_clock_has_more_time(here, monkeypatch):
    assert call(monkeypatch, "--minutes", "0.001", "--run-dir", "run") == 0
    made = float(read_metrics("run")[-1]["seconds"]) / 60
    # The last row of the metrics may be older than the end: the time may run out while a stage is measured.
    began = time.perf_counter()
    assert call(monkeypatch, "--run-dir", "run", "--resume", "--minutes", str(made + 0.1)) == 0
    assert time.perf_counter() - began >= 6
    assert float(read_metrics("run")[-1]["seconds"]) / 60 > made


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            ("--resume", "--steps", "20"),
            "has made 20 steps: to train it further, --steps must be above that, but it is 20",
        ),
        (("--resume", "--minutes", "9"), "--minutes has no effect, because --steps is 40: give one"),
        (("--resume", "--steps", "50", "--size", "4"), "another configuration: size is 3 there and 4 here"),
        (("--resume", "--seed", "1"), "another configuration: seed is 0 there and 1 here"),
        (("--read", "--steps", "50"), "another configuration: steps is 40 there and 50 here"),
        (("--resume", "--cell", "lstn"), "there is no cell named 'lstn': did you mean LSTM?"),
    ],
)
def test_what_cannot_be_continued(stopped, monkeypatch, capsys, options, complaint):
    before = (stopped / "config.json").read_bytes()
    assert call(monkeypatch, "--run-dir", "run", *options) == 2
    assert complaint in error_line(capsys)
    assert (stopped / "config.json").read_bytes() == before


def test_names_of_cells_in_any_case(stopped, monkeypatch, capsys):
    assert call(monkeypatch, "--run-dir", "run", "--resume", "--cell", "lstm") == 0
    assert call(monkeypatch, "--run-dir", "other", "--steps", "2", "--cell", "layernormgru") == 0
    assert json.loads(Path("other/config.json").read_text())["config"]["cell"] == "LayerNormGRU"


# --- What is said ---


def test_the_time_left_includes_measurements():
    clock = Clock(100, 1.0, time.perf_counter(), stages=10)
    assert math.isnan(clock.seconds_left)
    clock.made(1, 5.0)  # compiles
    assert clock.rate == pytest.approx(0.2)
    assert left(clock.seconds_left) == ", ? left"
    clock.made(9, 0.9)
    assert clock.due
    clock.measuring = 2.0
    assert clock.seconds_left == pytest.approx(9 + 9 * 2)
    assert left(clock.seconds_left) == ", 0:27 left"
    assert left(0.0) == left(-3.0) == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_progress_bar_in_a_terminal_of_unknown_size(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    clock = Clock(100, 1.0, time.perf_counter())
    clock.made(50, 1.0)
    with Progress() as bar:
        bar.show(clock, "loss 1.000")
    assert re.search(r" 50% \|[█#]{12} {12}\| step 50: loss 1.000, \? left", terminal.getvalue())


def test_a_line_at_least_every_half_minute_without_a_terminal(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr("support.progress.time.monotonic", lambda: now)
    clock = Clock(100, 1.0, time.perf_counter())
    clock.made(50, 1.0)
    with Progress() as bar:
        for now in range(100):
            bar.show(clock, f"second {now}")
    lines = capsys.readouterr().out.splitlines()
    assert [int(re.search(r"second (\d+)", line)[1]) for line in lines] == [31, 62, 93]
    assert lines[0] == " 50%  step 50: second 31, ? left"


@pytest.mark.parametrize(
    ("curves", "seen"),
    [
        ([[4.5, 1.6, 1.5, 1.4, 1.35, 1.3]], (1.3, 1.6)),
        ([[2.0, 1.8, 1.6, 1.4]], (1.4, 2.0)),
        ([[math.inf, 4.5, 1.6, 1.5, 1.4, 1.35, 1.3], [1.25]], (1.25, 1.6)),
        ([[3.0]], (3.0, 3.0)),
    ],
)
def test_curves_begin_where_there_is_something_to_see(curves, seen):
    assert visible_range(curves) == pytest.approx(seen)


# --- Before the slow imports ---

FEW = ["char_lm.py", "gates.py", "zoo"]  # a plain script, one with the options of another, a folder
OTHERS = sorted({path.name for path in EXPERIMENTS.glob("*.py")} - {*FEW})


@pytest.mark.parametrize("script", [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_errors_come_before_slow_imports(script, tmp_path):
    """A script reports what is wrong with its options even if JAX and NumPy cannot be imported."""
    for name in ("jax", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for option, complaint in (("--no-such-option", "--no-such-option"), ("--seed=-1", "--seed must be at least 0")):
        command = [sys.executable, str(EXPERIMENTS / script), option]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert re.match(f"error: .*{complaint}", done.stderr)
        assert done.stderr.count("\n") == 1
