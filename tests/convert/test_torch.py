"""Weights of PyTorch in and out: every array bit for bit, and the same function and gradients as PyTorch's module."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Dense, Dropout, Elman, ProjectedLSTM, Stack, Using, loops
from jaxrnn.convert import from_torch, to_torch
from tests.support.cases import selected_layers
from tests.support.comparisons import assert_close
from tests.support.inputs import draw, draw_params
from tests.support.tiers import slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")
ALL = selected_layers()
INPUT, HIDDEN, PROJ = 3, 4, 2
GATES = {"tanh": 1, "relu": 1, "GRU": 3, "LSTM": 4, "LSTMP": 4}
CELLS = {
    "tanh": Elman(HIDDEN),
    "relu": Elman(HIDDEN, activation=jax.nn.relu),
    "GRU": GRU(HIDDEN),
    "LSTM": LSTM(HIDDEN),
    "LSTMP": ProjectedLSTM(HIDDEN, PROJ),
}
DTYPES = {"float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": jnp.bfloat16}
over_kinds = pytest.mark.parametrize("kind", GATES)


def numbers(seed, shape, dtype):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def state_dict_of(kind, layers, directions, bias, dtype=np.float64, cell=False):
    """Names and shapes as the documentation of `nn.RNN`, `nn.LSTM` and `nn.GRU` gives them."""
    made, rows, out = {}, GATES[kind] * HIDDEN, PROJ if kind == "LSTMP" else HIDDEN
    for k in range(layers):
        for suffix in [f"_l{k}", f"_l{k}_reverse"][:directions]:
            shapes = {"weight_ih": (rows, directions * out if k else INPUT), "weight_hh": (rows, out)}
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
            shapes |= {"weight_hr": (PROJ, HIDDEN)} if kind == "LSTMP" else {}
            for name, shape in shapes.items():
                made[name + ("" if cell else suffix)] = numbers(len(made), shape, dtype)
    return made


def convert(kind, state_dict, **how):
    return from_torch(state_dict, nonlinearity="relu" if kind == "relu" else "tanh", **how)


def bits(array):
    array = np.asarray(array)
    return array.view(f"u{array.itemsize}")


def merged(state_dict, name, kind):
    """The two biases as one, and the GRU's inside the reset apart, one gate after the other."""
    x, h = (state_dict[name.replace("ih", part)] for part in ("ih", "hh"))
    if kind != "GRU":
        return [x + h]
    return [x[:HIDDEN] + h[:HIDDEN], x[HIDDEN:-HIDDEN] + h[HIDDEN:-HIDDEN], x[-HIDDEN:], h[-HIDDEN:]]


@settings(max_examples=30)
@given(
    st.sampled_from(sorted(GATES)),
    st.integers(1, 3),
    st.integers(1, 2),
    st.booleans(),
    st.sampled_from(sorted(DTYPES)),
    st.sampled_from(["", "encoder.rnn."]),
)
@example("GRU", 3, 2, True, "bfloat16", "encoder.rnn.")
def test_arrays_come_back_as_they_were(kind, layers, directions, bias, dtype, prefix):
    given = state_dict_of(kind, layers, directions, bias, DTYPES[dtype])
    larger = {prefix + name: w for name, w in given.items()} | ({"head.weight": np.zeros(2)} if prefix else {})
    layer, params = convert(kind, larger, prefix=prefix)
    one = CELLS[kind] if directions == 1 else Bidirectional(CELLS[kind])
    assert layer == (one if layers == 1 else Stack(*[one] * layers))
    expected = jax.eval_shape(lambda key: layer.init(key, INPUT), jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, expected)
    assert all(isinstance(leaf, jax.Array) and leaf.dtype == dtype for leaf in jax.tree.leaves(params))

    back = to_torch(layer, params, prefix=prefix, bias=bias)
    assert sorted(back) == sorted(prefix + name for name in given)
    for name, w in given.items():
        returned = back[prefix + name]
        assert (returned.dtype, returned.shape) == (w.dtype, w.shape)
        assert returned.flags.c_contiguous and returned.flags.writeable  # noqa: PT018, what torch.from_numpy wants
        if "weight" in name:
            np.testing.assert_array_equal(bits(returned), bits(w))
        elif "bias_ih" in name:
            same = {n.removeprefix(prefix): w for n, w in back.items()}
            for one, other in zip(merged(same, name, kind), merged(given, name, kind), strict=True):
                np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(same[name.replace("ih", "hh")][: -HIDDEN if kind == "GRU" else None], 0)

    again = from_torch(back, nonlinearity="relu" if kind == "relu" else "tanh", prefix=prefix)
    assert again[0] == layer
    assert jax.tree.structure(again[1]) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, again[1], params)


