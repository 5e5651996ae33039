"""What is not used, because a reset cuts it off or because the loss does not read it, never affects gradients."""

import operator
from functools import partial

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import jaxrnn
from jaxrnn.loops import AssociativeScan, Chunked, Deferred, Newton, Scan
from tests.support.cases import cases
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_inputs, draw_params
from tests.support.tiers import slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 2
RESETS = np.zeros((TIME, BATCH), bool)
RESETS[2] = True
BEFORE = np.arange(TIME)[:, None] < np.full(BATCH, 2)  # the first sequence of each row
ROW = np.zeros((TIME, BATCH), bool)
ROW[:, 1] = True

CONVOLUTION = cases()["ConvLSTM"]
LAYERS = {
    "LSTM": jaxrnn.LSTM(3),
    "PeepholeLSTM": jaxrnn.PeepholeLSTM(3),  # whose weights are not only those of products
    "DeltaNet": jaxrnn.DeltaNet(4, num_heads=2),  # whose products have states on both sides
    "ConvLSTM": CONVOLUTION.cell,
    "layers": jaxrnn.Stack(
        jaxrnn.Highway(jaxrnn.Elman(INPUT)),
        jaxrnn.Bidirectional(jaxrnn.GRU(3), merge=operator.mul),
        jaxrnn.LayerNorm(),
        jaxrnn.Window(2),
        jaxrnn.DenselyConnected(jaxrnn.Dropout(0.5), jaxrnn.Reversed(jaxrnn.Elman(6))),
        jaxrnn.Dense(2),
    ),
}
LINEAR = {"MinGRU": jaxrnn.MinGRU(3), "LRU": jaxrnn.LRU(3, output_size=2)}


@partial(jax.jit, static_argnums=(0, 1))
def gradients(layer, loop, params, xs, unused):
    """Of a loss that reads the other outputs alone."""

    def loss(params, xs):
        _, ys = jaxrnn.unroll(layer, params, xs, resets=RESETS, loop=loop, key=jax.random.key(0))
        return sum((jaxrnn.ops.where(~unused, y, jnp.zeros(())) ** 2).sum() for y in jax.tree.leaves(ys))

    return jax.grad(loss, argnums=(0, 1))(params, xs)


def unused_values_do_not_matter(layer, loop, input_size=INPUT):
    params, xs = draw_params(layer, input_size=input_size), draw_inputs(input_size, TIME, BATCH)
    for unused in (BEFORE, ~BEFORE, ROW):
        of_params, of_xs = gradients(layer, loop, params, xs, unused)
        if loop == Deferred():
            assert_close((of_params, of_xs), gradients(layer, Scan(), params, xs, unused), rtol=1e-9)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(of_params))
        for value in (np.nan, np.inf):
            broken = np.array(jaxrnn.ops.where(unused, np.full_like(xs, value), xs))
            found, found_xs = gradients(layer, loop, params, broken, unused)
            assert_close(found, of_params)
            assert_close(found_xs[~unused], of_xs[~unused])


LOOPS = {"scan": Scan(), "deferred": Deferred(), "blocks": Deferred(block=2), "newton": Newton()}
IN_DEFAULT_TIER = [("LSTM", "scan"), ("PeepholeLSTM", "deferred"), ("DeltaNet", "scan"), ("layers", "blocks")]


@pytest.mark.parametrize(("name", "loop"), slow_but([(n, loop) for n in LAYERS for loop in LOOPS], IN_DEFAULT_TIER))
def test_unused_values_do_not_matter(name, loop):
    loop = LOOPS[loop]
    unused_values_do_not_matter(LAYERS[name], loop, CONVOLUTION.reference.input_size if name == "ConvLSTM" else INPUT)


@pytest.mark.parametrize(("name", "chunk"), slow_but([(n, chunk) for n in LINEAR for chunk in (2, None)], [("LRU", 2)]))
def test_unused_values_do_not_matter_to_linear_cells(name, chunk):
    unused_values_do_not_matter(LINEAR[name], AssociativeScan(chunk=chunk))


# `Newton` differentiates all cells in the same way, and `Chunked` knows only the factors of their updates.
CELLS_AND_LOOPS = [
    *((name, loop) for name in cases() for loop in (Scan(), Deferred())),
    *((name, Newton()) for name in ("Elman", "LSTM", "ParaLSTM", "LRU", "MLSTM", "IndRNN", "Zoneout")),
    *((name, Chunked(chunk=2)) for name, case in cases().items() if isinstance(case.cell, jaxrnn.MatrixCell)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "loop"), CELLS_AND_LOOPS, ids=lambda value: str(value).split("(")[0])
