"""Checks that parameters fit a layer.

A file does not hold the input size, so `init` is traced for input sizes that the shapes of the parameters suggest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxrnn._adopt import Adopted
from jaxrnn._names import names_along
from jaxrnn._saving.json_values import KNOWN
from jaxrnn._tensor_files import describe_error
from jaxrnn.layer import Layer, Loop, Params
from jaxrnn.trees import TreeCell
from jaxrnn.weights import Normalized

Shapes = dict[str, tuple[int, ...]]


def check_leaves(params: Params) -> None:
    """Checks that the leaves of parameters are arrays or numbers."""
    values = Layer | Loop | TreeCell  # which may be registered as pytrees without leaves
    for path, leaf in jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda leaf: isinstance(leaf, values)):
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex):
            raise TypeError(
                f"parameters must be arrays of numbers, but {'/'.join(names_along(path))} is {leaf!r}: "
                "a file cannot hold it"
            )


def check_fit(layer: Layer | TreeCell, params: Params) -> None:
    """Checks that parameters have the structure and the shapes that `layer.init` draws for some input size.

    All arrays may have further leading axes, the same ones, as the parameters of an ensemble do. A weight may be
    `Normalized`. A layer that contains a user's own layers is not checked, because only their author knows which
    parameters they accept.

    Raises:
      ValueError: The parameters do not fit the layer.
    """
    if not all(type(part) in KNOWN["jaxrnn"].values() and type(part) is not Adopted for part in _layers_in(layer)):
        return
    params = _without_lengths(params)
    found = _shapes(params)
    problems, refused, drawn = [], None, {}
    sizes = _possible_input_sizes(layer, found)
    while sizes:
        size = sizes.pop(0)
        try:
            like = jax.eval_shape(lambda key, size=size: layer.init(key, size), jax.random.key(0))
        except Exception as error:  # another input size is needed
            refused = refused or error
            continue
        if not (mismatches := _mismatches(_shapes(like), found)):
            expected, given = jax.tree.structure(like), jax.tree.structure(params)
            if expected == given:
                return
            raise ValueError(f"the parameters of {layer} must have the structure {expected}, but it is {given}")
        problems.append(mismatches)
        drawn[size] = _shapes(like)
        if len(drawn) == 2:  # all other sizes follow from these two
            sizes = [size for size in _interpolate(drawn, found) if size not in drawn]
    reason = min(problems, key=len)[0] if problems else f"it cannot draw any: {describe_error(refused)}"  # type: ignore
    raise ValueError(f"the parameters must be those of {layer}, but {reason}")


def _layers_in(value: Any) -> Iterator[Any]:
    """Yields all layers and cells over trees in a value."""
    if isinstance(value, Layer | TreeCell):
        yield value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ():
        yield from _layers_in(entry)


def _without_lengths(params: Params) -> Params:
    """Replaces each `Normalized` by its direction, which has the shape of the weight."""

    def direction(leaf: Any) -> Any:
        if not isinstance(leaf, Normalized):
            return leaf
        g, v = np.shape(leaf.g), np.shape(leaf.v)
        if not g or g != v[: len(g) - 1] + v[-1:]:
            raise ValueError(f"the lengths of a Normalized must have the shape {v[-1:]}, but it is {g}")
        return leaf.v

    return jax.tree.map(direction, params, is_leaf=lambda leaf: isinstance(leaf, Normalized))


def _shapes(params: Params) -> Shapes:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(names_along(path)): np.shape(leaf) for path, leaf in leaves}


def _mismatches(expected: Shapes, found: Shapes) -> list[str]:
    """Returns what differs, except for leading axes that all arrays share."""
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"there is {name}, which it does not have" for name in found if name not in expected]
    name, shape = next(iter(expected.items()), ("", ()))
    leading = found.get(name, ())[: max(0, len(found.get(name, ())) - len(shape))]
    for name, shape in expected.items():
        if name in found and found[name] != (*leading, *shape):
            problems.append(f"the shape of {name} must be {shape}, but it is {found[name]}")
    return problems


def _possible_input_sizes(layer: Any, found: Shapes) -> list[Any]:
    """Returns input sizes that the parameters may be for, the likely ones first."""
    shapes = [shape for shape in found.values() if shape]
    sizes = [shape[-2:][0] for shape in shapes] + [size for shape in shapes for size in shape]
    own = [vars(part).values() for part in _layers_in(layer)]
    sizes += [size + more for size in dict.fromkeys(sizes) for more in (1, -1)]
    sizes += [value for values in own for value in values if type(value) is int] + [*range(1, 9)]
    sizes = [size for size in dict.fromkeys(sizes) if size > 0]
    num_axes = getattr(layer, "num_feature_axes", 1)
    images = [value for values in own for value in values if type(value) is tuple and len(value) == num_axes - 1]
    return [(*image, size) for image in dict.fromkeys(images) for size in sizes] if num_axes > 1 else sizes


def _interpolate(drawn: dict[Any, Shapes], found: Shapes) -> list[Any]:
    """Returns the input size at which an axis that grows with it has the size that was found."""
    (one, shapes), (other, other_shapes) = drawn.items()
    first, second = (size[-1] if isinstance(size, tuple) else size for size in (one, other))
    for name in shapes.keys() & other_shapes.keys() & found.keys():
        # Aligned at the last axis, because there may be further leading axes.
        for a, b, here in zip(shapes[name][::-1], other_shapes[name][::-1], found[name][::-1], strict=False):
            if a != b:
                size = first + (here - a) * (second - first) // (b - a)
                return [(*one[:-1], size) if isinstance(one, tuple) else size] if size > 0 else []
    return []
