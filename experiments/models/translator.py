"""Encoder and decoder, with or without attention, and the search for the likeliest output.

References: I. Sutskever et al., "Sequence to sequence learning with neural networks", 2014; K. Cho et al., "Learning
phrase representations using RNN encoder-decoder for statistical machine translation", 2014.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from attention import Attention, AttentionState
from jax import Array

import jaxrnn

END, UNKNOWN = 0, 1  # symbols of either side; END is also what a decoder reads first, and the padding


@dataclass(frozen=True)
class Translator:
    """An encoder that reads in both directions, and a decoder that begins with the encoder's last states.

    Args:
      encoder_cell: of each direction, half the size of the decoder's.
      decoder_cell: a cell, with or without attention.
      embedding_size: of the symbols of either side.
      dropout: share of embeddings and of the decoder's outputs that are dropped in training.
      num_target: symbols of the target.
    """

    encoder_cell: jaxrnn.Cell
    decoder_cell: jaxrnn.Cell
    embedding_size: int
    dropout: float
    num_target: int

    @property
    def encoder(self) -> jaxrnn.Stack:
        reading = jaxrnn.Embedding(self.embedding_size), jaxrnn.Dropout(self.dropout)
        return jaxrnn.Stack(*reading, jaxrnn.Bidirectional(self.encoder_cell))

    @property
    def decoder(self) -> jaxrnn.Stack:
        reading = jaxrnn.Embedding(self.embedding_size), jaxrnn.Dropout(self.dropout)
        return jaxrnn.Stack(*reading, self.decoder_cell, jaxrnn.Dropout(self.dropout), jaxrnn.Dense(self.num_target))

    def init(self, key: Array, num_source: int) -> tuple[Any, Any]:
        k_encoder, k_decoder = jax.random.split(key)
        return self.encoder.init(k_encoder, num_source), self.decoder.init(k_decoder, self.num_target)

    def encode(self, params: Any, source: Array, lengths: Array, key: Array | None = None) -> tuple[Any, Any]:
        """Reads symbols [source, batch]; returns the decoder's parameters and its first state."""
        p_encoder, (*reading, p_cell, p_dropout, p_dense) = params
        states, values = jaxrnn.unroll(self.encoder, p_encoder, source, lengths=lengths, key=key)
        if isinstance(self.decoder_cell, Attention):
            p_cell = self.decoder_cell.remember(p_cell, values.swapaxes(0, 1), lengths)
        params = (*reading, p_cell, p_dropout, p_dense)
        last = jax.tree.map(jaxrnn.concat, *states[-1])  # both directions' side by side
        first = self.decoder_cell.initial_state(p_cell, lengths.shape)
        return params, ((), (), first._replace(cell=last) if isinstance(first, AttentionState) else last, (), ())

    def loss(self, params: Any, batch: Any, key: Array | None = None) -> Array:
        """Nats per symbol of the target, each given those before it (teacher forcing)."""
        source, source_lengths, target, target_lengths = batch
        k_encoder, k_decoder = (None, None) if key is None else jax.random.split(key)
        params, state = self.encode(params, source, source_lengths, k_encoder)
        read = jnp.concatenate([jnp.full_like(target[:1], END), target[:-1]])
        _, logits = jaxrnn.unroll(self.decoder, params, read, state, lengths=target_lengths, key=k_decoder)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1)[..., 0]
        valid = jnp.arange(len(target))[:, None] < target_lengths
        return -(log_p * valid).sum() / valid.sum()

    def alignment(self, params: Any, source: Array, lengths: Array, target: Array) -> Array:
        """Weights [target, batch, source] of the attention by which a target [target, batch] is written."""
        params, state = self.encode(params, source, lengths)
        shown = jaxrnn.Stack(
            *self.decoder.layers[:2], replace(cast("Attention", self.decoder_cell), shows_weights=True)
        )
        read = jnp.concatenate([jnp.full_like(target[:1], END), target[:-1]])
        return jaxrnn.unroll(shown, params[:3], read, state[:3])[1]


@partial(jax.jit, static_argnames=("model", "steps", "width"))
def search(
    model: Translator, params: Any, source: Array, lengths: Array, steps: int, width: int = 1, power: float = 1.0
) -> tuple[Array, Array]:
    """Beam search; of width 1, greedy search. UNKNOWN is never written.

    Args:
      model: the model.
      params: its parameters.
      source: symbols [source, batch].
      lengths: of the sources, [batch].
      steps: how long an output can be, its END included.
      width: how many outputs are kept for each source.
      power: outputs are ranked by log p / length ** power; 0: by log p.

    Returns:
      Symbols [steps, batch], END after the end; and their log p [batch].
    """
    params, state = model.encode(params, source, lengths)
    batch = jnp.arange(source.shape[1])
    symbol = jnp.arange(model.num_target)
    state = jax.tree.map(lambda s: jnp.broadcast_to(s, (width, *s.shape)), state)
    one = jnp.zeros((width, len(batch)), jnp.int32)  # [width, batch]: the memory of a source serves all its outputs
    log_p = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)[:, None] + jnp.zeros(one.shape)

    def step(carry: Any, t: Array) -> tuple[Any, None]:
        state, last, ended, size, log_p, written = carry
        state, logits = jaxrnn.step(model.decoder, params, state, last)
        following = jnp.where(symbol == UNKNOWN, -jnp.inf, jax.nn.log_softmax(logits))
        following = jnp.where(ended[..., None], jnp.where(symbol == END, 0.0, -jnp.inf), following)
        total, size = log_p[..., None] + following, size + ~ended
        rank = (total / size[..., None] ** power).swapaxes(0, 1).reshape(len(batch), -1)
        beam, last = jnp.divmod(jax.lax.top_k(rank, width)[1].T.astype(jnp.int32), model.num_target)
        log_p = total[beam, batch, last]
        state, ended, size = jax.tree.map(lambda leaf: leaf[beam, batch], (state, ended, size))
        written = written[:, beam, batch].at[t].set(last)
        return (state, last, ended | (last == END), size, log_p, written), None

    written = jnp.full((steps, *one.shape), END, jnp.int32)
    carry = (state, one + END, one > 0, one, log_p, written)
    (_, _, _, _, log_p, written), _ = jax.lax.scan(step, carry, jnp.arange(steps))
    return written[:, 0], log_p[0]
