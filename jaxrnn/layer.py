"""The interfaces that layers, cells and loops implement, and the plan that one call of `unroll` gives to all of them.

Layers, cells and loops are frozen dataclasses of hyperparameters. They hold no arrays: parameters and states are
pytrees that the caller owns, and every method is a pure function.
"""

from __future__ import annotations

import abc
import dataclasses
import importlib
import sys
import types
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._check import NamedArguments
from jaxrnn._diagnosis import (
    as_arrays,
    check_key,
    check_kind,
    check_number_of_keys,
    explaining_init,
    explaining_initial_state,
)
from jaxrnn._keys import as_keys, each, step_keys
from jaxrnn._time_axis import first_of_next_part, from_last_part, left_before_part, num_parts, part_of
from jaxrnn.ops import as_joint_dtype, is_symbols, where

Params = Any
State = Any
Keys = Array | None


class Plan(NamedTuple):
    """How one call of `unroll` runs. All layers of a call share it."""

    loop: Loop
    reverse: bool = False
    lengths: Array | None = None  # int [*batch]; None: all sequences have the full length
    valid: Array | None = None  # bool [time, *batch], False in the padding; None: no padding
    resets: Array | None = None  # bool [time, *batch], True where a sequence begins in time; None: nowhere
    batch_shape: tuple[int, ...] = ()
    all_states: bool = False  # whether layers return the states after all steps, time first, instead of the last one
    axis_name: str | None = None  # the mesh axis over which time is sharded; all other fields are about this device

    def using(self, loop: Loop) -> Plan:
        """Returns the plan with another loop, which runs over the same mesh axis if it can."""
        if self.axis_name is not None and "axis_name" in getattr(loop, "__dataclass_fields__", ()):
            loop = dataclasses.replace(loop, axis_name=self.axis_name)  # type: ignore[type-var]
        return self._replace(loop=loop)

    def of_all_steps(self, draw: Callable[[int], Array], time: int) -> Array:
        """Returns this device's part of `draw(number of all steps)`, where the device has `time` steps."""
        return part_of(self.axis_name, draw(time * num_parts(self.axis_name)), time)

    def left_before(self, last: Any, first: Any) -> Any:
        """Returns what the step that is read before those of this device has left; `first` if there is none.

        Args:
          last: What the last step that this device reads leaves, a pytree of arrays [*batch, ...].
          first: The same before the first step of the whole sequence.
        """
        if self.axis_name is None:
            return first
        return left_before_part(self.axis_name, self.reverse, self.has_steps, last, first)

    def left_after_all(self, last: Any, before: Any) -> Any:
        """Returns what the last step of all devices has left, given `last` and what `left_before` has returned."""
        last = last if self.lengths is None else where(self.has_steps, last, before)
        return last if self.axis_name is None else from_last_part(self.axis_name, self.reverse, last)

    @property
    def has_steps(self) -> Array:
        """Returns which sequences have any steps on this device: booleans [*batch], or one boolean."""
        return jnp.ones((), bool) if self.lengths is None else self.lengths > 0

    @property
    def restarts(self) -> Array | None:
        """Returns where the state restarts before a step is read: bool [time, *batch], or None for nowhere.

        A sequence that begins at step t ends its predecessor at step t - 1. Under `reverse`, step t - 1 is the first
        one of the predecessor that is read.
        """
        if self.resets is None or not self.reverse:
            return self.resets
        begins = self.resets if self.valid is None else self.resets & self.valid  # ignored in the padding
        return jnp.concatenate([begins, first_of_next_part(self.axis_name, begins)])[1:]

    def steps(self, xs: Any, key: Array | None) -> Steps:
        """Returns what a loop needs to run a cell over the inputs `xs` according to this plan."""
        keys = None
        if key is not None:
            keys = self.of_all_steps(lambda number: step_keys(key, number), jax.tree.leaves(xs)[0].shape[0])
        return Steps(xs, self.valid, self.restarts, keys, self.reverse)

    def run_loop(self, cell: Cell, params: Params, xs: Any, state: State, key: Array | None) -> tuple[State, Any]:
        """Runs a cell with the loop of this plan; returns the last state, or with `all_states` all, and the outputs."""
        if self.loop.axis_name != self.axis_name:
            axis = "no mesh axis" if self.axis_name is None else f"the mesh axis {self.axis_name!r}"
            raise TypeError(
                f"{self.loop} cannot run {cell} with time sharded over {axis}: use jaxrnn.loops.AssociativeScan or "
                "jaxrnn.loops.Chunked, and give axis_name to the loop of unroll"
            )
        if not self.all_states:
            return self.loop(cell, params, self.steps(xs, key), state)
        with_states = LinearWithStates(cell) if isinstance(cell, LinearCell) else WithStates(cell)
        _, (states, ys) = self.loop(with_states, params, self.steps(xs, key), state)
        return states, ys


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Steps:
    """The steps over which a loop runs a cell. All arrays have the time axis first.

    Example:
      >>> plan = jaxrnn.Plan(loop=jaxrnn.loops.Scan())
      >>> steps = plan.steps(jnp.ones((5, 2, 3)), key=None)
      >>> cell = jaxrnn.GRU(4)
      >>> steps.length, steps.project(cell, cell.init(jax.random.key(0), 3)).shape
      (5, (5, 2, 12))
    """

    xs: Any
    valid: Array | None  # bool [time, *batch], False in the padding; None: no padding
    restarts: Array | None  # bool [time, *batch], True where the state restarts before a step is read; None: nowhere
    keys: Array | None  # a random key per step [time], or per step and sequence [time, *batch]; None: evaluation
    reverse: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def length(self) -> int:
        return jax.tree.leaves(self.xs)[0].shape[0]

    @property
    def last(self) -> int:
        """The index of the step that is read last."""
        return 0 if self.reverse else -1

    @property
    def varying(self) -> tuple[Any, ...]:
        """All arrays that differ from step to step, as `replace_varying` takes them."""
        return self.xs, self.valid, self.restarts, self.keys

    def replace_varying(self, varying: tuple[Any, ...]) -> Steps:
        """Returns other steps of the same call, for instance a part of them."""
        xs, valid, restarts, keys = varying
        return Steps(xs, valid, restarts, keys, self.reverse)

    def project(self, cell: Any, params: Params) -> Any:
        """Returns the projected inputs of all steps, computed at once."""
        return project(cell, params, self.xs, self.keys)


