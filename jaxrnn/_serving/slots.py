"""The compiled programs of `Stream`, whose states have a first axis of slots, and one slot's state as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._names import names
from jaxrnn._unroll import unroll
from jaxrnn.layer import Layer, Params, State
from jaxrnn.loops import Scan
from jaxrnn.ops import where


# The layer is a value: streams of equal layers share the compiled programs. The state is updated in place. `Scan`,
# because without gradients it is as fast as any loop and the soonest compiled.
@partial(jax.jit, static_argnames=("layer", "dtype"), donate_argnames="state")
def step(
    layer: Layer, dtype: Any, params: Params, state: State, xs: Any, fed: Array, fresh: Array
) -> tuple[State, Any]:
    """One step of the slots that are fed, of the initial state where a slot is fresh."""
    state = where(fed & fresh, layer.initial_state(params, fed.shape, dtype), state)
    xs = jax.tree.map(lambda x: jnp.asarray(x)[None], xs)
    state, ys = unroll(layer, params, xs, state, lengths=fed.astype(np.int32), loop=Scan())
    return state, jax.tree.map(lambda y: y[0], ys)


@partial(jax.jit, static_argnames=("layer", "dtype", "last"), donate_argnames="state")
def feed(
    layer: Layer,
    dtype: Any,
    last: bool,
    params: Params,
    state: State,
    rows: Array,
    fresh: Array,
    xs: Any,
    lengths: Array,
) -> tuple[State, Any]:
    """Several steps of the slots `rows`; with `last`, only the output at the last of each is put out."""
    own = jax.tree.map(lambda s: s.at[rows].get(mode="clip"), state)
    own = where(fresh, layer.initial_state(params, rows.shape, dtype), own)
    own, ys = unroll(layer, params, xs, own, lengths=lengths, loop=Scan())
    state = jax.tree.map(lambda s, o: s.at[rows].set(o, mode="drop"), state, own)
    if last:
        ys = jax.tree.map(lambda y: y[lengths - 1, jnp.arange(len(rows))], ys)
    return state, ys


@partial(jax.jit, donate_argnames="state")
def write(state: State, slot: Array, row: State) -> State:
    return jax.tree.map(lambda s, r: s.at[slot].set(r), state, row)


@partial(jax.jit, static_argnames=("layer", "dtype"))
def read(layer: Layer, dtype: Any, params: Params, state: State, slot: Array, fresh: Array) -> State:
    return where(fresh, layer.initial_state(params, (), dtype), jax.tree.map(lambda s: s[slot], state))


def length(xs: Any) -> int:
    """The number of steps of inputs [time, ...]; 0 of nothing."""
    shapes = {np.shape(x)[:1] for x in jax.tree.leaves(xs)}
    if len(shapes) > 1 or () in shapes:
        raise ValueError(f"the steps of a sequence must be arrays [time, ...] of one length, but they are {xs!r}")
    return max(shapes)[0] if shapes else 0


def check(layer: Layer, steps: Sequence[Any]) -> None:
    """That all inputs [time or slots, ...] are of one structure, and of one kind and shape but for the first axis."""
    told = [[f"{x.dtype} [{', '.join(map(str, x.shape[1:]))}]" for x in jax.tree.leaves(xs)] for xs in steps]
    kinds = [[(jnp.issubdtype(x.dtype, np.integer), x.shape[1:]) for x in jax.tree.leaves(xs)] for xs in steps]
    axes = layer.num_feature_axes
    if any(len(shape) != (0 if symbols else axes) for kind in kinds for symbols, shape in kind):
        raise ValueError(f"each step must have {axes} axes of features, or be an integer symbol, but they are {told}")
    structures = [jax.tree.structure(xs) for xs in steps]
    if any(kind != kinds[0] for kind in kinds) or any(structure != structures[0] for structure in structures):
        raise ValueError(f"all slots must be fed alike, with arrays of one kind and shape, but the steps are {told}")


def side_by_side(steps: Sequence[Any], columns: Sequence[int], shape: tuple[int, int]) -> Any:
    """Inputs [time, ...] of several sequences as arrays [*shape, ...], each in its column, with zeros around them."""

    def fill(*xs: np.ndarray) -> np.ndarray:
        filled = np.zeros((*shape, *xs[0].shape[1:]), np.result_type(*xs))
        for x, column in zip(xs, columns, strict=True):
            filled[: len(x), column] = x
        return filled

    return jax.tree.map(fill, *steps)


def to_bytes(state: State) -> bytes:
    """One sequence's state as a safetensors file, under the names of its leaves; complex numbers are pairs."""
    return _safetensors().numpy.save(_stored(state))


def from_bytes(data: bytes, like: State) -> State:
    """The state that `to_bytes` made `data` of; it must have the names, shapes and dtypes of `like`."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"a state must be bytes, as state and evict give them, but it is {data!r}")
    safetensors = _safetensors()
    try:
        given = dict(safetensors.deserialize(bytes(data)))
    except safetensors.SafetensorError as error:
        raise ValueError(f"the bytes must be what state or evict gave, but they are damaged: {error}") from None
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), like)
    wanted = dict(safetensors.deserialize(to_bytes(zeros)))
    described = [{n: (e["dtype"], *e["shape"]) for n, e in sorted(entries.items())} for entries in (wanted, given)]
    if described[0] != described[1]:
        raise ValueError(f"the bytes must hold a state of this layer, {described[0]}, but they hold {described[1]}")
    return jax.tree_util.tree_map_with_path(
        lambda path, s: np.frombuffer(given["/".join(names(path))]["data"], s.dtype).reshape(s.shape), zeros
    )


def _stored(state: State) -> dict[str, np.ndarray]:
    stored = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = np.asarray(leaf, order="C")
        stored["/".join(names(path))] = (
            array[..., None].view(jnp.finfo(array.dtype).dtype) if array.dtype.kind == "c" else array
        )
    return stored


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("a stream's states need the package safetensors: pip install 'jaxrnn[save]'") from None
    return safetensors
