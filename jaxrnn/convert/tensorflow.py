"""Converts the recurrent cells of TensorFlow 1, given as a mapping of names to arrays; TensorFlow is not needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._check import is_number
from jaxrnn.cells import (
    LSTM,
    Elman,
    ElmanParams,
    LSTMParams,
    PeepholeLSTM,
    PeepholeLSTMParams,
    ProjectedLSTM,
    ProjectedLSTMParams,
    ResetBeforeGRU,
    ResetBeforeGRUParams,
)
from jaxrnn.convert._checks import cannot_convert, check_activations, check_params, check_string
from jaxrnn.convert._directions import join_directions, split_directions
from jaxrnn.convert._gates import as_array, reorder_gates
from jaxrnn.layer import Cell, Layer
from jaxrnn.layers import Bidirectional, Stack, concat

LSTM_ORDER = (0, 2, 1, 3)  # i, j, f, o in TensorFlow, whose j is g, and i, f, g, o in jaxrnn; its own inverse
PEEPHOLES = ("w_i_diag", "w_f_diag", "w_o_diag")
SLOT = re.compile(
    r"(?:Adam(?:_\d+)?|Adagrad|Adadelta(?:_\d+)?|Momentum|RMSProp(?:_\d+)?|Ftrl(?:_\d+)?|ExponentialMovingAverage)"
)
NAMES = {
    Elman: "basic_rnn_cell",
    LSTM: "basic_lstm_cell",
    PeepholeLSTM: "lstm_cell",
    ProjectedLSTM: "lstm_cell",
    ResetBeforeGRU: "gru_cell",
}
LSTM_NAMES = ("basic_lstm_cell", "lstm_cell", "lstm_fused_cell", "cudnn_compatible_lstm_cell")
Arrays = dict[str, Array]  # the arrays of one cell, by their names below that of the cell, such as "gates/kernel"


def from_tensorflow(variables: Mapping[str, Any], *, forget_bias: float = 1.0, prefix: str = "") -> tuple[Layer, Any]:
    """Converts the recurrent cells of TensorFlow 1, those of `tf.nn.rnn_cell`.

    A `BasicLSTMCell`, and an `LSTMCell` without options, becomes an `LSTM`; an `LSTMCell` with peepholes a
    `PeepholeLSTM`, or with `num_proj` a `ProjectedLSTM`; a `GRUCell`, which applies the reset gate before the product,
    a `ResetBeforeGRU`; and a `BasicRNNCell` an `Elman`. A `MultiRNNCell` becomes a `Stack`, and the two directions of a
    `bidirectional_dynamic_rnn` become a `Bidirectional`. Kernels are split into the parts of the input and of the
    state, and the gates are put into the order of jaxrnn. TensorFlow adds `forget_bias` to the forget gate in every
    step; here it is a part of the bias. A `CudnnCompatibleLSTMCell` adds nothing.

    The cells are recognized by their names, such as "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel", which may end
    in ":0". The names "kernel" and "bias" alone are those of a `BasicLSTMCell`. Slots of optimizers such as
    "kernel/Adam" are ignored. Activations, clipping and wrappers are not in the variables: for another activation,
    replace that of the layer, as in `dataclasses.replace(layer, activation=jax.nn.relu)`.

    Example:
      >>> names = "rnn/basic_lstm_cell/kernel", "rnn/basic_lstm_cell/bias"
      >>> variables = dict(zip(names, (jnp.zeros((8 + 64, 256)), jnp.zeros(256))))
      >>> layer, params = jaxrnn.convert.from_tensorflow(variables)
      >>> layer, float(params.b[64])
      (LSTM(hidden_size=64, forget_bias=1.0), 1.0)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]

      With TensorFlow, the variables of a checkpoint are ::

        reader = tf.train.load_checkpoint(path)
        variables = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}

    Args:
      variables: A mapping of names to arrays.
      forget_bias: The option of `BasicLSTMCell` and `LSTMCell`, which is not in the variables.
      prefix: The beginning of the names of the cells within a larger model, such as "decoder/rnn/"; all other names are
        ignored.

    Returns:
      The layer and its parameters, which keep their dtype.

    Raises:
      TypeError: `variables` is not a mapping, or an option has the wrong type.
      ValueError: Names or shapes are not those of recurrent cells, or JAX would not keep a dtype.
    """
    if not isinstance(variables, Mapping):
        raise TypeError(f"variables must be a mapping of names to arrays, but it is {type(variables).__name__}")
    if not is_number(forget_bias):
        raise TypeError(f"forget_bias must be a number, but it is {forget_bias!r}")
    check_string("prefix", prefix)
    tree: dict[str, Any] = {}
    for name, array in variables.items():
        *above, last = name.removeprefix(prefix).removesuffix(":0").split("/")
        if not name.startswith(prefix) or SLOT.fullmatch(last):
            continue
        node = tree
        for part in above:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"a name must not continue that of another array, but {name} does: leave it out")
        node[last] = array
    above = prefix.rstrip("/").rpartition("/")[2]  # the prefix may end in the name of the cell
    cell = above if re.sub(r"_\d+$", "", above) in (*LSTM_NAMES, *NAMES.values()) else "basic_lstm_cell"
    return _read(tree, cell, float(forget_bias), [name for name in variables if name.startswith(prefix)])


def to_tensorflow(layer: Layer, params: Any, *, forget_bias: float = 1.0, prefix: str = "") -> dict[str, np.ndarray]:
    """Converts a layer to the variables of cells of TensorFlow 1, as NumPy arrays.

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.LSTM(64), jaxrnn.LSTM(64))
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> variables = jaxrnn.convert.to_tensorflow(layer, params, prefix="rnn/")
      >>> [*variables][0], variables["rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel"].shape
      ('rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel', (72, 256))

    Args:
      layer: `Elman` with tanh, `LSTM`, `PeepholeLSTM`, `ProjectedLSTM`, `ResetBeforeGRU`, a `Stack` of them, or a
        `Bidirectional` of two of these, merged by `jaxrnn.layers.concat`.
      params: Its parameters.
      forget_bias: The option of the LSTM cells, which is subtracted from the bias.
      prefix: The beginning of all names.

    Returns:
      A dict of names to arrays with the dtypes of the parameters.

    Raises:
      TypeError: TensorFlow has no such cell, or an option has the wrong type.
      ValueError: The parameters are not those of the layer.
    """
    if not is_number(forget_bias):
        raise TypeError(f"forget_bias must be a number, but it is {forget_bias!r}")
    check_string("prefix", prefix)
    return {prefix + name: np.asarray(array) for name, array in _write(layer, params, float(forget_bias))}


def _read(tree: Mapping[str, Any], cell: str, forget_bias: float, names: list[str]) -> tuple[Layer, Any]:
    """Converts the tree of a cell called `cell`, or of cells, below the names of the scopes around it."""
    if {"fw", "bw"} == set(tree):
        both = (_read(tree[direction], cell, forget_bias, names) for direction in ("fw", "bw"))
        return join_directions(*both)
    if tree and all(re.fullmatch(r"cell_\d+", name) for name in tree):
        ordered = sorted(tree, key=lambda name: int(name.removeprefix("cell_")))
        parts = [_read(tree[name], cell, forget_bias, names) for name in ordered]
        return Stack(*(layer for layer, _ in parts)), tuple(params for _, params in parts)
    if len(tree) == 1 and isinstance(node := next(iter(tree.values())), Mapping):
        return _read(node, next(iter(tree)), forget_bias, names)
    arrays = dict(_leaves(tree))
    found = _read_cell(arrays, re.sub(r"_\d+$", "", cell), forget_bias)
    if found is None:
        raise ValueError(
            "variables must be those of one BasicLSTMCell, LSTMCell, GRUCell or BasicRNNCell, of a MultiRNNCell or of "
            f"both directions, and nothing else under the prefix, but they are {names[:12]}: "
            "give the beginning of their names as the prefix"
        )
    return found[0], check_params(*found)


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Array]]:
    for name, node in tree.items():
        if isinstance(node, Mapping):
            yield from _leaves(node, f"{above}{name}/")
        else:
            yield above + name, as_array(node)


def _read_cell(arrays: Arrays, name: str, forget_bias: float) -> tuple[Any, Any] | None:
    """Returns a cell and its parameters, or None if the arrays are not those of a cell with this name."""
    parts = set(arrays)
    if parts == {"gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias"}:
        n = arrays["candidate/kernel"].shape[-1]
        (x_gates, h_gates), (x_a, h_a) = (_split_rows(arrays[f"{part}/kernel"], n) for part in ("gates", "candidate"))
        w_x, b = (
            jnp.concatenate(pair, -1) for pair in ((x_gates, x_a), (arrays["gates/bias"], arrays["candidate/bias"]))
        )
        # In TensorFlow the update gate keeps the state, whereas here it writes to it.
        w_x, w_h, b = (w.at[..., n : 2 * n].multiply(-1) for w in (w_x, h_gates, b))
        return ResetBeforeGRU(n), ResetBeforeGRUParams(w_x, w_h, h_a, b)
    if not parts >= {"kernel", "bias"}:
        return None
    kernel, bias = arrays["kernel"], arrays["bias"]
    if name == "basic_rnn_cell":
        return Elman(bias.size), ElmanParams(*_split_rows(kernel, bias.size), bias)
    if name not in LSTM_NAMES:
        return None
    n = bias.size // 4
    extra = parts - {"kernel", "bias"}
    kernel, bias = reorder_gates(kernel, LSTM_ORDER), reorder_gates(bias, LSTM_ORDER)
    if name != "cudnn_compatible_lstm_cell":
        bias = bias.at[n : 2 * n].add(forget_bias)
    if not extra:
        return LSTM(n), LSTMParams(*_split_rows(kernel, n), bias)
    if extra == set(PEEPHOLES):
        peepholes = jnp.stack([arrays[peephole] for peephole in PEEPHOLES])
        w_x, w_h = _split_rows(kernel, n)
        return PeepholeLSTM(n), PeepholeLSTMParams(w_x, w_h, peepholes, bias)
    if extra == {"projection/kernel"}:
        w_p = arrays["projection/kernel"]
        size = w_p.shape[-1]
        return ProjectedLSTM(n, size), ProjectedLSTMParams(*_split_rows(kernel, size), bias, w_p)
    return None


def _split_rows(kernel: Array, size: int) -> tuple[Array, Array]:
    """Splits a kernel into the rows of the input and the last `size` rows, those of the state."""
    if kernel.ndim != 2 or kernel.shape[0] <= size:
        raise ValueError(
            f"a kernel must be a matrix with rows for the input and {size} for the state, "
            f"but its shape is {kernel.shape}"
        )
    return kernel[:-size], kernel[-size:]


def _write(layer: Layer, params: Any, forget_bias: float) -> Iterable[tuple[str, Array]]:
    """Yields the names and arrays of a layer."""
    if type(layer) is Bidirectional and layer.merge is concat:
        for direction, part in zip(("fw", "bw"), split_directions(layer, params), strict=True):
            yield from ((f"{direction}/{name}", array) for name, array in _write(*part, forget_bias))
        return
    if type(layer) is Stack:
        if not isinstance(params, tuple) or len(params) != len(layer.layers):
            raise ValueError(f"the parameters of {layer} must be a tuple of {len(layer.layers)}, one for each layer")
        for number, part in enumerate(zip(layer.layers, params, strict=True)):
            yield from ((f"multi_rnn_cell/cell_{number}/{name}", array) for name, array in _write(*part, forget_bias))
        return
    if not isinstance(layer, Cell) or type(layer) not in NAMES:
        raise cannot_convert(layer, "TensorFlow", [*NAMES, Stack, Bidirectional])
    for name, array in _write_cell(layer, check_params(layer, params), forget_bias).items():
        yield f"{NAMES[type(layer)]}/{name}", array


def _write_cell(layer: Any, p: Any, forget_bias: float) -> Arrays:
    """Returns the arrays of a cell by their names."""
    if isinstance(layer, Elman):
        if layer.activation is not jnp.tanh:
            raise TypeError(f"{layer} cannot be converted to TensorFlow: its activation must be jnp.tanh")
        return {"kernel": jnp.concatenate([p.w_x, p.w_h]), "bias": p.b}
    if isinstance(layer, LSTM | ResetBeforeGRU):
        check_activations(layer, "TensorFlow")
    n = layer.hidden_size
    if isinstance(layer, ResetBeforeGRU):
        w_x, w_h, b = (w.at[..., n : 2 * n].multiply(-1) for w in (p.w_x, p.w_h, p.b))
        return {
            "gates/kernel": jnp.concatenate([w_x[:, : 2 * n], w_h]),
            "gates/bias": b[: 2 * n],
            "candidate/kernel": jnp.concatenate([w_x[:, 2 * n :], p.w_a]),
            "candidate/bias": b[2 * n :],
        }
    arrays = {
        "kernel": reorder_gates(jnp.concatenate([p.w_x, p.w_h]), LSTM_ORDER),
        "bias": reorder_gates(p.b.at[n : 2 * n].add(-forget_bias), LSTM_ORDER),
    }
    if isinstance(layer, PeepholeLSTM):
        arrays |= dict(zip(PEEPHOLES, p.w_c, strict=True))
    if isinstance(layer, ProjectedLSTM):
        arrays["projection/kernel"] = p.w_p
    return arrays
