"""A learned initial state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Cell, Keys, Params, State
from jaxrnn.wrappers._wrapper import Wrapper


class LearnedInitialStateParams(NamedTuple):
    cell: Params
    state: State  # the learned state of one sequence


@dataclass(frozen=True)
class LearnedInitialState(Wrapper):
    """Learns the state before the first step and after a reset. Its initial value is that of the wrapped cell.

    The output is that of the wrapped cell.

    Example:
      >>> cell = jaxrnn.LearnedInitialState(jaxrnn.LSTM(64))
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> params.state.h.shape
      (64,)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      cell: The wrapped cell.

    References:
      M. Forcada, R. Carrasco, "Learning the initial state of a second-order recurrent neural network during
      regular-language inference", 1995.
    """

    cell: Cell

    def init(self, key: Array, input_size: Any) -> LearnedInitialStateParams:
        params = self.cell.init(key, input_size)
        return LearnedInitialStateParams(params, self.cell.initial_state(params))

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        state = params.state
        if dtype is not None:  # not the dtype of every array, such as one of complex numbers or counts
            drawn = jax.eval_shape(lambda params: self.cell.initial_state(params, (), dtype), params.cell)
            state = jax.tree.map(lambda s, like: s.astype(like.dtype), state, drawn)
        return jax.tree.map(lambda s: jnp.broadcast_to(s, (*batch_shape, *s.shape)), state)

    def project(self, params: Params, x: Any, key: Keys = None) -> Any:
        return self.cell.project(params.cell, x, key)

    def step(self, params: Params, state: State, z: Any) -> State:
        return self.cell.step(params.cell, state, z)

    def readout(self, params: Params, state: State, z: Any) -> Any:
        return self.cell.readout(params.cell, state, z)
