"""Dropout on the recurrent connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._tracing import Product, TracedStep
from jaxrnn.layer import Cell, Keys, Params, State, StepKey, leading_shape
from jaxrnn.ops import dropout_mask
from jaxrnn.wrappers._wrapper import MaskedInput, Wrapper


@dataclass(frozen=True)
class RecurrentDropout(Wrapper):
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

    def __post_init__(self) -> None:
        super().__post_init__()
        check.rate(self, "rate")

    def project(self, params: Params, x: Any, key: Keys = None) -> MaskedInput:
        if key is None:
            return MaskedInput(self.cell.project(params, x), None)
        k_cell, k_mask = StepKey.of(key).split()
        z = self.cell.project(params, x, k_cell)
        return MaskedInput(z, self._draw(params, z, k_mask.call, leading_shape(self.cell, x)))

    def step(self, params: Params, state: State, z: MaskedInput) -> State:
        if z.masks is None:
            return self.cell.step(params, state, z.z)
        traced, masks = TracedStep(self.cell.step, params, state, z.z), iter(z.masks)

        def multiply(product: Product, a: Array, w: Array) -> Array:
            return product(jnp.where(next(masks), a / (1 - self.rate), 0).astype(a.dtype), w)

        state, _ = traced.run(traced.weights(params), state, z.z, multiply)
        return state

    def readout(self, params: Params, state: State, z: MaskedInput) -> Any:
        return self.cell.readout(params, state, z.z)

    def _draw(self, params: Params, z: Any, key: Array, batch_shape: tuple[int, ...]) -> list[Array]:
        """Draws a mask for the left operand of each product of the step."""

        def operands(params: Params, state: State, z: Any) -> list[Array]:
            traced = TracedStep(self.cell.step, params, state, z)
            found = []

            def multiply(product: Product, a: Array, w: Array) -> Array:
                found.append(a)
                return product(a, w)

            traced.run(traced.weights(params), state, z, multiply)
            return found

        avals = jax.eval_shape(operands, params, self.cell.initial_state(params, batch_shape), z)
        keys = jax.random.split(key, len(avals))
        return [dropout_mask(k, self.rate, a.shape) for k, a in zip(keys, avals, strict=True)]
