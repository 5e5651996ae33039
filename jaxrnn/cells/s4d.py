"""Diagonal structured state space model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn import _check as check
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import align, as_features, complex_dtype, joint_dtype, spread_like, to_complex


class S4DParams(NamedTuple):
    a_re: Array  # [input, state], logarithms of the negative real parts of A
    a_im: Array  # [input, state], imaginary parts of A
    log_delta: Array  # [input], logarithms of Delta
    w_x: Array  # [input, 2 * state], B: real parts, then imaginary parts
    w_s: Array  # [input, 2 * state], C: real parts, then imaginary parts
    w_d: Array  # [input], D


class S4DState(NamedTuple):
    s: Array  # complex [*batch, input, state]


def s4d_lin(n: Array) -> Array:
    r"""Returns the imaginary parts of S4D-Lin, :math:`\pi n`, for all n from 0.

    Example:
      >>> (jaxrnn.cells.s4d.s4d_lin(jnp.arange(3.0)) / jnp.pi).tolist()
      [0.0, 1.0, 2.0]
    """
    return jnp.pi * n


def s4d_inv(n: Array) -> Array:
    r"""Returns the imaginary parts of S4D-Inv, :math:`\frac{N}{\pi} (\frac{N}{2 n + 1} - 1)`, for all n from 0.

    N is twice the number of values of n. They approximate the imaginary parts of the eigenvalues of HiPPO-LegS.

    Example:
      >>> jaxrnn.S4D(state_size=32, frequencies=jaxrnn.cells.s4d.s4d_inv)
      S4D(state_size=32, frequencies=s4d_inv, discretize=expm1, shortest=0.001, longest=0.1)
    """
    whole = 2 * n.shape[-1]
    return whole / jnp.pi * (whole / (2 * n + 1) - 1)


def bilinear(x: Array) -> Array:
    r"""Returns :math:`\bar{A} - 1` of the bilinear discretization, with :math:`\bar{A} = (1 + x / 2) / (1 - x / 2)`.

    Example:
      >>> jaxrnn.cells.s4d.bilinear(jnp.array([0.0, -2.0])).tolist()  # A is 1 and 0
      [0.0, -1.0]
    """
    return x / (1 - x / 2)


@dataclass(frozen=True)
class S4D(LinearCell):
    r"""Diagonal structured state space model (S4D): a separate diagonal system in continuous time for each feature.

    The recurrence is linear, so all steps can run in parallel with `jaxrnn.loops.AssociativeScan`. `S5` has one system
    for all features instead, and `SelectiveSSM` has step sizes that depend on the input.

    .. math::
        A &= -e^{a_{re}} + i a_{im}, \quad \bar{A} = e^{\Delta A}, \quad \bar{B} = A^{-1} (\bar{A} - 1) B \\
        s_t &= \bar{A} \odot s_{t-1} + \bar{B} \odot u_t \\
        y_t &= 2 \, \mathrm{Re}(\sum_n C_n \odot s_{t, n}) + D \odot u_t

    where :math:`s_{t,n}` has one entry for each feature. The output is :math:`y_t`, which has the size of the input.
    The eigenvalues A come in conjugate pairs; the state has one of each pair, and the factor 2 counts it twice.
    This is the discretization for an input that is constant during a step; the bilinear one,
    :math:`\bar{A} = (1 + \Delta A / 2) / (1 - \Delta A / 2)`, has the same equation for :math:`\bar{B}`. Initially, all
    features have the same A, with the real part -1/2, and B is 1. Symbols become one-hot vectors; an `Embedding` before
    the cell is cheaper.

    Example:
      >>> cell = jaxrnn.S4D(state_size=32, frequencies=jaxrnn.cells.s4d.s4d_inv)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> xs = jnp.zeros((20, 4, 8))  # [time, batch, input]
      >>> state, ys = jaxrnn.unroll(cell, params, xs, loop=jaxrnn.loops.AssociativeScan())
      >>> ys.shape, state.s.shape
      ((20, 4, 8), (4, 8, 32))

    Args:
      state_size: Number of entries of :math:`s` for each feature, half the paper's N.
      frequencies: Function that returns the initial imaginary parts of A from the numbers :math:`n` = 0, 1, 2, ...:
        `jaxrnn.cells.s4d.s4d_lin`, `jaxrnn.cells.s4d.s4d_inv` or your own.
      discretize: Function that returns :math:`\bar{A} - 1` from :math:`\Delta A`: `jnp.expm1` or
        `jaxrnn.cells.s4d.bilinear`.
      shortest: Smallest initial value of :math:`\Delta`, which is drawn for each feature.
      longest: Largest initial value of :math:`\Delta`.

    References:
      A. Gu, A. Gupta, K. Goel, C. Re, "On the parameterization and initialization of diagonal state space models",
      2022.

    Deviations:
      The block around it (nonlinearity, mixing of the features) is not included.
    """

    state_size: int
    _: KW_ONLY
    frequencies: Callable[[Array], Array] = s4d_lin
    discretize: Callable[[Array], Array] = jnp.expm1
    shortest: float = 0.001
    longest: float = 0.1

    def __post_init__(self) -> None:
        check.positive(self, "state_size")
        check.function(self, "frequencies", "discretize")
        check.above(self, "shortest", 0)
        check.above(self, "longest", 0)
        if self.shortest > self.longest:
            raise ValueError(
                f"S4D's shortest must be at most its longest, {self.longest!r}, but it is {self.shortest!r}"
            )

    def init(self, key: Array, input_size: int) -> S4DParams:
        n = self.state_size
        k_delta, k_s, k_d = jax.random.split(key, 3)
        a_im = self.frequencies(jnp.arange(n, dtype=float))
        if jnp.shape(a_im) != (n,):
            raise ValueError(
                f"S4D's frequencies must return an array [{n}] for an array [{n}], "
                f"but it returns one of the shape {list(jnp.shape(a_im))}"
            )
        spread = jnp.log(jnp.array([self.shortest, self.longest]))
        return S4DParams(
            a_re=jnp.full((input_size, n), jnp.log(0.5)),
            a_im=jnp.broadcast_to(a_im, (input_size, n)),
            log_delta=jax.random.uniform(k_delta, (input_size,), minval=spread[0], maxval=spread[1]),
            w_x=jnp.concatenate([jnp.ones((input_size, n)), jnp.zeros((input_size, n))], axis=-1),
            w_s=jax.random.normal(k_s, (input_size, 2 * n)) / jnp.sqrt(2),
            w_d=jax.random.normal(k_d, (input_size,)),
        )

    def initial_state(self, params, batch_shape=(), dtype=None) -> S4DState:
        dtype = complex_dtype(joint_dtype(params) if dtype is None else dtype)
        return S4DState(spread_like(params, jnp.zeros((*batch_shape, *params.a_re.shape), dtype)))

    def project(self, params: S4DParams, x: Array, key: Keys = None) -> Array:
        return as_features(x, params.w_d.shape[0], params.w_d.dtype)

    def coefficients(self, params: S4DParams, z: Array) -> tuple[S4DState, S4DState]:
        a = to_complex(-jnp.exp(params.a_re), params.a_im)
        change = self.discretize(a * to_complex(jnp.exp(params.log_delta))[:, None])
        w_x = to_complex(*jnp.split(params.w_x, 2, axis=-1))
        u = to_complex(z)[..., None]
        b = align(change / a * w_x, u) * u
        return S4DState(s=jnp.broadcast_to(1 + change, b.shape)), S4DState(s=b)

    def readout(self, params: S4DParams, state: S4DState, z: Array) -> Array:
        w_re, w_im = align(tuple(jnp.split(params.w_s, 2, axis=-1)), state.s)
        return 2 * (w_re * state.s.real - w_im * state.s.imag).sum(-1) + align(params.w_d, z) * z
