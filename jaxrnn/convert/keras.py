"""Weights of Keras' recurrent layers. Arrays and a config suffice, so that Keras itself is not needed."""

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
from jaxrnn.convert._common import array, checked, directions, pair, refusal, reorder
from jaxrnn.layer import Cell, Layer
from jaxrnn.layers import Bidirectional, concat


def average(forward: Array, backward: Array) -> Array:
    """The mean of both outputs."""
    return (forward + backward) / 2


ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}  # of SimpleRNN; gated cells have tanh
MERGES = {"concat": concat, "sum": operator.add, "mul": operator.mul, "ave": average}
NAMES = {Elman: "SimpleRNN", LSTM: "LSTM", GRU: "GRU", ResetBeforeGRU: "GRU"}


def from_keras(layer: Any) -> tuple[Layer, Any]:
    """The layer and the parameters of a recurrent layer of Keras.

        layer, params = from_keras(model.get_layer("lstm"))
        state, ys = jaxrnn.unroll(layer, params, xs)  # time first

    `SimpleRNN` is `Elman`, `LSTM` is `LSTM`, `GRU` is `GRU`, or `ResetBeforeGRU` where `reset_after` is False, and
    `Bidirectional` of these is `Bidirectional`. GRU's two biases are added up, but for the one inside the reset; where
    `use_bias` is False they are zero. What says how to run or to train is left out: `return_sequences`,
    `return_state`, `stateful`, `unroll`, `zero_output_for_mask`, `dropout`, `recurrent_dropout`, initializers,
    regularizers and constraints. `go_backwards` is refused, but for the backward layer of `Bidirectional`.

    Args:
      layer: a layer, built, of any backend, or one of the cells `SimpleRNNCell`, `LSTMCell`, `GRUCell`.

    Returns:
      `(layer, params)`, the parameters of the dtype they have.

    Raises:
      TypeError: the layer has no counterpart.
      ValueError: an option of it has none, or it has no weights yet.
    """
    if type(layer).__name__ != "Bidirectional":
        return _from_cell(layer, backward=False)
    if layer.merge_mode not in MERGES:
        raise ValueError(f"merge_mode must be one of {[*MERGES]}, but it is {layer.merge_mode!r}: merge is one output")
    both = _from_cell(layer.forward_layer, backward=False), _from_cell(layer.backward_layer, backward=True)
    return pair(*both, merge=MERGES[layer.merge_mode])


