"""A whole step split into what needs no state, the state after it and the output, with rewritten products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn._tracing import StepParts

pytestmark = pytest.mark.usefixtures("x64", "quick")

SIZE, HIDDEN = 3, 4
RNG = np.random.default_rng(0)
X, H = RNG.standard_normal(SIZE), RNG.standard_normal(HIDDEN)
W = RNG.standard_normal((SIZE + HIDDEN, HIDDEN))
W_X, W_H = W[:SIZE], W[SIZE:]


def joined(w, h, x):
    h = jnp.tanh(jnp.concatenate([x, h]) @ w)
    return h, h


def columns(w, h, x):
    h = jnp.tanh(w[0].T @ x + w[1].T @ h)
    return h, 2 * h


def two_products(w, h, x):
    r, n = jnp.tanh(h @ w[0]), jnp.sin(h @ w[1])
    return r * n + x, n


def state_before(w, h, x):
    return jnp.tanh(x @ w[0] + h @ w[1]), h


STEPS = {
    "joined": (joined, W, X),
    "columns": (columns, (W_X, W_H), X),
    "two products": (two_products, (W_H, W_H + 1), RNG.standard_normal(HIDDEN)),
    "output of the state before": (state_before, (W_X, W_H), X),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_parts_equal_the_step(name):
    step, params, x = STEPS[name]
    parts = StepParts(step, False, (params, H, x))
    projected = parts.project(params, x)
    state, y = parts.step(params, H, projected)
    y = parts.readout(params, state, projected) if parts.output_of_state else y
    expected_state, expected_y = step(params, H, x)
    np.testing.assert_allclose(state, expected_state, rtol=1e-12)
    np.testing.assert_allclose(y, expected_y, rtol=1e-12)


@pytest.mark.parametrize("name", STEPS)
def test_the_parts_know_whether_the_output_needs_the_state_before(name):
    step, params, x = STEPS[name]
    later = name in ("joined", "columns")
    assert StepParts(step, False, (params, H, x)).output_of_state == later


def products_in(part, *args):
    """Returns the shapes of the right operands of the products in a part."""
    eqns = jax.make_jaxpr(part)(*args).jaxpr.eqns
    return [tuple(e.invars[1].aval.shape) for e in eqns if e.primitive.name == "dot_general"]


def test_a_joined_product_leaves_its_input_part_outside_the_loop():
    parts = StepParts(joined, False, (W, H, X))
    projected = parts.project(W, X)
    assert products_in(parts.project, W, X) == [(SIZE, HIDDEN)]
    assert products_in(parts.step, W, H, projected) == [(HIDDEN, HIDDEN)]


def test_products_of_one_vector_become_products_of_rows():
    parts = StepParts(columns, False, ((W_X, W_H), H, X))
    over_time = jax.vmap(parts.project, (None, 0))
    eqns = jax.make_jaxpr(over_time)((W_X, W_H), np.stack([X, X])).jaxpr.eqns
    (product,) = [e for e in eqns if e.primitive.name == "dot_general"]
    assert product.params["dimension_numbers"] == (((1,), (0,)), ((), ()))


def test_two_products_of_one_vector_become_one():
    params, x = STEPS["two products"][1:]
    parts = StepParts(two_products, False, (params, H, x))
    assert products_in(parts.step, params, H, parts.project(params, x)) == [(HIDDEN, 2 * HIDDEN)]


def test_effects_run_at_every_step():
    def step(w, h, x):
        jax.debug.print("{}", x.sum())
        return h + x, x

    parts = StepParts(step, False, (W, X, X))
    assert "debug" not in str(jax.make_jaxpr(parts.project)(W, X))
    assert "debug" in str(jax.make_jaxpr(parts.step)(W, X, parts.project(W, X)))
