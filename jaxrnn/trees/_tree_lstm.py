"""Base of the Tree-LSTMs: their parameters, the states of leaves, and the gates i, o and u."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import Chrono, gate_biases, gates, glorot_uniform, orthogonal
from jaxrnn.ops import align, sigmoid, tanh
from jaxrnn.trees._cell import TreeCell
from jaxrnn.trees._params import TreeParams


class TreeLSTMState(NamedTuple):
    h: Array  # [*batch, hidden]
    c: Array  # [*batch, hidden]


@dataclass(frozen=True)
class TreeLSTM(TreeCell):
    """A Tree-LSTM, whose subclass computes the gates of an inner node from its children."""

    _: KW_ONLY
    forget_bias: float | Chrono = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check.gate_bias(self, "forget_bias")

    def init(self, key: Array, input_size: int) -> TreeParams:
        n = self.hidden_size
        num_places = 1 if self.arity is None else self.arity  # a set of children shares one matrix
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x = gates(glorot_uniform, k_x, (input_size, n), 4)
        w_h = [gates(orthogonal, k, (n, n), 3 + num_places) for k in jax.random.split(k_h, num_places)]
        b_f, b_i = gate_biases(k_b, self.forget_bias, n)
        return TreeParams(w_x, jnp.concatenate(w_h), jnp.concatenate([b_i, jnp.zeros(2 * n), b_f]))

    def leaf(self, params: TreeParams, z: Array) -> TreeLSTMState:
        iou = (z + align(params.b, z))[..., : 3 * self.hidden_size]
        return compute_state(iou, kept=0.0)


def compute_state(iou: Array, kept: Array | float) -> TreeLSTMState:
    """Returns the state of a node, given its gates i, o, u before their activations and what is kept of the children.

    Args:
      iou: An array [*batch, 3 * hidden].
      kept: The sum of the children's c, each times its forget gate.
    """
    i, o, u = jnp.split(iou, 3, axis=-1)
    c = sigmoid(i) * tanh(u) + kept
    return TreeLSTMState(h=sigmoid(o) * tanh(c), c=c)
