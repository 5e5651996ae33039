"""Products with a parameter, and their cotangents against JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn._tracing import TracedStep, ignoring_unused

pytestmark = pytest.mark.usefixtures("x64", "quick")

TIME = 3


def convolve(strides, padding, groups=1):
    def product(a, w):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            a, w, strides, padding, dimension_numbers=numbers, feature_group_count=groups
        )

    return product


PRODUCTS = {  # the product of a state and a parameter, and their shapes
    "rows": (lambda a, w: a @ w, (2, 4), (4, 5)),
    "a vector": (lambda a, w: a @ w, (4,), (4, 5)),
    "a column": (lambda a, w: w @ a, (4,), (5, 4)),
    "the parameter first": (lambda a, w: w @ a, (4, 2), (5, 4)),
    "the transposed parameter": (lambda a, w: a @ w.T, (2, 4), (5, 4)),
    "several batch axes": (lambda a, w: a @ w, (3, 2, 4), (4, 5)),
    "a middle axis": (lambda a, w: jnp.einsum("iaj,ak->ijk", a, w), (3, 4, 2), (4, 5)),
    "batched": (lambda a, w: jax.lax.dot_general(a, w, (((2,), (1,)), ((1,), (0,)))), (2, 3, 4), (3, 4, 5)),
    "two contracted axes": (lambda a, w: jnp.einsum("bij,ijk->bk", a, w), (2, 3, 4), (3, 4, 5)),
    "convolution": (convolve((1, 1), "SAME"), (2, 5, 4, 3), (3, 2, 3, 2)),
    "unpadded convolution": (convolve((1, 1), "VALID"), (2, 5, 4, 3), (3, 2, 3, 2)),
    "strided convolution": (convolve((2, 1), "SAME"), (2, 5, 4, 3), (3, 2, 3, 2)),
    "grouped convolution": (convolve((1, 1), "SAME", groups=2), (2, 5, 4, 4), (3, 2, 2, 2)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_cotangents_equal_those_of_jax(name):
    function, a_shape, w_shape = PRODUCTS[name]
    rng = np.random.default_rng(0)
    a, w = rng.standard_normal((TIME, *a_shape)), rng.standard_normal(w_shape)
    traced = TracedStep(lambda params, state, z: function(state, params) + 0 * z, w, a[0], 1.0)
    (product,), (weight,) = traced.products, traced.weights(w)
    ct = rng.standard_normal((TIME, *product.aval.shape))

    def each_step(a, weight):
        return jnp.stack([product(one, weight) for one in a])

    values, pull = jax.vjp(each_step, a, weight)
    expected_a, expected_w = pull(ct)
    np.testing.assert_allclose(values[0], function(a[0], w), rtol=1e-12)
    for n in range(TIME):
        np.testing.assert_allclose(product.pull_a(ct[n], weight, a[n]), expected_a[n], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(product.pull_w(a, ct, weight), expected_w, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("name", PRODUCTS)
def test_cotangents_that_ignore_unused_rows_equal_those_of_jax(name, mapped):
    function, a_shape, w_shape = PRODUCTS[name]
    rng = np.random.default_rng(0)
    a, w = rng.standard_normal((TIME, *a_shape) if mapped else a_shape), rng.standard_normal(w_shape)

    def cotangents(run):
        value, pull = jax.vjp(jax.vmap(run, (None, 0)) if mapped else run, w, a)
        return pull(jnp.cos(jnp.arange(value.size)).reshape(value.shape))

    def run(w, a):
        return function(a, w)

    for one, other in zip(cotangents(ignoring_unused(run)), cotangents(run), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


def test_the_gradient_of_a_matrix_is_not_transposed():
    """JAX's own gradient is, and XLA's CPU compiler copies the larger operand for it."""
    a, w = np.ones((3, 2, 4)), np.ones((4, 5))
    for run, transposes in ((lambda w, a: a @ w, 1), (ignoring_unused(lambda w, a: a @ w), 0)):
        jaxpr = jax.make_jaxpr(jax.grad(lambda w, run=run: run(w, a).sum()))(w)
        assert str(jaxpr).count("transpose[") == transposes


@pytest.mark.parametrize("precision", [None, jax.lax.Precision.HIGHEST])
def test_cotangents_have_the_precision_of_the_product(precision):
    a, w = np.ones((TIME, 2, 4)), np.ones((4, 5))
    traced = TracedStep(lambda params, state, z: jnp.dot(state, params, precision=precision), w, a[0], 1.0)
    (product,) = traced.products
    for pull in (lambda ct: product.pull_a(ct[0], w, a[0]), lambda ct: product.pull_w(a, ct, w)):
        jaxpr = str(jax.make_jaxpr(pull)(np.ones((TIME, 2, 5))))
        assert jaxpr.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == (precision is not None)
        assert jaxpr.count("dot_general[") == 1


def test_products_of_two_states_or_two_parameters_are_not_among_them():
    def step(params, state, z):
        return state @ state + params @ params + z

    traced = TracedStep(step, np.eye(3), np.eye(3), np.eye(3))
    assert traced.products == []
