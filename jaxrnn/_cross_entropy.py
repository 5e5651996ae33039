"""`cross_entropy`: the softmax cross-entropy of a `Dense` layer's outputs, computed together with the layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jax.sharding import PartitionSpec

from jaxrnn._check import described
from jaxrnn._diagnosis import as_arrays
from jaxrnn.ops import align, is_symbols, joint_dtype, spread_like

# The largest number of outputs in a block. On a CPU, a block stays in the cache from one operation to the next.
ON_CPU, ELSEWHERE = 3 * 2**20, 2**26
FEWEST_ROWS = 128  # of a block, if there are as many, because products of few rows are slow


def cross_entropy(params: Any, xs: Any, labels: Any, weights: Any = None) -> Array:
    r"""Computes the cross-entropy of the softmax of a `Dense` layer's outputs, without storing them all.

    .. math::
        y_i &= W x_i + b \\
        L &= \sum_i \omega_i \left(\log \sum_v \exp y_{iv} - y_{i l_i}\right)

    :math:`x_i` are the inputs of the dense layer, such as the outputs of recurrent layers at all steps of all
    sequences, and :math:`l_i` are their labels, such as the next words. By default, each weight :math:`\omega_i` is 1
    divided by the number of labels, so that :math:`L` is the mean loss in nats.

    The result is the same as that of the layer followed by a softmax cross-entropy, but for a large vocabulary it takes
    less time and memory: the outputs are computed for a block of steps at a time, together with their part of the
    gradient.

    Example:
      >>> model = jaxrnn.Stack(jaxrnn.Embedding(16), jaxrnn.LSTM(16), jaxrnn.Dense(1000))
      >>> params = model.init(jax.random.key(0), input_size=1000)
      >>> words = jnp.zeros((36, 20), int)  # [time + 1, batch]
      >>> layers = jaxrnn.Stack(*model.layers[:-1])  # all layers but the dense one
      >>> def loss(params):
      ...     state, hs = jaxrnn.unroll(layers, params[:-1], words[:-1])
      ...     return jaxrnn.cross_entropy(params[-1], hs, words[1:])
      >>> value, grads = jax.value_and_grad(loss)(params)
      >>> value.shape, grads[-1].w.shape
      ((), (16, 1000))

      For sequences of different lengths, the weights are zero in the padding:

      >>> hs, lengths = jnp.ones((35, 20, 16)), jnp.arange(20) + 1
      >>> valid = jnp.arange(35)[:, None] < lengths
      >>> mean = jaxrnn.cross_entropy(params[-1], hs, words[1:], valid / lengths.sum())

    Args:
      params: Parameters of the `Dense` layer: `w` [input, size] and `b` [size].
      xs: Its inputs [*batch, input], with any number of batch axes. The first axis is divided into blocks.
      labels: Integers [*batch] from 0 to size - 1. A label out of range makes the loss NaN.
      weights: Numbers or booleans [*batch]. Where a weight is zero, its input and label have no effect, even NaN or out
        of range, and the derivative with respect to the weight is zero, too. None means the mean over all labels.

    Returns:
      The loss, a scalar of the joint dtype of inputs and parameters, but at least float32.

    Raises:
      TypeError: `params` has no fields `w` and `b`, `xs` is not floating-point, or `labels` are not integers.
      ValueError: The shapes do not match.
    """
    if not (hasattr(params, "w") and hasattr(params, "b")):
        raise TypeError(f"params must be those of a Dense layer, with fields w and b, but they are {described(params)}")
    w, b = as_arrays("params", (params.w, params.b))
    xs, labels = as_arrays("xs", xs), as_arrays("labels", labels)
    if w.ndim != 2 or b.shape != w.shape[1:]:
        raise ValueError(f"params must have w [input, size] and b [size], but their shapes are {w.shape} and {b.shape}")
    if not is_symbols(labels):
        raise TypeError(f"labels must be integers, but their dtype is {labels.dtype}")
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(f"xs must be real numbers, the inputs of the dense layer, but their dtype is {xs.dtype}")
    if xs.shape[-1:] != w.shape[:1]:
        raise ValueError(f"xs must have the shape [*batch, {w.shape[0]}], for these parameters, but it is {xs.shape}")
    if labels.shape != xs.shape[:-1]:
        raise ValueError(f"labels must have the shape {xs.shape[:-1]}, the batch axes of xs, but it is {labels.shape}")
    dtype = jnp.promote_types(joint_dtype((w, b, xs)), jnp.float32)
    weights = jnp.ones(labels.shape, dtype) / labels.size if weights is None else as_arrays("weights", weights)
    if jnp.iscomplexobj(weights):
        raise TypeError(f"weights must be real numbers or booleans, but their dtype is {weights.dtype}")
    weights = weights.astype(dtype)
    if weights.shape != labels.shape:
        raise ValueError(f"weights must have the shape {labels.shape}, that of labels, but it is {weights.shape}")

    def run(w: Array, b: Array, xs: Array, labels: Array, weights: Array) -> Array:
        labels, counts = labels.astype(int), weights != 0
        out_of_range = (labels < 0) | (labels >= w.shape[1])
        weights = jnp.where(counts & out_of_range, jnp.nan, weights)
        xs, labels = jnp.where(counts[..., None], xs, 0), jnp.where(counts & ~out_of_range, labels, 0)
        if not labels.ndim:
            xs, labels, weights = xs[None], labels[None], weights[None]
        return _loss(w, b, xs, labels, weights)

    if any(jax.typeof(xs).sharding.spec):  # under a mesh with explicit axes, let the compiler find the shardings
        run = cast("Any", jax.sharding.auto_axes)(run, out_sharding=PartitionSpec())
    return run(*spread_like((w, b, xs), (w, b, xs, labels, weights)))


@jax.custom_jvp
def _loss(w: Array, b: Array, xs: Array, labels: Array, weights: Array) -> Array:
    def block(xs: Array, labels: Array, weights: Array) -> tuple[Array, tuple[()]]:
        losses, _, _ = _softmax(w, b, xs, labels)
        return (weights * losses).sum(), ()

    return _in_blocks(block, w, (xs, labels, weights))[0]


def _derivative(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    """Returns the loss and its tangent. Each block's part of the gradient is computed while its outputs are in memory.

    The tangent is the sum of the products of gradient and tangents, so that its transpose only scales the gradient.
    """
    w, b, xs, labels, weights = primals

    def block(xs: Array, labels: Array, weights: Array) -> tuple[Any, Any]:
        losses, exps, sums = _softmax(w, b, xs, labels)
        scale = weights[..., None]
        ct = exps * (scale / sums)
        ct = jnp.where(_is_label(labels, w.shape[1]), ct - scale, ct).astype(jnp.result_type(w, xs))
        rows, last = tuple(range(labels.ndim)), (labels.ndim,)
        ct_w = _dot(xs.astype(ct.dtype), ct, rows, rows)  # XLA would copy `ct` if it were first
        ct_xs = _dot(ct, w.astype(ct.dtype), last, (1,)).astype(xs.dtype)
        total = (weights * losses).sum()
        return (total, ct_w, ct.sum(rows, dtype=losses.dtype)), (ct_xs, jnp.where(weights != 0, losses, 0))

    (total, ct_w, ct_b), (ct_xs, ct_weights) = _in_blocks(block, w, (xs, labels, weights))
    change = jnp.zeros_like(total)
    for ct, t in zip((ct_w, ct_b, ct_xs, None, ct_weights), tangents, strict=True):
        if ct is not None and not isinstance(t, SymbolicZero):
            change += (ct.astype(total.dtype) * t.astype(total.dtype)).sum()
    return total, change


_loss.defjvp(_derivative, symbolic_zeros=True)


def _softmax(w: Array, b: Array, xs: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Returns the losses [*batch], the exponentials [*batch, size], and their sums [*batch, 1]."""
    dtype = jnp.result_type(w, xs)
    products = _dot(xs.astype(dtype), w.astype(dtype), (xs.ndim - 1,), (0,))
    ys = products + align(b, products)
    highest = jax.lax.stop_gradient(ys.max(-1, keepdims=True))
    highest = jnp.where(jnp.isfinite(highest), highest, 0)
    exps = jnp.exp(ys - highest)
    sums = exps.sum(-1, keepdims=True)
    # Computed from the products, not from `ys`, so that the compiler need not store both.
    of_label = jnp.take_along_axis(products, labels[..., None], -1) + b[labels][..., None]
    return (highest + jnp.log(sums) - of_label)[..., 0], exps, sums


