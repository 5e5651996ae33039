"""Quasi-recurrent network."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import affine, sigmoid, tanh, zeros


class QRNNParams(NamedTuple):
    w_x: Array  # [input, 3 * hidden], in the order z, f, o
    b: Array  # [3 * hidden]


class QRNNState(NamedTuple):
    c: Array  # [*batch, hidden]


class QRNNInput(NamedTuple):
    z: Array  # [*batch, hidden]
    f: Array  # [*batch, hidden]
    o: Array  # [*batch, hidden]


@dataclass(frozen=True)
class QRNN(LinearCell):
    r"""Quasi-recurrent network with fo-pooling: gates that see only the input, a running average, an output gate.

    The paper's masked convolution, with filters :math:`k` steps wide, is this cell after a window,
    `Stack(Window(k), QRNN(n))`; the cell alone is the case :math:`k = 1`. The step is linear in the state, and
    `jaxrnn.loops.AssociativeScan` can run all steps in parallel.

    .. math::
        z_t &= \tanh(W_z x_t + b_z), \quad f_t = \sigma(W_f x_t + b_f), \quad o_t = \sigma(W_o x_t + b_o) \\
        c_t &= f_t \odot c_{t-1} + (1 - f_t) \odot z_t \\
        h_t &= o_t \odot c_t

    The output is :math:`h_t`.

    Example:
      >>> model = jaxrnn.Stack(jaxrnn.Window(2), jaxrnn.QRNN(hidden_size=64))  # filters two steps wide
      >>> params = model.init(jax.random.key(0), input_size=8)
      >>> loop = jaxrnn.loops.AssociativeScan()  # all steps at once
      >>> state, ys = jaxrnn.unroll(model, params, jnp.zeros((20, 32, 8)), loop=loop)  # [time, batch, input]
      >>> ys.shape
      (20, 32, 64)

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(longest)`.

    References:
      J. Bradbury, S. Merity, C. Xiong, R. Socher, "Quasi-recurrent neural networks", 2017. The paper's zoneout is the
      wrapper `Zoneout`.

    Deviations:
      The biases are added; the paper's equations leave them out.
    """

    hidden_size: int
    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> QRNNParams:
        n = self.hidden_size
        k_x, k_b = jax.random.split(key)
        b_f, _ = gate_biases(k_b, self.forget_bias, n)
        b = jnp.concatenate([jnp.zeros(n), b_f, jnp.zeros(n)])
        return QRNNParams(gates(glorot_uniform, k_x, (input_size, n), 3), b)

    def initial_state(self, params, batch_shape=(), dtype=None) -> QRNNState:
        return QRNNState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: QRNNParams, x: Array, key: Keys = None) -> QRNNInput:
        z, f, o = jnp.split(affine(x, params.w_x, params.b), 3, axis=-1)
        return QRNNInput(tanh(z), sigmoid(f), sigmoid(o))

    def coefficients(self, params: QRNNParams, z: QRNNInput) -> tuple[QRNNState, QRNNState]:
        return QRNNState(c=z.f), QRNNState(c=(1 - z.f) * z.z)

    def readout(self, params: QRNNParams, state: QRNNState, z: QRNNInput) -> Array:
        return z.o * state.c
