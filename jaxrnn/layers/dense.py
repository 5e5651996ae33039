"""An affine map of every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._tracing import ignoring_unused
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Plan
from jaxrnn.layers._stateless import Stateless
from jaxrnn.ops import affine, num_features


class DenseParams(NamedTuple):
    w: Array  # [input, size]
    b: Array  # [size]


@dataclass(frozen=True)
class Dense(Stateless):
    r"""Applies an affine map to every step: :math:`y_t = W x_t + b`.

    For images, the map is applied at every pixel. Symbols select rows of the weights, like their one-hot vectors.

    The output is :math:`y_t`.

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.LSTM(64), jaxrnn.Dense(10))
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 10)

    Without a sequence, call the layer:

      >>> head = jaxrnn.Stack(jaxrnn.Dense(32), jax.nn.relu, jaxrnn.Dense(10))
      >>> params = head.init(jax.random.key(0), input_size=8)
      >>> head(params, jnp.zeros((32, 8))).shape  # [batch, input]
      (32, 10)

    Args:
      size: Number of output features.
    """

    size: int

    def __post_init__(self) -> None:
        check.positive(self, "size")

    def init(self, key: Array, input_size: Any) -> DenseParams:
        return DenseParams(glorot_uniform(key, (num_features(input_size), self.size)), jnp.zeros(self.size))

    def run(self, params: DenseParams, xs: Array, state: Any, key: Array | None, plan: Plan) -> tuple[Any, Array]:
        return state, _affine(params, xs)


@ignoring_unused
def _affine(params: DenseParams, xs: Array) -> Array:
    return affine(xs, params.w, params.b)
