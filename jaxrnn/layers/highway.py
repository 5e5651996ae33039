"""Highway connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._around import Around, check_numbers, check_sizes
from jaxrnn.ops import affine, num_features, sigmoid


class HighwayParams(NamedTuple):
    layer: Params
    w: Array  # [input, input]
    b: Array  # [input]


@dataclass(frozen=True)
class Highway(Around):
    r"""A gate between the input and the output: :math:`y_t = t_t \odot L(x)_t + (1 - t_t) \odot x_t`.

    .. math:: t_t = \sigma(W x_t + b)

    Args:
      layer: a layer with as many outputs as inputs.
      transform_bias: initial value of :math:`b`; below zero the input is carried at first.

    References: R. Srivastava, K. Greff, J. Schmidhuber, "Highway networks", 2015.
    """

    layer: Layer
    transform_bias: float = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check.finite(self, "transform_bias")

    def init(self, key: Array, input_size: Any) -> HighwayParams:
        n = num_features(input_size)
        k_layer, k_w = jax.random.split(key)
        w = glorot_uniform(k_w, (n, n))
        return HighwayParams(self.layer.init(k_layer, input_size), w, jnp.full(n, self.transform_bias))

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        return self.layer.initial_state(params.layer, batch_shape, dtype)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        check_numbers(self, xs)
        state, ys = self.layer.run(params.layer, xs, state, key, plan)
        check_sizes(self, xs, ys)
        t = sigmoid(affine(xs, params.w, params.b))
        return state, t * ys + (1 - t) * xs
