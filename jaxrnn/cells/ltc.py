"""Liquid time-constant network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import softplus

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform, orthogonal
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, zeros


class LTCParams(NamedTuple):
    w_x: Array  # [input, hidden]
    w_h: Array  # [hidden, hidden]
    b: Array  # [hidden]
    a: Array  # [hidden]
    tau: Array  # [hidden], before the softplus


class LTCState(NamedTuple):
    h: Array  # [*batch, hidden]


@dataclass(frozen=True)
class LTC(Cell):
    r"""Liquid time-constant network, with the paper's fused solver.

    The network is a system of differential equations whose time constants depend on the input. `CfC` replaces the
    solver with a closed form.

    .. math::
        \frac{dh}{dt} &= -\left(\frac{1}{\tau} + f(h, x)\right) \odot h + f(h, x) \odot A \\
        f(h, x) &= \phi(\gamma x + \gamma_r h + \mu)

    One step of the network applies :math:`L` times

    .. math:: h \leftarrow \frac{h + \Delta t \, f(h, x) \odot A}{1 + \Delta t \, (1 / \tau + f(h, x))}

    The output is :math:`h`. :math:`\tau` is the softplus of its parameter, and is initialized to 1.

    Example:
      >>> cell = jaxrnn.LTC(hidden_size=64, dt=0.25, unfolds=4)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape
      (20, 4, 64)

    Args:
      hidden_size: Size of :math:`h`.
      dt: :math:`\Delta t`, the step size of the solver.
      unfolds: :math:`L`, the number of solver steps in one step of the network.
      activation: :math:`\phi`, an elementwise function. The solver is stable if its values are not negative.

    References:
      R. Hasani, M. Lechner, A. Amini, D. Rus, R. Grosu, "Liquid time-constant networks", 2021, algorithm 1.

    Deviations:
      The default activation is the logistic function, while the paper uses tanh.
    """

    hidden_size: int
    _: KW_ONLY
    dt: float = 1 / 6
    unfolds: int = 6
    activation: Callable[[Array], Array] = sigmoid

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "unfolds")
        check.above(self, "dt", 0)
        check.function(self, "activation")

    def init(self, key: Array, input_size: int) -> LTCParams:
        n = self.hidden_size
        k_x, k_h, k_a = jax.random.split(key, 3)
        w_x = glorot_uniform(k_x, (input_size, n))
        tau = jnp.full(n, jnp.log(jnp.expm1(1.0)))
        return LTCParams(w_x, orthogonal(k_h, (n, n)), jnp.zeros(n), jax.random.normal(k_a, (n,)), tau)

    def initial_state(self, params, batch_shape=(), dtype=None) -> LTCState:
        return LTCState(*zeros(params, batch_shape, dtype, self.hidden_size))

    def project(self, params: LTCParams, x: Array, key: Keys = None) -> Array:
        return affine(x, params.w_x, params.b)

    def step(self, params: LTCParams, state: LTCState, z: Array) -> LTCState:
        h = state.h
        a, tau = align((params.a, softplus(params.tau)), h)
        for _ in range(self.unfolds):
            f = self.activation(z + h @ params.w_h)
            h = (h + self.dt * f * a) / (1 + self.dt * (1 / tau + f))
        return LTCState(h=h)

    def readout(self, params: LTCParams, state: LTCState, z: Array) -> Array:
        return state.h
