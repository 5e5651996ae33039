"""Simplified state space layer."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform
from jaxrnn.layer import Keys, LinearCell
from jaxrnn.ops import affine, align, complex_dtype, joint_dtype, spread_like, to_complex


class S5Params(NamedTuple):
    a_re: Array  # [state], real parts of Lambda
    a_im: Array  # [state], imaginary parts of Lambda
    log_delta: Array  # [state], logarithms of Delta
    w_x: Array  # [input, 2 * state], B: real parts, then imaginary parts
    w_s: Array  # [2 * state, output], C: real parts, then imaginary parts
    w_d: Array  # [input, output], D


class S5State(NamedTuple):
    s: Array  # complex [*batch, state]


class S5Input(NamedTuple):
    bu: Array  # [*batch, 2 * state]
    du: Array  # [*batch, output]


def hippo_n(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the eigenvalues [size] and eigenvectors [size, size] of the normal part of the HiPPO-LegS matrix."""
    root = np.sqrt(np.arange(size) + 0.5)
    skew = np.triu(np.outer(root, root), 1)
    skew = skew - skew.T
    phases, vectors = np.linalg.eigh(-1j * skew)
    return -0.5 + 1j * phases, vectors


@dataclass(frozen=True)
class S5(LinearCell):
    r"""Simplified state space layer (S5): one diagonal linear system with many inputs and outputs in continuous time.

    Each step holds its input constant for a time :math:`\Delta`. The recurrence is linear, so all steps can run in
    parallel with `jaxrnn.loops.AssociativeScan`. `LRU` is a diagonal system too, but directly in discrete time.

    .. math::
        \bar\Lambda &= e^{\Lambda \Delta}, \quad \bar B = \Lambda^{-1} (\bar\Lambda - I) B \\
        s_t &= \bar\Lambda s_{t-1} + \bar B u_t \\
        y_t &= 2 \, \mathrm{Re}(C s_t) + D u_t

    The output is :math:`y_t`. Initially, :math:`\Lambda` holds eigenvalues of the normal part of the HiPPO-LegS matrix
    (HiPPO-N), and B and C are real matrices, expressed in the basis of its eigenvectors. The eigenvalues come in
    conjugate pairs; the state has one of each pair, and the factor 2 counts it twice.

    Example:
      >>> cell = jaxrnn.S5(state_size=32, output_size=64)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> xs = jnp.zeros((20, 32, 8))  # [time, batch, input]
      >>> state, ys = jaxrnn.unroll(cell, params, xs, loop=jaxrnn.loops.AssociativeScan())
      >>> ys.shape, state.s.shape
      ((20, 32, 64), (32, 32))

    Args:
      state_size: Size of :math:`s`, half the paper's P.
      output_size: Size of :math:`y`.
      shortest: Smallest initial value of :math:`\Delta`, which is drawn for each entry of the state.
      longest: Largest initial value of :math:`\Delta`.

    References:
      J. Smith, A. Warrington, S. Linderman, "Simplified state space layers for sequence modeling", 2023.

    Deviations:
      There is one block of HiPPO-N. C begins as a real matrix, where the authors' code draws a complex one. D is a
      matrix, so that the sizes of input and output may differ. The nonlinearity after the layer is not included.
    """

    state_size: int
    output_size: int
    _: KW_ONLY
    shortest: float = 0.001
    longest: float = 0.1

    def __post_init__(self) -> None:
        check.positive(self, "state_size", "output_size")
        check.above(self, "shortest", 0)
        check.above(self, "longest", 0)
        if self.shortest > self.longest:
            raise ValueError(
                f"S5's shortest must be at most its longest, {self.longest!r}, but it is {self.shortest!r}"
            )

    def init(self, key: Array, input_size: int) -> S5Params:
        n = self.state_size
        k_x, k_s, k_d, k_delta = jax.random.split(key, 4)
        eigenvalues, vectors = hippo_n(2 * n)
        v_re = np.real(vectors[:, n:])
        v_im = np.imag(vectors[:, n:])
        b = jax.random.normal(k_x, (input_size, 2 * n)) / jnp.sqrt(input_size)
        c = jax.random.normal(k_s, (2 * n, self.output_size)) / jnp.sqrt(2 * n)
        return S5Params(
            a_re=jnp.asarray(np.real(eigenvalues[n:]), b.dtype),
            a_im=jnp.asarray(np.imag(eigenvalues[n:]), b.dtype),
            log_delta=jax.random.uniform(k_delta, (n,), minval=jnp.log(self.shortest), maxval=jnp.log(self.longest)),
            w_x=b @ jnp.asarray(np.concatenate([v_re, -v_im], axis=1), b.dtype),
            w_s=jnp.asarray(np.concatenate([v_re.T, v_im.T]), b.dtype) @ c,
            w_d=glorot_uniform(k_d, (input_size, self.output_size)),
        )

    def initial_state(self, params, batch_shape=(), dtype=None) -> S5State:
        dtype = complex_dtype(joint_dtype(params) if dtype is None else dtype)
        return S5State(spread_like(params, jnp.zeros((*batch_shape, self.state_size), dtype)))

    def project(self, params: S5Params, x: Array, key: Keys = None) -> S5Input:
        return S5Input(affine(x, params.w_x), affine(x, params.w_d))

    def coefficients(self, params: S5Params, z: S5Input) -> tuple[S5State, S5State]:
        eigenvalues = to_complex(params.a_re, params.a_im)
        phase = eigenvalues * to_complex(jnp.exp(params.log_delta))
        bu = to_complex(*jnp.split(z.bu, 2, axis=-1))
        b = align(jnp.expm1(phase) / eigenvalues, bu) * bu
        return S5State(s=jnp.broadcast_to(jnp.exp(phase), b.shape)), S5State(s=b)

    def readout(self, params: S5Params, state: S5State, z: S5Input) -> Array:
        w_re, w_im = jnp.split(params.w_s, 2)
        return 2 * (state.s.real @ w_re - state.s.imag @ w_im) + z.du
