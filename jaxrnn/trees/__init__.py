"""Recursive networks over batches of trees: `pack` turns nested nodes into arrays, `unroll` runs a cell over them."""

from jaxrnn.trees._cell import TreeCell, TreeState
from jaxrnn.trees._pack import Node, Trees, at_roots, pack, take
from jaxrnn.trees._params import TreeParams
from jaxrnn.trees._tree_lstm import TreeLSTMState
from jaxrnn.trees._unroll import unroll
from jaxrnn.trees.child_sum_tree_lstm import ChildSumTreeLSTM
from jaxrnn.trees.nary_tree_lstm import NaryTreeLSTM
from jaxrnn.trees.recursive_net import RecursiveNet
from jaxrnn.trees.rntn import RNTN, RNTNParams

__all__ = [
    "RNTN",
    "ChildSumTreeLSTM",
    "NaryTreeLSTM",
    "Node",
    "RNTNParams",
    "RecursiveNet",
    "TreeCell",
    "TreeLSTMState",
    "TreeParams",
    "TreeState",
    "Trees",
    "at_roots",
    "pack",
    "take",
    "unroll",
]


def __dir__() -> list[str]:
    return __all__