class Loop(NamedArguments, abc.ABC):
    """How a cell runs over time. Loops differ in cost, never in result.

    Like layers, loops are pytrees without leaves.
    """

    axis_name: str | None = None  # the mesh axis over which time is sharded; a loop that can run so has such a field

    def __init_subclass__(cls) -> None:
        jax.tree_util.register_static(cls)

    @abc.abstractmethod
    def __call__(self, cell: Cell, params: Params, steps: Steps, state: State) -> tuple[State, Any]:
        """Runs a cell from `state` over `steps`; returns the last state and the outputs [time, *batch, ...]."""


class _AllAtOnce(Loop):
    """Runs the steps of a cell without a state at once, because no step depends on another."""

    def __call__(self, cell: Cell, params: Params, steps: Steps, state: State) -> tuple[State, Any]:
        zs = steps.project(cell, params)
        state = cell.step(params, state, zs)
        return state, cell.readout(params, state, zs)


class Layer(NamedArguments, abc.ABC):
    """A map from a sequence to a sequence that carries a state.

    A layer is a pytree without leaves, so that it can be an argument of a function under `jax.jit`, `jax.vmap` or
    `jax.lax.scan`, and a part of a training state. Equal layers share one compilation.

    Example:
      >>> cell = jaxrnn.GRU(64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jax.jit(jaxrnn.unroll)(cell, params, jnp.zeros((20, 2, 8)))
      >>> jax.tree.leaves((cell, {"rate": 0.1}))
      [0.1]
    """

    num_feature_axes: ClassVar[int] = 1  # trailing axes of one step's input that are not batch axes

    def __post_init__(self) -> None:
        """Checks the arguments of a subclass; here only so that subclasses may call `super().__post_init__()`."""

    def __init_subclass__(cls) -> None:
        cls.__repr__ = cls.__repr__  # otherwise `dataclass` would write its own
        jax.tree_util.register_static(cls)
        for name, explaining in (("init", explaining_init), ("initial_state", explaining_initial_state)):
            if name in vars(cls):
                setattr(cls, name, explaining(vars(cls)[name]))

    def __repr__(self) -> str:
        """Shows the fields; those declared with `repr=False` only where they differ from their defaults."""
        fields = getattr(self, "__dataclass_fields__", {})
        usual = {name: field.default for name, field in fields.items() if not field.repr}
        shown = {name: value for name, value in vars(self).items() if usual.get(name, usual) is not value}
        values = ", ".join(f"{name}={getattr(value, '__name__', value)!s}" for name, value in shown.items())
        return f"{type(self).__name__}({values})"

    def __copy__(self) -> Self:
        return self  # a layer is an immutable value, so it can serve as its own copy

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> Any:
        """Pickles a layer by value, and callable objects such as `jnp.tanh` and `jnp.add` by name."""
        return _rebuild, (type(self), {name: _Named.of(value) for name, value in vars(self).items()})

    def __call__(self, params: Params, x: Any, *, key: Array | None = None) -> Any:
        """Applies a layer without a state to one step, for instance a `Stack` of `Dense` layers to one vector.

        Args:
          params: The parameters.
          x: Input [*batch, features], or integers [*batch].
          key: A random key, or random keys [*batch]. None means evaluation.

        Returns:
          The output [*batch, ...].

        Raises:
          TypeError: The layer has a state, or `key` is not a random key.
          ValueError: There are several keys, but not one for each sequence.
        """
        check_key(key)
        x = as_arrays("x", x)
        for leaf in jax.tree.leaves(x):
            check_kind("x", leaf)
        batch_shape = leading_shape(self, x)
        check_number_of_keys(key, batch_shape)
        state = self.initial_state(params, batch_shape)
        if jax.tree.leaves(state):
            raise TypeError(
                f"only a layer without a state can be called without one, but {self} has one: "
                "call jaxrnn.step(layer, params, state, x) or jaxrnn.unroll(layer, params, xs)"
            )
        xs = jax.tree.map(lambda x: x[None], x)
        _, ys = self.run(
            params, xs, state, None if key is None else as_keys(key), Plan(_AllAtOnce(), batch_shape=batch_shape)
        )
        return jax.tree.map(lambda y: y[0], ys)

    @property
    def causal(self) -> bool:
        """Whether no output depends on a later input, so that the layer can run step by step."""
        return True

    @property
    def reads_symbols(self) -> bool:
        """Whether integer inputs are certainly symbols, as for an `Embedding`, even if they look like features."""
        return False

    @abc.abstractmethod
    def init(self, key: Array, input_size: Any) -> Params:
        """Draws parameters.

        Args:
          key: A JAX random key.
          input_size: Number of input features or, for symbols (integer inputs), of different symbols.
        """

    @abc.abstractmethod
    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        """Returns the state before the first step, in the dtype of the parameters unless `dtype` is given."""

    @abc.abstractmethod
    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        """Runs over all time steps. `unroll` and other layers call this method; users call `unroll`.

        Padded steps must not change the state. Their outputs are ignored. With `plan.all_states`, the returned state
        has a leading time axis and holds the states after all steps. With `plan.axis_name`, the steps are those of one
        device of a mesh axis, and the returned state is that after the last step of all devices. `plan.run_loop` and
        the layers that combine others do this; a layer that computes its state without a loop must do it itself.
        """


