"""Initial values of parameters, drawn for each gate separately.

An initializer is a function `(key, shape) -> array` of the default float dtype. Most initializers depend on the shape,
so the initial value of one matrix is wrong for the concatenation of several. `gates` draws one matrix per gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

__all__ = [
    "Chrono",
    "Initializer",
    "delta_orthogonal",
    "gate_biases",
    "gates",
    "glorot_uniform",
    "identity",
    "orthogonal",
    "uniform",
]


def __dir__() -> list[str]:
    return __all__


Initializer = Callable[[Array, tuple[int, ...]], Array]


glorot_uniform: Initializer = jax.nn.initializers.glorot_uniform()


def _one_by_one(initializer: Callable[..., Array], key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Applies an initializer that decomposes matrices, under `jax.vmap` to one key at a time.

    With JAX 0.10 on a CPU, XLA divides the matrices of a batch among its threads, and several batches in one program
    can wait for each other forever: `jax.jit(jax.vmap(stack.init))` did not return.
    """
    return jax.custom_batching.sequential_vmap(lambda key: initializer(key, shape, dtype))(key)


def orthogonal(key: Array, shape: tuple[int, ...], dtype: Any = float) -> Array:
    """Draws a matrix whose columns, or rows if it has more columns, are orthonormal: `jax.nn.initializers.orthogonal`.

    Example:
      >>> w = jaxrnn.initializers.orthogonal(jax.random.key(0), (3, 3))
      >>> bool(jnp.allclose(w @ w.T, jnp.eye(3), atol=1e-6))
      True

    Args:
      key: A random key.
      shape: Shape of the array. The axes before the last one count as one.
      dtype: A float dtype.

    Returns:
      An array of the given shape.

    Raises:
      ValueError: The shape has fewer than two axes.
    """
    return _one_by_one(jax.nn.initializers.orthogonal(), key, shape, dtype)


def delta_orthogonal(key: Array, shape: tuple[int, ...], dtype: Any = float) -> Array:
    """Draws the kernel of a convolution: an orthogonal matrix in the middle, and zeros around it.

    Such a convolution keeps the norm of every image (L. Xiao et al., 2018). A kernel that is orthogonal as one large
    matrix does not. It is `jax.nn.initializers.delta_orthogonal`.

    Example:
      >>> kernel = jaxrnn.initializers.delta_orthogonal(jax.random.key(0), (3, 3, 2, 4))
      >>> kernel.shape, bool((kernel[0] == 0).all())
      ((3, 3, 2, 4), True)

    Args:
      key: A random key.
      shape: Shape of the kernel, [*kernel, input, output], with one to three axes of the kernel.
      dtype: A float dtype.

    Returns:
      An array of the given shape.

    Raises:
      ValueError: The shape has fewer than three or more than five axes, or there are fewer outputs than inputs.
    """
    return _one_by_one(jax.nn.initializers.delta_orthogonal(), key, shape, dtype)


def uniform(bound: float) -> Initializer:
    """Returns an initializer that draws from the uniform distribution on [-bound, bound).

    With `bound = 1 / sqrt(hidden_size)`, it is the initializer of all parameters in PyTorch's recurrent modules.

    Example:
      >>> w = jaxrnn.initializers.uniform(0.1)(jax.random.key(0), (3, 4))
      >>> w.shape, bool((abs(w) <= 0.1).all())
      ((3, 4), True)

    Args:
      bound: A finite number of at least 0.

    Returns:
      An initializer.

    Raises:
      TypeError: The bound is not a number.
      ValueError: The bound is negative or not finite.
    """
    what = "a finite number of at least 0"
    if not 0 <= _number("bound", bound, what) < math.inf:
        raise ValueError(f"bound must be {what}, but it is {bound!r}")
    return lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def identity(scale: float = 1.0) -> Initializer:
    """Returns an initializer of matrices that are the identity times `scale`.

    As the recurrent matrix of a network with rectified units, the identity keeps the state.

    Example:
      >>> jaxrnn.initializers.identity(0.5)(jax.random.key(0), (2, 2)).tolist()
      [[0.5, 0.0], [0.0, 0.5]]

    Args:
      scale: A finite number.

    Returns:
      An initializer of matrices [rows, columns].

    Raises:
      TypeError: The scale is not a number.
      ValueError: The scale is not finite, or the shape given to the initializer is not that of a matrix.
    """
    if not math.isfinite(_number("scale", scale, "a finite number")):
        raise ValueError(f"scale must be a finite number, but it is {scale!r}")

    def initializer(key: Array, shape: tuple[int, ...]) -> Array:
        if len(shape) != 2:
            raise ValueError(f"identity needs the shape of a matrix, [rows, columns], but it is {shape}")
        return scale * jnp.eye(*shape)

    return initializer


