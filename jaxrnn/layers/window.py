"""The last few inputs side by side: what a convolution over time reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Layer, Plan
from jaxrnn.ops import as_joint_dtype, at_last, is_symbols, where, zeros


class WindowParams(NamedTuple):
    like: Array  # [0, input], no numbers: its shape says how wide the state is


class WindowState(NamedTuple):
    past: Array  # [*batch, width - 1, input], the oldest first


@dataclass(frozen=True)
class Window(Layer):
    r"""The last inputs side by side: :math:`y_t = [x_{t-k+1}, \dots, x_t]`, with zeros before the beginning.

    A layer that multiplies it by a matrix is a masked convolution over time: `Stack(Window(2), QRNN(64))` is the
    quasi-recurrent network whose filters are two steps wide. Of symbols, put an `Embedding` before it.

    Args:
      width: the number of inputs :math:`k`, the present one among them.
    """

    width: int

    def __post_init__(self) -> None:
        check.positive(self, "width")

    def init(self, key: Array, input_size: int) -> WindowParams:
        return WindowParams(jnp.zeros((0, input_size)))

    def initial_state(self, params: WindowParams, batch_shape=(), dtype=None) -> WindowState:
        return WindowState(*zeros(params, (*batch_shape, self.width - 1), dtype, params.like.shape[-1]))

    def run(
        self, params: WindowParams, xs: Array, state: WindowState, key: Array | None, plan: Plan
    ) -> tuple[WindowState, Array]:
        if is_symbols(xs):
            raise TypeError(f"{self} needs numbers, but its input is of symbols: put it after an Embedding")
        if xs.shape[-1] != params.like.shape[-1]:
            raise ValueError(
                f"the input of {self} must have the size it was made for, {params.like.shape[-1]}, "
                f"but it has {xs.shape[-1]}: call init with the size that is fed"
            )
        seen = [as_joint_dtype(xs, (params, xs))]  # the newest first
        for age in range(1, self.width):
            seen.append(_a_step_later(seen[-1], state.past[..., -age, :], plan))
        windows = jnp.stack(seen[::-1], axis=-2)
        last = _last(windows, plan)
        ys = windows.reshape(*xs.shape[:-1], self.width * xs.shape[-1])
        if last is None:
            return state, ys
        past = last[..., 1:, :].astype(state.past.dtype)
        if plan.lengths is not None:  # sequences of no steps keep their state
            past = where(plan.lengths > 0, past, state.past)
        return WindowState(past), ys


def _a_step_later(xs: Array, before: Array, plan: Plan) -> Array:
    """What was at each step's place one step earlier in the order of reading; `before` at the first."""
    first = before[None].astype(xs.dtype)
    if plan.reverse:
        xs = jnp.concatenate([xs, first])[1:]
        if plan.valid is not None:  # the padding is read first, and leaves the state alone
            beyond = jnp.concatenate([plan.valid, jnp.zeros_like(plan.valid[:1])])[1:]
            xs = where(beyond, xs, first)
    else:
        xs = jnp.concatenate([first, xs])[: xs.shape[0]]
    return xs if plan.resets is None else where(~plan.resets, xs, jnp.zeros((), xs.dtype))


def _last(windows: Array, plan: Plan) -> Array | None:
    """The window of the last step that is read; None where there are no steps at all."""
    if windows.shape[0] == 0:
        return None
    if plan.reverse:
        return windows[0]
    if plan.lengths is None:
        return windows[-1]
    return at_last(windows, plan.lengths)
