"""Flax's own cells and user-defined Flax cells in jaxrnn's `RNN` and `Bidirectional`, compared with Flax's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn import LSTM, loops
from tests.support.comparisons import assert_close
from tests.support.inputs import draw

pytestmark = pytest.mark.usefixtures("x64", "quick")
BATCH, TIME, INPUT, HIDDEN = 3, 5, 4, 4
KEY = jax.random.key(0)
XS = draw(BATCH, TIME, INPUT)
LENGTHS = np.array([5, 0, 2])
F64 = {"dtype": jnp.float64, "param_dtype": jnp.float64}


class Mean(nn.RNNCellBase):
    """A user-defined cell with submodules and a parameter of its own."""

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


def some(names, quick):
    """Turns names into parameters of a test. The default tier runs only those in `quick`."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@functools.partial(jax.jit, static_argnums=0)
def init(module, xs):
    return module.init(KEY, xs)


@functools.partial(jax.jit, static_argnums=0)
def apply(module, variables, xs, **call):
    return module.apply(variables, xs, **call)


def same(found, expected, call):
    """Asserts equality, except for the outputs of padding, which Flax does not set to zero."""
    (carry, ys), (carry_expected, ys_expected) = found, expected
    if "seq_lengths" in call:
        ys_expected = np.where(np.arange(TIME)[:, None] < call["seq_lengths"][:, None, None], ys_expected, 0)
    assert_close((carry, ys), (carry_expected, ys_expected))


@pytest.mark.parametrize("name", some(LINEN, ["user's"]))
def test_linen(name):
    """The same variables, values, and gradients."""
    theirs, ours = nn.RNN(LINEN[name], return_carry=True), jaxrnn.linen.RNN(LINEN[name], return_carry=True)
    variables = init(theirs, XS)
    assert_close(init(ours, XS), variables)

    def run(module):
        return jax.jit(lambda variables: [module.apply(variables, XS, **call) for call in CALLS.values()])(variables)

    for found, expected, call in zip(run(ours), run(theirs), CALLS.values(), strict=True):
        same(found, expected, call)

    def gradient(module):
        return jax.jit(jax.grad(lambda v, xs: (module.apply(v, xs)[1] ** 2).sum(), (0, 1)))(variables, XS)

    assert_close(gradient(ours), gradient(theirs), rtol=1e-9)


@pytest.mark.parametrize("name", some(NNX, ["GRUCell"]))
def test_nnx(name):
    cell = NNX[name]()
    theirs, ours = nnx.RNN(cell, return_carry=True), jaxrnn.nnx.RNN(cell, return_carry=True)
    assert_close(nnx.state(ours, nnx.Param), nnx.state(theirs, nnx.Param))
    assert {*nnx.state(ours).flat_state().paths} == {*nnx.state(theirs).flat_state().paths}

    def run(module):
        return nnx.jit(lambda module: [module(XS, **call) for call in CALLS.values()])(module)

    for found, expected, call in zip(run(ours), run(theirs), CALLS.values(), strict=True):
        same(found, expected, call)

    def gradient(module):
        return nnx.jit(nnx.grad(lambda module, xs: (module(xs)[1] ** 2).sum(), argnums=(0, 1)))(module, XS)

    assert_close(gradient(ours), gradient(theirs), rtol=1e-9)


def test_convolutions():
    cell, xs = nn.ConvLSTMCell(3, (2,), **F64), draw(2, TIME, 6, 2)
    theirs, ours = nn.RNN(cell, return_carry=True), jaxrnn.linen.RNN(cell=cell, return_carry=True)
    variables = init(theirs, xs)
    assert_close(apply(ours, variables, xs), apply(theirs, variables, xs))


@pytest.mark.parametrize("batch", [(), pytest.param((2, 3), marks=pytest.mark.slow)])
@pytest.mark.parametrize("flavor", ["linen", "nnx"])
def test_each_sequence_runs_as_if_it_were_alone(flavor, batch):
    """With length 0, several batch axes, NaN in the padding, and resets, none of which Flax supports."""
    xs = draw(*batch, TIME, INPUT)
    lengths = np.broadcast_to([3, 0, 5], batch) if batch else np.array(3)
    resets = np.zeros((*batch, TIME), bool)
    resets[..., 2] = True
    padded = np.where(np.arange(TIME)[:, None] < lengths[..., None, None], xs, np.nan)
    if flavor == "linen":
        module = jaxrnn.linen.Bidirectional(*(jaxrnn.linen.RNN(LINEN[name]) for name in ("LSTMCell", "SimpleCell")))
        variables = init(module, xs)

        @jax.jit
        def run(xs, **call):
            return module.apply(variables, xs, return_carry=True, **call)
    else:
        module = jaxrnn.nnx.Bidirectional(*(jaxrnn.nnx.RNN(NNX[name]()) for name in ("LSTMCell", "SimpleCell")))
        module.return_carry = True
        call = nnx.jit(lambda module, xs, **call: module(xs, **call))

        def run(xs, **how):
            return call(module, xs, **how)

    (forward, backward), ys = run(padded, seq_lengths=lengths, resets=resets)
    for place in np.ndindex(*batch):
        length = int(lengths[place])
        alone = xs[(*place, slice(None))]
        for part in (slice(0, min(2, length)), slice(2, length)):  # separated by the reset
            if part.stop > part.start:
                assert_close(ys[(*place, part)], run(alone[part])[1])
        assert_close(ys[(*place, slice(length, None))], np.zeros((TIME - length, 2 * HIDDEN)))
        begun = run(alone[:0])[0]
        last = run(alone[2:length])[0] if length > 2 else begun
        first = run(alone[: min(2, length)])[0]
        assert_close(jax.tree.map(lambda leaf, place=place: leaf[place], forward), last[0])
        assert_close(jax.tree.map(lambda leaf, place=place: leaf[place], backward), first[1])