class Cell(Layer):
    """A layer defined by one step, split into three functions by what must be sequential.

    `project`, `step` and `readout` act on the feature axes and treat every leading axis as a batch axis.
    """

    @abc.abstractmethod
    def project(self, params: Params, x: Any, key: Keys = None) -> Any:
        """Computes what a step needs of its input, such as products and random masks, for all steps at once.

        Args:
          params: The parameters.
          x: Input [*batch, features], or integers [*batch]. Without a key, the time axis is one of the batch axes.
          key: A random key of the step, which all functions of `jax.random` accept, or None in evaluation.
            `jaxrnn.call_key(key)` is the same at all steps of a call.

        Returns:
          A pytree of arrays [*batch, ...].
        """

    @abc.abstractmethod
    def step(self, params: Params, state: State, z: Any) -> State:
        """Returns the state after a step. This is all that runs inside the loop, and it is deterministic."""

    @abc.abstractmethod
    def readout(self, params: Params, state: State, z: Any) -> Any:
        """Returns the output of a step, given the state after it."""

    def comparable(self, one: State, other: State) -> tuple[State, State]:
        """Returns both states in a form in which a wrapper such as `Zoneout` may mix their arrays.

        A cell overrides this method if an array of its state is meaningful only together with another one, such as a
        sum that is stored relative to a stabilizer.
        """
        return one, other

    def __call__(self, params: Params, state: State, x: Any) -> tuple[State, Any]:  # type: ignore[override]
        """Runs one whole step, with the argument order of `jax.lax.scan`."""
        z = self.project(params, x)
        state = self.step(params, state, z)
        return state, self.readout(params, state, z)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        state, ys = plan.run_loop(self, params, xs, state, key)
        return state, as_joint_dtype(ys, (params, xs))


