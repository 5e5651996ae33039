"""The values of one row's step as a graph of nodes, made from the traced equations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxrnn._tracing import Equation, Equations
from jaxrnn.loops.native._elementwise import OPERATIONS

UNCHANGED = ("optimization_barrier", "pvary")  # the results are the arguments
VIEWS = ("reshape", "squeeze", "expand_dims")  # the same numbers in the same order
REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or")
MOVES = ("broadcast_in_dim", "transpose", "slice", "split", "concatenate", "pad", "rev")
DTYPES = ("float32", "int32", "uint32", "bool")

NARROW = {"float64": "float32", "int64": "int32", "uint64": "uint32"}


class UnsupportedError(Exception):
    """An operation that cannot be compiled; its argument is the name."""


class Node:
    """One value of a row.

    Attributes:
      primitive: The operation of JAX, or "input" or "constant".
      args: The nodes it reads.
      params: The parameters of the operation.
      shape, dtype: Of one row's value.
      index: Which of the operation's results it is.
      shared: Whether it is the same for all rows.
      slot: Where it is stored, if it is.
      value: Of a constant.
    """

    __slots__ = ("args", "dtype", "index", "params", "primitive", "shape", "shared", "slot", "value")

    def __init__(self, primitive: str, args: list[Node], params: Any, shape: Any, dtype: str, index: int = 0):
        if dtype not in DTYPES:
            raise UnsupportedError(dtype if primitive == "input" else f"{primitive} of {dtype}")
        self.primitive, self.args, self.params = primitive, args, params
        self.shape, self.dtype, self.index = tuple(shape), dtype, index
        self.shared = all(arg.shared for arg in args)
        self.slot: Any = None
        self.value: Any = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def constant(value: Any) -> Node:
    value = np.asarray(value)
    dtype = NARROW.get(str(value.dtype), str(value.dtype))  # literals of Python are wider than what reads them
    node = Node("constant", [], {}, value.shape, dtype)
    node.value = value.reshape(-1)[0] if value.size else 0
    return node


def build(traced: Equations, equations: list[Equation], inputs: dict[int, Node]) -> list[Node]:
    """Returns the nodes of the results.

    Args:
      traced: A step of one row.
      equations: Those that differ from row to row.
      inputs: The nodes of places that are known: inputs, and what the parameters determine.
    """
    nodes = dict(inputs)

    def node_of(place: int) -> Node:
        if place not in nodes:
            value = np.asarray(traced.constants[place])
            if value.size > 1 and not (value == value.reshape(-1)[0]).all():
                raise UnsupportedError("a constant array")
            nodes[place] = constant(value)
        return nodes[place]

    for e in equations:
        args = [node_of(place) for place in e.ins]
        if e.effects:
            raise UnsupportedError(e.primitive)
        for index, place in enumerate(e.outs):
            aval = traced.avals[place]
            if e.primitive in UNCHANGED:
                nodes[place] = args[index]
                continue
            known = OPERATIONS.keys() | {*VIEWS, *REDUCTIONS, *MOVES, "dot_general", "stack", "unstack"}
            if e.primitive not in known or _rounds(e):
                raise UnsupportedError(e.primitive)
            if e.primitive == "stack":
                nodes[place] = _stacked(args, aval.shape, e.params["axis"])
                continue
            if e.primitive == "unstack":
                nodes[place] = _unstacked(args[0], e.params["axis"], index)
                continue
            if e.primitive in REDUCTIONS and not e.params["axes"]:
                nodes[place] = args[0]
                continue
            if e.primitive in OPERATIONS:
                args = [_broadcast(arg, aval.shape) for arg in args]
            nodes[place] = _simplified(Node(e.primitive, args, e.params, aval.shape, str(aval.dtype), index))
    return [node_of(place) for place in traced.outs]


def _rounds(e: Equation) -> bool:
    """Returns whether an equation rounds to fewer bits than `float32` has."""
    if e.primitive != "reduce_precision":
        return False
    return e.params["exponent_bits"] < 8 or e.params["mantissa_bits"] < 23


def _stacked(args: list[Node], shape: tuple[int, ...], axis: int) -> Node:
    piece = (*shape[:axis], 1, *shape[axis + 1 :])
    pieces = [Node("reshape", [arg], {}, piece, arg.dtype) for arg in args]
    return Node("concatenate", pieces, {"dimension": axis}, shape, args[0].dtype)


def _unstacked(arg: Node, axis: int, index: int) -> Node:
    start = [index if n == axis else 0 for n in range(len(arg.shape))]
    piece = (*arg.shape[:axis], 1, *arg.shape[axis + 1 :])
    part = Node("slice", [arg], {"start_indices": start, "strides": None}, piece, arg.dtype)
    return Node("reshape", [part], {}, (*arg.shape[:axis], *arg.shape[axis + 1 :]), arg.dtype)


def _broadcast(node: Node, shape: tuple[int, ...]) -> Node:
    """Returns an operand in the shape of the result. Single numbers may stay as they are."""
    if node.shape == shape or node.size == 1:
        return node
    return Node("broadcast_in_dim", [node], {"broadcast_dimensions": range(len(shape))}, shape, node.dtype)


def _simplified(node: Node) -> Node:
    """Returns a sum of padded pieces that fill an axis, such as the cotangent of a split, as their concatenation."""
    if node.primitive not in ("add_any", "add"):
        return node
    pieces = _padded_pieces(node)
    if pieces is None:
        return node
    pieces.sort(key=lambda piece: piece[0])
    end = 0
    for start, piece in pieces:
        if start != end:
            return node
        end += piece.size
    if end != node.size:
        return node
    return Node("concatenate", [piece for _, piece in pieces], {"dimension": 0}, node.shape, node.dtype)


def _padded_pieces(node: Node) -> list[tuple[int, Node]] | None:
    if node.primitive in ("add_any", "add"):
        left = _padded_pieces(node.args[0])
        right = _padded_pieces(node.args[1]) if left is not None else None
        return None if left is None or right is None else left + right
    if node.primitive == "pad" and len(node.shape) == 1 and node.args[1].primitive == "constant":
        low, high, interior = node.params["padding_config"][0]
        if node.args[1].value == 0 and interior == 0 and low >= 0 and high >= 0:
            return [(low, node.args[0])]
    return None


def offset_of_view(node: Node) -> int | None:
    """Returns where the numbers of a slice or a part of a split begin in its argument, or None if they are spread."""
    source = node.args[0]
    if node.primitive == "split":
        sizes, axis = node.params["sizes"], node.params["axis"]
        start = [0] * len(source.shape)
        start[axis] = int(sum(sizes[: node.index]))
    else:
        start = node.params["start_indices"]
        if node.params["strides"] is not None and any(step != 1 for step in node.params["strides"]):
            return None
    partial = [axis for axis, (n, m) in enumerate(zip(node.shape, source.shape, strict=True)) if n != m]
    if partial and math.prod(node.shape[: partial[0]]) != 1:
        return None
    if len(partial) > 1 and math.prod(node.shape[: partial[-1]]) != 1:
        return None
    strides = row_major(source.shape)
    return sum(int(first) * stride for first, stride in zip(start, strides, strict=True))


def row_major(shape: Any) -> list[int]:
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def is_in_order(node: Node) -> bool:
    """Returns whether the pieces of a concatenation follow one another in memory."""
    return math.prod(node.shape[: node.params["dimension"]]) == 1
