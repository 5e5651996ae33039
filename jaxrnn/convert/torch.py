"""Converts the recurrent modules of PyTorch, given as a mapping of names to arrays, so that PyTorch is not needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import jax
import numpy as np

from jaxrnn._check import is_number
from jaxrnn.cells import GRU, LSTM, Elman, ProjectedLSTM
from jaxrnn.convert._checks import cannot_convert, check_activations, check_flag, check_params, check_string
from jaxrnn.convert._directions import join_directions, split_directions
from jaxrnn.convert._torch_layer import ACTIVATIONS, TorchLayer
from jaxrnn.convert._torch_names import check_complete, name_of, weights_by_place
from jaxrnn.layer import Layer, Params
from jaxrnn.layers import Bidirectional, Dropout, Stack, Using, concat

CONVERTIBLE = (Elman, LSTM, ProjectedLSTM, GRU)


def from_torch(
    state_dict: Mapping[str, Any], *, nonlinearity: str = "tanh", dropout: float = 0.0, prefix: str = ""
) -> tuple[Layer, Params]:
    """Converts an `nn.RNN`, `nn.LSTM` or `nn.GRU` of PyTorch, or one of their cells, such as `nn.LSTMCell`.

    The module is recognized by the names and shapes in its `state_dict`: the number of layers, one direction or two,
    with biases or without, with `proj_size` or without. Only `nonlinearity` and `dropout` are not in the `state_dict`.
    A single layer becomes an `Elman`, `LSTM`, `ProjectedLSTM` or `GRU`; with two directions it becomes a
    `Bidirectional`, and several layers become a `Stack`. Fields that are only initial values of parameters, such as
    `forget_bias`, keep their defaults.

    The weights are bit for bit the same. The two biases of PyTorch are added, except for the one inside the reset
    gate's product of a GRU. Of a module under weight normalization (either API of PyTorch), weight drop (AWD-LSTM) or
    pruning, the weights are those that it uses in evaluation. Other parametrizations must be removed first.

    Example:
      >>> lstm = jaxrnn.LSTM(64)
      >>> state_dict = jaxrnn.convert.to_torch(lstm, lstm.init(jax.random.key(0), 8))  # or module.state_dict()
      >>> layer, params = jaxrnn.convert.from_torch(state_dict)
      >>> layer
      LSTM(hidden_size=64, forget_bias=1.0)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 32, 8)))  # time first, as without batch_first

    Args:
      state_dict: A mapping of names to PyTorch tensors, or to anything that NumPy can convert, such as the arrays of an
        .npz or a .safetensors file.
      nonlinearity: "tanh" or "relu", the option of `nn.RNN` and `nn.RNNCell`.
      dropout: The rate of dropout between layers. Above zero, there are `Dropout` layers between the layers.
      prefix: The beginning of the names of the module within a larger one, such as "encoder.rnn."; all other names are
        ignored.

    Returns:
      The layer and its parameters, each of which keeps its dtype.

    Raises:
      TypeError: `state_dict` is not a mapping, its arrays do not hold floating-point numbers, or an option has the
        wrong type.
      ValueError: Names or shapes are not those of one recurrent module, an option has the wrong value, or JAX would not
        keep a dtype.
    """
    if not isinstance(nonlinearity, str) or nonlinearity not in ACTIVATIONS:
        raise ValueError(f'nonlinearity must be "tanh" or "relu", but it is {nonlinearity!r}')
    _check_dropout_rate(dropout)
    check_string("prefix", prefix)
    found = weights_by_place(state_dict, prefix)
    num_layers = len({number for number, _ in found if number is not None})
    directions = sorted({False, *(reverse for _, reverse in found)})
    places = list(product(range(num_layers) if num_layers else [None], directions))
    check_complete(found, places)
    torch_layer, num_directions = TorchLayer.of_weights(found[places[0]], nonlinearity), len(directions)
    input_size = found[places[0]]["weight_ih"].shape[-1]
    entries: list[tuple[Layer, Params]] = []
    for first in range(0, len(places), num_directions):
        if entries and dropout:
            entries.append((Dropout(dropout), ()))
        both = [torch_layer.read(found[place], input_size, place) for place in places[first : first + num_directions]]
        entries.append(both[0] if num_directions == 1 else join_directions(*both))
        input_size = num_directions * torch_layer.output_size
    if len(entries) == 1:
        return entries[0]
    return Stack(*(layer for layer, _ in entries)), tuple(params for _, params in entries)


def to_torch(
    layer: Layer, params: Params, *, prefix: str = "", bias: bool = True, cell: bool = False
) -> dict[str, np.ndarray]:
    """Converts a layer to the `state_dict` of a module of PyTorch, as NumPy arrays.

    PyTorch has two biases where one is enough: `bias_ih` is the bias of the layer, and `bias_hh` is zero, except for
    the one inside the reset gate's product of a GRU.

    With PyTorch, the example continues with ::

      module = torch.nn.LSTM(8, 64, num_layers=2)
      module.load_state_dict({name: torch.from_numpy(w) for name, w in state_dict.items()})

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.LSTM(64), jaxrnn.LSTM(64))
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> state_dict = jaxrnn.convert.to_torch(layer, params)
      >>> len(state_dict), state_dict["weight_ih_l0"].shape
      (8, (256, 8))

    Args:
      layer: An `Elman` with tanh or relu, an `LSTM`, `ProjectedLSTM` or `GRU`; a `Bidirectional` of two of the same
        kind and size, merged by `jaxrnn.layers.concat`; or a `Stack` of layers of the same kind and size, with
        `Dropout` of one rate between all of them or without. Each of them may be inside a `Using`.
      params: Its parameters.
      prefix: The beginning of all names.
      bias: False writes no biases, for a module with `bias=False`; all biases must be zero.
      cell: True writes the names of `nn.RNNCell`, `nn.LSTMCell` or `nn.GRUCell`, for a single layer.

    Returns:
      A dict of names to arrays with the dtypes of the parameters. `torch.from_numpy` takes them all, except for
      bfloat16.

    Raises:
      TypeError: PyTorch has no such layer, or an option has the wrong type.
      ValueError: PyTorch has no such combination, or the parameters are not those of the layer.
    """
    check_string("prefix", prefix)
    check_flag("bias", bias)
    check_flag("cell", cell)
    flat = list(_flatten(layer, params))
    _check_dropout_layers(layer, [part for part, _ in flat])
    rows = [_directions_of(*entry) for entry in flat if type(entry[0]) is not Dropout]
    kinds = {(len(row), TorchLayer.of_cell(part)) for row in rows for part, _ in row}
    if len(kinds) > 1:
        raise ValueError(
            f"PyTorch's modules have layers of one kind, size and number of directions, but those of {layer} differ"
        )
    ((num_directions, torch_layer),) = kinds
    if cell and (len(rows), num_directions, torch_layer.projection_size) != (1, 1, 0):
        raise ValueError(
            "cell=True needs a single layer in one direction without a projection, as PyTorch's cells are, "
            f"but this is {layer}"
        )
    state_dict: dict[str, np.ndarray] = {}
    for number, row in enumerate(rows):
        for reverse, (part, p) in enumerate(row):
            for name, w in torch_layer.write(check_params(part, p), bias).items():
                state_dict[prefix + name_of(name, None if cell else number, bool(reverse))] = w
    return state_dict


def _check_dropout_rate(rate: Any) -> None:
    if not is_number(rate):
        raise TypeError(f"dropout must be a number from 0 to below 1, but it is {rate!r}")
    if not 0 <= rate < 1:
        raise ValueError(f"dropout must be a number from 0 to below 1, but it is {rate!r}")


def _without_using(layer: Layer) -> Layer:
    """Returns the layer inside of `Using`, because its loop changes no result."""
    while type(layer) is Using:
        layer = layer.layer
    return layer


def _flatten(layer: Layer, params: Params) -> Iterator[tuple[Layer, Params]]:
    """Yields the layers of nested stacks in their order, each with its parameters."""
    layer = _without_using(layer)
    if type(layer) is not Stack:
        yield layer, params
        return
    if not isinstance(params, tuple) or len(params) != len(layer.layers):
        raise ValueError(
            f"the parameters of {layer} must be a tuple of {len(layer.layers)}, but they have the shapes "
            f"{jax.tree.map(np.shape, params)}"
        )
    for part, p in zip(layer.layers, params, strict=True):
        yield from _flatten(part, p)


def _check_dropout_layers(layer: Layer, parts: list[Layer]) -> None:
    """Checks that there is the same dropout between all layers, or none."""
    rates = {part for part in parts if type(part) is Dropout}
    alternate = [type(part) is Dropout for part in parts] == [n % 2 == 1 for n in range(len(parts))]
    if rates and (len(rates) > 1 or not alternate or len(parts) % 2 == 0 or any(rate.shared for rate in rates)):
        raise ValueError(
            "PyTorch's modules have one rate of dropout between all layers, with a new mask at each step, "
            f"but {layer} has another dropout: convert a Stack without it"
        )


def _directions_of(layer: Layer, params: Params) -> list[tuple[Any, Params]]:
    """Returns the one or two cells of a layer, each with its parameters."""
    both = [(layer, params)]
    if type(layer) is Bidirectional:
        if layer.merge is not concat:
            raise ValueError(
                f"PyTorch concatenates both directions, so merge must be jaxrnn.layers.concat, but this is {layer}"
            )
        both = [(_without_using(part), p) for part, p in split_directions(layer, params)]
    for part, _ in both:
        if type(part) not in CONVERTIBLE:
            raise cannot_convert(part, "PyTorch", CONVERTIBLE)
        if type(part) in (LSTM, GRU):
            check_activations(part, "PyTorch")
    return both
