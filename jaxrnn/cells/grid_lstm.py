"""LSTM cells on a grid of time steps and layers."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, tanh, zeros


class GridLSTMParams(NamedTuple):
    w_x: Array  # [input, 2 * hidden], V in the order h, m
    w_h: tuple[Array, ...]  # one for each layer, [hidden, 8 * hidden], from h; i, f, o, c along time, then along depth
    w_u: tuple[Array, ...]  # one for each layer, [hidden, 8 * hidden], from the layer below
    b: tuple[Array, ...]  # one for each layer, [8 * hidden]


class GridLSTMState(NamedTuple):
    h: Array  # [*batch, depth, hidden]
    m: Array  # [*batch, depth, hidden]
    y: Array  # [*batch, hidden], the output, which no later step reads


@dataclass(frozen=True)
class GridLSTM(Cell):
    r"""Grid LSTM with two dimensions: memory cells run along time and along depth.

    A `Stack` of `LSTM` layers passes only hidden states up to the next layer. Here each layer also passes up a memory
    :math:`\bar m`, through gates of its own, just as each time step passes on a memory :math:`m`.

    .. math::
        \bar h^0_t &= V_h x_t, \quad \bar m^0_t = V_m x_t \\
        (g^i, g^f, g^o, g^c, \bar g^i, \bar g^f, \bar g^o, \bar g^c) &= (\sigma, \sigma, \sigma, \tanh, \dots)
        (R^l h^l_{t-1} + U^l \bar h^{l-1}_t + b^l) \\
        m^l_t &= g^f \odot m^l_{t-1} + g^i \odot g^c, \quad h^l_t = \tanh(g^o \odot m^l_t) \\
        \bar m^l_t &= \bar g^f \odot \bar m^{l-1}_t + \bar g^i \odot \bar g^c, \quad
        \bar h^l_t = \tanh(\bar g^o \odot \bar m^l_t), \quad l = 1, \dots, L \\
        y_t &= \bar h^L_t

    The output is :math:`y_t`. It depends on the states before the step, so the step computes it and the state stores
    it. The output gate is inside the tanh, as in the paper.

    Example:
      >>> cell = jaxrnn.GridLSTM(hidden_size=16, depth_size=3)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.m.shape  # the memories of all three layers
      ((20, 4, 16), (4, 3, 16))

    Args:
      hidden_size: Size of each :math:`h`, :math:`m`, :math:`\bar h` and :math:`\bar m`.
      depth_size: Number of layers, :math:`L`.
      forget_bias: Initial value of the biases of :math:`g^f`: a number, or `Chrono(longest)`, which also sets those of
        :math:`g^i`. Those of :math:`\bar g^f` are initialized to 1.

    References:
      N. Kalchbrenner, I. Danihelka, A. Graves, "Grid long short-term memory", 2016, with two dimensions, both
      computed at once (no priority), and separate weights in each layer.

    Deviations:
      The biases are added.
    """

    hidden_size: int
    _: KW_ONLY
    depth_size: int = 2
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "depth_size")
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> GridLSTMParams:
        n = self.hidden_size
        k_x, k_h, k_u, k_b = jax.random.split(key, 4)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 2)
        w_h, w_u = (
            tuple(gates(orthogonal, k_layer, (n, n), 8) for k_layer in jax.random.split(k, self.depth_size))
            for k in (k_h, k_u)
        )
        biases = [gate_biases(k, self.forget_bias, n) for k in jax.random.split(k_b, self.depth_size)]
        b = tuple(jnp.concatenate([b_i, b_f, jnp.zeros(3 * n), jnp.ones(n), jnp.zeros(2 * n)]) for b_f, b_i in biases)
        return GridLSTMParams(w_x, w_h, w_u, b)

    def initial_state(self, params, batch_shape=(), dtype=None) -> GridLSTMState:
        n = self.hidden_size
        h, m = zeros(params, (*batch_shape, self.depth_size), dtype, n, n)
        return GridLSTMState(h, m, *zeros(params, batch_shape, dtype, n))

    def project(self, params: GridLSTMParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x)

    def step(self, params: GridLSTMParams, state: GridLSTMState, z: Array) -> GridLSTMState:
        up, up_m = jnp.split(z, 2, axis=-1)
        hs, ms = [], []
        for layer, (w_h, w_u, b) in enumerate(zip(*params[1:], strict=True)):
            i, f, o, c, up_i, up_f, up_o, up_c = jnp.split(
                state.h[..., layer, :] @ w_h + up @ w_u + align(b, up), 8, axis=-1
            )
            ms.append(sigmoid(f) * state.m[..., layer, :] + sigmoid(i) * tanh(c))
            hs.append(tanh(sigmoid(o) * ms[-1]))
            up_m = sigmoid(up_f) * up_m + sigmoid(up_i) * tanh(up_c)
            up = tanh(sigmoid(up_o) * up_m)
        return GridLSTMState(h=jnp.stack(hs, axis=-2), m=jnp.stack(ms, axis=-2), y=up)

    def readout(self, params: GridLSTMParams, state: GridLSTMState, z: Array) -> Array:
        return state.y
