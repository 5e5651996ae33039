"""A layer that applies a function to every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Plan
from jaxrnn.layers._stateless import Stateless
from jaxrnn.ops import where


@dataclass(frozen=True)
class Activation(Stateless):
    r"""Applies a function without parameters to every step: :math:`y_t = f(x_t)`.

    In a `Stack`, the function alone is enough: `Stack(LSTM(64), jax.nn.relu, Dense(10))`.

    The output is :math:`y_t`.

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.GRU(64), jaxrnn.Dense(32), jaxrnn.Activation(jax.nn.glu))
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 2, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 2, 16)

    Args:
      function: A function of an array [*batch, features], such as `jax.nn.relu`. It treats leading axes as batch axes.
    """

    function: Callable[[Array], Array]

    def __post_init__(self) -> None:
        check.function(self, "function")

    def init(self, key: Array, input_size: Any) -> tuple[()]:
        return ()

    def run(self, params: Any, xs: Array, state: Any, key: Array | None, plan: Plan) -> tuple[Any, Array]:
        check.numbers(self, xs, "applies a function to its input")
        if plan.valid is not None:
            # Padding reads the sequence's first step: at zero, the derivative of a function such as a norm may be NaN.
            xs = where(plan.valid, xs, where(plan.valid[:1], xs[:1], jnp.ones((), xs.dtype)))
        return state, self.function(xs)
