"""The echo state network's reservoir."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

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
    r"""Echo state network's reservoir: a vanilla network of fixed random weights and leaky units.

    .. math:: h_t = (1 - a) h_{t-1} + a \tanh(W x_t + R h_{t-1} + b)

    The output is :math:`h_t`, of which a `Dense` layer is what learns. The parameters are fixed as they are drawn:
    they get no gradient, and an optimizer must not decay them. :math:`R` is sparse, its entries that are not zero
    uniform before all are scaled; :math:`W` and :math:`b` are uniform.

    Args:
      hidden_size: size of :math:`h`.
      leak: :math:`a`, above 0 and at most 1, where units do not leak.
      spectral_radius: largest absolute value of an eigenvalue of :math:`R`; below 1 for most uses.
      connectivity: which part of the entries of :math:`R` are not zero.
      input_scale: bound of the entries of :math:`W` and :math:`b`.
      activation: in the place of tanh, elementwise.

    References: H. Jaeger, "The echo state approach to analysing and training recurrent neural networks", 2001;
    leaky as in H. Jaeger, M. Lukosevicius, D. Popovici, U. Siewert, "Optimization and applications of echo state
    networks with leaky-integrator neurons", 2007. Deviation: no feedback of outputs into the reservoir.
    """

    hidden_size: int
    leak: float = 1.0
    spectral_radius: float = 0.9
    connectivity: float = 0.1
    input_scale: float = 1.0
    activation: Callable[[Array], Array] = tanh

    def init(self, key: Array, input_size: int) -> EchoStateParams:
        n = self.hidden_size
        k_x, k_h, k_mask, k_b = jax.random.split(key, 4)
        w_h = uniform(1.0)(k_h, (n, n)) * jax.random.bernoulli(k_mask, self.connectivity, (n, n))
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
    """The limit of the roots of the powers' norms (Gelfand), by squaring: eigenvalues need a CPU, products do not."""
    log_radius = jnp.zeros(())
    for n in range(20):
        norm = jnp.linalg.norm(w)
        log_radius += jnp.log(norm) / 2**n
        w = w / jnp.where(norm > 0, norm, 1)
        w = w @ w
    return jnp.exp(log_radius)
