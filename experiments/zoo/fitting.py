"""The models of the zoo: any cell between the layers that it needs to read the input of a task and a readout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from support.cells import make_cell
from support.errors import BadInputError

import jaxrnn
from zoo.tasks import Task

ROW = 16  # pixels that a convolution reads at each step
STEP = 4  # hidden sizes are multiples of it, because cells with blocks or heads cannot have any size


class Model(NamedTuple):
    layer: jaxrnn.Layer
    hidden_size: int


class WithoutParameters(jaxrnn.Layer):
    """A layer without parameters that converts features to the input of a cell."""

    def init(self, key: Array, input_size: Any) -> tuple[()]:
        return ()

    def initial_state(self, params: Any, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> tuple[()]:
        return ()


@dataclass(frozen=True)
class WithTime(WithoutParameters):
    """Appends the time of each step, 0, 1, 2, ..., to the features."""

    def run(self, params: Any, xs: Array, state: Any, key: Array | None, plan: Any) -> tuple[Any, Array]:
        times = jnp.arange(len(xs), dtype=xs.dtype).reshape(-1, *(1,) * (xs.ndim - 1))
        return state, jnp.concatenate([xs, jnp.broadcast_to(times, (*xs.shape[:-1], 1))], axis=-1)


@dataclass(frozen=True)
class WithGap(WithoutParameters):
    """Appends the time since the step before, always 1, to the features."""

    def run(self, params: Any, xs: Array, state: Any, key: Array | None, plan: Any) -> tuple[Any, Array]:
        return state, jnp.concatenate([xs, jnp.ones_like(xs[..., :1])], axis=-1)


@dataclass(frozen=True)
class WithMask(WithoutParameters):
    """Appends a mask to the features, which says that none is missing."""

    def run(self, params: Any, xs: Array, state: Any, key: Array | None, plan: Any) -> tuple[Any, Array]:
        return state, jnp.concatenate([xs, jnp.ones_like(xs)], axis=-1)


@dataclass(frozen=True)
class OnRow(jaxrnn.Layer):
    """A convolutional cell that reads each feature as a pixel, and outputs its pixels as features."""

    cell: jaxrnn.Cell

    def init(self, key: Array, input_size: int) -> Any:
        return self.cell.init(key, (input_size, 1))

    def initial_state(self, params: Any, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> Any:
        return self.cell.initial_state(params, batch_shape, dtype)

    def run(self, params: Any, xs: Array, state: Any, key: Array | None, plan: Any) -> tuple[Any, Array]:
        state, ys = self.cell.run(params, xs[..., None], state, key, plan)
        return state, ys.reshape(*ys.shape[:-2], -1)


READINGS: dict[str, tuple[jaxrnn.Layer, ...]] = {
    "PhasedLSTM": (WithTime(),),
    "TimeAwareLSTM": (WithGap(),),
    "CfC": (WithGap(),),
    "GRUD": (WithMask(), WithGap()),
}
AS_WIDE_AS_INPUT = {"DampedEMA", "IntersectionRNN", "RGLRU", "S4D", "SelectiveSSM"}
CONVOLUTIONAL = {"ConvGRU", "ConvLSTM", "PeepholeConvLSTM"}
SETTINGS: dict[str, dict[str, Any]] = {  # where half of the hidden size is not a good value of an argument
    "LMU": {"theta": 100},
    "TauGRU": {"delay_size": 10},
}
SETTINGS |= {name: {"shape": (ROW,), "kernel_shape": 3} for name in CONVOLUTIONAL}


def count(params: Any) -> int:
    """Returns the number of parameters. Complex ones count twice."""
    return sum(leaf.size * (2 if jnp.iscomplexobj(leaf) else 1) for leaf in jax.tree.leaves(params))


def model_of(name: str, task: Task, hidden_size: int) -> jaxrnn.Layer:
    """Returns the cell with a readout.

    An `Embedding` or a `Dense` of the cell's width precedes a cell that cannot read the input. For a convolutional
    cell, that layer makes a row of pixels.

    Raises:
      BadInputError: There is no cell of that size.
      TypeError, ValueError: the cell cannot read the input in this way either.
    """
    cell = make_cell(name, hidden_size, **SETTINGS.get(name, {}))
    reading = READINGS.get(name, ())
    readout = jaxrnn.Dense(task.outputs)
    symbols = jnp.issubdtype(task.test.xs.dtype, jnp.integer)
    width = ROW if name in CONVOLUTIONAL else hidden_size
    first = jaxrnn.Embedding(width) if symbols else jaxrnn.Dense(width)
    if name in CONVOLUTIONAL:
        return jaxrnn.Stack(first, OnRow(cell), readout)
    plain = jaxrnn.Stack(*reading, cell, readout)
    preceded = jaxrnn.Stack(first, *reading, cell, readout)
    if name in AS_WIDE_AS_INPUT or (symbols and reading):
        return preceded
    try:
        shapes_of(plain, task)
    except (TypeError, ValueError):
        return preceded
    return plain


def shapes_of(model: jaxrnn.Layer, task: Task) -> Any:
    """Returns the shapes of the parameters of a model, which must run on the inputs of the task."""
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), task.inputs))
    jax.eval_shape(
        lambda p: jaxrnn.unroll(model, p, task.test.xs[:, :3]), params
    )  # a batch of 3, so that nothing is broadcast
    return params


def fit(name: str, task: Task, parameters: int, hidden_size: int) -> Model:
    """Returns the widest model within the limits."""

    @cache
    def model(size: int) -> tuple[jaxrnn.Layer, int]:
        layer = model_of(name, task, size)
        return layer, count(shapes_of(layer, task))

    sizes = list(range(STEP, hidden_size + 1, STEP))
    low, high = 0, len(sizes)  # the first `low` fit, those from `high` on do not
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if model(sizes[middle])[1] <= parameters else (low, middle)
    if not low:
        raise BadInputError(
            f"{name} has {model(STEP)[1]:,} parameters at size {STEP}, above the limit of {parameters:,}"
        )
    return Model(model(sizes[low - 1])[0], sizes[low - 1])
