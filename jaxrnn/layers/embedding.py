"""A vector for every symbol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Plan
from jaxrnn.layers._stateless import Stateless
from jaxrnn.ops import affine, num_features


class EmbeddingParams(NamedTuple):
    w: Array  # [symbols, size], one row per symbol


@dataclass(frozen=True)
class Embedding(Stateless):
    r"""Maps every symbol to a vector: :math:`y_t = W_{x_t}`.

    Cells read symbols without an embedding, with one row of their input weights per symbol. An embedding makes these
    weights smaller, and other parameters can share its vectors. The vectors are drawn from a normal distribution with
    standard deviation :math:`1/\sqrt{size}`. A symbol out of range gives NaN.

    The output is :math:`y_t`.

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.Embedding(16), jaxrnn.GRU(64))
      >>> params = layer.init(jax.random.key(0), input_size=1000)  # 1000 different symbols
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 32), int))  # [time, batch]
      >>> params[0].w.shape, ys.shape
      ((1000, 16), (20, 32, 64))

    Args:
      size: Number of output features.
    """

    size: int

    def __post_init__(self) -> None:
        check.positive(self, "size")

    @property
    def reads_symbols(self) -> bool:
        return True

    def init(self, key: Array, input_size: Any) -> EmbeddingParams:
        return EmbeddingParams(jax.random.normal(key, (num_features(input_size), self.size)) / self.size**0.5)

    def run(self, params: EmbeddingParams, xs: Array, state: Any, key: Array | None, plan: Plan) -> tuple[Any, Array]:
        return state, affine(xs, params.w)
