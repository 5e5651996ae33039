"""Dropout between layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Plan
from jaxrnn.layers._stateless import Stateless
from jaxrnn.ops import dropout_mask, is_symbols


@dataclass(frozen=True)
class Dropout(Stateless):
    r"""Dropout between layers: :math:`y_t = m_t \odot x_t / (1 - p)`, :math:`m_t \sim Bernoulli(1 - p)`.

    Without a key (evaluation) it is the identity.

    Args:
      rate: the probability :math:`p` of dropping, from 0 to below 1.
      shared: one mask for all steps of a sequence (variational dropout), not one a step.

    References: N. Srivastava et al., "Dropout", 2014; W. Zaremba et al., "Recurrent neural network
    regularization", 2014; Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in
    recurrent neural networks", 2016 (shared).
    """

    rate: float
    shared: bool = False

    def __post_init__(self) -> None:
        check.rate(self, "rate")
        check.flag(self, "shared")

    def init(self, key: Array, input_size: Any) -> tuple[()]:
        return ()

    def run(self, params: Any, xs: Array, state: Any, key: Array | None, plan: Plan) -> tuple[Any, Array]:
        if is_symbols(xs):
            raise TypeError(f"{self} needs numbers, but its input is of symbols: put it after an Embedding or a cell")
        if key is None or self.rate == 0:
            return state, xs
        mask = dropout_mask(key, self.rate, xs.shape[1:] if self.shared else xs.shape)
        return state, jnp.where(mask, xs / (1 - self.rate), 0).astype(xs.dtype)
