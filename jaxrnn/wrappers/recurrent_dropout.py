"""Dropout on the recurrent connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._keys import call_key
from jaxrnn._tracing import Product, TracedStep
from jaxrnn.layer import Cell, Keys, Params, State, leading_shape
from jaxrnn.ops import dropout_mask
from jaxrnn.wrappers._wrapper import MaskedInput, Wrapper


@dataclass(frozen=True)
class RecurrentDropout(Wrapper):
    r"""Variational dropout on the recurrent connections of a cell: one mask for all steps of a call.

    Every array :math:`a_t` that the step multiplies by a weight matrix is dropped out first,

    .. math:: R a_t \to R (m \odot a_t / (1 - p)), \quad m \sim Bernoulli(1 - p).

    The state itself is not dropped out, so the memory of a gated cell is preserved. If a sequence is run one step per
    call, each step draws its own mask. Without a key (evaluation) it is the wrapped cell.

    State and output are those of the wrapped cell.

    Example:
      >>> cell = jaxrnn.RecurrentDropout(jaxrnn.LSTM(64), rate=0.25)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> xs = jnp.ones((20, 32, 8))  # [time, batch, input]
      >>> state, ys = jaxrnn.unroll(cell, params, xs)
      >>> state, dropped = jaxrnn.unroll(cell, params, xs, key=jax.random.key(1))
      >>> bool(jnp.allclose(ys, dropped))
      False

    Args:
      cell: The wrapped cell.
      rate: Probability :math:`p` of dropping a unit, from 0 to below 1.

    References:
      Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016. All
      gates of a product share one mask, which is the paper's variant with tied weights.
    """

    cell: Cell
    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check.rate(self, "rate")

    def project(self, params: Params, x: Any, key: Keys = None) -> MaskedInput:
        if key is None:
            return MaskedInput(self.cell.project(params, x), None)
        k_cell, k_mask = jax.random.split(key)
        z = self.cell.project(params, x, k_cell)
        return MaskedInput(z, self._draw(params, z, call_key(k_mask), leading_shape(self.cell, x)))

    def step(self, params: Params, state: State, z: MaskedInput) -> State:
        if z.masks is None:
            return self.cell.step(params, state, z.z)
        traced = TracedStep(self.cell.step, params, state, z.z)
        masks = iter(z.masks)

        def multiply(product: Product, a: Array, w: Array) -> Array:
            return product(jnp.where(next(masks), a / (1 - self.rate), 0).astype(a.dtype), w)

        state, _ = traced.run(traced.weights(params), state, z.z, multiply)
        return state

    def readout(self, params: Params, state: State, z: MaskedInput) -> Any:
        return self.cell.readout(params, state, z.z)

    def _draw(self, params: Params, z: Any, key: Array, batch_shape: tuple[int, ...]) -> list[Array]:
        """Draws a mask for each array that the step multiplies by a weight matrix, in the order of the products."""

        def left_operands(params: Params, state: State, z: Any) -> list[Array]:
            traced = TracedStep(self.cell.step, params, state, z)
            operands = []

            def multiply(product: Product, a: Array, w: Array) -> Array:
                operands.append(a)
                return product(a, w)

            traced.run(traced.weights(params), state, z, multiply)
            return operands

        shapes = jax.eval_shape(left_operands, params, self.cell.initial_state(params, batch_shape), z)
        keys = jax.random.split(key, len(shapes))
        return [dropout_mask(k, self.rate, a.shape) for k, a in zip(keys, shapes, strict=True)]
