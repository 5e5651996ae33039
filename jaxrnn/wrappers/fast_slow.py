"""Cells that act several times a step around one that acts once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Cell, Keys, Params, State, StepKey, leading_shape
from jaxrnn.layers import output_size
from jaxrnn.ops import joint_dtype
from jaxrnn.wrappers._inner import output, with_one_key


class FastSlowParams(NamedTuple):
    fast: tuple[Params, ...]
    slow: Params


class FastSlowState(NamedTuple):
    fast: State  # the one that the fast cells hand along
    slow: State


class FastSlowInput(NamedTuple):
    first: Any  # of the first fast cell
    others: tuple[Any, ...]  # of the third and all later ones, which read nothing
    keys: tuple[StepKey, StepKey] | tuple[None, None]  # of the slow cell and the second fast one


@dataclass(frozen=True)
class FastSlow(Cell):
    r"""Fast cells that hand one state along, and a slow cell between the first two of them.

    .. math::
        h^{F_1}_t &= f^{F_1}(h^{F_k}_{t-1}, x_t) \\
        h^S_t &= f^S(h^S_{t-1}, h^{F_1}_t) \\
        h^{F_2}_t &= f^{F_2}(h^{F_1}_t, h^S_t) \\
        h^{F_i}_t &= f^{F_i}(h^{F_{i-1}}_t) \quad \text{for } 3 \leq i \leq k

    The fast state changes k times a step and the slow one once. What the slow cell and the second fast cell read is the
    output of the cell before them. The later cells read inputs of no features, so that their input weights are empty.
    The output is that of the last fast cell; with two of them it must be made of the state alone.

    Args:
      fast: the fast cells, at least two, whose states are of one structure and shape.
      slow: the slow cell.

    References: A. Mujika, F. Meier, A. Steger, "Fast-slow recurrent neural networks", 2017.
    """

    fast: tuple[Cell, ...]
    slow: Cell

    def __post_init__(self) -> None:
        is_valid = isinstance(self.fast, tuple) and len(self.fast) >= 2
        if not is_valid or not all(isinstance(cell, Cell) for cell in self.fast):
            raise TypeError(f"FastSlow's fast must be a tuple of at least two jaxrnn cells, but it is {self.fast!r}")
        check.instance(self, "slow", Cell, "a jaxrnn cell")

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return self.fast[0].num_feature_axes

    def init(self, key: Array, input_size: Any) -> FastSlowParams:
        first, second, *others = self.fast
        k_slow, k_first, k_second, *keys = jax.random.split(key, 1 + len(self.fast))
        p_first = first.init(k_first, input_size)
        p_slow = self.slow.init(k_slow, output_size(first, p_first, input_size))
        p_second = second.init(k_second, output_size(self.slow, p_slow, output_size(first, p_first, input_size)))
        rest = [_without_input(cell, k) for cell, k in zip(others, keys, strict=True)]
        params = FastSlowParams((p_first, p_second, *rest), p_slow)
        states = [jax.eval_shape(cell.initial_state, p) for cell, p in zip(self.fast, params.fast, strict=True)]
        if any(state != states[0] for state in states):
            raise ValueError(
                f"the fast cells hand one state along, so theirs must be of one structure and shape, but are {states}"
            )
        return params

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> FastSlowState:
        fast = self.fast[-1].initial_state(params.fast[-1], batch_shape, dtype)
        return FastSlowState(fast, self.slow.initial_state(params.slow, batch_shape, dtype))

    def project(self, params: Params, x: Any, key: Keys = None) -> FastSlowInput:
        keys: list[Any] = [None] * (1 + len(self.fast))
        if key is not None:
            left = StepKey.of(key)
            for n in range(len(keys)):
                keys[n], left = left.split()
        k_slow, k_first, k_second, *k_others = keys
        nothing = jnp.zeros((*leading_shape(self.fast[0], x), 0), joint_dtype((params, x)))
        others = zip(self.fast[2:], params.fast[2:], k_others, strict=True)
        return FastSlowInput(
            self.fast[0].project(params.fast[0], x, k_first),
            tuple(cell.project(p, nothing, k) for cell, p, k in others),
            (k_slow, k_second),
        )

    def step(self, params: Params, state: FastSlowState, z: FastSlowInput) -> FastSlowState:
        fast, slow, z_second = self._begin(params, state, z)
        for cell, p, z_cell in zip(self.fast[1:], params.fast[1:], (z_second, *z.others), strict=True):
            fast = cell.step(p, fast, z_cell)
        return FastSlowState(fast, slow)

    def readout(self, params: Params, state: FastSlowState, z: FastSlowInput) -> Any:
        cell, p = self.fast[-1], params.fast[-1]
        if z.others:
            return cell.readout(p, state.fast, z.others[-1])
        _, _, like = jax.eval_shape(self._begin, params, state, with_one_key(z))
        return output(self, cell, p, state.fast, like)

    def _begin(self, params: Params, state: FastSlowState, z: FastSlowInput) -> tuple[State, State, Any]:
        """The first fast cell and the slow one: their states, and what the second fast cell needs of its input."""
        (first, second), (p_first, p_second) = self.fast[:2], params.fast[:2]
        k_slow, k_second = z.keys
        fast = first.step(p_first, state.fast, z.first)
        z_slow = self.slow.project(params.slow, first.readout(p_first, fast, z.first), k_slow)
        slow = self.slow.step(params.slow, state.slow, z_slow)
        return fast, slow, second.project(p_second, self.slow.readout(params.slow, slow, z_slow), k_second)


def _without_input(cell: Cell, key: Array) -> Params:
    """Parameters of a cell that reads no features: drawn for one of them, which is then taken away."""
    params, other = cell.init(key, 1), jax.eval_shape(lambda: cell.init(key, 2))
    return jax.tree.map(
        lambda one, two: one[tuple(slice(None if a == b else 0) for a, b in zip(one.shape, two.shape, strict=True))],
        params,
        other,
    )
