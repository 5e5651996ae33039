"""Prepares the data of the next training steps on the host while the devices compute."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding

from support.devices import WINDOWS, streams_here

BYTES = 2**22  # largest size of a block, unless a single step needs more


class Block(NamedTuple):
    """The windows of several consecutive training steps."""

    first: Any  # number of the first step
    windows: Array  # [steps, time, batch, ...], split over the devices

    def at(self, step: Any) -> Array:
        """Returns the windows of one training step [time, batch, ...]."""
        return jax.lax.dynamic_index_in_dim(self.windows, step - self.first, keepdims=False)


class Feed:
    """Supplies a training loop with blocks of windows. Each process reads the windows of its own streams.

    All blocks have the same shape, regardless of their number of steps, so that one compiled program is enough.

    Args:
      cut: A function that returns windows: (first step, steps, range of streams) -> [steps, time, streams, ...].
      mesh: The devices.
      batch: Number of streams of all processes.
    """

    def __init__(self, cut: Callable[[int, int, range], np.ndarray], mesh: Mesh, batch: int):
        self._cut, self._batch = cut, batch
        self._streams = streams_here(mesh, batch)
        self._sharding = NamedSharding(mesh, WINDOWS)
        one = cut(0, 1, self._streams)
        self._dtype, self._time, self._rest = one.dtype, one.shape[1], one.shape[3:]
        bytes_per_step = self._time * batch * math.prod(self._rest) * one.itemsize
        self.capacity = max(1, BYTES // bytes_per_step)  # largest number of steps of a block
        self._prepared: tuple[int, int, Block] | None = None

    def __call__(self, step: int, steps: int) -> Block:
        """Returns a block with the windows of `steps` steps, at most `capacity`, from number `step` on."""
        if self._prepared is not None and self._prepared[0] == step and self._prepared[1] >= steps:
            return self._prepared[2]
        return self._block(step, steps)

    def prepare(self, step: int, steps: int) -> None:
        """Prepares the block that is expected to be requested next."""
        steps = min(steps, self.capacity)
        self._prepared = step, steps, self._block(step, steps)

    def _block(self, step: int, steps: int) -> Block:
        local = np.zeros((self.capacity, self._time, len(self._streams), *self._rest), self._dtype)
        local[:steps] = self._cut(step, steps, self._streams)
        shape = (self.capacity, self._time, self._batch, *self._rest)
        return Block(np.int32(step), jax.make_array_from_process_local_data(self._sharding, local, shape))
