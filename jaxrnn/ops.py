"""Operations shared by cells and layers. All of them treat leading axes as batch axes."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import sigmoid
from jax.numpy import tanh

__all__ = [
    "affine",
    "align",
    "as_features",
    "as_joint_dtype",
    "at_last",
    "complex_dtype",
    "convolution",
    "dropout_mask",
    "hold",
    "in_groups",
    "is_symbols",
    "joint_dtype",
    "mod_relu",
    "normalized",
    "num_features",
    "side_by_side",
    "sigmoid",
    "spread_like",
    "tanh",
    "to_complex",
    "where",
    "zeros",
]


def __dir__() -> list[str]:
    return __all__


def is_symbols(x: Any) -> bool:
    """Returns whether an input consists of symbols, that is, integers that represent their one-hot vectors.

    Example:
      >>> jaxrnn.ops.is_symbols(jnp.array([3, 1]))
      True
    """
    return jnp.issubdtype(jnp.result_type(x), jnp.integer)


def affine(x: Array, w: Array, b: Array | None = None) -> Array:
    """Computes `x @ w + b`.

    Integers `x` give the same result as their one-hot vectors, at the cost of a row lookup. A symbol out of
    range gives NaN, never its neighbor's row.

    Example:
      >>> w = jnp.array([[1.0, 2.0], [3.0, 4.0]])
      >>> jaxrnn.ops.affine(jnp.array([1]), w).tolist()
      [[3.0, 4.0]]

    Args:
      x: Input [*batch, input], or integers [*batch].
      w: Weights [input, output].
      b: Bias [output].

    Returns:
      An array [*batch, output], of the dtype that the operands promote to.

    Raises:
      ValueError: The last axis of `x` does not match the first axis of `w`.
    """
    if is_symbols(x):
        y = w.at[x].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    elif x.shape[-1:] == w.shape[:1]:
        y = x @ w
    else:
        raise ValueError(
            f"the last axis of the input must have the input size of the parameters, {w.shape[0]}, "
            f"but the input's shape ends in {x.shape[-1:]}: call init with the size of your input"
        )
    return y if b is None else y + align(b, y)


def align(params: Any, x: Array) -> Any:
    """Gives parameters as many axes as `x` [*batch, features] has, with axes of size 1 in front. Scalars stay scalars.

    Arithmetic with `x` does this by itself, unless `jax_numpy_rank_promotion` forbids it.

    Example:
      >>> gain, b = jaxrnn.ops.align((jnp.ones(3), jnp.zeros(3)), jnp.ones((5, 2, 3)))
      >>> gain.shape
      (1, 1, 3)

    Args:
      params: A pytree of arrays without batch axes.
      x: The array with which they will be added or multiplied.
    """
    return jax.tree.map(lambda w: jax.lax.broadcast_to_rank(w, x.ndim) if jnp.ndim(w) else w, params)


def as_features(x: Array, size: int, dtype: Any) -> Array:
    """Returns an input as features: symbols become one-hot vectors, and all other inputs are returned unchanged.

    A cell that multiplies its input only by matrices uses `affine`, which does not need the vectors. This function is
    for cells that also use the input itself.

    Example:
      >>> jaxrnn.ops.as_features(jnp.array([2, 0]), 3, jnp.float32).tolist()
      [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
      >>> jaxrnn.ops.as_features(jnp.array([0.5, 2.0]), 2, jnp.float32).tolist()
      [0.5, 2.0]

    Args:
      x: Input [*batch, size], or integers [*batch].
      size: Number of different symbols.
      dtype: Dtype of the one-hot vectors, usually that of a parameter.

    Returns:
      An array [*batch, size]. The vector of a symbol out of range is NaN.
    """
    if not is_symbols(x):
        return x
    x = x[..., None].astype(int)  # so wide that `size` does not wrap around
    return jnp.where((x >= 0) & (x < size), x == jnp.arange(size), jnp.nan).astype(dtype)


def convolution(x: Array, w: Array, b: Array | None = None) -> Array:
    """Convolves images with a kernel, in 1, 2 or 3 dimensions.

    The output has the extent of the input, which is padded with zeros. For a kernel of even extent, the end is padded
    by one more than the beginning. As usual in deep learning, the kernel is not flipped.

    Example:
      >>> x, w = jnp.ones((2, 28, 28, 3)), jnp.ones((5, 5, 3, 8))
      >>> jaxrnn.ops.convolution(x, w).shape
      (2, 28, 28, 8)

    Args:
      x: Images [*batch, *shape, input].
      w: Kernel [*kernel, input, output].
      b: Bias [output].

    Returns:
      An array [*batch, *shape, output], of the dtype that the operands promote to.
    """
    dimensions = w.ndim - 2
    batch_shape, image_shape = x.shape[: x.ndim - dimensions - 1], x.shape[x.ndim - dimensions - 1 :]
    axes = "DHW"[-dimensions:]
    dtype = jnp.result_type(x, w)
    y = jax.lax.conv_general_dilated(
        x.reshape(math.prod(batch_shape), *image_shape).astype(dtype),  # all leading axes are batch axes
        w.astype(dtype),
        window_strides=(1,) * dimensions,
        padding="SAME",
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
    )
    y = y.reshape(*batch_shape, *y.shape[1:])
    return y if b is None else y + align(b, y)


def num_features(input_size: Any) -> int:
    """Returns the last axis of an input size.

    Example:
      >>> jaxrnn.ops.num_features(8), jaxrnn.ops.num_features((28, 28, 3))
      (8, 3)
    """
    return input_size[-1] if isinstance(input_size, tuple) else input_size


def normalized(x: Array, epsilon: float) -> Array:
    """Subtracts the mean over the last axis and divides by the standard deviation.

    Example:
      >>> jaxrnn.ops.normalized(jnp.array([1.0, 3.0]), epsilon=0.0).tolist()
      [-1.0, 1.0]

    Args:
      x: An array [*batch, features].
      epsilon: Added to the variance.
    """
    centered = x - x.mean(-1, keepdims=True)
    squares = (centered * centered.conj()).real if jnp.iscomplexobj(x) else centered**2
    return centered * jax.lax.rsqrt(squares.mean(-1, keepdims=True) + epsilon)


def in_groups(x: Array, number: int) -> Array:
    """Splits the last axis into groups of equal size, such as the heads of a cell.

    Example:
      >>> jaxrnn.ops.in_groups(jnp.zeros((2, 12)), 3).shape
      (2, 3, 4)

    Args:
      x: An array [*batch, number * size].
      number: Number of groups.

    Returns:
      An array [*batch, number, size].
    """
    return x.reshape(*x.shape[:-1], number, x.shape[-1] // number)  # -1 would be undetermined for an empty batch


def side_by_side(x: Array) -> Array:
    """Joins the last two axes; the inverse of `in_groups`.

    Example:
      >>> jaxrnn.ops.side_by_side(jnp.zeros((2, 3, 4))).shape
      (2, 12)

    Args:
      x: An array [*batch, number, size].

    Returns:
      An array [*batch, number * size].
    """
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def mod_relu(x: Array, b: Array) -> Array:
    """Computes `relu(|x| + b) * x / |x|`, which rectifies the modulus and keeps the phase; zero stays zero.

    Example:
      >>> jaxrnn.ops.mod_relu(jnp.array([3.0, -0.5]), jnp.array([-1.0, -1.0])).tolist()
      [2.0, -0.0]

    Args:
      x: Real or complex numbers [*batch, features].
      b: Bias [features].
    """
    modulus = jnp.abs(x)
    scale = jax.nn.relu(modulus + align(b, x)) / jnp.where(modulus > 0, modulus, 1)
    return x * (to_complex(scale) if jnp.iscomplexobj(x) else scale)


def complex_dtype(dtype: Any) -> Any:
    """Returns the complex dtype whose parts have the given real dtype, but at least float32.

    Example:
      >>> jaxrnn.ops.complex_dtype(jnp.bfloat16)
      dtype('complex64')
    """
    return np.promote_types(jnp.promote_types(jnp.finfo(dtype).dtype, jnp.float32), np.complex64)


def to_complex(real: Array, imaginary: Array | None = None) -> Array:
    """Makes complex numbers from their parts, which are cast to at least float32.

    Example:
      >>> jaxrnn.ops.to_complex(jnp.ones(2), jnp.array([0.0, 2.0])).tolist()
      [(1+0j), (1+2j)]

    Args:
      real: The real parts.
      imaginary: The imaginary parts, an array like `real`; None means zero.

    Raises:
      TypeError: A part is complex.
    """
    for part in (real, imaginary):
        if part is not None and jnp.iscomplexobj(part):
            raise TypeError(f"the real and imaginary parts of complex numbers must be real, but one is {part.dtype}")
    dtype = jnp.finfo(complex_dtype(real.dtype)).dtype
    parts = (real, jnp.zeros_like(real) if imaginary is None else imaginary)
    return jax.lax.complex(*(part.astype(dtype) for part in parts))


def zeros(params: Any, batch_shape: tuple[int, ...], dtype: Any, *sizes: int) -> list[Array]:
    """Returns one array of zeros [*batch, size] for each size.

    Example:
      >>> h, c = jaxrnn.ops.zeros({"w": jnp.ones(3)}, (2,), None, 4, 5)
      >>> h.shape, c.shape, h.dtype
      ((2, 4), (2, 5), dtype('float32'))

    Args:
      params: Parameters, whose joint dtype is the default dtype.
      batch_shape: Shape of the batch.
      dtype: Dtype of the arrays, or None for that of the parameters.
      *sizes: Number of features of each array.
    """
    dtype = joint_dtype(params) if dtype is None else dtype
    return [spread_like(params, jnp.zeros((*batch_shape, size), dtype)) for size in sizes]


def joint_dtype(tree: Any) -> Any:
    """Returns the dtype that the real and complex leaves of a pytree promote to.

    Without such leaves it is the default float dtype.

    Example:
      >>> jaxrnn.ops.joint_dtype((jnp.ones(2, jnp.bfloat16), jnp.ones(2, jnp.float32), jnp.arange(3)))
      dtype('float32')
    """
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return jnp.result_type(*leaves) if leaves else jnp.result_type(float)


def as_joint_dtype(ys: Any, tree: Any) -> Any:
    """Casts real outputs to the real part of the joint dtype of a pytree.

    Example:
      >>> jaxrnn.ops.as_joint_dtype(jnp.ones(2, jnp.float32), jnp.ones(2, jnp.bfloat16)).dtype
      dtype(bfloat16)
    """
    dtype = jnp.finfo(joint_dtype(tree)).dtype
    return jax.tree.map(lambda y: y.astype(dtype) if jnp.issubdtype(y.dtype, jnp.floating) else y, ys)


def spread_like(other: Any, tree: Any) -> Any:
    """Marks `tree` as varying over the mesh axes over which `other` varies inside `jax.shard_map`.

    A loop's carry must be marked from the start, and marked parameters receive the sum of all devices' gradients.
    Outside `jax.shard_map` this is the identity.

    Example:
      >>> jaxrnn.ops.spread_like(jnp.ones(2), jnp.zeros(3)).tolist()
      [0.0, 0.0, 0.0]
    """

    def axes_of(leaf: Any) -> frozenset[Any]:
        aval = leaf if hasattr(leaf, "manual_axis_type") else jax.typeof(leaf)
        return aval.manual_axis_type.varying

    axes = frozenset().union(*map(axes_of, jax.tree.leaves(other)))

    def spread(leaf: Array) -> Array:
        missing = axes - axes_of(leaf)
        return jax.lax.pcast(leaf, tuple(missing), to="varying") if missing else leaf

    return jax.tree.map(spread, tree) if axes else tree


def where(mask: Array, x: Any, y: Any) -> Any:
    """Applies `jnp.where` to pytrees; the mask covers the leading axes of their leaves.

    Example:
      >>> mask, x, y = jnp.array([True, False]), jnp.ones((2, 3)), jnp.zeros((2, 3))
      >>> jaxrnn.ops.where(mask, x, y).tolist()
      [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]

    Args:
      mask: Booleans [*batch].
      x: A pytree of arrays [*batch, ...], selected where the mask is True.
      y: A pytree of the same structure, whose leaves broadcast against those of `x`.

    Returns:
      A pytree with the dtypes of `x`.
    """

    def select(a: Array, b: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, align(b, a)).astype(a.dtype)

    return jax.tree.map(select, x, y)


def at_last(xs: Any, lengths: Any) -> Any:
    """Returns each sequence's entry at its last step, such as the last output of a layer.

    Example:
      >>> layer = jaxrnn.Stack(jaxrnn.Bidirectional(jaxrnn.GRU(4)), jaxrnn.LSTM(5))
      >>> params, lengths = layer.init(jax.random.key(0), input_size=3), jnp.array([7, 0])
      >>> state, ys = jaxrnn.unroll(layer, params, jnp.ones((7, 2, 3)), lengths=lengths)
      >>> jaxrnn.at_last(ys, lengths).shape
      (2, 5)
      >>> xs = jnp.arange(6.0).reshape(3, 2)  # [time, batch]
      >>> jaxrnn.at_last(xs, lengths=jnp.array([1, 0])).tolist()
      [0.0, 0.0]

    Args:
      xs: An array [time, *batch, ...], or a pytree of them, such as the states of all steps.
      lengths: Integers [*batch] from 0 to time. With a mask, `at_last(hold(xs, mask), lengths)` is the entry at the
        last present step, and `hold(xs, mask)[-1]` is that without lengths. Outputs are zero at missing steps.

    Returns:
      An array [*batch, ...] for each array of `xs`; zero for sequences of length 0.

    Raises:
      TypeError: `lengths` are not integers.
      ValueError: `lengths` do not have the batch shape.
    """
    lengths = jnp.asarray(lengths)
    if not is_symbols(lengths):
        raise TypeError(f"lengths must be integers, but their dtype is {lengths.dtype}")
    last = jnp.maximum(lengths, 1) - 1  # in this order, because `lengths` may be unsigned

    def take(x: Array) -> Array:
        x = jnp.asarray(x)
        _check_leading("lengths", lengths.shape, x.shape[1:], "[*batch]")
        if x.shape[0] == 0:
            return jnp.zeros(x.shape[1:], x.dtype)
        indices = last.reshape(1, *last.shape, *(1,) * (x.ndim - 1 - last.ndim))
        return where(lengths > 0, jnp.take_along_axis(x, indices, axis=0)[0], jnp.zeros((), x.dtype))

    return jax.tree.map(take, xs)


def hold(xs: Any, mask: Any, *, reverse: bool = False) -> Any:
    """Repeats each sequence's last present entry at the missing steps after it, such as the outputs of a masked run.

    Example:
      >>> ys = jnp.array([0.0, 7.0, 0.0, 0.0, 8.0])  # [time]
      >>> mask = jnp.array([False, True, False, False, True])
      >>> jaxrnn.hold(ys, mask).tolist()
      [0.0, 7.0, 7.0, 7.0, 8.0]

    Args:
      xs: An array [time, *batch, ...], or a pytree of them.
      mask: Booleans [time, *batch], True where a step is present.
      reverse: Whether the last step was read first, so that entries are repeated at the missing steps before them.

    Returns:
      A pytree like `xs`, with zeros where no present step came before. Entries at missing steps are never read.

    Raises:
      TypeError: `mask` does not hold booleans.
      ValueError: `mask` does not have the shape [time, *batch].
    """
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"mask must be booleans, but the dtype is {mask.dtype}")
    if mask.ndim == 0:
        raise ValueError("mask must have the shape [time, *batch], but it is a single boolean")
    step = jnp.arange(mask.shape[0]).reshape(-1, *(1,) * (mask.ndim - 1))
    nothing = mask.shape[0] if reverse else -1  # no step
    last = (jax.lax.cummin if reverse else jax.lax.cummax)(jnp.where(mask, step, nothing), axis=0, reverse=reverse)
    found = last != nothing

    def take(x: Array) -> Array:
        x = jnp.asarray(x)
        _check_leading("mask", mask.shape, x.shape, "[time, *batch]")
        indices = jnp.where(found, last, 0).reshape(*last.shape, *(1,) * (x.ndim - last.ndim))
        return where(found, jnp.take_along_axis(x, indices, axis=0), jnp.zeros((), x.dtype))

    return jax.tree.map(take, xs)


def _check_leading(name: str, shape: tuple[int, ...], of_array: tuple[int, ...], axes: str) -> None:
    if of_array[: len(shape)] != shape:
        raise ValueError(f"{name} must have the shape {axes}, the leading axes of {of_array}, but it is {shape}")


def dropout_mask(key: Array, rate: float, shape: tuple[int, ...]) -> Array:
    """Draws a boolean mask that is True (keep) with probability `1 - rate`.

    Example:
      >>> jaxrnn.ops.dropout_mask(jax.random.key(0), 0.5, (3, 4)).shape
      (3, 4)
    """
    return jax.random.bernoulli(key, 1.0 - rate, shape)
