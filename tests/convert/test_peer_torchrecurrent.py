"""The catalogue against torchrecurrent's cells and xLSTM's own steps with the same weights: value and gradient.

Where one of theirs computes another function than its paper, ours is compared twice: changed in the one place that a
class of this file names, it must give their numbers; unchanged, it must not.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import unroll
from jaxrnn.ops import sigmoid, tanh
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import draw, draw_params, draw_state
from tests.support.peers import value_and_gradients
from tests.support.tiers import slow_but

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("x64", "quick")

TIME, BATCH = 4, 2


# Cells of ours with the one change that makes them theirs


class FastGRNNWithTanh(jaxrnn.FastGRNN):
    """Its gate is a tanh, where the paper's is a sigmoid."""

    def step(self, params, state, z):
        b_z, b_a = jnp.split(params.b, 2)
        z = z + state.h @ params.w_h
        gate, a = tanh(z + b_z), tanh(z + b_a)
        return state._replace(h=(sigmoid(params.zeta) * (1 - gate) + sigmoid(params.nu)) * a + gate * state.h)


class LEMOfTheOldZ(jaxrnn.LEM):
    """Its y reads z as it was before the step, where the paper's reads the new one."""

    def step(self, params, state, z):
        new = super().step(params, state, z)
        _, x_2, _, x_y = jnp.split(z, 4, axis=-1)
        _, y_2, _ = jnp.split(state.y @ params.w_y, 3, axis=-1)
        dt = self.dt * sigmoid(x_2 + y_2)
        return new._replace(y=(1 - dt) * state.y + dt * tanh(state.z @ params.w_z + x_y))


class MultiplicativeLSTMAsUsual(jaxrnn.MultiplicativeLSTM):
    """Its candidate is squashed and its output gate is outside the tanh, as in an LSTM, not as in the paper."""

    def step(self, params, state, z):
        x_m, x_gates = z
        i, f, g, o = jnp.split(x_gates + (x_m * (state.h @ params.w_h)) @ params.w_m, 4, axis=-1)
        c = sigmoid(f) * state.c + sigmoid(i) * tanh(g)
        return state._replace(h=sigmoid(o) * tanh(c), c=c)


class NASCellOfSums(jaxrnn.NASCell):
    """Its node 3 adds its input and its state, where TensorFlow's multiplies them."""

    def step(self, params, state, z):
        a = jnp.split(z + state.h @ params.w_h + params.b, 8, axis=-1)
        u = tanh(tanh(sigmoid(a[0]) * jax.nn.relu(a[1])) + state.c)
        c = u * tanh(sigmoid(a[2]) + jax.nn.relu(a[3]))
        v = tanh(tanh(tanh(a[4]) * sigmoid(a[5])) + sigmoid(tanh(a[6]) + sigmoid(a[7])))
        return state._replace(h=tanh(c * v), c=c)


class SCRNOfItsReadout(jaxrnn.SCRN):
    """Its hidden units read the last output, where the paper's read their own last state."""

    def init(self, key, input_size):
        return super().init(key, input_size), jnp.zeros((self.hidden_size + self.context_size, self.hidden_size))

    def initial_state(self, params, batch_shape=(), dtype=None):
        return super().initial_state(params[0], batch_shape, dtype)

    def project(self, params, x, key=None):
        return super().project(params[0], x)

    def step(self, params, state, z):
        state = super().step(params[0], state, z)
        return state._replace(h=tanh(jnp.concatenate(state, axis=-1) @ params[1]))

    def readout(self, params, state, z):
        return state.h


def scrn_with_output(params, xs, state):
    """The paper's y of the same parameters."""
    last, ys = unroll(jaxrnn.SCRN(4, 4, decay_rate=0.7), params[0], xs, state)
    return last, tanh(ys @ params[1])


# Steps of theirs as steps of our states: `(call, x, state) -> (state, y)`


def single(call, x, state):
    h = call(x, state[0])
    return (h,), h


def double(call, x, state):
    last = call(x, tuple(state))
    return last, last[0]


def janet(call, x, state):
    """Stores its single state twice."""
    h, c = call(x, (state[0], state[0]))
    assert torch.equal(h, c)
    return (h,), h


