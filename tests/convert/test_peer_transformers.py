"""Mamba2 and KimiDeltaAttention against the PyTorch code of Hugging Face Transformers, which computes in float32."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxrnn import KimiDeltaAttention, Mamba2, unroll
from jaxrnn.loops import Chunked, Scan
from tests.support.inputs import INPUT, draw, draw_params

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]
TIME, BATCH, HIDDEN, HEADS = 50, 2, 8, 4


@pytest.fixture
def torch():
    pytest.importorskip("transformers")
    return pytest.importorskip("torch")


def inputs(torch, cell):
    """Parameters and inputs, and the same as tensors, batch first."""
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    return params, xs, jax.tree.map(lambda w: torch.tensor(np.asarray(w)), params), torch.tensor(xs).transpose(0, 1)


def in_heads(x, number=HEADS):
    return x.reshape(BATCH, TIME, number, -1)


def assert_equal_to(cell, params, xs, loop, peer_state, peer_ys):
    (state,), ys = unroll(cell, params, xs, loop=loop)
    np.testing.assert_allclose(ys, peer_ys.reshape(BATCH, TIME, -1).transpose(0, 1).detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state, peer_state.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loop", [Chunked(chunk=16), Scan()], ids=repr)
def test_mamba2(torch, loop):
    from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

    cell = Mamba2(HIDDEN, 3, num_heads=HEADS, num_groups=2)
    params, xs, p, u = inputs(torch, cell)
    silu = torch.nn.functional.silu
    b, c = (in_heads(silu(u @ w), 2) for w in p.w_bc.chunk(2, -1))
    how = {"D": p.d, "dt_bias": p.b_delta, "dt_softplus": True, "return_final_states": True}
    ys, state = mamba2_chunk_scan(in_heads(silu(u @ p.w_x)), u @ p.w_delta, -torch.exp(p.a), b, c, 8, **how)
    assert_equal_to(cell, params, xs, loop, state, ys)


@pytest.mark.parametrize("loop", [Chunked(chunk=16), Scan()], ids=repr)
@pytest.mark.parametrize("form", ["recurrent", "chunk"])
def test_kimi_delta_attention(torch, form, loop):
    """The peer divides the queries by the square root of the size of a head."""
    from transformers.models.kimi_linear import modeling_kimi_linear as peer

    cell = KimiDeltaAttention(HIDDEN, num_heads=HEADS)
    params, xs, p, x = inputs(torch, cell)
    sizes = SimpleNamespace(linear_head_dim=HIDDEN // HEADS, linear_num_heads=HEADS, hidden_size=INPUT)
    gate = peer.KimiLinearForgetGate(sizes).double()
    weights = {"f_a_proj.weight": p.w_rank.T, "f_b_proj.weight": p.w_alpha.T, "dt_bias": p.b_alpha}
    gate.load_state_dict({**weights, "A_log": p.a.reshape(1, 1, HEADS, 1)})
    q, k, v = (in_heads(torch.nn.functional.silu(x @ w)) for w in p.w_x.chunk(3, -1))
    run = getattr(peer, f"{form}_kimi_delta_attention")
    how = {"initial_state": None, "output_final_state": True, "use_qk_l2norm_in_kernel": True}
    ys, state = run(q, k, v, g=gate(x), beta=torch.sigmoid(x @ p.w_beta), **how)
    assert_equal_to(cell, params, xs, loop, state, (HIDDEN // HEADS) ** 0.5 * ys)
