"""Highway connections."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._tracing import ignoring_unused
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._checks import check_same_size
from jaxrnn.layers._layer_wrapper import LayerWrapper
from jaxrnn.ops import affine, num_features, sigmoid


class HighwayParams(NamedTuple):
    layer: Params
    w: Array  # [input, input]
    b: Array  # [input]


@dataclass(frozen=True)
class Highway(LayerWrapper):
    r"""A gate that mixes the input and the output of a layer: :math:`y_t = t_t \odot L(x)_t + (1 - t_t) \odot x_t`.

    .. math:: t_t = \sigma(W x_t + b)

    The output is :math:`y_t`. The state is that of the wrapped layer.

    Example:
      >>> layer = jaxrnn.Highway(jaxrnn.LSTM(8), transform_bias=-2.0)
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 8)

    Args:
      layer: A layer with as many outputs as inputs.
      transform_bias: Initial value of :math:`b`. With a value below zero the input initially dominates the output.

    References:
      R. Srivastava, K. Greff, J. Schmidhuber, "Highway networks", 2015.
    """

    layer: Layer
    _: KW_ONLY
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
        check.numbers(self, xs, "passes its input on")
        state, ys = self.layer.run(params.layer, xs, state, key, plan)
        check_same_size(self, self.layer, xs, ys)
        return state, _mix(params, xs, ys)


@ignoring_unused
def _mix(params: HighwayParams, xs: Array, ys: Array) -> Array:
    t = sigmoid(affine(xs, params.w, params.b))
    return t * ys + (1 - t) * xs
