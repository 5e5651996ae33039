"""Convolutional cells: against other libraries, in wrappers and modules; and the cotangents of a convolution."""

from dataclasses import dataclass

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import references
from catalogue_conv import VALUES
from flax import linen as nn
from flax import nnx
from jax.lax import ConvDimensionNumbers
from tables import CATALOGUE, assert_close, draw, draw_inputs, draw_params, draw_state, to_numpy
from test_loops import compare

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn import Bidirectional, ConvGRU, ConvLSTM, Dense, Dropout, LayerNorm, Residual, Stack, Zoneout, unroll
from jaxrnn.convolution import is_plain, pull_images, pull_kernel
from jaxrnn.loops import Deferred, Scan
from jaxrnn.ops import convolution
from jaxrnn.program import Program

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH, HIDDEN, CHANNELS = 4, 3, 2, 3
IMAGE = (4, 3)
SIZE = (*IMAGE, CHANNELS)
KEY = jax.random.key(0)
LSTM, GRU = ConvLSTM(IMAGE, HIDDEN, 3), ConvGRU(IMAGE, HIDDEN, (3, 2))
XS = draw_inputs(SIZE, TIME, BATCH)
SHAPES = {1: (5,), 2: IMAGE, 3: (2, 3, 2)}

over_dimensions = pytest.mark.parametrize("shape", SHAPES.values(), ids=[f"{n}-D" for n in SHAPES])


# ---- the equations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VALUES)
def test_value_in_other_dimensions(name):
    cell, reference = VALUES[name]
    params = draw_params(cell, input_size=reference.input_size)
    xs, state = draw_inputs(reference.input_size, TIME, BATCH), draw_state(cell, params, (BATCH,))
    last, ys = unroll(cell, params, xs, state, loop=Scan())
    expected, expected_ys = references.run(reference, to_numpy(params), xs, to_numpy(tuple(state)))
    np.testing.assert_allclose(ys, expected_ys, rtol=1e-12, atol=1e-14)
    for leaf, flat in zip(last, expected, strict=True):
        np.testing.assert_allclose(leaf.reshape(BATCH, -1), flat, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ["ConvLSTM", "PeepholeConvLSTM", "ConvGRU"])
def test_lengths_resets_and_padding(name, reverse):
    cell, reference = CATALOGUE[name]
    params, lengths, resets = draw_params(cell, input_size=SIZE), np.array([4, 0, 2]), draw(TIME, BATCH) > 0.5
    how = {"lengths": lengths, "resets": resets, "reverse": reverse}
    _, expected = references.run(reference, to_numpy(params), XS, **how)
    padding = np.arange(TIME)[:, None] >= lengths
    xs = np.where(padding[..., None, None, None], np.nan, XS)
    _, ys = unroll(cell, params, xs, **how, loop=Scan())
    np.testing.assert_allclose(ys, expected, rtol=1e-12, atol=1e-14)
    grads = jax.jit(jax.grad(lambda args: (unroll(cell, *args, **how)[1] ** 2).sum()))((params, xs))
    assert all(jnp.isfinite(grad).all() for grad in jax.tree.leaves(grads))
    assert not grads[1][padding].any()


@over_dimensions
def test_a_convolution_is_cross_correlation_with_zeros_around(shape):
    """Of a kernel with a single one, all else zeros, the output is the image moved."""
    x = draw(2, *shape, 1)
    for number in (2, 3):
        for at in range(number):
            w = np.zeros((number, *(1,) * (len(shape) - 1), 1, 1))
            w[at] = 1
            moved, offset = np.zeros_like(x), at - (number - 1) // 2
            for n in range(shape[0]):
                if 0 <= n + offset < shape[0]:
                    moved[:, n] = x[:, n + offset]
            np.testing.assert_array_equal(convolution(x, w), moved)


def test_first_recurrent_kernels_keep_the_norm():
    n = 3
    w = ConvLSTM(IMAGE, n, (3, 2)).init(KEY, SIZE).w_h
    h = draw(*IMAGE, n)
    for gate in jnp.split(w, 4, axis=-1):
        out = convolution(h, gate)
        np.testing.assert_allclose((out**2).sum(-1), (h**2).sum(-1), rtol=1e-6)  # drawn in float32


