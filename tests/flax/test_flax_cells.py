"""Flax's own cells, and users', in our `RNN` and `Bidirectional`, against Flax's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn import loops
from tests.support.comparisons import assert_close
from tests.support.inputs import draw

pytestmark = pytest.mark.usefixtures("x64", "quick")
BATCH, TIME, INPUT, HIDDEN = 3, 5, 4, 4
KEY = jax.random.key(0)
XS = draw(BATCH, TIME, INPUT)
LENGTHS = np.array([5, 0, 2])
F64 = {"dtype": jnp.float64, "param_dtype": jnp.float64}


class Mean(nn.RNNCellBase):
    """A user's cell, with a norm and an embedding of its own."""

    @nn.compact
    def __call__(self, carry, x):
        x = nn.Dense(HIDDEN, name="read", **F64)(x)
        carry = jax.nn.sigmoid(self.param("w", nn.initializers.normal(), (HIDDEN,), jnp.float64)) * carry + x
        return carry, nn.LayerNorm(**F64)(carry)

    def initialize_carry(self, rng, input_shape):
        return jnp.zeros((*input_shape[:-1], HIDDEN))

    num_feature_axes = 1


LINEN = {
    "LSTMCell": nn.LSTMCell(HIDDEN, **F64),
    "GRUCell": nn.GRUCell(HIDDEN, carry_init=nn.initializers.normal(), **F64),
    "SimpleCell": nn.SimpleCell(HIDDEN, residual=True, **F64),
    "user's": Mean(),
}
NNX = {
    "LSTMCell": lambda: nnx.LSTMCell(INPUT, HIDDEN, rngs=nnx.Rngs(0), **F64),
    "GRUCell": lambda: nnx.GRUCell(INPUT, HIDDEN, rngs=nnx.Rngs(0), **F64),
    "SimpleCell": lambda: nnx.SimpleCell(INPUT, HIDDEN, rngs=nnx.Rngs(0), **F64),
}
CALLS = {
    "plain": {},
    "reverse": {"reverse": True},
    "time first, keep order": {"reverse": True, "keep_order": True, "time_major": True},
    "lengths": {"seq_lengths": np.array([5, 1, 2]), "reverse": True},
}


def same(found, expected, call):
    """Equal but for the outputs of padding, which Flax does not make zero."""
    (carry, ys), (carry_expected, ys_expected) = found, expected
    if "seq_lengths" in call:
        ys_expected = np.where(np.arange(TIME)[:, None] < call["seq_lengths"][:, None, None], ys_expected, 0)
    assert_close((carry, ys), (carry_expected, ys_expected))


@pytest.mark.parametrize("name", LINEN)
def test_linen(name):
    """The same variables, values, and gradients."""
    theirs, ours = nn.RNN(LINEN[name], return_carry=True), jaxrnn.linen.RNN(LINEN[name], return_carry=True)
    variables = theirs.init(KEY, XS)
    assert_close(ours.init(KEY, XS), variables)
    for call in CALLS.values():
        same(ours.apply(variables, XS, **call), theirs.apply(variables, XS, **call), call)

    def gradient(module):
        return jax.jit(jax.grad(lambda v, xs: (module.apply(v, xs)[1] ** 2).sum(), (0, 1)))(variables, XS)

    assert_close(gradient(ours), gradient(theirs), rtol=1e-9)


@pytest.mark.parametrize("name", NNX)
def test_nnx(name):
    cell = NNX[name]()
    theirs, ours = nnx.RNN(cell, return_carry=True), jaxrnn.nnx.RNN(cell, return_carry=True)
    assert_close(nnx.state(ours, nnx.Param), nnx.state(theirs, nnx.Param))
    for call in CALLS.values():
        same(ours(XS, **call), theirs(XS, **call), call)

    def gradient(module):
        return nnx.jit(nnx.grad(lambda module, xs: (module(xs)[1] ** 2).sum(), argnums=(0, 1)))(module, XS)

    assert_close(gradient(ours), gradient(theirs), rtol=1e-9)


