"""What the LSTM's relatives do beyond the batteries of test_catalogue.py: their arguments, first values, extremes."""

import catalogue_lstm as references_of
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references
from tables import INPUT, draw, draw_params, draw_state, to_numpy

import jaxrnn

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 5, 2


def difference(x):
    return x - 0.25 * x**3


ARGUMENTS = {
    "mogrifier, one round": (jaxrnn.MogrifierLSTM(4, rounds=1), references_of.mogrifier_lstm(4, 1)),
    "mogrifier, four rounds": (jaxrnn.MogrifierLSTM(4, rounds=4), references_of.mogrifier_lstm(4, 4)),
    "ON-LSTM, no chunks": (jaxrnn.ONLSTM(4), references_of.on_lstm(4, 1)),
    "ON-LSTM, one chunk": (jaxrnn.ONLSTM(4, chunk_size=4), references_of.on_lstm(4, 4)),
    "sLSTM, one head": (jaxrnn.SLSTM(4), references_of.slstm(4, 1)),
    "mLSTM, one head": (jaxrnn.MLSTM(4), references_of.mlstm(4, 1)),
    "JANET, beta": (jaxrnn.JANET(4, beta=0.25), references_of.janet(4, 0.25)),
    "RAN, activation": (jaxrnn.RAN(4, activation=difference), references_of.ran(4, difference)),
    "phased, the paper's ratio": (jaxrnn.PhasedLSTM(4), references_of.phased_lstm(4, 0.05, 0.001)),
    "phased, no leak": (jaxrnn.PhasedLSTM(4, open_ratio=0.5, leak_rate=0.0), references_of.phased_lstm(4, 0.5, 0.0)),
    "layer norm, epsilon": (jaxrnn.LayerNormLSTM(4, epsilon=0.1), references_of.layer_norm_lstm(4, 0.1)),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_do_what_the_paper_says(name):
    cell, reference = ARGUMENTS[name]
    params = draw_params(cell)
    xs, state = draw(TIME, BATCH, INPUT), draw_state(cell, params, (BATCH,))
    _, ys = jaxrnn.unroll(cell, params, xs, state)
    _, expected = references.run(reference, to_numpy(params), xs, to_numpy(tuple(state)))
    np.testing.assert_allclose(ys, expected, rtol=1e-12, atol=1e-14)


# ---- initial values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (jaxrnn.OriginalLSTM(1, input_bias=0.5, output_bias=-2), [0.5, 0, -2]),
        (jaxrnn.CoupledLSTM(1, 1.5), [1.5, 0, 0]),
        (jaxrnn.CappedLSTM(1, 1.5), [0, 1.5, 0, 0]),
        (jaxrnn.LayerNormLSTM(1, 1.5), [0, 1.5, 0, 0]),
        (jaxrnn.MultiplicativeLSTM(1, 1.5), [0, 1.5, 0, 0]),
        (jaxrnn.MogrifierLSTM(1, forget_bias=1.5), [0, 1.5, 0, 0]),
        (jaxrnn.WMCLSTM(1, 1.5), [0, 1.5, 0, 0]),
        (jaxrnn.ResidualLSTM(1, 1.5), [0, 1.5, 0, 0]),
        (jaxrnn.HighwayLSTM(1, 1.5, highway_bias=3), [0, 1.5, 0, 0, -3]),
        (jaxrnn.HyperLSTM(1, 1, 1, 1.5), [0, 1.5, 0, 0]),
        (jaxrnn.SLSTM(1, 1, 1.5), [0, 1.5, 0, 0]),
        (jaxrnn.MemoryControllerLSTM(1, 1.5), [0, 1.5, 0, 0, 0]),
        (jaxrnn.JANET(1, 1.5), [1.5, 0]),
        (jaxrnn.RAN(1, 1.5), [0, 1.5]),
        (jaxrnn.PhasedLSTM(1, 1.5), [0, 1.5, 0, 0]),
        (jaxrnn.TimeAwareLSTM(1, 1.5), [0, 1.5, 0, 0]),
        (jaxrnn.TRNN(1, 1.5), [1.5]),
        (jaxrnn.TGRU(1, 1.5), [0, 1.5, 0]),
        (jaxrnn.TLSTM(1, 1.5), [0, 1.5, 0]),
    ],
    ids=repr,
)
def test_biases_begin_as_asked(cell, expected):
    np.testing.assert_array_equal(cell.init(jax.random.key(0), INPUT).b, expected)


