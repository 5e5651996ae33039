"""Converts the recurrent cells of Flax nnx, given as a tree of names and arrays, so that Flax is not needed."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxrnn.cells import GRU, LSTM, Elman
from jaxrnn.convert._checks import check_flag, check_params
from jaxrnn.convert._flax_tree import PARAMS, Leaves, read_gates, read_layer, unknown_cell, write_gates, write_layer
from jaxrnn.layer import Cell, Layer


def from_nnx(state: Any) -> tuple[Layer, Any]:
    """Converts a recurrent cell of Flax nnx.

    A `SimpleCell` becomes an `Elman`, an `LSTMCell` or an `OptimizedLSTMCell` an `LSTM`, and a `GRUCell` a `GRU` whose
    `b_n` is zero. An `nnx.RNN` or an `nnx.Bidirectional` of them is converted too. Options such as activations are not
    in the state; see `from_linen` for how to add them. The state of random number generators is ignored.

    Example:
      >>> gru = jaxrnn.GRU(64)
      >>> tree = jaxrnn.convert.to_nnx(gru, gru.init(jax.random.key(0), input_size=8))  # or nnx.state(model.rnn)
      >>> layer, params = jaxrnn.convert.from_nnx(tree)
      >>> layer
      GRU(hidden_size=64, update_bias=0.0)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 32, 8)))  # time first: [time, batch, input]

    Args:
      state: `nnx.state(module)`, or the same as a dict from `nnx.to_pure_dict`.

    Returns:
      The layer and its parameters, which keep their dtype.

    Raises:
      TypeError: `state` is not a tree of names, or jaxrnn has no such cell.
      ValueError: It is not the state of a single cell, its shapes do not fit together, or JAX would not keep its dtype.
    """
    return read_layer(state, _read_cell)


def to_nnx(layer: Layer, params: Any, *, optimized: bool = False) -> dict[str, Any]:
    """Converts a layer to the state of a cell of Flax nnx, as a dict.

    With Flax, the example continues with ::

      cell = nnx.GRUCell(8, 64, rngs=nnx.Rngs(0))
      nnx.update(cell, tree)  # for an nnx.RNN of the cell: {"cell": tree}

    Example:
      >>> layer = jaxrnn.GRU(64)
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> tree = jaxrnn.convert.to_nnx(layer, params)
      >>> jax.tree.map(jnp.shape, tree)
      {'dense_h': {'kernel': (64, 192)}, 'dense_i': {'bias': (192,), 'kernel': (8, 192)}}

    Args:
      layer: `Elman`, `LSTM`, `GRU`, or a `Bidirectional` of two of them (for an `nnx.Bidirectional` of two `nnx.RNN`).
      params: Its parameters. The GRU of nnx has no bias inside the reset gate's product, so a GRU's `b_n` must be zero.
      optimized: Whether an LSTM is written for `nnx.OptimizedLSTMCell` rather than for `nnx.LSTMCell`.

    Returns:
      The state of the cell or of the `nnx.Bidirectional`.

    Raises:
      TypeError: nnx has no such cell, or `optimized` is not a boolean.
      ValueError: The parameters are not those of the layer, or a cell of nnx cannot hold them.
    """
    check_flag("optimized", optimized)

    def write_cell(layer: Cell, params: Any) -> dict[str, Any]:
        if type(layer) is LSTM and not optimized:
            tree = write_gates(layer, params)
            return {"if_" if name == "if" else name: dense for name, dense in tree.items()}
        if type(layer) is GRU and jnp.any(params.b_n != 0):
            raise ValueError(
                "b_n must be zero for nnx.GRUCell, which has no bias inside the reset, but it is not: "
                "convert the layer to linen, whose GRUCell has one"
            )
        dense_i, dense_h = {"kernel": params.w_x}, {"kernel": params.w_h}
        biased = dense_h if type(layer) is LSTM else dense_i
        biased["bias"] = params.b
        return {"dense_i": dense_i, "dense_h": dense_h}

    return write_layer(layer, params, write_cell, "Flax nnx", (Elman, LSTM, GRU))


def _read_cell(leaves: Leaves) -> tuple[Cell, Any]:
    """Converts a cell with a dense layer per gate, or with one for all gates."""
    if "dense_h/kernel" not in leaves:
        return read_gates({"if" + name[3:] if name.startswith("if_/") else name: leaves[name] for name in leaves})
    w_h = leaves["dense_h/kernel"]
    for kind, biased, num_gates in ((Elman, "i", 1), (GRU, "i", 3), (LSTM, "h", 4)):
        names = "dense_i/kernel", "dense_h/kernel", f"dense_{biased}/bias"
        if set(leaves) == set(names) and w_h.ndim == 2 and w_h.shape[1] == num_gates * w_h.shape[0]:
            cell = kind(hidden_size=w_h.shape[0])
            b_n = [jnp.zeros_like(w_h, shape=w_h.shape[0])] if kind is GRU else []
            return cell, check_params(cell, PARAMS[kind](*(leaves[name] for name in names), *b_n))
    raise unknown_cell(leaves)
