"""The NNX modules against Flax's own cells, against `unroll`, and under Flax's own tools."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import nnx
from flax.traverse_util import unflatten_dict

import jaxrnn
import jaxrnn.nnx
from jaxrnn import GRU, LSTM, Bidirectional, Dropout, Elman, Embedding, Highway, LearnedInitialState, Stack, Zoneout
from tests.support.comparisons import assert_close
from tests.support.inputs import draw, draw_state

pytestmark = pytest.mark.usefixtures("x64", "quick")
BATCH, TIME, INPUT, HIDDEN = 3, 5, 3, 4
XS = draw(BATCH, TIME, INPUT)
LENGTHS = np.array([5, 0, 2])
RESETS = draw(BATCH, TIME) > 0.5
FLAX = {"dtype": "float64", "param_dtype": "float64", "bias_init": nnx.initializers.normal(0.5)}
DEEP = Stack(LSTM(HIDDEN), Dropout(0.5), Bidirectional(GRU(2)))
WEIGHTS = jnp.cos(jnp.arange(TIME)[:, None])


def from_lstm(p):
    """Flax's parameters as ours."""
    return {"w_x": p["dense_i"]["kernel"], "w_h": p["dense_h"]["kernel"], "b": p["dense_h"]["bias"]}


def from_gru(p):
    return {**from_simple(p), "b_n": jnp.zeros(HIDDEN)}  # Flax has no bias inside the reset


def from_simple(p):
    return {"w_x": p["dense_i"]["kernel"], "w_h": p["dense_h"]["kernel"], "b": p["dense_i"]["bias"]}


PAIRS = {
    "LSTM": (LSTM(HIDDEN), nnx.OptimizedLSTMCell, from_lstm),
    "GRU": (GRU(HIDDEN), nnx.GRUCell, from_gru),
    "Elman": (Elman(HIDDEN), nnx.SimpleCell, from_simple),
}


def make(layer, **kwargs):
    return jaxrnn.nnx.RNN(layer, INPUT, rngs=nnx.Rngs(0), **kwargs)


def arrays(module):
    state = nnx.state(module, nnx.Param).flat_state()
    return unflatten_dict({path: leaf[...] for path, leaf in zip(state.paths, state.leaves, strict=True)})


@nnx.jit
def call(module, xs, **options):
    return module(xs, **options)


def inside(layer):
    return nnx.RNN(jaxrnn.nnx.Cell(layer, INPUT, rngs=nnx.Rngs(0)))


CALLS = [{}, {"reverse": True}, {"reverse": True, "keep_order": True, "time_major": True}]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        pytest.param(name, call, marks=[] if (name, j) == ("GRU", 1) else pytest.mark.slow, id=f"{name}-call{j}")
        for name in PAIRS
        for j, call in enumerate(CALLS)
    ],
)
def test_equals_flax_cells(name, call):
    cell, theirs, convert = PAIRS[name]
    theirs = nnx.RNN(theirs(INPUT, HIDDEN, **FLAX, rngs=nnx.Rngs(0)))
    p = arrays(theirs)["cell"]

    def run(module, wrap):
        graphdef, _, rest = nnx.split(module, nnx.Param, ...)

        def outputs(p, xs):
            params = nnx.State(jax.tree.map(nnx.Param, wrap(p)))
            return nnx.merge(graphdef, params, rest, copy=True)(xs, **call)

        def loss(p, xs):
            ys = outputs(p, xs)
            return (WEIGHTS * ys**2).sum(), ys

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(p, XS)

    expected = run(theirs, lambda p: {"cell": p})
    assert_close(run(make(cell), convert), expected, rtol=1e-9)
    assert_close(run(inside(cell), lambda p: {"cell": convert(p)}), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("batch", "time_major"),
    [
        pytest.param(batch, time_major, marks=[] if (batch, time_major) == ((2, 3), False) else pytest.mark.slow)
        for batch in [(), (2, 3)]
        for time_major in (False, True)
    ],
)
def test_equals_unroll(batch, time_major):
    xs, resets = draw(*batch, TIME, INPUT), draw(*batch, TIME) > 0.5
    lengths, axis = np.where(draw(*batch) > 0, 3, TIME), 0 if time_major else len(batch)
    time_first, resets_first = (jnp.moveaxis(a, len(batch), 0) for a in (xs, resets))
    xs, resets = (time_first, resets_first) if time_major else (xs, resets)
    module = make(DEEP, time_major=time_major, return_carry=True, deterministic=True)
    state = draw_state(DEEP, module.params, batch)
    last, ys = call(module, xs, initial_carry=state, seq_lengths=lengths, resets=resets)
    unroll = jax.jit(functools.partial(jaxrnn.unroll, DEEP))
    expected = unroll(module.params, time_first, state, lengths=lengths, resets=resets_first)
    assert_close((last, jnp.moveaxis(ys, axis, 0)), expected, rtol=1e-12)


