"""Layers made of layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.loops.scan import Loop, Scan
from jaxrnn.ops import affine, is_symbols, num_features, sigmoid


def output_size(layer: Layer, params: Params, input_size: Any) -> Any:
    """The number of output features of a layer, or the shape of several axes, found by tracing one step."""
    axes = (input_size,) if isinstance(input_size, int) else tuple(input_size)

    def run(params: Params, xs: Array) -> Array:
        return layer.run(params, xs, layer.initial_state(params), None, Plan(Scan()))[1]

    _, *size = jax.eval_shape(run, params, jax.ShapeDtypeStruct((1, *axes), jnp.result_type(float))).shape
    return size[0] if len(size) == 1 else tuple(size)


def _check_numbers(layer: Layer, xs: Any) -> None:
    if is_symbols(xs):
        raise TypeError(f"{layer} passes its input on, so it needs numbers, not symbols: put an Embedding before it")


def check_layers(owner: type, *layers: Any) -> None:
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"{owner.__name__} is made of jaxrnn layers, but it was given {layer!r}")


class _Several(Layer):
    """Layers whose parameters and states are tuples, one entry a layer."""

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer):
        if not layers:
            raise TypeError(f"{type(self).__name__} needs at least one layer")
        check_layers(type(self), *layers)
        object.__setattr__(self, "layers", layers)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"

    @property
    def causal(self) -> bool:
        return all(layer.causal for layer in self.layers)

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return max(layer.num_feature_axes for layer in self.layers)  # layers without a state read the last axis alone

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        pairs = zip(self.layers, params, strict=True)
        return tuple(layer.initial_state(p, batch_shape, dtype) for layer, p in pairs)

    def _each(self, key: Array | None) -> Any:
        """The layers with a key each."""
        keys = [None] * len(self.layers) if key is None else jax.random.split(key, len(self.layers))
        return zip(self.layers, keys, strict=True)


class _Around(Layer):
    """A layer around one other, with its state."""

    layer: Layer

    def __post_init__(self) -> None:
        super().__post_init__()
        check_layers(type(self), self.layer)

    @property
    def causal(self) -> bool:
        return self.layer.causal

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return self.layer.num_feature_axes

    def init(self, key: Array, input_size: Any) -> Params:
        return self.layer.init(key, input_size)

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        return self.layer.initial_state(params, batch_shape, dtype)


@dataclass(frozen=True, init=False, repr=False)
class Stack(_Several):
    """Layers one after the other: each reads what the one before puts out.

    Parameters and states are tuples, one entry a layer.

    Args:
      layers: the layers, first the one that reads the input.
    """

    layers: tuple[Layer, ...]

    def init(self, key: Array, input_size: Any) -> tuple[Params, ...]:
        params = []
        for layer, k in self._each(key):
            params.append(layer.init(k, input_size))
            input_size = output_size(layer, params[-1], input_size)
        return tuple(params)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        states = []
        for (layer, k), p, s in zip(self._each(key), params, state, strict=True):
            s, xs = layer.run(p, xs, s, k, plan)
            states.append(s)
        return tuple(states), xs


@dataclass(frozen=True, init=False, repr=False)
class DenselyConnected(_Several):
    r"""Layers each of which reads the input and the outputs of all layers before it, side by side.

    .. math:: y^l = L^l([x, y^1, \dots, y^{l-1}]), \quad y = [x, y^1, \dots, y^n]

    Parameters and states are tuples, one entry a layer.

    Args:
      layers: the layers, first the one that reads the input alone.

    References: G. Huang et al., "Densely connected convolutional networks", 2017.
    """

    layers: tuple[Layer, ...]

    def init(self, key: Array, input_size: Any) -> tuple[Params, ...]:
        params = []
        for layer, k in self._each(key):
            params.append(layer.init(k, input_size))
            features = num_features(input_size) + num_features(output_size(layer, params[-1], input_size))
            input_size = (*input_size[:-1], features) if isinstance(input_size, tuple) else features
        return tuple(params)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        _check_numbers(self, xs)
        states = []
        for (layer, k), p, s in zip(self._each(key), params, state, strict=True):
            s, ys = layer.run(p, xs, s, k, plan)
            states.append(s)
            xs = jnp.concatenate([xs, ys], axis=-1)
        return tuple(states), xs


@dataclass(frozen=True)
class Residual(_Around):
    r"""Adds the input to the output: :math:`y_t = x_t + L(x)_t`.

    Args:
      layer: a layer with as many outputs as inputs.

    References: K. He et al., "Deep residual learning for image recognition", 2016.
    """

    layer: Layer

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        _check_numbers(self, xs)
        state, ys = self.layer.run(params, xs, state, key, plan)
        _check_sizes(self, xs, ys)
        return state, xs + ys


class HighwayParams(NamedTuple):
    layer: Params
    w: Array  # [input, input]
    b: Array  # [input]


@dataclass(frozen=True)
class Highway(_Around):
    r"""A gate between the input and the output: :math:`y_t = t_t \odot L(x)_t + (1 - t_t) \odot x_t`.

    .. math:: t_t = \sigma(W x_t + b)

    Args:
      layer: a layer with as many outputs as inputs.
      transform_bias: initial value of :math:`b`; below zero the input is carried at first.

    References: R. Srivastava, K. Greff, J. Schmidhuber, "Highway networks", 2015.
    """

    layer: Layer
    transform_bias: float = -1.0

    def init(self, key: Array, input_size: Any) -> HighwayParams:
        n = num_features(input_size)
        k_layer, k_w = jax.random.split(key)
        w = glorot_uniform(k_w, (n, n))
        return HighwayParams(self.layer.init(k_layer, input_size), w, jnp.full(n, self.transform_bias))

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        return self.layer.initial_state(params.layer, batch_shape, dtype)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        _check_numbers(self, xs)
        state, ys = self.layer.run(params.layer, xs, state, key, plan)
        _check_sizes(self, xs, ys)
        t = sigmoid(affine(xs, params.w, params.b))
        return state, t * ys + (1 - t) * xs


@dataclass(frozen=True)
class Using(_Around):
    """A layer that runs on a loop of its own, whatever `unroll` is told: for stacks of different cells.

    Args:
      layer: the layer.
      loop: its loop.
    """

    layer: Layer
    loop: Loop

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        return self.layer.run(params, xs, state, key, plan._replace(loop=self.loop))


def _check_sizes(layer: Layer, xs: Array, ys: Array) -> None:
    if xs.shape != ys.shape:
        raise ValueError(
            f"{type(layer).__name__} needs a layer with as many outputs as inputs, but {xs.shape[-1]} went in and "
            f"{ys.shape[-1]} came out: put a Dense({ys.shape[-1]}) before it"
        )
