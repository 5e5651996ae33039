"""The Linen modules against Flax's own cells, against `unroll`, and under Flax's own transformations."""

import functools
import pickle

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, path_aware_map

import jaxrnn
import jaxrnn.linen
from jaxrnn import GRU, LSTM, Bidirectional, Dropout, Elman, Embedding, Highway, LearnedInitialState, Stack
from tests.support.comparisons import assert_close
from tests.support.conversions import other_weights
from tests.support.inputs import draw, draw_state

pytestmark = pytest.mark.usefixtures("x64", "quick")
BATCH, TIME, INPUT, HIDDEN = 3, 5, 3, 4
KEY = jax.random.key(0)
XS = draw(BATCH, TIME, INPUT)
LENGTHS = np.array([5, 0, 2])
RESETS = draw(BATCH, TIME) > 0.5
FLAX = {"param_dtype": "float64", "bias_init": nn.initializers.normal(0.5)}
DEEP = Stack(LSTM(HIDDEN), Dropout(0.5), Bidirectional(GRU(2)))


def from_lstm(p):
    """Flax's parameters as ours."""
    w_x, w_h = (jnp.concatenate([p[side + gate]["kernel"] for gate in "ifgo"], 1) for side in "ih")
    return {"w_x": w_x, "w_h": w_h, "b": jnp.concatenate([p["h" + gate]["bias"] for gate in "ifgo"])}


def from_gru(p):
    w_x, w_h = (jnp.concatenate([p[side + gate]["kernel"] for gate in "rzn"], 1) for side in "ih")
    b = jnp.concatenate([p["i" + gate]["bias"] for gate in "rzn"])
    return {"w_x": w_x, "w_h": w_h, "b": b, "b_n": p["hn"]["bias"]}


def from_simple(p):
    return {"w_x": p["i"]["kernel"], "w_h": p["h"]["kernel"], "b": p["i"]["bias"]}


PAIRS = {
    "LSTM": (LSTM(HIDDEN), nn.OptimizedLSTMCell(HIDDEN, **FLAX), from_lstm),
    "GRU": (GRU(HIDDEN), nn.GRUCell(HIDDEN, **FLAX), from_gru),
    "Elman": (Elman(HIDDEN), nn.SimpleCell(HIDDEN, **FLAX), from_simple),
}


def draw_variables(module, xs):
    """Random variables with the structure that `module.init` gives them, without running the module."""
    return other_weights(jax.eval_shape(module.init, KEY, xs))


@functools.partial(jax.jit, static_argnums=0)
def apply(module, variables, xs, **call):
    return module.apply(variables, xs, **call)


CALLS = [{}, {"reverse": True}, {"reverse": True, "keep_order": True, "time_major": True}]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        pytest.param(name, call, marks=[] if (name, j) == ("LSTM", 2) else pytest.mark.slow, id=f"{name}-call{j}")
        for name in PAIRS
        for j, call in enumerate(CALLS)
    ],
)
def test_equals_flax_cells(name, call):
    cell, theirs, convert = PAIRS[name]
    theirs, ours = nn.RNN(theirs), jaxrnn.linen.RNN(cell)
    inside = nn.RNN(jaxrnn.linen.Cell(cell))
    p = draw_variables(theirs, XS)["params"]["cell"]

    def run(module, wrap, xs):
        def loss(p, xs):
            ys = module.apply({"params": wrap(p)}, xs, **call)
            return (jnp.cos(jnp.arange(TIME)[:, None]) * ys**2).sum(), ys

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(p, xs)

    expected = run(theirs, lambda p: {"cell": p}, XS)
    assert_close(run(ours, convert, XS), expected, rtol=1e-9)
    assert_close(run(inside, lambda p: {"cell": convert(p)}, XS), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("batch", "time_major"),
    [
        pytest.param(batch, time_major, marks=[] if (batch, time_major) == ((2, 3), False) else pytest.mark.slow)
        for batch in [(), (2,), (2, 3)]
        for time_major in (False, True)
    ],
)
def test_equals_unroll(batch, time_major):
    xs, resets, lengths = draw(*batch, TIME, INPUT), draw(*batch, TIME) > 0.5, draw(*batch) > 0
    lengths, axis = np.where(lengths, 3, TIME), 0 if time_major else len(batch)
    module = jaxrnn.linen.RNN(DEEP, time_major=time_major, return_carry=True)
    time_first, resets_first = (jnp.moveaxis(a, len(batch), 0) for a in (xs, resets))
    xs, resets = (time_first, resets_first) if time_major else (xs, resets)
    variables = draw_variables(module, xs)
    params = jaxrnn.linen.from_dict(variables["params"], jax.eval_shape(lambda: DEEP.init(KEY, INPUT)))
    state = draw_state(DEEP, params, batch)
    last, ys = apply(module, variables, xs, initial_carry=state, seq_lengths=lengths, resets=resets)
    unroll = jax.jit(functools.partial(jaxrnn.unroll, DEEP))
    expected = unroll(params, time_first, state, lengths=lengths, resets=resets_first)
    assert_close((last, jnp.moveaxis(ys, axis, 0)), expected, rtol=1e-12)


