"""Encoder and decoder, with or without attention, and beam search.

References: I. Sutskever et al., "Sequence to sequence learning with neural networks", 2014; K. Cho et al., "Learning
phrase representations using RNN encoder-decoder for statistical machine translation", 2014.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from data.sequence_pairs import END, UNKNOWN
from jax import Array

import jaxrnn
from models.attention import Attention, AttentionState
from models.language_model import loss_of_window


@dataclass(frozen=True)
class Translator:
    """An encoder that reads in both directions, and a decoder that starts from the encoder's last states.

    Args:
      encoder_cell: The cell of each direction, half the size of the decoder's.
      decoder_cell: The decoder's cell, with or without attention.
      embedding_size: Size of the embeddings of either side.
      dropout: Dropout rate of embeddings and of the decoder's outputs.
      num_target: Number of target symbols.
    """

    encoder_cell: jaxrnn.Cell
    decoder_cell: jaxrnn.Cell
    embedding_size: int
    dropout: float
    num_target: int

    @property
    def encoder(self) -> jaxrnn.Stack:
        reader = jaxrnn.Embedding(self.embedding_size), jaxrnn.Dropout(self.dropout)
        return jaxrnn.Stack(*reader, jaxrnn.Bidirectional(self.encoder_cell))

    @property
    def decoder(self) -> jaxrnn.Stack:
        reader = jaxrnn.Embedding(self.embedding_size), jaxrnn.Dropout(self.dropout)
        return jaxrnn.Stack(*reader, self.decoder_cell, jaxrnn.Dropout(self.dropout), jaxrnn.Dense(self.num_target))

    def init(self, key: Array, num_source: int) -> tuple[Any, Any]:
        k_encoder, k_decoder = jax.random.split(key)
        return self.encoder.init(k_encoder, num_source), self.decoder.init(k_decoder, self.num_target)

    def encode(self, params: Any, source: Array, lengths: Array, key: Array | None = None) -> tuple[Any, Any]:
        """Reads symbols [source, batch]. Returns the decoder's parameters, with its memory, and its first state."""
        p_encoder, (*p_reader, p_cell, p_dropout, p_dense) = params
        states, values = jaxrnn.unroll(self.encoder, p_encoder, source, lengths=lengths, key=key)
        if isinstance(self.decoder_cell, Attention):
            p_cell = self.decoder_cell.remember(p_cell, values.swapaxes(0, 1), lengths)
        params = (*p_reader, p_cell, p_dropout, p_dense)
        forwards, backwards = states[-1]
        first = jax.tree.map(lambda *both: jnp.concatenate(both, axis=-1), forwards, backwards)
        attention = self.decoder_cell.initial_state(p_cell, lengths.shape)
        if isinstance(attention, AttentionState):
            first = attention._replace(cell=first)
        return params, ((), (), first, (), ())

    def loss(self, params: Any, batch: Any, key: Array | None = None) -> Array:
        """Returns the mean loss of the target's symbols, in nats, each given those before it (teacher forcing)."""
        source, source_lengths, target, target_lengths = batch
        k_encoder, k_decoder = (None, None) if key is None else jax.random.split(key)
        params, state = self.encode(params, source, source_lengths, k_encoder)
        read = jnp.concatenate([jnp.full_like(target[:1], END), target[:-1]])
        valid = jnp.arange(len(target))[:, None] < target_lengths
        how: Any = {"lengths": target_lengths, "key": k_decoder}
        return loss_of_window(self.decoder, params, read, target, state, valid / valid.sum(), **how)[0]

    def alignment(self, params: Any, source: Array, lengths: Array, target: Array) -> Array:
        """Returns attention weights [target, batch, source] while the decoder outputs a target [target, batch]."""
        params, state = self.encode(params, source, lengths)
        attention = replace(cast("Attention", self.decoder_cell), shows_weights=True)
        shown = jaxrnn.Stack(*self.decoder.layers[:2], attention)
        read = jnp.concatenate([jnp.full_like(target[:1], END), target[:-1]])
        return jaxrnn.unroll(shown, params[:3], read, state[:3])[1]


@partial(jax.jit, static_argnames=("model", "steps", "width"))
def search(
    model: Translator, params: Any, source: Array, lengths: Array, steps: int, width: int = 1, power: float = 1.0
) -> tuple[Array, Array]:
    """Finds outputs by beam search, or by greedy search with width 1. UNKNOWN is never output.

    Args:
      model: The model.
      params: Its parameters.
      source: Symbols [source, batch].
      lengths: Lengths of the sources, [batch].
      steps: Largest length of an output, END included.
      width: Number of outputs kept for each source.
      power: Outputs are ranked by log p / length ** power; with 0, by log p.

    Returns:
      Symbols [steps, batch], padded with END, and their log p [batch].
    """
    params, state = model.encode(params, source, lengths)
    batch = jnp.arange(source.shape[1])
    symbol = jnp.arange(model.num_target)
    state = jax.tree.map(lambda s: jnp.broadcast_to(s, (width, *s.shape)), state)
    one = jnp.zeros((width, len(batch)), jnp.int32)  # [width, batch]: the memory of a source serves all its outputs
    log_p = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)[:, None] + jnp.zeros(one.shape)

    def step(carry: Any, t: Array) -> tuple[Any, None]:
        state, last, ended, size, log_p, output = carry
        state, logits = jaxrnn.step(model.decoder, params, state, last)
        following = jnp.where(symbol == UNKNOWN, -jnp.inf, jax.nn.log_softmax(logits))
        following = jnp.where(ended[..., None], jnp.where(symbol == END, 0.0, -jnp.inf), following)
        total = log_p[..., None] + following
        size = size + ~ended
        rank = (total / size[..., None] ** power).swapaxes(0, 1).reshape(len(batch), -1)
        beam, last = jnp.divmod(jax.lax.top_k(rank, width)[1].T.astype(jnp.int32), model.num_target)
        log_p = total[beam, batch, last]
        state, ended, size = jax.tree.map(lambda leaf: leaf[beam, batch], (state, ended, size))
        output = output[:, beam, batch].at[t].set(last)
        return (state, last, ended | (last == END), size, log_p, output), None

    output = jnp.full((steps, *one.shape), END, jnp.int32)
    carry = (state, one + END, one > 0, one, log_p, output)
    (_, _, _, _, log_p, output), _ = jax.lax.scan(step, carry, jnp.arange(steps))
    return output[:, 0], log_p[0]