def _dot(a: Array, b: Array, a_axes: tuple[int, ...], b_axes: tuple[int, ...]) -> Array:
    """Contracts some axes of `a` with some axes of `b`, with a result of at least float32."""
    dtype = jnp.promote_types(a.dtype, jnp.float32)
    return jax.lax.dot_general(a, b, ((a_axes, b_axes), ((), ())), preferred_element_type=dtype)


def _is_label(labels: Array, size: int) -> Array:
    return labels[..., None] == jnp.arange(size).reshape(*(1,) * labels.ndim, size)


def _in_blocks(block: Callable[..., tuple[Any, Any]], w: Array, rows: tuple[Array, ...]) -> tuple[Any, Any]:
    """Runs `sums, ys = block(*rows)` on blocks along the first axis, adds the sums and concatenates the ys."""
    length = rows[0].shape[0]
    size = _block_size(w.shape[1], rows[1].shape)
    if size == length:
        return block(*rows)
    # One loop over equal blocks, so that all of them use the same memory. The weights of the padding are zero.
    number = -(-length // size)
    padded = [jnp.pad(x, ((0, number * size - length), *((0, 0),) * (x.ndim - 1))) for x in rows]
    blocks = [x.reshape(number, size, *x.shape[1:]) for x in padded]

    def add(total: Any, rows: list[Array]) -> tuple[Any, Any]:
        sums, ys = block(*rows)
        return jax.tree.map(jnp.add, total, sums), ys

    shapes, _ = jax.eval_shape(block, *(x[0] for x in blocks))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    sums, ys = jax.lax.scan(add, spread_like((w, rows), zeros), blocks)
    return sums, jax.tree.map(lambda y: y.reshape(number * size, *y.shape[2:])[:length], ys)


def _block_size(size: int, shape: tuple[int, ...]) -> int:
    """Chooses the number of steps in one block, given the number of outputs and the shape [time, *batch]."""
    if not all(isinstance(n, int) for n in (size, *shape)) or 0 in (size, *shape):
        return shape[0]  # sizes are symbolic under `jax.export`
    most = ON_CPU if jax.default_backend() == "cpu" else ELSEWHERE
    largest = max(most // size, FEWEST_ROWS) // math.prod(shape[1:]) or 1
    number = -(-shape[0] // largest)
    return -(-shape[0] // number)  # blocks of about equal size need little padding
