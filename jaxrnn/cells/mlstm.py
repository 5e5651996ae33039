"""xLSTM's cell with a matrix memory and exponential gates."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import log_sigmoid

from jaxrnn import _check as check
from jaxrnn._matrix_cell import MatrixCell, MatrixRead, MatrixUpdate
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform
from jaxrnn.layer import Keys
from jaxrnn.ops import affine, align, in_groups, side_by_side, sigmoid, zeros


class MLSTMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], in the order q, k, v, o, each with its heads side by side
    b: Array  # [4 * hidden]
    w_gates: Array  # [input, 2 * heads], gates in the order i, f
    b_gates: Array  # [2 * heads]


class MLSTMState(NamedTuple):
    c: Array  # [*batch, heads, hidden / heads (values), hidden / heads (keys)], the memory divided by exp(m)
    n: Array  # [*batch, heads, hidden / heads], the normalizer divided by exp(m)
    m: Array  # [*batch, heads], the stabilizer


class MLSTMInput(NamedTuple):
    q: Array  # [*batch, heads, hidden / heads]
    k: Array  # [*batch, heads, hidden / heads]
    v: Array  # [*batch, heads, hidden / heads]
    o: Array  # [*batch, hidden], after the sigmoid
    i: Array  # [*batch, heads], the logarithm of the input gate
    f: Array  # [*batch, heads], the logarithm of the forget gate


@dataclass(frozen=True)
class MLSTM(MatrixCell):
    r"""xLSTM's cell with a matrix memory, which stores values under keys; its gates see only the input.

    `SLSTM` is the paper's other cell, whose memory consists of scalars and whose gates also see the state. The
    stabilizer :math:`m_t` only prevents overflow: without it the cell computes the same function, and its step is
    linear in the state. In each head, with :math:`d` the size of a head:

    .. math::
        q_t &= W_q x_t + b_q, \quad k_t = W_k x_t / \sqrt d + b_k, \quad v_t = W_v x_t + b_v \\
        \tilde i_t &= w_i^\top x_t + b_i, \quad \tilde f_t = w_f^\top x_t + b_f, \quad
            o_t = \sigma(W_o x_t + b_o) \\
        m_t &= \max(\log \sigma(\tilde f_t) + m_{t-1}, \tilde i_t) \\
        i_t &= \exp(\tilde i_t - m_t), \quad f_t = \exp(\log \sigma(\tilde f_t) + m_{t-1} - m_t) \\
        C_t &= f_t C_{t-1} + i_t v_t k_t^\top, \quad n_t = f_t n_{t-1} + i_t k_t \\
        h_t &= o_t \odot C_t q_t / \max(|n_t^\top q_t|, \exp(-m_t))

    The output is :math:`h_t` of all heads, side by side.

    Example:
      >>> cell = jaxrnn.MLSTM(hidden_size=64, num_heads=4)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.c.shape  # a matrix of values and keys for each head
      ((20, 32, 64), (32, 4, 16, 16))

    Args:
      hidden_size: Size of :math:`h`.
      num_heads: Number of heads, each of size :math:`d` = hidden_size / num_heads; divides the hidden size.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`, which also sets :math:`b_i`.

    References:
      M. Beck et al., "xLSTM: extended long short-term memory", 2024, appendix A.3, with the sigmoid as forget gate.

    Deviations:
      The block around the cell (convolution, normalization by heads, projections) is not part of it.
    """

    hidden_size: int
    _: KW_ONLY
    num_heads: int = 1
    forget_bias: float | Chrono = 1.0
    state_type: ClassVar[type] = MLSTMState
    values_first: ClassVar[bool] = True
    has_normalizer: ClassVar[bool] = True
    has_stabilizer: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.divides(self, "num_heads", "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> MLSTMParams:
        n, heads = self.hidden_size, self.num_heads
        k_x, k_gates, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_gates = gates(glorot_uniform, k_gates, (input_size, heads), 2)
        b_f, b_i = gate_biases(k_b, self.forget_bias, heads)
        return MLSTMParams(w_x, jnp.zeros(4 * n), w_gates, jnp.concatenate([b_i, b_f]))

    def initial_state(self, params, batch_shape=(), dtype=None) -> MLSTMState:
        heads, d = self.num_heads, self.hidden_size // self.num_heads
        (c,) = zeros(params, (*batch_shape, heads, d), dtype, d)
        (n,) = zeros(params, (*batch_shape, heads), dtype, d)
        (m,) = zeros(params, batch_shape, dtype, heads)
        return MLSTMState(c, n, m)

    def project(self, params: MLSTMParams, x: Array, key: Keys = None) -> MLSTMInput:
        d = self.hidden_size // self.num_heads
        scale = jnp.repeat(jnp.array([1, d**-0.5, 1, 1], params.w_x.dtype), self.hidden_size)
        z = affine(x, params.w_x)
        scale, b = align((scale, params.b), z)
        *qkv, o = jnp.split(z * scale + b, 4, axis=-1)
        q, k, v = (in_groups(part, self.num_heads) for part in qkv)
        i, f = jnp.split(affine(x, params.w_gates, params.b_gates), 2, axis=-1)
        return MLSTMInput(q, k, v, sigmoid(o), i, log_sigmoid(f))

    def update(self, params: MLSTMParams, z: MLSTMInput) -> MatrixUpdate:
        return MatrixUpdate(z.q, z.k, z.v, z.f[..., None], log_gain=z.i)

    def output(self, params: MLSTMParams, read: MatrixRead, z: MLSTMInput) -> Array:
        norm = jnp.maximum(jnp.abs(read.normalizer), jnp.exp(-read.stabilizer))
        return z.o * side_by_side(read.values / norm[..., None])

    def comparable(self, one: MLSTMState, other: MLSTMState) -> tuple[MLSTMState, MLSTMState]:
        m = jnp.maximum(one.m, other.m)

        def rescale(state: MLSTMState) -> MLSTMState:
            scale = jnp.exp(state.m - m)[..., None]
            return MLSTMState(scale[..., None] * state.c, scale * state.n, m)

        return rescale(one), rescale(other)
