"""Weights of Flax' cells, linen and nnx: values and gradients through the conversion, and the way back bit for bit."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Elman, ResetAfterMGU, unroll
from jaxrnn.convert import from_linen, from_nnx, to_linen, to_nnx
from jaxrnn.convert._gates import reorder_gates
from tests.support.comparisons import assert_close, to_numpy
from tests.support.conversions import assert_same, other_weights, params_of, step_and_gradients
from tests.support.inputs import draw
from tests.support.messages import raises, untested
from tests.support.tiers import slow, slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")
nn = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")

LINEN = {
    "SimpleCell": Elman,
    "LSTMCell": LSTM,
    "OptimizedLSTMCell": LSTM,
    "GRUCell": GRU,
    "MGUCell": ResetAfterMGU,
}
NNX = {name: kind for name, kind in LINEN.items() if name != "MGUCell"}
BATCH, TIME = 2, 4
sizes = st.integers(1, 3)


def weights_of(module, *args):
    return other_weights(jax.eval_shape(module.init, jax.random.key(0), *args))


def ours(convert):
    """Our step from Flax' weights and its carry: (c, h), or (h,) here where Flax has h."""

    def run(tree, carry, x):
        layer, params = convert(tree)
        state = type(layer.initial_state(params))(*reversed(carry))
        return tuple(reversed(layer(params, state, x)[0]))

    return run


def carry_of(kind, hidden):
    return tuple(draw(BATCH, hidden, seed=n) for n in range(2 if kind is LSTM else 1))


def plain(carry):
    return carry if len(carry) == 2 else carry[0]


def run_batch_first(layer, params, xs):
    return unroll(layer, params, xs.swapaxes(0, 1))[1].swapaxes(0, 1)


# ---- linen -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", slow_but(LINEN, ["LSTMCell"]))
@settings(max_examples=2)
@given(sizes, sizes)
def test_linen(name, input_size, hidden):
    cell, kind = getattr(nn, name)(hidden, param_dtype=jnp.float64), LINEN[name]
    carry, x = carry_of(kind, hidden), draw(BATCH, input_size)
    tree = weights_of(cell, plain(carry), x)["params"]

    def theirs(tree, carry, x):
        last, _ = cell.apply({"params": tree}, plain(carry), x)
        return last if kind is LSTM else (last,)

    args = tree, carry, x
    assert_close(step_and_gradients(ours(from_linen), *args), step_and_gradients(theirs, *args), rtol=1e-11)
    layer, params = from_linen(tree)
    assert type(layer) is kind
    assert_same(to_linen(layer, params), tree)


@pytest.mark.parametrize("names", [("LSTMCell", "GRUCell"), slow(("MGUCell", "MGUCell")), slow(("SimpleCell",))])
def test_linen_rnn_and_bidirectional(names):
    rnns = [nn.RNN(getattr(nn, name)(3, param_dtype=jnp.float64)) for name in names]
    module = nn.Bidirectional(*rnns) if len(rnns) > 1 else rnns[0]
    xs = draw(BATCH, TIME, 2)
    variables = weights_of(module, xs)
    layer, params = from_linen(variables)
    assert isinstance(layer, Bidirectional) == (len(rnns) > 1)
    assert_close(run_batch_first(layer, params, xs), module.apply(variables, xs), rtol=1e-11)
    tree = to_linen(layer, params)
    assert_same({"params": tree if len(rnns) > 1 else {"cell": tree}}, variables)
    if len(rnns) > 1:
        assert (layer.backward is None) == (names[0] == names[1])