def gates(initializer: Initializer, key: Array, shape: tuple[int, ...], number: int) -> Array:
    """Draws one array per gate, independently, and concatenates them on the last axis.

    Example:
      >>> orthogonal = jaxrnn.initializers.orthogonal
      >>> jaxrnn.initializers.gates(orthogonal, jax.random.key(0), (64, 64), 4).shape
      (64, 256)

    Args:
      initializer: A function `(key, shape) -> array`.
      key: A random key.
      shape: Shape of one gate's array.
      number: Number of gates.

    Returns:
      An array [..., number * shape[-1]].

    Raises:
      TypeError: `initializer` is not a function, or `number` is not an integer.
      ValueError: `number` is not positive.
    """
    if not callable(initializer):
        raise TypeError(f"initializer must be a function (key, shape) -> array, but it is {initializer!r}")
    if not isinstance(number, Integral) or isinstance(number, bool):
        raise TypeError(f"number must be a positive integer, but it is {number!r}")
    if number < 1:
        raise ValueError(f"number must be a positive integer, but it is {number!r}")
    return jnp.concatenate([initializer(k, shape) for k in jax.random.split(key, number)], axis=-1)


@dataclass(frozen=True)
class Chrono:
    r"""The chrono initializer: biases of gates for a memory of up to `longest` steps.

    .. math:: b_f \sim \log(\mathcal{U}(1, T_{max} - 1)), \quad b_i = -b_f

    Initially, the gate that keeps the state then forgets over times that are spread between 1 and `longest` steps.

    Example:
      >>> cell = jaxrnn.LSTM(64, forget_bias=jaxrnn.Chrono(100))
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> b_i, b_f, b_g, b_o = jnp.split(params.b, 4)
      >>> bool((b_f >= 0).all()), bool((b_i == -b_f).all())
      (True, True)

    Args:
      longest: The longest dependency expected, in steps; above 2.

    References:
      C. Tallec, Y. Ollivier, "Can recurrent neural networks warp time?", 2018.
    """

    longest: float

    def __post_init__(self) -> None:
        what = "a finite number above 2"
        if not 2 < _number("Chrono's longest", self.longest, what) < math.inf:
            raise ValueError(f"Chrono's longest must be {what}, but it is {self.longest!r}")

    def __call__(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Draws biases of the gate that keeps the state."""
        return jnp.log(jax.random.uniform(key, shape, minval=1.0, maxval=self.longest - 1.0))


def gate_biases(key: Array, bias: float | Chrono, size: int) -> tuple[Array, Array]:
    """Returns initial biases of the gate that keeps the state and of the gate that writes to it.

    Example:
      >>> b_f, b_i = jaxrnn.initializers.gate_biases(jax.random.key(0), 1.0, 2)
      >>> b_f.tolist(), b_i.tolist()
      ([1.0, 1.0], [0.0, 0.0])

    Args:
      key: A random key, used by `Chrono` only.
      bias: A `Chrono`, or a number, which is the bias of the keeping gate; the bias of the writing gate is then zero.
      size: Number of units.

    Returns:
      Two arrays [size].

    Raises:
      TypeError: The bias is neither a number nor a `Chrono`.
      ValueError: The bias is not finite.
    """
    if isinstance(bias, Chrono):
        keep = bias(key, (size,))
        return keep, -keep
    what = "a finite number or Chrono(longest)"
    if not math.isfinite(_number("bias", bias, what)):
        raise ValueError(f"bias must be {what}, but it is {bias!r}")
    return jnp.full((size,), float(bias)), jnp.zeros((size,))


def _number(name: str, value: Any, what: str) -> float:
    """Returns a value if it is a real number, of Python or of NumPy, and not a boolean."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be {what}, but it is {value!r}")
    return value  # type: ignore[return-value]
