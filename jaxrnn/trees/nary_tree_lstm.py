"""N-ary Tree-LSTM."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.ops import align, side_by_side, sigmoid
from jaxrnn.trees._params import TreeParams
from jaxrnn.trees._tree_lstm import TreeLSTM, TreeLSTMState, compute_state


@dataclass(frozen=True)
class NaryTreeLSTM(TreeLSTM):
    r"""N-ary Tree-LSTM, for nodes with at most N children, which are distinguished by their positions.

    `ChildSumTreeLSTM` treats the children as a set.

    .. math::
        i_j, o_j &= \sigma(W_{i,o} x_j + \sum_{l=1}^N U_{i,o}^l h_{jl} + b_{i,o}) \\
        u_j &= \tanh(W_u x_j + \sum_{l=1}^N U_u^l h_{jl} + b_u) \\
        f_{jk} &= \sigma(W_f x_j + \sum_{l=1}^N U_f^{kl} h_{jl} + b_f) \\
        c_j &= i_j \odot u_j + \sum_{l=1}^N f_{jl} \odot c_{jl}, \quad h_j = o_j \odot \tanh(c_j)

    A child that is missing has :math:`h_{jl} = c_{jl} = 0`.

    The output is the state of every node, from `jaxrnn.trees.unroll`.

    Example:
      >>> from jaxrnn.trees import NaryTreeLSTM, Node, pack, unroll
      >>> cell = NaryTreeLSTM(hidden_size=64, arity=2)
      >>> params = cell.init(jax.random.key(0), input_size=100)  # 100 different symbols
      >>> batch = pack([Node(children=[Node(2), Node(5)]), Node(children=[None, Node(9)])], arity=cell.arity)
      >>> unroll(cell, params, batch).h.shape  # [slots, batch, hidden]
      (6, 2, 64)

    Args:
      hidden_size: Size of :math:`h` and :math:`c`.
      arity: Number of children N. Trees must be packed with this arity.
      forget_bias: Initial value of :math:`b_f`: a number, or `Chrono(depth)`, which also sets :math:`b_i`.

    References:
      K. S. Tai, R. Socher, C. Manning, "Improved semantic representations from tree-structured long short-term memory
      networks", 2015.

    Deviations:
      The paper gives no initial values; these are those of `LSTM`. A node without an input has :math:`W x_j = 0`.
    """

    _: KW_ONLY
    arity: int = 2  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        check.positive(self, "arity")

    def step(self, params: TreeParams, children: TreeLSTMState, z: Array) -> TreeLSTMState:
        h = side_by_side(children.h)
        x_iou, x_f = jnp.split(z + align(params.b, z), [3 * self.hidden_size], axis=-1)
        h_iou, h_f = jnp.split(h @ params.w_h, [3 * self.hidden_size], axis=-1)
        f = sigmoid(x_f[..., None, :] + h_f.reshape(children.h.shape))
        return compute_state(x_iou + h_iou, kept=(f * children.c).sum(-2))