def to_keras(layer: Layer, params: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The config and the weights of Keras' layer for a layer.

        config, weights = to_keras(layer, params)
        keras_layer = keras.layers.deserialize(config)
        keras_layer.build((None, None, input_size))
        keras_layer.set_weights(weights)
        ys = keras_layer(xs)  # batch first

    Args:
      layer: `Elman` of tanh, relu or sigmoid, `LSTM`, `GRU`, `ResetBeforeGRU`, or a `Bidirectional` of two of these
        with the merge `concat`, `operator.add`, `operator.mul` or `jaxrnn.convert.keras.average`.
      params: its parameters.

    Returns:
      `(config, weights)`. The layer gives the outputs of all steps (`return_sequences`); its `dtype` is that of the
      parameters.

    Raises:
      TypeError: Keras has no counterpart of the layer.
      ValueError: the parameters are not the layer's.
    """
    if type(layer) is not Bidirectional:
        return _to_cell(layer, params)
    modes = [mode for mode, merge in MERGES.items() if merge is layer.merge]
    if not modes:
        raise TypeError(f"{layer} cannot be converted to Keras: merge must be concat, or operator.add, or operator.mul")
    (forward, w_forward), (backward, w_backward) = (_to_cell(part, p) for part, p in directions(layer, params))
    backward["config"]["go_backwards"] = True
    config = {"layer": forward, "backward_layer": backward, "merge_mode": modes[0]}
    return {"module": "keras.layers", "class_name": "Bidirectional", "config": config}, w_forward + w_backward


def _from_cell(layer: Any, *, backward: bool) -> tuple[Cell, Any]:
    name = type(layer).__name__.removesuffix("Cell")
    if name not in NAMES.values():
        raise TypeError(f"layer must be one of Keras' SimpleRNN, LSTM, GRU and Bidirectional, but it is {layer!r}")
    config = layer.get_config()
    if config.get("go_backwards", False) != backward:
        raise ValueError(
            f"go_backwards must be {backward} here, but {name}'s is {not backward}: "
            "convert the layer that goes forward, and call unroll with reverse=True"
        )
    activation, gate = config["activation"], config.get("recurrent_activation", "sigmoid")
    if name == "SimpleRNN" and not (isinstance(activation, str) and activation in ACTIVATIONS):
        raise ValueError(f"SimpleRNN's activation must be one of {[*ACTIVATIONS]}, but it is {activation!r}")
    if name != "SimpleRNN" and (activation, gate) != ("tanh", "sigmoid"):
        raise ValueError(f"{name}'s activations must be tanh and sigmoid, but they are {activation!r} and {gate!r}")
    weights = [array(weight) for weight in layer.get_weights()]
    if not weights:
        raise ValueError(f"{name} must have weights, but it has none: build it, or call it once")
    w_x, w_h, *bias = weights
    n, b = config["units"], jnp.zeros_like(w_x, shape=w_x.shape[-1]) if not bias else bias[0]
    if name == "SimpleRNN":
        cell = Elman(n, ACTIVATIONS[activation])
        return cell, checked(cell, ElmanParams(w_x, w_h, b))
    if name == "LSTM":
        return LSTM(n), checked(LSTM(n), LSTMParams(w_x, w_h, b))
    w_x, w_h = reorder(w_x, (1, 0, 2)), reorder(w_h, (1, 0, 2))  # from z, r, n
    if config["reset_after"]:
        b_x, b_h = b if bias else (b, b)
        b = reorder(b_x + b_h.at[2 * n :].set(0), (1, 0, 2))
        return GRU(n), checked(GRU(n), GRUParams(w_x, w_h, b, b_h[2 * n :]))
    w_x, w_h, b = (_turned(x, n) for x in (w_x, w_h, reorder(b, (1, 0, 2))))
    cell = ResetBeforeGRU(n)
    return cell, checked(cell, ResetBeforeGRUParams(w_x, w_h[:, : 2 * n], w_h[:, 2 * n :], b))


def _to_cell(layer: Layer, params: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
    if not isinstance(layer, Elman | LSTM | GRU | ResetBeforeGRU):
        raise refusal(layer, "Keras", [*NAMES, Bidirectional])
    p, n = checked(layer, params), layer.hidden_size
    options: dict[str, Any] = {"units": n, "return_sequences": True, "dtype": p.w_x.dtype.name}
    if isinstance(layer, Elman):
        options["activation"] = next((name for name, f in ACTIVATIONS.items() if f is layer.activation), None)
        if options["activation"] is None:
            raise TypeError(
                f"{layer} cannot be converted to Keras: activation must be jnp.tanh, or jax.nn's relu or sigmoid"
            )
    weights = [p.w_x, p.w_h, p.b]
    if isinstance(layer, ResetBeforeGRU):
        options["reset_after"] = False
        arrays = p.w_x, jnp.concatenate([p.w_h, p.w_a], axis=-1), p.b
        weights = [reorder(_turned(x, n), (1, 0, 2)) for x in arrays]
    if isinstance(layer, GRU):
        options["reset_after"] = True
        b_h = jnp.zeros_like(p.b).at[2 * n :].set(p.b_n)
        weights = [*(reorder(x, (1, 0, 2)) for x in (p.w_x, p.w_h)), jnp.stack([reorder(p.b, (1, 0, 2)), b_h])]
    config = {"module": "keras.layers", "class_name": NAMES[type(layer)], "config": options}
    return config, [np.asarray(x) for x in weights]


def _turned(x: Array, n: int) -> Array:
    """Keras' update gate keeps the state, that of `ResetBeforeGRU` writes to it: the logits change their sign."""
    return x.at[..., n : 2 * n].multiply(-1)