def test_lengths_reverse_and_carry():
    """Reversed outputs are in the order of computation, within each length; a length of 0 keeps the carry."""
    module = make(LSTM(HIDDEN), return_carry=True)
    carry = draw_state(LSTM(HIDDEN), module.params, (BATCH,))
    state, ys = module(XS, initial_carry=carry, seq_lengths=LENGTHS, reverse=True)
    expected, aligned = module(XS, initial_carry=carry, seq_lengths=LENGTHS, reverse=True, keep_order=True)
    assert_close(state, expected)
    assert_close(state.c[1], carry.c[1])
    for n, length in enumerate(LENGTHS):
        assert_close(ys[n, :length], aligned[n, :length][::-1])
        assert not ys[n, length:].any()


@pytest.mark.parametrize("wrap", [inside, make])
def test_flax_bidirectional(wrap):
    module = nnx.Bidirectional(wrap(LSTM(HIDDEN)), wrap(GRU(HIDDEN)))
    lengths = np.array([5, 1, 2])
    (first, second), ys = module(XS, seq_lengths=lengths, return_carry=True)
    params = [getattr(rnn, "cell", rnn).params for rnn in (module.forward_rnn, module.backward_rnn)]
    xs = XS.swapaxes(0, 1)
    last, forward = jaxrnn.unroll(LSTM(HIDDEN), params[0], xs, lengths=lengths)
    begun, backward = jaxrnn.unroll(GRU(HIDDEN), params[1], xs, lengths=lengths, reverse=True)
    valid = (np.arange(TIME) < lengths[:, None])[..., None]
    expected = jnp.concatenate([forward, backward], -1).swapaxes(0, 1)
    assert_close((first, second, np.where(valid, ys, 0)), (last, begun, expected), rtol=1e-12)


def test_carries():
    cell = jaxrnn.nnx.Cell(LearnedInitialState(LSTM(HIDDEN)), INPUT, rngs=nnx.Rngs(0))
    cell.state.h[...] = jnp.arange(1.0, HIDDEN + 1)
    carry = cell.initialize_carry((BATCH, INPUT))
    assert_close(carry.h, jnp.tile(jnp.arange(1.0, HIDDEN + 1), (BATCH, 1)))
    assert_close(nnx.RNN(cell)(XS), jaxrnn.unroll(cell.layer, cell.params, XS.swapaxes(0, 1))[1].swapaxes(0, 1))
    drawn = cell.initialize_carry((BATCH, INPUT), nnx.Rngs(0), nnx.initializers.normal())
    assert drawn.h.shape == (BATCH, HIDDEN)
    assert (drawn.h != drawn.c).all()
    with pytest.raises(ValueError, match="carry_init needs random keys: call initialize_carry with rngs as well"):
        cell.initialize_carry((BATCH, INPUT), carry_init=nnx.initializers.normal())


def test_names_of_parameters():
    state = nnx.state(make(Stack(Highway(LSTM(INPUT)), LSTM(HIDDEN))))
    assert {"/".join(map(str, path)) for path in state.flat_state().paths} == {
        *("layers_0/layer/w_x", "layers_0/layer/w_h", "layers_0/layer/b", "layers_0/w", "layers_0/b"),
        *("layers_1/w_x", "layers_1/w_h", "layers_1/b"),
    }
    module = make(Highway(LSTM(INPUT)))  # whose parameters have a name that the module needs
    assert module.layer == Highway(LSTM(INPUT))
    assert module.layer_.w_x.shape == module.params.layer.w_x.shape == (3, 12)


def test_split_merge_and_equal_graphs():
    module = make(Stack(LSTM(HIDDEN), GRU(2)))
    graphdef, params = nnx.split(module, nnx.Param)  # and nothing else
    assert_close(nnx.merge(graphdef, params)(XS), module(XS))
    other = nnx.split(jaxrnn.nnx.RNN(Stack(LSTM(HIDDEN), GRU(2)), INPUT, rngs=nnx.Rngs(1)), nnx.Param)[0]
    assert other == graphdef
    assert hash(other) == hash(graphdef)


def test_display_and_tabulate(capsys):
    module = make(LSTM(HIDDEN))
    text = nnx.tabulate(module, XS, console_kwargs={"width": 200, "no_color": True})
    for words in ("w_x", "[3,16]", "w_h", "[4,16]", "Total Parameters: 128"):
        assert words in text, text
    nnx.display(make(DEEP))
    shown = capsys.readouterr().out
    for words in ("layers_0", "w_x", "layers_2", "backward", "b_n", "LSTM(hidden_size=4"):
        assert words in shown, shown


