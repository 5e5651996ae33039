"""Converts the recurrent layers of Keras, given as a config and arrays, so that Keras is not needed."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.cells import (
    GRU,
    LSTM,
    Elman,
    ElmanParams,
    GRUParams,
    LSTMParams,
    ResetBeforeGRU,
    ResetBeforeGRUParams,
)
from jaxrnn.convert._checks import cannot_convert, check_params
from jaxrnn.convert._directions import join_directions, split_directions
from jaxrnn.convert._gates import as_array, reorder_gates
from jaxrnn.layer import Cell, Layer
from jaxrnn.layers import Bidirectional, concat


def average(forward: Array, backward: Array) -> Array:
    """Returns the mean of the outputs of both directions, like Keras's `merge_mode="ave"`.

    Example:
      >>> layer = jaxrnn.Bidirectional(jaxrnn.GRU(4), merge=jaxrnn.convert.keras.average)
      >>> state, ys = jaxrnn.unroll(layer, layer.init(jax.random.key(0), 3), jnp.zeros((5, 3)))
      >>> ys.shape
      (5, 4)
    """
    return (forward + backward) / 2


ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}  # of SimpleRNN; gated cells use tanh
MERGES = {"concat": concat, "sum": operator.add, "mul": operator.mul, "ave": average}
KERAS_NAMES = {Elman: "SimpleRNN", LSTM: "LSTM", GRU: "GRU", ResetBeforeGRU: "GRU"}
GRU_ORDER = (1, 0, 2)  # z, r, n in Keras and r, z, n in jaxrnn; its own inverse


def from_keras(layer: Any) -> tuple[Layer, Any]:
    """Converts a recurrent layer of Keras.

    A `SimpleRNN` becomes an `Elman`, and an `LSTM` an `LSTM`. A `GRU` becomes a `GRU`, or a `ResetBeforeGRU` if it has
    `reset_after=False`. A `Bidirectional` of these becomes a `Bidirectional`. The two biases of a GRU are added, except
    for the one inside the reset gate's product. With `use_bias=False`, the biases are zero.

    Options about how to run or to train are ignored: `return_sequences`, `return_state`, `stateful`, `unroll`,
    `zero_output_for_mask`, `dropout`, `recurrent_dropout`, initializers, regularizers and constraints. A layer with
    `go_backwards=True` is refused, unless it is the backward layer of a `Bidirectional`.

    Example:
      >>> lstm = jaxrnn.LSTM(64)
      >>> config, weights = jaxrnn.convert.to_keras(lstm, lstm.init(jax.random.key(0), input_size=8))
      >>> class LSTM:  # what is read of a keras.layers.LSTM
      ...     def get_config(self):
      ...         return config["config"] | {"activation": "tanh", "recurrent_activation": "sigmoid"}
      ...
      ...     def get_weights(self):
      ...         return weights
      >>> layer, params = jaxrnn.convert.from_keras(LSTM())
      >>> layer
      LSTM(hidden_size=64, forget_bias=1.0)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 32, 8)))  # time first: [time, batch, input]

    Args:
      layer: A layer, with any backend, that has been built, or a `SimpleRNNCell`, `LSTMCell` or `GRUCell`.

    Returns:
      The layer and its parameters, which keep their dtype.

    Raises:
      TypeError: jaxrnn has no such layer.
      ValueError: jaxrnn has no such option, the layer has no weights yet, or JAX would not keep their dtype.
    """
    if type(layer).__name__ != "Bidirectional":
        return _from_cell(layer, backward=False)
    if layer.merge_mode not in MERGES:
        raise ValueError(
            f"merge_mode must be one of {[*MERGES]}, but it is {layer.merge_mode!r}: "
            "jaxrnn's Bidirectional has a single output"
        )
    forward = _from_cell(layer.forward_layer, backward=False)
    backward = _from_cell(layer.backward_layer, backward=True)
    return join_directions(forward, backward, merge=MERGES[layer.merge_mode])


def to_keras(layer: Layer, params: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Converts a layer to the config and the weights of a layer of Keras.

    With Keras, the example continues with ::

      keras_layer = keras.layers.deserialize(config)
      keras_layer.build((None, None, 8))
      keras_layer.set_weights(weights)
      ys = keras_layer(xs)  # batch first

    Example:
      >>> layer = jaxrnn.LSTM(64)
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> config, weights = jaxrnn.convert.to_keras(layer, params)
      >>> config["class_name"], [w.shape for w in weights]
      ('LSTM', [(8, 256), (64, 256), (256,)])

    Args:
      layer: `Elman` with tanh, relu or sigmoid, `LSTM`, `GRU`, `ResetBeforeGRU`, or a `Bidirectional` of two of them
        whose merge is `jaxrnn.layers.concat`, `operator.add`, `operator.mul` or `jaxrnn.convert.keras.average`.
      params: Its parameters.

    Returns:
      The config and the weights. The Keras layer returns the outputs of all steps (`return_sequences=True`), and its
      `dtype` is that of the parameters.

    Raises:
      TypeError: Keras has no such layer.
      ValueError: The parameters are not those of the layer.
    """
    if type(layer) is not Bidirectional:
        return _to_cell(layer, params)
    modes = [mode for mode, merge in MERGES.items() if merge is layer.merge]
    if not modes:
        raise TypeError(
            f"{layer} cannot be converted to Keras: its merge must be jaxrnn.layers.concat, operator.add, "
            "operator.mul or jaxrnn.convert.keras.average"
        )
    forward, backward = split_directions(layer, params)
    forward_config, forward_weights = _to_cell(*forward)
    backward_config, backward_weights = _to_cell(*backward)
    backward_config["config"]["go_backwards"] = True
    config = {"layer": forward_config, "backward_layer": backward_config, "merge_mode": modes[0]}
    return _config("Bidirectional", config), forward_weights + backward_weights


