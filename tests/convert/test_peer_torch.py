"""Cells and packed bidirectional layers against PyTorch's: value and gradient, jitted and not, at several sizes."""

from functools import partial
from itertools import chain

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Elman, ProjectedLSTM, unroll
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import draw, draw_params
from tests.support.peers import SIZES, prepare, value_and_gradients
from tests.support.tiers import slow, slow_but

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("x64")


def torch_run(cell, module, params, xs, state):
    """(results, gradients) of a PyTorch module, as `value_and_gradients` gives."""
    leaves, tree = jax.tree.flatten(to_numpy((params, xs, state)))
    tensors = [torch.tensor(leaf, dtype=torch.float64, requires_grad=True) for leaf in leaves]
    p, xs, s = jax.tree.unflatten(tree, tensors)
    weights = {"weight_ih_l0": p.w_x.T, "weight_hh_l0": p.w_h.T, "bias_ih_l0": p.b, "bias_hh_l0": 0 * p.b}
    if isinstance(cell, GRU):
        weights["bias_hh_l0"] = torch.cat([0 * p.b[: 2 * cell.hidden_size], p.b_n])
    if isinstance(cell, ProjectedLSTM):
        weights["weight_hr_l0"] = p.w_p.T
    begin = tuple(leaf[None] for leaf in s)
    ys, last = torch.func.functional_call(module, weights, (xs, begin if len(begin) == 2 else begin[0]))
    last = tuple(leaf[0] for leaf in (last if isinstance(last, tuple) else (last,)))
    cosines = [torch.tensor(np.cos(1 + np.arange(leaf.numel())).reshape(leaf.shape)) for leaf in (ys, *last)]
    sum((leaf * c).sum() for leaf, c in zip((ys, *last), cosines, strict=True)).backward()
    results = jax.tree.map(lambda leaf: leaf.detach().numpy(), (last, ys))
    return results, jax.tree.unflatten(tree, [leaf.grad.numpy() for leaf in tensors])


def torch_module(cell, input_size):
    nn = torch.nn
    make = {Elman: nn.RNN, LSTM: nn.LSTM, GRU: nn.GRU, ProjectedLSTM: nn.LSTM}[type(cell)]
    projection = {"proj_size": cell.projection_size} if isinstance(cell, ProjectedLSTM) else {}
    return make(input_size, cell.hidden_size, **projection).double()


TORCH = {"Elman": Elman, "LSTM": LSTM, "GRU": GRU, "ProjectedLSTM": lambda n: ProjectedLSTM(n, n // 2)}


@pytest.mark.parametrize("size", [SIZES[0], slow(SIZES[1]), slow((3, 33, 1, 17))], ids=["small", "large", "wide"])
@pytest.mark.parametrize("name", slow_but(TORCH, ["LSTM"]))
def test_torch(name, size):
    time, batch, input_size, hidden = size
    cell = TORCH[name](hidden)
    args = prepare(cell, time, batch, input_size)
    expected = torch_run(cell, torch_module(cell, input_size), *args)
    run = partial(value_and_gradients, partial(unroll, cell))
    assert_close(jax.jit(run)(*args), expected, rtol=1e-10)
    if size == SIZES[0]:
        assert_close(run(*args), expected, rtol=1e-10)
        with jax.disable_jit():
            assert_close(run(*args), expected, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [64, 128, 200])
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_torch_in_float32(name, hidden):
    """Compilers choose other kernels for float32; a wrong one is off by far more than rounding."""
    cell = TORCH[name](hidden)
    args = prepare(cell, 6, 8, 32)
    expected = torch_run(cell, torch_module(cell, 32), *args)
    narrow = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), args)
    with jax.default_matmul_precision("highest"):
        assert_close(jax.jit(partial(value_and_gradients, partial(unroll, cell)))(*narrow), expected, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "lengths"), [(LSTM, [5, 1, 3]), (GRU, [2, 4, 5])])
def test_torch_two_bidirectional_layers_over_packed_sequences(kind, lengths):
    layer = jaxrnn.Stack(jaxrnn.Bidirectional(kind(4)), jaxrnn.Bidirectional(kind(4)))
    params, xs = draw_params(layer, input_size=3), draw(5, 3, 3)
    module = (torch.nn.LSTM if kind is LSTM else torch.nn.GRU)(3, 4, num_layers=2, bidirectional=True).double()
    for n, p in enumerate(to_numpy(params)):
        for suffix, q in [("", p.forward), ("_reverse", p.backward)]:
            b_h = np.zeros(16) if kind is LSTM else np.concatenate([np.zeros(8), q.b_n])
            values = {"weight_ih": q.w_x.T, "weight_hh": q.w_h.T, "bias_ih": q.b, "bias_hh": b_h}
            for name, value in values.items():
                getattr(module, f"{name}_l{n}{suffix}").data = torch.tensor(value)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(xs), lengths, enforce_sorted=False)
    ys, last = module(packed)
    ys, _ = torch.nn.utils.rnn.pad_packed_sequence(ys)
    state, ours = unroll(layer, params, xs, lengths=lengths)
    np.testing.assert_allclose(ours, ys.detach().numpy(), rtol=1e-10, atol=1e-14)
    h = [leaf.h for leaf in chain(*state)]
    expected = last[0] if kind is LSTM else last
    np.testing.assert_allclose(np.stack(h), expected.detach().numpy(), rtol=1e-10)