def test_input_kernels_are_drawn_by_the_fans_of_one_gate():
    w = ConvGRU(IMAGE, 60, (3, 2)).init(KEY, (*IMAGE, 40)).w_x
    for gate in jnp.split(w, 3, axis=-1):
        assert np.abs(gate).max() == pytest.approx((6 / (3 * 2 * (40 + 60))) ** 0.5, rel=0.01)


def test_dtypes():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), GRU.init(KEY, SIZE))
    state, ys = unroll(GRU, params, XS.astype(jnp.bfloat16), GRU.initial_state(params, (BATCH,), jnp.float32))
    assert (state.h.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)


def test_no_steps_and_no_sequences():
    params = LSTM.init(KEY, SIZE)
    for xs in (XS[:0], XS[:, :0]):
        ys, pull = jax.vjp(lambda p, xs=xs: unroll(LSTM, p, xs)[1], params)
        assert ys.shape == (*xs.shape[:2], *IMAGE, HIDDEN)
        (grads,) = pull(ys)
        assert not any(grad.any() for grad in jax.tree.leaves(grads))


# ---- other libraries -------------------------------------------------------------------------------------------------


def value_and_gradients(run, params, xs):
    def loss(params, xs):
        ys = run(params, xs)
        return (ys * np.cos(np.arange(ys.size)).reshape(ys.shape)).sum(), ys

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, xs)


@over_dimensions
def test_equals_flax(shape):
    cell = ConvLSTM(shape, HIDDEN, 3)
    module = nn.RNN(nn.ConvLSTMCell(HIDDEN, (3,) * len(shape), param_dtype=jnp.float64), time_major=True)

    def theirs(p, xs):
        """Their gates stand in the order i, g, f, o; they add one to the forget gate at run time."""

        def order(w):
            i, f, g, o = jnp.split(w, 4, axis=-1)
            return jnp.concatenate([i, g, f, o], axis=-1)

        ih = {"kernel": order(p.w_x), "bias": order(p.b).at[2 * HIDDEN : 3 * HIDDEN].add(-1)}
        hh = {"kernel": order(p.w_h), "bias": jnp.zeros_like(p.b)}
        return module.apply({"params": {"cell": {"ih": ih, "hh": hh}}}, xs)

    params, xs = draw_params(cell, input_size=(*shape, CHANNELS)), draw(TIME, BATCH, *shape, CHANNELS)
    ours = value_and_gradients(lambda p, xs: unroll(cell, p, xs)[1], params, xs)
    assert_close(ours, value_and_gradients(theirs, params, xs), rtol=1e-9)


@over_dimensions
def test_equals_keras(shape):
    """In float32, in which Keras computes whatever it is told; its sigmoid is no longer a hard one by default."""
    keras = pytest.importorskip("keras")
    cell = ConvLSTM(shape, HIDDEN, 3)
    kind = getattr(keras.layers, f"ConvLSTM{len(shape)}D")
    layer = kind(HIDDEN, 3, padding="same", return_sequences=True)
    layer.build((BATCH, TIME, *shape, CHANNELS))
    assert layer.cell.recurrent_activation is keras.activations.sigmoid

    def theirs(p, xs):
        fixed = [variable.value for variable in layer.non_trainable_variables]
        ys, _ = layer.stateless_call([p.w_x, p.w_h, p.b], fixed, xs.swapaxes(0, 1))
        return ys.swapaxes(0, 1)

    single = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)  # noqa: E731
    params = single(draw_params(cell, input_size=(*shape, CHANNELS)))
    xs = single(draw(TIME, BATCH, *shape, CHANNELS))
    ours = value_and_gradients(lambda p, xs: unroll(cell, p, xs)[1], params, xs)
    assert_close(ours, value_and_gradients(theirs, params, xs), rtol=2e-5)


# ---- layers of layers ------------------------------------------------------------------------------------------------

