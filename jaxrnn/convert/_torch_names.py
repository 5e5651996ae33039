"""Names in the `state_dict` of a recurrent module of PyTorch, such as `weight_ih_l0_reverse`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
NAME = re.compile(rf"({'|'.join(PARTS)})(?:_l(\d+)(_reverse)?)?")

Place = tuple[int | None, bool]  # the number of a layer, None for a cell, and whether it runs in reverse
Weights = dict[str, np.ndarray]  # the arrays of one layer in one direction, by the names in `PARTS`


def name_of(part: str, layer: int | None, reverse: bool) -> str:
    """Returns the name of an array in a `state_dict`."""
    return part if layer is None else f"{part}_l{layer}{'_reverse' * reverse}"


def weights_by_place(state_dict: Mapping[str, Any], prefix: str) -> dict[Place, Weights]:
    """Returns the arrays under a prefix, sorted by layer and direction."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict must be a mapping of names to arrays, but it is {type(state_dict).__name__}")
    found: dict[Place, Weights] = {}
    names = [name for name in state_dict if name.startswith(prefix)]
    matches = [NAME.fullmatch(name, len(prefix)) for name in names]
    if not names or not all(matches) or len({match[2] is None for match in matches if match}) > 1:
        ends = ((name, re.search(rf"{NAME.pattern}$", name)) for name in state_dict)
        prefixes = sorted({name[: match.start()] for name, match in ends if match})
        raise ValueError(
            f"state_dict must hold the weights of one recurrent module and nothing else under the prefix {prefix!r}, "
            f"but it holds {names[:8]}: the prefixes of recurrent weights are {prefixes}"
        )
    for name, match in zip(names, matches, strict=True):
        part, layer, reverse = match.groups()  # type: ignore[union-attr]
        place = (None if layer is None else int(layer), reverse is not None)
        found.setdefault(place, {})[part] = _to_numpy(name, state_dict[name])
    return found


def check_complete(found: dict[Place, Weights], places: list[Place]) -> None:
    """Checks that all layers and directions have the same arrays, and both biases or none."""
    has = set[str]().union(*found.values(), PARTS[:2])
    expected = [part for part in PARTS if part in has or ("bias" in part and has & set(PARTS[2:4]))]
    missing = [name_of(part, *place) for place in places for part in expected if part not in found.get(place, ())]
    if missing:
        given = [name_of(part, *place) for place, weights in found.items() for part in weights]
        raise ValueError(f"state_dict must also hold {', '.join(missing)}, because it holds {', '.join(given)}")


def _to_numpy(name: str, value: Any) -> np.ndarray:
    """Returns a floating-point array, given a tensor of PyTorch or anything that NumPy can convert."""
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu()
    if str(getattr(value, "dtype", None)) == "torch.bfloat16":  # PyTorch cannot convert it to NumPy directly
        value = np.asarray(value.float()).astype(jnp.bfloat16)
    value = np.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"weights must be arrays of floating-point numbers, but the dtype of {name} is {value.dtype}")
    return value
