"""The machine side of `Native`: XLA's call frame, narrower processors, threads, caches, and what it refuses."""

import importlib.util
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.loops import Native, Scan
from tests.support.comparisons import assert_close

pytest.importorskip("llvmlite")

from jaxrnn.loops import native
from jaxrnn.loops._deferred_gradient import Before
from jaxrnn.loops.native import _call_frame as frames
from jaxrnn.loops.native import _compile, _loop, _scan, _threads, _weight_gradient
from jaxrnn.loops.native._code import I32, I64, Code, ir
from jaxrnn.loops.native._compile import HANDLER
from jaxrnn.loops.native._host import Host, this_host

CELL = jaxrnn.LSTM(20)  # whole panels of packed matrices, and a part of one
PARAMS = CELL.init(jax.random.key(0), 3)
XS = jax.random.normal(jax.random.key(1), (7, 5, 3))

WORDS = {  # sizes of the fields of structs, in words of 64 bits
    "XLA_FFI_Args": 5,
    "XLA_FFI_Rets": 5,
    "XLA_FFI_Attrs": 6,
    "XLA_FFI_Api_Version": 3,
    "XLA_FFI_Extension_Base": 3,
    "XLA_FFI_InternalExtension": 3,
}


def loss(params, xs, loop):
    return (jaxrnn.unroll(CELL, params, xs, loop=loop)[1] ** 2).sum()


GRADIENT = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2)


def header():
    return open(f"{jax.ffi.include_dir()}/xla/ffi/api/c_api.h").read()


def offset(struct, field):
    """Returns where a field begins in a struct, in words."""
    body = re.search(rf"struct {struct} {{(.*?)\n}};", header(), re.DOTALL).group(1)
    at = 0
    for line in re.sub(r"//[^\n]*", "", body).split(";"):
        words = [word for word in line.split() if word not in ("struct", "const")]
        if not words:
            continue
        name = words[-1].lstrip("*")
        if name == field:
            return at
        at += WORDS.get(words[0], 1) if "*" not in line else 1
    raise AssertionError(f"{struct} has no field {field}")


def test_the_call_frame_is_that_of_the_installed_jaxlib():
    assert offset("XLA_FFI_CallFrame", "extension_start") == frames.EXTENSION
    assert offset("XLA_FFI_CallFrame", "api") == frames.API
    assert offset("XLA_FFI_CallFrame", "ctx") == frames.CONTEXT
    assert offset("XLA_FFI_CallFrame", "args") + offset("XLA_FFI_Args", "args") == frames.ARGS
    assert offset("XLA_FFI_CallFrame", "rets") + offset("XLA_FFI_Rets", "rets") == frames.RESULTS
    assert 8 * offset("XLA_FFI_Buffer", "data") == frames.DATA
    assert 8 * offset("XLA_FFI_Metadata_Extension", "metadata") == frames.EXTENSION_METADATA
    assert 8 * offset("XLA_FFI_Metadata", "api_version") == frames.METADATA_VERSION


def test_the_table_of_functions_is_that_of_the_installed_jaxlib():
    table = re.search(r"struct XLA_FFI_Api {(.*?)\n};", header(), re.DOTALL).group(1)
    names = re.findall(r"_XLA_FFI_API_STRUCT_FIELD\((\w+)\)", table)
    assert names[frames.SCHEDULE] == "XLA_FFI_ThreadPool_Schedule"
    assert names[frames.NUM_THREADS] == "XLA_FFI_ThreadPool_NumThreads"
    assert names[frames.DESTROY_ERROR] == "XLA_FFI_Error_Destroy"
    before = table[: table.index("_XLA_FFI_API_STRUCT_FIELD")]
    fields = [line.split() for line in before.split(";") if line.split()]
    assert sum(WORDS.get(words[0], 1) for words in fields) == frames.TABLE


