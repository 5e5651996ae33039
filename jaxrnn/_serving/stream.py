"""`Stream`: many sequences side by side, each fed whenever something of it arrives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn._serving import slots
from jaxrnn.layer import Layer, Params


class Stream:
    """Many sequences side by side in a fixed number of slots, for serving.

    Sequences come, are fed at their own pace, and go; each is computed as if it were alone. The states of all slots lie
    on the device and are updated in place: a step is one call of one compiled program, whoever is fed, and a slot that
    is not fed keeps its state exactly. What is fed several steps at once is padded to powers of two, so that
    sequences of many lengths need few compilations. Streams of equal layers and sizes share what is compiled.

    A call that raises leaves the stream as it was. It is for one thread at a time::

      stream = jaxrnn.Stream(layer, params, slots=8)
      slot, y = stream.insert(prompt)  # y: the output at the prompt's last step
      ys = stream.step({slot: x})  # one step of some of the slots: {slot: y}
      data = stream.evict(slot)  # bytes, for a file, a database, another process
      slot, _ = stream.insert(state=data)  # and on it goes

    Args:
      layer: any layer but those that read the future (`Bidirectional`). Nothing is random.
      params: its parameters.
      slots: how many sequences there may be at a time.
      dtype: of the states; None: that of the parameters.

    Raises:
      TypeError: `layer` is no layer, or reads the future.
      ValueError: `slots` is no positive integer.
    """

    def __init__(self, layer: Layer, params: Params, slots: int, *, dtype: Any = None):
        if not isinstance(layer, Layer):
            raise TypeError(f"Stream runs a jaxrnn layer, but it was given {layer!r}")
        if not layer.causal:
            raise TypeError(f"Stream runs one step after the other, but {layer} reads the future: call unroll")
        if not isinstance(slots, int) or isinstance(slots, bool) or slots < 1:
            raise ValueError(f"Stream's slots must be a positive integer, but they are {slots!r}")
        self.layer, self.params, self.slots = layer, params, slots
        self._dtype = None if dtype is None else jnp.dtype(dtype)
        self._like = jax.eval_shape(lambda p: layer.initial_state(p, (), dtype), params)  # the state of one sequence
        self._state = jax.tree.map(lambda s: jnp.zeros((slots, *s.shape), s.dtype), self._like)
        # Never changed in place: what a program reads that may still run.
        self._taken = np.zeros(slots, bool)
        self._fresh = np.zeros(slots, bool)  # whose state is the initial one, whatever stands in its place

    def __repr__(self) -> str:
        return f"Stream({self.layer}, {len(self.taken)} of {self.slots} slots taken)"

    @property
    def taken(self) -> list[int]:
        """The slots that hold a sequence."""
        return np.flatnonzero(self._taken).tolist()

    @property
    def free(self) -> list[int]:
        """The slots that hold none."""
        return np.flatnonzero(~self._taken).tolist()

    def insert(self, prompt: Any = None, *, state: bytes | None = None) -> tuple[int, Any]:
        """Begins a sequence in a free slot, or goes on with one.

        Args:
          prompt: its first steps [time, features], or symbols [time]; None, or no steps: nothing yet.
          state: what `state` or `evict` gave, of a stream of the same layer; None: the initial state.

        Returns:
          The slot, and the output at the prompt's last step, None if there are no steps.

        Raises:
          TypeError: `state` is not bytes.
          ValueError: no slot is free, or the bytes hold no state of this layer.
        """
        if not self.free:
            raise ValueError(f"all {self.slots} slots of the stream are taken: evict or remove a sequence first")
        slot = self.free[0]
        if state is not None:
            self._state = slots.write(self._state, np.int32(slot), slots.from_bytes(state, self._like))
        self._fresh = _marked(self._fresh, [slot], state is None)
        y = self._feed({slot: prompt}, last=True)[slot] if slots.length(prompt) else None
        self._taken = _marked(self._taken, [slot], True)
        return slot, y

    def step(self, xs: Mapping[int, Any]) -> dict[int, Any]:
        """Feeds one step to some of the slots.

        Args:
          xs: by slot, its input [features], or a symbol.

        Returns:
          By slot, its output, as NumPy arrays.

        Raises:
          ValueError: a slot holds no sequence, or the inputs are not of one kind and shape.
        """
        self._check(xs)
        if not xs:
            return {}
        one = [jax.tree.map(lambda x: np.asarray(x)[None], x) for x in xs.values()]
        slots.check(self.layer, one)
        batch = jax.tree.map(lambda x: x[0], slots.side_by_side(one, [*xs], (1, self.slots)))
        ys = jax.tree.map(np.asarray, self._step(batch, _marked(np.zeros(self.slots, bool), [*xs], True)))
        return {slot: jax.tree.map(lambda y, n=slot: y[n], ys) for slot in xs}

    def step_all(self, xs: Any, fed: Any = None) -> Any:
        """`step` on arrays of all slots: nothing is copied from the device, and nobody waits for it.

        Args:
          xs: inputs [slots, features], or symbols [slots].
          fed: bool [slots], for which slots that is; None: all that are taken. What stands for the others is not read.

        Returns:
          The outputs [slots, ...], zero where nothing was fed.
        """
        fed = self._taken if fed is None else np.array(fed)
        if fed.shape != (self.slots,) or fed.dtype != bool:
            raise ValueError(f"fed must be booleans of shape {(self.slots,)}, but they are {fed.dtype} {fed.shape}")
        self._check(np.flatnonzero(fed).tolist())
        shapes = [np.shape(x) for x in jax.tree.leaves(xs)]
        if any(shape[:1] != (self.slots,) for shape in shapes):
            raise ValueError(f"xs must have a first axis of all {self.slots} slots, but the shapes are {shapes}")
        slots.check(self.layer, [xs])
        return self._step(xs, fed)

    def feed(self, xs: Mapping[int, Any]) -> dict[int, Any]:
        """Feeds several steps at once to some of the slots, to each as many as it is given: `unroll` of their states.

        Takes, by slot, inputs [time, features], or symbols [time]; returns, by slot, outputs [time, ...], as NumPy
        arrays. Raises as `step` does.
        """
        self._check(xs)
        return self._feed(xs, last=False) if xs else {}

    def state(self, slot: int) -> bytes:
        """The state of a slot as a safetensors file, for `insert(state=...)` of any stream of the same layer."""
        self._check([slot])
        row = slots.read(self.layer, self._dtype, self.params, self._state, np.int32(slot), self._fresh[slot])
        return slots.to_bytes(row)

    def evict(self, slot: int) -> bytes:
        """Frees a slot and gives its state."""
        data = self.state(slot)
        self.remove(slot)
        return data

    def remove(self, slot: int) -> None:
        """Frees a slot."""
        self._check([slot])
        self._taken = _marked(self._taken, [slot], False)

    def reset(self, slot: int) -> None:
        """Begins a new sequence in a slot that is taken: its state is the initial one."""
        self._check([slot])
        self._fresh = _marked(self._fresh, [slot], True)

    def _check(self, slots: Any) -> None:
        for slot in slots:
            if not (isinstance(slot, int | np.integer) and 0 <= slot < self.slots and self._taken[slot]):
                raise ValueError(f"slot {slot!r} holds no sequence; those that do are {self.taken}: call insert")

    def _step(self, xs: Any, fed: np.ndarray) -> Any:
        self._state, ys = slots.step(self.layer, self._dtype, self.params, self._state, xs, fed, self._fresh)
        self._fresh = self._fresh & ~fed
        return ys

    def _feed(self, xs: Mapping[int, Any], last: bool) -> dict[int, Any]:
        steps = [jax.tree.map(np.asarray, x) for x in xs.values()]
        lengths = [slots.length(x) for x in steps]
        slots.check(self.layer, steps)
        time, width = (1 << (number - 1).bit_length() for number in (max(1, *lengths), len(xs)))
        padding = width - len(xs)
        rows = np.array([*xs, *padding * [self.slots]], np.int32)  # the padding is of no slot
        fresh = np.append(self._fresh, False)[rows]
        padded = slots.side_by_side(steps, range(len(xs)), (time, width))
        how = (self.layer, self._dtype, last, self.params, self._state)
        self._state, ys = slots.feed(*how, rows, fresh, padded, np.array([*lengths, *padding * [0]], np.int32))
        self._fresh = _marked(self._fresh, [*xs], False)  # the initial state has been written in its place
        ys = jax.tree.map(np.asarray, ys)
        own = (lambda y, n: y[n]) if last else (lambda y, n: y[: lengths[n], n])
        return {slot: jax.tree.map(lambda y, n=n: own(y, n), ys) for n, slot in enumerate(xs)}


def _marked(flags: np.ndarray, slots: list[int], value: bool) -> np.ndarray:
    flags = flags.copy()
    flags[slots] = value
    return flags
