"""Layers without a state, to stand between recurrent ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Layer, Plan
from jaxrnn.ops import affine, dropout_mask, is_symbols, num_features


class _Stateless(Layer):
    """A layer whose state is empty. Of inputs of several feature axes it reads the last; the others are a batch."""

    def initial_state(self, params: Any, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> tuple[()]:
        return ()


class DenseParams(NamedTuple):
    w: Array  # [input, size]
    b: Array  # [size]


@dataclass(frozen=True)
class Dense(_Stateless):
    r"""An affine map of every step: :math:`y_t = W x_t + b`. Of images, of every place.

    Args:
      size: number of output features.
    """

    size: int

    def init(self, key: Array, input_size: Any) -> DenseParams:
        return DenseParams(glorot_uniform(key, (num_features(input_size), self.size)), jnp.zeros(self.size))

    def run(self, params: DenseParams, xs: Array, state: Any, key: Array | None, plan: Plan) -> tuple[Any, Array]:
        return state, affine(xs, params.w, params.b)


class EmbeddingParams(NamedTuple):
    w: Array  # [symbols, size], one row a symbol


@dataclass(frozen=True)
class Embedding(_Stateless):
    r"""A vector for every symbol: :math:`y_t = W_{x_t}`.

    A cell reads symbols by itself; an embedding before it makes its input product smaller than one row
    a symbol and gate, and lets other parameters share the vectors. Drawn from a normal law of standard deviation
    :math:`1/\sqrt{size}`.

    Args:
      size: number of output features.
    """

    size: int

    def init(self, key: Array, input_size: int) -> EmbeddingParams:
        return EmbeddingParams(jax.random.normal(key, (input_size, self.size)) / self.size**0.5)

    def run(self, params: EmbeddingParams, xs: Array, state: Any, key: Array | None, plan: Plan) -> tuple[Any, Array]:
        return state, affine(xs, params.w)


@dataclass(frozen=True)
class Dropout(_Stateless):
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

    def init(self, key: Array, input_size: Any) -> tuple[()]:
        return ()

    def run(self, params: Any, xs: Array, state: Any, key: Array | None, plan: Plan) -> tuple[Any, Array]:
        if is_symbols(xs):
            raise TypeError(f"{self} needs numbers, but its input is of symbols: put it after an Embedding or a cell")
        if key is None or self.rate == 0:
            return state, xs
        mask = dropout_mask(key, self.rate, xs.shape[1:] if self.shared else xs.shape)
        return state, jnp.where(mask, xs / (1 - self.rate), 0).astype(xs.dtype)


class LayerNormParams(NamedTuple):
    scale: Array  # [size]
    bias: Array  # [size]


@dataclass(frozen=True)
class LayerNorm(_Stateless):
    r"""Layer normalization: :math:`y_t = \gamma \odot (x_t - \mu_t) / \sqrt{\sigma^2_t + \epsilon} + \beta`.

    :math:`\mu_t, \sigma^2_t` are the mean and variance over the features of one step; of images, of every place.

    Args:
      epsilon: added to the variance.

    References: J. Ba, J. Kiros, G. Hinton, "Layer normalization", 2016.
    """

    epsilon: float = 1e-6

    def init(self, key: Array, input_size: Any) -> LayerNormParams:
        n = num_features(input_size)
        return LayerNormParams(jnp.ones(n), jnp.zeros(n))

    def run(self, params: LayerNormParams, xs: Array, state: Any, key: Array | None, plan: Plan) -> tuple[Any, Array]:
        centered = xs - xs.mean(-1, keepdims=True)
        variance = (centered**2).mean(-1, keepdims=True)
        return state, params.scale * (centered * jax.lax.rsqrt(variance + self.epsilon)) + params.bias
