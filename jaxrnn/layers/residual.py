"""Residual connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jax import Array

from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._around import Around, check_numbers, check_sizes


@dataclass(frozen=True)
class Residual(Around):
    r"""Adds the input to the output: :math:`y_t = x_t + L(x)_t`.

    Args:
      layer: a layer with as many outputs as inputs.

    References: K. He et al., "Deep residual learning for image recognition", 2016.
    """

    layer: Layer

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        check_numbers(self, xs)
        state, ys = self.layer.run(params, xs, state, key, plan)
        check_sizes(self, xs, ys)
        return state, xs + ys
