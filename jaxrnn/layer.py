"""The contract: what a layer and a cell are, and what one call of `unroll` asks of them.

Layers and cells are frozen dataclasses of hyperparameters. They hold no arrays: parameters and
states are pytrees that the caller owns, and every method is a pure function.
"""

from __future__ import annotations

import abc
import dataclasses
import importlib
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import Array

if TYPE_CHECKING:
    from jaxrnn.loops.scan import Loop

Params = Any
State = Any


class Plan(NamedTuple):
    """How a call of `unroll` runs: the same for every layer in it."""

    loop: Loop
    reverse: bool = False
    valid: Array | None = None  # bool [time, *batch], False in the padding; None: no padding
    resets: Array | None = None  # bool [time, *batch], True where a sequence begins; None: nowhere
    batch_shape: tuple[int, ...] = ()


class StepKey(NamedTuple):
    """The random keys of one step. Keys of steps, not one for all, so that a run cut in time draws the same."""

    step: Array  # for what is drawn anew at every step
    call: Array  # the same at all steps of a call of `unroll`

    @staticmethod
    def of(key: StepKey | Array) -> StepKey:
        """A step's keys, also from the one random key that a caller of `project` has."""
        return key if isinstance(key, StepKey) else StepKey(*jax.random.split(key))

    def split(self) -> tuple[StepKey, StepKey]:
        first, second = zip(jax.random.split(self.step), jax.random.split(self.call), strict=True)
        return StepKey(*first), StepKey(*second)


Keys = StepKey | Array | None


class Layer(abc.ABC):
    """Maps a sequence to a sequence and carries a state."""

    num_feature_axes: ClassVar[int] = 1  # trailing axes of one step's input that are not batch axes

    def __post_init__(self) -> None:
        """Checks the sizes and rates among a layer's arguments, whatever the layer."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, name = getattr(self, field.name), f"{type(self).__name__}'s {field.name}"
            if field.name.endswith("size") and not (_is_integer(value) and value > 0):
                raise ValueError(f"{name} must be a positive integer, but it is {value!r}")
            if field.name.endswith("rate") and not all(0 <= rate < 1 for rate in jax.tree.leaves(value)):
                raise ValueError(f"{name} must be from 0 to below 1, but it is {value!r}")

    def __init_subclass__(cls) -> None:
        cls.__repr__ = cls.__repr__  # so that `dataclass` does not write its own

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(value, '__name__', value)!s}" for name, value in vars(self).items())
        return f"{type(self).__name__}({values})"

    def __copy__(self) -> Self:
        return self  # a value: there is nothing to tell two equal ones apart

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> Any:
        """Pickles by value; jitted functions such as `jnp.tanh`, which pickle cannot take, by name."""
        return _rebuild, (type(self), {name: _Named.of(value) for name, value in vars(self).items()})

    @property
    def causal(self) -> bool:
        """Whether no output depends on a later input, so that the layer can run step by step."""
        return True

    @abc.abstractmethod
    def init(self, key: Array, input_size: Any) -> Params:
        """Draws parameters.

        Args:
          key: a JAX random key.
          input_size: number of input features; for symbols (integer inputs), how many there are.
        """

    @abc.abstractmethod
    def initial_state(self, params: Params, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> State:
        """The state before the first step, of the parameters' dtype unless another is given."""

    @abc.abstractmethod
    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        """Runs over all time steps. Called by `unroll` and by other layers, not by users.

        Padded steps leave the state alone; what is put out there is not read by anyone.
        """


class Cell(Layer):
    """A layer defined by one step, split by what must be sequential.

    `project`, `step` and `readout` act on the feature axes and treat every leading axis as a batch.
    """

    @abc.abstractmethod
    def project(self, params: Params, x: Any, key: Keys = None) -> Any:
        """What a step needs of its input, of all steps at once: products, random masks."""

    @abc.abstractmethod
    def step(self, params: Params, state: State, z: Any) -> State:
        """The state after a step: the only thing inside the loop. Deterministic."""

    @abc.abstractmethod
    def readout(self, params: Params, state: State, z: Any) -> Any:
        """The output of a step, from the state after it."""

    def __call__(self, params: Params, state: State, x: Any) -> tuple[State, Any]:
        """One whole step, in the order of `jax.lax.scan`."""
        z = self.project(params, x)
        state = self.step(params, state, z)
        return state, self.readout(params, state, z)

    def run(self, params: Params, xs: Any, state: State, key: Array | None, plan: Plan) -> tuple[State, Any]:
        state, ys = plan.loop(self, params, xs, state, key, plan)
        return state, as_joint_dtype(ys, (params, xs))


class LinearCell(Cell):
    """A cell whose state is carried on by products and sums, :math:`s_t = a_t \\odot s_{t-1} + b_t`.

    Where neither a nor b depends on the state, all steps can be taken at once: `jaxrnn.loops.AssociativeScan`.
    """

    @abc.abstractmethod
    def coefficients(self, params: Params, z: Any) -> tuple[State, State]:
        """`a` and `b`, each with the state's structure; arrays of `a` may have size 1 where the state's are larger."""

    def step(self, params: Params, state: State, z: Any) -> State:
        a, b = self.coefficients(params, z)
        return jax.tree.map(lambda a, b, s: a * s + b, a, b, state)


class _Named(NamedTuple):
    """A function that stands in its module under its name."""

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


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def joint_dtype(tree: Any) -> Any:
    """The dtype that the real and complex leaves of a pytree promote to; float32 or float64 if none."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return jnp.result_type(*leaves) if leaves else jnp.result_type(float)


def as_joint_dtype(ys: Any, tree: Any) -> Any:
    """Casts real outputs to the (real part of the) joint dtype of a pytree, whatever the state's is."""
    dtype = jnp.finfo(joint_dtype(tree)).dtype
    return jax.tree.map(lambda y: y.astype(dtype) if jnp.issubdtype(y.dtype, jnp.floating) else y, ys)