@over_kinds
def test_a_layer_comes_back(kind):
    layer = Stack(Bidirectional(CELLS[kind]), Dropout(0.3), Bidirectional(CELLS[kind]))
    params = draw_params(layer)
    again, same = convert(kind, to_torch(layer, params), dropout=0.3)
    assert again == layer
    assert jax.tree.structure(same) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, same, params)


def test_what_only_says_how_to_run_or_begin_changes_nothing():
    cell, other = LSTM(4), LSTM(4, forget_bias=jaxrnn.Chrono(9.0))
    layer = Stack(
        Stack(Bidirectional(cell, backward=other)), Using(Bidirectional(Using(cell, loops.Scan())), loops.Scan())
    )
    plain = Stack(Bidirectional(cell), Bidirectional(cell))
    params = draw_params(plain)
    one, two = params
    nested = to_torch(layer, ((one,), two))
    for name, w in to_torch(plain, params).items():
        np.testing.assert_array_equal(nested.pop(name), w)
    assert not nested


def test_fields_that_are_initial_values_are_the_defaults():
    layer = LSTM(4, forget_bias=7.0)
    again, _ = from_torch(to_torch(layer, draw_params(layer)))
    assert again == LSTM(4)


def test_biases_that_are_none_are_zero():
    _, params = from_torch(state_dict_of("GRU", 1, 1, bias=False, dtype=np.float32))
    for b, size in [(params.b, 3 * HIDDEN), (params.b_n, HIDDEN)]:
        np.testing.assert_array_equal(b, np.zeros(size))
        assert b.dtype == np.float32


def test_later_changes_of_the_weights_do_not_reach_the_parameters():
    big = np.ones((4 * 64, 64), np.float32)
    given = {"weight_ih": big.T.copy().T, "weight_hh": big.T.copy().T, "bias_ih": big[:, 0], "bias_hh": 0 * big[:, 0]}
    _, params = from_torch(given)
    for w in given.values():
        w[:] = 5
    assert all((np.asarray(leaf) == 1).all() for leaf in params)


# ---- what is refused -------------------------------------------------------------------------------------------------

LSTM_WEIGHTS = state_dict_of("LSTM", 2, 2, True)


def without(*names, **others):
    return from_torch({name: w for name, w in (LSTM_WEIGHTS | others).items() if name not in names})


def written(layer, params=None, **how):
    return to_torch(layer, draw_params(layer) if params is None else params, **how)


def narrow(state_dict):
    with jax.enable_x64(False):
        return from_torch(state_dict)