class LinearCell(Cell):
    r"""A cell whose state evolves by products and sums, :math:`s_t = a_t \odot s_{t-1} + b_t`.

    Neither :math:`a_t` nor :math:`b_t` may depend on the state, so that `jaxrnn.loops.AssociativeScan` can compute all
    steps at once.
    """

    @abc.abstractmethod
    def coefficients(self, params: Params, z: Any) -> tuple[State, State]:
        """Returns `a` and `b`, each with the structure of the state; arrays of `a` may have axes of size 1."""

    def step(self, params: Params, state: State, z: Any) -> State:
        a, b = self.coefficients(params, z)
        return jax.tree.map(lambda a, b, s: a * s + b, a, b, state)


@dataclasses.dataclass(frozen=True)
class WithStates(Cell):
    """A cell that outputs its state beside its output, so that any loop returns the states after all steps."""

    cell: Any

    def __repr__(self) -> str:
        return repr(self.cell)  # in error messages of loops

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return self.cell.num_feature_axes

    def init(self, key: Array, input_size: Any) -> Params:
        return self.cell.init(key, input_size)

    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        return self.cell.initial_state(params, batch_shape, dtype)

    def project(self, params: Params, x: Any, key: Keys = None) -> Any:
        return self.cell.project(params, x, key)

    def step(self, params: Params, state: State, z: Any) -> State:
        return self.cell.step(params, state, z)

    def readout(self, params: Params, state: State, z: Any) -> tuple[State, Any]:
        return state, self.cell.readout(params, state, z)


class LinearWithStates(WithStates, LinearCell):  # pyright: ignore[reportIncompatibleVariableOverride]
    def coefficients(self, params: Params, z: Any) -> tuple[State, State]:
        return self.cell.coefficients(params, z)


def project(cell: Any, params: Params, x: Any, keys: Keys) -> Any:
    """Calls `cell.project` for each of `keys`, whose axes are the first axes of `x`; with one key or None, once."""
    if keys is None or keys.ndim == 0:
        return cell.project(params, x, keys)
    return each(lambda key, x: cell.project(params, x, key), keys, x)


def leading_shape(layer: Layer, x: Any) -> tuple[int, ...]:
    """Returns the shape of an input without its feature axes."""
    x = jax.tree.leaves(x)[0]
    return x.shape[: x.ndim - num_feature_axes(layer, x)]


def num_feature_axes(layer: Layer, x: Array) -> int:
    """Returns the number of feature axes of an input. Symbols have one less than their one-hot vectors."""
    return max(layer.num_feature_axes - 1, 0) if is_symbols(x) else layer.num_feature_axes


class _Named(NamedTuple):
    """A function that can be imported from its module by its name."""

    module: str
    name: str

    @staticmethod
    def of(value: Any) -> Any:
        """Returns the name of a callable object if it can be imported. Pickle handles functions and classes itself."""
        module, name = getattr(value, "__module__", None), getattr(value, "__name__", "")
        is_object = callable(value) and not isinstance(value, type | types.FunctionType)
        if is_object and module and getattr(sys.modules.get(module), name, None) is value:
            return _Named(module, name)
        return value

    def get(self) -> Any:
        return getattr(importlib.import_module(self.module), self.name, None)


def _rebuild(kind: type, values: dict[str, Any]) -> Any:
    layer = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(layer, name, value.get() if isinstance(value, _Named) else value)
    return layer
