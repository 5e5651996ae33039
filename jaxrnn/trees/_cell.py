"""The contract: what a cell over trees is."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Params, State


class TreeState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class TreeCell(check.NamedArguments, abc.ABC):
    """A cell over trees: computes the state of a node from the states of its children and the node's input.

    Like every jaxrnn cell it is a frozen dataclass of hyperparameters, and its methods are pure functions that treat
    every leading axis as a batch axis. `jaxrnn.trees.unroll` projects the inputs of all nodes at once, as
    `x @ params.w_x`, calls `leaf` once for all leaves, and then `step` for the inner nodes, children before parents.

    Example:
      >>> from typing import NamedTuple
      >>> from jaxrnn import trees
      >>> class SumParams(NamedTuple):
      ...     w_x: jax.Array  # [input, hidden]
      >>> class Sum(trees.TreeCell):
      ...     def init(self, key, input_size):
      ...         return SumParams(w_x=jnp.ones((input_size, self.hidden_size)))
      ...     def step(self, params, children, z):
      ...         return trees.TreeState(h=children.h.sum(-2) + z)
      >>> cell = Sum(hidden_size=1)
      >>> params = cell.init(jax.random.key(0), input_size=1)
      >>> tree = trees.Node(children=[trees.Node([1.0]), trees.Node([2.0])])
      >>> batch = trees.pack([tree])
      >>> trees.at_roots(batch, trees.unroll(cell, params, batch)).h.tolist()
      [[3.0]]

    Args:
      hidden_size: Size of :math:`h`.

    Attributes:
      arity: Number of children that each have their own weights, by position. Trees must be packed with this arity.
        None means that the children of a node are a set, of any size.
    """

    hidden_size: int
    arity: ClassVar[int | None] = None

    def __init_subclass__(cls) -> None:
        jax.tree_util.register_static(cls)  # like layers, a pytree without leaves

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")

    @abc.abstractmethod
    def init(self, key: Array, input_size: int) -> Params:
        """Draws parameters. One of them must be called `w_x` and have the shape [input, ...].

        Args:
          key: A JAX random key.
          input_size: Number of input features or, for symbols (integer inputs), of different symbols.
        """

    def leaf(self, params: Params, z: Array) -> State:
        """Returns the states of leaves.

        By default, the hidden state of a leaf is its projected input.

        Args:
          params: Parameters, from `init`.
          z: Projected inputs `x @ params.w_x` [*batch, ...]; zero for leaves without an input.

        Returns:
          A pytree of arrays [*batch, features] with the structure and shapes that `step` returns.
        """
        return TreeState(h=z)

    @abc.abstractmethod
    def step(self, params: Params, children: State, z: Array) -> State:
        """Returns the states of inner nodes.

        Args:
          params: Parameters, from `init`.
          children: States of the children: a pytree of arrays [*batch, arity, features], zero where a child is missing.
          z: Projected inputs `x @ params.w_x` [*batch, ...]; zero for nodes without an input.

        Returns:
          A pytree of arrays [*batch, features].
        """