@pytest.mark.slow
def test_lengths_where_flax_is_right():
    """Flax does not zero the outputs of padding, and takes the last state for length 0."""
    cell, theirs, convert = PAIRS["LSTM"]
    theirs, ours = nn.RNN(theirs, return_carry=True), jaxrnn.linen.RNN(cell, return_carry=True)
    p = draw_variables(theirs, XS)["params"]["cell"]
    for call in ({}, {"reverse": True}, {"reverse": True, "keep_order": True}):
        (c, h), expected = theirs.apply({"params": {"cell": p}}, XS, seq_lengths=LENGTHS, **call)
        state, ys = ours.apply({"params": convert(p)}, XS, seq_lengths=LENGTHS, **call)
        some = LENGTHS > 0
        valid = np.arange(TIME) < LENGTHS[:, None]
        assert_close(ys, np.where(valid[..., None], expected, 0), rtol=1e-9)
        assert_close((state.c[some], state.h[some]), (c[some], h[some]), rtol=1e-9)
        assert_close(state.h[~some], np.zeros((1, HIDDEN)))


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda cell: nn.RNN(jaxrnn.linen.Cell(cell)), id="Cell", marks=pytest.mark.slow),
        pytest.param(jaxrnn.linen.RNN, id="RNN"),
    ],
)
def test_flax_bidirectional(wrap):
    module = nn.Bidirectional(wrap(LSTM(HIDDEN)), wrap(GRU(HIDDEN)))
    variables = draw_variables(module, XS)
    lengths = np.array([5, 1, 2])
    carry = jaxrnn.cells.LSTMState(draw(BATCH, HIDDEN), draw(BATCH, HIDDEN)), jaxrnn.cells.GRUState(draw(BATCH, HIDDEN))
    last, ys = module.apply(variables, XS, seq_lengths=lengths, initial_carry=carry, return_carry=True)
    p = {k: v.get("cell", v) for k, v in variables["params"].items()}
    params = jaxrnn.layers.BidirectionalParams(
        jaxrnn.cells.LSTMParams(**p["forward_rnn"]), jaxrnn.cells.GRUParams(**p["backward_rnn"])
    )
    layer = Bidirectional(LSTM(HIDDEN), backward=GRU(HIDDEN))
    begin = jaxrnn.layers.BidirectionalState(*carry)
    state, expected = jaxrnn.unroll(layer, params, XS.swapaxes(0, 1), begin, lengths=lengths)
    valid = (np.arange(TIME) < lengths[:, None])[..., None]
    assert_close((*last, np.where(valid, ys, 0)), (*state, expected.swapaxes(0, 1)), rtol=1e-12)


def test_learned_initial_state_in_flax_rnn():
    """The carry that Flax asks for is the learned one, in init as in apply; unbound there is none."""
    cell = jaxrnn.linen.Cell(LearnedInitialState(LSTM(HIDDEN)))
    module = nn.RNN(cell)
    variables = module.init(KEY, XS)
    assert {*flatten_dict(variables["params"]["cell"], sep="/")} == {
        *("cell/w_x", "cell/w_h", "cell/b", "state/h", "state/c")
    }
    variables = jax.tree.map(lambda leaf: leaf + 0.5, variables)
    ys = module.apply(variables, XS)
    assert_close(ys, jaxrnn.linen.RNN(cell.layer).apply({"params": variables["params"]["cell"]}, XS), rtol=1e-12)
    bound = {"params": variables["params"]["cell"]}
    carry = cell.apply(bound, KEY, (BATCH, INPUT), method="initialize_carry")
    assert_close(carry.h, 0.5 * np.ones((BATCH, HIDDEN)))
    with pytest.raises(ValueError, match=r"depends on its parameters, but this module is not bound to any: call mod"):
        cell.initialize_carry(KEY, (BATCH, INPUT))


