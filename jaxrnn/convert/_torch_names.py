"""Names in the `state_dict` of a recurrent module of PyTorch, such as `weight_ih_l0_reverse`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
NAME = re.compile(rf"({'|'.join(PARTS)})(?:_l(\d+)(_reverse)?)?")

# Names of the arrays that a module may have instead of a plain weight, by the role of the array.
WEIGHT = rf"(?P<weight>{NAME.pattern})"
ROLES = {
    "plain": re.compile(rf"(?:module\.)?{WEIGHT}"),
    "raw": re.compile(rf"(?:module\.)?{WEIGHT}_raw"),  # weight drop; the module inside may also have the dropped weight
    "g": re.compile(rf"{WEIGHT}_g|parametrizations\.(?P<other>{NAME.pattern})\.original0"),
    "v": re.compile(rf"{WEIGHT}_v|parametrizations\.(?P<other>{NAME.pattern})\.original1"),
    "orig": re.compile(rf"{WEIGHT}_orig"),  # pruning
    "mask": re.compile(rf"{WEIGHT}_mask"),
}

Place = tuple[int | None, bool]  # the number of a layer, None for a cell, and whether it runs in reverse
Weights = dict[str, np.ndarray]  # the arrays of one layer in one direction, by the names in `PARTS`


def name_of(part: str, layer: int | None, reverse: bool) -> str:
    """Returns the name of an array in a `state_dict`."""
    return part if layer is None else f"{part}_l{layer}{'_reverse' * reverse}"


def weights_by_place(state_dict: Mapping[str, Any], prefix: str) -> dict[Place, Weights]:
    """Returns the arrays under a prefix, sorted by layer and direction."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict must be a mapping of names to arrays, but it is {type(state_dict).__name__}")
    names = {name: name.removeprefix(prefix) for name in state_dict if name.startswith(prefix)}
    if (above := prefix.removesuffix("module.")) != prefix:  # weight drop has the weights of a module beside it
        raw = (name for name in state_dict if name.startswith(above))
        names |= {name: name[len(above) :] for name in raw if ROLES["raw"].fullmatch(name, len(above))}
    forms: dict[str, dict[str, str]] = {}  # of each weight, the names by their roles
    unknown = []
    for name, own in names.items():
        found_roles = [(role, match) for role, pattern in ROLES.items() if (match := pattern.fullmatch(own))]
        for role, match in found_roles:
            forms.setdefault(match["weight"] or match.groupdict()["other"], {})[role] = name
        if not found_roles:
            unknown.append(name)
    ends = {name: _end(name) for name in state_dict}
    if forms and unknown and all(ends[name] is None and NAME.search(name, len(prefix)) for name in unknown):
        raise ValueError(
            "state_dict must hold plain weights, or weights under weight normalization, weight drop or pruning, but "
            f"it holds {unknown[:8]}: call torch.nn.utils.parametrize.remove_parametrizations(module, name) first, or "
            "torch.nn.utils.remove_spectral_norm(module, name) for a norm of the older kind"
        )
    matches = {weight: NAME.fullmatch(weight) for weight in forms}
    if not forms or unknown or len({match[2] is None for match in matches.values() if match}) > 1:
        prefixes = sorted({name[:start] for name, start in ends.items() if start is not None})
        raise ValueError(
            f"state_dict must hold the weights of one recurrent module and nothing else under the prefix {prefix!r}, "
            f"but it holds {[*names][:8]}: the prefixes of recurrent weights are {prefixes}"
        )
    found: dict[Place, Weights] = {}
    for weight, match in matches.items():
        part, layer, reverse = match.groups()  # type: ignore[union-attr]
        place = (None if layer is None else int(layer), reverse is not None)
        arrays = {role: _to_numpy(name, state_dict[name]) for role, name in forms[weight].items()}
        found.setdefault(place, {})[part] = _effective_weight(weight, arrays)
    return found


def _end(name: str) -> int | None:
    """Returns where the name of an array within its module begins; None if it is not an array of such a module."""
    starts = [match.start() for pattern in ROLES.values() if (match := re.search(rf"(?:{pattern.pattern})$", name))]
    return min(starts, default=None)


def _effective_weight(name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Returns a weight, given the arrays that the module has instead of it."""
    roles = set(arrays)
    if roles in ({"plain"}, {"raw"}, {"plain", "raw"}):
        return arrays["raw" if "raw" in roles else "plain"]
    if roles == {"orig", "mask"}:
        return arrays["orig"] * arrays["mask"].astype(arrays["orig"].dtype)
    if roles != {"g", "v"}:
        raise ValueError(
            f"state_dict must hold {name}, or {name}_g and {name}_v (original0 and original1), or {name}_raw, or "
            f"{name}_orig and {name}_mask, but it holds {', '.join(sorted(roles))}"
        )
    g, v = arrays["g"], arrays["v"]
    if g.ndim not in (0, v.ndim) or any(size not in (1, of_v) for size, of_v in zip(g.shape, v.shape, strict=False)):
        raise ValueError(
            f"{name}_g must have one size 1 or that of {name}_v per axis, but it is {g.shape} beside {v.shape}"
        )
    precise = np.promote_types(v.dtype, np.float32)
    v = v.astype(precise)
    # PyTorch's `dim` is the axis that the norm keeps. An axis of size 1 gives the same either way.
    axes = tuple(axis for axis in range(v.ndim) if g.ndim == 0 or g.shape[axis] == 1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a norm of zero gives NaN, as in PyTorch
        w = v * (g.astype(precise) / np.sqrt((v * v).sum(axes, keepdims=True)))
    return w.astype(g.dtype)


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
