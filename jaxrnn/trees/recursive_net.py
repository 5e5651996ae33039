"""Recursive networks without gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import glorot_uniform, uniform
from jaxrnn.ops import affine, tanh
from jaxrnn.trees._cell import TreeCell, TreeState
from jaxrnn.trees._params import TreeParams


@dataclass(frozen=True)
class RecursiveNet(TreeCell):
    r"""The recursive network over binary trees.

    .. math::
        h_j &= W_x x_j & \text{of a leaf} \\
        h_j &= \tanh(W [h_{left}; h_{right}] + b + W_x x_j) & \text{of an inner node}

    References: R. Socher, C. Lin, A. Ng, C. Manning, "Parsing natural scenes and natural language with recursive neural
    networks", 2011. Deviation: an inner node may have an input; in the paper none has, and :math:`x_j = 0`.
    """

    arity = 2

    def init(self, key: Array, input_size: int) -> TreeParams:
        n, (k_x, k_h) = self.hidden_size, jax.random.split(key)
        return TreeParams(glorot_uniform(k_x, (input_size, n)), glorot_uniform(k_h, (2 * n, n)), jnp.zeros(n))

    def step(self, params: TreeParams, children: TreeState, z: Array) -> TreeState:
        return TreeState(h=tanh(affine(children.h.reshape(*z.shape[:-1], -1), params.w_h, params.b) + z))


class RNTNParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [2 * hidden, hidden]
    b: Array  # [hidden]
    v: Array  # [2 * hidden, 2 * hidden, hidden]


@dataclass(frozen=True)
class RNTN(TreeCell):
    r"""Recursive neural tensor network: `RecursiveNet`, and products of the children's features.

    .. math::
        h_j = \tanh(p^\top V^{[1:n]} p + W p + b + W_x x_j), \quad p = [h_{left}; h_{right}]

    References: R. Socher et al., "Recursive deep models for semantic compositionality over a sentiment treebank", 2013.
    Deviations: that of `RecursiveNet`; there is a bias, which the paper leaves out to be simple.
    """

    arity = 2

    def init(self, key: Array, input_size: int) -> RNTNParams:
        n, (k_net, k_v) = self.hidden_size, jax.random.split(key)
        return RNTNParams(*RecursiveNet(n).init(k_net, input_size), v=uniform(1 / (4 * n))(k_v, (2 * n, 2 * n, n)))

    def step(self, params: RNTNParams, children: TreeState, z: Array) -> TreeState:
        p = children.h.reshape(*z.shape[:-1], -1)
        products = jnp.einsum("...a,...b,abn->...n", p, p, params.v)
        return TreeState(h=tanh(products + affine(p, params.w_h, params.b) + z))
