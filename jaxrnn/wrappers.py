"""Cells around a cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Cell, Keys, Params, State, StepKey
from jaxrnn.ops import dropout_mask, leading_shape, where
from jaxrnn.program import Program


class MaskedInput(NamedTuple):
    """A projected input and the random masks of its step; None in evaluation."""

    z: Any
    masks: Any


class _Wrapper(Cell):
    """A cell around one other, with its parameters and its state."""

    cell: Cell

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.cell, Cell):
            raise TypeError(f"{type(self).__name__} wraps a cell, but it was given {self.cell!r}")

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return self.cell.num_feature_axes

    def init(self, key: Array, input_size: Any) -> Params:
        return self.cell.init(key, input_size)

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        return self.cell.initial_state(params, batch_shape, dtype)


@dataclass(frozen=True)
class Zoneout(_Wrapper):
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


@dataclass(frozen=True)
class RecurrentDropout(_Wrapper):
    r"""Variational dropout on the recurrent connections: one mask for all steps of a call.

    Whatever the step multiplies by a weight matrix is dropped out first,
    :math:`R a_t \to R (m \odot a_t / (1 - p))`, :math:`m \sim Bernoulli(1 - p)`; the state itself is not, so a
    gated cell's memory survives. Run one step at a time, each step draws its own mask. Without a key (evaluation)
    it is the wrapped cell.

    Args:
      cell: the wrapped cell.
      rate: the probability :math:`p` of dropping, from 0 to below 1.

    References: Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural
    networks", 2016 (with one mask for all gates of a product, their tied weights).
    """

    cell: Cell
    rate: float

    def project(self, params: Params, x: Any, key: Keys = None) -> MaskedInput:
        if key is None:
            return MaskedInput(self.cell.project(params, x), None)
        k_cell, k_mask = StepKey.of(key).split()
        z = self.cell.project(params, x, k_cell)
        return MaskedInput(z, self._draw(params, z, k_mask.call, leading_shape(self.cell, x)))

    def step(self, params: Params, state: State, z: MaskedInput) -> State:
        if z.masks is None:
            return self.cell.step(params, state, z.z)
        program, masks = Program(self.cell.step, params, state, z.z), iter(z.masks)

        def product(multiply: Any, a: Array, w: Array) -> Array:
            return multiply(jnp.where(next(masks), a / (1 - self.rate), 0).astype(a.dtype), w)

        return program.run(program.weights(params), state, z.z, product)

    def readout(self, params: Params, state: State, z: MaskedInput) -> Any:
        return self.cell.readout(params, state, z.z)

    def _draw(self, params, z, key, batch_shape) -> list[Array]:
        """A mask for each product of the step, of the shape of what is multiplied."""
        shapes: list[tuple[int, ...]] = []

        def step(params, state, z):
            program = Program(self.cell.step, params, state, z)

            def product(multiply: Any, a: Array, w: Array) -> Array:
                shapes.append(a.shape)
                return multiply(a, w)

            return program.run(program.weights(params), state, z, product)

        jax.eval_shape(step, params, self.cell.initial_state(params, batch_shape), z)
        return [dropout_mask(k, self.rate, s) for k, s in zip(jax.random.split(key, len(shapes)), shapes, strict=True)]


class LearnedInitialStateParams(NamedTuple):
    cell: Params
    state: State  # the learned state of one sequence


@dataclass(frozen=True)
class LearnedInitialState(_Wrapper):
    """A cell whose state before the first step, and after a reset, is learned. It begins at zero.

    Args:
      cell: the wrapped cell.

    References: M. Forcada, R. Carrasco, "Learning the initial state of a second-order recurrent neural
    network during regular-language inference", 1995.
    """

    cell: Cell

    def init(self, key: Array, input_size: Any) -> LearnedInitialStateParams:
        params = self.cell.init(key, input_size)
        return LearnedInitialStateParams(params, self.cell.initial_state(params))

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        return jax.tree.map(
            lambda s: jnp.broadcast_to(s, (*batch_shape, *s.shape)).astype(s.dtype if dtype is None else dtype),
            params.state,
        )

    def project(self, params: Params, x: Any, key: Keys = None) -> Any:
        return self.cell.project(params.cell, x, key)

    def step(self, params: Params, state: State, z: Any) -> State:
        return self.cell.step(params.cell, state, z)

    def readout(self, params: Params, state: State, z: Any) -> Any:
        return self.cell.readout(params.cell, state, z)
