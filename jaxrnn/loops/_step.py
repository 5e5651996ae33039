"""Applies resets and lengths to the state of one step."""

from __future__ import annotations

from typing import Any

from jax import Array

from jaxrnn._kinds import with_dtypes_of
from jaxrnn.layer import State
from jaxrnn.ops import where


def restart(state: State, restarts: Array | None, initial: State) -> State:
    """Returns the state from which a step starts: the initial state where a sequence begins."""
    return state if restarts is None else where(~restarts, state, initial)


def keep_if_padded(before: State, after: Any, valid: Array | None) -> State:
    """Returns the state after a step: unchanged in the padding, and always in the dtype that it had before."""
    after = with_dtypes_of(before, after)
    return after if valid is None else where(valid, after, before)
