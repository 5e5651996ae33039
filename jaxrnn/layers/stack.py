"""Layers one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from jax import Array

from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.layers._checks import check_feature_axes, is_one_array, several
from jaxrnn.layers._composite import Composite
from jaxrnn.layers._output_size import outputs, size_of


@dataclass(frozen=True, init=False, repr=False)
class Stack(Composite):
    """Runs layers one after the other: each layer reads the output of the one before it.

    Parameters and states are tuples with one entry per layer. The output is that of the last layer. `state_of` and
    `replace_state` read and replace the state of one layer.

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.LSTM(64), jaxrnn.Dropout(0.1), jaxrnn.GRU(32))
      >>> params = layer.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.zeros((20, 2, 8)))  # [time, batch, input]
      >>> ys.shape, state[0].c.shape
      ((20, 2, 32), (2, 64))

    Args:
      *layers: The layers. The first one reads the input. A function such as `jax.nn.relu` becomes the layer
        `Activation(jax.nn.relu)`.
    """

    layers: tuple[Layer, ...]

    @property
    def reads_symbols(self) -> bool:
        return self.layers[0].reads_symbols

    def init(self, key: Array, input_size: Any) -> tuple[Params, ...]:
        params = []
        for n, (layer, k) in enumerate(self._layers_and_keys(key)):
            if n > 0:
                ys = outputs(self.layers[n - 1], params[-1], input_size)
                if not is_one_array(ys):
                    self._refuse(n, ys)
                input_size = size_of(ys)
            check_feature_axes(layer, k, input_size)
            params.append(layer.init(k, input_size))
        return tuple(params)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        states = []
        for n, ((layer, k), p, s) in enumerate(zip(self._layers_and_keys(key), params, state, strict=True)):
            try:
                s, ys = layer.run(p, xs, s, k, plan)
            except Exception as error:
                if n == 0 or is_one_array(xs):
                    raise
                self._refuse(n, xs, error)  # few layers can read several arrays
            states.append(s)
            xs = ys
        return tuple(states), xs

    def _refuse(self, n: int, xs: Any, error: Exception | None = None) -> NoReturn:
        """Raises the error that layer `n` cannot read the output of the layer before it."""
        layer, previous = self.layers[n], self.layers[n - 1]
        raise TypeError(
            f"Stack's layer {n}, {layer}, cannot read the output of layer {n - 1}, {previous}, which is {several(xs)}: "
            "return one array from its readout, or put a layer that returns one array between them"
        ) from error
