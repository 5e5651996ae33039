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
        if isinstance(self.value, Mapping):  # a dict of Flax may be frozen, and then never equals one that is not
            return dict(self.value) != dict(self.default or {})
        return self.value != self.default


def layer_or_cell(
    owner: type,
    layer: Any,
    cell: Any,
    *,
    flavour: str,
    module_type: type,
    for_layers: Mapping[str, Option],
    for_cells: Mapping[str, Option],
    unsupported: Collection[str],
) -> tuple[Layer | None, Any]:
    """Returns what `RNN` wraps: a jaxrnn layer and None, or None and a Flax cell.

    Args:
      owner: the class that wraps it.
      layer: the argument `layer`, a jaxrnn layer or a Flax cell.
      cell: the argument `cell`, a Flax cell or None.
      flavour: "linen" or "nnx".
      module_type: the class of modules in that flavour.
      for_layers: the options that are only for jaxrnn layers.
      for_cells: the options that are only for Flax cells.
      unsupported: those options for Flax cells that must have their defaults.
    """
    name = owner.__name__
    if cell is None and isinstance(layer, module_type):
        layer, cell = None, layer
    if cell is None:
        check_layer(owner, layer, f"a jaxrnn layer or a Flax {flavour} cell")
        for option in for_cells:
            if for_cells[option].given:
                raise TypeError(
                    f"{option} is an option for Flax cells, but {name} wraps {layer}: "
                    "choose how a layer runs by its loop, as in loop=jaxrnn.loops.Scan(unroll=4)"
                )
        return layer, None
    if layer is not None:
        raise TypeError(f"{name} wraps one layer or one cell, but it was given both")
    if not isinstance(cell, module_type):
        raise TypeError(f"cell must be a module such as flax.{flavour}.LSTMCell(...), but it is {cell!r}")
    for option in for_layers:
        if for_layers[option].given:
            raise TypeError(
                f"{option} is an option for jaxrnn layers, but {name} wraps a Flax cell: "
                "set it in the cell if it has it, and give the other options by name"
            )
    for option in unsupported:
        if for_cells[option].given:
            raise TypeError(
                f"a cell's variables cannot be scanned over in this loop: use flax.{flavour}.RNN for {option}"
            )
    return None, cell


def check_layer(owner: type, layer: Any, kind: str = "a jaxrnn layer") -> None:
    if not isinstance(layer, Layer):
        hint = f": did you mean {layer.__name__}(...)?" if isinstance(layer, type) else ""
        raise TypeError(f"{owner.__name__} wraps {kind}, but it was given {layer!r}{hint}")


def check_causal(owner: type, layer: Layer) -> None:
    if not layer.causal:
        raise TypeError(f"{owner.__name__} runs one step after the other, but {layer} reads the future: wrap it in RNN")


def check_size(owner: type, input_size: Any) -> None:
    sizes = input_size if isinstance(input_size, tuple) else (input_size,)
    if not all(isinstance(size, Integral) and not isinstance(size, bool) and int(size) > 0 for size in sizes):
        raise ValueError(
            f"{owner.__name__}'s input_size must be a positive integer (or a tuple of them, one for each feature "
            f"axis), but it is {input_size!r}"
        )
