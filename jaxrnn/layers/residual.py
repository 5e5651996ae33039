"""Residual connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._checks import check_same_size
from jaxrnn.layers._layer_wrapper import LayerWrapper


@dataclass(frozen=True)
class Residual(LayerWrapper):
    r"""Adds the input of a layer to its output: :math:`y_t = x_t + L(x)_t`.

    The output is :math:`y_t`. Parameters and state are those of the wrapped layer.

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.Dense(64), *[jaxrnn.Residual(jaxrnn.LSTM(64))] * 3)
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      layer: A layer with as many outputs as inputs.

    References:
      K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", 2016.
    """

    layer: Layer

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        check.numbers(self, xs, "passes its input on")
        state, ys = self.layer.run(params, xs, state, key, plan)
        check_same_size(self, self.layer, xs, ys)
        return state, xs + ys
