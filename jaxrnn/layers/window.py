"""The last inputs side by side, as a convolution over time reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._kinds import with_dtypes_of
from jaxrnn.layer import Layer, Plan
from jaxrnn.layers._checks import check_feature_axes
from jaxrnn.layers._padding import hold_in_padding
from jaxrnn.ops import as_joint_dtype, at_last, num_features, where, zeros


class WindowParams(NamedTuple):
    like: Array  # [0, input], an empty array whose shape and dtype are those of the state's features


class WindowState(NamedTuple):
    past: Array  # [*batch, width - 1, input], the oldest input first


@dataclass(frozen=True)
class Window(Layer):
    r"""Concatenates the last inputs: :math:`y_t = [x_{t-k+1}, \dots, x_t]`, with zeros before the first step.

    A layer that multiplies a window by a matrix is a masked convolution over time: `Stack(Window(2), QRNN(64))` is the
    quasi-recurrent network with filters of width two. Symbols need an `Embedding` before this layer.

    The output is :math:`y_t`, the oldest input first.

    Example:
      >>> layer = jaxrnn.Window(width=2)
      >>> params = layer.init(jax.random.key(0), input_size=1)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.array([[1.0], [2.0], [3.0]]))  # [time, input]
      >>> ys.tolist()
      [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]

    Args:
      width: Number of inputs :math:`k` in a window, including the current one.
    """

    width: int

    def __post_init__(self) -> None:
        check.positive(self, "width")

    def init(self, key: Array, input_size: int) -> WindowParams:
        check_feature_axes(self, key, input_size)
        return WindowParams(jnp.zeros((0, num_features(input_size))))

    def initial_state(self, params: WindowParams, batch_shape=(), dtype=None) -> WindowState:
        return WindowState(*zeros(params, (*batch_shape, self.width - 1), dtype, params.like.shape[-1]))

    def run(
        self, params: WindowParams, xs: Array, state: WindowState, key: Array | None, plan: Plan
    ) -> tuple[WindowState, Array]:
        check.numbers(self, xs, "concatenates its last inputs")
        input_size = params.like.shape[-1]
        if xs.shape[-1] != input_size:
            raise ValueError(
                f"the input of {self} must have the input size of the parameters, {input_size}, "
                f"but it has {xs.shape[-1]}: call init with the size of your input"
            )
        delayed = [as_joint_dtype(xs, (params, xs))]  # the inputs 0, 1, ... steps ago
        past = []  # the same before the first step
        for age in range(1, self.width):
            past.append(_before(delayed[-1], state.past[..., -age, :], plan))
            delayed.append(_delay(delayed[-1], past[-1], plan))
        windows = jnp.stack(delayed[::-1], axis=-2)
        if past:
            state = WindowState(jnp.stack(past[::-1], axis=-2).astype(state.past.dtype))
        ys = windows.reshape(*xs.shape[:-1], self.width * input_size)
        if plan.all_states:
            past = with_dtypes_of(state, WindowState(windows[..., 1:, :]))
            return hold_in_padding(past, state, plan), ys
        last = state
        if windows.shape[0] != 0:
            last = with_dtypes_of(state, WindowState(_last(windows, plan)[..., 1:, :]))
        return plan.left_after_all(last, state), ys


def _before(xs: Array, first: Array, plan: Plan) -> Array:
    """Returns the entry of the step that is read before those of this device; `first` if there is none."""
    if plan.axis_name is None or xs.shape[0] == 0:
        return first
    dtype = jnp.promote_types(xs.dtype, first.dtype)
    return plan.left_before(_last(xs, plan).astype(dtype), first.astype(dtype))


def _delay(xs: Array, first: Array, plan: Plan) -> Array:
    """Delays inputs by one step in the order in which they are read; the step that is read first gets `first`."""
    first = first[None].astype(xs.dtype)
    if plan.reverse:
        xs = jnp.concatenate([xs, first])[1:]
        if plan.valid is not None:  # a step before padding is the first one that is read
            next_is_valid = jnp.concatenate([plan.valid, jnp.zeros_like(plan.valid[:1])])[1:]
            xs = where(next_is_valid, xs, first)
    else:
        xs = jnp.concatenate([first, xs])[: xs.shape[0]]
    restarts = plan.restarts
    return xs if restarts is None else where(~restarts, xs, jnp.zeros((), xs.dtype))


def _last(xs: Array, plan: Plan) -> Array:
    """Returns the entry of the step that is read last."""
    if plan.reverse:
        return xs[0]
    if plan.lengths is None:
        return xs[-1]
    return at_last(xs, plan.lengths)
