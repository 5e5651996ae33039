"""Layers and loops are pytrees without leaves, so that they can be arguments of transformed functions."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import loops, trees
from tests.support.cases import LINEAR_LOOPS, LOOPS, MATRIX_LOOPS, cases, examples
from tests.support.comparisons import assert_close
from tests.support.inputs import draw, draw_params

KEY = jax.random.key(0)
XS = jnp.asarray(draw(4, 2, 3), jnp.float32)


@dataclass(frozen=True)
class Leaky(jaxrnn.Elman):
    """A class of one's own."""

    rate: float = 0.5

    def step(self, params, state, z):
        new = super().step(params, state, z)
        return jax.tree.map(lambda a, b: self.rate * a + (1 - self.rate) * b, new, state)


def step(w, h, x):
    return (jnp.tanh(x @ w + h),) * 2


def draw_matrix(key, input_size):
    return jax.random.normal(key, (input_size, 4))


def zeros(w, batch_shape):
    return jnp.zeros((*batch_shape, 4))


LAYERS = {
    "stack": lambda: jaxrnn.Stack(jaxrnn.GRU(3), jaxrnn.Bidirectional(jaxrnn.LSTM(2))),
    "one's own": lambda: Leaky(4),
    "adopted": lambda: jaxrnn.adopt(step, zeros, draw_matrix),
}


@pytest.mark.parametrize("name", LAYERS)
def test_jit(name):
    make = LAYERS[name]
    params = make().init(KEY, 3)
    run = jax.jit(jaxrnn.unroll)
    assert_close(run(make(), params, XS), jaxrnn.unroll(make(), params, XS), rtol=1e-5)
    compiled = run._cache_size()
    run(make(), params, XS)
    assert run._cache_size() == compiled > 0


def test_every_layer_loop_and_tree_cell_has_no_leaves():
    layers = [case.cell for case in cases().values()] + list(examples().values())
    values = [
        *layers,
        *LOOPS.values(),
        *LINEAR_LOOPS.values(),
        *MATRIX_LOOPS.values(),
        trees.NaryTreeLSTM(3),
        trees.RNTN(2),
    ]
    assert jax.tree.leaves(values) == []
    assert jax.tree.map(lambda leaf: None, values) == values
    assert jax.tree.structure(jaxrnn.GRU(3)) == jax.tree.structure(jaxrnn.GRU(3))
    assert jax.tree.structure(jaxrnn.GRU(3)) != jax.tree.structure(jaxrnn.GRU(4))


def test_vmap_scan_and_grad():
    cell = jaxrnn.GRU(4)
    params = draw_params(cell)
    several = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    ys = jax.vmap(jaxrnn.unroll, in_axes=(None, 0, None))(cell, several, XS)[1]
    assert_close(ys[0], jaxrnn.unroll(cell, params, XS)[1], rtol=1e-5)

    def body(carry, x):
        layer, state = carry
        state, y = jaxrnn.step(layer, params, state, x)
        return (layer, state), y

    (layer, _), ys = jax.lax.scan(body, (cell, cell.initial_state(params, (2,))), XS)
    assert layer is cell
    assert_close(ys, jaxrnn.unroll(cell, params, XS)[1], rtol=1e-5)

    grads = jax.grad(lambda model: (jaxrnn.unroll(*model, XS)[1] ** 2).sum())((cell, params))
    assert grads[0] is cell
    assert jax.tree.structure(grads[1]) == jax.tree.structure(params)


def test_a_loop_is_an_argument():
    cell = jaxrnn.MinGRU(4)
    params = draw_params(cell)
    run = jax.jit(lambda loop: jaxrnn.unroll(cell, params, XS, loop=loop)[1])
    for loop in (loops.Scan(), loops.AssociativeScan()):
        assert_close(run(loop), jaxrnn.unroll(cell, params, XS)[1], rtol=1e-5)


class TrainState(NamedTuple):
    layer: jaxrnn.Layer
    params: Any
    moments: Any


def test_a_training_state_holds_its_layer():
    optax = pytest.importorskip("optax")
    layer = jaxrnn.Stack(jaxrnn.GRU(4), jaxrnn.Dense(2))
    params = draw_params(layer)
    adam = optax.adam(1e-2)

    @jax.jit
    def update(train):
        grads = jax.grad(lambda p: (jaxrnn.unroll(train.layer, p, XS)[1] ** 2).sum())(train.params)
        change, moments = adam.update(grads, train.moments)
        return train._replace(params=optax.apply_updates(train.params, change), moments=moments)

    train = update(TrainState(layer, params, adam.init(params)))
    assert train.layer is layer
    assert jax.tree.structure(train.params) == jax.tree.structure(params)
    assert jax.tree.structure(adam.init((layer, params))) == jax.tree.structure(adam.init((layer, params)))


def test_fields_of_modules_of_equinox():
    eqx = pytest.importorskip("equinox")

    class Model(eqx.Module):
        layer: jaxrnn.Layer
        params: Any

        def __call__(self, xs):
            return jaxrnn.unroll(self.layer, self.params, xs)[1]

    model = Model(jaxrnn.GRU(4), draw_params(jaxrnn.GRU(4)))
    grads = eqx.filter_grad(lambda model: (model(XS) ** 2).sum())(model)
    expected = jax.grad(lambda p: (jaxrnn.unroll(model.layer, p, XS)[1] ** 2).sum())(model.params)
    assert_close(grads.params, expected, rtol=1e-5)
    assert_close(jax.jit(Model.__call__)(model, XS), model(XS), rtol=1e-5)


def test_fields_of_modules_of_flax():
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self):
            self.layer = jaxrnn.GRU(4)
            self.w = nnx.Param(jnp.ones(2))

    graph, state = nnx.split(Model())
    assert len(jax.tree.leaves(state)) == 1
    assert nnx.merge(graph, state).layer == jaxrnn.GRU(4)
    assert nnx.jit(lambda model: model.w.sum() * model.layer.hidden_size)(Model()) == 8


def test_an_unequal_layer_is_another_program():
    run = jax.jit(lambda cell, params: jaxrnn.unroll(cell, params, XS)[1])
    params = draw_params(jaxrnn.LayerNormElman(4))
    one, other = (run(jaxrnn.LayerNormElman(4, epsilon=epsilon), params) for epsilon in (1e-6, 1.0))
    assert np.abs(one - other).max() > 1e-3
