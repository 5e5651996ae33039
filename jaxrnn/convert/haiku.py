"""Weights of Haiku's recurrent cores: dicts of names, so that Haiku itself is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cells import LSTM, Elman, ElmanParams, LSTMParams, ResetBeforeGRU, ResetBeforeGRUParams
from jaxrnn.convert._common import array, checked, refusal, reorder
from jaxrnn.layer import Cell, Layer

NAMES = {Elman: "vanilla_rnn", LSTM: "lstm", ResetBeforeGRU: "gru"}


def from_haiku(params: Mapping[str, Mapping[str, Any]]) -> tuple[Cell, Any]:
    """The layer and the parameters of a recurrent core of Haiku.

        layer, params = from_haiku({name: params[name] for name in params if name.startswith("model/~/lstm/")})
        state, ys = jaxrnn.unroll(layer, params, xs)

    `hk.VanillaRNN` is `Elman` with relu, its two biases added up; `hk.LSTM` is `LSTM`, with the one that Haiku
    adds to the forget gate in every step added to its bias; `hk.GRU`, which resets before the product, is
    `ResetBeforeGRU`.

    Args:
      params: what `hk.transform(...).init` gives for a function of one core, or the core's part of it.

    Returns:
      `(layer, params)`, the parameters of the dtype they have.

    Raises:
      TypeError: `params` is no dict of dicts.
      ValueError: it is not that of one core, or its shapes do not fit together.
    """
    found = [params, *(params.values() if isinstance(params, Mapping) else [])]
    if not all(isinstance(tree, Mapping) for tree in found):
        kinds = " of ".join(dict.fromkeys(type(tree).__name__ for tree in found))
        raise TypeError(f"params must be Haiku's dict of dicts, as from hk.transform(...).init, but they are {kinds}")
    modules = {name: {key: array(leaf) for key, leaf in params[name].items()} for name in sorted(params)}
    names, kinds = [*modules], [set(module) for module in modules.values()]
    if kinds == [{"w_i", "w_h", "b"}]:
        (p,) = modules.values()
        w_x, w_h, b = (reorder(p[key], (1, 0, 2)) for key in ("w_i", "w_h", "b"))
        n = w_h.shape[0]
        cell = ResetBeforeGRU(n)
        return cell, checked(cell, ResetBeforeGRUParams(w_x, w_h[:, : 2 * n], w_h[:, 2 * n :], b))
    if kinds == [{"w", "b"}]:
        (p,) = modules.values()
        w, b = (reorder(p[key], (0, 2, 1, 3)) for key in ("w", "b"))
        n = b.shape[0] // 4
        return LSTM(n), checked(LSTM(n), LSTMParams(w[:-n], w[-n:], b.at[n : 2 * n].add(1)))
    if kinds in ([{"w", "b"}, {"w", "b"}], [{"w", "b"}, {"w"}]) and names[1] == f"{names[0]}_1":
        p, q = modules.values()
        cell = Elman(q["w"].shape[0], jax.nn.relu)
        return cell, checked(cell, ElmanParams(p["w"], q["w"], p["b"] + q["b"] if "b" in q else p["b"]))
    shapes = jax.tree.map(jnp.shape, modules)
    raise ValueError(
        f"params must be those of one VanillaRNN, LSTM or GRU, but they are {shapes}: give those of each core apart"
    )


def to_haiku(layer: Layer, params: Any, *, name: str | None = None) -> dict[str, dict[str, Array]]:
    """The parameters of Haiku's core for a layer.

        core = hk.transform(lambda xs: hk.dynamic_unroll(hk.LSTM(64), xs, hk.LSTM(64).initial_state(32)))
        ys, state = core.apply(to_haiku(layer, params), None, xs)

    Args:
      layer: `Elman` with `jax.nn.relu`, `LSTM` or `ResetBeforeGRU`.
      params: its parameters.
      name: of the core; None: the name that Haiku gives the first core of its kind, such as "lstm".

    Raises:
      TypeError: Haiku has no counterpart of the layer.
      ValueError: the parameters are not the layer's.
    """
    if not isinstance(layer, Elman | LSTM | ResetBeforeGRU):
        raise refusal(layer, "Haiku", NAMES)
    name, p = name or NAMES[type(layer)], checked(layer, params)
    if isinstance(layer, Elman):
        if layer.activation is not jax.nn.relu:
            raise TypeError(
                f"{layer} cannot be converted to Haiku: VanillaRNN has relu, so activation must be jax.nn.relu"
            )
        return {f"{name}/linear": {"w": p.w_x, "b": p.b}, f"{name}/linear_1": {"w": p.w_h, "b": jnp.zeros_like(p.b)}}
    if isinstance(layer, LSTM):
        w, b = jnp.concatenate([p.w_x, p.w_h]), p.b.at[layer.hidden_size : 2 * layer.hidden_size].add(-1)
        return {f"{name}/linear": {"w": reorder(w, (0, 2, 1, 3)), "b": reorder(b, (0, 2, 1, 3))}}
    w_h = jnp.concatenate([p.w_h, p.w_a], axis=-1)
    return {name: {key: reorder(leaf, (1, 0, 2)) for key, leaf in (("w_i", p.w_x), ("w_h", w_h), ("b", p.b))}}