def test_checkpoint(tmp_path):
    module, blank = (jaxrnn.nnx.RNN(DEEP, INPUT, rngs=nnx.Rngs(n), deterministic=True) for n in range(2))
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", arrays(module))
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", arrays(blank))
    nnx.update(blank, nnx.State(restored))
    assert_close(blank(XS), module(XS))


@pytest.mark.parametrize(
    "plain", [pytest.param(False, id="nnx.jit"), pytest.param(True, id="jax.jit", marks=pytest.mark.slow)]
)
def test_training(plain):
    """Adam on all but the recurrent matrices, chosen by path; plain `jax.jit` with the state split off."""
    module = make(Stack(LSTM(HIDDEN), Dropout(0.1), GRU(2)))
    trained = nnx.All(nnx.Param, lambda path, _: path[-1] != "w_h")
    start = arrays(module)
    optimizer = nnx.Optimizer(module, optax.adam(1e-2), wrt=trained)

    def update(module, optimizer):
        loss, grads = nnx.value_and_grad(lambda m: (m(XS) ** 2).mean(), argnums=nnx.DiffState(0, trained))(module)
        optimizer.update(module, grads)
        return loss

    if plain:
        graphdef, state = nnx.split((module, optimizer))

        @jax.jit
        def pure(state):
            module, optimizer = nnx.merge(graphdef, state)
            loss = update(module, optimizer)
            return loss, nnx.state((module, optimizer))

        losses = []
        for _ in range(10):
            loss, state = pure(state)
            losses.append(loss)
        nnx.update((module, optimizer), state)
    else:
        update = nnx.jit(update)
        losses = [update(module, optimizer) for _ in range(10)]
    assert losses[-1] < losses[0]
    end = arrays(module)
    for path, same in jax.tree_util.tree_leaves_with_path(jax.tree.map(lambda a, b: (a == b).all(), start, end)):
        assert same == (path[-1].key == "w_h"), path


def test_plain_jit_over_a_closed_over_module():
    module = make(LSTM(HIDDEN))
    assert_close(jax.jit(lambda xs: module(xs))(XS), module(XS), rtol=1e-12)
    module = make(DEEP)
    module.eval()
    assert_close(jax.jit(lambda xs: module(xs))(XS), module(XS), rtol=1e-12)


def test_dropout():
    layer = Stack(LSTM(HIDDEN), Dropout(0.5))
    module = make(layer)
    one, two = module(XS), module(XS)
    assert 0.2 < (one == 0).mean() < 0.8
    assert (one != two).any()
    off = module(XS, deterministic=True)
    assert_close(jnp.where(one == 0, 0, off * 2), one, rtol=1e-12)
    assert_close(module(XS, rngs=nnx.Rngs(dropout=3)), module(XS, rngs=nnx.Rngs(dropout=3)))
    module.eval()
    assert_close(module(XS), off)
    assert (nnx.view(module, deterministic=False)(XS) == 0).any()
    assert make(Stack(LSTM(HIDDEN), Dropout(0.0))).rngs is None
    silent = jaxrnn.nnx.RNN(layer, INPUT, rngs=nnx.Rngs(params=0))
    assert silent(XS, rngs=nnx.Rngs(1)).shape == off.shape
    with pytest.raises(ValueError, match=r"is random in training, so it needs random keys: create the module with nnx"):
        silent(XS)


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(Stack(LSTM(HIDDEN), Dropout(0.5)), id="Dropout"),
        pytest.param(Zoneout(LSTM(HIDDEN), rate=0.5), id="Zoneout", marks=pytest.mark.slow),
    ],
)
def test_dropout_in_flax_rnn(layer):
    module = inside(layer)
    assert (call(module, XS) != call(module, XS)).any()
    module.eval()
    assert_close(call(module, XS), call(make(layer, deterministic=True), XS), rtol=1e-12)
    both = nnx.Bidirectional(make(layer), make(layer))
    assert (call(both, XS) != call(both, XS)).any()


def test_symbols():
    symbols = np.array([[0, 4, 1], [2, 2, 3]])
    for layer in (LSTM(HIDDEN), Stack(Embedding(2), LSTM(HIDDEN))):
        module = jaxrnn.nnx.RNN(layer, 5, rngs=nnx.Rngs(0))
        assert_close(call(module, symbols), call(module, jax.nn.one_hot(symbols, 5)), rtol=1e-12)
    cell = jaxrnn.nnx.Cell(LSTM(HIDDEN), 5, rngs=nnx.Rngs(0))
    _, y = cell(cell.initialize_carry((2, 5)), symbols[:, 0])
    assert y.shape == (2, HIDDEN)