DEEP = Stack(
    Dropout(0.5),
    Residual(Zoneout(ConvLSTM(IMAGE, CHANNELS, 3), 0.2)),
    LayerNorm(),
    Bidirectional(GRU, jaxrnn.PeepholeConvLSTM(IMAGE, 1, 3)),
    jaxrnn.DenselyConnected(GRU, jaxrnn.LearnedInitialState(GRU)),
    jaxrnn.Highway(ConvGRU(IMAGE, CHANNELS + 2 * HIDDEN, 1)),
    jaxrnn.Using(jaxrnn.RecurrentDropout(LSTM, 0.5), Scan()),
    Dense(5),
)


def test_a_stack_of_everything():
    assert DEEP.num_feature_axes == 3
    params = DEEP.init(KEY, SIZE)
    lengths, resets = np.array([4, 0, 4]), draw(TIME, BATCH) > 0.5
    xs = np.where((np.arange(TIME)[:, None] < lengths)[..., None, None, None], XS, np.nan)
    run = jax.jit(lambda xs, **how: unroll(DEEP, params, xs, **how))
    state, ys = run(xs[:, None], lengths=lengths[None], resets=resets[:, None])  # two batch axes
    assert ys.shape == (TIME, 1, BATCH, *IMAGE, 5)
    for n, length in enumerate(lengths):  # each sequence alone
        if length:
            alone, expected = run(XS[:length, n], resets=resets[:length, n])
            assert_close(ys[:length, 0, n], expected, rtol=1e-12)
            assert_close(jax.tree.map(lambda leaf, n=n: leaf[0, n], state), alone, rtol=1e-12)
        assert not ys[length:, 0, n].any()
    trained = jax.eval_shape(lambda xs: unroll(DEEP, params, xs, key=KEY)[1], XS)
    assert trained.shape == (TIME, BATCH, *IMAGE, 5)


def test_layers_read_every_place_by_itself():
    params = [layer.init(KEY, SIZE) for layer in (Dense(2), LayerNorm())]
    assert params[0].w.shape == (CHANNELS, 2)
    assert params[1].scale.shape == (CHANNELS,)
    highway = jaxrnn.Highway(ConvLSTM(IMAGE, CHANNELS, 3))
    p = highway.init(KEY, SIZE)
    t = 1 / (1 + np.exp(-(XS @ p.w + p.b)))
    _, ys = unroll(highway.layer, p.layer, XS)
    assert_close(unroll(highway, p, XS)[1], t * ys + (1 - t) * XS)


def test_dense_connections_join_channels():
    layer = jaxrnn.DenselyConnected(LSTM, GRU)
    params = layer.init(KEY, SIZE)
    _, first = unroll(LSTM, params[0], XS)
    joined = jnp.concatenate([XS, first], -1)
    _, second = unroll(GRU, params[1], joined)
    assert_close(unroll(layer, params, XS)[1], jnp.concatenate([joined, second], -1))


@pytest.mark.parametrize("cell", [LSTM, GRU, jaxrnn.PeepholeConvLSTM(IMAGE, HIDDEN, 3)])
def test_recurrent_dropout_drops_what_is_convolved(cell):
    params = draw_params(cell, input_size=SIZE)
    almost_all = jaxrnn.RecurrentDropout(cell, 1 - 1e-12)
    without = params._replace(**{name: 0 * getattr(params, name) for name in ("w_h", "w_a") if hasattr(params, name)})
    _, ys = unroll(almost_all, params, XS, key=KEY, loop=Scan())
    assert_close(ys, unroll(cell, without, XS, loop=Scan())[1])


def test_recurrent_dropout_in_the_default_loop():
    cell = jaxrnn.RecurrentDropout(GRU, 0.5)
    compare(cell, Deferred(block=2), key=KEY, lengths=None, resets=None, reverse=False, input_size=SIZE)


