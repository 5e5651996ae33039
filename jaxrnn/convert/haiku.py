"""Converts the recurrent cores of Haiku, given as a dict of dicts of arrays, so that Haiku is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cells import LSTM, Elman, ElmanParams, LSTMParams, ResetBeforeGRU, ResetBeforeGRUParams
from jaxrnn.convert._checks import cannot_convert, check_activations, check_params, check_string
from jaxrnn.convert._gates import as_array, reorder_gates
from jaxrnn.layer import Cell, Layer

DEFAULT_NAMES = {Elman: "vanilla_rnn", LSTM: "lstm", ResetBeforeGRU: "gru"}
LSTM_ORDER = (0, 2, 1, 3)  # i, g, f, o in Haiku and i, f, g, o in jaxrnn; its own inverse
GRU_ORDER = (1, 0, 2)  # z, r, n in Haiku and r, z, n in jaxrnn; its own inverse


def from_haiku(params: Mapping[str, Mapping[str, Any]]) -> tuple[Cell, Any]:
    """Converts a recurrent core of Haiku.

    An `hk.VanillaRNN` becomes an `Elman` with relu, with the sum of its two biases. An `hk.LSTM` becomes an `LSTM`;
    Haiku adds 1 to the forget gate in every step, and here this 1 is a part of the bias. An `hk.GRU`, which applies the
    reset gate before the product, becomes a `ResetBeforeGRU`.

    To convert a core that is part of a larger model, select its modules by name, for instance those that begin with
    "model/~/lstm/".

    Example:
      >>> lstm = jaxrnn.LSTM(64)
      >>> haiku_params = jaxrnn.convert.to_haiku(lstm, lstm.init(jax.random.key(0), 8))  # or hk.transform(...).init
      >>> layer, params = jaxrnn.convert.from_haiku(haiku_params)
      >>> layer
      LSTM(hidden_size=64, forget_bias=1.0)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]

    Args:
      params: What `hk.transform(...).init` returns for a function with a single core, or the part of one core.

    Returns:
      The layer and its parameters, which keep their dtype.

    Raises:
      TypeError: `params` is not a dict of dicts.
      ValueError: It does not belong to a single core, its shapes do not fit together, or JAX would not keep its dtype.
    """
    mappings = [params, *(params.values() if isinstance(params, Mapping) else [])]
    if not all(isinstance(mapping, Mapping) for mapping in mappings):
        kinds = " of ".join(dict.fromkeys(type(mapping).__name__ for mapping in mappings))
        raise TypeError(f"params must be a dict of dicts, as returned by hk.transform(...).init, but they are {kinds}")
    modules = {name: {key: as_array(leaf) for key, leaf in params[name].items()} for name in sorted(params)}
    names, keys = [*modules], [set(module) for module in modules.values()]
    if keys == [{"w_i", "w_h", "b"}]:
        (p,) = modules.values()
        w_x, w_h, b = (reorder_gates(p[key], GRU_ORDER) for key in ("w_i", "w_h", "b"))
        n = w_h.shape[0]
        cell = ResetBeforeGRU(n)
        return cell, check_params(cell, ResetBeforeGRUParams(w_x, w_h[:, : 2 * n], w_h[:, 2 * n :], b))
    if keys == [{"w", "b"}]:
        (p,) = modules.values()
        w, b = (reorder_gates(p[key], LSTM_ORDER) for key in ("w", "b"))
        n = b.shape[0] // 4
        cell = LSTM(n)
        return cell, check_params(cell, LSTMParams(w[:-n], w[-n:], b.at[n : 2 * n].add(1)))
    if keys in ([{"w", "b"}, {"w", "b"}], [{"w", "b"}, {"w"}]) and names[1] == f"{names[0]}_1":
        p, q = modules.values()
        b = p["b"] + q["b"] if "b" in q else p["b"]
        cell = Elman(q["w"].shape[0], activation=jax.nn.relu)
        return cell, check_params(cell, ElmanParams(p["w"], q["w"], b))
    shapes = jax.tree.map(jnp.shape, modules)
    raise ValueError(
        f"params must be those of one VanillaRNN, LSTM or GRU, but their shapes are {shapes}: "
        "convert each core separately"
    )


def to_haiku(layer: Layer, params: Any, *, name: str | None = None) -> dict[str, dict[str, Array]]:
    """Converts a layer to the parameters of a core of Haiku.

    With Haiku, the example continues with ::

      core = hk.transform(lambda xs: hk.dynamic_unroll(hk.LSTM(64), xs, hk.LSTM(64).initial_state(32)))
      ys, state = core.apply(haiku_params, None, xs)  # xs: [time, 32, 8]

    Example:
      >>> layer = jaxrnn.LSTM(64)
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> haiku_params = jaxrnn.convert.to_haiku(layer, params)
      >>> jax.tree.map(jnp.shape, haiku_params)
      {'lstm/linear': {'b': (256,), 'w': (72, 256)}}

    Args:
      layer: `Elman` with `jax.nn.relu`, `LSTM` or `ResetBeforeGRU`.
      params: Its parameters.
      name: Name of the core. None means the name that Haiku gives to the first core of its kind, such as "lstm".

    Returns:
      The dict of dicts that `hk.transform(...).init` returns for a function with such a core.

    Raises:
      TypeError: Haiku has no such core, or `name` is not a string.
      ValueError: The parameters are not those of the layer.
    """
    if not isinstance(layer, Elman | LSTM | ResetBeforeGRU):
        raise cannot_convert(layer, "Haiku", DEFAULT_NAMES)
    check_activations(layer, "Haiku")
    if name is not None:
        check_string("name", name)
    name, p = name or DEFAULT_NAMES[type(layer)], check_params(layer, params)
    if isinstance(layer, Elman):
        if layer.activation is not jax.nn.relu:
            raise TypeError(
                f"{layer} cannot be converted to Haiku: its activation must be jax.nn.relu, which hk.VanillaRNN uses"
            )
        return {f"{name}/linear": {"w": p.w_x, "b": p.b}, f"{name}/linear_1": {"w": p.w_h, "b": jnp.zeros_like(p.b)}}
    if isinstance(layer, LSTM):
        w = jnp.concatenate([p.w_x, p.w_h])
        b = p.b.at[layer.hidden_size : 2 * layer.hidden_size].add(-1)
        return {f"{name}/linear": {"w": reorder_gates(w, LSTM_ORDER), "b": reorder_gates(b, LSTM_ORDER)}}
    w_h = jnp.concatenate([p.w_h, p.w_a], axis=-1)
    return {name: {key: reorder_gates(w, GRU_ORDER) for key, w in (("w_i", p.w_x), ("w_h", w_h), ("b", p.b))}}