def test_unused_values_do_not_matter_to_any_cell(name, loop):
    unused_values_do_not_matter(cases()[name].cell, loop, cases()[name].reference.input_size)


def test_an_associative_scan_restarts_from_nan():
    cell, loop = jaxrnn.MinGRU(3), AssociativeScan()
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    broken = np.where(BEFORE[..., None], np.nan, xs)
    expected = jaxrnn.unroll(cell, params, xs, resets=RESETS, loop=Scan())[1]
    ys = jaxrnn.unroll(cell, params, broken, resets=RESETS, loop=loop)[1]
    assert np.isnan(ys[:2]).all()
    assert_close(ys[2:], expected[2:])
    state = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), cell.initial_state(params, (BATCH,)))
    assert_close(jaxrnn.unroll(cell, params, broken, state, resets=RESETS, loop=loop)[1][2:], expected[2:])


def test_unused_values_do_not_matter_inside_shard_map():
    """There, JAX adds operations to elementwise functions, such as the log_sigmoid of this cell."""
    cell, mesh = jaxrnn.MLSTM(4), Mesh(jax.devices()[:1], ("batch",))
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    broken = np.where(BEFORE[..., None], np.nan, xs)
    batch = PartitionSpec(None, "batch")
    found, expected = (
        jax.shard_map(
            lambda xs, unused: gradients(cell, Scan(), params, xs, unused)[0],
            mesh=mesh,
            in_specs=batch,
            out_specs=PartitionSpec(),
        )(xs, BEFORE)
        for xs in (broken, xs)
    )
    assert_close(found, expected)


def test_what_is_used_keeps_its_nan():
    """A cotangent that is not zero is not ignored: a gradient that is not a number is not hidden."""
    cell = jaxrnn.LSTM(3)
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    xs[1, 0] = np.nan
    for loop in (Scan(), Deferred(), Newton()):
        of_params, _ = gradients(cell, loop, params, xs, ROW)
        assert all(np.isnan(leaf).any() for leaf in jax.tree.leaves(of_params))


@jax.custom_jvp
def centered_derivative(x):
    return 1.0 * x


@centered_derivative.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return 1.0 * x, t - t.mean(-1, keepdims=True)


@jax.custom_jvp
def modulus(x):
    return jnp.abs(x)


modulus.defjvps(lambda t, y, x: jnp.real(jnp.conj(x) * t) / y)


class Unusual(jaxrnn.Elman):
    """A cell whose operations need care: elementwise only in value, not holomorphic, and a product with itself."""

    def step(self, params, state, z):
        h = centered_derivative(super().step(params, state, z).h)
        rotated = h * jnp.exp(1j * h)
        h = 0.5 * jnp.abs(rotated + 1j) + 0.2 * modulus(rotated + 2) + jnp.maximum(h, 0.1)
        return type(state)(h / (1 + jnp.einsum("...i,...i->...", h, h)[..., None]))


def plain(cell, params, xs):
    """The outputs in JAX's own loop, with JAX's own derivatives."""

    def body(state, x):
        state, y = cell(params, state, x)
        return state, y

    return jax.lax.scan(body, cell.initial_state(params, (BATCH,)), xs)[1]


@pytest.mark.parametrize("loop", [Scan(), Deferred()], ids=["scan", "deferred"])
def test_derivatives_of_unusual_operations_are_those_of_jax(loop):
    cell = Unusual(3)
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    weights = draw(TIME, BATCH, 3)

    def gradient(outputs):
        return jax.jit(jax.grad(lambda params, xs: (weights * outputs(params, xs)).sum(), argnums=(0, 1)))(params, xs)

    expected = gradient(partial(plain, cell))
    assert_close(gradient(lambda params, xs: jaxrnn.unroll(cell, params, xs, loop=loop)[1]), expected)


@pytest.mark.parametrize("loop", [Scan(), Deferred()], ids=["scan", "deferred"])
def test_second_derivatives_where_the_loss_is_at_its_minimum(loop):
    """There all cotangents are zero, although the outputs are used."""
    cell = jaxrnn.Elman(2)
    flat, unflatten = jax.flatten_util.ravel_pytree(jax.tree.map(np.zeros_like, draw_params(cell)))
    xs = draw(TIME, BATCH, INPUT)

    def hessian(outputs):
        loss = lambda flat: (outputs(unflatten(flat)) ** 2).sum()  # noqa: E731
        return jax.jit(jax.jacrev(jax.grad(loss)))(flat)

    expected = hessian(lambda params: plain(cell, params, xs))
    assert abs(expected).max() > 1
    assert_close(hessian(lambda params: jaxrnn.unroll(cell, params, xs, loop=loop)[1]), expected)
