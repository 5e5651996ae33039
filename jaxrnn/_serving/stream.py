"""`Stream`: many sequences side by side, each of which is fed as its input arrives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import _check as check
from jaxrnn._serving.inputs import check_alike, num_steps, pad_to_batch
from jaxrnn._serving.programs import feed_slots, read_slot, step_slots, write_slot
from jaxrnn._serving.state_bytes import from_bytes, to_bytes
from jaxrnn.layer import Layer, Params


class Stream:
    """Runs many independent sequences side by side in a fixed number of slots, for serving.

    Sequences begin and end at any time, and each is fed at its own pace. Each gives the same result as if it were
    alone. The states of all slots are kept on the device and updated in place. A step is one call of one compiled
    program, no matter which slots are fed, and a slot that is not fed keeps its state exactly. Inputs of several steps
    are padded to powers of two, so that sequences of many lengths need few compilations. Streams of equal layers and
    sizes share the compiled programs.

    A call that raises an exception leaves the stream unchanged. A stream must not be used by several threads at once.

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.GRU(64), jaxrnn.Dense(256))
      >>> params = layer.init(jax.random.key(0), input_size=256)
      >>> stream = jaxrnn.Stream(layer, params, slots=8)
      >>> slot, y = stream.insert(jnp.array([104, 101, 108, 108]))  # the output at the last step of a prompt of symbols
      >>> ys = stream.step({slot: 111})  # one step of some of the slots
      >>> ys[slot].shape
      (256,)
      >>> data = stream.evict(slot)  # bytes, for a file, a database or another process
      >>> slot, _ = stream.insert(state=data)  # continue with this state
      >>> stream.taken
      [0]

    Args:
      layer: Any causal layer, that is, any layer that does not read the future, as `Bidirectional` does. It runs
        without a random key.
      params: Its parameters.
      slots: The largest number of sequences at the same time.
      dtype: Dtype of the states. None means the dtype of the parameters.

    Raises:
      TypeError: An argument has the wrong type, or the layer is not causal.
      ValueError: `slots` is not positive.
    """

    def __init__(self, layer: Layer, params: Params, slots: int, *, dtype: Any = None):
        self.layer, self.params, self.slots = layer, params, slots
        check.instance(self, "layer", Layer, "a jaxrnn layer")
        check.positive(self, "slots")
        if not layer.causal:
            raise TypeError(f"Stream needs a causal layer, but {layer} reads the future: call unroll")
        self._dtype = dtype
        # The shapes and dtypes of one sequence's state.
        self._single_state = jax.eval_shape(lambda p: layer.initial_state(p, (), dtype), params)
        self._state = jax.tree.map(lambda s: jnp.zeros((slots, *s.shape), s.dtype), self._single_state)
        # The two arrays below are replaced and never modified, because a program that reads them may still be running.
        self._taken = np.zeros(slots, bool)
        self._fresh = np.zeros(slots, bool)  # whether a slot's state is the initial one, instead of that in `_state`

    def __repr__(self) -> str:
        return f"Stream({self.layer}, {len(self.taken)} of {self.slots} slots taken)"

    @property
    def taken(self) -> list[int]:
        """The slots that hold a sequence."""
        return np.flatnonzero(self._taken).tolist()

    @property
    def free(self) -> list[int]:
        """The slots that hold no sequence."""
        return np.flatnonzero(~self._taken).tolist()

    def insert(self, prompt: Any = None, *, state: bytes | None = None) -> tuple[int, Any]:
        """Begins a sequence in a free slot, or continues one from its state.

        Example:
          >>> cell = jaxrnn.GRU(64)
          >>> stream = jaxrnn.Stream(cell, cell.init(jax.random.key(0), input_size=8), slots=2)
          >>> slot, y = stream.insert(jnp.ones((5, 8)))
          >>> slot, y.shape
          (0, (64,))

        Args:
          prompt: The first steps [time, features], or symbols [time]. None and an empty prompt feed nothing.
          state: Bytes from `state` or `evict` of a stream of an equal layer. None means the initial state.

        Returns:
          The slot, and the output at the last step of the prompt, which is None if there are no steps.

        Raises:
          TypeError: `state` is not bytes.
          ValueError: No slot is free, the bytes are damaged or hold no state of this layer, or the prompt has the wrong
            shape.
        """
        if not self.free:
            raise ValueError(f"all {self.slots} slots of the stream are taken: evict or remove a sequence first")
        slot = self.free[0]
        if state is not None:
            self._state = write_slot(self._state, np.int32(slot), from_bytes(state, self._single_state))
        self._fresh = _with_flag(self._fresh, [slot], state is None)
        y = self._feed({slot: prompt}, only_last=True)[slot] if num_steps(prompt) else None
        self._taken = _with_flag(self._taken, [slot], True)
        return slot, y

    def step(self, xs: Mapping[int, Any]) -> dict[int, Any]:
        """Feeds one step to some of the slots.

        Example:
          >>> cell = jaxrnn.GRU(64)
          >>> stream = jaxrnn.Stream(cell, cell.init(jax.random.key(0), input_size=8), slots=2)
          >>> slot, _ = stream.insert()
          >>> stream.step({slot: jnp.ones(8)})[slot].shape
          (64,)

        Args:
          xs: The inputs [features], or symbols, by slot.

        Returns:
          The outputs by slot, as NumPy arrays.

        Raises:
          ValueError: A slot holds no sequence, or the inputs differ in structure, shape or kind of dtype.
        """
        self._check(xs)
        if not xs:
            return {}
        single_steps = [jax.tree.map(lambda x: np.asarray(x)[None], x) for x in xs.values()]
        check_alike(self.layer, single_steps)
        batch = jax.tree.map(lambda x: x[0], pad_to_batch(single_steps, [*xs], (1, self.slots)))
        ys = jax.tree.map(np.asarray, self._step(batch, _with_flag(np.zeros(self.slots, bool), [*xs], True)))
        return {slot: jax.tree.map(lambda y, n=slot: y[n], ys) for slot in xs}

    def step_all(self, xs: Any, fed: Any = None) -> Any:
        """Feeds one step to all slots that are fed, given arrays of all slots.

        This is `step` without copies from the device and without waiting for it.

        Example:
          >>> cell = jaxrnn.GRU(64)
          >>> stream = jaxrnn.Stream(cell, cell.init(jax.random.key(0), input_size=8), slots=2)
          >>> slot, _ = stream.insert()
          >>> stream.step_all(jnp.ones((2, 8))).shape
          (2, 64)

        Args:
          xs: Inputs [slots, features], or symbols [slots].
          fed: Booleans [slots], True for the slots that are fed; the inputs of other slots are ignored. None means all
            slots that hold a sequence.

        Returns:
          The outputs [slots, ...], which are zero for slots that are not fed.

        Raises:
          ValueError: A slot that is fed holds no sequence, or an argument has the wrong shape.
        """
        fed = self._taken if fed is None else np.array(fed)
        if fed.shape != (self.slots,) or fed.dtype != bool:
            raise ValueError(f"fed must be booleans of shape {(self.slots,)}, but they are {fed.dtype} {fed.shape}")
        self._check(np.flatnonzero(fed).tolist())
        shapes = [np.shape(x) for x in jax.tree.leaves(xs)]
        if any(shape[:1] != (self.slots,) for shape in shapes):
            raise ValueError(f"xs must have a first axis of all {self.slots} slots, but the shapes are {shapes}")
        check_alike(self.layer, [xs])
        return self._step(xs, fed)

    def feed(self, xs: Mapping[int, Any]) -> dict[int, Any]:
        """Feeds several steps at once to some of the slots, to each its own number: `unroll` from their states.

        Example:
          >>> cell = jaxrnn.GRU(64)
          >>> stream = jaxrnn.Stream(cell, cell.init(jax.random.key(0), input_size=8), slots=2)
          >>> slot, _ = stream.insert()
          >>> stream.feed({slot: jnp.ones((5, 8))})[slot].shape
          (5, 64)

        Args:
          xs: The inputs [time, features], or symbols [time], by slot.

        Returns:
          The outputs [time, ...] by slot, as NumPy arrays.

        Raises:
          ValueError: A slot holds no sequence, or the inputs differ in structure, shape or kind of dtype.
        """
        self._check(xs)
        return self._feed(xs, only_last=False) if xs else {}

    def state(self, slot: int) -> bytes:
        """Returns the state of a slot, for `insert(state=...)` of any stream of an equal layer.

        Args:
          slot: A slot that holds a sequence.

        Returns:
          The bytes of a safetensors file with a checksum.

        Raises:
          ValueError: The slot holds no sequence.
          ImportError: The package safetensors is not installed.
        """
        self._check([slot])
        row = read_slot(self.layer, self._dtype, self.params, self._state, np.int32(slot), self._fresh[slot])
        return to_bytes(row)

    def evict(self, slot: int) -> bytes:
        """Frees a slot and returns its state, as `state` does."""
        data = self.state(slot)
        self.remove(slot)
        return data

    def remove(self, slot: int) -> None:
        """Frees a slot and discards its state. A slot without a sequence raises a ValueError."""
        self._check([slot])
        self._taken = _with_flag(self._taken, [slot], False)

    def reset(self, slot: int) -> None:
        """Begins a new sequence, with the initial state, in a slot that holds one. Other slots raise a ValueError."""
        self._check([slot])
        self._fresh = _with_flag(self._fresh, [slot], True)

    def _check(self, slots: Any) -> None:
        for slot in slots:
            if not (isinstance(slot, int | np.integer) and 0 <= slot < self.slots and self._taken[slot]):
                raise ValueError(
                    f"slot {slot!r} must hold a sequence, but the taken slots are {self.taken}: call insert first"
                )

    def _step(self, xs: Any, fed: np.ndarray) -> Any:
        self._state, ys = step_slots(self.layer, self._dtype, self.params, self._state, xs, fed, self._fresh)
        self._fresh = self._fresh & ~fed
        return ys

    def _feed(self, xs: Mapping[int, Any], only_last: bool) -> dict[int, Any]:
        sequences = [jax.tree.map(np.asarray, x) for x in xs.values()]
        lengths = [num_steps(x) for x in sequences]
        check_alike(self.layer, sequences)
        time, width = _power_of_two(max(1, *lengths)), _power_of_two(len(xs))
        padding = width - len(xs)
        slots = np.array([*xs, *padding * [self.slots]], np.int32)  # the padding is out of range
        fresh = np.append(self._fresh, False)[slots]
        padded = pad_to_batch(sequences, range(len(xs)), (time, width))
        padded_lengths = np.array([*lengths, *padding * [0]], np.int32)
        self._state, ys = feed_slots(
            self.layer, self._dtype, only_last, self.params, self._state, slots, fresh, padded, padded_lengths
        )
        self._fresh = _with_flag(self._fresh, [*xs], False)  # the program has used and overwritten the initial states
        ys = jax.tree.map(np.asarray, ys)

        def outputs_of(n: int) -> Any:
            return jax.tree.map(lambda y: y[n] if only_last else y[: lengths[n], n], ys)

        return {slot: outputs_of(n) for n, slot in enumerate(xs)}


def _power_of_two(number: int) -> int:
    """Returns the smallest power of two that is not below a number."""
    return 1 << (number - 1).bit_length()


def _with_flag(flags: np.ndarray, slots: list[int], value: bool) -> np.ndarray:
    """Returns a copy of flags with those of some slots set to a value."""
    flags = flags.copy()
    flags[slots] = value
    return flags
