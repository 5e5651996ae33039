"""Base of layers that are composed of several layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn._keys import split
from jaxrnn.layer import Layer, Params, State
from jaxrnn.layers.activation import Activation


class Composite(Layer):
    """A layer composed of several layers. Its parameters and state are tuples with one entry per layer."""

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer | Callable[[Array], Array]):
        object.__setattr__(self, "layers", tuple(Activation(f) if _is_function(f) else f for f in layers))
        self.__post_init__()

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not self.layers:
            raise TypeError(f"{name}'s layers must be one or more jaxrnn layers, but there is none")
        for layer in self.layers:
            if isinstance(layer, list | tuple):
                raise TypeError(
                    f"{name}'s layers must be jaxrnn layers, but one is {layer!r}: write {name}(*layers) to unpack it"
                )
            if not isinstance(layer, Layer):
                hint = check.did_you_mean(layer)
                raise TypeError(f"{name}'s layers must be jaxrnn layers, but one is {layer!r}{hint}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"

    @property
    def causal(self) -> bool:
        return all(layer.causal for layer in self.layers)

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        # A layer without a state has one feature axis, also where it is used between layers of images.
        return max(layer.num_feature_axes for layer in self.layers)

    def state_of(self, state: State, layer: int | Layer) -> State:
        """Returns the state of one of the layers.

        Args:
          state: The state of all layers.
          layer: The layer, or its position.
        """
        return state[self._position(layer)]

    def replace_state(self, state: State, states: Mapping[int | Layer, State]) -> State:
        """Returns a copy of a state in which the states of some layers are replaced.

        Example:
          >>> lstm = jaxrnn.LSTM(64)
          >>> encoder, decoder = jaxrnn.Stack(jaxrnn.Embedding(16), lstm), jaxrnn.Stack(lstm, jaxrnn.Dense(10))
          >>> p_encoder, p_decoder = encoder.init(jax.random.key(0), 100), decoder.init(jax.random.key(1), 8)
          >>> state, _ = jaxrnn.unroll(encoder, p_encoder, jnp.zeros((20, 2), int))
          >>> first = decoder.initial_state(p_decoder, (2,))
          >>> first = decoder.replace_state(first, {lstm: encoder.state_of(state, lstm)})
          >>> state, ys = jaxrnn.unroll(decoder, p_decoder, jnp.zeros((20, 2, 8)), first)

        Args:
          state: The state of all layers, for instance from `initial_state`.
          states: The new states by layer or by position.

        Raises:
          TypeError: The structure of a new state differs from that of the one it replaces.
          ValueError: A layer is missing or occurs several times, or a new state has other shapes.
        """
        replaced = list(state)
        for layer, new in states.items():
            n = self._position(layer)
            shapes, expected = (jax.tree.map(jnp.shape, tree) for tree in (new, state[n]))
            if jax.tree.structure(new) != jax.tree.structure(state[n]):
                raise TypeError(f"the state of {self.layers[n]} must have the structure of {expected}, not of {shapes}")
            if shapes != expected:
                raise ValueError(f"the state of {self.layers[n]} must have the shapes {expected}, not {shapes}")
            replaced[n] = new
        return tuple(replaced)

    def _position(self, layer: int | Layer) -> int:
        if not isinstance(layer, Layer):
            if check.is_integer(layer) and -len(self.layers) <= layer < len(self.layers):
                return int(layer)
            raise ValueError(f"a position must be below {len(self.layers)}, the number of layers, but it is {layer!r}")
        if (count := self.layers.count(layer)) != 1:
            raise ValueError(f"{type(self).__name__} has {layer} {count} times: name it by its position")
        return self.layers.index(layer)

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        pairs = zip(self.layers, params, strict=True)
        return tuple(layer.initial_state(p, batch_shape, dtype) for layer, p in pairs)

    def _layers_and_keys(self, key: Array | None) -> Iterable[tuple[Layer, Any]]:
        """Pairs each layer with a random key of its own, or with None in evaluation."""
        return zip(self.layers, split(key, len(self.layers)), strict=True)


def _is_function(value: Any) -> TypeGuard[Callable[[Array], Array]]:
    """Returns whether a value is a function such as `jax.nn.relu`, and neither a class nor another callable object."""
    return callable(value) and hasattr(value, "__name__") and not isinstance(value, type)
