"""What the cells made for parallel training are by other words: sums over the past, real systems, rotations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from catalogue_parallel import CELLS, sru
from scipy.linalg import expm
from tables import INPUT, assert_close, draw, draw_params, to_numpy

import jaxrnn
from jaxrnn import RWKV, S5, SRU, Retention, unroll

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, SYMBOLS = 6, 5


def test_s5_begins_as_the_normal_part_of_hippo():
    """A real system of twice the size, held constant between the steps, by the exponential of its matrix."""
    n, delta = 4, 0.3
    cell = S5(n, 2)
    params = cell.init(jax.random.key(0), INPUT)._replace(log_delta=jnp.full(n, np.log(delta)))
    legs = np.array([[-np.sqrt((2 * i + 1) * (2 * j + 1)) if i > j else -(i + 1.0) * (i == j) for j in range(2 * n)]
                     for i in range(2 * n)])  # fmt: skip
    low_rank = np.sqrt(np.arange(2 * n) + 0.5)
    normal = legs + np.outer(low_rank, low_rank)
    eigenvalues, vectors = np.linalg.eig(normal)
    kept = np.argsort(eigenvalues.imag)[n:]  # one of each pair
    np.testing.assert_allclose(np.asarray(params.a_re) + 1j * np.asarray(params.a_im), eigenvalues[kept], rtol=1e-12)
    w_x, w_s = to_numpy((params.w_x, params.w_s))
    inputs = (w_x[:, :n] + 1j * w_x[:, n:]).T  # V* B, of which B = V V* B
    outputs = (w_s[:n] + 1j * w_s[n:]).T  # C V
    ours = np.asarray(jaxrnn.cells.s5.hippo_n(2 * n)[1])[:, n:]
    for k in range(n):  # each of our vectors is an eigenvector, up to its phase
        np.testing.assert_allclose(abs(np.vdot(vectors[:, kept[k]], ours[:, k])), 1, rtol=1e-12)
    b, c = 2 * (ours @ inputs).real, 2 * (outputs @ ours.conj().T).real
    a_bar, xs, state, ys = expm(delta * normal), draw(TIME, INPUT), np.zeros(2 * n), []
    b_bar = np.linalg.solve(normal, a_bar - np.eye(2 * n)) @ b
    for x in xs:
        state = a_bar @ state + b_bar @ x
        ys.append(c @ state + np.asarray(params.w_d).T @ x)
    np.testing.assert_allclose(unroll(cell, params, xs)[1], ys, rtol=1e-10, atol=1e-12)


def test_s5_draws_its_steps_between_the_shortest_and_the_longest():
    params = S5(200, 2, 0.01, 0.5).init(jax.random.key(0), INPUT)
    steps = np.exp(params.log_delta)
    assert 0.01 <= steps.min() < 0.02
    assert 0.4 < steps.max() <= 0.5


@pytest.mark.parametrize("input_size", [INPUT, 4])
def test_sru_projects_its_highway_where_sizes_differ(input_size):
    cell = SRU(4, highway_bias=0.5)
    params, xs = draw_params(cell, input_size=input_size), draw(TIME, 2, input_size)
    assert params.w_x.shape == (input_size, 12 if input_size == 4 else 16)
    expected = references.run(sru(4, 0.5), to_numpy(params), xs)[1]
    np.testing.assert_allclose(unroll(cell, params, xs)[1], expected, rtol=1e-12)


def test_sru_keeps_the_variance_of_its_input_at_first():
    xs = draw(8, 16, 128)
    variances = []
    for bias in (0.0, -2.0):
        cell = SRU(128, highway_bias=bias)
        params = cell.init(jax.random.key(0), 128)
        variances.append(float(unroll(cell, params, xs)[1].var() / xs.var()))
    np.testing.assert_allclose(variances, 1, atol=0.25)


def test_retention_is_attention_with_rotary_positions_and_decay():
    """Sun et al. 2023, eq. 5, for each head."""
    heads, d = 2, 4
    cell, xs = Retention(heads * d, heads), draw(TIME, INPUT)
    params = draw_params(cell)
    parts = np.split(xs @ np.asarray(params.w_x), 3, axis=-1)
    q, k, v = (part.reshape(TIME, heads, d) for part in parts)
    angles = np.outer(np.arange(TIME), 10000.0 ** (-2 * np.arange(d // 2) / d))[:, None]

    def turned(x):
        one, other = np.split(x, 2, axis=-1)
        first, second = one * np.cos(angles) - other * np.sin(angles), one * np.sin(angles) + other * np.cos(angles)
        return np.concatenate([first, second], axis=-1)

    age = np.arange(TIME)[:, None] - np.arange(TIME)
    ys = []
    for n in range(heads):
        decay = np.where(age >= 0, (1 - 2.0 ** (-5 - n)) ** age, 0)
        ys.append((turned(q)[:, n] @ turned(k)[:, n].T * decay) @ v[:, n])
    np.testing.assert_allclose(unroll(cell, params, xs)[1], np.concatenate(ys, axis=-1), rtol=1e-12)


def test_rwkv_is_a_quotient_of_sums():
    """Peng et al. 2023, eqs. 11 to 16, without a state."""
    cell, xs = RWKV(4), draw(TIME, INPUT)
    params = to_numpy(draw_params(cell))
    before = np.concatenate([np.zeros((1, INPUT)), xs[:-1]])
    mixed = [
        (mu * xs + (1 - mu) * before) @ w for mu, w in zip(params.mu, np.split(params.w_x, 3, axis=1), strict=True)
    ]
    r, k, v = mixed
    ys = []
    for t in range(TIME):
        ages = np.arange(t - 1, -1, -1)[:, None]
        weights = np.concatenate([np.exp(-ages * np.exp(params.decay) + k[:t]), np.exp(params.u + k[t])[None]])
        wkv = (weights * v[: t + 1]).sum(0) / weights.sum(0)
        ys.append((references.sigmoid(r[t]) * wkv) @ params.w_o)
    np.testing.assert_allclose(unroll(cell, params, xs)[1], ys, rtol=1e-12)


@pytest.mark.parametrize("size", [-1e4, 1e4])
def test_rwkv_survives_exponents_of_any_size(size):
    """An average of equal values is that value, whatever the keys are, from the first step on."""
    cell = RWKV(2)
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), cell.init(jax.random.key(0), 2))
    w_x = jnp.zeros((2, 6)).at[0, 2:4].set(size).at[1, 4:].set(1.0)
    params = params._replace(mu=jnp.ones((3, 2)), w_x=w_x.astype(np.float32), w_o=jnp.eye(2, dtype=np.float32))
    xs = np.stack([draw(TIME), np.ones(TIME)], axis=-1).astype(np.float32)

    def run(params):
        ys = unroll(cell, params, xs, loop=jaxrnn.loops.Scan())[1]
        return ys.sum(), ys

    (_, ys), grads = jax.value_and_grad(run, has_aux=True)(params)
    np.testing.assert_allclose(ys, np.full((TIME, 2), 0.5), rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("cell", [S5(4, 2), Retention(8, 2), jaxrnn.HGRN(4), jaxrnn.LRU(4, 2)], ids=repr)
def test_states_of_complex_numbers_beside_parameters_of_low_precision(cell):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), cell.init(jax.random.key(0), INPUT))
    xs = jnp.zeros((TIME, INPUT), jnp.bfloat16)
    for loop in (jaxrnn.loops.Deferred(), jaxrnn.loops.AssociativeScan()):
        last, ys = jax.eval_shape(partial(unroll, cell, loop=loop), params, xs)
        assert ys.dtype == jnp.bfloat16
        assert {leaf.dtype for leaf in jax.tree.leaves(last)} == {jnp.dtype("complex64")}


@pytest.mark.parametrize("name", sorted(set(CELLS) - {"DampedEMA"}))
def test_symbols_equal_their_one_hot_vectors(name):
    cell = CELLS[name].cell
    params, symbols = draw_params(cell, input_size=SYMBOLS), np.array([0, 4, 2, 2])
    assert_close(cell.project(params, symbols), cell.project(params, np.eye(SYMBOLS)[symbols]))


def test_symbols_of_an_sru_whose_highway_is_its_input():
    params, symbols = draw_params(SRU(4), input_size=4), np.array([0, 3, 2, 2])
    assert_close(SRU(4).project(params, symbols), SRU(4).project(params, np.eye(4)[symbols]))


@pytest.mark.parametrize("name", ["DeltaNet", "GatedDeltaNet"])
def test_inputs_of_zeros_have_gradients(name):
    """Their keys have no direction."""
    cell = CELLS[name].cell
    params = draw_params(cell)
    grads = jax.grad(lambda params, x: cell.project(params, x).k.sum(), (0, 1))(params, np.zeros(INPUT))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