def test_convolutions():
    cell, xs = nn.ConvLSTMCell(3, (2,), **F64), draw(2, TIME, 6, 2)
    theirs, ours = nn.RNN(cell, return_carry=True), jaxrnn.linen.RNN(cell=cell, return_carry=True)
    variables = theirs.init(KEY, xs)
    assert_close(ours.apply(variables, xs), theirs.apply(variables, xs))


@pytest.mark.parametrize("batch", [(), (2, 3)])
@pytest.mark.parametrize("flavour", ["linen", "nnx"])
def test_lengths_and_resets_as_nothing_else_has_them(flavour, batch):
    """Length 0, several batch axes, NaN in the padding, resets: each sequence as if it were alone."""
    xs = draw(*batch, TIME, INPUT)
    lengths = np.broadcast_to([3, 0, 5], batch) if batch else np.array(3)
    resets = np.zeros((*batch, TIME), bool)
    resets[..., 2] = True
    padded = np.where(np.arange(TIME)[:, None] < lengths[..., None, None], xs, np.nan)
    if flavour == "linen":
        module = jaxrnn.linen.Bidirectional(*(jaxrnn.linen.RNN(LINEN[name]) for name in ("LSTMCell", "SimpleCell")))
        variables = module.init(KEY, xs)

        def run(xs, **call):
            return module.apply(variables, xs, return_carry=True, **call)
    else:
        run = jaxrnn.nnx.Bidirectional(*(jaxrnn.nnx.RNN(NNX[name]()) for name in ("LSTMCell", "SimpleCell")))
        run.return_carry = True
    (forward, backward), ys = run(padded, seq_lengths=lengths, resets=resets)
    for place in np.ndindex(*batch):
        length = int(lengths[place])
        alone = xs[(*place, slice(None))]
        for part in (slice(0, min(2, length)), slice(2, length)):  # the reset parts them
            if part.stop > part.start:
                assert_close(ys[(*place, part)], run(alone[part])[1])
        assert_close(ys[(*place, slice(length, None))], np.zeros((TIME - length, 2 * HIDDEN)))
        begun = run(alone[:0])[0]
        last = run(alone[2:length])[0] if length > 2 else begun
        first = run(alone[: min(2, length)])[0]
        assert_close(jax.tree.map(lambda leaf, place=place: leaf[place], forward), last[0])
        assert_close(jax.tree.map(lambda leaf, place=place: leaf[place], backward), first[1])


@pytest.mark.parametrize("flavour", ["linen", "nnx"])
def test_bidirectional(flavour):
    call = {"seq_lengths": np.array([5, 1, 2]), "return_carry": True}
    if flavour == "linen":
        cells = LINEN["LSTMCell"], LINEN["SimpleCell"]
        theirs = nn.Bidirectional(*map(nn.RNN, cells))
        ours = jaxrnn.linen.Bidirectional(*map(jaxrnn.linen.RNN, cells))
        variables = theirs.init(KEY, XS)
        assert_close(ours.init(KEY, XS), variables)
        found, expected = ours.apply(variables, XS, **call), theirs.apply(variables, XS, **call)
    else:
        cells = NNX["LSTMCell"](), NNX["SimpleCell"]()
        found = jaxrnn.nnx.Bidirectional(*map(jaxrnn.nnx.RNN, cells))(XS, **call)
        expected = nnx.Bidirectional(*map(nnx.RNN, cells))(XS, **call)
    valid = np.arange(TIME)[:, None] < call["seq_lengths"][:, None, None]
    assert_close(found, (expected[0], np.where(valid, expected[1], 0)))


def test_shared_cell_keeps_its_place():
    class Model(nn.Module):
        rnn: type

        @nn.compact
        def __call__(self, xs):
            memory = nn.SimpleCell(HIDDEN, name="memory", **F64)
            return self.rnn(memory)(self.rnn(memory)(xs))

    variables = Model(nn.RNN).init(KEY, XS)
    assert variables["params"].keys() == {"memory"}
    assert_close(Model(jaxrnn.linen.RNN).init(KEY, XS), variables)
    assert_close(Model(jaxrnn.linen.RNN).apply(variables, XS), Model(nn.RNN).apply(variables, XS))


