"""What the convolutional cells share: initial kernels, layers around them, Flax modules, streams and files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxrnn
from jaxrnn import Bidirectional, ConvGRU, ConvLSTM, Dense, Dropout, LayerNorm, Residual, Stack, Zoneout, unroll
from jaxrnn.loops import Deferred, Scan
from jaxrnn.ops import convolution
from tests.support import references
from tests.support.cases import cases
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import draw, draw_inputs, draw_params, draw_state
from tests.support.loops import compare
from tests.support.tiers import slow

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH, HIDDEN, CHANNELS = 4, 3, 2, 3
IMAGE = (4, 3)
SIZE = (*IMAGE, CHANNELS)
KEY = jax.random.key(0)
LSTM, GRU = ConvLSTM(IMAGE, HIDDEN, 3), ConvGRU(IMAGE, HIDDEN, (3, 2))
XS = draw_inputs(SIZE, TIME, BATCH)
DEEP = Stack(
    Dropout(0.5),
    Residual(Zoneout(ConvLSTM(IMAGE, CHANNELS, 3), rate=0.2)),
    LayerNorm(),
    Bidirectional(GRU, backward=jaxrnn.PeepholeConvLSTM(IMAGE, 1, 3)),
    jaxrnn.DenselyConnected(GRU, jaxrnn.LearnedInitialState(GRU)),
    jaxrnn.Highway(ConvGRU(IMAGE, CHANNELS + 2 * HIDDEN, 1)),
    jaxrnn.Using(jaxrnn.RecurrentDropout(LSTM, 0.5), Scan()),
    Dense(5),
)


def test_images_of_symbols_equal_their_one_hot_vectors():
    """A map of symbols, such as a segmented image, has the axes of an image without the channels."""
    layer = Stack(jaxrnn.Embedding(2), LSTM)
    params = draw_params(layer, input_size=(*IMAGE, 5))
    symbols = np.random.default_rng(0).integers(0, 5, (TIME, BATCH, *IMAGE))
    lengths = np.array([4, 0, 2])
    found = unroll(layer, params, symbols, lengths=lengths)
    assert_close(found, unroll(layer, params, np.eye(5)[symbols], lengths=lengths))
    stream = jaxrnn.Stream(layer, params, slots=1)
    assert_close(stream.insert(symbols[:2, 2])[1], found[1][1, 2])
    module = jaxrnn.linen.RNN(layer, input_size=(*IMAGE, 5))
    ys, _ = jax.eval_shape(module.init_with_output, KEY, symbols.swapaxes(0, 1))
    assert ys.shape == (BATCH, TIME, *IMAGE, HIDDEN)


@pytest.mark.parametrize("reverse", [slow(False), True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", ["ConvLSTM", slow("PeepholeConvLSTM"), slow("ConvGRU")])
def test_lengths_resets_and_padding(name, reverse):
    cell, reference = cases()[name].cell, cases()[name].reference
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
    """Computed by hand: units of the state are dropped, not patches that the kernel reads."""
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
