"""Networks that forecast several steps with a distribution: an encoder-decoder, and a network in a closed loop.

The distribution of a value is a number of equally likely points. The loss is its continuous ranked probability score
(CRPS), which equals twice the mean quantile loss of the sorted points: point k of n is the quantile (k - 1/2) / n.

References: R. Wen et al., "A multi-horizon quantile recurrent forecaster", 2017 (the encoder-decoder); D. Salinas et
al., "DeepAR: probabilistic forecasting with autoregressive recurrent networks", 2020 (the closed loop).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from data.series_windows import EXPECTED, KNOWN, POSITION, Windows
from jax import Array
from jax.scipy.stats import norm

import jaxrnn


def crps(points: Array, values: Array) -> Array:
    """Returns the CRPS of values [...], given sorted points [..., points]."""
    levels = quantile_levels(points.shape[-1])
    errors = values[..., None] - points
    return 2 * jnp.maximum(levels * errors, (levels - 1) * errors).mean(-1)


def quantile_levels(number: int) -> Array:
    return (jnp.arange(number) + 0.5) / number


def features(value: Array, observed: Array, expected: Array, begun: Array, known: Array) -> Array:
    """Returns the input [..., NUM_FEATURES] that `GRUD` reads: numbers, which of them are observed, the time gap.

    Other cells can read the same numbers.
    """
    numbers = jnp.concatenate([value[..., None], expected, known], axis=-1)
    there = jnp.concatenate([observed[..., None], begun], axis=-1).astype(numbers.dtype)
    rest = jnp.ones_like(known)
    return jnp.concatenate([numbers, there, rest, rest[..., :1]], axis=-1)


NUM_FEATURES = 2 * (1 + EXPECTED + KNOWN) + 1


def with_spread(head: Any, points: int) -> Any:
    """Returns the parameters of a head whose points are at first those of a normal distribution."""
    return head._replace(w=0.1 * head.w, b=norm.ppf(quantile_levels(points)).astype(head.b.dtype))


@dataclass(frozen=True)
class EncoderDecoder:
    """Reads the values before the origin, and forecasts all steps of the horizon at once.

    At each step, the decoder reads the encoder's last output, the calendar and the values of earlier seasons. It adds
    its output to the usual value of the season.

    Args:
      encoder: The cell that reads values.
      decoder: The cell that reads the features known for the future.
      context: Number of values that are read.
      horizon: Number of steps to forecast.
      points: Number of points of each distribution.
      dropout: Dropout rate of what the decoder and the last layer read.
    """

    encoder: jaxrnn.Cell
    decoder: jaxrnn.Cell
    context: int
    horizon: int
    points: int
    dropout: float

    @property
    def head(self) -> jaxrnn.Stack:
        dropout = jaxrnn.Dropout(self.dropout)
        return jaxrnn.Stack(dropout, jaxrnn.DenselyConnected(self.decoder), dropout, jaxrnn.Dense(self.points))

    def init(self, key: Array) -> Any:
        k_encoder, k_head = jax.random.split(key)
        encoder = self.encoder.init(k_encoder, NUM_FEATURES)
        summary = jax.eval_shape(lambda p: jaxrnn.unroll(self.encoder, p, jnp.zeros((1, NUM_FEATURES)))[1], encoder)
        *layers, dense = self.head.init(k_head, summary.shape[-1] + 2 * EXPECTED + KNOWN)
        return encoder, (*layers, with_spread(dense, self.points))

    def distributions(self, params: Any, w: Windows, key: Array | None = None) -> Array:
        """Returns sorted points [horizon, batch, points]."""
        p_encoder, p_head = params
        now = self.context - 1
        read = features(w.values, w.observed, w.expected, w.begun, w.known)[: self.context]
        _, ys = jaxrnn.unroll(self.encoder, p_encoder, read)
        expected, known = w.expected[self.context :], w.known[self.context :]
        summary = jnp.broadcast_to(ys[-1], (self.horizon, *ys[-1].shape))
        ahead = jnp.concatenate([summary, expected, expected - w.expected[now], known], axis=-1)
        _, points = jaxrnn.unroll(self.head, p_head, ahead, key=key)
        return jnp.sort(expected[..., -1:] + points, axis=-1)

    def losses(self, params: Any, w: Windows, key: Array | None = None) -> tuple[Array, Array]:
        """Returns the CRPS of values, in the units of the windows, and which of them count."""
        return crps(self.distributions(params, w, key), w.values[self.context :]), w.counts[self.context :]

    def forecast(self, params: Any, w: Windows, key: Array, paths: int) -> Array:
        """Returns sorted points [horizon, batch, points]."""
        return self.distributions(params, w)


@dataclass(frozen=True)
class ClosedLoop:
    """Forecasts one step from the values before it, and reads its own forecasts in the horizon.

    In training it reads the true values (teacher forcing). To forecast, it samples paths: each next value is one of the
    points of the distribution, which the network then reads. The output is added to the last value.

    Args:
      cell: The cell.
      context: Number of values that are read.
      horizon: Number of steps to forecast.
      points: Number of points of each distribution.
      dropout: Dropout rate of the cell's outputs.
    """

    cell: jaxrnn.Cell
    context: int
    horizon: int
    points: int
    dropout: float

    @property
    def layer(self) -> jaxrnn.Stack:
        cell = jaxrnn.Stack(self.cell, jaxrnn.Dropout(self.dropout))
        return jaxrnn.Stack(jaxrnn.DenselyConnected(cell), jaxrnn.Dense(self.points))

    def init(self, key: Array) -> Any:
        *layers, dense = self.layer.init(key, NUM_FEATURES)
        return (*layers, with_spread(dense, self.points))

    def inputs(self, w: Windows) -> Array:
        """Returns what is read before each value [time, batch, NUM_FEATURES]; the first feature is the last value."""
        observed = jnp.concatenate([jnp.zeros_like(w.observed[:1]), w.observed[:-1]])
        return features(w.last, observed, w.expected, w.begun, w.known)

    def losses(self, params: Any, w: Windows, key: Array | None = None) -> tuple[Array, Array]:
        """Returns the CRPS of values one step ahead, in the units of the windows, and which of them count."""
        xs = self.inputs(w)
        _, ys = jaxrnn.unroll(self.layer, params, xs, key=key)
        points = jnp.sort(xs[..., :1] + ys, axis=-1)
        return crps(points, w.values), w.counts & w.begun[..., 0]

    def forecast(self, params: Any, w: Windows, key: Array, paths: int) -> Array:
        """Returns the sorted values of sampled paths [horizon, batch, paths]."""
        xs = self.inputs(w)
        state, _ = jaxrnn.unroll(self.layer, params, xs[: self.context])
        state, first = jax.tree.map(lambda a: jnp.broadcast_to(a, (paths, *a.shape)), (state, xs[self.context]))
        ahead = [a[self.context :] for a in (w.expected, w.begun, w.known)]
        layer = jaxrnn.DenselyConnected(self.layer)  # outputs its input, too, which says what step it is

        def feed(y: Array, key: Array) -> Array:
            x, points = jnp.split(y, [NUM_FEATURES], axis=-1)
            chosen = jax.random.randint(key, (*points.shape[:-1], 1), 0, self.points)
            value = x[..., 0] + jnp.take_along_axis(points, chosen, axis=-1)[..., 0]
            step = jnp.round(x[0, 0, 1 + EXPECTED + POSITION] * self.horizon).astype(int) + 1
            then = [jnp.broadcast_to(a[jnp.minimum(step, self.horizon - 1)], (paths, *a.shape[1:])) for a in ahead]
            return features(value, jnp.ones_like(value), *then)

        out = jaxrnn.generate(layer, (params,), first[None], (state,), steps=self.horizon, feed=feed, key=key)
        return jnp.sort(out.xs[..., 0].swapaxes(1, 2), axis=-1)


Forecaster = EncoderDecoder | ClosedLoop
