"""Weights of Flax nnx' recurrent cells: a tree of names, so that Flax itself is not needed."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxrnn.cells import GRU, LSTM, Elman
from jaxrnn.convert._common import checked
from jaxrnn.convert.linen import PARAMS, Leaves, from_gates, read, to_gates, unknown, write
from jaxrnn.layer import Cell, Layer


def from_nnx(state: Any) -> tuple[Layer, Any]:
    """The layer and the parameters of a recurrent cell of Flax nnx.

        layer, params = from_nnx(nnx.state(model.rnn))

    As `from_linen`, for `SimpleCell`, `LSTMCell`, `OptimizedLSTMCell`, `GRUCell` (whose `b_n` is zero), and
    `nnx.RNN` and `nnx.Bidirectional` of them; the state of random numbers among them is left out.

    Args:
      state: `nnx.state(module)`, or the same as a dict from `nnx.to_pure_dict`.
    """
    return read(state, _from_cell)


def to_nnx(layer: Layer, params: Any, *, optimized: bool = False) -> dict[str, Any]:
    """The state of Flax nnx' cell for a layer, as a dict.

        cell = nnx.GRUCell(8, 64, rngs=nnx.Rngs(0))
        nnx.update(cell, to_nnx(layer, params))  # of an nnx.RNN: {"cell": to_nnx(layer, params)}

    Args:
      layer: `Elman`, `LSTM`, `GRU`, or a `Bidirectional` of two of them, for an `nnx.Bidirectional` of two `nnx.RNN`.
      params: its parameters. nnx' GRU has no bias inside the reset, so a GRU's `b_n` must be zero.
      optimized: write an LSTM for `nnx.OptimizedLSTMCell`, not for `nnx.LSTMCell`.

    Raises:
      TypeError: nnx has no counterpart of the layer.
      ValueError: the parameters are not the layer's, or nnx' cell cannot hold them.
    """

    def cell(layer: Cell, params: Any) -> dict[str, Any]:
        if type(layer) is LSTM and not optimized:
            tree = to_gates(layer, params)
            return {"if_" if name == "if" else name: dense for name, dense in tree.items()}
        if type(layer) is GRU and jnp.any(params.b_n != 0):
            raise ValueError("b_n must be zero for nnx' GRUCell, which has no bias inside the reset, but it is not")
        dense_i, dense_h = {"kernel": params.w_x}, {"kernel": params.w_h}
        (dense_h if type(layer) is LSTM else dense_i)["bias"] = params.b
        return {"dense_i": dense_i, "dense_h": dense_h}

    return write(layer, params, cell, "Flax nnx", (Elman, LSTM, GRU))


def _from_cell(leaves: Leaves) -> tuple[Cell, Any]:
    if "dense_h/kernel" not in leaves:
        return from_gates({"if" + name[3:] if name.startswith("if_/") else name: leaves[name] for name in leaves})
    w_h = leaves["dense_h/kernel"]
    for kind, biased, gates in ((Elman, "i", 1), (GRU, "i", 3), (LSTM, "h", 4)):
        names = "dense_i/kernel", "dense_h/kernel", f"dense_{biased}/bias"
        if set(leaves) == set(names) and w_h.ndim == 2 and w_h.shape[1] == gates * w_h.shape[0]:
            cell = kind(hidden_size=w_h.shape[0])
            b_n = [jnp.zeros_like(w_h, shape=w_h.shape[0])] if kind is GRU else []
            return cell, checked(cell, PARAMS[kind](*(leaves[name] for name in names), *b_n))
    raise unknown(leaves)
