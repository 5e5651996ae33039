"""Time mixing of RWKV-7."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn import _check as check
from jaxrnn._matrix_cell import MatrixCell, MatrixRead, MatrixUpdate
from jaxrnn.initializers import gates, glorot_uniform
from jaxrnn.layer import Keys
from jaxrnn.ops import affine, align, in_groups, normalized, side_by_side, sigmoid, tanh, zeros

EPSILON = 1e-6  # added to the squared norms, so that an input of zeros has keys of zeros
EPSILON_OF_NORMALIZATION = 64e-5  # as in the paper's code


class RWKV7Params(NamedTuple):
    mu: Array  # [6, input], for r, k, v, d, a, g
    w_x: Array  # [input, 3 * hidden], in the order r, k, v, each with its heads side by side
    w_rank: Array  # [input, 3 * rank], in the order d, a, g
    w_d: Array  # [rank, hidden]
    b_d: Array  # [hidden]
    w_a: Array  # [rank, hidden]
    b_a: Array  # [hidden]
    w_g: Array  # [rank, hidden]
    xi: Array  # [hidden]
    alpha: Array  # [hidden]
    rho: Array  # [hidden]
    gain: Array  # [hidden]
    b: Array  # [hidden]
    w_o: Array  # [hidden, hidden]


class RWKV7State(NamedTuple):
    s: Array  # [*batch, heads, hidden / heads (values), hidden / heads (keys)]
    now: Array  # [*batch, 3 * hidden + 3 * rank], the products of the step, in the order r, k, v, d, a, g
    before: Array  # [*batch, 3 * hidden + 3 * rank], what its input adds to the products of the next step


class RWKV7Input(NamedTuple):
    now: Array  # [*batch, 3 * hidden + 3 * rank], what the input adds to the products of its own step
    later: Array  # [*batch, 3 * hidden + 3 * rank], what it adds to those of the next step


class _Parts(NamedTuple):
    """What a step computes from its products: arrays [*batch, heads, hidden / heads]."""

    r: Array
    k: Array  # after the replacement
    v: Array
    kappa: Array  # of norm 1
    a: Array
    log_w: Array


@dataclass(frozen=True)
class RWKV7(MatrixCell):
    r"""RWKV-7's time mixing: a generalized delta rule, which removes along one key and adds along another.

    `RWKV` takes a weighted mean of values instead of keeping a matrix. Matrices read a mean of the input and the
    previous one, :math:`x^j_t = x_t + \mu_j \odot (x_{t-1} - x_t)`, where :math:`j` is r, k, v, d, a or g. In each
    head:

    .. math::
        r_t &= W_r x^r_t, \quad k_t = W_k x^k_t, \quad v_t = W_v x^v_t \\
        w_t &= \exp(-e^{-1/2} \sigma(B_d \tanh(A_d x^d_t) + b_d)), \quad
            a_t = \sigma(B_a A_a x^a_t + b_a), \quad g_t = B_g \sigma(A_g x^g_t) \\
        \hat\kappa_t &= \frac{\xi \odot k_t}{|\xi \odot k_t|}, \quad
            \tilde k_t = k_t \odot (1 + \alpha \odot (a_t - 1)) \\
        S_t &= S_{t-1} (\mathrm{diag}(w_t) - \hat\kappa_t (a_t \odot \hat\kappa_t)^\top) + v_t \tilde k_t^\top \\
        p_t &= \mathrm{norm}(S_t r_t) + (r_t^\top (\rho \odot \tilde k_t)) v_t, \quad y_t = W_o (g_t \odot p_t)

    The removal key :math:`\hat\kappa_t` is a unit vector; in its norm, :math:`10^{-6}` is added to the sum of squares.
    The mean and the standard deviation in :math:`\mathrm{norm}` are those of a head; a gain and a bias follow. In the
    last equation, the heads are side by side. The output is :math:`y_t`.

    Example:
      >>> cell = jaxrnn.RWKV7(hidden_size=64, num_heads=4)
      >>> params = cell.init(jax.random.key(0), input_size=8)
      >>> state, ys = jaxrnn.unroll(cell, params, jnp.zeros((20, 32, 8)))  # [time, batch, input]
      >>> ys.shape, state.s.shape  # a matrix of values and keys for each head
      ((20, 32, 64), (32, 4, 16, 16))

    Args:
      hidden_size: Size of :math:`y`, and of the queries :math:`r`, the keys and the values of all heads together.
      num_heads: Number of memories, each for keys and values of size hidden_size / num_heads.
      rank_size: Rank of the matrices :math:`B_d A_d`, :math:`B_a A_a` and :math:`B_g A_g`.

    References:
      B. Peng et al., "RWKV-7 Goose with expressive dynamic state evolution", 2025, section 4.1, as in the first
      layer of a model.

    Deviations:
      No matrix is initially zero. The three ranks are equal. The paper adds nothing in the norm.
    """

    hidden_size: int
    _: KW_ONLY
    num_heads: int = 1
    rank_size: int = 16
    state_type: ClassVar[type] = RWKV7State
    values_first: ClassVar[bool] = True
    shifts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check.positive(self, "hidden_size", "rank_size")
        check.divides(self, "num_heads", "hidden_size")

    def init(self, key: Array, input_size: int) -> RWKV7Params:
        n, rank = self.hidden_size, self.rank_size
        k_x, k_rank, k_d, k_a, k_g, k_o = jax.random.split(key, 6)
        ramp = jnp.arange(input_size) / input_size
        units = jnp.arange(n, dtype=float) / max(n - 1, 1)
        return RWKV7Params(
            mu=1 - ramp[None] ** jnp.array([0.2, 0.7, 0.7, 0.9, 0.9, 0.2])[:, None],
            w_x=gates(glorot_uniform, k_x, (input_size, n), 3),
            w_rank=gates(glorot_uniform, k_rank, (input_size, rank), 3),
            w_d=glorot_uniform(k_d, (rank, n)),
            b_d=-6.5 + 5 * units**0.85,
            w_a=glorot_uniform(k_a, (rank, n)),
            b_a=jnp.zeros(n),
            w_g=glorot_uniform(k_g, (rank, n)),
            xi=jnp.full(n, 0.85),
            alpha=jnp.ones(n),
            rho=jnp.zeros(n),
            gain=jnp.ones(n),
            b=jnp.zeros(n),
            w_o=glorot_uniform(k_o, (n, n)),
        )

    def initial_state(self, params, batch_shape=(), dtype=None) -> RWKV7State:
        d, size = self.hidden_size // self.num_heads, 3 * (self.hidden_size + self.rank_size)
        (s,) = zeros(params, (*batch_shape, self.num_heads, d), dtype, d)
        return RWKV7State(s, *zeros(params, batch_shape, dtype, size, size))

    def project(self, params: RWKV7Params, x: Array, key: Keys = None) -> RWKV7Input:
        w = jnp.concatenate([params.w_x, params.w_rank], axis=1)
        sizes = np.repeat([self.hidden_size, self.rank_size], 3)
        later = jnp.repeat(params.mu.T, sizes, axis=1, total_repeat_length=w.shape[1]) * w
        return RWKV7Input(*jnp.split(affine(x, jnp.concatenate([w - later, later], axis=1)), 2, axis=-1))

    def shift(self, z: RWKV7Input, before: Array) -> Array:
        return z.now + before

    def passed_on(self, z: RWKV7Input) -> Array:
        return z.later

    def update(self, params: RWKV7Params, z: Array) -> MatrixUpdate:
        r, k, v, kappa, a, log_w = self._parts(params, z)
        return MatrixUpdate(r, k, v, log_w, read=kappa, erase=-a * kappa)

    def output(self, params: RWKV7Params, read: MatrixRead, z: Array) -> Array:
        r, k, v, *_ = self._parts(params, z)
        gain, b, rho = align((params.gain, params.b, params.rho), z)
        mean = gain * side_by_side(normalized(read.values, EPSILON_OF_NORMALIZATION)) + b
        bonus = (r * in_groups(rho, self.num_heads) * k).sum(-1, keepdims=True) * v
        g = affine(sigmoid(z[..., -self.rank_size :]), params.w_g)
        return affine(g * (mean + side_by_side(bonus)), params.w_o)

    def _parts(self, params: RWKV7Params, z: Array) -> _Parts:
        n, rank = self.hidden_size, self.rank_size
        r, k, v, d, a, _ = jnp.split(z, [n, 2 * n, 3 * n, 3 * n + rank, 3 * n + 2 * rank], axis=-1)
        log_w = -(np.e**-0.5) * sigmoid(affine(tanh(d), params.w_d, params.b_d))
        a = sigmoid(affine(a, params.w_a, params.b_a))
        xi, alpha = align((params.xi, params.alpha), k)
        kappa = in_groups(xi * k, self.num_heads)
        kappa = kappa * jax.lax.rsqrt((kappa**2).sum(-1, keepdims=True) + EPSILON)
        k = k * (1 + alpha * (a - 1))
        r, k, v, a, log_w = (in_groups(x, self.num_heads) for x in (r, k, v, a, log_w))
        return _Parts(r, k, v, kappa, a, log_w)