class Reading(nnx.Module):
    """A user's cell of integers, that knows one batch axis."""

    num_feature_axes = 1

    def __init__(self):
        self.embed = nnx.Embed(7, HIDDEN, rngs=nnx.Rngs(0), **F64)
        self.dense = nnx.Linear(2 * HIDDEN, HIDDEN, rngs=nnx.Rngs(1), **F64)

    def __call__(self, carry, x):
        carry = jnp.tanh(self.dense(jnp.concatenate([self.embed(x[:, 0]), carry], axis=-1)))
        return carry, carry

    def initialize_carry(self, input_shape, rngs):
        batch, _ = input_shape
        return jnp.ones((batch, HIDDEN))


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint32"])
def test_integers_are_numbers(dtype):
    xs, cell = (np.arange(2 * TIME).reshape(2, TIME, 1) % 7).astype(dtype), Reading()
    expected = nnx.RNN(cell, return_carry=True)(xs)
    assert_close(jaxrnn.nnx.RNN(cell, return_carry=True)(xs), expected)
    restarted = jaxrnn.nnx.RNN(cell)(xs, resets=np.arange(TIME) == [[2], [2]])
    assert_close(restarted[:, 2:], jaxrnn.nnx.RNN(cell)(xs[:, 2:]))
    whole = np.arange(TIME * 2).reshape(1, TIME, 2).astype(dtype)
    variables = nn.RNN(LINEN["GRUCell"]).init(KEY, whole)
    assert_close(
        jaxrnn.linen.RNN(LINEN["GRUCell"]).apply(variables, whole), nn.RNN(LINEN["GRUCell"]).apply(variables, whole)
    )


def test_loop_and_state():
    cell = LINEN["LSTMCell"]
    module = jaxrnn.linen.RNN(cell, loop=loops.Scan(), return_carry=True)
    variables, carry = module.init(KEY, XS), (draw(BATCH, HIDDEN), draw(BATCH, HIDDEN, seed=1))
    expected = nn.RNN(cell, return_carry=True).apply(variables, XS, initial_carry=carry)
    assert_close(module.apply(variables, XS, initial_carry=carry), expected)
    jax.jvp(lambda xs: module.apply(variables, xs)[1], (XS,), (XS,))  # as only `Scan` can


class Counting(nn.RNNCellBase):
    @nn.compact
    def __call__(self, carry, x):
        count = self.variable("counts", "steps", lambda: jnp.zeros(()))
        count.value += 1
        return carry, x

    def initialize_carry(self, rng, input_shape):
        return jnp.zeros(input_shape)

    num_feature_axes = 1


class Dropping(nn.RNNCellBase):
    @nn.compact
    def __call__(self, carry, x):
        return carry, nn.Dropout(0.5, deterministic=False)(x)

    initialize_carry, num_feature_axes = Counting.initialize_carry, 1


class NnxDropping(nnx.RNNCellBase):
    def __init__(self):
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

    def __call__(self, carry, x):
        return carry, self.dropout(x)

    def initialize_carry(self, input_shape, rngs=None):
        return jnp.zeros(input_shape)

    num_feature_axes = 1


def test_errors():
    with pytest.raises(TypeError, match=r"draws random numbers in the step: use flax\.linen\.RNN"):
        jaxrnn.linen.RNN(Dropping()).apply({}, XS)
    with pytest.raises(TypeError, match=r"changes its variables in the step: use flax\.linen\.RNN"):
        jaxrnn.linen.RNN(Counting()).apply({"counts": {"cell": {"steps": 0.0}}}, XS)
    with pytest.raises(TypeError, match=r"cannot be scanned over in this loop: use flax\.linen\.RNN"):
        jaxrnn.linen.RNN(Mean(), variable_axes={"params": 0}).apply({}, XS)
    with pytest.raises(TypeError, match=r"changes its variables or draws random numbers in the step: use flax\.nnx"):
        jaxrnn.nnx.RNN(NnxDropping())(XS)
    with pytest.raises(TypeError, match=r"cannot be scanned over in this loop: use flax\.nnx\.RNN"):
        jaxrnn.nnx.RNN(NNX["GRUCell"](), state_axes={"params": 0})
    with pytest.raises(ValueError, match=r"add the missing axes"):
        jaxrnn.nnx.RNN(NNX["GRUCell"]())(XS[0, 0])
