"""Weights of Equinox' recurrent cells."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.cells import GRU, LSTM, GRUParams, LSTMParams
from jaxrnn.convert._common import array, checked, refusal
from jaxrnn.layer import Cell, Layer


def from_equinox(cell: Any) -> tuple[Cell, Any]:
    """The layer and the parameters of an `eqx.nn.LSTMCell` or an `eqx.nn.GRUCell`.

        layer, params = from_equinox(model.cell)
        state, ys = jaxrnn.unroll(layer, params, xs)

    Where `use_bias` is False, the biases are zero.

    Args:
      cell: the cell. It is known by its attributes, so that Equinox itself is not needed.

    Returns:
      `(layer, params)`, the parameters of the dtype they have.

    Raises:
      TypeError: it is neither of the two.
      ValueError: its weights have no shape of theirs.
    """
    names = "weight_ih", "weight_hh", "bias", "hidden_size", "use_bias"
    if not all(hasattr(cell, name) for name in names):
        raise TypeError(f"cell must be an eqx.nn.LSTMCell or GRUCell, but it is of type {type(cell).__name__}")
    w_x, w_h = array(cell.weight_ih).T, array(cell.weight_hh).T
    n = cell.hidden_size
    layer, gates = (GRU(n), 3) if hasattr(cell, "bias_n") else (LSTM(n), 4)
    b = array(cell.bias) if cell.use_bias else jnp.zeros_like(w_x, shape=gates * n)
    if isinstance(layer, LSTM):
        return layer, checked(layer, LSTMParams(w_x, w_h, b))
    b_n = array(cell.bias_n) if cell.use_bias else jnp.zeros_like(w_x, shape=n)
    return layer, checked(layer, GRUParams(w_x, w_h, b, b_n))


def to_equinox(layer: Layer, params: Any) -> Any:
    """Equinox' cell for a layer.

        cell = to_equinox(layer, params)
        (h, c), _ = jax.lax.scan(lambda state, x: (cell(x, state), None), state, xs)  # of one sequence

    Args:
      layer: `LSTM` or `GRU`.
      params: its parameters.

    Returns:
      `eqx.nn.LSTMCell` or `eqx.nn.GRUCell`, with biases.

    Raises:
      ImportError: Equinox is not installed.
      TypeError: Equinox has no counterpart of the layer.
      ValueError: the parameters are not the layer's.
    """
    if not isinstance(layer, LSTM | GRU):
        raise refusal(layer, "Equinox", (LSTM, GRU))
    try:
        import equinox
    except ImportError as error:
        raise ImportError("to_equinox needs Equinox: pip install equinox") from error
    p = checked(layer, params)
    kind = equinox.nn.LSTMCell if isinstance(layer, LSTM) else equinox.nn.GRUCell
    weights = {"weight_ih": p.w_x.T, "weight_hh": p.w_h.T, "bias": p.b} | ({"bias_n": p.b_n} if len(p) == 4 else {})
    cell = kind(p.w_x.shape[0], layer.hidden_size, key=jax.random.key(0))
    return equinox.tree_at(lambda cell: [getattr(cell, name) for name in weights], cell, [*weights.values()])
