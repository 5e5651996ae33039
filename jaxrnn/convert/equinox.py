"""Converts the recurrent cells of Equinox."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.cells import GRU, LSTM, GRUParams, LSTMParams
from jaxrnn.convert._checks import cannot_convert, check_activations, check_params
from jaxrnn.convert._gates import as_array
from jaxrnn.layer import Cell, Layer


def from_equinox(cell: Any) -> tuple[Cell, Any]:
    """Converts an `eqx.nn.LSTMCell` or an `eqx.nn.GRUCell`.

    If the cell has `use_bias=False`, the biases are zero. The cell is recognized by its attributes, so that Equinox
    itself is not needed.

    Example:
      >>> from types import SimpleNamespace
      >>> cell = SimpleNamespace(  # what is read of an eqx.nn.LSTMCell(8, 64)
      ...     weight_ih=jnp.zeros((256, 8)),
      ...     weight_hh=jnp.zeros((256, 64)),
      ...     bias=jnp.zeros(256),
      ...     hidden_size=64,
      ...     use_bias=True,
      ... )
      >>> layer, params = jaxrnn.convert.from_equinox(cell)
      >>> layer
      LSTM(hidden_size=64, forget_bias=1.0)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]

    Args:
      cell: The cell.

    Returns:
      The layer and its parameters, which keep their dtype.

    Raises:
      TypeError: The cell is neither of the two.
      ValueError: Its weights do not have the shapes of such a cell, or JAX would not keep their dtype.
    """
    attributes = ("weight_ih", "weight_hh", "bias", "hidden_size", "use_bias")
    if not all(hasattr(cell, name) for name in attributes):
        raise TypeError(f"cell must be an eqx.nn.LSTMCell or GRUCell, but it is of type {type(cell).__name__}")
    w_x, w_h = as_array(cell.weight_ih).T, as_array(cell.weight_hh).T
    n = cell.hidden_size
    layer, num_gates = (GRU(n), 3) if hasattr(cell, "bias_n") else (LSTM(n), 4)
    b = as_array(cell.bias) if cell.use_bias else jnp.zeros_like(w_x, shape=num_gates * n)
    if isinstance(layer, LSTM):
        return layer, check_params(layer, LSTMParams(w_x, w_h, b))
    b_n = as_array(cell.bias_n) if cell.use_bias else jnp.zeros_like(w_x, shape=n)
    return layer, check_params(layer, GRUParams(w_x, w_h, b, b_n))


def to_equinox(layer: Layer, params: Any) -> Any:
    """Converts a layer to the cell of Equinox.

    Example:
      >>> layer = jaxrnn.LSTM(64)
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> cell = jaxrnn.convert.to_equinox(layer, params)  # doctest: +SKIP
      >>> xs, state = jnp.zeros((20, 8)), (jnp.zeros(64), jnp.zeros(64))  # one sequence
      >>> (h, c), _ = jax.lax.scan(lambda state, x: (cell(x, state), None), state, xs)  # doctest: +SKIP

    Args:
      layer: `LSTM` or `GRU`.
      params: Its parameters.

    Returns:
      An `eqx.nn.LSTMCell` or `eqx.nn.GRUCell`, with biases.

    Raises:
      ImportError: Equinox is not installed.
      TypeError: Equinox has no such cell.
      ValueError: The parameters are not those of the layer.
    """
    if not isinstance(layer, LSTM | GRU):
        raise cannot_convert(layer, "Equinox", (LSTM, GRU))
    check_activations(layer, "Equinox")
    try:
        import equinox
    except ImportError as error:
        raise ImportError("to_equinox needs Equinox: pip install equinox") from error
    p = check_params(layer, params)
    weights = {"weight_ih": p.w_x.T, "weight_hh": p.w_h.T, "bias": p.b}
    if isinstance(layer, GRU):
        weights["bias_n"] = p.b_n
    kind = equinox.nn.LSTMCell if isinstance(layer, LSTM) else equinox.nn.GRUCell
    cell = kind(p.w_x.shape[0], layer.hidden_size, key=jax.random.key(0))
    return equinox.tree_at(lambda cell: [getattr(cell, name) for name in weights], cell, [*weights.values()])