def intersection(call, x, state):
    y, h = call(x, state[0])
    return (h, y), y


def memory_controller(call, x, state):
    h, (v, c) = call(x, tuple(state[1:]))
    return (h, v, c), h


def tau_gru(call, x, state):
    h, past = state
    new = call(x, h, past[:, 0])
    return (new, torch.cat([past[:, 1:], h[:, None]], dim=1)), new


def tgru(call, x, state):
    h, before = call(x, tuple(state))
    return (h, before), h


def tlstm(call, x, state):
    h, (c, before) = call(x, tuple(state[1:]))
    return (h, c, before), h


# Our parameters as theirs; biases that none of these has are zero


def plain(p):
    weights = {"weight_ih": p.w_x.T, "weight_hh": p.w_h.T}
    return weights | ({"bias_ih": p.b} if hasattr(p, "b") else {})


def order(array, *numbers):
    gates = array.chunk(len(numbers), dim=-1)
    return torch.cat([gates[number] for number in numbers], dim=-1)


def reordered(*numbers):
    def weights(p):
        w_h = order(p.w_h, *numbers) if p.w_h.shape[-1] == p.w_x.shape[-1] else p.w_h
        return {"weight_ih": order(p.w_x, *numbers).T, "weight_hh": w_h.T, "bias_ih": order(p.b, *numbers)}

    return weights


def side_by_side(*arrays):
    return torch.cat(arrays, dim=-1)


def after_zeros(b, number):
    return side_by_side(torch.zeros(number, dtype=b.dtype), b)


def before_zeros(b, number):
    return side_by_side(b, torch.zeros(number, dtype=b.dtype))


def bistable(p):
    return plain(p) | {"weight_hh": p.w_h.reshape(-1)}


def fast_rnn(p):
    return plain(p) | {"alpha": p.alpha[None], "beta": p.beta[None]}


def fast_grnn(p):
    return plain(p) | {"zeta": p.zeta[None], "nu": p.nu[None]}


def with_candidate(p):
    """For cells whose candidate has a recurrent matrix of its own."""
    return plain(p) | {"weight_hh": side_by_side(p.w_h, p.w_a).T}


def mut1(p):
    """The input's matrix in the candidate, which the paper does not have, is the identity."""
    b_z, b_r, b_a = p.b.chunk(3)
    w_x = side_by_side(p.w_x, torch.eye(len(b_z), dtype=b_z.dtype))
    b_x, b_h = before_zeros(side_by_side(b_z, b_r), len(b_a)), after_zeros(b_a, len(b_r))
    return {"weight_ih": w_x.T, "weight_hh": side_by_side(p.w_h, p.w_a).T, "bias_ih": b_x, "bias_hh": b_h}


def mut2(p):
    """The input's matrix in the reset gate, which the paper does not have, is the identity."""
    w_z, w_a = p.w_x.chunk(2, dim=-1)
    w_x = side_by_side(w_z, torch.eye(len(w_z), dtype=w_z.dtype), w_a)
    return {"weight_ih": w_x.T, "weight_hh": side_by_side(p.w_h, p.w_a).T, "bias_ih": p.b}


def cornn(p):
    w_y, w_z = p.w_h.chunk(2)
    return plain(p) | {"weight_hh": w_y.T, "weight_ch": w_z.T}


def ind_rnn(p):
    return {"weight_ih": p.w_x.T, "vector_u": p.w_h, "bias_ih": p.b}


def intersection_rnn(p):
    def join(of_state, of_output):
        (g, c), (g_y, c_y) = of_state.chunk(2, dim=-1), of_output.chunk(2, dim=-1)
        return side_by_side(c_y, c, g_y, g)

    w_x, w_h, b = join(p.w_x, p.w_xy), join(p.w_h, p.w_hy), join(p.b, p.b_y)
    return {"weight_ih": w_x.T, "weight_hh": w_h.T, "bias_ih": b}


def of_janet(p):
    return plain(p) | {"beta": torch.tensor(0.7, dtype=torch.float64)}


