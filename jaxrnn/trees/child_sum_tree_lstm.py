"""Child-sum Tree-LSTM."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from jaxrnn.ops import align, sigmoid
from jaxrnn.trees._params import TreeParams
from jaxrnn.trees._tree_lstm import TreeLSTM, TreeLSTMState, compute_state


@dataclass(frozen=True)
class ChildSumTreeLSTM(TreeLSTM):
    r"""Child-sum Tree-LSTM, for nodes with any number of children, in no order.

    `NaryTreeLSTM` distinguishes the children by their positions.

    .. math::
        \tilde{h}_j &= \sum_{k \in C(j)} h_k \\
        i_j, o_j &= \sigma(W_{i,o} x_j + U_{i,o} \tilde{h}_j + b_{i,o}) \\
        u_j &= \tanh(W_u x_j + U_u \tilde{h}_j + b_u) \\
        f_{jk} &= \sigma(W_f x_j + U_f h_k + b_f) \\
        c_j &= i_j \odot u_j + \sum_{k \in C(j)} f_{jk} \odot c_k \\
        h_j &= o_j \odot \tanh(c_j)

    The output is the state of every node, from `jaxrnn.trees.unroll`.

    Example:
      >>> from jaxrnn.trees import ChildSumTreeLSTM, Node, pack, unroll
      >>> cell = ChildSumTreeLSTM(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=100)  # 100 different symbols
      >>> batch = pack([Node(7, [Node(2), Node(5), Node(1)]), Node(3, [Node(9)])])
      >>> unroll(cell, params, batch).h.shape  # [slots, batch, hidden]
      (7, 2, 64)

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(depth)`, which also sets :math:`b_i`.

    References:
      K. S. Tai, R. Socher, C. Manning, "Improved semantic representations from tree-structured long short-term memory
      networks", 2015.

    Deviations:
      The paper gives no initial values; these are those of `LSTM`. A node without an input has :math:`W x_j = 0`.
    """

    def step(self, params: TreeParams, children: TreeLSTMState, z: Array) -> TreeLSTMState:
        w_h_iou, w_h_f = jnp.split(params.w_h, [3 * self.hidden_size], axis=-1)
        x_iou, x_f = jnp.split(z + align(params.b, z), [3 * self.hidden_size], axis=-1)
        f = sigmoid(x_f[..., None, :] + children.h @ w_h_f)
        return compute_state(x_iou + children.h.sum(-2) @ w_h_iou, kept=(f * children.c).sum(-2))
