"""Parameter pytrees as nested dicts with readable names, and back."""

from __future__ import annotations

from typing import Any

import jax


def to_dict(tree: Any) -> dict[str, Any]:
    """Any parameter pytree as nested dicts: fields and keys by their names, entries of tuples as `layers_0`, ..."""
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        *above, name = names(path)
        node = named
        for key in above:
            node = node.setdefault(key, {})
        node[name] = leaf
    return named


def from_dict(tree: Any, like: Any) -> Any:
    """The pytree with the structure of `like` whose `to_dict` is `tree`."""
    leaves = []
    for path, _ in jax.tree_util.tree_leaves_with_path(like):
        node = tree
        for name in names(path):
            if name not in node:
                raise ValueError(f"parameters must hold {'/'.join(names(path))}, but there is no {name!r} in {[*node]}")
            node = node[name]
        leaves.append(node)
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def names(path: tuple[Any, ...]) -> list[str]:
    """The names along the path of a leaf, as `jax.tree_util.tree_leaves_with_path` gives it."""
    if not path:
        return ["w"]  # parameters that are one array
    return [f"layers_{k.idx}" if hasattr(k, "idx") else str(getattr(k, "name", getattr(k, "key", k))) for k in path]
