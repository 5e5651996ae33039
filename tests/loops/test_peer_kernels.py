"""The recurrences of cells with a matrix as state against PyTorch code of xLSTM, mlstm-kernels and fla.

A peer replaces the loop. It gets what the cell has computed from all inputs, such as queries, keys and values, and
returns the values that the queries read. Values, last states and all gradients must be those of our loops.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import unroll
from jaxrnn._matrix_cell import MatrixMemory, MatrixRead
from jaxrnn.loops import Chunked, Scan
from tests.support.comparisons import assert_close, flat
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.peers import value_and_gradients

torch = pytest.importorskip("torch")
pytest.importorskip("einops")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64", "quick")]

TIME, BATCH = 64, 2  # `naive_chunk_linear_attn` has chunks of 64 steps
CHUNK = 16
TOLERANCES = {"float64": 1e-10, "float32": 2e-5}


# --- Peers: functions of the projected inputs z of all steps, of the factors u of `MatrixCell.update`, and of the
# memory s before the first step. They return the values that the queries read, and the last memory. A peer that has no
# initial state ignores s, and returns None for the last memory. All arrays are tensors [batch, heads, time, ...], and
# matrices are [batch, heads, keys, values].


def undivided(q: Any) -> Any:
    """Most peers divide the queries by this factor."""
    return q.shape[-1] ** 0.5 * q


def mlstm_inputs(z: Any) -> tuple[Any, ...]:
    """The arguments of mLSTM kernels, which apply the logarithm of the sigmoid to the forget gate."""
    return undivided(z.q), z.k, z.v, z.i, -torch.log(torch.expm1(-z.f))


def mlstm_kernels(form: str) -> Any:
    return pytest.importorskip(f"mlstm_kernels.torch.{form}")


def mlstm_from_state(run: Any, z: Any, s: Any, **how: Any) -> tuple[Any, MatrixMemory]:
    first = {"c_initial": s.s, "n_initial": s.n, "m_initial": s.m[..., None]}
    values, (c, n, m) = run(*mlstm_inputs(z), **first, return_last_states=True, eps=0.0, **how)
    return values, MatrixMemory(c, n, m[..., 0])


def mlstm_chunkwise(z, u, s):
    run = mlstm_kernels("chunkwise").registry["native_autograd"]
    return mlstm_from_state(run, z, s, chunk_size=CHUNK)


def mlstm_chunkwise_backward(z, u, s):
    run = mlstm_kernels("chunkwise").registry["native_custbw"]
    return run(*mlstm_inputs(z), eps=0.0, chunk_size=CHUNK), None


def mlstm_recurrent(z, u, s):
    run = mlstm_kernels("recurrent").registry_sequence["native_sequence__native"]
    return mlstm_from_state(run, z, s, dtype_state=z.q.dtype)


def mlstm_parallel(z, u, s):
    return mlstm_kernels("parallel").registry["native_autograd"](*mlstm_inputs(z), eps=0.0), None


def mlstm_parallel_stable(z, u, s):
    return mlstm_kernels("parallel").registry["native_stablef_autograd"](*mlstm_inputs(z), eps=0.0), None


def xlstm_parallel(z, u, s):
    q, k, v, i, f = mlstm_inputs(z)
    run = pytest.importorskip("xlstm.blocks.mlstm.backends").parallel_stabilized_simple
    return run(q, k, v, i[..., None], f[..., None], eps=0.0), None


def xlstm_chunkwise(z, u, s):
    q, k, v, i, f = mlstm_inputs(z)
    run = pytest.importorskip("xlstm.blocks.mlstm.backends").chunkwise_simple
    first = {"initial_C": s.s, "initial_n": s.n, "initial_m": s.m}
    values, (c, n, m) = run(q, k, v, i, f, **first, chunk_size=CHUNK, return_last_state=True, eps=0.0)
    return values, MatrixMemory(c, n, m[..., 0, 0])


def fla(name: str) -> Any:
    """Loads a file of fla.ops that needs only PyTorch and einops. To import fla.ops, Triton must be installed."""
    found = importlib.util.find_spec("fla")
    if not found or not found.submodule_search_locations:
        pytest.skip("fla-core is not installed")
    path = Path(found.submodule_search_locations[0], "ops", *name.split("."), "naive.py")
    spec: Any = importlib.util.spec_from_file_location(f"fla_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def time_first(run: Any, *args: Any, **how: Any) -> Any:
    """Runs a function of arrays [batch, time, heads, ...], with the same scale for the queries as ours."""
    values, s = run(*(arg.transpose(1, 2) for arg in args), scale=1.0, **how)
    return values.transpose(1, 2), s


def from_state(run: Any, *args: Any, s: Any, **how: Any) -> tuple[Any, MatrixMemory]:
    values, last = time_first(run, *args, initial_state=s.s, output_final_state=True, **how)
    return values, MatrixMemory(last, None, None)


def delta_recurrence(z, u, s):
    values, last = fla("delta_rule").delta_rule_recurrence(undivided(z.q), z.k, z.v, z.beta, s.s)
    return values, MatrixMemory(last, None, None)


def delta_chunkwise(z, u, s):
    return fla("delta_rule").delta_rule_chunkwise(undivided(z.q), z.k, z.v, z.beta[..., 0], CHUNK)[0], None


def gated_delta_recurrent(z, u, s):
    run = fla("gated_delta_rule").naive_recurrent_gated_delta_rule
    return from_state(run, z.q, z.k, z.v, z.beta[..., 0], z.log_alpha[..., 0], s=s)


def gated_delta_chunk(z, u, s):
    run = fla("gated_delta_rule").naive_chunk_gated_delta_rule
    return from_state(run, z.q, z.k, z.v, z.log_alpha[..., 0], z.beta[..., 0], s=s, chunk_size=CHUNK)


def kda_recurrent(z, u, s):
    return from_state(fla("kda").naive_recurrent_kda, z.q, z.k, z.v, z.log_alpha, z.beta[..., 0], s=s)


def kda_chunk(z, u, s):
    run = fla("kda").naive_chunk_kda
    return from_state(run, z.q, z.k, z.v, z.log_alpha, z.beta[..., 0], s=s, chunk_size=CHUNK)


def generalized_delta_recurrence(z, u, s):
    run = fla("generalized_delta_rule.dplr").dplr_recurrence
    values, last = run(undivided(u.q), u.k, u.v, u.read, u.erase, u.log_decay, s.s)
    return values, MatrixMemory(last, None, None)


def generalized_delta_chunkwise(z, u, s):
    run = fla("generalized_delta_rule.dplr").dplr_chunkwise
    values, last = run(undivided(u.q), u.k, u.v, u.read, u.erase, u.log_decay, s.s, chunk_size=CHUNK)
    return values, MatrixMemory(last, None, None)


def gla_recurrent(z, u, s):
    args = (a.transpose(1, 2) for a in (undivided(z.q), z.k, z.v, z.log_alpha))
    values, last = fla("gla").naive_recurrent_gla(*args, initial_state=s.s, output_final_state=True)
    return values.transpose(1, 2), MatrixMemory(last, None, None)


def with_ones(x: Any) -> Any:
    """Appends a value of one to each vector of values. What a query reads of it is the normalizer."""
    return torch.cat([x, torch.ones_like(x[..., :1])], -1)


def linear_attention_recurrent(z, u, s):
    first = torch.cat([s.s, s.n[..., None]], -1)
    how = {"initial_state": first, "output_final_state": True}
    values, last = time_first(fla("linear_attn").naive_recurrent_linear_attn, z.q, z.k, with_ones(z.v), **how)
    return values, MatrixMemory(last[..., :-1], last[..., -1], None)


def linear_attention_chunk(z, u, s):
    def run(*args, **how):
        return fla("linear_attn").naive_chunk_linear_attn(*args, **how), None

    return time_first(run, z.q, z.k, with_ones(z.v))


def simple_gla_recurrent(z, u, s):
    return from_state(fla("simple_gla").naive_recurrent_simple_gla, u.q, u.k, u.v, u.log_decay[..., 0], s=s)


def simple_gla_chunk(z, u, s):
    run = fla("simple_gla").naive_chunk_simple_gla
    return from_state(run, u.q, u.k, u.v, u.log_decay[..., 0], s=s, chunk_size=CHUNK)


def simple_gla_parallel(z, u, s):
    values, _ = time_first(fla("simple_gla").naive_parallel_simple_gla, u.q, u.k, u.v, u.log_decay[..., 0])
    return values, None


def rotated(x: Any) -> Any:
    """Rotates vectors by their positions; each pair is an entry of the first half and one of the second half."""
    half = x.shape[-1] // 2
    angles = torch.arange(TIME)[:, None] * 10000.0 ** (-torch.arange(half) / half)
    a, b = x.split(half, -1)
    return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)


def retention_parallel(z, u, s):
    return fla("retention").naive_retention(undivided(rotated(z.q)), rotated(z.k), z.v), None


class MLSTMWithConstantDenominator(jaxrnn.MLSTM):
    """The denominator has no gradient, as in the backward pass that mlstm-kernels has written by hand."""

    def output(self, params, read, z):
        m = read.stabilizer
        scaled = jnp.exp(m - jax.lax.stop_gradient(m))[..., None] * read.values
        constant = jax.tree.map(jax.lax.stop_gradient, (read.normalizer, m))
        return super().output(params, MatrixRead(scaled, *constant), z)


class Peer(NamedTuple):
    cell: Any
    run: Callable[..., Any]
    has_states: bool = True  # whether it takes a first memory and returns the last one
    dtypes: tuple[str, ...] = ("float32",)  # in which it computes


BOTH, EXACT = ("float64", "float32"), ("float64",)
HEADS = {"num_heads": 2}
PEERS = {
    "mlstm-kernels, chunkwise": Peer(jaxrnn.MLSTM(8, **HEADS), mlstm_chunkwise, dtypes=BOTH),
    "mlstm-kernels, chunkwise, its own backward pass": Peer(
        MLSTMWithConstantDenominator(8, **HEADS), mlstm_chunkwise_backward, False, EXACT
    ),
    "mlstm-kernels, recurrent": Peer(jaxrnn.MLSTM(8, **HEADS), mlstm_recurrent, dtypes=BOTH),
    "mlstm-kernels, parallel": Peer(jaxrnn.MLSTM(8, **HEADS), mlstm_parallel, False, EXACT),
    "mlstm-kernels, stable": Peer(jaxrnn.MLSTM(8, **HEADS), mlstm_parallel_stable, False, EXACT),
    "xlstm, parallel": Peer(jaxrnn.MLSTM(8, **HEADS), xlstm_parallel, False, EXACT),
    "xlstm, chunkwise": Peer(jaxrnn.MLSTM(8, **HEADS), xlstm_chunkwise, dtypes=BOTH),
    "fla, delta rule": Peer(jaxrnn.DeltaNet(8, **HEADS), delta_recurrence),
    "fla, delta rule in chunks": Peer(jaxrnn.DeltaNet(8, **HEADS), delta_chunkwise, False, EXACT),
    "fla, gated delta rule": Peer(jaxrnn.GatedDeltaNet(8, **HEADS), gated_delta_recurrent),
    "fla, gated delta rule in chunks": Peer(jaxrnn.GatedDeltaNet(8, **HEADS), gated_delta_chunk),
    "fla, kda": Peer(jaxrnn.KimiDeltaAttention(8, **HEADS), kda_recurrent),
    "fla, kda in chunks": Peer(jaxrnn.KimiDeltaAttention(8, **HEADS), kda_chunk),
    "fla, rwkv7": Peer(jaxrnn.RWKV7(8, **HEADS), generalized_delta_recurrence),
    "fla, rwkv7 in chunks": Peer(jaxrnn.RWKV7(8, **HEADS), generalized_delta_chunkwise),
    "fla, gla": Peer(jaxrnn.GatedLinearAttention(8, **HEADS), gla_recurrent),
    "fla, linear attention": Peer(jaxrnn.LinearAttention(4, 5), linear_attention_recurrent),
    "fla, linear attention in chunks": Peer(jaxrnn.LinearAttention(4, 5), linear_attention_chunk, False, EXACT),
    "fla, mamba2": Peer(jaxrnn.Mamba2(8, 3, **HEADS), simple_gla_recurrent),
    "fla, mamba2 in chunks": Peer(jaxrnn.Mamba2(8, 3, **HEADS), simple_gla_chunk),
    "fla, mamba2 in parallel": Peer(jaxrnn.Mamba2(8, 3, **HEADS), simple_gla_parallel, False),
    "fla, retention": Peer(jaxrnn.Retention(8, **HEADS), retention_parallel, False),
}


# --- Peers as functions of arrays


def in_torch(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function of tensors a function of arrays with a gradient. It cannot be compiled."""

    def call(args):
        tensors = jax.tree.map(lambda x: torch.tensor(np.asarray(x), requires_grad=True), args)
        return tensors, function(*tensors)

    def forward(*args):
        return jax.tree.map(lambda x: jnp.asarray(x.detach().numpy()), call(args)[1]), args

    def backward(args, cotangents):
        tensors, results = call(args)
        given, tree = jax.tree.flatten(tensors)
        out, along = jax.tree.leaves(results), [torch.tensor(np.asarray(x)) for x in jax.tree.leaves(cotangents)]
        grads = torch.autograd.grad(out, given, along, materialize_grads=True)
        return jax.tree.unflatten(tree, [jnp.asarray(grad.numpy()) for grad in grads])

    run = jax.custom_vjp(lambda *args: forward(*args)[0])
    run.defvjp(forward, backward)
    return run