@pytest.mark.parametrize("flavor", ["linen", "nnx"])
def test_bidirectional(flavor):
    call = {"seq_lengths": np.array([5, 1, 2]), "return_carry": True}
    if flavor == "linen":
        cells = LINEN["LSTMCell"], LINEN["SimpleCell"]
        theirs = nn.Bidirectional(*map(nn.RNN, cells))
        ours = jaxrnn.linen.Bidirectional(*map(jaxrnn.linen.RNN, cells))
        variables = init(theirs, XS)
        assert_close(init(ours, XS), variables)
        found, expected = (jax.jit(lambda v, m=m: m.apply(v, XS, **call))(variables) for m in (ours, theirs))
    else:
        cells = NNX["LSTMCell"](), NNX["SimpleCell"]()
        run = nnx.jit(lambda module: module(XS, **call))
        found = run(jaxrnn.nnx.Bidirectional(*map(jaxrnn.nnx.RNN, cells)))
        expected = run(nnx.Bidirectional(*map(nnx.RNN, cells)))
    valid = np.arange(TIME)[:, None] < call["seq_lengths"][:, None, None]
    assert_close(found, (expected[0], np.where(valid, expected[1], 0)))


@pytest.mark.parametrize("flavor", ["linen", "nnx"])
def test_one_class_for_layers_and_cells(flavor):
    flax, ours = (nn, jaxrnn.linen) if flavor == "linen" else (nnx, jaxrnn.nnx)
    cell = LINEN["GRUCell"] if flavor == "linen" else NNX["GRUCell"]()
    layer = ours.RNN(jaxrnn.GRU(HIDDEN), INPUT, **({} if flavor == "linen" else {"rngs": nnx.Rngs(0)}))
    assert type(layer) is type(ours.RNN(cell)) is type(ours.RNN(cell=cell)) is ours.RNN
    assert isinstance(ours.Bidirectional(layer, ours.RNN(cell)), flax.Bidirectional)
    assert ours.RNN(cell).cell is cell
    assert ours.RNN(cell).layer is None
    wrapped = ours.RNN(cell)  # the carry of an RNN is that of its cell
    args = ((KEY, (BATCH, INPUT)),) if flavor == "linen" else (((BATCH, INPUT), nnx.Rngs(0)),)
    assert_close(wrapped.initialize_carry(*args[0]).shape, (BATCH, HIDDEN))


def test_linen_variables_are_where_flax_puts_them():
    """A cell made in setup, shared cells, cells with a name, and an RNN that is called twice."""

    class Model(nn.Module):
        rnn: type

        def setup(self):
            self.memory = nn.SimpleCell(HIDDEN, **F64)
            self.one, self.two = self.rnn(nn.SimpleCell(HIDDEN, **F64)), self.rnn(self.memory)

        @nn.compact
        def __call__(self, xs):
            xs = self.two(self.one(self.one(xs)))
            return self.rnn(nn.SimpleCell(HIDDEN, name="last", **F64), name="three")(xs)

    variables = init(Model(nn.RNN), XS)
    assert {"memory", "one_cell", "last"} >= variables["params"].keys() - {"one"}
    found = init(Model(jaxrnn.linen.RNN), XS)
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    assert_close(found, variables)
    assert_close(apply(Model(jaxrnn.linen.RNN), variables, XS), apply(Model(nn.RNN), variables, XS))


def test_linen_transformations_of_a_flax_cell():
    def many(rnn):
        lift = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "in_axes": None, "axis_size": 2}
        module = nn.vmap(nn.remat(rnn), **lift)(LINEN["SimpleCell"])
        return jax.jit(module.init_with_output)(KEY, XS)

    (ys, variables), expected = many(jaxrnn.linen.RNN), many(nn.RNN)
    assert ys.shape == (2, BATCH, TIME, HIDDEN)
    assert_close((ys, variables), expected)