def test_dtypes():
    module = make(LSTM(HIDDEN), dtype=jnp.bfloat16, param_dtype=jnp.float32, return_carry=True)
    assert module.w_x[...].dtype == jnp.float32
    state, ys = module(XS)
    assert state.c.dtype == ys.dtype == jnp.bfloat16
    carry = jaxrnn.cells.LSTMState(*jnp.zeros((2, BATCH, HIDDEN), jnp.float32))
    state, ys = module(XS, initial_carry=carry)
    assert (state.c.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)
    cell = jaxrnn.nnx.Cell(LSTM(HIDDEN), INPUT, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert nnx.RNN(cell)(XS).dtype == jnp.bfloat16


def test_many_models_at_once():
    many = nnx.vmap(lambda key: jaxrnn.nnx.RNN(LSTM(INPUT), INPUT, rngs=nnx.Rngs(key)))(
        jax.random.split(jax.random.key(0))
    )
    assert many.w_x.shape == (2, 3, 12)
    ys = nnx.jit(nnx.vmap(lambda module: nnx.remat(lambda m, xs: m(xs))(module, XS)))(many)
    graphdef, params = nnx.split(many)
    for n in range(2):
        one = nnx.merge(graphdef, jax.tree.map(lambda leaf, n=n: leaf[n], params))
        assert_close(ys[n], call(one, XS), rtol=1e-12)


def test_loop_is_the_one_given():
    class CalledError(Exception):
        pass

    class Loop(jaxrnn.loops.Loop):
        def __call__(self, cell, params, steps, state):
            raise CalledError

    with pytest.raises(CalledError):
        make(LSTM(HIDDEN), loop=Loop())(XS)


def test_errors():
    rngs = nnx.Rngs(0)
    with pytest.raises(
        TypeError,
        match=r"RNN wraps a jaxrnn layer or a Flax nnx cell, but it was given <class .*: did you mean LSTM\(\.\.\.\)",
    ):
        jaxrnn.nnx.RNN(LSTM, 3, rngs=rngs)
    with pytest.raises(TypeError, match=r"Cell wraps a jaxrnn layer, but it was given 4"):
        jaxrnn.nnx.Cell(4, 3, rngs=rngs)
    message = r"RNN draws parameters, so rngs must be an nnx\.Rngs, but it is None"
    with pytest.raises(TypeError, match=message):
        jaxrnn.nnx.RNN(LSTM(HIDDEN), 3)
    message = (
        r"RNN's input_size must be a positive integer \(or a tuple of them, one for each feature axis\), but it is 0"
    )
    with pytest.raises(ValueError, match=message):
        jaxrnn.nnx.RNN(LSTM(HIDDEN), 0, rngs=rngs)
    with pytest.raises(TypeError, match=r"Cell runs one step at a time, but Bidirectional.* reads the future: wrap"):
        jaxrnn.nnx.Cell(Bidirectional(LSTM(HIDDEN)), 3, rngs=rngs)
    with pytest.raises(
        ValueError, match=r"inputs must have the axes \[\*batch, time, features\].* is \(3,\): add the m"
    ):
        make(LSTM(HIDDEN))(XS[0, 0])
    with pytest.raises(ValueError, match=r"resets must have the shape \[\*batch, time\] = \(3, 5\), not \(5, 3\)"):
        make(LSTM(HIDDEN))(XS, resets=RESETS.T)


def test_a_mask_of_missing_steps():
    """Of a layer, a Flax cell, and both directions; missing inputs, even NaN, are never read."""
    mask = np.array([[0, 0, 1, 1, 1], [1, 0, 1, 0, 1]], bool)
    xs = draw(2, 5, 3)
    rngs = nnx.Rngs(0)
    both = jaxrnn.nnx.Bidirectional(jaxrnn.nnx.RNN(GRU(2), 3, rngs=rngs), jaxrnn.nnx.RNN(LSTM(2), 3, rngs=rngs))
    for module in (jaxrnn.nnx.RNN(LSTM(4), 3, rngs=rngs), jaxrnn.nnx.RNN(nnx.GRUCell(3, 4, rngs=rngs)), both):
        ys = module(np.where(mask[..., None], xs, np.nan), mask=mask)
        for n, steps in enumerate(mask):
            assert_close(ys[n, steps], module(xs[n : n + 1, steps])[0], rtol=1e-6)
            assert not ys[n, ~steps].any()
