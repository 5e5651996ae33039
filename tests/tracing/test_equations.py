"""A traced function as a list of equations, and what each of them depends on."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn._tracing import DependsOn, Equations, evaluate

NOTHING, PARAMETERS, INPUT, STATE = DependsOn


def function(params, state, x):
    scale = jnp.tanh(params["w"])  # parameters
    z = jax.jit(lambda x: x * scale)(x)  # input
    return jnp.sin(state) + z, z


ARGS = ({"w": jnp.ones(3)}, jnp.ones(3), jnp.arange(3, dtype=float))


def test_kinds_are_ordered_by_when_they_can_be_computed():
    assert NOTHING < PARAMETERS < INPUT < STATE
    assert [kind.varies for kind in DependsOn] == [False, False, True, True]


def test_equations_evaluate_to_the_function():
    traced = Equations(function, *ARGS)
    leaves = [leaf for arg in ARGS for leaf in jax.tree.leaves(arg)]
    values = {**traced.constants, **dict(zip((p for places in traced.ins for p in places), leaves, strict=True))}
    evaluate(traced.equations, values)
    found = traced.out_tree.unflatten([values[p] for p in traced.outs])
    for one, other in zip(found, function(*ARGS), strict=True):
        np.testing.assert_allclose(one, other)


def test_nested_calls_of_jit_are_inlined():
    assert "jit" not in {e.primitive for e in Equations(function, *ARGS).equations}


def test_dependencies_are_those_of_the_latest_operand():
    traced = Equations(function, *ARGS)
    _, of_equations = traced.dependencies((PARAMETERS, STATE, INPUT))
    kinds = {e.primitive: kind for e, kind in zip(traced.equations, of_equations, strict=True)}
    assert kinds == {"tanh": PARAMETERS, "mul": INPUT, "sin": STATE, "add": STATE}
    assert all(isinstance(kind, DependsOn) for kind in of_equations)


def test_dependencies_can_be_adjusted():
    traced = Equations(function, *ARGS)
    _, of_equations = traced.dependencies(
        (PARAMETERS, STATE, INPUT), lambda e, kind: STATE if e.primitive == "tanh" else kind
    )
    assert set(of_equations) == {STATE}


def test_constants_depend_on_nothing():
    constant = np.arange(3.0)
    traced = Equations(lambda x: x + jnp.cos(constant), jnp.ones(3))
    of_places, _ = traced.dependencies((INPUT,))
    assert all(of_places[p] == NOTHING for p in traced.constants)


def test_an_equation_says_whether_its_result_is_larger_than_its_operands():
    traced = Equations(lambda x: jnp.broadcast_to(x, (5, 3)).sum(), jnp.ones(3))
    grows = {e.primitive: e.grows for e in traced.equations}
    assert grows["broadcast_in_dim"]
    assert not grows["reduce_sum"]
