"""Zoneout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import _check as check
from jaxrnn.layer import Cell, Keys, Params, State, StepKey, leading_shape
from jaxrnn.ops import dropout_mask, where
from jaxrnn.wrappers._wrapper import MaskedInput, Wrapper


@dataclass(frozen=True)
class Zoneout(Wrapper):
    r"""Zoneout: units of the state keep their value at random.

    .. math:: s_t = m_t \odot s_{t-1} + (1 - m_t) \odot \tilde s_t, \quad m_t \sim Bernoulli(p)

    :math:`\tilde s_t` is the wrapped cell's state after its step. Without a key (evaluation) the mask is
    its mean, :math:`p`. Whole numbers in a state, such as a count of steps, are those of the step.

    Args:
      cell: the wrapped cell.
      rate: the probability :math:`p` of keeping the old value, from 0 to below 1; one number, or one for
        each array of the state, such as `LSTMState(h=0.05, c=0.5)`.

    References: D. Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations", 2017.
    """

    cell: Cell
    rate: Any = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check.rates(self, "rate")

    def project(self, params: Params, x: Any, key: Keys = None) -> MaskedInput:
        if key is None:
            return MaskedInput(self.cell.project(params, x), None)
        k_cell, k_mask = StepKey.of(key).split()
        z = self.cell.project(params, x, k_cell)
        state = jax.eval_shape(lambda p: self.cell.initial_state(p, leading_shape(self.cell, x)), params)
        leaves, tree = jax.tree.flatten(state)
        keys = jax.random.split(k_mask.step, len(leaves))
        masks = [dropout_mask(k, r, s.shape) for k, r, s in zip(keys, self._rates(tree), leaves, strict=True)]
        return MaskedInput(z, jax.tree.unflatten(tree, masks))

    def step(self, params: Params, state: State, z: MaskedInput) -> State:
        new = self.cell.step(params, state, z.z)
        if z.masks is not None:
            kept = jax.tree.map(where, z.masks, new, state)
        else:
            rates = jax.tree.unflatten(jax.tree.structure(state), self._rates(jax.tree.structure(state)))
            kept = jax.tree.map(lambda r, old, new: r * old + (1 - r) * new, rates, state, new)
        return jax.tree.map(lambda k, n: k if jnp.issubdtype(n.dtype, jnp.inexact) else n, kept, new)

    def readout(self, params: Params, state: State, z: MaskedInput) -> Any:
        return self.cell.readout(params, state, z.z)

    def _rates(self, tree: Any) -> list[float]:
        if jax.tree.structure(self.rate) == tree:
            return jax.tree.leaves(self.rate)
        if jax.tree.structure(self.rate).num_leaves == 1:
            return jax.tree.leaves(self.rate) * tree.num_leaves
        raise ValueError(f"Zoneout's rate must be one number or have the state's structure {tree}, not {self.rate}")