NARROWER = {
    "256 bits, 16 registers": this_host()._replace(panel_vectors=2),
    "128 bits": this_host()._replace(lanes=4, panel_vectors=4),
    "no special instructions": Host("x86-64", "", 4, 2),
}


@pytest.mark.parametrize("name", NARROWER)
def test_narrower_processors_give_the_same(name, monkeypatch):
    for module in (_scan, _weight_gradient):
        monkeypatch.setattr(module, "this_host", lambda: NARROWER[name])
    found = jax.grad(loss, argnums=(0, 1))(PARAMS, XS, Native())
    assert_close(found, GRADIENT(PARAMS, XS, Scan()), rtol=1e-5)


@pytest.mark.parametrize(("input_size", "reverse"), [(3, False), (64, True)])
def test_inputs_are_projected_in_blocks_of_steps(input_size, reverse, monkeypatch):
    cell = jaxrnn.GRU(5)
    monkeypatch.setattr(_loop.Layout, "block", lambda layout, time, rows: 3 if layout.in_blocks else time)
    params = cell.init(jax.random.key(0), input_size)
    xs = jax.random.normal(jax.random.key(1), (7, 10, input_size))

    def gradient(loop):
        def loss(params, xs):
            return (jaxrnn.unroll(cell, params, xs, reverse=reverse, loop=loop)[1] ** 2).sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, xs)

    assert_close(gradient(Native()), gradient(Scan()), rtol=1e-5)


@pytest.mark.parametrize("cell", [jaxrnn.LSTM(40), jaxrnn.GRU(7)], ids=str)
def test_several_threads_share_a_single_row(cell, monkeypatch):
    params = cell.init(jax.random.key(0), 3)

    def gradient(loop):
        def loss(params, xs):
            return (jaxrnn.unroll(cell, params, xs, loop=loop)[1] ** 2).sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, XS[:, 0])

    monkeypatch.setattr(_loop, "SMALL_STEP", 10**9)
    alone = gradient(Native())
    assert_close(alone, gradient(Scan()), rtol=1e-5)
    monkeypatch.setattr(_loop, "SMALL_STEP", 1)
    monkeypatch.setattr(_loop, "WORTH_WAITING", 1)  # for other threads to join
    for _ in range(5):
        jax.tree.map(np.testing.assert_array_equal, gradient(Native()), alone)


@pytest.mark.parametrize(("rows", "k", "n"), [(1, 1, 1), (130, 33, 40), (900, 6, 96), (0, 2, 3)])
def test_the_gradient_of_a_matrix(rows, k, n):
    a, ct = (np.array(jax.random.normal(jax.random.key(size), (rows, size))) for size in (k, n))
    expected = a.T @ ct
    if rows > 1:
        a[5, 2], ct[5] = np.nan, 0  # an unused row
        expected = np.delete(a, 5, 0).T @ np.delete(ct, 5, 0)
    np.testing.assert_allclose(_weight_gradient.weight_gradient(a, ct), expected, rtol=1e-4, atol=1e-4)
    num = rows // 3
    for first, after, reverse in ((a[:num], a[num:], False), (a[rows - num :], a[: rows - num], True)):
        unread = np.full((num, k), np.nan, np.float32)
        after = np.concatenate([unread, after] if reverse else [after, unread])
        found = _weight_gradient.weight_gradient(Before(first, after, reverse), ct)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_used_row_of_nan_shows_in_the_gradient_of_a_matrix():
    a, ct = np.ones((9, 8), np.float32), np.ones((9, 2), np.float32)
    a[3, 6] = np.nan
    np.testing.assert_array_equal(np.isnan(_weight_gradient.weight_gradient(a, ct)).all(1), np.arange(8) == 6)


