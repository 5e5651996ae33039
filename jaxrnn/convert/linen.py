"""Converts the recurrent cells of Flax linen, given as a tree of names and arrays, so that Flax is not needed."""

from __future__ import annotations

from typing import Any

from jaxrnn.convert._flax_tree import GATES, read_gates, read_layer, write_gates, write_layer
from jaxrnn.layer import Layer


def from_linen(params: Any) -> tuple[Layer, Any]:
    """Converts a recurrent cell of Flax linen.

    The cell is recognized by the names in its tree: a `SimpleCell` becomes an `Elman`, an `LSTMCell` or an
    `OptimizedLSTMCell` an `LSTM`, a `GRUCell` a `GRU`, and an `MGUCell` a `ResetAfterMGU`. The tree does not contain
    the options of a module. For other activations, replace those of the layer, as in
    `dataclasses.replace(layer, activation=jax.nn.relu, gate_activation=jax.nn.hard_sigmoid)`. For `residual=True`, add
    the identity to `w_h`. For another `merge_fn`, replace the merge of the `Bidirectional`.

    Example:
      >>> lstm = jaxrnn.LSTM(64)
      >>> tree = jaxrnn.convert.to_linen(lstm, lstm.init(jax.random.key(0), 8))  # or variables["params"]["rnn"]
      >>> layer, params = jaxrnn.convert.from_linen(tree)
      >>> layer
      LSTM(hidden_size=64, forget_bias=1.0)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 32, 8)))  # time first: [time, batch, input]

    Args:
      params: The parameter tree of a cell, of an `nn.RNN` of one, or of an `nn.Bidirectional` of two, or variables that
        hold nothing else.

    Returns:
      The layer and its parameters, which keep their dtype.

    Raises:
      TypeError: `params` is not a tree of names, or jaxrnn has no such cell.
      ValueError: It is not the tree of a single cell, its shapes do not fit together, or JAX would not keep its dtype.
    """
    return read_layer(params, read_gates)


def to_linen(layer: Layer, params: Any) -> dict[str, Any]:
    """Converts a layer to the parameter tree of a cell of Flax linen.

    With Flax, the example continues with ::

      variables = {"params": {"cell": tree}}
      ys = nn.RNN(nn.LSTMCell(features=64)).apply(variables, xs)  # batch first

    Example:
      >>> layer = jaxrnn.LSTM(64)
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> tree = jaxrnn.convert.to_linen(layer, params)
      >>> sorted(tree), tree["hi"]["kernel"].shape
      (['hf', 'hg', 'hi', 'ho', 'if', 'ig', 'ii', 'io'], (64, 64))

    Args:
      layer: `Elman` (for a `SimpleCell`), `LSTM` (for `LSTMCell` and `OptimizedLSTMCell`), `GRU`, `ResetAfterMGU` (for
        `MGUCell`), or a `Bidirectional` of two of them (for an `nn.Bidirectional` of two `nn.RNN`). The module needs
        the activations of the layer as its `activation_fn` and `gate_fn`.
      params: Its parameters.

    Returns:
      The parameter tree of the cell or of the `nn.Bidirectional`.

    Raises:
      TypeError: Flax has no such cell.
      ValueError: The parameters are not those of the layer.
    """
    return write_layer(layer, params, write_gates, "Flax linen", GATES)
