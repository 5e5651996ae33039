"""RecurrentDropout: its equations in NumPy and its own tests."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, Elman, RecurrentDropout, step, unroll
from tests.cells.test_elman import elman
from tests.cells.test_gru import gru
from tests.cells.test_lstm import lstm
from tests.cells.test_peephole_lstm import peephole_lstm
from tests.cells.test_projected_lstm import projected_lstm
from tests.cells.test_reset_after_mgu import reset_after_mgu
from tests.cells.test_reset_before_gru import reset_before_gru
from tests.support import references
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import INPUT, draw, draw_params, draw_state
from tests.support.references import Case

pytestmark = pytest.mark.usefixtures("x64", "quick")
RECURRENT = ("w_h", "w_a", "w_p")  # the weights that multiply something of the loop
SMALL = {
    "Elman": (Elman(3), elman(3)),
    "LSTM": (jaxrnn.LSTM(3), lstm(3)),
    "GRU": (GRU(3), gru(3)),
    "ResetBeforeGRU": (jaxrnn.ResetBeforeGRU(3), reset_before_gru(3)),
    "ResetAfterMGU": (jaxrnn.ResetAfterMGU(3), reset_after_mgu(3)),
    "PeepholeLSTM": (jaxrnn.PeepholeLSTM(3), peephole_lstm(3)),
    "ProjectedLSTM": (jaxrnn.ProjectedLSTM(3, 2), projected_lstm(3, 2)),
}
RATE = 0.5
TIME, BATCH = 6, 2


def all_dropped(params):
    """The parameters under every mask: dropping what a matrix multiplies is dropping the matrix's rows."""
    names = [name for name in RECURRENT if name in params._fields]
    sizes = [getattr(params, name).shape[0] for name in names]
    for bits in product([0, 1], repeat=sum(sizes)):
        masks = np.split(np.array(bits), np.cumsum(sizes)[:-1])
        dropped = {n: getattr(params, n) * (m / (1 - RATE))[:, None] for n, m in zip(names, masks, strict=True)}
        yield bits, params._replace(**dropped)


def masks_found(reference, params, xs, state, ys):
    """All masks that give these outputs of one sequence if held over all steps."""
    found = []
    for bits, dropped in all_dropped(params):
        last, expected = references.run(reference, dropped, xs, state)
        if np.allclose(expected, ys, rtol=1e-11, atol=1e-13):
            found.append((bits, dropped, last))
    return found


def key(seed=0):
    return jax.random.key(seed)


CASE = Case(jaxrnn.RecurrentDropout(jaxrnn.GRU(4), 0.5), gru(4))  # without a key


@pytest.mark.parametrize("name", SMALL)
def test_recurrent_dropout_holds_one_mask_over_all_steps(name):
    """Exactly one of all masks explains the outputs of a sequence: of Gal's, not one anew at every step."""
    cell, reference = SMALL[name]
    dropped = RecurrentDropout(cell, RATE)
    params = draw_params(cell)
    xs, state = draw(TIME, 4, INPUT), draw_state(cell, params, (4,))
    last, ys = unroll(dropped, params, xs, state, key=key(5))  # no mask drops all units of an array
    bits = []
    for n in range(4):
        begin = tuple(np.asarray(leaf)[n] for leaf in state)
        found = masks_found(reference, to_numpy(params), xs[:, n], begin, np.asarray(ys[:, n]))
        assert len(found) == 1
        assert_close(tuple(leaf[n] for leaf in last), found[0][2], rtol=1e-11)
        bits.append(found[0][0])
    assert len(set(bits)) > 1, "sequences draw their own masks"


def test_gradient_of_recurrent_dropout_is_that_of_its_mask():
    cell, reference = SMALL["GRU"]
    params, xs = draw_params(cell), draw(TIME, INPUT)
    dropped = RecurrentDropout(cell, RATE)
    _, ys = unroll(dropped, params, xs, key=key(5))
    ((bits, _, _),) = masks_found(reference, to_numpy(params), xs, None, np.asarray(ys))
    assert 0 < sum(bits) < len(bits)

    def expected(leaves):
        p = jaxrnn.cells.GRUParams(*leaves)
        p = p._replace(w_h=p.w_h * (np.array(bits) / (1 - RATE))[:, None])
        return (references.run(reference, p, xs)[1] ** 2).sum()

    grads = jax.grad(lambda params: (unroll(dropped, params, xs, key=key(5))[1] ** 2).sum())(params)
    assert_close(grads, references.gradient(expected, to_numpy(params)), rtol=1e-11)


def test_recurrent_dropout_leaves_a_gated_memory_alone():
    """A GRU whose update gate is open only to its state keeps it for every mask."""
    params = jax.tree.map(jnp.zeros_like, GRU(4).init(key(), INPUT))
    params = params._replace(b=params.b.at[4:8].set(100.0))
    state = draw_state(GRU(4), params, (BATCH,))
    last, _ = unroll(RecurrentDropout(GRU(4), 0.9), params, draw(50, BATCH, INPUT), state, key=key())
    assert_close(last, state)


def test_recurrent_dropout_drops_at_its_rate():
    """An identity for a recurrent matrix shows the mask: h = m * s / (1 - p) after one step."""
    cell = RecurrentDropout(Elman(100, activation=lambda x: x), 0.2)
    params = jaxrnn.cells.ElmanParams(jnp.zeros((1, 100)), jnp.eye(100), jnp.zeros(100))
    state = jaxrnn.cells.ElmanState(jnp.ones((200, 100)))
    h = np.asarray(unroll(cell, params, np.zeros((1, 200, 1)), state, key=key(1))[1])
    np.testing.assert_allclose(np.unique(h), [0, 1.25], rtol=1e-12)
    assert abs((h == 0).mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / h.size)


def test_recurrent_dropout_run_step_by_step_draws_anew():
    cell = RecurrentDropout(Elman(64, activation=lambda x: x), 0.5)
    params = jaxrnn.cells.ElmanParams(jnp.zeros((1, 64)), jnp.eye(64), jnp.zeros(64))
    ones = jaxrnn.cells.ElmanState(jnp.ones(64))
    one, other = (step(cell, params, ones, np.zeros(1), key=key(seed))[1] for seed in (0, 1))
    assert (one != other).any()


def test_recurrent_dropout_in_evaluation_is_the_cell():
    params, xs = draw_params(GRU(4)), draw(TIME, BATCH, INPUT)
    one, other = unroll(RecurrentDropout(GRU(4), 0.5), params, xs), unroll(GRU(4), params, xs)
    jax.tree.map(np.testing.assert_array_equal, one, other)
