"""Converts the recurrent layers of Keras, given as a config and arrays, so that Keras is not needed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
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


def hard_sigmoid(x: Array) -> Array:
    r"""Computes :math:`\min(\max(0.2 x + 0.5, 0), 1)`, the `hard_sigmoid` of Keras before version 3.

    In Keras 3 it is `jax.nn.hard_sigmoid`, :math:`\min(\max(x / 6 + 0.5, 0), 1)`.

    Example:
      >>> jaxrnn.convert.keras.hard_sigmoid(jnp.array([-3.0, 0.0, 1.0])).tolist()
      [0.0, 0.5, 0.699999988079071]
    """
    return jnp.clip(0.2 * x + 0.5, 0, 1)


ACTIVATIONS = {  # by their names in Keras; the first name of a function is the one that is written
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "linear": jax.nn.identity,
    "celu": jax.nn.celu,
    "elu": jax.nn.elu,
    "exponential": jnp.exp,
    "hard_tanh": jax.nn.hard_tanh,
    "log_sigmoid": jax.nn.log_sigmoid,
    "mish": jax.nn.mish,
    "relu6": jax.nn.relu6,
    "selu": jax.nn.selu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "squareplus": jax.nn.squareplus,
}
SYMMETRIC = (jax.nn.sigmoid, jax.nn.hard_sigmoid, hard_sigmoid)  # f(-x) = 1 - f(x)
MERGES = {"concat": concat, "sum": operator.add, "mul": operator.mul, "ave": average}
KERAS_NAMES = {Elman: "SimpleRNN", LSTM: "LSTM", GRU: "GRU", ResetBeforeGRU: "GRU"}
GRU_ORDER = (1, 0, 2)  # z, r, n in Keras and r, z, n in jaxrnn; its own inverse


def from_keras(
    layer: Any, weights: Any = None, *, activations: Mapping[str, Callable[[Array], Array]] | None = None
) -> tuple[Layer, Any]:
    """Converts a recurrent layer of Keras.

    A `SimpleRNN` becomes an `Elman`, and an `LSTM` an `LSTM`. A `GRU` becomes a `GRU`, or a `ResetBeforeGRU` if it has
    `reset_after=False`. A `Bidirectional` of these becomes a `Bidirectional`. The two biases of a GRU are added, except
    for the one inside the reset gate's product. With `use_bias=False`, the biases are zero.

    Activations become fields of the layer. Before Keras 3, `hard_sigmoid` was a different function, and before version
    2.3 it was the default for gates. Configs written by Keras show which one is meant. For other configs it must be
    given, as in `activations={"hard_sigmoid": jaxrnn.convert.keras.hard_sigmoid}`.

    Options about how to run or to train are ignored: `return_sequences`, `return_state`, `stateful`, `unroll`,
    `zero_output_for_mask`, `dropout`, `recurrent_dropout`, initializers, regularizers and constraints. A layer with
    `go_backwards=True` is refused, unless it is the backward layer of a `Bidirectional`.

    Example:
      >>> kernel, recurrent_kernel, bias = jnp.zeros((8, 256)), jnp.zeros((64, 256)), jnp.zeros(256)  # from a file
      >>> weights = {"lstm/kernel": kernel, "lstm/recurrent_kernel": recurrent_kernel, "lstm/bias": bias}
      >>> layer, params = jaxrnn.convert.from_keras({"class_name": "LSTM"}, weights)
      >>> layer
      LSTM(hidden_size=64, forget_bias=1.0)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 32, 8)))  # time first: [time, batch, input]

      With Keras it is `jaxrnn.convert.from_keras(model.get_layer("lstm"))`.

    Args:
      layer: A layer, with any backend, that has been built, or a `SimpleRNNCell`, `LSTMCell` or `GRUCell`; or its
        config, as `keras.layers.serialize` returns it and as model files contain it: a dict of `class_name` and
        `config`. Options that the config lacks have the defaults of Keras 3.
      weights: For a config, the arrays: those of `get_weights()`, or a mapping of names that end in `kernel`,
        `recurrent_kernel` and `bias`, or in 0, 1 and 2 as in `.weights.h5` files. Those of a backward layer have
        "backward" in their names.
      activations: Functions by their names in Keras, for activations that are not known here. They act elementwise.

    Returns:
      The layer and its parameters, which keep their dtype.

    Raises:
      TypeError: jaxrnn has no such layer, or an argument has the wrong type.
      ValueError: jaxrnn has no such option, the weights are not those of the layer, the layer has none yet, or JAX
        would not keep their dtype.
    """
    if not isinstance(activations, Mapping | None) or not all(map(callable, (activations or {}).values())):
        raise TypeError(f"activations must be a mapping of names to functions, but it is {activations!r}")
    if isinstance(layer, Mapping):
        return _from_config(layer, weights, activations or {})
    if weights is not None:
        raise TypeError(f"weights must be given with a config, but layer is {layer!r}: leave them out")
    if type(layer).__name__ != "Bidirectional":
        return _from_layer(layer, activations or {}, backward=False)
    merge = _merge_of(layer.merge_mode)
    forward = _from_layer(layer.forward_layer, activations or {}, backward=False)
    backward = _from_layer(layer.backward_layer, activations or {}, backward=True)
    return join_directions(forward, backward, merge=merge)


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
      layer: `Elman`, `LSTM`, `GRU` or `ResetBeforeGRU` with activations that Keras has, or a `Bidirectional` of two of
        them whose merge is `jaxrnn.layers.concat`, `operator.add`, `operator.mul` or `jaxrnn.convert.keras.average`.
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


def _from_layer(layer: Any, activations: Mapping[str, Any], *, backward: bool) -> tuple[Cell, Any]:
    """Converts a layer of one direction, or a cell; `backward` is whether it is the backward layer of a pair."""
    name = type(layer).__name__.removesuffix("Cell")
    if name not in KERAS_NAMES.values():
        raise TypeError(f"layer must be a SimpleRNN, LSTM, GRU or Bidirectional of Keras, but it is {layer!r}")
    config = layer.get_config()
    functions = _functions(activations, old=_is_old(config))
    return _from_arrays(name, config, layer.get_weights(), functions, backward=backward)


def _from_config(serialized: Mapping[str, Any], weights: Any, activations: Mapping[str, Any]) -> tuple[Layer, Any]:
    """Converts a config and its arrays."""
    if isinstance(weights, Mapping):
        weights = _in_order(weights)
    if not isinstance(weights, Sequence):
        raise TypeError(
            "weights must be a list of arrays or a mapping of names to arrays if layer is a config, "
            f"but they are of type {type(weights).__name__}"
        )

    def read(serialized: Any, weights: Sequence[Any], *, backward: bool) -> tuple[Cell, Any]:
        name, config = _class_and_config(serialized)
        name = name.removesuffix("Cell")
        if name not in KERAS_NAMES.values():
            raise TypeError(f"class_name must be SimpleRNN, LSTM, GRU or Bidirectional, but it is {name!r}")
        version_is_known = _is_old(config) or "module" in serialized or "seed" in config
        old = _is_old(config) if version_is_known else None
        return _from_arrays(name, config, weights, _functions(activations, old), backward=backward)

    name, config = _class_and_config(serialized)
    if name != "Bidirectional":
        return read(serialized, weights, backward=False)
    half, odd = divmod(len(weights), 2)
    if "layer" not in config or odd:
        raise ValueError(
            "a Bidirectional must have its layer in its config and as many weights in both directions, "
            f"but it has {[*config]} and {len(weights)} weights"
        )
    backward = config.get("backward_layer")
    if backward is None:
        backward = {**config["layer"], "config": {**config["layer"].get("config", {}), "go_backwards": True}}
    both = read(config["layer"], weights[:half], backward=False), read(backward, weights[half:], backward=True)
    return join_directions(*both, merge=_merge_of(config.get("merge_mode", "concat")))


def _class_and_config(serialized: Any) -> tuple[str, Mapping[str, Any]]:
    name = serialized.get("class_name") if isinstance(serialized, Mapping) else None
    config = serialized.get("config", {}) if name else None
    if not isinstance(name, str) or not isinstance(config, Mapping):
        raise TypeError(
            "a config must be a dict of class_name and config, as keras.layers.serialize returns it, "
            f"but it is {serialized!r}"
        )
    return name, config


def _is_old(config: Mapping[str, Any]) -> bool:
    """Returns whether Keras 2 wrote the config."""
    return "implementation" in config or "time_major" in config


def _functions(activations: Mapping[str, Any], old: bool | None) -> dict[str, Any]:
    """Returns the functions by their names; `old` is whether the layer is of Keras 2, or None if that is unknown."""
    of_version = {True: {"hard_sigmoid": hard_sigmoid}, False: {}, None: {"hard_sigmoid": None}}[old]
    return {**ACTIVATIONS, **of_version, **activations}


def _in_order(weights: Mapping[str, Any]) -> list[Any]:
    """Returns arrays in the order of `get_weights`, given the names that they have in Keras or in its files."""
    places: dict[tuple[bool, int], Any] = {}
    for name, array in weights.items():
        *above, last = name.removesuffix(":0").split("/")
        if "seed_generator" in above:
            continue
        part = {"kernel": 0, "recurrent_kernel": 1, "bias": 2, "0": 0, "1": 1, "2": 2}.get(last, -1)
        if part < 0 or places.setdefault(("backward" in "/".join(above), part), array) is not array:
            raise ValueError(
                "the names of weights must end in kernel, recurrent_kernel and bias, once per direction, "
                f"but they are {[*weights]}: give those of a single layer"
            )
    return [places[place] for place in sorted(places)]


def _merge_of(mode: Any) -> Any:
    if mode not in MERGES:
        raise ValueError(
            f"merge_mode must be one of {[*MERGES]}, but it is {mode!r}: jaxrnn's Bidirectional has a single output"
        )
    return MERGES[mode]


def _activation(name: str, option: str, value: Any, functions: Mapping[str, Any]) -> Any:
    """Returns the function of an option such as "recurrent_activation"."""
    if isinstance(value, Mapping):  # a function or an object, serialized
        value = value["config"] if value.get("class_name") == "function" else value.get("class_name")
    value = "linear" if value is None else value
    if value == "hard_sigmoid" and functions[value] is None:
        raise ValueError(
            f"{name}'s {option} is hard_sigmoid, which is another function in Keras 3 than in older versions: call "
            'from_keras with activations={"hard_sigmoid": jax.nn.hard_sigmoid} for Keras 3, '
            "or with jaxrnn.convert.keras.hard_sigmoid for Keras 2"
        )
    if not isinstance(value, str) or value not in functions:
        raise ValueError(
            f"{name}'s {option} must be one of {', '.join(functions)}, but it is {value!r}: "
            f"call from_keras with activations={{{value!r}: function}}"
        )
    return functions[value]


def _from_arrays(
    name: str, config: Mapping[str, Any], arrays: Sequence[Any], functions: Mapping[str, Any], *, backward: bool
) -> tuple[Cell, Any]:
    """Converts the arrays of one direction."""
    if config.get("go_backwards", backward) != backward:
        raise ValueError(
            f"{name}'s go_backwards must be {backward} here, but it is {not backward}: "
            "convert the layer with go_backwards=False, and call unroll with reverse=True"
        )
    activation = _activation(name, "activation", config.get("activation", "tanh"), functions)
    if not len(arrays):
        raise ValueError(f"{name} must have weights, but it has none: build it, or call it once")
    if len(arrays) not in (2, 3) or any(np.ndim(w) != 2 for w in arrays[:2]):
        shapes = [np.shape(array) for array in arrays]
        raise ValueError(
            f"{name} must have a kernel, a recurrent_kernel and perhaps a bias, but the shapes are {shapes}"
        )
    w_x, w_h, *bias = (as_array(array) for array in arrays)
    n = config.get("units", w_h.shape[0])
    b = bias[0] if bias else jnp.zeros_like(w_x, shape=w_x.shape[-1])
    if name == "SimpleRNN":
        cell = Elman(n, activation=activation)
        return cell, check_params(cell, ElmanParams(w_x, w_h, b))
    gates = _activation(name, "recurrent_activation", config.get("recurrent_activation", "sigmoid"), functions)
    functions = {"activation": activation, "gate_activation": gates}
    if name == "LSTM":
        cell = LSTM(n, **functions)
        return cell, check_params(cell, LSTMParams(w_x, w_h, b))
    reset_after = config.get("reset_after", b.ndim == 2 if bias else None)
    if reset_after is None:
        raise ValueError("the config of a GRU without biases must contain reset_after, but it does not: add it")
    if bias and b.ndim != 1 + reset_after:
        raise ValueError(
            f"the bias of a GRU with reset_after={reset_after} must have {1 + reset_after} axes, "
            f"but its shape is {b.shape}"
        )
    w_x, w_h = reorder_gates(w_x, GRU_ORDER), reorder_gates(w_h, GRU_ORDER)
    if reset_after:
        b_x, b_h = b if bias else (b, b)
        b = reorder_gates(b_x + b_h.at[2 * n :].set(0), GRU_ORDER)
        cell = GRU(n, **functions)
        return cell, check_params(cell, GRUParams(w_x, w_h, b, b_h[2 * n :]))
    if gates not in SYMMETRIC:
        raise ValueError(
            "the recurrent_activation of a GRU with reset_after=False must be sigmoid or hard_sigmoid, but it is "
            f"{config['recurrent_activation']!r}: jaxrnn's ResetBeforeGRU has 1 - z in the place of z"
        )
    w_x, w_h, b = (_negate_update_gate(w, n) for w in (w_x, w_h, reorder_gates(b, GRU_ORDER)))
    cell = ResetBeforeGRU(n, **functions)
    return cell, check_params(cell, ResetBeforeGRUParams(w_x, w_h[:, : 2 * n], w_h[:, 2 * n :], b))


def _to_cell(layer: Layer, params: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Converts a layer of one direction."""
    if not isinstance(layer, Elman | LSTM | GRU | ResetBeforeGRU):
        raise cannot_convert(layer, "Keras", [*KERAS_NAMES, Bidirectional])
    p, n = check_params(layer, params), layer.hidden_size
    options: dict[str, Any] = {"units": n, "return_sequences": True, "dtype": p.w_x.dtype.name}
    weights = [p.w_x, p.w_h, p.b]
    for field, option in (("activation", "activation"), ("gate_activation", "recurrent_activation")):
        if (function := getattr(layer, field, None)) is not None:
            options[option] = next((name for name, known in ACTIVATIONS.items() if known is function), None)
            if options[option] is None:
                raise TypeError(
                    f"{layer} cannot be converted to Keras: its {field} must be one of Keras, "
                    f"{', '.join(f.__name__ for f in dict.fromkeys(ACTIVATIONS.values()))}"
                )
    if isinstance(layer, ResetBeforeGRU):
        if layer.gate_activation not in SYMMETRIC:
            raise TypeError(
                f"{layer} cannot be converted to Keras: its gate_activation must be sigmoid or hard_sigmoid"
            )
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
