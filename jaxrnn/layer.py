"""The interfaces that layers, cells and loops implement, and the plan that one call of `unroll` gives to all of them.

Layers, cells and loops are frozen dataclasses of hyperparameters. They hold no arrays: parameters and states are
pytrees that the caller owns, and every method is a pure function.
"""

from __future__ import annotations

import abc
import dataclasses
import importlib
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.ops import as_joint_dtype, is_symbols

Params = Any
State = Any


class StepKey(NamedTuple):
    """The random keys of one step.

    Each step has its own key, so that a loop that runs the steps in chunks draws the same numbers.
    """

    step: Array  # differs from step to step
    call: Array  # the same at all steps of one call of `unroll`

    @staticmethod
    def of(key: StepKey | Array) -> StepKey:
        """Returns the keys of a step, made from a single random key if that is what the caller of `project` has."""
        return key if isinstance(key, StepKey) else StepKey(*jax.random.split(key))

    def split(self) -> tuple[StepKey, StepKey]:
        """Returns two independent pairs of keys."""
        first, second = zip(jax.random.split(self.step), jax.random.split(self.call), strict=True)
        return StepKey(*first), StepKey(*second)


Keys = StepKey | Array | None


class Plan(NamedTuple):
    """How one call of `unroll` runs. All layers of a call share it."""

    loop: Loop
    reverse: bool = False
    lengths: Array | None = None  # int [*batch]; None: all sequences have the full length
    valid: Array | None = None  # bool [time, *batch], False in the padding; None: no padding
    resets: Array | None = None  # bool [time, *batch], True where a sequence begins in time; None: nowhere
    batch_shape: tuple[int, ...] = ()

    @property
    def restarts(self) -> Array | None:
        """Returns where the state restarts before a step is read: bool [time, *batch], or None for nowhere.

        A sequence that begins at step t ends its predecessor at step t - 1. Under `reverse`, step t - 1 is the first
        one of the predecessor that is read.
        """
        if self.resets is None or not self.reverse:
            return self.resets
        begins = self.resets if self.valid is None else self.resets & self.valid  # ignored in the padding
        return jnp.concatenate([begins, jnp.zeros_like(begins[:1])])[1:]

    def steps(self, xs: Any, key: Array | None) -> Steps:
        """Returns what a loop needs to run a cell over the inputs `xs` according to this plan."""
        keys = call_key = None
        if key is not None:
            keys, call_key = StepKey.of(key)
            keys = jax.random.split(keys, jax.tree.leaves(xs)[0].shape[0])
        return Steps(xs, self.valid, self.restarts, keys, call_key, self.reverse)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Steps:
    """The steps over which a loop runs a cell. All arrays but `call_key` have the time axis first.

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
    keys: Array | None  # one random key per step; None: evaluation
    call_key: Array | None  # the random key of the call
    reverse: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def length(self) -> int:
        return jax.tree.leaves(self.xs)[0].shape[0]

    @property
    def varying(self) -> tuple[Any, ...]:
        """All arrays that differ from step to step, as `replace_varying` takes them."""
        return self.xs, self.valid, self.restarts, self.keys

    def replace_varying(self, varying: tuple[Any, ...]) -> Steps:
        """Returns other steps of the same call, for instance a part of them."""
        xs, valid, restarts, keys = varying
        return Steps(xs, valid, restarts, keys, self.call_key, self.reverse)

    def project(self, cell: Any, params: Params) -> Any:
        """Returns the projected inputs of all steps, computed at once."""
        if self.keys is None:
            return cell.project(params, self.xs)
        over_steps = jax.vmap(cell.project, in_axes=(None, 0, StepKey(0, None)))  # type: ignore[arg-type]
        return over_steps(params, self.xs, StepKey(self.keys, self.call_key))  # type: ignore[arg-type]


class Loop(abc.ABC):
    """How a cell runs over time. Loops differ in cost, never in result."""

    @abc.abstractmethod
    def __call__(self, cell: Cell, params: Params, steps: Steps, state: State) -> tuple[State, Any]:
        """Runs a cell from `state` over `steps`; returns the last state and the outputs [time, *batch, ...]."""


class Layer(abc.ABC):
    """A map from a sequence to a sequence that carries a state."""

    num_feature_axes: ClassVar[int] = 1  # trailing axes of one step's input that are not batch axes

    def __post_init__(self) -> None:  # noqa: B027
        """Checks the arguments of a subclass; here only so that subclasses may call `super().__post_init__()`."""

    def __init_subclass__(cls) -> None:
        cls.__repr__ = cls.__repr__  # otherwise `dataclass` would write its own

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(value, '__name__', value)!s}" for name, value in vars(self).items())
        return f"{type(self).__name__}({values})"

    def __copy__(self) -> Self:
        return self  # a layer is an immutable value, so it can serve as its own copy

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> Any:
        """Pickles a layer by value, and jitted functions such as `jnp.tanh`, which cannot be pickled, by name."""
        return _rebuild, (type(self), {name: _Named.of(value) for name, value in vars(self).items()})

    @property
    def causal(self) -> bool:
        """Whether no output depends on a later input, so that the layer can run step by step."""
        return True

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

        Padded steps must not change the state. Their outputs are ignored.
        """


class Cell(Layer):
    """A layer defined by one step, split into three functions by what must be sequential.

    `project`, `step` and `readout` act on the feature axes and treat every leading axis as a batch axis.
    """

    @abc.abstractmethod
    def project(self, params: Params, x: Any, key: Keys = None) -> Any:
        """Computes what a step needs of its input, such as products and random masks, for all steps at once."""

    @abc.abstractmethod
    def step(self, params: Params, state: State, z: Any) -> State:
        """Returns the state after a step. This is all that runs inside the loop, and it is deterministic."""

    @abc.abstractmethod
    def readout(self, params: Params, state: State, z: Any) -> Any:
        """Returns the output of a step, given the state after it."""

    def __call__(self, params: Params, state: State, x: Any) -> tuple[State, Any]:
        """Runs one whole step, with the argument order of `jax.lax.scan`."""
        z = self.project(params, x)
        state = self.step(params, state, z)
        return state, self.readout(params, state, z)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        state, ys = plan.loop(self, params, plan.steps(xs, key), state)
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


def leading_shape(layer: Layer, x: Any) -> tuple[int, ...]:
    """Returns the shape of an input without its feature axes."""
    x = jax.tree.leaves(x)[0]
    return x.shape if is_symbols(x) else x.shape[: x.ndim - layer.num_feature_axes]


class _Named(NamedTuple):
    """A function that can be imported from its module by its name."""

    module: str
    name: str

    @staticmethod
    def of(value: Any) -> Any:
        named = _Named(getattr(value, "__module__", ""), getattr(value, "__qualname__", ""))
        return named if hasattr(value, "__wrapped__") and named.get() is value else value

    def get(self) -> Any:
        return getattr(importlib.import_module(self.module), self.name, None)


def _rebuild(kind: type, values: dict[str, Any]) -> Any:
    layer = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(layer, name, value.get() if isinstance(value, _Named) else value)
    return layer
