"""Dropout between layers."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._keys import each
from jaxrnn.layer import Plan
from jaxrnn.layers._stateless import Stateless
from jaxrnn.ops import dropout_mask


@dataclass(frozen=True)
class Dropout(Stateless):
    r"""Dropout between layers: :math:`y_t = m_t \odot x_t / (1 - p)`, :math:`m_t \sim Bernoulli(1 - p)`.

    Without a key (evaluation) it is the identity. `RecurrentDropout` drops out the recurrent connections of a cell.

    The output is :math:`y_t`.

    Example:
      >>> layer = jaxrnn.Dropout(rate=0.5)
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> xs = jnp.ones((20, 32, 8))  # [time, batch, input]
      >>> state, ys = jaxrnn.unroll(layer, params, xs)
      >>> jnp.unique(ys).tolist()
      [1.0]
      >>> state, ys = jaxrnn.unroll(layer, params, xs, key=jax.random.key(1))
      >>> jnp.unique(ys).tolist()
      [0.0, 2.0]

    Args:
      rate: Probability :math:`p` of dropping a feature, from 0 to below 1.
      shared: Whether all steps of a sequence share one mask (variational dropout). Otherwise each step has its own.

    References:
      N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, "Dropout: a simple way to prevent neural
      networks from overfitting", 2014; W. Zaremba, I. Sutskever, O. Vinyals, "Recurrent neural network regularization",
      2014; Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016,
      for `shared`.
    """

    rate: float
    _: KW_ONLY
    shared: bool = False

    def __post_init__(self) -> None:
        check.rate(self, "rate")
        check.flag(self, "shared")

    def init(self, key: Array, input_size: Any) -> tuple[()]:
        return ()

    def run(self, params: Any, xs: Array, state: Any, key: Array | None, plan: Plan) -> tuple[Any, Array]:
        check.numbers(self, xs, "drops parts of its input")
        if key is None or self.rate == 0:
            return state, xs
        features = xs.shape[1 + key.ndim :]  # of one sequence if it has a key of its own, else of the whole batch

        def draw(*time: int) -> Array:
            return each(lambda key: dropout_mask(key, self.rate, (*time, *features)), key)

        if self.shared:
            mask = draw()
        else:
            mask = plan.of_all_steps(lambda number: jnp.moveaxis(draw(number), key.ndim, 0), xs.shape[0])
        return state, jnp.where(mask, xs / (1 - self.rate), 0).astype(xs.dtype)