ERRORS = {
    "no mapping": (
        TypeError,
        "state_dict must be a mapping of names to arrays, but it is list",
        lambda: from_torch([*LSTM_WEIGHTS]),
    ),
    "nothing": (
        ValueError,
        r"state_dict must hold the weights of one recurrent module .* of recurrent weights are \[\]",
        lambda: from_torch({}),
    ),
    "more than a layer": (
        ValueError,
        r"state_dict must hold the weights of one recurrent module .* of recurrent weights are \['rnn\.'\]",
        lambda: from_torch({"rnn.weight_hh_l0": 0, "fc.w": 0}),
    ),
    "another prefix": (
        ValueError,
        r"state_dict must hold the weights of one recurrent module .* recurrent weights are \['', 'a\.'\]",
        lambda: from_torch({"a.bias_ih": 0, "weight_hh_l1_reverse": 0}, prefix="gru"),
    ),
    "a cell and a layer": (
        ValueError,
        r"state_dict must hold the weights of one recurrent module .* of recurrent weights are \[''\]",
        lambda: without(weight_ih=np.zeros((4, 4))),
    ),
    "missing": (
        ValueError,
        "state_dict must also hold weight_hh_l1_reverse, because .* bias_hh_l1_reverse",
        lambda: without("weight_hh_l1_reverse"),
    ),
    "missing bias": (
        ValueError,
        "state_dict must also hold bias_hh_l0, because it holds .* bias_hh_l1_reverse",
        lambda: without("bias_hh_l0"),
    ),
    "missing layer": (
        ValueError,
        "state_dict must also hold weight_ih_l1, weight_hh_l1, .* weight_hh_l2_reverse",
        lambda: from_torch(
            {
                f"{part}_l{n}{end}": np.zeros((4, 4))
                for part in ("weight_ih", "weight_hh")
                for n in (0, 2)
                for end in ("", "_reverse")
            }
        ),
    ),
    "missing first": (
        ValueError,
        "state_dict must also hold weight_ih_l0, weight_hh_l0, .* holds weight_ih_l3, weight_hh_l3",
        lambda: from_torch({"weight_ih_l3": np.zeros((4, 4)), "weight_hh_l3": np.zeros((4, 4))}),
    ),
    "missing projection": (
        ValueError,
        "state_dict must also hold weight_hr_l1, because it holds .* weight_ih_l1, weight_hh_l1",
        lambda: from_torch(
            {name: w for name, w in state_dict_of("LSTMP", 2, 1, False).items() if name != "weight_hr_l1"}
        ),
    ),
    "a shape": (
        ValueError,
        r"weight_ih_l1 must have the shape \(16, 8\), but it has \(16, 7\)$",
        lambda: without(weight_ih_l1=np.zeros((16, 7))),
    ),
    "a bias' shape": (
        ValueError,
        r"bias_hh_l1_reverse must have the shape \(16,\), but it has \(16, 1\)$",
        lambda: without(bias_hh_l1_reverse=np.zeros((16, 1))),
    ),
    "another kind above": (
        ValueError,
        r"weight_hh_l1 must have the shape \(16, 4\), but it has \(12, 4\)$",
        lambda: without(weight_hh_l1=np.zeros((12, 4))),
    ),
    "the other direction's projection": (
        ValueError,
        r"weight_hr_l0_reverse must have the shape \(2, 4\), but it has \(3, 4\)$",
        lambda: from_torch(state_dict_of("LSTMP", 1, 2, False) | {"weight_hr_l0_reverse": np.zeros((3, 4))}),
    ),
    "no matrix": (
        ValueError,
        r"weights must be matrices \[rows, columns\], but .*'weight_hh': \(16,\)",
        lambda: without(weight_hh_l0=np.zeros(16)),
    ),
    "an empty matrix": (ValueError, "weights must be matrices", lambda: without(weight_hh_l0=np.zeros((16, 0)))),
    "two gates": (
        ValueError,
        r"weight_hh must have one row per gate and hidden unit, .* \(16, 3\), 'weight_hh': \(8, 4\)\}",
        lambda: without(weight_hh_l0=np.zeros((8, 4))),
    ),
    "a rest": (
        ValueError,
        r"weight_hh must have one row per gate and hidden unit, .* \(16, 3\), 'weight_hh': \(17, 4\)\}",
        lambda: without(weight_hh_l0=np.zeros((17, 4))),
    ),
    "a projected GRU": (
        ValueError,
        r"weight_hh must have one row per gate and hidden unit, .* \(12, 2\), 'weight_hr': \(2, 4\)\}",
        lambda: from_torch(
            state_dict_of("LSTMP", 1, 1, False) | {"weight_hh_l0": np.zeros((12, 2)), "weight_ih_l0": np.zeros((12, 3))}
        ),
    ),
    "integers": (
        TypeError,
        "weights must be arrays of floating-point numbers, but the dtype of bias_hh_l0 is int64$",
        lambda: without(bias_hh_l0=np.zeros(16, int)),
    ),
    "objects": (
        TypeError,
        "weights must be arrays of floating-point numbers, but the dtype of bias_hh_l0 is object$",
        lambda: without(bias_hh_l0=None),
    ),
    "float64": (ValueError, r"must keep their dtype float64.*jax_enable_x64", lambda: narrow(LSTM_WEIGHTS)),
    "nonlinearity": (
        ValueError,
        'nonlinearity must be "tanh" or "relu", but it is <',
        lambda: from_torch(LSTM_WEIGHTS, nonlinearity=np.tanh),
    ),
    "nonlinearity of an LSTM": (
        ValueError,
        r"nonlinearity is an option of nn\.RNN only, but the shapes .* those of nn\.LSTM: leave it out",
        lambda: from_torch(LSTM_WEIGHTS, nonlinearity="relu"),
    ),
    "dropout": (
        ValueError,
        r"dropout must be a number from 0 to below 1, but it is 1\.0$",
        lambda: from_torch(LSTM_WEIGHTS, dropout=1.0),
    ),
    "no layer": (TypeError, "layer must be a jaxrnn layer, but it is 3", lambda: written(3, ())),
    "a cell that PyTorch lacks": (
        TypeError,
        r"PeepholeLSTM\(hidden_size=4, forget_bias=1\.0\) cannot be .* its gates read the memory cell",
        lambda: written(jaxrnn.PeepholeLSTM(4)),
    ),
    "another GRU": (
        TypeError,
        r"ResetBeforeGRU\(hidden_size=4, keep_bias=0\.0\) cannot be .* recurrent product, not after it",
        lambda: written(jaxrnn.ResetBeforeGRU(4)),
    ),
    "a wrapper": (
        TypeError,
        r"Zoneout\(.* cannot be converted to PyTorch: convert its cell",
        lambda: written(jaxrnn.Zoneout(LSTM(4))),
    ),
    "a wrapper inside": (
        TypeError,
        r"Residual\(.* PyTorch: convert its layer",
        lambda: written(Stack(LSTM(3), jaxrnn.Residual(LSTM(3)))),
    ),
    "a stack in one direction": (
        TypeError,
        "PyTorch: convert each of its layers",
        lambda: written(Bidirectional(Stack(LSTM(3), LSTM(3)))),
    ),
    "a layer between": (
        TypeError,
        "PyTorch: only Elman, LSTM, ProjectedLSTM, GRU can",
        lambda: written(Stack(LSTM(3), Dense(3), LSTM(3))),
    ),
    "activation": (
        ValueError,
        r"PyTorch's nn\.RNN needs the activation jnp\.tanh or .* activation=sigmoid\)",
        lambda: written(Elman(3, activation=jax.nn.sigmoid)),
    ),
    "activations of an LSTM": (
        TypeError,
        r"LSTM\(.*, activation=relu\) cannot be converted to PyTorch: its activations must be jnp\.tanh and",
        lambda: written(LSTM(3, activation=jax.nn.relu)),
    ),
    "merge": (
        ValueError,
        r"PyTorch concatenates both directions, so merge must be .* backward=None, merge=add\)",
        lambda: written(Bidirectional(LSTM(4), merge=jnp.add)),
    ),
    "other sizes": (
        ValueError,
        r"PyTorch's modules have layers of one kind, size and .* forget_bias=1\.0\)\) differ",
        lambda: written(Stack(LSTM(4), LSTM(3))),
    ),
    "other kinds": (
        ValueError,
        r"PyTorch's modules have layers of one kind, size and .* merge=concat\) differ",
        lambda: written(Bidirectional(LSTM(4), backward=GRU(4))),
    ),
    "other activations": (
        ValueError,
        r"PyTorch's modules have layers of one kind, size and .* activation=relu\)\) differ",
        lambda: written(Stack(Elman(4), Elman(4, activation=jax.nn.relu))),
    ),
    "other projections": (
        ValueError,
        r"PyTorch's modules have layers of one kind, size and .* merge=concat\) differ",
        lambda: written(Bidirectional(ProjectedLSTM(4, 2), backward=ProjectedLSTM(4, 3))),
    ),
    "other directions": (
        ValueError,
        r"PyTorch's modules have layers of one kind, size and .* merge=concat\)\) differ",
        lambda: written(Stack(GRU(4), Bidirectional(GRU(4)))),
    ),
    "dropout first": (
        ValueError,
        "PyTorch's modules have one rate of dropout between all .* convert a Stack without it",
        lambda: written(Stack(Dropout(0.1), LSTM(4))),
    ),
    "dropout last": (
        ValueError,
        "PyTorch's modules have one rate of dropout between all .* convert a Stack without it",
        lambda: written(Stack(LSTM(4), Dropout(0.1))),
    ),
    "dropout alone": (
        ValueError,
        "PyTorch's modules have one rate of dropout between all .* convert a Stack without it",
        lambda: written(Dropout(0.1)),
    ),
    "dropout here and there": (
        ValueError,
        "PyTorch's modules have one rate of dropout between all .* convert a Stack without it",
        lambda: written(Stack(LSTM(4), Dropout(0.1), LSTM(4), LSTM(4))),
    ),
    "two dropouts": (
        ValueError,
        "PyTorch's modules have one rate of dropout between all .* convert a Stack without it",
        lambda: written(Stack(LSTM(4), Dropout(0.1), LSTM(4), Dropout(0.2), LSTM(4))),
    ),
    "shared dropout": (
        ValueError,
        "PyTorch's modules have one rate of dropout between all .* convert a Stack without it",
        lambda: written(Stack(LSTM(4), Dropout(0.1, shared=True), LSTM(4))),
    ),
    "a cell of two": (
        ValueError,
        r"cell=True needs a single layer in one direction without a .* update_bias=0\.0\)\)",
        lambda: written(Stack(GRU(4), GRU(4)), cell=True),
    ),
    "a cell of two directions": (ValueError, "PyTorch's cells are", lambda: written(Bidirectional(GRU(4)), cell=True)),
    "a cell with a projection": (ValueError, "PyTorch's cells are", lambda: written(ProjectedLSTM(4, 2), cell=True)),
    "biases": (
        ValueError,
        "bias=False needs biases that are all zero, but these are not: leave it out$",
        lambda: written(GRU(4), GRU(4).init(jax.random.key(0), 3)._replace(b_n=np.ones(4)), bias=False),
    ),
    "parameters": (
        ValueError,
        r"the parameters of LSTM\(.* must have the shapes",
        lambda: written(LSTM(4), draw_params(GRU(4))),
    ),
    "parameters of a stack": (
        ValueError,
        r"the parameters of Stack\(LSTM\(hidden_size=4, .* 16\), w_h=\(4, 16\), b=\(16,\)\),\)",
        lambda: written(Stack(LSTM(4), LSTM(4)), (draw_params(LSTM(4)),)),
    ),
    "parameters of two": (
        ValueError,
        r"the parameters of Bidirectional\(.* must be BidirectionalParams, but they are",
        lambda: written(Bidirectional(LSTM(4)), draw_params(LSTM(4))),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    kind, message, call = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("name", ALL)
def test_every_layer_is_converted_or_refused(name):
    if name in ("Elman", "LSTM", "ProjectedLSTM", "GRU"):
        assert written(ALL[name])
    elif name == "Using":
        assert written(ALL[name]).keys() == written(LSTM(4)).keys()
    else:
        with pytest.raises((TypeError, ValueError), match="PyTorch"):
            written(ALL[name])


# ---- against PyTorch -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def module_of(torch, kind, layers, directions, bias):
    options = {"tanh": {"nonlinearity": "tanh"}, "relu": {"nonlinearity": "relu"}, "LSTMP": {"proj_size": PROJ}}
    make = {"GRU": torch.nn.GRU, "LSTM": torch.nn.LSTM, "LSTMP": torch.nn.LSTM}.get(kind, torch.nn.RNN)
    options = options.get(kind, {}) | {"num_layers": layers, "bidirectional": directions == 2, "bias": bias}
    return make(INPUT, HIDDEN, **options).double()


def last_states(state):
    """The states in PyTorch's order: h [layers * directions, batch, size], and c of an LSTM."""
    cells = jax.tree.leaves(state, is_leaf=lambda node: hasattr(node, "h"))
    return [np.stack([getattr(cell, name) for cell in cells]) for name in cells[0]._fields]


unroll = jax.jit(partial(jaxrnn.unroll, loop=loops.Scan()), static_argnums=0)


@partial(jax.jit, static_argnums=0)
def value_and_gradients(layer, params, xs, weights):
    def loss(params, xs):
        state, ys = unroll(layer, params, xs)
        return (ys * weights).sum(), (state, ys)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, xs)


@settings(max_examples=2)
@given(st.integers(1, 3), st.integers(1, 2), st.booleans())
@example(2, 2, True)
@pytest.mark.parametrize("kind", slow_but(GATES, ["LSTM"]))
def test_same_values_and_gradients_as_pytorch(torch, kind, layers, directions, bias):
    module = module_of(torch, kind, layers, directions, bias)
    weights = {name: torch.tensor(0.5 * w) for name, w in state_dict_of(kind, layers, directions, bias).items()}
    module.load_state_dict(weights)
    layer, params = convert(kind, module.state_dict())
    xs = draw(4, 2, INPUT)
    tensor = torch.tensor(xs, requires_grad=True)
    expected, last = module(tensor)
    cosines = np.cos(1 + np.arange(expected.numel())).reshape(expected.shape)
    (expected * torch.tensor(cosines)).sum().backward()

    (_, (state, ys)), (grads, grad_xs) = value_and_gradients(layer, params, xs, cosines)
    assert_close(ys, expected.detach().numpy(), rtol=1e-11)
    last = last if isinstance(last, tuple) else (last,)
    assert_close(last_states(state), [leaf.detach().numpy() for leaf in last], rtol=1e-11)
    assert_close(grad_xs, tensor.grad.numpy(), rtol=1e-11)
    ours = to_torch(layer, grads)
    for name, parameter in module.named_parameters():
        there, here = parameter.grad.numpy(), ours[name]
        if "bias_hh" in name:  # that of one bias, and of the GRU's two of its last gate each its own
            there, here = (
                (there[-HIDDEN:], here[-HIDDEN:]) if kind == "GRU" else (there, ours[name.replace("hh", "ih")])
            )
        assert_close(here, there, rtol=1e-10)


@over_kinds
def test_pytorch_takes_our_weights(torch, kind):
    layer = Stack(*[Bidirectional(CELLS[kind])] * 2)
    params, xs = draw_params(layer), draw(3, 2, INPUT)
    module = module_of(torch, kind, 2, 2, True)
    module.load_state_dict({name: torch.from_numpy(w) for name, w in to_torch(layer, params).items()})
    assert_close(unroll(layer, params, xs)[1], module(torch.tensor(xs))[0].detach().numpy(), rtol=1e-11)
    silent = jax.tree.map(lambda leaf: leaf * (leaf.ndim > 1), params)
    module = module_of(torch, kind, 2, 2, False)
    module.load_state_dict({n: torch.from_numpy(w) for n, w in to_torch(layer, silent, bias=False).items()})
    assert_close(unroll(layer, silent, xs)[1], module(torch.tensor(xs))[0].detach().numpy(), rtol=1e-11)


@pytest.mark.parametrize("kind", slow_but(["tanh", "relu", "LSTM", "GRU"], ["LSTM"]))
def test_cells_of_pytorch(torch, kind):
    make = {"LSTM": torch.nn.LSTMCell, "GRU": torch.nn.GRUCell}.get(kind, partial(torch.nn.RNNCell, nonlinearity=kind))
    module = make(INPUT, HIDDEN).double()
    layer, params = convert(kind, module.state_dict())
    assert layer == CELLS[kind]
    x, state = draw(2, INPUT), tuple(draw(2, HIDDEN, seed=n) for n in range(2 if kind == "LSTM" else 1))
    tensors = [torch.tensor(leaf) for leaf in state]
    new = module(torch.tensor(x), tuple(tensors) if kind == "LSTM" else tensors[0])
    new = new if isinstance(new, tuple) else (new,)
    ours, _ = jaxrnn.step(layer, params, type(layer.initial_state(params))(*state), x)
    assert_close(ours, [leaf.detach().numpy() for leaf in new], rtol=1e-11)
    names = to_torch(layer, params, cell=True)
    assert module.load_state_dict({name: torch.from_numpy(w) for name, w in names.items()})


def test_tensors_of_any_kind(torch):
    """Those that ask for gradients, and bfloat16, of which PyTorch makes no NumPy array."""
    module = torch.nn.GRU(INPUT, HIDDEN).bfloat16()
    _, params = from_torch(dict(module.named_parameters()))
    assert {leaf.dtype for leaf in params} == {jnp.dtype("bfloat16")}
    for ours, tensor in [(params.w_x, module.weight_ih_l0), (params.w_h, module.weight_hh_l0)]:
        np.testing.assert_array_equal(ours.astype("float64").T, tensor.detach().double().numpy())
    assert params.b_n.astype("float64").tolist() == module.bias_hh_l0[-HIDDEN:].tolist()