def test_shared_cell_keeps_its_place():
    class Model(nn.Module):
        rnn: type

        @nn.compact
        def __call__(self, xs):
            memory = nn.SimpleCell(HIDDEN, name="memory", **F64)
            return self.rnn(memory)(self.rnn(memory)(xs))

    variables = init(Model(nn.RNN), XS)
    assert variables["params"].keys() == {"memory"}
    assert_close(init(Model(jaxrnn.linen.RNN), XS), variables)
    assert_close(apply(Model(jaxrnn.linen.RNN), variables, XS), apply(Model(nn.RNN), variables, XS))


class Reading(nnx.Module):
    """A user-defined cell of integers that supports only one batch axis."""

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


@pytest.mark.parametrize("dtype", some(["int8", "int64", "uint32"], ["int64"]))
def test_integers_are_numbers(dtype):
    xs, cell = (np.arange(2 * TIME).reshape(2, TIME, 1) % 7).astype(dtype), Reading()
    call = nnx.jit(lambda module, xs, **call: module(xs, **call))
    expected = call(nnx.RNN(cell, return_carry=True), xs)
    assert_close(call(jaxrnn.nnx.RNN(cell, return_carry=True), xs), expected)
    restarted = call(jaxrnn.nnx.RNN(cell), xs, resets=np.arange(TIME) == [[2], [2]])
    assert_close(restarted[:, 2:], call(jaxrnn.nnx.RNN(cell), xs[:, 2:]))
    whole = np.arange(TIME * 2).reshape(1, TIME, 2).astype(dtype)
    variables = init(nn.RNN(LINEN["GRUCell"]), whole)
    assert_close(
        apply(jaxrnn.linen.RNN(LINEN["GRUCell"]), variables, whole),
        apply(nn.RNN(LINEN["GRUCell"]), variables, whole),
    )


def test_loop_and_state():
    cell = LINEN["LSTMCell"]
    module = jaxrnn.linen.RNN(cell, loop=loops.Scan(), return_carry=True)
    variables, carry = init(module, XS), (draw(BATCH, HIDDEN), draw(BATCH, HIDDEN, seed=1))
    expected = apply(nn.RNN(cell, return_carry=True), variables, XS, initial_carry=carry)
    assert_close(apply(module, variables, XS, initial_carry=carry), expected)
    jax.jvp(lambda xs: apply(module, variables, xs)[1], (XS,), (XS,))  # which only `Scan` supports


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
    message = (
        r"unroll is an option for Flax cells, but RNN wraps LSTM.*: to choose how a layer runs, give a loop, as in"
    )
    with pytest.raises(TypeError, match=message):
        jaxrnn.linen.RNN(LSTM(HIDDEN), unroll=2)
    with pytest.raises(TypeError, match=r"unroll is an option for Flax cells"):
        jaxrnn.nnx.RNN(LSTM(HIDDEN), INPUT, rngs=nnx.Rngs(0), unroll=2)
    message = (
        r"input_size is an option for jaxrnn layers, but RNN wraps a Flax cell: set it in the cell if the cell has it"
    )
    with pytest.raises(TypeError, match=message):
        jaxrnn.linen.RNN(LINEN["GRUCell"], True)
    with pytest.raises(TypeError, match=message):
        jaxrnn.nnx.RNN(NNX["GRUCell"](), INPUT)
    with pytest.raises(TypeError, match=r"deterministic is an option for jaxrnn layers, but RNN wraps a Flax cell$"):
        jaxrnn.nnx.RNN(NNX["GRUCell"]())(XS, deterministic=True)
    with pytest.raises(TypeError, match=r"RNN wraps one layer or one cell, but it was given both"):
        jaxrnn.linen.RNN(LSTM(HIDDEN), cell=LINEN["GRUCell"])
    with pytest.raises(
        TypeError, match=r"cell must be a module such as flax\.linen\.LSTMCell\(\.\.\.\), but it is LSTM"
    ):
        jaxrnn.linen.RNN(cell=LSTM(HIDDEN))
    with pytest.raises(
        AttributeError, match=r"only a module with a jaxrnn layer has params: for the variables of a Flax cell, c"
    ):
        _ = jaxrnn.nnx.RNN(NNX["GRUCell"]()).params


def test_linen_options_with_the_defaults_of_flax_are_accepted():
    """Whether they are written as a dict or a frozen dict."""
    jaxrnn.linen.RNN(Mean(), unroll=2, variable_axes={}, variable_broadcast="params", split_rngs={"params": False})
    jaxrnn.linen.RNN(LSTM(HIDDEN), unroll=1, split_rngs={"params": False})