def test_streaming_equals_the_whole():
    """Passes carries on from part to part, also for a stack."""
    layer = Stack(LSTM(HIDDEN), GRU(2))
    module, cell = jaxrnn.linen.RNN(layer, return_carry=True), jaxrnn.linen.Cell(layer)
    variables = draw_variables(module, XS)
    expected, ys = module.apply(variables, XS)
    carry, one = cell.initialize_carry(KEY, (BATCH, INPUT)), []
    for t in range(TIME):
        carry, y = cell.apply(variables, carry, XS[:, t])
        one.append(y)
    assert_close((carry, jnp.stack(one, 1)), (expected, ys), rtol=1e-12)


def test_names_of_parameters():
    variables = draw_variables(jaxrnn.linen.RNN(Stack(Highway(LSTM(INPUT)), Bidirectional(GRU(2)))), XS)
    shapes = {path: leaf.shape for path, leaf in flatten_dict(variables["params"], sep="/").items()}
    lstm, gru = {"w_x": (3, 12), "w_h": (3, 12), "b": (12,)}, {"w_x": (3, 6), "w_h": (2, 6), "b": (6,), "b_n": (2,)}
    highway = {"layer": lstm, "w": (3, 3), "b": (3,)}
    assert shapes == flatten_dict({"layers_0": highway, "layers_1": {"forward": gru, "backward": gru}}, sep="/")


def test_dicts_of_parameters():
    params = DEEP.init(KEY, INPUT)
    tree = jaxrnn.linen.to_dict(params)
    assert_close(jaxrnn.linen.from_dict(tree, params), params)
    assert jaxrnn.linen.to_dict(jnp.ones(2)).keys() == {"w"}
    module = jaxrnn.linen.RNN(DEEP)
    expected = jaxrnn.unroll(DEEP, params, XS.swapaxes(0, 1))[1]
    assert_close(module.apply({"params": tree}, XS).swapaxes(0, 1), expected, rtol=1e-12)
    del tree["layers_2"]["forward"]["w_h"]
    with pytest.raises(ValueError, match=r"must hold layers_2/forward/w_h, but there is no 'w_h' in \['w_x', 'b', "):
        module.apply({"params": tree}, XS)


def test_serialization_and_tabulate():
    module = jaxrnn.linen.RNN(DEEP)
    variables = draw_variables(module, XS)
    blank = jax.tree.map(jnp.zeros_like, variables)
    restored = flax.serialization.from_bytes(blank, flax.serialization.to_bytes(variables))
    assert_close(restored, variables)
    assert_close(flax.serialization.from_state_dict(blank, flax.serialization.to_state_dict(variables)), variables)
    again = pickle.loads(pickle.dumps(module))
    assert again == module
    assert hash(again) == hash(jaxrnn.linen.RNN(Stack(LSTM(HIDDEN), Dropout(0.5), Bidirectional(GRU(2)))))
    text = module.tabulate(KEY, XS, console_kwargs={"width": 200, "no_color": True})
    for words in ("layers_0", "w_x", "[3,16]", "forward", "Total Parameters: 216"):
        assert words in text, text


