"""Initial values: gate by gate, because a law for one matrix is not the law for its concatenation.

An initializer is a function `(key, shape) -> array` of the default float dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

Initializer = Callable[[Array, tuple[int, ...]], Array]

glorot_uniform: Initializer = jax.nn.initializers.glorot_uniform()
orthogonal: Initializer = jax.nn.initializers.orthogonal()
# Of kernels [*kernel, input, output]: an orthogonal matrix in the middle, zeros around it. The convolution keeps the
# norm of every image, which an orthogonal matrix of all positions does not (L. Xiao et al., 2018).
delta_orthogonal: Initializer = jax.nn.initializers.delta_orthogonal()


def uniform(bound: float) -> Initializer:
    """The uniform law on [-bound, bound). With bound = 1/sqrt(hidden) it is PyTorch's for all of an RNN."""
    return lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def identity(scale: float = 1.0) -> Initializer:
    """The identity times `scale`, under which states are kept: for the recurrent matrix of a rectified network."""
    return lambda key, shape: scale * jnp.eye(shape[0], shape[1])


def gates(initializer: Initializer, key: Array, shape: tuple[int, ...], number: int) -> Array:
    """One independent draw per gate, side by side on the last axis: [..., number * shape[-1]]."""
    return jnp.concatenate([initializer(k, shape) for k in jax.random.split(key, number)], axis=-1)


@dataclass(frozen=True)
class Chrono:
    r"""Biases for memory over up to `longest` steps: the chrono initializer.

    .. math:: b_f \sim \log(\mathcal{U}(1, T_{max} - 1)), \quad b_i = -b_f

    The gate that keeps the state then forgets over times spread between 1 and `longest` steps.

    Args:
      longest: the longest dependency expected, in steps; more than 2.

    References: C. Tallec, Y. Ollivier, "Can recurrent neural networks warp time?", 2018.
    """

    longest: float

    def __post_init__(self) -> None:
        if not self.longest > 2:
            raise ValueError(f"Chrono's longest dependency must be more than 2 steps, but it is {self.longest}")

    def __call__(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jnp.log(jax.random.uniform(key, shape, minval=1.0, maxval=self.longest - 1.0))


def gate_biases(key: Array, bias: float | Chrono, size: int) -> tuple[Array, Array]:
    """Biases [size] of the gate that keeps the state and of the gate that writes to it.

    A number is the keeping gate's bias, and the writing gate's is zero.
    """
    if isinstance(bias, Chrono):
        keep = bias(key, (size,))
        return keep, -keep
    if not math.isfinite(bias):
        raise ValueError(f"a gate's initial bias must be a finite number or Chrono(longest), but it is {bias}")
    return jnp.full((size,), float(bias)), jnp.zeros((size,))
