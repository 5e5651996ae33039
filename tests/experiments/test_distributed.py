"""Several processes that train one model: how they start, agree, die, and resume, with `support/small_run.py`.

KILLS is the number of kills of `test_no_kill_loses_a_checkpoint`, and SEED that of their moments: for 20 kills,
`KILLS=20 pytest -n 0 -s -m slow -k no_kill tests/experiments/test_distributed.py`.
"""

from __future__ import annotations

import dataclasses
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
import pytest
from support import distributed, supervisor
from support.checkpoints import Checkpoints
from support.distributed import Topology, agree, exchange, find_topology, in_first
from support.errors import BadInputError
from support.options import Cluster

from tests.support import small_run

SCRIPT = Path(small_run.__file__)
KILLS, SEED = int(os.environ.get("KILLS", "5")), int(os.environ.get("SEED", "0"))
LOST = 75


@dataclasses.dataclass
class Process:
    """A process of a run, and what it has printed."""

    popen: subprocess.Popen
    folder: Path

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()

    def end(self, seconds: float = 60) -> tuple[int, str]:
        """Returns the exit code and the only line on stderr."""
        code = self.popen.wait(seconds)
        lines = self.err.splitlines()
        assert len(lines) < 2, self.err
        return code, "".join(lines)


@pytest.fixture
def start(tmp_path) -> Iterator[Any]:
    """Starts processes with the given numbers, options and environment; `each` is that of single ones, by index."""
    started: list[Process] = []

    def start(*options: str, numbers=(0, 1), processes=2, each=None, by_hand=True, **environment: Any) -> list[Process]:
        port = free_port()
        new = []
        for n, number in enumerate(numbers):
            mine = {"processes": processes} | environment | (each or {}).get(n, {})
            cluster = ["--coordinator", f"127.0.0.1:{port}", "--process", str(number)] if by_hand else []
            cluster += ["--processes", str(mine.pop("processes"))] if by_hand else []
            command = [sys.executable, str(SCRIPT), "--run-dir", "run", "--connect-seconds", "30", *cluster]
            command += [*options, *mine.pop("options", ())]
            folder = tmp_path / f"process_{len(started)}"
            folder.mkdir()
            with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
                popen = subprocess.Popen(
                    command,
                    cwd=tmp_path,
                    stdout=out,
                    stderr=err,
                    env=os.environ | {"JAX_COORDINATOR_PORT": str(port)} | {k: str(v) for k, v in mine.items()},
                )
            new.append(Process(popen, folder))
            started.append(new[-1])
        return new

    yield start
    for process in started:
        process.popen.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def alone(start: Any, *options: str, **environment: Any) -> Process:
    (process,) = start(*options, numbers=(0,), processes=1, **environment)
    return process


def saved(run_dir: Path) -> list[np.ndarray]:
    like = (small_run.begin(small_run.Options()), 0.0)
    return [np.asarray(leaf) for leaf in Checkpoints(run_dir).latest(like)[0]]