def test_training_with_a_mask_by_path():
    """Weight decay applies to matrices only, and recurrent ones stay unchanged; a plain `jit` covers the module."""
    module = jaxrnn.linen.RNN(Stack(LSTM(HIDDEN), GRU(2)))
    params = module.init(KEY, XS)["params"]
    labels = path_aware_map(lambda path, _: "frozen" if path[-1] == "w_h" else "trained", params)
    mask = path_aware_map(lambda path, _: path[-1].startswith("w"), params)
    decay = optax.masked(optax.add_decayed_weights(0.1), mask)
    train = optax.chain(decay, optax.adam(1e-2))
    optimizer = optax.multi_transform({"frozen": optax.set_to_zero(), "trained": train}, labels)

    @jax.jit
    def update(params, state):
        loss, grads = jax.value_and_grad(lambda p: (module.apply({"params": p}, XS) ** 2).mean())(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    start, state, losses = params, optimizer.init(params), []
    for _ in range(10):
        params, state, loss = update(params, state)
        losses.append(loss)
    assert losses[-1] < losses[0]
    same = jax.tree.map(lambda a, b: bool((a == b).all()), start, params)
    assert same == path_aware_map(lambda path, _: path[-1] == "w_h", params)


def test_dropout_needs_its_rng():
    module = jaxrnn.linen.RNN(Stack(LSTM(HIDDEN), Dropout(0.5)))
    variables = draw_variables(module, XS)
    one, two = (module.apply(variables, XS, rngs={"dropout": jax.random.key(n)}) for n in range(2))
    off = module.apply(variables, XS)
    assert 0.2 < (one == 0).mean() < 0.8
    assert (one != two).any()
    assert_close(off, module.apply(variables, XS))
    assert_close(jnp.where(one == 0, 0, off * 2), one, rtol=1e-12)


def test_dropout_in_flax_rnn():
    cell = jaxrnn.linen.Cell(Stack(LSTM(HIDDEN), Dropout(0.5)))
    module = nn.RNN(cell, split_rngs={"params": False, "dropout": True})
    variables = module.init(KEY, XS)
    ys = module.apply(variables, XS, rngs={"dropout": KEY})
    assert ((ys == 0)[:, 0] != (ys == 0)[:, 1]).any()
    assert not (module.apply(variables, XS) == 0).any()


def test_symbols():
    symbols = np.array([[0, 4, 1], [2, 2, 3]])
    for layer in (LSTM(HIDDEN), Stack(Embedding(2), LSTM(HIDDEN))):
        module = jaxrnn.linen.RNN(layer, input_size=5)
        variables = draw_variables(module, symbols)
        one_hot = jax.nn.one_hot(symbols, 5)
        assert_close(apply(module, variables, symbols), apply(module, variables, one_hot), rtol=1e-12)
    with pytest.raises(
        ValueError, match=r"cannot be inferred from integer inputs: pass it, as in RNN\(layer, input_si"
    ):
        jaxrnn.linen.RNN(LSTM(HIDDEN)).init(KEY, symbols)
    cell = jaxrnn.linen.Cell(LSTM(HIDDEN), input_size=5)
    carry = cell.initialize_carry(KEY, (2, 5))
    assert cell.init_with_output(KEY, carry, symbols[:, 0])[0][1].shape == (2, HIDDEN)
    with pytest.raises(ValueError, match=r"state must have the shapes"):  # Flax would take the batch for the time
        nn.RNN(cell).init(KEY, symbols)


def test_dtypes():
    module = jaxrnn.linen.RNN(LSTM(HIDDEN), dtype=jnp.bfloat16, param_dtype=jnp.float32, return_carry=True)
    variables = draw_variables(module, XS)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    state, ys = apply(module, variables, XS)
    assert state.c.dtype == ys.dtype == jnp.bfloat16
    carry = jaxrnn.cells.LSTMState(*jnp.zeros((2, BATCH, HIDDEN), jnp.float32))
    state, ys = apply(module, variables, XS, initial_carry=carry)
    assert (state.c.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)
    ys = jax.eval_shape(nn.RNN(jaxrnn.linen.Cell(LSTM(HIDDEN), dtype=jnp.bfloat16)).init_with_output, KEY, XS)[0]
    assert ys.dtype == jnp.bfloat16
    assert jax.eval_shape(jaxrnn.linen.RNN(LSTM(HIDDEN)).init_with_output, KEY, XS)[0].dtype == jnp.float64


def test_loop_is_the_one_given():
    class CalledError(Exception):
        pass

    class Loop(jaxrnn.loops.Loop):
        def __call__(self, cell, params, steps, state):
            raise CalledError

    with pytest.raises(CalledError):
        jaxrnn.linen.RNN(LSTM(HIDDEN), loop=Loop()).init(KEY, XS)


@pytest.mark.slow
def test_under_flax_transformations():
    """A batch of models by vmap, rematerialization, and layers by scan."""
    module = jaxrnn.linen.RNN(LSTM(INPUT))
    many = nn.vmap(
        jaxrnn.linen.RNN, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=2
    )(LSTM(INPUT))
    variables = jax.jit(many.init)(KEY, XS)
    assert (variables["params"]["w_x"][0] != variables["params"]["w_x"][1]).any()
    one = [apply(module, jax.tree.map(lambda leaf, n=n: leaf[n], variables), XS) for n in range(2)]
    assert_close(apply(many, variables, XS), jnp.stack(one), rtol=1e-12)

    class Deep(nn.Module):
        @nn.compact
        def __call__(self, xs):
            layers = nn.scan(
                lambda layer, xs, _: (layer(xs), None),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=2,
            )
            return layers(nn.remat(jaxrnn.linen.RNN)(LSTM(INPUT), name="rnn"), xs, None)[0]

    ys, variables = jax.jit(Deep().init_with_output)(KEY, XS)
    first, second = (jax.tree.map(lambda leaf, n=n: leaf[n], variables["params"]["rnn"]) for n in range(2))
    expected = apply(module, {"params": second}, apply(module, {"params": first}, XS))
    assert_close(ys, expected, rtol=1e-12)
    assert_close(
        jax.jit(jax.grad(lambda v: Deep().apply(v, XS).sum()))(variables)["params"]["rnn"]["b"][1],
        jax.jit(jax.grad(lambda p: apply(module, {"params": p}, apply(module, {"params": first}, XS)).sum()))(second)[
            "b"
        ],
        rtol=1e-9,
    )


def test_errors():
    with pytest.raises(
        TypeError,
        match=r"RNN wraps a jaxrnn layer or a Flax linen cell, but it was given <class .*: did you mean LSTM\(\.\.\.\)",
    ):
        jaxrnn.linen.RNN(LSTM)
    with pytest.raises(TypeError, match=r"Cell wraps a jaxrnn layer, but it was given 4"):
        jaxrnn.linen.Cell(4)
    with pytest.raises(TypeError, match=r"Cell runs one step at a time, but Bidirectional.* reads the future: wrap"):
        jaxrnn.linen.Cell(Bidirectional(LSTM(HIDDEN)))
    message = (
        r"'s input_size must be a positive integer \(or a tuple of them, one for each feature axis\), but it is -1"
    )
    for kind in (jaxrnn.linen.RNN, jaxrnn.linen.Cell):
        with pytest.raises(ValueError, match=kind.__name__ + message):
            kind(LSTM(HIDDEN), -1)
    module = jaxrnn.linen.RNN(LSTM(HIDDEN))
    with pytest.raises(
        ValueError, match=r"inputs must have the axes \[\*batch, time, features\].* is \(3,\): add the m"
    ):
        module.init(KEY, XS[0, 0])
    with pytest.raises(ValueError, match=r"resets must have the shape \[\*batch, time\] = \(3, 5\), not \(5, 3\)"):
        module.init(KEY, XS, resets=RESETS.T)


@pytest.mark.parametrize("time_major", [False, True], ids=["batch-major", "time-major"])
def test_a_mask_of_missing_steps(time_major):
    """Of a layer, a Flax cell, and both directions; missing inputs, even NaN, are never read."""
    mask = np.array([[0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0]], bool)
    xs = np.where(mask[..., None], XS, np.nan)
    arrange = (lambda x: np.swapaxes(x, 0, 1)) if time_major else (lambda x: x)
    call = {"mask": arrange(mask), "time_major": time_major}
    params = {"params": draw_variables(jaxrnn.linen.RNN(LSTM(HIDDEN)), XS)["params"]}
    layer_params = jaxrnn.linen.from_dict(params["params"], LSTM(HIDDEN).init(KEY, INPUT))
    _, expected = jaxrnn.unroll(LSTM(HIDDEN), layer_params, xs.swapaxes(0, 1), mask=mask.T)
    ys = jaxrnn.linen.RNN(LSTM(HIDDEN)).apply(params, arrange(xs), **call)
    assert_close(arrange(ys), expected.swapaxes(0, 1))
    for module in (
        jaxrnn.linen.RNN(nn.SimpleCell(HIDDEN, **FLAX)),
        jaxrnn.linen.Bidirectional(jaxrnn.linen.RNN(GRU(2)), jaxrnn.linen.RNN(LSTM(2))),
    ):
        variables = draw_variables(module, XS)
        ys = module.apply(variables, arrange(xs), **call)
        for n, steps in enumerate(mask):
            alone = module.apply(variables, XS[n : n + 1, steps])
            assert_close(arrange(ys)[n, steps], alone[0])
            assert not arrange(ys)[n, ~steps].any()