def test_other_biases_begin_as_asked():
    np.testing.assert_array_equal(jaxrnn.MLSTM(2, 2, 1.5).init(jax.random.key(0), INPUT).b_gates, [0, 0, 1.5, 1.5])
    np.testing.assert_array_equal(jaxrnn.HyperLSTM(2, 1, 1, 1.5).init(jax.random.key(0), 3).hyper_b, [0, 1.5, 0, 0])


def test_chrono_reaches_each_head_and_both_parts_of_a_hyper_lstm():
    span = jaxrnn.Chrono(100)
    b_i, b_f, *rest = np.split(to_numpy(jaxrnn.SLSTM(64, 2, span).init(jax.random.key(0), INPUT).b), 4)
    np.testing.assert_array_equal(b_i, -b_f)
    assert 0 <= b_f.min() < b_f.max() <= np.log(99)
    assert not np.any(rest)
    hyper = to_numpy(jaxrnn.HyperLSTM(8, 8, 2, span).init(jax.random.key(0), INPUT))
    assert (hyper.b[8:16] > 0).all()
    assert (hyper.hyper_b[8:16] > 0).all()
    assert not np.array_equal(hyper.b, hyper.hyper_b)


def test_gates_of_the_ur_lstm_begin_at_all_time_scales():
    gate = np.sort(references.sigmoid(to_numpy(jaxrnn.URLSTM(500).init(jax.random.key(0), INPUT).b_f)))
    assert 1 / 500 <= gate[0] < 0.02
    assert 0.98 < gate[-1] <= 1 - 1 / 500
    assert np.abs(gate - np.linspace(0, 1, 500)).max() < 0.08  # uniform
    assert np.isfinite(jaxrnn.URLSTM(1).init(jax.random.key(0), INPUT).b_f).all()


def test_periods_of_the_phased_lstm():
    params = to_numpy(jaxrnn.PhasedLSTM(500, log_periods=(1.0, 2.0)).init(jax.random.key(0), INPUT))
    assert np.e <= params.period.min() < 1.05 * np.e
    assert 0.95 * np.e**2 < params.period.max() <= np.e**2
    assert 0 <= (params.shift / params.period).min() < (params.shift / params.period).max() <= 1


def test_blocks_of_the_slstm_are_orthogonal():
    w_h = to_numpy(jaxrnn.SLSTM(6, 2).init(jax.random.key(0), INPUT).w_h)
    assert w_h.shape == (2, 3, 12)
    blocks = [block for head in w_h for block in np.split(head, 4, axis=1)]
    assert all(np.allclose(block @ block.T, np.eye(3)) for block in blocks)
    assert len({block.tobytes() for block in blocks}) == 8


# ---- extremes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", [-200.0, 200.0])
@pytest.mark.parametrize("cell", [jaxrnn.SLSTM(4, 2), jaxrnn.MLSTM(4, 2)], ids=repr)
def test_exponential_gates_do_not_overflow(cell, gate):
    """Where exp(gate) is infinite or zero in float32, from the first step on."""
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), draw_params(cell))
    name = "b_gates" if isinstance(cell, jaxrnn.MLSTM) else "b"
    inputs = 2 if isinstance(cell, jaxrnn.MLSTM) else 4
    params = params._replace(**{name: getattr(params, name).at[:inputs].set(gate)})
    xs = draw(TIME, BATCH, INPUT).astype(np.float32)
    ys, pull = jax.vjp(lambda params: jaxrnn.unroll(cell, params, xs)[1], params)
    assert ys.dtype == np.float32
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((ys, pull(jnp.ones_like(ys)))))


def test_memories_of_the_capped_lstm_stay_below_one():
    cell = jaxrnn.CappedLSTM(8)
    state, _ = jaxrnn.unroll(cell, jax.tree.map(lambda leaf: 9 * leaf, draw_params(cell)), draw(100, INPUT))
    assert 0.9 < np.abs(state.c).max() <= 1