def test_the_mask_of_recurrent_dropout_is_one_for_all_steps():
    """By hand: units of the state, not what a position of the kernel sees of them, are dropped."""
    cell, params = jaxrnn.RecurrentDropout(LSTM, 0.5), draw_params(LSTM, input_size=SIZE)
    z = jax.vmap(lambda x: cell.project(params, x, KEY))(XS)
    (masks,) = z.masks
    assert masks.shape == (*XS.shape[:-1], HIDDEN)
    state = draw_state(LSTM, params, (BATCH,))
    dropped = convolution(np.where(masks[0], state.h * 2, 0), params.w_h)
    i, f, g, o = jnp.split(z.z[0] + dropped, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    after = cell.step(params, state, jax.tree.map(lambda leaf: leaf[0], z))
    assert_close(after, (jax.nn.sigmoid(o) * jnp.tanh(c), c))


def test_exports_for_any_time_and_batch():
    pytest.importorskip("flatbuffers")
    params = LSTM.init(KEY, SIZE)
    grad = jax.jit(jax.grad(lambda p, xs: (unroll(LSTM, p, xs)[1] ** 2).sum()))
    shape = jax.export.symbolic_shape("t, n, m") + SIZE
    exported = jax.export.export(grad)(params, jax.ShapeDtypeStruct(shape, jnp.float64))
    xs = draw(TIME, 1, 2, *SIZE)
    assert_close(exported.call(params, xs), grad(params, xs), rtol=1e-10)


def test_many_models_at_once():
    keys = jax.random.split(KEY, 2)
    params = jax.vmap(lambda key: GRU.init(key, SIZE))(keys)
    grad = jax.jit(jax.grad(lambda p: (unroll(GRU, p, XS)[1] ** 2).sum()))
    one_by_one = [grad(jax.tree.map(lambda leaf, n=n: leaf[n], params)) for n in range(2)]
    assert_close(jax.vmap(grad)(params), jax.tree.map(lambda *leaves: jnp.stack(leaves), *one_by_one), rtol=1e-10)


# ---- modules, streams, files -----------------------------------------------------------------------------------------


def test_linen():
    layer, xs, lengths = Stack(LSTM, Dense(2)), XS.swapaxes(0, 1), np.array([4, 0, 3])
    module = jaxrnn.linen.RNN(layer)
    variables = module.init(KEY, xs)
    params = jaxrnn.linen.from_dict(variables["params"], jax.eval_shape(lambda: layer.init(KEY, SIZE)))
    _, expected = unroll(layer, params, XS, lengths=lengths)
    assert_close(module.apply(variables, xs, seq_lengths=lengths), expected.swapaxes(0, 1))
    inside = nn.RNN(jaxrnn.linen.Cell(layer))
    _, whole = unroll(layer, params, XS)
    assert_close(inside.apply({"params": {"cell": variables["params"]}}, xs), whole.swapaxes(0, 1))
    assert jaxrnn.linen.RNN(layer, input_size=SIZE).init(KEY, xs).keys() == variables.keys()


def test_nnx():
    xs = XS.swapaxes(0, 1)
    module = jaxrnn.nnx.RNN(LSTM, SIZE, rngs=nnx.Rngs(0))
    _, expected = unroll(LSTM, module.params, XS, reverse=True)
    assert_close(module(xs, reverse=True, keep_order=True), expected.swapaxes(0, 1))
    cell = jaxrnn.nnx.Cell(LSTM, SIZE, rngs=nnx.Rngs(0))
    assert_close(nnx.RNN(cell)(xs), unroll(LSTM, cell.params, XS)[1].swapaxes(0, 1))


def test_stream_and_files(tmp_path):
    layer = Stack(LSTM, GRU)
    jaxrnn.save(tmp_path / "model.safetensors", layer, layer.init(KEY, SIZE))
    again, params = jaxrnn.load(tmp_path / "model.safetensors")
    assert again == layer
    _, ys = unroll(layer, params, XS[:, 0])
    stream = jaxrnn.Stream(again, params, slots=2)
    slot, y = stream.insert(XS[:2, 0])
    assert_close(y, ys[1], rtol=1e-12)
    slot, _ = stream.insert(state=stream.evict(slot))
    assert_close(stream.step({slot: XS[2, 0]})[slot], ys[2], rtol=1e-12)


# ---- cotangents ------------------------------------------------------------------------------------------------------


def plain(shape, **changes):
    d = len(shape)
    axes, channels_last = tuple(range(d)), (0, d + 1, *range(1, d + 1))
    numbers = ConvDimensionNumbers(channels_last, (d + 1, d, *axes), channels_last)
    ones = dict.fromkeys(("window_strides", "lhs_dilation", "rhs_dilation"), (1,) * d)
    groups = {"feature_group_count": 1, "batch_group_count": 1, "precision": None}
    return {"dimension_numbers": numbers, "padding": ((0, 0),) * d, **ones, **groups, **changes}


@pytest.mark.parametrize(
    ("shape", "kernel", "padding"),
    [
        ((5,), (3,), ((1, 1),)),
        ((6,), (4,), ((1, 2),)),
        ((4, 3), (3, 2), ((0, 0), (0, 0))),
        ((4, 3), (1, 2), ((3, 0), (0, 4))),  # more than the kernel reaches
        ((4, 5), (2, 2), ((-1, 0), (2, -2))),
        ((3, 2, 4), (3, 2, 3), ((1, 1), (0, 1), (1, 1))),
    ],
)
def test_cotangents_equal_those_of_jax(shape, kernel, padding):
    how = plain(shape, padding=padding)
    assert is_plain(how)
    images, w = draw(2, 3, *shape, 2), draw(*kernel, 2, 4)

    def run(images, w):
        return jax.lax.conv_general_dilated(
            images, w, how["window_strides"], padding, dimension_numbers=how["dimension_numbers"]
        )

    def steps(images, w):
        return jax.vmap(run, (0, None))(images, w)

    y, pull = jax.vjp(steps, images, w)
    ct = draw(*y.shape)
    ct_images, ct_w = pull(ct)
    assert_close(pull_kernel(how, images, ct, w), ct_w, rtol=1e-12)
    assert_close(jax.vmap(lambda ct: pull_images(how, ct, w, images[0]))(ct), ct_images, rtol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"window_strides": (1, 2)},
        {"rhs_dilation": (2, 1)},
        {"lhs_dilation": (1, 2)},
        {"feature_group_count": 2},
        {"dimension_numbers": ConvDimensionNumbers((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3))},
    ],
)
def test_other_convolutions_are_not_taken_for_plain(change):
    assert not is_plain(plain(IMAGE, **change))


