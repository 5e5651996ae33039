"""Recursive neural tensor network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import uniform
from jaxrnn.ops import affine, side_by_side, tanh
from jaxrnn.trees._cell import TreeCell, TreeState
from jaxrnn.trees.recursive_net import RecursiveNet


class RNTNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [2 * hidden, hidden]
    b: Array  # [hidden]
    v: Array  # [2 * hidden, 2 * hidden, hidden]


@dataclass(frozen=True)
class RNTN(TreeCell):
    r"""Recursive neural tensor network: `RecursiveNet` with products of the children's features.

    .. math::
        h_j = \tanh(p^\top V^{[1:n]} p + W p + b + W_x x_j), \quad p = [h_{left}; h_{right}]

    The state of a leaf is :math:`W_x x_j`. The output is the state of every node, from `jaxrnn.trees.unroll`.

    Example:
      >>> from jaxrnn.trees import RNTN, Node, pack, unroll
      >>> cell = RNTN(hidden_size=8)
      >>> params = cell.init(jax.random.key(0), input_size=100)  # 100 different symbols
      >>> params.v.shape
      (16, 16, 8)
      >>> batch = pack([Node(children=[Node(2), Node(5)])])
      >>> unroll(cell, params, batch).h.shape  # [slots, batch, hidden]
      (6, 1, 8)

    Args:
      hidden_size: Size of :math:`h`.

    References:
      R. Socher, A. Perelygin, J. Wu, J. Chuang, C. Manning, A. Ng, C. Potts, "Recursive deep models for semantic
      compositionality over a sentiment treebank", 2013.

    Deviations:
      An inner node may have an input. In the paper it has none, so that :math:`x_j = 0`. There is a bias, which the
      paper omits for simplicity.
    """

    arity = 2

    def init(self, key: Array, input_size: int) -> RNTNParams:
        n = self.hidden_size
        k_net, k_v = jax.random.split(key)
        net = RecursiveNet(n).init(k_net, input_size)
        return RNTNParams(net.w_x, net.w_h, net.b, v=uniform(1 / (4 * n))(k_v, (2 * n, 2 * n, n)))

    def step(self, params: RNTNParams, children: TreeState, z: Array) -> TreeState:
        p = side_by_side(children.h)
        products = jnp.einsum("...a,...b,abn->...n", p, p, params.v)
        return TreeState(h=tanh(products + affine(p, params.w_h, params.b) + z))
