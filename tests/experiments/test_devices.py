"""Training on several devices and in several processes: the same losses, one collective per step, shared memory."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from support import devices, training
from support.clock import Clock
from support.errors import BadInputError

from tests.support import devices_worker

CHARACTERS = {"hidden_size": 32, "batch": 8, "sequence_length": 16, "dropout": 0.2, "devices": "all"}
WORDS = CHARACTERS | {"vocabulary": 30}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    """A text of 4,000 words as characters, and the same in three splits as words."""
    folder = tmp_path_factory.mktemp("data")
    text = "".join(random.Random(0).choices(["the ", "cat ", "sat ", "on ", "a mat.\n"], k=4000))
    for name in ("train", "valid", "test"):
        (folder / f"{name}.txt").write_text(text)
    return {"char_lm": folder / "train.txt", "word_lm": folder}


def train(data: dict[str, Path], calls: list[dict[str, Any]], cores: int, processes: int = 1) -> list[Any]:
    """Trains in new processes, each with some devices, and returns what each of them has found in each call."""
    calls = [{"steps": 5} | call for call in calls]
    for call in calls:
        options = CHARACTERS if call["script"] == "char_lm" else WORDS
        call["options"] = options | call.get("options", {}) | {"data": str(data[call["script"]])}
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    how = {"cores": cores, "processes": processes, "port": port, "calls": calls}
    started = [
        subprocess.Popen(
            [sys.executable, devices_worker.__file__, json.dumps(how | {"process": n})],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(processes)
    ]
    try:
        outputs = [process.communicate(timeout=600) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, err) in zip(started, outputs, strict=True):
        assert process.returncode == 0, err
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


SEVERAL = {"seeds": 2, "learning_rate": [1e-3, 1e-2], "hidden_size": 16}
CALLS = [{"script": "char_lm"}, {"script": "word_lm"}, {"script": "char_lm", "options": SEVERAL}]


def with_split(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [call | {"options": call.get("options", {}) | {"shard_parameters": True}} for call in calls]


@pytest.fixture(scope="module")
def alone(data) -> list[dict[str, Any]]:
    (found,) = train(data, CALLS, cores=1)
    assert all(call["devices"] == 1 and len(set(call["losses"])) == 5 for call in found)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("cores", "processes"), [(4, 1), (1, 2)])
def test_losses_are_those_of_one_device(data, alone, cores, processes):
    """Step for step, with dropout, and so is the validation loss. Also if parameters are split."""
    expected = alone + alone
    for process in train(data, CALLS + with_split(CALLS), cores, processes):
        for found, one in zip(process, expected, strict=True):
            assert found["devices"] == cores * processes
            np.testing.assert_allclose(found["losses"], one["losses"], rtol=1e-5)
            np.testing.assert_allclose(found["valid"], one["valid"], rtol=1e-5)


MODELS = ("(LSTM(16),)", "(LSTM(16), Dropout(0.2), GRU(8))", "(Bidirectional(LSTM(8)),)")
LOOPS = ("loops.Deferred()", "loops.Deferred(checkpoint_every=4)", "loops.Deferred(block=4)")


@pytest.mark.slow
@pytest.mark.parametrize("script", ["char_lm", "word_lm"])
def test_a_step_sums_gradients_once(data, script):
    """One all-reduce, of all gradients and of the loss, and no other collective operation."""
    embedding = {"char_lm": "", "word_lm": "Embedding(8), "}[script]
    options = {"hidden_size": 8} | ({"tied": False} if script == "word_lm" else {})
    calls = [
        {"script": script, "model": "(" + embedding + model[1:], "loop": loop, "steps": 1, "options": options}
        for model in MODELS
        for loop in ("", *LOOPS)
    ]
    (found,) = train(data, calls, cores=4)
    for call, each in zip(calls, found, strict=True):
        assert each["collectives"] == [["all-reduce", each["parameters"] + 4]], call


@pytest.mark.slow
def test_split_parameters_take_less_memory(data):
    """A quarter on each of four devices, except for small arrays."""
    call = {"script": "char_lm", "options": {"hidden_size": 256, "layers": 2}, "steps": 1}
    ((copied, split),) = train(data, [call, *with_split([call])], cores=4)
    assert copied["bytes"] == pytest.approx(3 * copied["parameters"], rel=1e-3)  # Adam has two moments
    assert split["bytes"] < 0.27 * copied["bytes"]
    kept = copied["arguments"] - split["arguments"]
    assert kept == pytest.approx(0.75 * copied["bytes"], rel=0.05)
    assert split["arguments"] + split["temporary"] < copied["arguments"] + copied["temporary"]
    assert {name for name, _ in split["collectives"]} == {"all-gather", "reduce-scatter", "all-reduce"}


# --- In one process ---


def test_the_loss_of_a_batch_is_the_mean_over_devices():
    """On a mesh of one device: `value_and_grad` gives each sequence its own key, numbered from 0."""
    mesh = devices.make_mesh("one", 3)

    def loss(params, window, state, keys):
        drawn = jax.vmap(jax.random.normal)(keys)
        return (params * window.mean(0) * drawn).mean(), state + drawn

    key, window = jax.random.key(4), jnp.arange(6.0).reshape(2, 3)
    (value, state), gradient = jax.jit(devices.value_and_grad(loss, mesh))(2.0 * jnp.ones(()), window, jnp.ones(3), key)
    drawn = np.array([jax.random.normal(jax.random.fold_in(key, n)) for n in range(3)])
    np.testing.assert_allclose(gradient, (window.mean(0) * drawn).mean(), rtol=1e-5)
    np.testing.assert_allclose(value, 2 * gradient, rtol=1e-5)
    np.testing.assert_allclose(state, 1 + drawn, rtol=1e-5)


def test_parameters_are_split_along_their_largest_axis_that_the_devices_divide():
    mesh: Any = SimpleNamespace(size=4)
    shapes = {"wide": (64, 256), "tall": (256, 64), "odd": (63, 255), "one": (63, 128), "small": (8, 8), "count": ()}
    tree = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    specs = devices.parameter_specs(tree, mesh, split=True)
    by_column, by_row, whole = PartitionSpec(None, "devices"), PartitionSpec("devices"), PartitionSpec()
    expected = {"wide": by_column, "tall": by_row, "odd": whole, "one": by_column, "small": whole, "count": whole}
    assert specs == expected
    assert set(devices.parameter_specs(tree, mesh, split=False).values()) == {whole}
    mesh.size = 1
    assert set(devices.parameter_specs(tree, mesh, split=True).values()) == {whole}


def processes_of(monkeypatch: Any, number: int, each: int, mine: int = 0) -> list[Any]:
    """Pretends that there are several processes with some devices each."""
    every = [SimpleNamespace(id=10 * n + k, process_index=n) for n in range(number) for k in range(each)]
    monkeypatch.setattr(devices, "Mesh", lambda array, _: SimpleNamespace(devices=array, size=array.size))
    monkeypatch.setattr(jax, "devices", lambda: every[::-1])
    monkeypatch.setattr(jax, "process_count", lambda: number)
    monkeypatch.setattr(jax, "process_index", lambda: mine)
    return every


def test_a_mesh_over_processes(monkeypatch):
    every = processes_of(monkeypatch, number=3, each=2, mine=1)
    mesh = devices.make_mesh("all", 12)
    assert list(mesh.devices) == every
    assert devices.streams_here(mesh, 12) == range(4, 8)
    mesh = devices.make_mesh("one", 12)
    assert list(mesh.devices) == every[::2]
    assert devices.streams_here(mesh, 12) == range(4, 8)
    with pytest.raises(BadInputError) as caught:
        devices.make_mesh("all", 9)
    complaint = "--batch must be a multiple of the number of devices, but it is 9 for 6 devices of 3 processes"
    assert str(caught.value) == complaint


def test_one_process_takes_the_devices_that_divide_the_batch(monkeypatch):
    every = processes_of(monkeypatch, number=1, each=8)
    for batch, used in ((8, 8), (12, 6), (7, 7), (9, 3), (1, 1)):
        assert list(devices.make_mesh("all", batch).devices) == every[:used]


def test_all_processes_do_what_the_first_decides(monkeypatch):
    """Its clock counts, and Ctrl-C in any of them."""
    ours, theirs = (True, False, False, 5, 0.25, 0.5), (False, True, True, 9, 0.0, 0.1)
    monkeypatch.setattr(training, "gather_numbers", lambda mine: [ours, theirs])
    interrupt: Any = SimpleNamespace(requested=False)
    decision = training.Decision.of(Clock(10, 1.0, 0.0), 3, True, interrupt, after_steps=True)
    assert decision == training.Decision(due=True, ended=False, stopped=True, steps=5, schedule=(0.25, 0.5))


def test_a_process_alone_decides_by_its_clock():
    clock = Clock(10, 1.0, 0.0, stages=10)
    interrupt: Any = SimpleNamespace(requested=False)
    first = training.Decision.of(clock, 3, True, interrupt, after_steps=False)
    assert first == training.Decision(due=False, ended=False, stopped=False, steps=1, schedule=(0.0, 0.1))
    for _ in range(2):
        clock.made(1, 0.01)
    assert training.Decision.of(clock, 3, True, interrupt, after_steps=True).due
    assert not training.Decision.of(clock, 3, True, interrupt, after_steps=False).due
    clock.made(8, 0.01)
    interrupt.requested = True
    last = training.Decision.of(clock, 3, True, interrupt, after_steps=True)
    assert (last.due, last.ended, last.stopped) == (True, True, True)
    assert not training.Decision.of(clock, 3, False, interrupt, after_steps=True).ended  # not yet measured