def memory_of(cell, state):
    """The memory, with the keys before the values."""
    s, n, m = cell.memory(state)
    return MatrixMemory(s.swapaxes(-1, -2) if cell.values_first else s, n, m)


def peer_run(peer: Peer) -> Callable[..., Any]:
    """Returns a function like `unroll`, except that its last state is a memory."""
    cell = peer.cell
    has_heads = hasattr(cell, "num_heads")

    def to_peer(x):
        return jnp.moveaxis(x if has_heads else x[:, :, None], 0, 2)

    def run(params, xs, state):
        z = cell.project(params, xs)
        if cell.shifts:
            z = cell.shift(z, jnp.concatenate([state[-1][None], cell.passed_on(z)[:-1]]))
        u = cell.update(params, z)
        s = memory_of(cell, state or cell.initial_state(params, (BATCH,), xs.dtype))
        first = s if has_heads else jax.tree.map(lambda x: x[:, None], s)
        found, last = in_torch(peer.run)(*jax.tree.map(to_peer, (z, u)), first)
        found = jnp.moveaxis(found, 2, 0)
        found, last = (found, last) if has_heads else (found[:, :, 0], jax.tree.map(lambda x: x[:, 0], last))
        read = MatrixRead(found, None, None)
        if cell.has_stabilizer:  # the peer has divided by the normalizer
            read = MatrixRead(found, jnp.ones_like(found[..., 0]), jnp.zeros_like(found[..., 0]))
        elif cell.has_normalizer:
            read = MatrixRead(found[..., :-1], found[..., -1], None)
        return flat(last), cell.output(params, read, z)

    return run


def our_run(cell: Any, has_states: bool, loop: Any) -> Callable[..., Any]:
    def run(params, xs, state):
        last, ys = unroll(cell, params, xs, state, loop=loop)
        return flat(memory_of(cell, last)) if has_states else (), ys

    return run


def arguments(cell, has_states, dtype):
    params = draw_params(cell)
    # Positive normalizers. Without an initial state, its gradient is not compared.
    state = jax.tree.map(abs, draw_state(cell, params, (BATCH,))) if has_states else None
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), (params, draw(TIME, BATCH, INPUT), state))


@cache
def results_of_loops(cell, has_states, dtype):
    args = arguments(cell, has_states, dtype)
    loops = Chunked(chunk=CHUNK), Scan()
    return [jax.jit(partial(value_and_gradients, our_run(cell, has_states, loop)))(*args) for loop in loops]


@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for name, peer in PEERS.items() for dtype in peer.dtypes])
def test_loops_equal_the_peer(name, dtype):
    peer = PEERS[name]
    expected = value_and_gradients(peer_run(peer), *arguments(peer.cell, peer.has_states, dtype))
    for found in results_of_loops(peer.cell, peer.has_states, dtype):
        assert_close(found, expected, rtol=TOLERANCES[dtype])