@pytest.mark.parametrize("name", slow_but(LINEN, ["LSTMCell"]))
def test_linen_finds_a_cell_by_the_name_that_flax_gives_it(name):
    class Model(nn.Module):
        @nn.compact
        def __call__(self, xs):
            return nn.RNN(getattr(nn, name)(3))(xs)

    class Scan(nn.Module):
        @nn.compact
        def __call__(self, xs):
            scan = nn.scan(getattr(nn, name), variable_broadcast="params", split_rngs={"params": False}, in_axes=1)
            cell = scan(3)
            return cell(cell.initialize_carry(jax.random.key(0), xs[:, 0].shape), xs)

    xs = jnp.asarray(draw(BATCH, TIME, 2), jnp.float32)
    for module, above in ((Model(), f"{name}_0"), (Scan(), f"Scan{name}_0")):
        variables = weights_of(module, xs)
        assert [*variables["params"]] == [above]
        layer, params = from_linen(variables)
        assert_same(to_linen(layer, params), variables["params"][above])


def test_linen_options_that_names_do_not_tell():
    xs = draw(BATCH, TIME, 3)
    cell = nn.SimpleCell(3, activation_fn=nn.relu, residual=True, param_dtype=jnp.float64)
    module = nn.RNN(cell)
    variables = weights_of(module, xs)
    layer, params = from_linen(variables)
    layer = dataclasses.replace(layer, activation=jax.nn.relu)
    params = params._replace(w_h=params.w_h + jnp.eye(3))
    assert_close(run_batch_first(layer, params, xs), module.apply(variables, xs), rtol=1e-11)


def test_linen_boxes_of_metadata():
    xs = jnp.asarray(draw(BATCH, TIME, 2), jnp.float32)
    cell = nn.GRUCell(3, kernel_init=nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model")))
    variables = weights_of(nn.RNN(cell), xs)
    assert isinstance(variables["params"]["cell"]["in"]["kernel"], nn.Partitioned)
    assert_same(from_linen(variables)[1], from_linen(nn.meta.unbox(variables))[1])


# ---- nnx -------------------------------------------------------------------------------------------------------------


def nnx_cell(name, input_size, hidden):
    zeros = jax.nn.initializers.zeros  # quick
    how = {"kernel_init": zeros, "recurrent_kernel_init": zeros, "dtype": jnp.float64, "param_dtype": jnp.float64}
    return getattr(nnx, name)(input_size, hidden, **how, rngs=nnx.Rngs(0))


def nnx_module(names, input_size, hidden):
    rnns = [nnx.RNN(nnx_cell(name, input_size, hidden), rngs=nnx.Rngs(0)) for name in names]
    return nnx.Bidirectional(*rnns, rngs=nnx.Rngs(0)) if len(rnns) > 1 else rnns[0]


@pytest.mark.parametrize("name", slow_but(NNX, ["GRUCell"]))
@settings(max_examples=2)
@given(sizes, sizes)
def test_nnx(name, input_size, hidden):
    graph, state = nnx.split(nnx_cell(name, input_size, hidden))
    kind, state = NNX[name], other_weights(state)

    def theirs(state, carry, x):
        last, _ = nnx.merge(graph, state)(plain(carry), x)
        return last if kind is LSTM else (last,)

    args = state, carry_of(kind, hidden), draw(BATCH, input_size)
    assert_close(step_and_gradients(ours(from_nnx), *args), step_and_gradients(theirs, *args), rtol=1e-11)
    layer, params = from_nnx(state)
    assert type(layer) is kind
    tree = nnx.to_pure_dict(state)
    assert_same(from_nnx(tree), (layer, params))
    assert_same(to_nnx(layer, params, optimized=name == "OptimizedLSTMCell"), tree)


@pytest.mark.parametrize(
    "names", [("LSTMCell", "GRUCell"), slow(("OptimizedLSTMCell", "SimpleCell")), slow(("GRUCell",))]
)
def test_nnx_rnn_and_bidirectional(names):
    module = nnx_module(names, 2, 3)
    params, rest = nnx.state(module, nnx.Param), nnx.state(module, nnx.RngState)
    nnx.update(module, other_weights(params))
    assert jax.tree.leaves(rest)  # of random numbers: not weights
    layer, params = from_nnx(nnx.state(module))
    xs = draw(BATCH, TIME, 2)
    assert_close(run_batch_first(layer, params, xs), module(xs), rtol=1e-11)

    tree, other = to_nnx(layer, params, optimized="OptimizedLSTMCell" in names), nnx_module(names, 2, 3)
    nnx.update(other, tree if len(names) > 1 else {"cell": tree})
    assert_same(nnx.to_pure_dict(nnx.state(other, nnx.Param)), nnx.to_pure_dict(nnx.state(module, nnx.Param)))


# ---- what both keep and refuse ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [slow(jnp.float16), jnp.bfloat16, slow(jnp.float32), jnp.float64])
@pytest.mark.parametrize("kind", slow_but(dict.fromkeys(LINEN.values()), [LSTM]))
def test_dtypes_are_kept(kind, dtype):
    layer = kind(3)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params_of(layer))
    assert_same(from_linen(to_linen(layer, params)), (layer, params))
    assert_same(from_linen(to_numpy(to_linen(layer, params))), (layer, params))
    if kind is not ResetAfterMGU:
        params = params._replace(b_n=jnp.zeros(3, dtype)) if kind is GRU else params
        for optimized in (False, True):
            assert_same(from_nnx(to_nnx(layer, params, optimized=optimized)), (layer, params))


