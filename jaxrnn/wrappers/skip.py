"""A wrapper that learns at which steps a cell updates its state."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Cell, Keys, Params, State
from jaxrnn.ops import affine, joint_dtype, sigmoid, spread_like, where
from jaxrnn.wrappers._wrapper import Wrapper


class SkipParams(NamedTuple):
    cell: Params
    w: Array  # [numbers in a sequence's state, 1]
    b: Array  # [1]


class SkipState(NamedTuple):
    cell: State
    update: Array  # [*batch], the update probability of the next step, not yet rounded
    updates: Array  # [*batch], the number of updates so far


@dataclass(frozen=True)
class Skip(Wrapper):
    r"""Learns at which steps a cell updates its state; at all other steps the state is copied.

    .. math::
        u_t &= \mathrm{round}(\tilde u_t) \\
        s_t &= u_t \, \mathrm{cell}(x_t, s_{t-1}) + (1 - u_t) s_{t-1} \\
        \Delta \tilde u_t &= \sigma(w s_t + b) \\
        \tilde u_{t+1} &= u_t \Delta \tilde u_t + (1 - u_t) (\tilde u_t + \min(\Delta \tilde u_t, 1 - \tilde u_t))

    with :math:`\tilde u_1 = 1`. The derivative of the rounding is 1 (straight-through estimator). :math:`w` reads all
    arrays of the state, concatenated, except those of integers; a complex array is read as its real parts followed by
    its imaginary parts. The state also counts the updates of each sequence since it began, as a number that can be
    differentiated: :math:`\lambda` times `state.updates.mean()` in the loss makes updates rarer.

    The output is that of the wrapped cell.

    Example:
      >>> cell = jaxrnn.Skip(jaxrnn.GRU(64), update_bias=-1.0)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 2, 8)))  # [time, batch, input]
      >>> ys.shape, state.updates.tolist()
      ((20, 2, 64), [10.0, 10.0])

    Args:
      cell: The wrapped cell.
      update_bias: Initial value of :math:`b`. With a value above zero, the cell initially updates at every step.

    References:
      V. Campos, B. Jou, X. Giro-i-Nieto, J. Torres, S.-F. Chang, "Skip RNN: learning to skip state updates in recurrent
      neural networks", 2018.
    """

    cell: Cell
    _: KW_ONLY
    update_bias: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check.finite(self, "update_bias")

    def init(self, key: Array, input_size: Any) -> SkipParams:
        k_cell, k_w = jax.random.split(key)
        params = self.cell.init(k_cell, input_size)
        size = jax.eval_shape(lambda p: _flatten_state(self.cell.initial_state(p), 0), params).size
        return SkipParams(params, glorot_uniform(k_w, (size, 1)), jnp.full((1,), float(self.update_bias)))

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> SkipState:
        cell = self.cell.initial_state(params.cell, batch_shape, dtype)
        dtype = joint_dtype(params.w) if dtype is None else dtype
        return SkipState(cell, *spread_like(params, (jnp.ones(batch_shape, dtype), jnp.zeros(batch_shape, dtype))))

    def project(self, params: Params, x: Any, key: Keys = None) -> Any:
        return self.cell.project(params.cell, x, key)

    def step(self, params: Params, state: SkipState, z: Any) -> SkipState:
        does_update = state.update > 0.5
        u = does_update.astype(state.update.dtype)
        u = u + (state.update - jax.lax.stop_gradient(state.update))  # exactly 0 or 1, with a derivative of 1
        new = self.cell.step(params.cell, state.cell, z)

        def choose(new: Array, old: Array) -> Array:
            if not jnp.issubdtype(new.dtype, jnp.inexact):
                return where(does_update, new, old)
            gate = u.reshape(u.shape + (1,) * (old.ndim - u.ndim))
            return gate * new + (1 - gate) * old

        cell = jax.tree.map(choose, new, state.cell)
        increment = sigmoid(affine(_flatten_state(cell, u.ndim), params.w, params.b))[..., 0]
        increased = state.update + jnp.minimum(increment, 1 - state.update)
        return SkipState(cell, u * increment + (1 - u) * increased, state.updates + u)

    def comparable(self, one: SkipState, other: SkipState) -> tuple[SkipState, SkipState]:
        cell, other_cell = self.cell.comparable(one.cell, other.cell)
        return one._replace(cell=cell), other._replace(cell=other_cell)

    def readout(self, params: Params, state: SkipState, z: Any) -> Any:
        return self.cell.readout(params.cell, state.cell, z)


def _flatten_state(state: State, batch_axes: int) -> Array:
    """Concatenates all arrays of a state except those of integers: [*batch, numbers]."""
    parts = []
    for leaf in jax.tree.leaves(state):
        flat = leaf.reshape(*leaf.shape[:batch_axes], math.prod(leaf.shape[batch_axes:]))
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            parts += [flat.real, flat.imag]
        elif jnp.issubdtype(leaf.dtype, jnp.floating):
            parts.append(flat)
    return jnp.concatenate(parts, axis=-1)
