"""Two layers over the same input, one in each direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._direction import turned


def concat(forward: Array, backward: Array) -> Array:
    """Both outputs side by side on the feature axis."""
    return jnp.concatenate([forward, backward], axis=-1)


class BidirectionalParams(NamedTuple):
    forward: Params
    backward: Params


class BidirectionalState(NamedTuple):
    forward: State
    backward: State


@dataclass(frozen=True)
class Bidirectional(Layer):
    """Two layers over the same input, one in each direction.

    Each keeps to its sequence: the backward layer begins at a sequence's last step within its length,
    and `resets` part the same sequences for both.

    Args:
      forward: the layer that reads the first step first.
      backward: the layer that reads the last step first; None: as `forward`, with parameters of its own.
      merge: what makes one output of the two: `concat`, `operator.add` for the sum, or any function of two arrays.

    References: M. Schuster, K. Paliwal, "Bidirectional recurrent neural networks", 1997.
    """

    forward: Layer
    backward: Layer | None = None
    merge: Callable[[Array, Array], Array] = concat

    def __post_init__(self) -> None:
        check.instance(self, "forward", Layer, "a jaxrnn layer")
        if self.backward is not None:
            check.instance(self, "backward", Layer, "a jaxrnn layer or None")
        check.function(self, "merge")

    @property
    def _layers(self) -> tuple[Layer, Layer]:
        return self.forward, self.forward if self.backward is None else self.backward

    @property
    def causal(self) -> bool:
        return False

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return self.forward.num_feature_axes

    def init(self, key: Array, input_size: Any) -> BidirectionalParams:
        keys = jax.random.split(key)
        return BidirectionalParams(*(layer.init(k, input_size) for layer, k in zip(self._layers, keys, strict=True)))

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        pairs = zip(self._layers, params, strict=True)
        return BidirectionalState(*(layer.initial_state(p, batch_shape, dtype) for layer, p in pairs))

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        k_forward, k_backward = (None, None) if key is None else jax.random.split(key)
        forward, backward = self._layers
        s_forward, ys_forward = forward.run(params.forward, xs, state.forward, k_forward, plan)
        s_backward, ys_backward = backward.run(params.backward, xs, state.backward, k_backward, turned(plan))
        return BidirectionalState(s_forward, s_backward), self.merge(ys_forward, ys_backward)
