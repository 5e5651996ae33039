"""Tree-LSTMs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.ops import sigmoid, tanh
from jaxrnn.trees._cell import TreeCell
from jaxrnn.trees._params import TreeParams


class TreeLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


@dataclass(frozen=True)
class _TreeLSTM(TreeCell):
    """What both Tree-LSTMs share."""

    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> TreeParams:
        n, children, (k_x, k_h, k_b) = self.hidden_size, self.arity or 1, jax.random.split(key, 3)
        w_h = [gates(orthogonal, k, (n, n), 3 + children) for k in jax.random.split(k_h, children)]
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        b = jnp.concatenate([b_i, jnp.zeros(2 * n), b_f])
        return TreeParams(gates(glorot_uniform, k_x, (input_size, n), 4), jnp.concatenate(w_h), b)

    def leaf(self, params: TreeParams, z: Array) -> TreeLSTMState:
        return self.state((z + params.b)[..., : 3 * self.hidden_size], 0.0)

    def state(self, iou: Array, kept: Array | float) -> TreeLSTMState:
        i, o, u = jnp.split(iou, 3, axis=-1)
        c = sigmoid(i) * tanh(u) + kept
        return TreeLSTMState(h=sigmoid(o) * tanh(c), c=c)


@dataclass(frozen=True)
class ChildSumTreeLSTM(_TreeLSTM):
    r"""Child-sum Tree-LSTM: any number of children, in no order.

    .. math::
        \tilde{h}_j &= \sum_{k \in C(j)} h_k \\
        i_j, o_j &= \sigma(W_{i,o} x_j + U_{i,o} \tilde{h}_j + b_{i,o}) \\
        u_j &= \tanh(W_u x_j + U_u \tilde{h}_j + b_u) \\
        f_{jk} &= \sigma(W_f x_j + U_f h_k + b_f) \\
        c_j &= i_j \odot u_j + \sum_{k \in C(j)} f_{jk} \odot c_k \\
        h_j &= o_j \odot \tanh(c_j)

    Args:
      hidden_size: size of :math:`h` and :math:`c`.
      forget_bias: initial value of :math:`b_f`, a number or `Chrono(depth)`, which sets :math:`b_i` too.

    References: K. S. Tai, R. Socher, C. Manning, "Improved semantic representations from tree-structured long
    short-term memory networks", 2015. Deviations: the paper gives no initial values, ours are those of `LSTM`; a node
    without an input has :math:`W x_j = 0`.
    """

    def step(self, params: TreeParams, children: TreeLSTMState, z: Array) -> TreeLSTMState:
        of_sum, of_each = jnp.split(params.w_h, [3 * self.hidden_size], axis=-1)
        x_iou, x_f = jnp.split(z + params.b, [3 * self.hidden_size], axis=-1)
        f = sigmoid(x_f[..., None, :] + children.h @ of_each)
        return self.state(x_iou + children.h.sum(-2) @ of_sum, (f * children.c).sum(-2))


@dataclass(frozen=True)
class NaryTreeLSTM(_TreeLSTM):
    r"""N-ary Tree-LSTM: at most N children, told apart by their places.

    .. math::
        i_j, o_j &= \sigma(W_{i,o} x_j + \sum_{l=1}^N U_{i,o}^l h_{jl} + b_{i,o}) \\
        u_j &= \tanh(W_u x_j + \sum_{l=1}^N U_u^l h_{jl} + b_u) \\
        f_{jk} &= \sigma(W_f x_j + \sum_{l=1}^N U_f^{kl} h_{jl} + b_f) \\
        c_j &= i_j \odot u_j + \sum_{l=1}^N f_{jl} \odot c_{jl}, \quad h_j = o_j \odot \tanh(c_j)

    A child that is missing has :math:`h_{jl} = c_{jl} = 0`; `arity` is N. All else is as of `ChildSumTreeLSTM`.
    """

    arity: int = 2  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        check.positive(self, "arity")

    def step(self, params: TreeParams, children: TreeLSTMState, z: Array) -> TreeLSTMState:
        x_iou, x_f = jnp.split(z + params.b, [3 * self.hidden_size], axis=-1)
        h_iou, h_f = jnp.split(children.h.reshape(*z.shape[:-1], -1) @ params.w_h, [3 * self.hidden_size], axis=-1)
        f = sigmoid(x_f[..., None, :] + h_f.reshape(children.h.shape))
        return self.state(x_iou + h_iou, (f * children.c).sum(-2))