@dataclass(frozen=True)
class Depthwise(jaxrnn.Cell):
    """h = tanh(x + w * h), each channel by itself, channels first: no plain convolution."""

    num_feature_axes = 2

    def init(self, key, input_size):
        return jax.random.normal(key, (input_size[0], 1, 3))

    def initial_state(self, params, batch_shape=(), dtype=None):
        return jnp.zeros((*batch_shape, 2, 5), params.dtype if dtype is None else dtype)

    def project(self, params, x, key=None):
        return x

    def step(self, params, state, z):
        h = jax.lax.conv_general_dilated(state, params.astype(state.dtype), (1,), "SAME", feature_group_count=2)
        return jnp.tanh(z + h)

    def readout(self, params, state, z):
        return state


def test_other_convolutions_run_in_the_loop():
    compare(Depthwise(), Deferred(), key=None, lengths=None, resets=None, reverse=False, input_size=(2, 5))


@pytest.mark.parametrize("batch_shape", [(), (6,), (6, 2)])
def test_the_loop_keeps_one_array_for_the_gates(batch_shape):
    """However many batch axes are made one for the convolution: neither its output nor the projected input beside."""
    params = LSTM.init(KEY, SIZE)
    state, z = LSTM.initial_state(params, batch_shape), LSTM.project(params, jnp.zeros((*batch_shape, *SIZE)))
    program, kept = Program(LSTM.step, params, state, z), []
    program.run(program.weights(params), state, z, lambda run, a, w: run(a, w), lambda x: kept.append(x.shape) or x)
    assert (kept, program.own) == ([(*batch_shape, *IMAGE, 4 * HIDDEN)], [])