def expected(steps: int, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and state after some steps of a run of `total` steps, in float64."""
    params, state = np.arange(8.0), np.zeros(8)
    for n in range(steps):
        params = params + 0.5 + 0.5 * np.cos(np.pi * n / total)
        state = state + params
    return params, state


# --- One quick run ---


def test_two_processes_train_one_model(tmp_path, start):
    first, second = start("--steps", "20", each={0: {"DEVICES": 2}, 1: {"DEVICES": 2}})
    assert [first.end(), second.end()] == [(0, ""), (0, "")]
    assert "run run, 4 devices\n" in first.out
    assert first.out.endswith("ended after step 20\n")
    assert "Gloo" not in first.out
    assert second.out == ""
    assert (tmp_path / "run/metrics.csv").read_text().count("\n") == 11
    step, params, state = saved(tmp_path / "run")
    assert step == 20
    np.testing.assert_allclose(params, expected(20, 20)[0], rtol=1e-5)
    np.testing.assert_allclose(state, expected(20, 20)[1], rtol=1e-5)


# --- Starting ---

SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
OPEN_MPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "2",
}


def of_slurm(n: int) -> dict[str, str]:
    return SLURM | {"SLURM_PROCID": str(n), "SLURM_LOCALID": str(n)}


def of_open_mpi(n: int) -> dict[str, str]:
    return OPEN_MPI | {"OMPI_COMM_WORLD_RANK": str(n), "OMPI_COMM_WORLD_LOCAL_RANK": str(n)}


@pytest.fixture
def no_cluster(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_", "JAX_COORDINATOR")):
            monkeypatch.delenv(name)


def test_no_cluster_is_one_process(no_cluster):
    assert find_topology(Cluster()) is None
    assert (distributed.number_of_processes(), distributed.is_first()) == (1, True)
    assert exchange(3) == [3]
    assert in_first(lambda: 4) == 4
    agree("data", {"hash": 5})


def test_a_cluster_by_hand():
    assert find_topology(Cluster("host:1234", 1, 2)) == Topology("host:1234", 2, 1, None)


@pytest.mark.parametrize(
    ("environment", "coordinator"), [(of_slurm, "localhost:61447"), (of_open_mpi, "127.0.0.1:63847")]
)
def test_a_cluster_that_jax_finds(no_cluster, monkeypatch, environment, coordinator):
    for name, value in environment(1).items():
        monkeypatch.setenv(name, value)
    found = find_topology(Cluster())
    assert found is not None
    assert (found.processes, found.process, found.local_devices) == (2, 1, [1])
    assert re.fullmatch(rf"{coordinator.partition(':')[0]}:\d+", found.coordinator)
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "other:99")
    found = find_topology(Cluster())
    assert found is not None
    assert found.coordinator == "other:99"


def test_a_cluster_that_cannot_be_used(no_cluster, monkeypatch):
    for name, value in of_open_mpi(1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMPI_MCA_orte_hnp_uri", "1531576320.0;unix://")
    with pytest.raises(BadInputError, match=r"cannot find the other processes of this cluster \(.+\): name them with"):
        find_topology(Cluster())


@pytest.mark.slow
@pytest.mark.parametrize("environment", [of_slurm, of_open_mpi])
def test_processes_that_a_cluster_starts(start, environment):
    first, second = start("--steps", "4", by_hand=False, each={n: environment(n) for n in (0, 1)})
    assert [first.end(), second.end()] == [(0, ""), (0, "")]
    assert "2 devices" in first.out


@pytest.mark.parametrize(
    ("cluster", "complaint"),
    [
        (Cluster("host:1"), "must be given together, but --process, --processes is missing"),
        (Cluster("host", 0, 1), "--coordinator must be HOST:PORT, the address of process 0, but it is 'host'"),
        (Cluster("host:0", 0, 1), "--coordinator must be HOST:PORT"),
        (Cluster("host:99999", 0, 1), "--coordinator must be HOST:PORT"),
        (Cluster("host:1", 2, 2), "--process must be from 0 to 1, because --processes is 2, but it is 2"),
        (Cluster("host:1", 0, 0), "--processes must be at least 1, but it is 0"),
        (Cluster(connect_seconds=0), "--connect-seconds must be at least 1, but it is 0"),
    ],
)
def test_options_of_a_cluster(cluster, complaint):
    with pytest.raises(BadInputError, match=complaint):
        cluster.check()


def test_a_system_without_fork(monkeypatch):
    monkeypatch.delattr(os, "fork")
    with pytest.raises(BadInputError, match="several processes cannot train together on this system: use Linux"):
        distributed.join(Cluster("host:1", 1, 2))


def test_a_port_that_is_in_use():
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        with pytest.raises(BadInputError, match=r"process 0 cannot listen on port .* choose another port"):
            distributed.check_port(f"localhost:{other.getsockname()[1]}")


# --- What the parent process understands ---


def test_messages_of_jax_about_other_processes():
    silent = "E1128 coordination_service.cc:1] tasks are unhealthy (stopped sending heartbeats):\n{}\nThe tasks have"
    assert supervisor.describe_lost(silent.format("3"), [0, 3, 5]) == "process 3 has died"
    assert supervisor.describe_lost(silent.format("3\n5"), [0, 3, 5]) == "processes 3, 5 have died"
    assert (
        supervisor.describe_lost("Failed to send RPC to coordination service. Either", [0, 3, 5])
        == "process 0 has died"
    )
    assert supervisor.describe_lost("", [0, 3, 5]) == "another process has died"
    assert supervisor.describe_lost("", [3]) == "process 3 has died"


def test_other_messages_are_printed(capsys):
    reader, writer = os.pipe()
    lines = [
        "[Gloo] Rank 1 is connected to 1 peer ranks. Expected number of connected peer ranks is : 1",
        "W1128 14:03:57.344685   16129 some_kernel.cc:15] it is slow",
        "E1128 14:03:57.344685   16129 coordination_service.cc:15] a process",
        "is late",
        "a line without a head, which belongs to the one before",
        "I1128 14:03:57.344685   16129 some_kernel.cc:16] it is ready",
        "F1128 14:03:57.344685   16129 client.h:80] the end",
        "stack trace",
    ]
    os.write(writer, "".join(f"{line}\n" for line in lines).encode())
    os.close(writer)
    withheld = supervisor.forward_log(reader)
    assert capsys.readouterr().err.splitlines() == [lines[1], lines[5]]
    assert withheld.splitlines() == [*lines[2:5], *lines[6:]]


def test_a_signal_that_comes_twice_counts_once():
    received = []
    handler = supervisor.once(lambda number, frame: received.append(number))
    handler(2, None)
    handler(2, None)
    time.sleep(0.6)
    handler(15, None)
    assert received == [2, 15]


# --- Comparing ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("each", "complaint"),
    [
        ({1: {"DATA": "other"}}, "different data: data is none in process 0 and other in process 1"),
        ({1: {"DEVICES": "2"}}, "different devices: number of devices is 1 in process 0 and 2 in process 1"),
        ({1: {"VERSION": "0.0"}}, "different versions: jaxrnn is .* in process 0 and 0.0 in process 1"),
        ({1: {"options": ("--seed", "4")}}, "different options: seed is 0 in process 0 and 4 in process 1"),
        ({1: {"processes": 3}}, "different numbers of processes: --processes is 2 in process 0 and 3 in process 1"),
    ],
)
def test_processes_that_differ(tmp_path, start, each, complaint):
    for process in start("--steps", "4", each=each):
        code, line = process.end(40)
        assert code == 2
        assert re.match(rf"process [01]: error: the processes of this run have {complaint}", line)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("numbers", "how", "lines"),
    [
        ((0,), {}, ["process 0: error: not all of 2 processes have connected to "]),
        ((1,), {}, ["process 1: error: cannot connect to process 0 at 127.0.0.1:"]),
        (
            (1,),
            {"options": ("--coordinator", "no-such-host.invalid:1234")},
            ["process 1: error: cannot connect to process 0 at no-such-host.invalid:1234 within 8 seconds: "],
        ),
        (
            (0, 1),
            {"processes": 3},
            ["process 0: error: not all of 3 processes", "process 1: error: (cannot connect|process 0 has died)"],
        ),
    ],
)
def test_processes_that_cannot_meet(start, numbers, how, lines):
    each = dict.fromkeys(range(2), how)
    for process, line in zip(
        start("--steps", "4", "--connect-seconds", "8", numbers=numbers, each=each), lines, strict=True
    ):
        code, found = process.end(40)
        assert code == LOST
        assert re.match(line, found)


@pytest.mark.slow
def test_two_processes_with_one_number(start):
    processes = start("--steps", "100000", "--connect-seconds", "15", numbers=(0, 1, 1), PAUSE="0.1")
    ends = [process.end() for process in processes]
    assert [code for code, _ in ends] == [LOST] * 3
    assert ends[0][1] == "process 0: error: two processes have the number 1: give each its own --process"
    assert sum("two processes have the number 1" in line for _, line in ends) >= 2
    assert all(re.search("its own --process", line) for _, line in ends)


@pytest.mark.slow
def test_an_error_of_the_first_process_before_training(tmp_path, start):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/other").touch()
    first, second = start("--steps", "4")
    complaint = "run holds other files: name a --run-dir that is empty or does not exist"
    assert first.end() == (2, f"process 0: error: {complaint}")
    assert second.end() == (2, f"process 1: error: process 0 has ended: {complaint}")


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0, 1])
def test_an_error_of_one_process_while_others_wait_for_its_devices(start, wrong):
    processes = start("--steps", "4", each={wrong: {"FAILS": "input"}})
    assert processes[wrong].end() == (2, f"process {wrong}: error: cannot read the data")
    line = f"process {1 - wrong}: error: process {wrong} has ended: cannot read the data"
    assert processes[1 - wrong].end() == (2, line)


@pytest.mark.slow
def test_a_full_disk_ends_all(tmp_path, start):
    for process in start("--steps", "40", each={0: {"FAILS": "disk"}}):
        code, line = process.end()
        assert code == 2
        assert re.match(
            r"process [01]: error: cannot write .*checkpoints/4: No space left on device; the last checkpoint is of"
            " step 0; resume with: ",
            line,
        )
    assert not list(tmp_path.rglob("*.unfinished"))
    resumed = start("--resume")
    assert [process.end() for process in resumed] == [(0, ""), (0, "")]
    assert resumed[0].out.endswith("ended after step 40\n")


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0, 1])
def test_a_fault_of_one_process_is_shown(start, wrong):
    processes = start("--steps", "40", each={wrong: {"FAILS": "script"}})
    code, line = processes[1 - wrong].end(90)
    if wrong:
        assert (code, line) == (2, "process 0: error: process 1 has ended: KeyError: 'a name'")
    else:
        assert code in (2, LOST)  # whether the coordinator, process 0, can still pass on its message
        assert re.match(r"process 1: error: process 0 has (ended: KeyError|died: resume)", line)
    assert processes[wrong].popen.wait(60) == 1
    lines = processes[wrong].err.splitlines()
    assert "Traceback" in lines[0]
    assert lines[-1] == f"process {wrong}: error: KeyError: 'a name'"


@pytest.mark.slow
def test_a_fault_of_all_processes_is_shown_by_all(start):
    for n, process in enumerate(start("--steps", "40", FAILS="script")):
        assert process.popen.wait(60) == 1
        assert process.err.splitlines()[-1] == f"process {n}: error: KeyError: 'a name'"


# --- Ending ---


@pytest.mark.slow
@pytest.mark.parametrize("victims", [(0,), (1,), (0, 1)])
def test_sigterm_saves_and_ends_all(tmp_path, start, victims):
    processes = start("--steps", "100000", PAUSE="0.05")
    wait_for(lambda: "step" in processes[0].out or (tmp_path / "run/checkpoints/0").exists())
    time.sleep(2)
    for victim in victims:
        processes[victim].popen.send_signal(signal.SIGTERM)
    lines = [process.end() for process in processes]
    assert [code for code, _ in lines] == [130, 130]
    found = [re.match(r"process [01]: stopped after step (\d+) and saved; resume with: ", line) for _, line in lines]
    assert found[0]
    assert found[1]
    assert int(found[0][1]) == int(found[1][1]) == Checkpoints(tmp_path / "run").step


def child_of(process: Process) -> int:
    (child,) = psutil.Process(process.popen.pid).children()
    return child.pid


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("pause", [0.05, 1000], ids=["training", "outside JAX"])
def test_a_process_that_is_killed_ends_the_others(tmp_path, start, victim, pause):
    processes = start("--steps", "100000", PAUSE=pause)
    wait_for((tmp_path / "run/checkpoints/0").exists)
    time.sleep(1)
    child = child_of(processes[victim])
    processes[victim].popen.kill()
    code, line = processes[1 - victim].end(60)
    assert code == LOST
    assert line == (
        f"process {1 - victim}: error: process {victim} has died: resume the run from its last checkpoint with --resume"
    )
    wait_for(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


@pytest.mark.slow
def test_a_child_that_is_killed_is_reported_by_its_parent(tmp_path, start):
    processes = start("--steps", "100000", PAUSE=0.05)
    wait_for((tmp_path / "run/checkpoints/0").exists)
    os.kill(child_of(processes[1]), signal.SIGKILL)
    assert processes[1].end() == (
        137,
        "process 1: error: the process was ended by SIGKILL, as the system does when memory runs out",
    )
    assert processes[0].end()[0] == LOST


@pytest.mark.slow
def test_no_kill_loses_a_checkpoint(tmp_path, start):
    """Kills a process at random moments of training, every other time during a save, and resumes with 1 or 2."""
    rng = random.Random(SEED)
    run = tmp_path / "run"
    steps, last, during_saves = 20_000, 0, 0
    for kill in range(KILLS):
        number = 2 if kill == 0 else rng.choice([1, 2, 2])
        processes = start(
            *(() if run.exists() else ("--steps", str(steps))),
            *(("--resume",) if run.exists() else ()),
            numbers=range(number),
            processes=number,
            DEVICES=rng.choice([1, 2, 4]),
            PAUSE=0.2,
            STAGES=200,
        )
        wait_for(lambda processes=processes: "run run" in processes[0].out or processes[0].popen.poll() is not None)
        if kill % 4:  # else it may be killed before the first checkpoint, while it compiles
            wait_for(lambda last=last: any(int(p.name) > last for p in run.glob("checkpoints/*[0-9]")))
        time.sleep(rng.uniform(0, 2))
        if kill % 2:
            wait_for(lambda: any(run.glob("checkpoints/*.unfinished")))
            time.sleep(rng.uniform(0, 0.03))
            during_saves += any(run.glob("checkpoints/*.unfinished"))
        victim = rng.choice(processes)
        os.kill(child_of(victim) if number == 2 and rng.random() < 0.5 else victim.popen.pid, signal.SIGKILL)
        for process in processes:
            code, line = process.end(60)
            if process is not victim:
                assert code == LOST, line
                assert " has died: resume the run" in line
        checkpoints = Checkpoints(run)
        assert not checkpoints.damage
        assert checkpoints.step is not None
        assert checkpoints.step >= last
        last = checkpoints.step
        print(f"kill {kill}: {number} processes, checkpoint {last}, {during_saves} kills during saves")
    process = alone(start, "--resume", DEVICES=2)
    assert process.end(120) == (0, "")
    uninterrupted = alone(start, "--steps", str(steps), "--run-dir", "whole")
    assert uninterrupted.end(120) == (0, "")
    for found, right in zip(saved(run), saved(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(found, right)


# --- Other topologies ---


@pytest.mark.slow
@pytest.mark.parametrize("split", [(), ("--split",)], ids=["copied", "split"])
def test_a_run_continues_on_other_processes_and_devices(tmp_path, start, split):
    """Each topology restores the very numbers that the one before has saved."""
    options = ("--steps", "8", *split)
    for processes, devices in [(2, 2), (1, 4), (2, 1), (1, 1), (2, 4), (1, 2)]:
        before = saved(tmp_path / "run") if (tmp_path / "run").exists() else None
        started = start(*options, numbers=range(processes), processes=processes, DEVICES=devices)
        assert [process.end() for process in started] == [(0, "")] * processes
        assert f"{processes * devices} devices" in started[0].out
        if before is not None:
            found = re.search(r"restored (.*)", started[0].out)
            assert found
            assert eval(found[1]) == [leaf.tolist() for leaf in before]
        options = ("--resume", "--steps", str(int(saved(tmp_path / "run")[0]) + 8))
    assert saved(tmp_path / "run")[0] == 48


def test_messages_of_gloo_are_not_printed_even_if_threads_mix_them(capsys):
    read, write = os.pipe()
    lines = (
        "[Gloo] Rank 1 is connected to 7 peer ranks. Expected number of connected peer ranks is : 7",
        "[Gloo] Rank [Gloo] Rank 0 is connected to 7 peer ranks. 3 is connected to 7 peer ranks. ",
        "Expected number of connected peer ranks is : 7",
        "Expected number of connected peer ranks is : 77",
        "",
        "a message about 7 ranks",
    )
    os.write(write, "\n".join((*lines, "")).encode())
    os.close(write)
    assert supervisor.forward_log(read) == ""
    assert capsys.readouterr().err == "a message about 7 ranks\n"


def test_a_restored_array_is_where_that_of_the_structure_is(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    values = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    Checkpoints(tmp_path).save(1, {"a": jax.numpy.asarray(values), "n": 3})
    device = jax.devices()[-1]
    like = jax.device_put(np.zeros_like(values), device)
    shape = jax.ShapeDtypeStruct(values.shape, values.dtype)
    for structure in (like, shape, np.zeros_like(values)):
        found = Checkpoints(tmp_path).latest({"a": structure, "n": 0})
        assert found["n"] == 3
        assert isinstance(found["a"], np.ndarray if structure is not like and structure is not shape else jax.Array)
        np.testing.assert_array_equal(found["a"], values)
        if structure is like:
            assert found["a"].sharding == like.sharding
