"""Checks of the modules' arguments, and the choice between a jaxrnn layer and a Flax cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from numbers import Integral
from typing import Any, NamedTuple

from jaxrnn.layer import Layer


class Option(NamedTuple):
    """The value of an option that belongs either to jaxrnn layers or to Flax cells, and its default."""

    value: Any
    default: Any = None

    @property
    def given(self) -> bool:
        if isinstance(self.value, Mapping):  # a FrozenDict of Flax never equals a dict
            return dict(self.value) != dict(self.default or {})
        return self.value != self.default


def layer_or_cell(
    owner: type,
    layer: Any,
    cell: Any,
    *,
    flavor: str,
    module_type: type,
    for_layers: Mapping[str, Option],
    for_cells: Mapping[str, Option],
    unsupported: Collection[str],
) -> tuple[Layer | None, Any]:
    """Returns what `RNN` wraps: a jaxrnn layer and None, or None and a Flax cell.

    Args:
      owner: The class whose arguments these are.
      layer: Its argument `layer`: a jaxrnn layer, a Flax cell or None.
      cell: Its argument `cell`: a Flax cell or None.
      flavor: "linen" or "nnx".
      module_type: The class of modules in that flavor.
      for_layers: Options for jaxrnn layers only.
      for_cells: Options for Flax cells only.
      unsupported: Names of the options for Flax cells that must have their default values.
    """
    name = owner.__name__
    if cell is None and isinstance(layer, module_type):
        layer, cell = None, layer
    if cell is None:
        check_layer(owner, layer, f"a jaxrnn layer or a Flax {flavor} cell")
        for option in for_cells:
            if for_cells[option].given:
                raise TypeError(
                    f"{option} is an option for Flax cells, but {name} wraps {layer}: "
                    "to choose how a layer runs, give a loop, as in loop=jaxrnn.loops.Scan(unroll=4)"
                )
        return layer, None
    if layer is not None:
        raise TypeError(f"{name} wraps one layer or one cell, but it was given both")
    if not isinstance(cell, module_type):
        raise TypeError(f"cell must be a module such as flax.{flavor}.LSTMCell(...), but it is {cell!r}")
    for option in for_layers:
        if for_layers[option].given:
            raise TypeError(
                f"{option} is an option for jaxrnn layers, but {name} wraps a Flax cell: "
                "set it in the cell if the cell has it, and give the other options by name"
            )
    for option in unsupported:
        if for_cells[option].given:
            raise TypeError(
                f"a cell's variables cannot be scanned over in this loop: use flax.{flavor}.RNN for {option}"
            )
    return None, cell


def check_layer(owner: type, layer: Any, kind: str = "a jaxrnn layer") -> None:
    if not isinstance(layer, Layer):
        hint = f": did you mean {layer.__name__}(...)?" if isinstance(layer, type) else ""
        raise TypeError(f"{owner.__name__} wraps {kind}, but it was given {layer!r}{hint}")


def check_causal(owner: type, layer: Layer) -> None:
    if not layer.causal:
        raise TypeError(f"{owner.__name__} runs one step at a time, but {layer} reads the future: wrap it in RNN")


def check_size(owner: type, input_size: Any) -> None:
    sizes = input_size if isinstance(input_size, tuple) else (input_size,)
    if not all(isinstance(size, Integral) and not isinstance(size, bool) and int(size) > 0 for size in sizes):
        raise ValueError(
            f"{owner.__name__}'s input_size must be a positive integer (or a tuple of them, one for each feature "
            f"axis), but it is {input_size!r}"
        )