def lem(p):
    weights = {"weight_hh": order(p.w_y, 1, 0, 2).T, "weight_ch": p.w_z.T}
    return weights | {"weight_ih": order(p.w_x, 1, 0, 2, 3).T, "bias_ih": order(p.b, 1, 0, 2, 3)}


def light_ru(p):
    weights = {"weight_ih": order(p.w_x, 1, 0).T, "weight_hh": p.w_h.T}
    return weights | {"bias_ih": after_zeros(p.b, len(p.b))}


def of_memory_controller(p):
    i_to_last = (1, 0, 3, 4, 2)  # theirs: f, i, o, m, n
    w_x, w_v, b = (order(leaf, *i_to_last) for leaf in p)
    return {"weight_ih": w_x.T, "weight_hh": w_v.T, "bias_ih": b}


def minimal_rnn(p):
    return {"weight_ih": p.w_x.T, "bias_ih": p.b_x, "weight_mm": p.w_z.T, "weight_hh": p.w_h.T, "bias_hh": p.b}


def multiplicative(p):
    return plain(p) | {"weight_mh": p.w_m.T, "bias_ih": after_zeros(p.b, p.w_h.shape[0])}


def peephole(p):
    return plain(p) | {"weight_ph": p.w_c.reshape(-1)}


def residual(p):
    gates, shortcut = p.w_x.split([4 * len(p.w_p), len(p.w_p)], dim=-1)
    return peephole(p) | {"weight_ih": gates.T, "weight_res": shortcut.T, "weight_proj": p.w_p.T}


def scrn(p):
    p, w_y = p
    of_h, of_s = w_y.chunk(2)
    weights = {"weight_ih": p.w_x.T, "alpha": torch.tensor(0.7, dtype=torch.float64)}
    return weights | {"weight_hh": side_by_side(p.w_h, of_h).T, "weight_ch": side_by_side(p.w_s, of_s).T}


def sgrn(p):
    return {"weight_ih": p.w_x.T, "weight_hh": p.w_h.T, "bias_hh": p.b}


def sgu(p):
    """Theirs has a hard sigmoid of slope 1/6, where the paper's, that of Theano, has 1/5."""
    w_z, w_g = p.w_x.chunk(2, dim=-1)
    b_z, b_g = p.b.chunk(2)
    steeper = 6 / 5
    w_x, w_h = side_by_side(w_g, steeper * w_z), side_by_side(p.w_g, steeper * p.w_h)
    return {"weight_ih": w_x.T, "weight_hh": w_h.T, "bias_ih": side_by_side(b_g, steeper * b_z)}


def dsgu(p):
    return sgu(p) | {"weight_ho": p.w_o.T}


def of_tau_gru(p):
    u, g, a = p.w_h.chunk(3, dim=-1)
    weights = {"weight_ih": order(p.w_x, 0, 3, 1, 2).T, "bias_ih": order(p.b, 0, 3, 1, 2)}
    return weights | {"weight_hh": side_by_side(u, p.w_d, g, a).T}


def trnn(p):
    return {"weight_ih": p.w_x.T, "bias_ih": after_zeros(p.b, len(p.b))}


def strongly_typed(p):
    return {"weight_ih": p.w_x.T, "weight_hh": p.v_x.T, "bias_ih": p.b}


def unicornn(p):
    return {"weight_ih": p.w_x.T, "weight_hh": p.w_h, "weight_ch": p.c, "bias_ih": p.b}


def working_memory(p):
    return plain(p) | {"weight_mh": side_by_side(p.w_c, p.w_o).T}


class Peer(NamedTuple):
    cell: Any
    weights: Callable[[Any], dict[str, Any]]
    step: Callable[..., Any] = single
    options: dict[str, Any] | None = None
    paper: Callable[..., Any] | None = None  # of a cell with a change: the paper's function of the same parameters
    name: str = ""  # of theirs, where it is not the key

    @property
    def input_size(self):
        same = jaxrnn.MUT1 | jaxrnn.MUT2 | jaxrnn.IntersectionRNN
        return 4 if isinstance(self.cell, same) else 3


