"""`check_cell` refuses cells that break the contract, each with a message that says how."""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import Cell
from jaxrnn.testing import check_cell

pytestmark = pytest.mark.usefixtures("quick")


class Params(NamedTuple):
    w_x: Any
    w_h: Any


@dataclass(frozen=True)
class Good(Cell):
    """A vanilla cell, which the others break in one place each."""

    hidden_size: int = 4

    def init(self, key, input_size):
        k_x, k_h = jax.random.split(key)
        n = self.hidden_size
        return Params(jax.random.normal(k_x, (input_size, n)), jax.random.normal(k_h, (n, n)))

    def initial_state(self, params, batch_shape=(), dtype=None):
        return jnp.zeros((*batch_shape, self.hidden_size), params.w_x.dtype if dtype is None else dtype)

    def project(self, params, x, key=None):
        return x @ params.w_x

    def step(self, params, state, z):
        return jnp.tanh(z + state @ params.w_h)

    def readout(self, params, state, z):
        return state


class MixesTheBatch(Good):
    def step(self, params, state, z):
        h = super().step(params, state, z)
        return h - h.mean(0) if h.ndim > 1 else h


class NormalizesOverTheBatch(Good):
    def project(self, params, x, key=None):
        z = super().project(params, x)
        return z - z.mean(axis=0, keepdims=True)


class CountsTheAxes(Good):
    def project(self, params, x, key=None):
        return super().project(params, x) + (x.ndim == 4)


class DropsAParameter(Good):
    def step(self, params, state, z):
        return jnp.tanh(z + state)


class InfiniteGradient(Good):
    def step(self, params, state, z):
        return jnp.tanh(z + state @ params.w_h + jnp.sqrt(params.w_h[0] * 0))


class IgnoresTheDtype(Good):
    def initial_state(self, params, batch_shape=(), dtype=None):
        return jnp.zeros((*batch_shape, self.hidden_size))


class GrowsItsState(Good):
    def run(self, params, xs, state, key, plan):
        state, ys = super().run(params, xs, state, key, plan)
        return state[..., None], ys


class DriftsInDtype(Good):
    def run(self, params, xs, state, key, plan):
        state, ys = super().run(params, xs, state, key, plan)
        return state.astype(jnp.float32), ys


class SeesTheFuture(Good):
    """In `run`: a step cannot."""

    def run(self, params, xs, state, key, plan):
        state, ys = super().run(params, xs, state, key, plan)
        return state, ys + ys[-1:] - jax.lax.stop_gradient(ys[-1:])


class AddsInTheRun(Good):
    def run(self, params, xs, state, key, plan):
        state, ys = super().run(params, xs, state, key, plan)
        return state, ys + 1


class LosesItsState(Good):
    def run(self, params, xs, state, key, plan):
        return state, super().run(params, xs, state, key, plan)[1]


class ForgetsTheGivenState(Good):
    """Begins anew in every call."""

    def run(self, params, xs, state, key, plan):
        begin = self.initial_state(params, plan.batch_shape, state.dtype)
        return super().run(params, xs, begin, key, plan)


class DiffersUnderJit(Good):
    def readout(self, params, state, z):
        return state

    def run(self, params, xs, state, key, plan):
        state, ys = super().run(params, xs, state, key, plan)
        return state, ys * (2 if isinstance(params.w_x, jax.core.Tracer) and xs.ndim == 3 else 1)


@dataclass(frozen=True)
class HoldsAnArray(Good):
    table: Any = None

    def __hash__(self):
        return 0

    def __eq__(self, other):
        return isinstance(other, HoldsAnArray)


class IsNotEqual(Good):
    def __eq__(self, other):
        return self is other

    __hash__ = Good.__hash__


class HashesByIdentity(Good):
    __eq__ = Good.__eq__

    def __hash__(self):
        return id(self)


class DrawsFromAConstantKey(Good):
    def project(self, params, x, key=None):
        z = super().project(params, x)
        return z if key is None else z + jax.random.normal(jax.random.key(0), z.shape)


class DrawsFromNumPy(Good):
    def project(self, params, x, key=None):
        z = super().project(params, x)
        return z if key is None else z + np.random.standard_normal(z.shape)


class CountsTheStepsOfAChunk(Good):
    def run(self, params, xs, state, key, plan):
        state, ys = super().run(params, xs, state, key, plan)
        return state, ys if key is None else ys * (1 if plan.loop.checkpoint_every is None else 2)


BROKEN = {
    MixesTheBatch(): "a batch must equal its sequences one by one",
    NormalizesOverTheBatch(): "unroll must equal calling the cell step by step",
    CountsTheAxes(): "two batch axes must equal one",
    DropsAParameter(): "the gradient of params.w_h must not be zero: does the cell read it?",
    InfiniteGradient(): "the gradient of params.w_h must be finite",
    IgnoresTheDtype(): "initial_state must use its dtype, float16 here, but used {dtype('float32')}",
    GrowsItsState(): "the state must keep its structure, shapes and dtypes",
    DriftsInDtype(): "the state must keep its dtype through the loop",
    SeesTheFuture(): "an output must not depend on later inputs",
    AddsInTheRun(): "unroll must equal calling the cell step by step",
    LosesItsState(): "the last state must equal that of calling the cell step by step",
    ForgetsTheGivenState(): "two halves, with the state passed on, must equal the whole",
    DiffersUnderJit(): "jit must not change the result",
    HoldsAnArray(table=np.zeros(2)): "a cell must hold no arrays, but its fields table do: make them parameters",
    IsNotEqual(): "a cell must be equal to what is unpickled from it",
    HashesByIdentity(): "equal cells must have equal hashes",
    DrawsFromAConstantKey(): "a cell that is random must draw from its key",
    DrawsFromNumPy(): "equal keys must give equal results: is everything random drawn from the key?",
    CountsTheStepsOfAChunk(): "with a key, a run in chunks of steps must equal the whole",
}


class Random(Good):
    """Draws noise for each step, and a mask of the inputs for all steps."""

    def project(self, params, x, key=None):
        if key is None:
            return super().project(params, x)
        k_noise, k_mask = jax.random.split(key)
        x = jnp.where(jax.random.bernoulli(jaxrnn.call_key(k_mask), 0.5, x.shape), 2 * x, 0)
        return super().project(params, x + jax.random.normal(k_noise, x.shape))


def test_refuses_a_cell_that_cannot_be_pickled():
    class Local(Good):
        pass

    with pytest.raises(AssertionError, match=r"^a cell must be picklable: define its class .* at the top level"):
        check_cell(Local())


def test_accepts_a_good_cell():
    check_cell(Good())


def test_accepts_a_random_cell():
    check_cell(Random())


@pytest.mark.parametrize("cell", BROKEN, ids=lambda cell: type(cell).__name__)
def test_refuses(cell):
    with pytest.raises(AssertionError, match=re.escape(BROKEN[cell])):
        check_cell(cell)


def test_refuses_a_state_that_steps_cannot_carry():
    class ChangesShape(Good):
        def step(self, params, state, z):
            return super().step(params, state, z)[..., :2]

    with pytest.raises((TypeError, AssertionError, ValueError)):
        check_cell(ChangesShape())


def test_check_cell_asks_that_frozen_parameters_get_no_gradient():
    with pytest.raises(AssertionError, match=re.escape("the gradient of params.w_x must not be zero")):
        check_cell(jaxrnn.EchoState(8), frozen=("w_h", "b"))
    with pytest.raises(
        AssertionError, match=re.escape("the gradient of params.b must be zero, because frozen names it")
    ):
        check_cell(jaxrnn.Elman(4), frozen=("b",))
