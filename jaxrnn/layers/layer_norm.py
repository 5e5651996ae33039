"""Layer normalization between layers."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._tracing import ignoring_unused
from jaxrnn.layer import Plan
from jaxrnn.layers._stateless import Stateless
from jaxrnn.ops import align, normalized, num_features


class LayerNormParams(NamedTuple):
    scale: Array  # [size]
    bias: Array  # [size]


@dataclass(frozen=True)
class LayerNorm(Stateless):
    r"""Layer normalization: :math:`y_t = \gamma \odot (x_t - \mu_t) / \sqrt{\sigma^2_t + \epsilon} + \beta`.

    :math:`\mu_t` and :math:`\sigma^2_t` are the mean and the variance over the features of one step. For images they
    are computed at every pixel.

    The output is :math:`y_t`.

    Example:
      >>> layer = jaxrnn.LayerNorm()
      >>> params = layer.init(jax.random.key(0), input_size=2)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.array([[1.0, 3.0], [20.0, 10.0]]))  # [time, input]
      >>> ys.round(3).tolist()
      [[-1.0, 1.0], [1.0, -1.0]]

    Args:
      epsilon: Number that is added to the variance.

    References:
      J. Ba, J. Kiros, G. Hinton, "Layer normalization", 2016.
    """

    _: KW_ONLY
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        check.non_negative(self, "epsilon")

    def init(self, key: Array, input_size: Any) -> LayerNormParams:
        n = num_features(input_size)
        return LayerNormParams(jnp.ones(n), jnp.zeros(n))

    def run(self, params: LayerNormParams, xs: Array, state: Any, key: Array | None, plan: Plan) -> tuple[Any, Array]:
        check.numbers(self, xs, "normalizes its input")
        return state, ignoring_unused(self._normalize)(params, xs)

    def _normalize(self, params: LayerNormParams, xs: Array) -> Array:
        scale, bias = align((params.scale, params.bias), xs)
        return scale * normalized(xs, self.epsilon) + bias
