"""Cells that share one state, with a slow cell between the first two of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._keys import as_step_key, split
from jaxrnn.layer import Cell, Keys, Params, State, leading_shape, project
from jaxrnn.layers import output_size
from jaxrnn.ops import joint_dtype
from jaxrnn.wrappers._readout import readout_from_state, without_key_axes


class FastSlowParams(NamedTuple):
    fast: tuple[Params, ...]  # one entry per fast cell
    slow: Params


class FastSlowState(NamedTuple):
    fast: State  # the state that the fast cells share
    slow: State


class FastSlowInput(NamedTuple):
    first: Any  # projected input of the first fast cell
    others: tuple[Any, ...]  # projected inputs, without features, of the third and all later fast cells
    keys: tuple[Array, Array] | tuple[None, None]  # for the slow cell and the second fast cell


@dataclass(frozen=True)
class FastSlow(Cell):
    r"""Fast cells that update one shared state in turn, and a slow cell between the first two of them.

    .. math::
        h^{F_1}_t &= f^{F_1}(h^{F_k}_{t-1}, x_t) \\
        h^S_t &= f^S(h^S_{t-1}, h^{F_1}_t) \\
        h^{F_2}_t &= f^{F_2}(h^{F_1}_t, h^S_t) \\
        h^{F_i}_t &= f^{F_i}(h^{F_{i-1}}_t) \quad \text{for } 3 \leq i \leq k

    At each step the fast state changes k times and the slow state once. The slow cell and the second fast cell read
    the output of the cell before them. The later fast cells read inputs without features, so their input weights are
    empty.

    The output is that of the last fast cell. With two fast cells, it must depend on the fast state alone.

    Example:
      >>> cell = jaxrnn.FastSlow(fast=(jaxrnn.LSTM(64), jaxrnn.LSTM(64)), slow=jaxrnn.LSTM(16))
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 2, 8)))  # [time, batch, input]
      >>> ys.shape, state.slow.c.shape
      ((20, 2, 64), (2, 16))

    Args:
      fast: A tuple of at least two fast cells, whose states have the same structure and shapes.
      slow: The slow cell.

    References:
      A. Mujika, F. Meier, A. Steger, "Fast-slow recurrent neural networks", 2017.
    """

    fast: tuple[Cell, ...]
    slow: Cell

    def __post_init__(self) -> None:
        is_tuple = isinstance(self.fast, tuple) and len(self.fast) >= 2
        if not is_tuple or not all(isinstance(cell, Cell) for cell in self.fast):
            raise TypeError(f"FastSlow's fast must be a tuple of at least two jaxrnn cells, but it is {self.fast!r}")
        check.instance(self, "slow", Cell, "a jaxrnn cell")

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return self.fast[0].num_feature_axes

    def init(self, key: Array, input_size: Any) -> FastSlowParams:
        first, second, *others = self.fast
        k_slow, k_first, k_second, *k_others = jax.random.split(key, 1 + len(self.fast))
        p_first = first.init(k_first, input_size)
        first_size = output_size(first, p_first, input_size)
        p_slow = self.slow.init(k_slow, first_size)
        slow_size = output_size(self.slow, p_slow, first_size)
        p_second = second.init(k_second, slow_size)
        p_others = [_init_without_input(cell, k) for cell, k in zip(others, k_others, strict=True)]
        params = FastSlowParams((p_first, p_second, *p_others), p_slow)

        states = [jax.eval_shape(cell.initial_state, p) for cell, p in zip(self.fast, params.fast, strict=True)]
        if any(state != states[0] for state in states):
            raise ValueError(
                "FastSlow's fast must be cells whose states have the same structure and shapes, because they share one "
                f"state, but the states are {states}"
            )
        return params

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> FastSlowState:
        fast = self.fast[-1].initial_state(params.fast[-1], batch_shape, dtype)
        return FastSlowState(fast, self.slow.initial_state(params.slow, batch_shape, dtype))

    def project(self, params: Params, x: Any, key: Keys = None) -> FastSlowInput:
        k_slow, k_first, k_second, *k_others = split(None if key is None else as_step_key(key), 1 + len(self.fast))
        no_features = jnp.zeros((*leading_shape(self.fast[0], x), 0), joint_dtype((params, x)))
        others = zip(self.fast[2:], params.fast[2:], k_others, strict=True)
        return FastSlowInput(
            self.fast[0].project(params.fast[0], x, k_first),
            tuple(cell.project(p, no_features, k) for cell, p, k in others),
            (k_slow, k_second),
        )

    def step(self, params: Params, state: FastSlowState, z: FastSlowInput) -> FastSlowState:
        fast, slow, z_second = self._step_first_and_slow(params, state, z)
        for cell, p, z_cell in zip(self.fast[1:], params.fast[1:], (z_second, *z.others), strict=True):
            fast = cell.step(p, fast, z_cell)
        return FastSlowState(fast, slow)

    def comparable(self, one: FastSlowState, other: FastSlowState) -> tuple[FastSlowState, FastSlowState]:
        fast = self.fast[-1].comparable(one.fast, other.fast)
        slow = self.slow.comparable(one.slow, other.slow)
        return FastSlowState(fast[0], slow[0]), FastSlowState(fast[1], slow[1])

    def readout(self, params: Params, state: FastSlowState, z: FastSlowInput) -> Any:
        last = self.fast[-1]
        p_last = params.fast[-1]
        if z.others:
            return last.readout(p_last, state.fast, z.others[-1])
        # With two fast cells, the last one's input is computed inside the step: only its shapes are known here.
        _, _, z_last = jax.eval_shape(self._step_first_and_slow, params, state, without_key_axes(z))
        return readout_from_state(self, last, p_last, state.fast, z_last)

    def _step_first_and_slow(self, params: Params, state: FastSlowState, z: FastSlowInput) -> tuple[State, State, Any]:
        """Steps the first fast cell and the slow cell.

        Returns:
          The fast state, the slow state, and the projected input of the second fast cell.
        """
        first, second = self.fast[:2]
        p_first, p_second = params.fast[:2]
        k_slow, k_second = z.keys
        fast = first.step(p_first, state.fast, z.first)
        y_first = first.readout(p_first, fast, z.first)
        z_slow = project(self.slow, params.slow, y_first, k_slow)
        slow = self.slow.step(params.slow, state.slow, z_slow)
        y_slow = self.slow.readout(params.slow, slow, z_slow)
        return fast, slow, project(second, p_second, y_slow, k_second)


def _init_without_input(cell: Cell, key: Array) -> Params:
    """Draws the parameters of a cell that reads no features.

    They are drawn for one feature, which is then removed: cells and initializers need not support an input size of 0.
    The axes of input features are those that differ between an input size of 1 and 2.
    """
    one_feature = cell.init(key, 1)
    two_features = jax.eval_shape(lambda: cell.init(key, 2))

    def remove_feature(leaf: Array, wider: Any) -> Array:
        return leaf[tuple(slice(None if a == b else 0) for a, b in zip(leaf.shape, wider.shape, strict=True))]

    return jax.tree.map(remove_feature, one_feature, two_features)
