"""Weights of PyTorch's recurrent layers: a mapping of names to arrays, so that PyTorch itself is not needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import jax
import numpy as np

from jaxrnn.cells import GRU, LSTM, Elman, ProjectedLSTM
from jaxrnn.convert._common import checked, directions, pair, refusal
from jaxrnn.convert._torch_module import Module, check_names, check_nonlinearity, find, name_of
from jaxrnn.layer import Layer, Params
from jaxrnn.layers import Bidirectional, BidirectionalParams, Dropout, Stack, Using, concat

KNOWN = (Elman, LSTM, ProjectedLSTM, GRU)


def from_torch(
    state_dict: Mapping[str, Any], *, nonlinearity: str = "tanh", dropout: float = 0.0, prefix: str = ""
) -> tuple[Layer, Params]:
    """The layer and the parameters of PyTorch's `nn.RNN`, `nn.LSTM` or `nn.GRU`, or of the cell of one of them.

        layer, params = from_torch(module.state_dict())
        state, ys = jaxrnn.unroll(layer, params, xs)  # time first, as PyTorch's without batch_first

    Names and shapes tell which module it is: any number of layers, one direction or two, with biases or without,
    `proj_size`. They do not tell `nonlinearity` and `dropout`. One layer is an `Elman`, `LSTM`, `ProjectedLSTM` or
    `GRU`, in two directions a `Bidirectional`; several are a `Stack`. The fields that are only initial values of
    parameters, such as `forget_bias`, are left at their defaults.

    Weights keep their bits. PyTorch's two biases become their sum, but for the GRU's inside the reset.

    Args:
      state_dict: names and what NumPy makes arrays of: PyTorch's tensors, arrays from .npz or .safetensors files.
      nonlinearity: "tanh" or "relu", of an `nn.RNN` or `nn.RNNCell`.
      dropout: the rate between layers; above zero `Dropout` layers stand there.
      prefix: what the layer's names begin with in the state of a larger module, such as "encoder.rnn."; what does
        not begin with it is left alone.

    Returns:
      `(layer, params)`, each array of the dtype it had.

    Raises:
      TypeError: `state_dict` is no mapping, or its weights are no floating-point arrays.
      ValueError: names or shapes are not those of one recurrent layer, or JAX would not keep a dtype.
    """
    check_nonlinearity(nonlinearity)
    found = find(state_dict, prefix)
    layers = sorted({layer for layer, _ in found if layer is not None})
    places = list(product(range(len(layers)) if layers else [None], sorted({False, *(r for _, r in found)})))
    check_names(found, places)
    module = Module.of_weights(found[places[0]], nonlinearity)
    width = len(places) // max(len(layers), 1)
    size = found[places[0]]["weight_ih"].shape[-1]
    entries: list[tuple[Layer, Params]] = []
    for first in range(0, len(places), width):
        if entries and dropout:
            entries.append((Dropout(dropout), ()))
        row = [module.read(found[place], size, place) for place in places[first : first + width]]
        entries.append(row[0] if width == 1 else pair(*row))
        size = width * module.output_size
    if len(entries) == 1:
        return entries[0]
    return Stack(*(layer for layer, _ in entries)), tuple(params for _, params in entries)


def to_torch(
    layer: Layer, params: Params, *, prefix: str = "", bias: bool = True, cell: bool = False
) -> dict[str, np.ndarray]:
    """The `state_dict` of PyTorch's module for a layer, as NumPy arrays.

        module = torch.nn.LSTM(8, 64, num_layers=2)
        module.load_state_dict({name: torch.from_numpy(w) for name, w in to_torch(layer, params).items()})

    PyTorch has two biases where one is enough: `bias_ih` is ours and `bias_hh` is zero, but for the GRU's inside
    the reset.

    Args:
      layer: an `Elman` of tanh or relu, an `LSTM`, `ProjectedLSTM` or `GRU`; a `Bidirectional` of two alike, side by
        side; or a `Stack` of such of one size, with one rate of `Dropout` between all of them or with none.
        `Using` may stand around any of these.
      params: its parameters.
      prefix: what the names shall begin with.
      bias: False: for a module made with `bias=False`; the biases must be zero.
      cell: the names of `nn.RNNCell`, `nn.LSTMCell` or `nn.GRUCell`, of one layer.

    Returns:
      Names and arrays of the parameters' dtypes, all of which `torch.from_numpy` takes but bfloat16.

    Raises:
      TypeError: PyTorch has no counterpart of the layer.
      ValueError: PyTorch has no counterpart of this combination, or the parameters are not the layer's.
    """
    flat = list(_flat(layer, params))
    _check_dropout(layer, [part for part, _ in flat])
    rows = [_directions(*entry) for entry in flat if type(entry[0]) is not Dropout]
    modules = {(len(row), Module.of_cell(part)) for row in rows for part, _ in row}
    if len(modules) > 1:
        raise ValueError(f"PyTorch's layers are alike in kind, size and directions, but those of {layer} are not")
    ((width, module),) = modules
    if cell and (len(rows), width, module.proj_size) != (1, 1, 0):
        raise ValueError(f"PyTorch's cells are one layer, in one direction, without a projection, but this is {layer}")
    written: dict[str, np.ndarray] = {}
    for n, (reverse, (part, p)) in ((n, entry) for n, row in enumerate(rows) for entry in enumerate(row)):
        for name, weights in module.write(checked(part, p), bias).items():
            written[prefix + name_of(name, None if cell else n, bool(reverse))] = weights
    return written


def _without_loop(layer: Layer) -> Layer:
    while type(layer) is Using:
        layer = layer.layer
    return layer


def _flat(layer: Layer, params: Params) -> Iterator[tuple[Layer, Params]]:
    """The layers of stacks within stacks, one after the other."""
    layer = _without_loop(layer)
    if type(layer) is not Stack:
        yield layer, params
        return
    if not isinstance(params, tuple) or len(params) != len(layer.layers):
        raise ValueError(
            f"the parameters of {layer} must be a tuple of {len(layer.layers)}, but they are {_form(params)}"
        )
    for part, p in zip(layer.layers, params, strict=True):
        yield from _flat(part, p)


def _check_dropout(layer: Layer, parts: list[Layer]) -> None:
    rates = {part for part in parts if type(part) is Dropout}
    alternate = [type(part) is Dropout for part in parts] == [n % 2 == 1 for n in range(len(parts))]
    if rates and (len(rates) > 1 or not alternate or len(parts) % 2 == 0 or any(rate.shared for rate in rates)):
        raise ValueError(
            f"PyTorch has one dropout, drawn at each step, between all its layers, but {layer} has another: "
            "convert a Stack without it"
        )


def _directions(layer: Layer, params: Params) -> list[tuple[Any, Params]]:
    """The cells of one layer, and their parameters."""
    both = [(layer, params)]
    if type(layer) is Bidirectional:
        if layer.merge is not concat:
            raise ValueError(f"PyTorch puts both directions side by side, merge=concat, but this is {layer}")
        if not isinstance(params, BidirectionalParams):
            raise ValueError(f"the parameters of {layer} must be BidirectionalParams, but they are {_form(params)}")
        both = [(_without_loop(part), p) for part, p in directions(layer, params)]
    for part, _ in both:
        if type(part) not in KNOWN:
            raise refusal(part, "PyTorch", KNOWN)
    return both


def _form(params: Params) -> Any:
    return jax.tree.map(np.shape, params)
