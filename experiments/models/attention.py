"""Attention: a cell that reads a memory.

References: D. Bahdanau et al., "Neural machine translation by jointly learning to align and translate", 2015;
T. Luong et al., "Effective approaches to attention-based neural machine translation", 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

import jaxrnn
from jaxrnn.initializers import glorot_uniform
from jaxrnn.ops import tanh

Score = Literal["dot", "general", "additive"]


class Memory(NamedTuple):
    """What the decoder attends to. It is a parameter, because it is constant over time."""

    values: Array  # [batch, source, memory], the encoder's outputs
    keys: Array  # [batch, source, memory], the values times the score's matrix
    lengths: Array  # [batch], float


class AttentionParams(NamedTuple):
    cell: Any
    w_c: Array  # [memory + hidden, hidden], from context and state
    w_k: Any  # [memory, hidden], of the general and additive scores; else None, like those below
    w_q: Any  # [hidden, hidden], of the additive score
    v: Any  # [hidden], of the additive score
    w_p: Any  # [hidden, hidden], of the predicted position
    v_p: Any  # [hidden], of the predicted position
    memory: Memory | None = None


class Attended(NamedTuple):
    weights: Array  # [*batch, source]
    h: Array  # [*batch, hidden]


class AttentionState(NamedTuple):
    cell: Any
    fed: Any  # the attended memory, with input feeding; else ()


@dataclass(frozen=True)
class Attention(jaxrnn.Cell):
    r"""A cell that attends to a memory :math:`m_1 ... m_S`, after Luong et al.

    .. math::
        a_{ts} &= softmax_s(score(h_t, m_s)) \\
        \tilde h_t &= \tanh(W_c [\sum_s a_{ts} m_s; h_t])

    :math:`h_t` is the output of the inner cell, :math:`\tilde h_t` that of this one. The score is
    :math:`h_t \cdot m_s` (dot), :math:`h_t \cdot W_k m_s` (general) or :math:`v \cdot \tanh(W_q h_t + W_k m_s)`
    (additive: Bahdanau et al., who attend before the step and not after it; Luong et al. call it concat). Local
    attention (local-p) adds :math:`-(s - p_t)^2 / 2 \sigma^2` to the score,
    :math:`p_t = (S - 1) sigmoid(v_p \cdot \tanh(W_p h_t))` and :math:`\sigma = window / 2`. Deviation from Luong et
    al.: the Gaussian is inside the softmax, so that the weights sum to one, and nothing is cut off at the ends of the
    window.

    Without input feeding, the attended memory is not part of the state, so that all steps attend at once after the
    loop.

    Args:
      cell: The decoder's cell. Its outputs have the memory's size.
      score: The score.
      window: Width of local attention, in symbols. None means global attention.
      input_feeding: Whether the cell reads :math:`\tilde h_{t-1}` beside :math:`x_t`.
      shows_weights: Whether the output is the weights :math:`a_t` instead of :math:`\tilde h_t`.
    """

    cell: jaxrnn.Cell
    score: Score = "general"
    window: float | None = None
    input_feeding: bool = False
    shows_weights: bool = False

    def init(self, key: Array, input_size: int) -> AttentionParams:
        k_cell, *keys = jax.random.split(key, 7)
        p = jax.eval_shape(lambda: self.cell.init(k_cell, 1))
        n = jax.eval_shape(lambda p: self.cell(p, self.cell.initial_state(p), jnp.ones(1))[1], p).shape[0]
        w_c, w_k, w_q, w_p = (glorot_uniform(k, (m, n)) for k, m in zip(keys[:4], (2 * n, n, n, n), strict=True))
        v, v_p = (glorot_uniform(k, (n, 1))[:, 0] for k in keys[4:])
        additive = self.score == "additive"
        local = self.window is not None
        return AttentionParams(
            self.cell.init(k_cell, input_size + n * self.input_feeding),
            w_c,
            None if self.score == "dot" else w_k,
            w_q if additive else None,
            v if additive else None,
            w_p if local else None,
            v_p if local else None,
        )

    def remember(self, params: AttentionParams, values: Array, lengths: Array) -> AttentionParams:
        """Returns parameters with the memory [batch, source, memory] to attend to."""
        keys = values if params.w_k is None else values @ params.w_k
        return params._replace(memory=Memory(values, keys, lengths.astype(values.dtype)))

    def attend(self, params: AttentionParams, h: Array) -> Attended:
        """Returns weights and outputs for states [..., batch, hidden]. All axes before the batch share the memory."""
        if params.memory is None:  # there is nothing to attend to, but shapes are known
            weights = jnp.zeros((*h.shape[:-1], 0))
            return Attended(weights, tanh(jnp.concatenate([jnp.zeros_like(h), h], -1) @ params.w_c))
        values, keys, lengths = params.memory
        place = jnp.arange(values.shape[1])
        if self.score == "additive":
            score = tanh((h @ params.w_q)[..., None, :] + keys) @ params.v
        else:
            score = jnp.einsum("...bh,bsh->...bs", h, keys)
        if self.window is not None:
            p = (lengths - 1) * jax.nn.sigmoid(tanh(h @ params.w_p) @ params.v_p)
            score -= (place - p[..., None]) ** 2 / (2 * (self.window / 2) ** 2)
        weights = jax.nn.softmax(jnp.where(place < lengths[:, None], score, -1e30))
        context = jnp.einsum("...bs,bsm->...bm", weights, values)
        return Attended(weights, tanh(jnp.concatenate([context, h], -1) @ params.w_c))

    def initial_state(self, params, batch_shape=(), dtype=None) -> AttentionState:
        cell = self.cell.initial_state(params.cell, batch_shape, dtype)
        if not self.input_feeding:
            return AttentionState(cell, ())
        sizes = 0 if params.memory is None else params.memory.values.shape[1], params.w_c.shape[1]
        return AttentionState(cell, Attended(*jaxrnn.ops.zeros(params, batch_shape, dtype, *sizes)))

    def project(self, params: AttentionParams, x: Array, key: Any = None) -> Any:
        return x if self.input_feeding else self.cell.project(params.cell, x, key)

    def step(self, params: AttentionParams, state: AttentionState, z: Any) -> AttentionState:
        if not self.input_feeding:
            return AttentionState(self.cell.step(params.cell, state.cell, z), ())
        cell, h = self.cell(params.cell, state.cell, jnp.concatenate([z, state.fed.h], -1))
        return AttentionState(cell, self.attend(params, h))

    def readout(self, params: AttentionParams, state: AttentionState, z: Any) -> Array:
        attended = state.fed or self.attend(params, self.cell.readout(params.cell, state.cell, z))
        return attended.weights if self.shows_weights else attended.h
