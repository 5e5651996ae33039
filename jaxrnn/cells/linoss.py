"""Linear oscillatory state space model."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import jax
from jax import Array

from jaxrnn import _check as check
from jaxrnn.initializers import glorot_uniform, uniform
from jaxrnn.layer import Cell, Keys
from jaxrnn.ops import affine, align, sigmoid, zeros


class LinOSSParams(NamedTuple):
    a: Array  # [state], before the ReLU
    dt: Array  # [state], time steps before the sigmoid
    w_x: Array  # [input, state], B
    w_y: Array  # [state, output], C
    w_d: Array  # [input, output], D


class LinOSSState(NamedTuple):
    z: Array  # [*batch, state]
    y: Array  # [*batch, state]


class LinOSSInput(NamedTuple):
    bu: Array  # [*batch, state]
    du: Array  # [*batch, output]


@dataclass(frozen=True)
class LinOSS(Cell):
    r"""Linear oscillatory state space model (LinOSS): independent oscillators that the input forces.

    By default the method is implicit (LinOSS-IM), so that the oscillations decay:

    .. math::
        z_n &= (I + \Delta t^2 A)^{-1} (z_{n-1} + \Delta t (-A y_{n-1} + B u_n)) \\
        y_n &= y_{n-1} + \Delta t \, z_n \\
        x_n &= C y_n + D u_n

    where :math:`A = \mathrm{relu}(\hat{A})` and :math:`\Delta t = \sigma(\hat{\Delta t})` are diagonal and :math:`u_n`
    is the input. The implicit-explicit method (LinOSS-IMEX) is the same without the inverse, and preserves the energy.
    The output is :math:`x_n`. Initially, :math:`\hat{A}` and :math:`\hat{\Delta t}` are uniform on :math:`[0, 1)`.

    The cell is linear in its state. But a step multiplies the two numbers of an oscillator by a matrix that cannot be
    made diagonal where :math:`A = 0`, so it is no `LinearCell`, whose state is multiplied elementwise.
    `jaxrnn.loops.Newton` finds these 2 x 2 matrices and runs all steps in parallel, in one or two iterations. `CoRNN`
    and `UnICORNN` are nonlinear oscillators.

    Example:
      >>> cell = jaxrnn.LinOSS(state_size=16, output_size=32)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 4, 8)))  # [time, batch, input]
      >>> ys.shape, state.y.shape, state.z.shape  # positions of the oscillators, and their velocities
      ((20, 4, 32), (4, 16), (4, 16))

    Args:
      state_size: Size of :math:`z` and :math:`y`.
      output_size: Size of :math:`x`.
      implicit: Whether the method is implicit, or else implicit-explicit.

    References:
      T. K. Rusch, D. Rus, "Oscillatory state-space models", 2024.

    Deviations:
      B and C are real, as in the paper's equations. In the authors' code they are complex, which is the same as two
      oscillators with equal A and time step. D is a matrix, so that the sizes of input and output may differ. The block
      around the layer is not included.
    """

    state_size: int
    output_size: int
    _: KW_ONLY
    implicit: bool = True

    def __post_init__(self) -> None:
        check.positive(self, "state_size", "output_size")
        check.flag(self, "implicit")

    def init(self, key: Array, input_size: int) -> LinOSSParams:
        n = self.state_size
        k_a, k_dt, k_x, k_y, k_d = jax.random.split(key, 5)
        return LinOSSParams(
            a=jax.random.uniform(k_a, (n,)),
            dt=jax.random.uniform(k_dt, (n,)),
            w_x=uniform(input_size**-0.5)(k_x, (input_size, n)),
            w_y=uniform(n**-0.5)(k_y, (n, self.output_size)),
            w_d=glorot_uniform(k_d, (input_size, self.output_size)),
        )

    def initial_state(self, params, batch_shape=(), dtype=None) -> LinOSSState:
        return LinOSSState(*zeros(params, batch_shape, dtype, self.state_size, self.state_size))

    def project(self, params: LinOSSParams, x: Array, key: Keys = None) -> LinOSSInput:
        return LinOSSInput(affine(x, params.w_x), affine(x, params.w_d))

    def step(self, params: LinOSSParams, state: LinOSSState, z: LinOSSInput) -> LinOSSState:
        a, dt = align((jax.nn.relu(params.a), sigmoid(params.dt)), z.bu)
        velocity = state.z + dt * (z.bu - a * state.y)
        if self.implicit:
            velocity = velocity / (1 + dt**2 * a)
        return LinOSSState(z=velocity, y=state.y + dt * velocity)

    def readout(self, params: LinOSSParams, state: LinOSSState, z: LinOSSInput) -> Array:
        return state.y @ params.w_y + z.du
