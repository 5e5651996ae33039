"""An affine layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Plan
from jaxrnn.layers._stateless import Stateless
from jaxrnn.ops import affine, num_features


class DenseParams(NamedTuple):
    w: Array  # [input, size]
    b: Array  # [size]


@dataclass(frozen=True)
class Dense(Stateless):
    r"""An affine map of every step: :math:`y_t = W x_t + b`. Of images, of every place.

    Args:
      size: number of output features.
    """

    size: int

    def __post_init__(self) -> None:
        check.positive(self, "size")

    def init(self, key: Array, input_size: Any) -> DenseParams:
        return DenseParams(glorot_uniform(key, (num_features(input_size), self.size)), jnp.zeros(self.size))

    def run(self, params: DenseParams, xs: Array, state: Any, key: Array | None, plan: Plan) -> tuple[Any, Array]:
        return state, affine(xs, params.w, params.b)