PEERS = {
    "AntisymmetricRNNCell": Peer(
        jaxrnn.AntisymmetricRNN(4, epsilon=0.2, gamma=0.05), plain, options={"epsilon": 0.2, "gamma": 0.05}
    ),
    "GatedAntisymmetricRNNCell": Peer(  # one of its two biases is not in its gate
        jaxrnn.GatedAntisymmetricRNN(4, epsilon=0.2, gamma=0.05), plain, options={"epsilon": 0.2, "gamma": 0.05}
    ),
    "ATRCell": Peer(jaxrnn.ATR(4), plain),
    "BRCell": Peer(jaxrnn.BRC(4), bistable),
    "NBRCell": Peer(jaxrnn.NBRC(4), plain),
    "CFNCell": Peer(jaxrnn.CFN(4), lambda p: plain(p) | {"bias_ih": before_zeros(p.b, 4)}),
    "coRNNCell": Peer(
        jaxrnn.CoRNN(4, dt=0.3, gamma=1.2, epsilon=0.7),
        cornn,
        double,
        options={"dt": 0.3, "gamma": 1.2, "epsilon": 0.7},
    ),
    "DSGUCell": Peer(jaxrnn.DSGU(4), dsgu),
    "FastRNNCell": Peer(jaxrnn.FastRNN(4), fast_rnn),
    "FastGRNNCell": Peer(FastGRNNWithTanh(4), fast_grnn, paper=partial(unroll, jaxrnn.FastGRNN(4))),
    "FastGRNNCell-sigmoid": Peer(
        jaxrnn.FastGRNN(4), fast_grnn, options={"nonlinearity": "sigmoid"}, name="FastGRNNCell"
    ),
    "IndRNNCell": Peer(jaxrnn.IndRNN(4), ind_rnn, options={"nonlinearity": "relu"}),
    "IntersectionRNNCell": Peer(jaxrnn.IntersectionRNN(4), intersection_rnn, intersection),
    "JANETCell": Peer(jaxrnn.JANET(4, beta=0.7), of_janet, janet),
    "LEMCell": Peer(
        LEMOfTheOldZ(4, dt=0.7), lem, double, options={"dt": 0.7}, paper=partial(unroll, jaxrnn.LEM(4, dt=0.7))
    ),
    "LightRUCell": Peer(jaxrnn.LightRU(4), light_ru),
    "LiGRUCell": Peer(jaxrnn.LiGRU(4), plain),
    "MCLSTMCell": Peer(jaxrnn.MemoryControllerLSTM(4), of_memory_controller, memory_controller),
    "MGUCell": Peer(jaxrnn.MGU(4), with_candidate),
    "MinimalRNNCell": Peer(jaxrnn.MinimalRNN(4), minimal_rnn),
    "MiRU1Cell": Peer(jaxrnn.MiRU1(4, update_rate=0.3), with_candidate, options={"update_coefficient": 0.3}),
    "MiRU2Cell": Peer(
        jaxrnn.MiRU2(4, update_rate=0.3, reset_rate=0.6),
        plain,
        options={"update_coefficient": 0.3, "reset_coefficient": 0.6},
    ),
    "MultiplicativeLSTMCell": Peer(
        MultiplicativeLSTMAsUsual(4), multiplicative, double, paper=partial(unroll, jaxrnn.MultiplicativeLSTM(4))
    ),
    "MUT1Cell": Peer(jaxrnn.MUT1(4), mut1),
    "MUT2Cell": Peer(jaxrnn.MUT2(4), mut2),
    "MUT3Cell": Peer(jaxrnn.MUT3(4), with_candidate),
    "NASCell": Peer(NASCellOfSums(4), plain, double, paper=partial(unroll, jaxrnn.NASCell(4))),
    "OriginalLSTMCell": Peer(jaxrnn.OriginalLSTM(4), plain, double),
    "PeepholeLSTMCell": Peer(jaxrnn.PeepholeLSTM(4), peephole, double),
    "RANCell": Peer(jaxrnn.RAN(4), plain, double),
    "ResLSTMCell": Peer(jaxrnn.ResidualLSTM(4), residual, double),
    "SCRNCell": Peer(SCRNOfItsReadout(4, 4, decay_rate=0.7), scrn, double, paper=scrn_with_output),
    "SGRNCell": Peer(jaxrnn.SGRN(4), sgrn),
    "SGUCell": Peer(jaxrnn.SGU(4), sgu),
    "STARCell": Peer(jaxrnn.STAR(4), reordered(1, 0)),
    "tauGRUCell": Peer(jaxrnn.TauGRU(4, 2), of_tau_gru, tau_gru),
    "TRNNCell": Peer(jaxrnn.TRNN(4), trnn),
    "TGRUCell": Peer(jaxrnn.TGRU(4), strongly_typed, tgru),
    "TLSTMCell": Peer(jaxrnn.TLSTM(4), strongly_typed, tlstm),
    "UGRNNCell": Peer(jaxrnn.UGRNN(4), reordered(1, 0)),
    "UnICORNNCell": Peer(jaxrnn.UnICORNN(4, dt=0.3, alpha=0.7), unicornn, double, options={"dt": 0.3, "alpha": 0.7}),
    "WMCLSTMCell": Peer(jaxrnn.WMCLSTM(4), working_memory, double),
}


