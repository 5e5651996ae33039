"""Pytrees of parameters as nested dicts with readable names, and back."""

from __future__ import annotations

from typing import Any

import jax


def to_dict(tree: Any) -> dict[str, Any]:
    """Converts a pytree to nested dicts.

    The keys are the names of fields and the keys of dicts. Entry `n` of a tuple or list has the key `layers_n`.

    Example:
      >>> params = jaxrnn.Stack(jaxrnn.GRU(4), jaxrnn.Dense(2)).init(jax.random.key(0), 3)
      >>> tree = jaxrnn.linen.to_dict(params)
      >>> list(tree), list(tree["layers_1"])
      (['layers_0', 'layers_1'], ['w', 'b'])
    """
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        *above, name = names_along(path)
        node = named
        for key in above:
            node = node.setdefault(key, {})
        node[name] = leaf
    return named


def from_dict(tree: Any, like: Any) -> Any:
    """Converts nested dicts from `to_dict` to a pytree with the structure of `like`.

    Example:
      >>> params = jaxrnn.Dense(2).init(jax.random.key(0), 3)
      >>> jax.tree.map(jnp.shape, jaxrnn.linen.from_dict({"w": jnp.ones((3, 2)), "b": jnp.ones(2)}, like=params))
      DenseParams(w=(3, 2), b=(2,))

    Raises:
      ValueError: A name is missing.
    """
    leaves = []
    for path, _ in jax.tree_util.tree_leaves_with_path(like):
        node = tree
        names = names_along(path)
        for name in names:
            if name not in node:
                raise ValueError(f"parameters must hold {'/'.join(names)}, but there is no {name!r} in {[*node]}")
            node = node[name]
        leaves.append(node)
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def names_along(path: tuple[Any, ...]) -> list[str]:
    """Returns the names along the path to a leaf, as `jax.tree_util.tree_leaves_with_path` returns the path.

    Parameters that are a single array are named `w`.
    """
    return [_name_of(key) for key in path] or ["w"]


def _name_of(key: Any) -> str:
    if hasattr(key, "idx"):
        return f"layers_{key.idx}"
    return str(getattr(key, "name", getattr(key, "key", key)))