def test_uses_all_threads_of_xla():
    """Counted by a program of its own, because a loop that runs on one thread gives the same result."""
    module = ir.Module()
    count = _threads.define_num_threads(module, this_host())
    f = ir.Function(module, ir.FunctionType(I64, [I64]), HANDLER)
    code = Code(ir.IRBuilder(f.append_basic_block()), this_host())
    done = f.append_basic_block()
    frames.answer_metadata(code, f.args[0], done)
    number = code.b.trunc(code.b.call(count, [f.args[0]]), I32)
    code.b.store(number, code.pointer(frames.buffer(code, f.args[0], frames.RESULTS, 0), I32))
    code.b.branch(done)
    code.b.position_at_end(done)
    code.b.ret(code.int(0))
    target = _compile.register(str(module), this_host())
    threads = jax.ffi.ffi_call(target, jax.ShapeDtypeStruct((), jnp.int32))()
    assert threads == len(os.sched_getaffinity(0))


def test_results_are_the_same_in_every_run():
    one, other = (GRADIENT(PARAMS, XS, Native()) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_several_python_threads_may_call_at_once():
    expected = GRADIENT(PARAMS, XS, Native())
    found = []
    threads = [threading.Thread(target=lambda: found.append(GRADIENT(PARAMS, XS, Native()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(found) == 8
    for grads in found:
        jax.tree.map(np.testing.assert_array_equal, grads, expected)


def test_a_process_may_end_while_a_call_runs():
    program = """
import jax, jaxrnn
cell = jaxrnn.LSTM(64)
params, xs = cell.init(jax.random.key(0), 8), jax.numpy.ones((2000, 64, 8))
run = jax.jit(lambda params, xs: jaxrnn.unroll(cell, params, xs, loop=jaxrnn.loops.Native())[1])
run(params, xs).block_until_ready()
for _ in range(5):
    run(params, xs)
print("started", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "started\n"), done.stderr


def test_vmap_over_inputs_and_over_parameters():
    many = jax.random.normal(jax.random.key(2), (4, *XS.shape))
    for axes, args in (
        ((None, 0), (PARAMS, many)),
        ((0, None), (stacked_params(), XS)),
        ((0, 0), (stacked_params(), many)),
    ):
        found, expected = (
            jax.vmap(jax.value_and_grad(lambda p, xs, loop=loop: loss(p, xs, loop), argnums=(0, 1)), axes)(*args)
            for loop in (Native(), Scan())
        )
        assert_close(found, expected, rtol=1e-4)


def stacked_params():
    return jax.vmap(lambda key: CELL.init(key, 3))(jax.random.split(jax.random.key(3), 4))


def test_around_it_scan_and_checkpoint():
    def twice(params, xs, loop):
        state, ys = jax.lax.scan(lambda s, x: jaxrnn.unroll(CELL, params, x, s, loop=loop), zero(), xs)
        return (ys**2).sum() + (state.c**2).sum()

    def zero():
        return CELL.initial_state(PARAMS, (5,))

    xs = jnp.stack([XS, 2 * XS])
    found, expected = (
        jax.grad(jax.checkpoint(lambda p, xs, loop=loop: twice(p, xs, loop)), argnums=(0, 1))(PARAMS, xs)
        for loop in (Native(checkpoint_every=3), Scan())
    )
    assert_close(found, expected, rtol=1e-4)


def test_low_precision_is_for_memory_only():
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (PARAMS, XS))
    state, ys = jaxrnn.unroll(CELL, *low, loop=Native())
    assert (state.h.dtype, ys.dtype) == (jnp.bfloat16, jnp.bfloat16)
    exact = jaxrnn.unroll(CELL, *jax.tree.map(lambda x: x.astype(jnp.float32), low), loop=Scan())[1]
    np.testing.assert_allclose(ys.astype(np.float32), exact, rtol=0.02, atol=0.01)


@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 1, 3), (4, 0, 3), (4, 3), (2, 2, 2, 3)])
def test_any_batch_axes(shape):
    xs = jax.random.normal(jax.random.key(4), shape)
    assert_close(
        jaxrnn.unroll(CELL, PARAMS, xs, loop=Native()), jaxrnn.unroll(CELL, PARAMS, xs, loop=Scan()), rtol=1e-5
    )


def test_nan_stays_in_its_row():
    xs = XS.at[2, 1].set(jnp.nan)
    ys = jaxrnn.unroll(CELL, PARAMS, xs, loop=Native())[1]
    clean = jaxrnn.unroll(CELL, PARAMS, XS, loop=Native())[1]
    np.testing.assert_array_equal(np.delete(ys, 1, axis=1), np.delete(clean, 1, axis=1))
    assert np.isnan(ys[2:, 1]).all()


def test_a_damaged_file_of_the_cache_is_compiled_anew(tmp_path, monkeypatch):
    jaxrnn.unroll(CELL, PARAMS, XS, loop=Native())  # compiles what all cells share
    monkeypatch.setenv("JAXRNN_CACHE_DIR", str(tmp_path))
    cell = jaxrnn.Elman(11)  # which no other test compiles
    jaxrnn.unroll(cell, cell.init(jax.random.key(0), 3), XS, loop=Native())
    (file,) = (tmp_path / "native").iterdir()
    assert _compile._read(file) is not None
    file.write_bytes(file.read_bytes()[:-1])
    assert _compile._read(file) is None


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("JAXRNN_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_compile.Path, "home", no_home)
    _, addresses = _compile.load("define void @handler() {\n  ret void\n}", this_host(), [HANDLER])
    assert addresses[0] != 0


def double(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def test_refuses_what_it_cannot_do(monkeypatch):
    message = r"Native cannot run float64 of LSTM\(.*\): call unroll with loop=jaxrnn\.loops\.Deferred\(\)"
    with jax.enable_x64(True), pytest.raises(TypeError, match=message):
        jaxrnn.unroll(CELL, double(PARAMS), np.ones((4, 2, 3)), loop=Native())
    message = r"jaxrnn\.loops\.Native \(to export, call unroll with loop=jaxrnn\.loops\.Deferred\(\)\)"
    with pytest.raises(ValueError, match=message):
        jax.export.export(jax.jit(lambda xs: jaxrnn.unroll(CELL, PARAMS, xs, loop=Native())[1]))(XS)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(TypeError, match="Native runs on a CPU, but JAX's default backend is 'gpu': call unroll"):
        run_natively()
    monkeypatch.undo()
    monkeypatch.setattr(native, "_ffi_major", lambda: 1)
    with pytest.raises(ImportError, match="Native needs version 0 of XLA's FFI, but jaxlib has version 1: call unroll"):
        run_natively()
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"Native needs llvmlite \(pip install 'jaxrnn\[native\]'\): call unroll with"
    ):
        run_natively()


def run_natively():
    return Native()(CELL, PARAMS, jaxrnn.Plan(loop=Native()).steps(XS, None), CELL.initial_state(PARAMS, (5,)))


def test_a_state_without_numbers():
    """Such as that of a cell which keeps nothing: its arrays have the size 0."""

    class Empty(NamedTuple):
        h: jax.Array
        nothing: jax.Array

    @dataclass(frozen=True)
    class Forgetful(jaxrnn.Cell):
        def init(self, key, input_size):
            return jax.random.normal(key, (input_size, 3))

        def initial_state(self, params, batch_shape=(), dtype=None):
            return Empty(jnp.zeros((*batch_shape, 3)), jnp.zeros((*batch_shape, 0)))

        def project(self, params, x, key=None):
            return x @ params

        def step(self, params, state, z):
            return Empty(jnp.tanh(z + state.h), state.nothing * 2)

        def readout(self, params, state, z):
            return state

    cell = Forgetful()
    params = cell.init(jax.random.key(0), 3)
    found, expected = (
        jax.value_and_grad(lambda p, loop=loop: (jaxrnn.unroll(cell, p, XS, loop=loop)[1].h ** 2).sum())(params)
        for loop in (Native(), Scan())
    )
    assert_close(found, expected, rtol=1e-5)
