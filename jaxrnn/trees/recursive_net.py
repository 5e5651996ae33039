"""Recursive network without gates."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import glorot_uniform
from jaxrnn.ops import affine, side_by_side, tanh
from jaxrnn.trees._cell import TreeCell, TreeState
from jaxrnn.trees._params import TreeParams


@dataclass(frozen=True)
class RecursiveNet(TreeCell):
    r"""Recursive network over binary trees.

    .. math::
        h_j &= W_x x_j & \text{of a leaf} \\
        h_j &= \tanh(W [h_{left}; h_{right}] + b + W_x x_j) & \text{of an inner node}

    The output is the state of every node, from `jaxrnn.trees.unroll`.

    Example:
      >>> from jaxrnn.trees import Node, RecursiveNet, pack, unroll
      >>> cell = RecursiveNet(hidden_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=100)  # 100 different symbols
      >>> batch = pack([Node(children=[Node(2), Node(5)])])
      >>> unroll(cell, params, batch).h.shape  # [slots, batch, hidden]
      (6, 1, 64)

    Args:
      hidden_size: Size of :math:`h`.

    References:
      R. Socher, C. Lin, A. Ng, C. Manning, "Parsing natural scenes and natural language with recursive neural
      networks", 2011.

    Deviations:
      An inner node may have an input. In the paper it has none, so that :math:`x_j = 0`.
    """

    arity = 2

    def init(self, key: Array, input_size: int) -> TreeParams:
        n = self.hidden_size
        k_x, k_h = jax.random.split(key)
        return TreeParams(glorot_uniform(k_x, (input_size, n)), glorot_uniform(k_h, (2 * n, n)), jnp.zeros(n))

    def step(self, params: TreeParams, children: TreeState, z: Array) -> TreeState:
        p = side_by_side(children.h)
        return TreeState(h=tanh(affine(p, params.w_h, params.b) + z))