def tree_of(layer):
    return to_linen(layer, params_of(layer))


def refuse(convert, layer):
    return lambda: convert(layer, params_of(layer))


def without_x64():
    tree = to_numpy(tree_of(Elman(2)))
    with jax.enable_x64(False):
        return from_linen(tree)


def odd_gates():
    params = params_of(LSTM(2))
    return reorder_gates(params.b[:-1], (0, 2, 1, 3))


def no_reset():
    return weights_of(nn.RNN(nn.MGUCell(2, reset_gate=False, param_dtype=jnp.float64)), draw(1, 2, 2))


ERRORS = {
    "no tree": (
        TypeError,
        "weights must be a tree of names and arrays, as returned by .*, but they are of type int$",
        lambda: from_linen(3),
    ),
    "a module": (TypeError, "but they are of type GRUCell$", lambda: from_nnx(nnx_cell("GRUCell", 2, 2))),
    "float64": (ValueError, "must keep their dtype float64, but JAX would make them float32: call jax", without_x64),
    "odd gates": (ValueError, r"must have 4 gates of one size .* but their shape is \(7,\)", odd_gates),
    "two cells": (
        ValueError,
        "weights must be those of one SimpleCell, LSTMCell, .* give the tree of a single layer",
        lambda: from_linen({"SimpleCell_0": tree_of(Elman(2)), "SimpleCell_1": tree_of(Elman(2))}),
    ),
    "a dense layer": (
        ValueError,
        "weights must be those of one SimpleCell, LSTMCell, .* give the tree of a single layer",
        lambda: from_linen({"params": {"dense": {"kernel": np.zeros((2, 3))}}}),
    ),
    "nnx, no cell's width": (
        ValueError,
        r"must be those of one .*'dense_h/kernel': \(2, 4\)",
        lambda: from_nnx(
            {"dense_i": dict.fromkeys(["kernel", "bias"], np.zeros((2, 4))), "dense_h": {"kernel": np.zeros((2, 4))}}
        ),
    ),
    "nnx, nothing": (
        ValueError,
        "weights must be those of one SimpleCell, LSTMCell, .* give the tree of a single layer",
        lambda: from_nnx({}),
    ),
    "one direction": (
        ValueError,
        "the tree of a Bidirectional must hold forward_rnn and .* one cell, give its tree twice",
        lambda: from_linen({"forward_rnn": {"cell": tree_of(GRU(2))}}),
    ),
    "no reset gate": (
        TypeError,
        r"MGUCell\(reset_gate=False\) cannot be converted: jaxrnn's .* a reset gate, with a bias inside",
        lambda: from_linen(no_reset()),
    ),
    "shapes of gates": (
        ValueError,
        r"the gates of a cell must have weights of one shape, but .* \[\(1, 2\), \(2, 2\), \(2, 2\), \(2, 2\)\]",
        lambda: from_linen(tree_of(LSTM(2)) | {"ii": {"kernel": np.zeros((1, 2))}}),
    ),
    "shapes of a cell": (
        ValueError,
        r"the parameters of Elman\(.*\) must have the shapes .*b=\(2,\)\), but they have .*b=\(3,\)\)",
        lambda: from_linen(tree_of(Elman(2)) | {"i": {"kernel": np.zeros((2, 2)), "bias": np.zeros(3)}}),
    ),
    "a stack of cells": (
        ValueError,
        r"the parameters of GRU\(.*\) must have the shapes",
        lambda: from_nnx(jax.tree.map(lambda leaf: np.stack([leaf] * 3), tree_of(GRU(2)))),
    ),
    "other parameters": (
        ValueError,
        r"the parameters of LSTM\(.*\) must have the shapes LSTMParams\(.*but they have GRUParams",
        lambda: to_linen(LSTM(2), params_of(GRU(2))),
    ),
    "no parameters": (ValueError, "must have the shapes ElmanParams", lambda: to_nnx(Elman(2), None)),
    "parameters of one direction": (
        ValueError,
        r"parameters of Bidirectional\(.*\) must be BidirectionalParams, but they are LSTMParams",
        lambda: to_linen(Bidirectional(LSTM(2)), params_of(LSTM(2))),
    ),
    "bias inside the reset": (
        ValueError,
        r"b_n must be zero for nnx\.GRUCell, which has no bias .* to linen, whose GRUCell has one",
        refuse(to_nnx, GRU(2)),
    ),
    "no layer": (TypeError, "layer must be a jaxrnn layer, but it is 'LSTM'", lambda: to_linen("LSTM", None)),
    "reset before": (
        TypeError,
        r"ResetBeforeGRU\(hidden_size=2, keep_bias=0\.0\) cannot be .* recurrent product, not after it",
        refuse(to_linen, jaxrnn.ResetBeforeGRU(2)),
    ),
    "reset before, nnx": (
        TypeError,
        r"ResetBeforeGRU\(hidden_size=2, keep_bias=0\.0\) cannot be .* recurrent product, not after it",
        refuse(to_nnx, jaxrnn.ResetBeforeGRU(2)),
    ),
    "one gate": (
        TypeError,
        r"ResetAfterMGU\(hidden_size=2, forget_bias=1\.0\) cannot be .* which both resets and updates",
        refuse(to_nnx, ResetAfterMGU(2)),
    ),
    "peepholes": (
        TypeError,
        r"PeepholeLSTM\(hidden_size=2, forget_bias=1\.0\) cannot be .* its gates read the memory cell",
        refuse(to_linen, jaxrnn.PeepholeLSTM(2)),
    ),
    "projection": (TypeError, "its hidden state is a projection", refuse(to_nnx, jaxrnn.ProjectedLSTM(2, 1))),
    "a wrapper": (TypeError, "converted to Flax linen: convert its cell", refuse(to_linen, jaxrnn.Zoneout(LSTM(2)))),
    "a layer around": (TypeError, "convert its layer$", refuse(to_linen, jaxrnn.Residual(LSTM(2)))),
    "a stack": (TypeError, "convert each of its layers", refuse(to_nnx, jaxrnn.Stack(LSTM(2)))),
    "in one direction": (
        TypeError,
        r"PeepholeLSTM\(hidden_size=2, forget_bias=1\.0\) cannot be .* its gates read the memory cell",
        refuse(to_linen, Bidirectional(LSTM(2), backward=jaxrnn.PeepholeLSTM(2))),
    ),
    "another layer": (
        TypeError,
        r"Dense\(size=2\) cannot be converted to Flax linen: only Elman, LSTM, GRU, ResetAfterMGU, Bidirectional can",
        refuse(to_linen, jaxrnn.Dense(2)),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    kind, message, call = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()


def test_every_message_is_tested():
    files = [Path(jaxrnn.convert.__file__).parent / name for name in ("_flax_tree.py", "linen.py", "nnx.py")]
    found = [*raises(files)]
    assert len(found) > 5
    missing = untested(found, (call for _, _, call in ERRORS.values()))
    assert not missing, "errors without a test:\n" + "\n".join(missing)
