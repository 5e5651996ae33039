"""Vectors for symbols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Plan
from jaxrnn.layers._stateless import Stateless
from jaxrnn.ops import affine


class EmbeddingParams(NamedTuple):
    w: Array  # [symbols, size], one row a symbol


@dataclass(frozen=True)
class Embedding(Stateless):
    r"""A vector for every symbol: :math:`y_t = W_{x_t}`.

    A cell reads symbols by itself; an embedding before it makes its input product smaller than one row
    a symbol and gate, and lets other parameters share the vectors. Drawn from a normal law of standard deviation
    :math:`1/\sqrt{size}`.

    Args:
      size: number of output features.
    """

    size: int

    def __post_init__(self) -> None:
        check.positive(self, "size")

    def init(self, key: Array, input_size: int) -> EmbeddingParams:
        return EmbeddingParams(jax.random.normal(key, (input_size, self.size)) / self.size**0.5)

    def run(self, params: EmbeddingParams, xs: Array, state: Any, key: Array | None, plan: Plan) -> tuple[Any, Array]:
        return state, affine(xs, params.w)