def module_of(name):
    peer, cells = PEERS[name], pytest.importorskip("torchrecurrent")
    return getattr(cells, peer.name or name)(peer.input_size, 4, dtype=torch.float64, **(peer.options or {}))


def called(module, weights):
    """The module with these weights: all of them, but biases that are zero."""
    named = dict(module.named_parameters())
    assert weights.keys() <= named.keys()
    left_out = {name: 0 * value for name, value in named.items() if name not in weights}
    assert all(name.startswith("bias_") for name in left_out), left_out.keys()
    for name, value in weights.items():
        assert value.shape == named[name].shape, name
    return lambda *args: torch.func.functional_call(module, left_out | weights, args)


def draw_args(peer):
    params, xs = draw_params(peer.cell, input_size=peer.input_size), draw(TIME, BATCH, peer.input_size)
    state = draw_state(peer.cell, params, (BATCH,))
    if "before" in state._fields:  # theirs keeps the last input itself, of which ours keeps a product
        state = state._replace(before=0 * state.before)
    return params, xs, state


def torch_run(steps, params, xs, state):
    """(results, gradients of parameters and inputs) of `steps(params, xs, state) -> (state, ys)` in PyTorch."""
    leaves, tree = jax.tree.flatten(to_numpy((params, xs)))
    tensors = [torch.tensor(leaf, requires_grad=True) for leaf in leaves]
    last, ys = steps(*jax.tree.unflatten(tree, tensors), jax.tree.map(torch.tensor, to_numpy(tuple(state))))
    cosines = [torch.tensor(np.cos(1 + np.arange(leaf.numel())).reshape(leaf.shape)) for leaf in (ys, *last)]
    sum((leaf * c).sum() for leaf, c in zip((ys, *last), cosines, strict=True)).backward()
    results = jax.tree.map(lambda leaf: leaf.detach().numpy(), (last, ys))
    return results, jax.tree.unflatten(tree, [leaf.grad.numpy() for leaf in tensors])


def jax_run(cell, *args):
    """Returns the same for jaxrnn, step by step; the battery tests that `unroll` and `jit` do not change it."""

    def run(params, xs, state):
        ys = []
        for x in xs:
            state, y = cell(params, state, x)
            ys.append(y)
        return state, jnp.stack(ys)

    results, grads = value_and_gradients(run, *args)
    return results, grads[:2]


def steps_of(name):
    peer, module = PEERS[name], module_of(name)

    def steps(params, xs, state):
        call, ys = called(module, peer.weights(params)), []
        strongly_typed = hasattr(params, "v_x")
        if strongly_typed:  # see `draw_args`
            state = (*state[:-1], torch.zeros_like(xs[0]))
        for x in xs:
            state, y = peer.step(call, x, state)
            ys.append(y)
        if strongly_typed:
            state = (*state[:-1], state[-1] @ params.v_x)
        return tuple(state), torch.stack(ys)

    return steps


