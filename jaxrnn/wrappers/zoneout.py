"""Zoneout: units of the state that randomly keep their previous value."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Cell, Keys, Params, State, leading_shape
from jaxrnn.ops import dropout_mask, where
from jaxrnn.wrappers._wrapper import MaskedInput, Wrapper


@dataclass(frozen=True)
class Zoneout(Wrapper):
    r"""Zoneout: at each step, randomly chosen units of the state keep their previous value.

    .. math:: s_t = m_t \odot s_{t-1} + (1 - m_t) \odot \tilde s_t, \quad m_t \sim Bernoulli(p)

    :math:`\tilde s_t` is the wrapped cell's state after its step. Without a key (evaluation) the mask is replaced by
    its mean :math:`p`. Integers and random keys in a state, such as a count of steps, always take their new value.

    The output is that of the wrapped cell.

    Example:
      >>> cell = jaxrnn.Zoneout(jaxrnn.LSTM(64), rate=jaxrnn.cells.LSTMState(h=0.05, c=0.5))
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> xs = jnp.zeros((20, 32, 8))  # [time, batch, input]
      >>> state, ys = jaxrnn.unroll(cell, params, xs, key=jax.random.key(1))
      >>> ys.shape
      (20, 32, 64)

    Args:
      cell: The wrapped cell.
      rate: Probability :math:`p` of keeping the previous value, from 0 to below 1: one number, or one for each array of
        the state, such as `LSTMState(h=0.05, c=0.5)`.

    References:
      D. Krueger, T. Maharaj, J. Kramár, M. Pezeshki, N. Ballas, N. Ke, A. Goyal, Y. Bengio, A. Courville, C. Pal,
      "Zoneout: regularizing RNNs by randomly preserving hidden activations", 2017.
    """

    cell: Cell
    _: KW_ONLY
    rate: Any = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check.rates(self, "rate")
        if not jax.tree.leaves(self.rate):
            raise TypeError(
                f"Zoneout's rate must be one number, or one for each array of the state, but it is {self.rate!r}"
            )

    def project(self, params: Params, x: Any, key: Keys = None) -> MaskedInput:
        if key is None:
            return MaskedInput(self.cell.project(params, x), None)
        k_cell, k_mask = jax.random.split(key)
        z = self.cell.project(params, x, k_cell)
        state = jax.eval_shape(lambda p: self.cell.initial_state(p, leading_shape(self.cell, x)), params)
        leaves, structure = jax.tree.flatten(state)
        rates = jax.tree.leaves(self._rates_like(state))
        keys = jax.random.split(k_mask, len(leaves))
        # A dropout mask is True with probability 1 - rate: here it selects the units that take their new value.
        masks = [dropout_mask(k, rate, leaf.shape) for k, rate, leaf in zip(keys, rates, leaves, strict=True)]
        return MaskedInput(z, jax.tree.unflatten(structure, masks))

    def step(self, params: Params, state: State, z: MaskedInput) -> State:
        new, old = self.cell.comparable(self.cell.step(params, state, z.z), state)

        def mix(rate: Any, mask: Any, new: Array, old: Array) -> Array:
            if not jnp.issubdtype(new.dtype, jnp.inexact):
                return new
            return rate * old + (1 - rate) * new if mask is None else where(mask, new, old)

        masks = jax.tree.map(lambda _: None, new) if z.masks is None else z.masks
        return jax.tree.map(mix, self._rates_like(state), masks, new, old, is_leaf=lambda leaf: leaf is None)

    def readout(self, params: Params, state: State, z: MaskedInput) -> Any:
        return self.cell.readout(params, state, z.z)

    def _rates_like(self, state: State) -> Any:
        """Returns the rates as a pytree with the structure of the state."""
        structure = jax.tree.structure(state)
        if jax.tree.structure(self.rate) == structure:
            return self.rate
        leaves = jax.tree.leaves(self.rate)
        if len(leaves) == 1:
            return jax.tree.unflatten(structure, leaves * structure.num_leaves)
        raise ValueError(
            f"Zoneout's rate must be one number, or have the structure of the state, {structure}, "
            f"but it is {self.rate!r}"
        )
