"""Recursive networks over batches of trees: `pack` turns nested nodes into arrays, `unroll` runs a cell over them."""

from jaxrnn.trees._cell import TreeCell, TreeState
from jaxrnn.trees._pack import Node, Trees, at_roots, pack, take
from jaxrnn.trees._params import TreeParams
from jaxrnn.trees._unroll import unroll
from jaxrnn.trees.recursive_net import RNTN, RecursiveNet, RNTNParams
from jaxrnn.trees.tree_lstm import ChildSumTreeLSTM, NaryTreeLSTM, TreeLSTMState

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