@pytest.mark.parametrize("name", slow_but(PEERS, ["ATRCell"]))
def test_torchrecurrent(name):
    args = draw_args(PEERS[name])
    (results, grads), (expected, expected_grads) = jax_run(PEERS[name].cell, *args), torch_run(steps_of(name), *args)
    assert_close(results, expected, rtol=1e-10)
    # PyTorch differentiates its hard sigmoid with a sixth of single precision.
    assert_close(grads, expected_grads, rtol=1e-7 if "SGU" in name else 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.paper])
def test_torchrecurrent_deviates_from_the_paper(name):
    args = draw_args(PEERS[name])
    (_, theirs), _ = torch_run(steps_of(name), *args)
    _, ys = PEERS[name].paper(*args)
    assert abs(ys - theirs).max() > 1e-3, f"{name} is mended, compare it with ours: {type(PEERS[name].cell).__doc__}"


@pytest.mark.slow
def test_every_cell_of_torchrecurrent_is_compared():
    theirs = pytest.importorskip("torchrecurrent")
    compared = {peer.name or name for name, peer in PEERS.items()}
    assert compared == {name for name in {*theirs.__all__, *theirs.cells.__all__} if name.endswith("Cell")}


def slstm_steps(heads):
    """xLSTM's function for all steps; where no unit has a past, it takes the input gate for the stabilizer too."""
    vanilla = pytest.importorskip("xlstm.blocks.slstm.src.vanilla")

    def steps(p, xs, state):
        pointwise = vanilla.slstm_pointwise_function_registry["slstm"]
        states, _, _ = vanilla.slstm_forward(xs @ p.w_x, torch.stack(state), p.w_h.transpose(1, 2), p.b, pointwise)
        return tuple(states[:, -1]), states[0, 1:]

    return steps


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [True, False])
def test_slstm(fresh):
    cell = jaxrnn.SLSTM(4, num_heads=2)
    params, xs = draw_params(cell), draw(TIME, BATCH, 3)
    state = cell.initial_state(params, (BATCH,)) if fresh else draw_state(cell, params, (BATCH,))
    args = params, xs, state._replace(n=abs(state.n))
    assert_close(jax_run(cell, *args), torch_run(slstm_steps(2), *args), rtol=1e-10)


def mlstm_steps(heads, epsilon):
    """xLSTM's step, which divides the keys by the root of their size and has keys before values in the memory."""
    backends = pytest.importorskip("xlstm.blocks.mlstm.backends")

    def steps(p, xs, state):
        (c, n, m), ys = state, []
        state = c.transpose(-1, -2), n[..., None], m[..., None, None]
        root = (p.w_x.shape[-1] / 4 / heads) ** 0.5
        for x in xs:
            scale = torch.tensor([1, root, 1, 1], dtype=x.dtype).repeat_interleave(len(p.b) // 4)
            qkvo = (x @ p.w_x + scale * p.b).reshape(len(x), 4, heads, 1, -1)
            q, k, v, o = (qkvo[:, number].clone() for number in range(4))  # the step reshapes them in place
            i, f = (x @ p.w_gates + p.b_gates).reshape(len(x), 2, heads, 1, 1).unbind(1)
            h, state = backends.recurrent_step_stabilized_simple(*state, q, k, v, i, f, eps=epsilon)
            ys.append(torch.sigmoid(o).flatten(1) * h.flatten(1))
        c, n, m = state
        return (c.transpose(-1, -2), n[..., 0], m[..., 0, 0]), torch.stack(ys)

    return steps


@pytest.mark.slow
def test_mlstm():
    cell = jaxrnn.MLSTM(4, num_heads=2)
    params, xs = draw_params(cell), draw(TIME, BATCH, 3)
    args = params, xs, draw_state(cell, params, (BATCH,))
    results, grads = jax_run(cell, *args)
    assert_close((results, grads), torch_run(mlstm_steps(2, epsilon=0), *args), rtol=1e-10)
    # By default it adds 1e-6 to the denominator, which the paper does not.
    (_, ys), _ = torch_run(mlstm_steps(2, epsilon=1e-6), *args)
    assert 1e-8 < abs(results[1] - ys).max() < 1e-5
