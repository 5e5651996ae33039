"""`Scan`: the reference loop, and what every loop shares."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.layer import Cell, Params, Plan, State, StepKey
from jaxrnn.ops import where


class Loop(abc.ABC):
    """How a cell runs over time. Loops differ in cost, never in result."""

    @abc.abstractmethod
    def __call__(
        self, cell: Cell, params: Params, xs: Any, state: State, key: Array | None, plan: Plan
    ) -> tuple[State, Any]:
        """Runs `cell` over `xs` [time, *batch, ...]; returns the last state and the outputs of all steps."""


@dataclass(frozen=True)
class Scan(Loop):
    """`jax.lax.scan` over the steps, inputs projected beforehand. The reference that other loops equal.

    Args:
      unroll: how many steps stand in one iteration of the compiled loop.
      checkpoint_every: None, or a number of steps: only every so many states are kept for the backward
        pass and the steps between are computed again. Need not divide the length.
    """

    unroll: int = 1
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        check_counts(self)

    def __call__(
        self, cell: Cell, params: Params, xs: Any, state: State, key: Array | None, plan: Plan
    ) -> tuple[State, Any]:
        def run(params: Params, state: State, steps: Steps) -> tuple[State, Any]:
            restart = cell.initial_state(params)

            def body(state: State, now: tuple[Any, Array | None, Array | None]) -> tuple[State, Any]:
                z, valid, reset = now
                state = masked_step(partial(cell.step, params), state, z, valid, reset, restart)
                return state, cell.readout(params, state, z)

            zs = project(cell, params, steps, key)
            return jax.lax.scan(body, state, (zs, steps.valid, steps.resets), reverse=plan.reverse, unroll=self.unroll)

        steps = Steps.of(xs, key, plan)
        run = jax.checkpoint(run) if self.checkpoint_every else run
        return in_chunks(run, self.checkpoint_every, params, state, steps, plan.reverse)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Steps:
    """All that differs from step to step, time first, so that a run can be cut in time."""

    xs: Any
    keys: Array | None  # one a step
    valid: Array | None
    resets: Array | None

    @staticmethod
    def of(xs: Any, key: Array | None, plan: Plan) -> Steps:
        length = jax.tree.leaves(xs)[0].shape[0]
        keys = None if key is None else jax.random.split(StepKey.of(key).step, length)
        return Steps(xs, keys, plan.valid, plan.resets)

    @property
    def length(self) -> int:
        return jax.tree.leaves(self.xs)[0].shape[0]


def check_counts(loop: Any) -> None:
    for name, count in vars(loop).items():
        if count is None and name != "unroll":
            continue
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"{type(loop).__name__}'s {name} must be a positive integer, but it is {count!r}")


def project(cell: Any, params: Params, steps: Steps, key: Array | None) -> Any:
    """The projected inputs of all steps, at once."""
    if key is None or steps.keys is None:
        return cell.project(params, steps.xs)
    over_steps = jax.vmap(cell.project, in_axes=(None, 0, StepKey(0, None)))  # type: ignore[arg-type]
    return over_steps(params, steps.xs, StepKey(steps.keys, StepKey.of(key).call))


def masked_step(step: Any, state: State, z: Any, valid: Array | None, reset: Array | None, restart: State) -> State:
    """One step under lengths and resets. The state keeps its dtype."""
    before = state if reset is None else where(~reset, state, restart)
    after = jax.tree.map(lambda new, old: new.astype(old.dtype), step(before, z), state)
    return after if valid is None else where(valid, after, state)


def in_chunks(
    run: Any, every: int | None, params: Params, state: State, steps: Steps, reverse: bool
) -> tuple[State, Any]:
    """`run(params, state, steps)` in chunks of `every` steps, one after the other."""
    if every is None or steps.length <= every:
        return run(params, state, steps)
    whole = steps.length // every * every
    head = jax.tree.map(lambda x: x[:whole].reshape(-1, every, *x.shape[1:]), steps)
    tail = jax.tree.map(lambda x: x[whole:], steps)

    def chunks(state: State) -> tuple[State, Any]:
        state, ys = jax.lax.scan(lambda state, chunk: run(params, state, chunk), state, head, reverse=reverse)
        return state, jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:]), ys)

    if whole == steps.length:
        return chunks(state)
    if reverse:  # the last steps come first
        state, last = run(params, state, tail)
        state, first = chunks(state)
    else:
        state, first = chunks(state)
        state, last = run(params, state, tail)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, last)
