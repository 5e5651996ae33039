"""Reservoir of an echo state network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from jaxrnn import _check as check
from jaxrnn.initializers import uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, tanh, zeros


class EchoStateParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    b: Array  # [hidden]


class EchoStateState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class EchoState(Cell):
    r"""Echo state network's reservoir: a vanilla network of leaky units with fixed random weights.

    Only a layer that reads its output, such as `Dense`, is trained. The parameters keep their initial values: they get
    no gradient, and an optimizer must not decay them.

    .. math:: h_t = (1 - a) h_{t-1} + a \tanh(W x_t + R h_{t-1} + b)

    The output is :math:`h_t`. :math:`R` is sparse: its non-zero entries are drawn uniformly, and then all are scaled to
    the spectral radius. :math:`W` and :math:`b` are uniform.

    Example:
      >>> cell = jaxrnn.EchoState(hidden_size=32, leak=0.5)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> xs = jax.random.normal(jax.random.key(1), (20, 4, 8))  # [time, batch, input]
      >>> gradient = jax.grad(lambda params: jaxrnn.unroll(cell, params, xs)[1].sum())(params)
      >>> float(jnp.abs(gradient.w_h).max())
      0.0

    Args:
      hidden_size: Size of :math:`h`.
      leak: :math:`a`, above 0 and at most 1. Units with a leak of 1 keep nothing of their previous state.
      spectral_radius: Largest absolute value of the eigenvalues of :math:`R`, at least 0; below 1 for most uses.
      connectivity: Expected share of the entries of :math:`R` that are not zero, from 0 to 1.
      input_scale: Bound of the entries of :math:`W` and :math:`b`, at least 0.
      activation: Elementwise function, in place of the tanh.

    References:
      H. Jaeger, "The echo state approach to analysing and training recurrent neural networks", 2001; H. Jaeger, M.
      Lukosevicius, D. Popovici, U. Siewert, "Optimization and applications of echo state networks with leaky-integrator
      neurons", 2007, for the leaky units.

    Deviations:
      Outputs are not fed back into the reservoir.
    """

    hidden_size: int
    _: KW_ONLY
    leak: float = 1.0
    spectral_radius: float = 0.9
    connectivity: float = 0.1
    input_scale: float = 1.0
    activation: Callable[[Array], Array] = tanh

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size")
        check.share(self, "leak")
        check.non_negative(self, "spectral_radius", "input_scale")
        check.between(self, "connectivity", 0, 1)
        check.function(self, "activation")

    def init(self, key: Array, input_size: int) -> EchoStateParams:
        n = self.hidden_size
        k_x, k_h, k_mask, k_b = jax.random.split(key, 4)
        w_h = jnp.where(jax.random.bernoulli(k_mask, self.connectivity, (n, n)), uniform(1.0)(k_h, (n, n)), 0)
        radius = _spectral_radius(w_h)
        w_h = w_h * jnp.where(radius > 0, self.spectral_radius / jnp.where(radius > 0, radius, 1), 1)
        law = uniform(self.input_scale)
        return EchoStateParams(law(k_x, (input_size, n)), w_h, law(k_b, (n,)))

    def initial_state(self, params, batch_shape=(), dtype=None) -> EchoStateState:
        return EchoStateState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: EchoStateParams, x: Array, key: Keys = None) -> Array:
        return affine(x, stop_gradient(params.w_x), stop_gradient(params.b))

    def step(self, params: EchoStateParams, state: EchoStateState, z: Array) -> EchoStateState:
        new = self.activation(z + state.h @ stop_gradient(params.w_h))
        return EchoStateState(h=(1 - self.leak) * state.h + self.leak * new)

    def readout(self, params: EchoStateParams, state: EchoStateState, z: Array) -> Array:
        return state.h


def _spectral_radius(w: Array) -> Array:
    """Computes the spectral radius by Gelfand's formula, the limit of |w^k|^(1/k), with repeated squaring.

    Unlike a computation of eigenvalues, it needs only products, which run on every platform.
    """
    log_radius = jnp.zeros(())
    for n in range(20):
        norm = jnp.linalg.norm(w)
        log_radius += jnp.log(norm) / 2**n
        w = w / jnp.where(norm > 0, norm, 1)
        w = w @ w
    return jnp.exp(log_radius)
