"""Long short-term memory with ordered neurons."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class ONLSTMParams(NamedTuple):
    w_x: Array  # [input, 4 * hidden], gates in the order i, f, g, o
    w_h: Array  # [hidden, 4 * hidden]
    b: Array  # [4 * hidden]
    w_x_master: Array  # [input, 2 * hidden / chunk], master gates in the order i, f
    w_h_master: Array  # [hidden, 2 * hidden / chunk]
    b_master: Array  # [2 * hidden / chunk]


class ONLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


class ONLSTMGates(NamedTuple):
    i: Array  # [*batch, hidden], input gate
    f: Array  # forget gate
    g: Array  # candidate
    o: Array  # output gate
    master_i: Array  # master input gate
    master_f: Array  # master forget gate


@dataclass(frozen=True)
class ONLSTM(Cell):
    r"""Long short-term memory with ordered neurons: memories are ordered by how long they last, as in a tree.

    Along the memory cells the master forget gate rises from 0 to 1 and the master input gate falls from 1 to 0, so the
    last cells keep their values longest, like the upper nodes of a tree.

    .. math::
        \hat f_t &= \mathrm{cumsum}(\mathrm{softmax}(\hat W_f x_t + \hat R_f h_{t-1} + \hat b_f)) \\
        \hat i_t &= 1 - \mathrm{cumsum}(\mathrm{softmax}(\hat W_i x_t + \hat R_i h_{t-1} + \hat b_i)) \\
        \omega_t &= \hat f_t \odot \hat i_t \\
        c_t &= (f_t \odot \omega_t + \hat f_t - \omega_t) \odot c_{t-1}
            + (i_t \odot \omega_t + \hat i_t - \omega_t) \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    Here :math:`i_t, f_t, g_t` and :math:`o_t` are those of `LSTM`. One entry of a master gate applies to `chunk_size`
    neighboring memory cells. The output is :math:`h_t`.

    Example:
      >>> cell = jaxrnn.ONLSTM(hidden_size=64, chunk_size=8)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, params.w_h_master.shape  # two master gates of 64 / 8 entries each
      ((20, 32, 64), (64, 16))

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      chunk_size: Number of memory cells that share an entry of the master gates; divides the hidden size.

    References:
      Y. Shen, S. Tan, A. Sordoni, A. Courville, "Ordered neurons: integrating tree structures into recurrent neural
      networks", 2019.
    """

    hidden_size: int
    _: KW_ONLY
    chunk_size: int = 1

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.divides(self, "chunk_size", "hidden_size")

    def init(self, key: Array, input_size: int) -> ONLSTMParams:
        n, m = self.hidden_size, self.hidden_size // self.chunk_size
        k_x, k_h, k_xm, k_hm = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_h = gates(orthogonal, k_h, (n, n), 4)
        w_x_master = gates(glorot_uniform, k_xm, (input_size, m), 2)
        w_h_master = gates(orthogonal, k_hm, (n, m), 2)
        return ONLSTMParams(w_x, w_h, jnp.zeros(4 * n), w_x_master, w_h_master, jnp.zeros(2 * m))

    def initial_state(self, params, batch_shape=(), dtype=None) -> ONLSTMState:
        return ONLSTMState(*zeros(params, batch_shape, dtype, self.hidden_size, self.hidden_size))

    def project(self, params: ONLSTMParams, x: Array, key: Keys = None) -> tuple[Array, Array]:
        return affine(x, params.w_x, params.b), affine(x, params.w_x_master, params.b_master)

    def gates(self, params: ONLSTMParams, state: ONLSTMState, z: tuple[Array, Array]) -> ONLSTMGates:
        """Returns the gates and the candidate of a step, given the state before it."""
        i, f, g, o = jnp.split(z[0] + state.h @ params.w_h, 4, axis=-1)
        m_i, m_f = (self._cumax(m) for m in jnp.split(z[1] + state.h @ params.w_h_master, 2, axis=-1))
        return ONLSTMGates(sigmoid(i), sigmoid(f), tanh(g), sigmoid(o), 1 - m_i, m_f)

    def step(self, params: ONLSTMParams, state: ONLSTMState, z: tuple[Array, Array]) -> ONLSTMState:
        i, f, g, o, m_i, m_f = self.gates(params, state, z)
        both = m_f * m_i
        c = (f * both + m_f - both) * state.c + (i * both + m_i - both) * g
        return ONLSTMState(h=o * tanh(c), c=c)

    def readout(self, params: ONLSTMParams, state: ONLSTMState, z: tuple[Array, Array]) -> Array:
        return state.h

    def _cumax(self, a: Array) -> Array:
        """Returns the cumulative sum of the softmax of `a`, each entry repeated for all memory cells of its chunk."""
        return jnp.repeat(jnp.cumsum(jax.nn.softmax(a), axis=-1), self.chunk_size, axis=-1)
