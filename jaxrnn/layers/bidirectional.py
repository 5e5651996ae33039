"""Two layers that read the same input in opposite directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._keys import split
from jaxrnn._tracing import ignoring_unused
from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._checks import check_one_array


def concat(forward: Array, backward: Array) -> Array:
    """Concatenates the outputs of both directions on the feature axis: the default `merge` of `Bidirectional`.

    Example:
      >>> jaxrnn.layers.concat(jnp.ones((20, 2, 3)), jnp.zeros((20, 2, 4))).shape
      (20, 2, 7)

    Args:
      forward: Outputs [*batch, features] of the forward layer.
      backward: Outputs of the backward layer, with the same batch axes.
    """
    return jnp.concatenate([forward, backward], axis=-1)


class BidirectionalParams(NamedTuple):
    forward: Params
    backward: Params


class BidirectionalState(NamedTuple):
    forward: State
    backward: State


@dataclass(frozen=True)
class Bidirectional(Layer):
    """Runs two layers over the same input, one in each direction, and merges their outputs.

    Both layers read the same sequences: the backward layer starts at each sequence's last step within its length, and
    `resets` separate the same sequences for both. Every output depends on future inputs, so `jaxrnn.step` cannot run
    this layer.

    The output is the merged outputs of both layers at each step. By default they are concatenated.

    Example:
      >>> layer = jaxrnn.Bidirectional(jaxrnn.LSTM(64))
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> xs = jnp.zeros((20, 2, 8))  # [time, batch, input]
      >>> state, ys = jaxrnn.unroll(layer, params, xs, lengths=jnp.array([20, 13]))
      >>> ys.shape, state.backward.h.shape
      ((20, 2, 128), (2, 64))

    Args:
      forward: The layer that reads the first step first.
      backward: The layer that reads the last step first. None means a layer like `forward`, with its own parameters.
      merge: A function of both outputs that returns the merged output: `jaxrnn.layers.concat`, `operator.add` for the
        sum, or any other function of two arrays.

    References:
      M. Schuster, K. Paliwal, "Bidirectional recurrent neural networks", 1997.
    """

    forward: Layer
    _: KW_ONLY
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
        forward, backward = self._layers
        k_forward, k_backward = jax.random.split(key)
        return BidirectionalParams(forward.init(k_forward, input_size), backward.init(k_backward, input_size))

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        forward, backward = self._layers
        return BidirectionalState(
            forward.initial_state(params.forward, batch_shape, dtype),
            backward.initial_state(params.backward, batch_shape, dtype),
        )

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        k_forward, k_backward = split(key, 2)
        forward, backward = self._layers
        s_forward, ys_forward = forward.run(params.forward, xs, state.forward, k_forward, plan)
        backward_plan = plan._replace(reverse=not plan.reverse)
        s_backward, ys_backward = backward.run(params.backward, xs, state.backward, k_backward, backward_plan)
        if self.merge is concat:  # another function may merge outputs of any kind
            check_one_array(forward, ys_forward)
            check_one_array(backward, ys_backward)
        return BidirectionalState(s_forward, s_backward), ignoring_unused(self._merge)(None, ys_forward, ys_backward)

    def _merge(self, _: None, forward: Any, backward: Any) -> Any:
        return self.merge(forward, backward)