def _from_cell(layer: Any, *, backward: bool) -> tuple[Cell, Any]:
    """Converts a layer of one direction, or a cell; `backward` is whether it is the backward layer of a pair."""
    name = type(layer).__name__.removesuffix("Cell")
    if name not in KERAS_NAMES.values():
        raise TypeError(f"layer must be a SimpleRNN, LSTM, GRU or Bidirectional of Keras, but it is {layer!r}")
    config = layer.get_config()
    if config.get("go_backwards", False) != backward:
        raise ValueError(
            f"{name}'s go_backwards must be {backward} here, but it is {not backward}: "
            "convert the layer with go_backwards=False, and call unroll with reverse=True"
        )
    activation, gate_activation = config["activation"], config.get("recurrent_activation", "sigmoid")
    if name == "SimpleRNN" and not (isinstance(activation, str) and activation in ACTIVATIONS):
        raise ValueError(f"SimpleRNN's activation must be one of {[*ACTIVATIONS]}, but it is {activation!r}")
    if name != "SimpleRNN" and (activation, gate_activation) != ("tanh", "sigmoid"):
        raise ValueError(
            f"{name}'s activations must be tanh and sigmoid, but they are {activation!r} and {gate_activation!r}"
        )
    weights = [as_array(weight) for weight in layer.get_weights()]
    if not weights:
        raise ValueError(f"{name} must have weights, but it has none: build it, or call it once")
    w_x, w_h, *bias = weights
    n = config["units"]
    b = bias[0] if bias else jnp.zeros_like(w_x, shape=w_x.shape[-1])
    if name == "SimpleRNN":
        cell = Elman(n, activation=ACTIVATIONS[activation])
        return cell, check_params(cell, ElmanParams(w_x, w_h, b))
    if name == "LSTM":
        cell = LSTM(n)
        return cell, check_params(cell, LSTMParams(w_x, w_h, b))
    w_x, w_h = reorder_gates(w_x, GRU_ORDER), reorder_gates(w_h, GRU_ORDER)
    if config["reset_after"]:
        b_x, b_h = b if bias else (b, b)
        b = reorder_gates(b_x + b_h.at[2 * n :].set(0), GRU_ORDER)
        cell = GRU(n)
        return cell, check_params(cell, GRUParams(w_x, w_h, b, b_h[2 * n :]))
    w_x, w_h, b = (_negate_update_gate(w, n) for w in (w_x, w_h, reorder_gates(b, GRU_ORDER)))
    cell = ResetBeforeGRU(n)
    return cell, check_params(cell, ResetBeforeGRUParams(w_x, w_h[:, : 2 * n], w_h[:, 2 * n :], b))


def _to_cell(layer: Layer, params: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Converts a layer of one direction."""
    if not isinstance(layer, Elman | LSTM | GRU | ResetBeforeGRU):
        raise cannot_convert(layer, "Keras", [*KERAS_NAMES, Bidirectional])
    p, n = check_params(layer, params), layer.hidden_size
    options: dict[str, Any] = {"units": n, "return_sequences": True, "dtype": p.w_x.dtype.name}
    weights = [p.w_x, p.w_h, p.b]
    if isinstance(layer, Elman):
        options["activation"] = next((name for name, f in ACTIVATIONS.items() if f is layer.activation), None)
        if options["activation"] is None:
            raise TypeError(
                f"{layer} cannot be converted to Keras: its activation must be jnp.tanh, jax.nn.relu or jax.nn.sigmoid"
            )
    if isinstance(layer, ResetBeforeGRU):
        options["reset_after"] = False
        w_h = jnp.concatenate([p.w_h, p.w_a], axis=-1)
        weights = [reorder_gates(_negate_update_gate(w, n), GRU_ORDER) for w in (p.w_x, w_h, p.b)]
    if isinstance(layer, GRU):
        options["reset_after"] = True
        w_x, w_h, b_x = (reorder_gates(w, GRU_ORDER) for w in (p.w_x, p.w_h, p.b))
        b_h = jnp.zeros_like(p.b).at[2 * n :].set(p.b_n)
        weights = [w_x, w_h, jnp.stack([b_x, b_h])]
    return _config(KERAS_NAMES[type(layer)], options), [np.asarray(w) for w in weights]


def _config(class_name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the config that `keras.layers.deserialize` takes."""
    return {"module": "keras.layers", "class_name": class_name, "config": options}


def _negate_update_gate(w: Array, n: int) -> Array:
    """Changes the sign of the update gate's logits.

    In Keras the update gate keeps the state, whereas in `ResetBeforeGRU` it writes to it.
    """
    return w.at[..., n : 2 * n].multiply(-1)
