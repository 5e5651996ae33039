"""Everything runs under JAX's strict modes: no implicit promotion of ranks or dtypes, no NaN, no leaked tracer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import initializers, loops, trees, weights
from tests.support.cases import LINEAR_LOOPS, LOOPS, MATRIX_LOOPS, cases, examples, variants
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT
from tests.support.tiers import slow_but

pytestmark = pytest.mark.usefixtures("quick")
TIME, BATCH = 4, 2
LENGTHS = np.array([4, 2])
RESETS = np.array([[0, 0], [0, 0], [0, 1], [1, 0]], bool)
CASES = cases()
LAYERS = {
    **{name: (case.cell, case.reference.input_size) for name, case in {**CASES, **variants()}.items()},
    **{name: (layer, INPUT) for name, layer in examples().items()},
}


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


def zeros_like(tree):
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)


def check_layer(layer, input_size, which):
    """Traces everything about a layer: promotion is an error of tracing, so that nothing need be compiled."""
    options = {"lengths": LENGTHS} if isinstance(layer, jaxrnn.Sliced) else {"lengths": LENGTHS, "resets": RESETS}
    shape = (TIME, BATCH, *np.atleast_1d(input_size))

    def trace():
        params = layer.init(jax.random.key(0), input_size)
        state = zeros_like(layer.initial_state(params, (BATCH,)))

        def loss(params, xs, state, key, loop):
            last, ys = jaxrnn.unroll(layer, params, xs, state, key=key, loop=loop, **options)
            return sum(
                jnp.abs(leaf).sum() for leaf in jax.tree.leaves((last, ys)) if jnp.isdtype(leaf.dtype, "real floating")
            )

        xs, key = jnp.zeros(shape), jax.random.key(1)
        for loop in which:
            jax.grad(loss, (0, 1), allow_int=True)(params, xs, state, key, loop)
        jaxrnn.unroll(layer, params, xs, reverse=layer.causal)
        if isinstance(layer, jaxrnn.Cell):
            layer(params, state, xs[0])

    jax.eval_shape(trace)


@pytest.mark.parametrize("name", slow_but(LAYERS, [*CASES, *examples()]))
def test_promotion(name):
    layer, _ = LAYERS[name]
    special = LINEAR_LOOPS if isinstance(layer, jaxrnn.LinearCell) else {}
    special = special | (MATRIX_LOOPS if isinstance(layer, jaxrnn.MatrixCell) else {})
    check_layer(*LAYERS[name], [loops.Scan(), loops.Deferred(), *special.values()])


@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_symbols(dtype):
    layer = jaxrnn.Stack(jaxrnn.Embedding(4), jaxrnn.Bidirectional(jaxrnn.GRU(3)), jaxrnn.Dense(2))
    symbols = jnp.zeros((TIME, BATCH), dtype)

    def run(layer):
        return jaxrnn.unroll(layer, layer.init(jax.random.key(0), 5), symbols, lengths=LENGTHS.astype("uint8"))[1]

    for each in (layer, jaxrnn.LSTM(3), jaxrnn.SRU(3)):
        assert jax.eval_shape(lambda each=each: run(each)).shape[:2] == (TIME, BATCH)


def test_initializers():
    key = jax.random.key(0)
    for draw in (
        initializers.glorot_uniform,
        initializers.orthogonal,
        initializers.identity(),
        initializers.uniform(1.0),
    ):
        assert jax.eval_shape(lambda draw=draw: initializers.gates(draw, key, (3, 3), 2)).shape == (3, 6)
    assert jax.eval_shape(lambda: initializers.delta_orthogonal(key, (3, 2, 4))).shape == (3, 2, 4)
    assert jax.eval_shape(lambda: initializers.gate_biases(key, initializers.Chrono(9), 3))[0].shape == (3,)


def test_weights():
    cell, key = jaxrnn.LSTM(3), jax.random.key(0)

    def change():
        params = cell.init(key, INPUT)
        dropped = weights.drop(key, params, 0.5, names=("w_h",))
        noisy = weights.noise(key, dropped, 0.1, names=("w_h", "b"))
        return weights.denormalize(weights.normalize(noisy, names=("w_x",)))

    assert jax.eval_shape(change).w_x.shape == (INPUT, 12)


@pytest.mark.parametrize(
    "cell", [trees.ChildSumTreeLSTM(3), trees.NaryTreeLSTM(3), trees.RNTN(3), trees.RecursiveNet(3)], ids=str
)
def test_trees(cell):
    batch = trees.pack([trees.Node(children=[trees.Node(np.ones(2)), trees.Node(np.ones(2))])], arity=cell.arity or 0)

    def run():
        return trees.at_roots(batch, trees.unroll(cell, cell.init(jax.random.key(0), 2), batch)).h

    assert jax.eval_shape(run).shape == (1, 3)


def test_flax_modules():
    pytest.importorskip("flax")
    from flax import nnx

    import jaxrnn.linen
    import jaxrnn.nnx

    layer, xs = jaxrnn.Stack(jaxrnn.LSTM(3), jaxrnn.Dropout(0.5)), jnp.zeros((BATCH, TIME, INPUT))

    def run():
        rnn, key = jaxrnn.linen.RNN(layer), jax.random.key(0)
        ys, _ = rnn.init_with_output({"params": key, "dropout": key}, xs, seq_lengths=jnp.asarray(LENGTHS))
        return ys, jaxrnn.nnx.RNN(layer, INPUT, rngs=nnx.Rngs(0))(xs, seq_lengths=jnp.asarray(LENGTHS))

    assert jax.tree.map(jnp.shape, jax.eval_shape(run)) == ((BATCH, TIME, 3),) * 2


def test_streams_and_adopted_steps():
    cell = jaxrnn.adopt(lambda w, h, x: (jnp.tanh(x @ w + h),) * 2, lambda w, batch_shape: jnp.zeros((*batch_shape, 4)))
    stream = jaxrnn.Stream(cell, jnp.ones((INPUT, 4)), slots=2)
    slot, _ = stream.insert()
    assert stream.step({slot: np.ones(INPUT, np.float32)})[slot].shape == (4,)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_promotion_in_every_loop(name):
    """`Auto` and `Newton` look into a step. The other options of loops do not depend on the layer."""
    some = ("auto", "newton")
    check_layer(*LAYERS[name], [LOOPS[loop] for loop in (LOOPS if name in (*REPRESENTATIVES, "Stack") else some)])


def step(w, h, x):
    return (jnp.tanh(x @ w + h),) * 2


def first_state(w, batch_shape):
    return jnp.zeros((*batch_shape, 4), w.dtype)


def draw_matrix(key, input_size):
    return jax.random.normal(key, (input_size, 4))


REPRESENTATIVES = {
    "LSTM": jaxrnn.LSTM(3),
    "GRU": jaxrnn.GRU(3),
    "MinGRU": jaxrnn.MinGRU(3),
    "LRU": jaxrnn.LRU(3, 4),
    "Zoneout": jaxrnn.Zoneout(jaxrnn.LSTM(3), rate=0.5),
    "RecurrentDropout": jaxrnn.RecurrentDropout(jaxrnn.GRU(3), rate=0.5),
    "adopted": jaxrnn.adopt(step, first_state, draw_matrix),
    "layers": jaxrnn.Stack(
        jaxrnn.Window(2), jaxrnn.Bidirectional(jaxrnn.GRU(3)), jaxrnn.Dropout(0.5), jaxrnn.LayerNorm(), jaxrnn.Dense(2)
    ),
}
SOME_LOOPS = {
    "scan": loops.Scan(),
    "deferred": loops.Deferred(),
    "checkpoint": loops.Deferred(checkpoint_every=2),
    "newton": loops.Newton(),
}
MODES = {
    "NaN": lambda: jax.debug_nans(True),
    "leaks": jax.checking_leaks,
    "64 bits": lambda: jax.enable_x64(True),
    "32 bits": lambda: jax.enable_x64(False),
    "without jit": jax.disable_jit,
}


def value_and_gradient(layer, loop):
    """Of a layer over padded and packed sequences, with Inf in the padding: JAX itself refuses NaN in inputs."""
    params = jax.tree.map(lambda w: w.astype("float32"), layer.init(jax.random.key(0), INPUT))
    xs = np.random.default_rng(0).standard_normal((TIME, BATCH, INPUT)).astype(np.float32)
    xs[2:, 1] = np.inf

    def loss(params):
        _, ys = jaxrnn.unroll(layer, params, xs, lengths=LENGTHS, resets=RESETS, key=jax.random.key(1), loop=loop)
        return (ys**2).sum(), ys

    return jax.value_and_grad(loss, has_aux=True)(params)


@pytest.mark.slow
@pytest.mark.parametrize("loop", SOME_LOOPS)
@pytest.mark.parametrize("name", REPRESENTATIVES)
@pytest.mark.parametrize("mode", MODES)
def test_mode(mode, name, loop):
    layer, loop = REPRESENTATIVES[name], SOME_LOOPS[loop]
    with MODES[mode]():
        found = value_and_gradient(layer, loop)
    if mode == "64 bits":  # random numbers have other bits
        assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(found))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    else:
        assert_close(found, value_and_gradient(layer, loop), rtol=1e-5)


def test_a_symbol_out_of_range_is_an_error_if_nan_is():
    cell = jaxrnn.GRU(3)
    params = cell.init(jax.random.key(0), 5)
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        jaxrnn.unroll(cell, params, jnp.full((2, 1), 7))


def test_no_steps_are_an_error_of_scan_without_jit():
    cell = jaxrnn.GRU(3)
    params = cell.init(jax.random.key(0), INPUT)
    with jax.disable_jit(), pytest.raises(ValueError, match="zero-length scan is not supported in disable_jit"):
        jaxrnn.unroll(cell, params, jnp.ones((0, 1, INPUT)), loop=loops.Scan())
