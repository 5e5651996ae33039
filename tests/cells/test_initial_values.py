"""Initial values of weights and biases."""

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn import LSTM
from tests.support.comparisons import to_numpy
from tests.support.inputs import INPUT

pytestmark = pytest.mark.usefixtures("x64", "quick")


def is_orthogonal(block):
    """Whether the rows or the columns, whichever are fewer, are orthonormal."""
    small = block @ block.T if block.shape[0] <= block.shape[1] else block.T @ block
    return np.allclose(small, np.eye(len(small)), atol=1e-10)


@pytest.mark.parametrize(
    ("cell", "gates"),
    [
        (jaxrnn.Elman(6), 1),
        (LSTM(6), 4),
        (jaxrnn.GRU(6), 3),
        (jaxrnn.ResetBeforeGRU(6), 2),
        (jaxrnn.PeepholeLSTM(6), 4),
        (jaxrnn.ProjectedLSTM(6, 4), 4),
    ],
    ids=repr,
)
def test_recurrent_weights_are_orthogonal_gate_by_gate(cell, gates):
    params = to_numpy(cell.init(jax.random.key(3), INPUT))
    blocks = np.split(params.w_h, gates, axis=1)
    blocks += [block for name, block in params._asdict().items() if name in ("w_a", "w_p")]
    assert all(is_orthogonal(block) for block in blocks)
    same_shape = [b for b in blocks if b.shape == blocks[0].shape]
    assert len({b.tobytes() for b in same_shape}) == len(same_shape), "gates must be drawn independently"


@pytest.mark.parametrize(
    "cell",
    [
        jaxrnn.Elman(32),
        LSTM(32),
        jaxrnn.GRU(32),
        jaxrnn.ResetBeforeGRU(32),
        jaxrnn.ResetAfterMGU(32),
        jaxrnn.PeepholeLSTM(32),
        jaxrnn.ProjectedLSTM(32, 32),
    ],
    ids=repr,
)
def test_input_weights_have_the_glorot_bound_of_one_gate(cell):
    w_x = to_numpy(cell.init(jax.random.key(4), 32)).w_x
    for gate in np.split(w_x, w_x.shape[1] // 32, axis=1):
        assert 0.98 * np.sqrt(6 / 64) < np.abs(gate).max() <= np.sqrt(6 / 64)


@pytest.mark.parametrize(
    "cell",
    [LSTM(3, forget_bias=1.5), jaxrnn.PeepholeLSTM(3, forget_bias=1.5), jaxrnn.ProjectedLSTM(3, 2, forget_bias=1.5)],
    ids=repr,
)
def test_forget_bias_is_the_initial_value_of_a_parameter(cell):
    b = cell.init(jax.random.key(0), INPUT).b
    np.testing.assert_array_equal(b, [0, 0, 0, 1.5, 1.5, 1.5, *[0] * 6])


def test_keeping_biases_of_the_grus():
    np.testing.assert_array_equal(jaxrnn.GRU(2, update_bias=1.5).init(jax.random.key(0), 1).b, [0, 0, 1.5, 1.5, 0, 0])
    np.testing.assert_array_equal(
        jaxrnn.ResetBeforeGRU(2, keep_bias=1.5).init(jax.random.key(0), 1).b, [0, 0, -1.5, -1.5, 0, 0]
    )


@pytest.mark.parametrize("kind", [LSTM, jaxrnn.PeepholeLSTM], ids=lambda kind: kind.__name__)
def test_chrono_sets_forget_and_input_bias(kind):
    b = to_numpy(kind(128, forget_bias=jaxrnn.Chrono(100)).init(jax.random.key(0), 1).b)
    b_i, b_f, b_g, b_o = np.split(b, 4)
    spans = np.exp(b_f)
    assert spans.min() >= 1
    assert spans.max() <= 99
    assert 40 < spans.mean() < 60  # uniform on [1, 99]: 50
    np.testing.assert_array_equal(b_i, -b_f)
    assert not b_g.any()
    assert not b_o.any()


def test_chrono_sets_the_keeping_bias_of_the_grus():
    _, b_z, b_n = np.split(to_numpy(jaxrnn.GRU(128, update_bias=jaxrnn.Chrono(100)).init(jax.random.key(0), 1).b), 3)
    assert b_z.min() >= 0
    assert np.log(90) < b_z.max() <= np.log(99)
    assert not b_n.any()
    _, b_z, _ = np.split(
        to_numpy(jaxrnn.ResetBeforeGRU(128, keep_bias=jaxrnn.Chrono(100)).init(jax.random.key(0), 1).b), 3
    )
    assert b_z.max() <= 0
    assert np.log(90) < -b_z.min() <= np.log(99)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (jaxrnn.OriginalLSTM(1, input_bias=0.5, output_bias=-2), [0.5, 0, -2]),
        (jaxrnn.CoupledLSTM(1, forget_bias=1.5), [1.5, 0, 0]),
        (jaxrnn.CappedLSTM(1, forget_bias=1.5), [0, 1.5, 0, 0]),
        (jaxrnn.LayerNormLSTM(1, forget_bias=1.5), [0, 1.5, 0, 0]),
        (jaxrnn.MultiplicativeLSTM(1, forget_bias=1.5), [0, 1.5, 0, 0]),
        (jaxrnn.MogrifierLSTM(1, forget_bias=1.5), [0, 1.5, 0, 0]),
        (jaxrnn.WMCLSTM(1, forget_bias=1.5), [0, 1.5, 0, 0]),
        (jaxrnn.ResidualLSTM(1, forget_bias=1.5), [0, 1.5, 0, 0]),
        (jaxrnn.HighwayLSTM(1, forget_bias=1.5, highway_bias=3), [0, 1.5, 0, 0, -3]),
        (jaxrnn.HyperLSTM(1, 1, 1, forget_bias=1.5), [0, 1.5, 0, 0]),
        (jaxrnn.SLSTM(1, num_heads=1, forget_bias=1.5), [0, 1.5, 0, 0]),
        (jaxrnn.MemoryControllerLSTM(1, forget_bias=1.5), [0, 1.5, 0, 0, 0]),
        (jaxrnn.JANET(1, forget_bias=1.5), [1.5, 0]),
        (jaxrnn.RAN(1, forget_bias=1.5), [0, 1.5]),
        (jaxrnn.PhasedLSTM(1, forget_bias=1.5), [0, 1.5, 0, 0]),
        (jaxrnn.TimeAwareLSTM(1, forget_bias=1.5), [0, 1.5, 0, 0]),
        (jaxrnn.TRNN(1, forget_bias=1.5), [1.5]),
        (jaxrnn.TGRU(1, forget_bias=1.5), [0, 1.5, 0]),
        (jaxrnn.TLSTM(1, forget_bias=1.5), [0, 1.5, 0]),
    ],
    ids=repr,
)
def test_biases_begin_as_asked(cell, expected):
    np.testing.assert_array_equal(cell.init(jax.random.key(0), INPUT).b, expected)


def test_other_biases_begin_as_asked():
    np.testing.assert_array_equal(
        jaxrnn.MLSTM(2, num_heads=2, forget_bias=1.5).init(jax.random.key(0), INPUT).b_gates, [0, 0, 1.5, 1.5]
    )
    np.testing.assert_array_equal(
        jaxrnn.HyperLSTM(2, 1, 1, forget_bias=1.5).init(jax.random.key(0), 3).hyper_b, [0, 1.5, 0, 0]
    )


def test_chrono_reaches_each_head_and_both_parts_of_a_hyper_lstm():
    span = jaxrnn.Chrono(100)
    b_i, b_f, *rest = np.split(
        to_numpy(jaxrnn.SLSTM(64, num_heads=2, forget_bias=span).init(jax.random.key(0), INPUT).b), 4
    )
    np.testing.assert_array_equal(b_i, -b_f)
    assert 0 <= b_f.min() < b_f.max() <= np.log(99)
    assert not np.any(rest)
    hyper = to_numpy(jaxrnn.HyperLSTM(8, 8, 2, forget_bias=span).init(jax.random.key(0), INPUT))
    assert (hyper.b[8:16] > 0).all()
    assert (hyper.hyper_b[8:16] > 0).all()
    assert not np.array_equal(hyper.b, hyper.hyper_b)


def test_first_biases():
    key = jax.random.key(0)
    of_gates = np.repeat([0, 3, 0, 0], 2)
    np.testing.assert_array_equal(
        jaxrnn.GroupLSTM(4, num_groups=2, forget_bias=3.0).init(key, 4).b, [of_gates, of_gates]
    )
    np.testing.assert_array_equal(jaxrnn.FactorizedLSTM(2, 3, forget_bias=3.0).init(key, 4).b, of_gates)
    for b in jaxrnn.GridLSTM(2, depth_size=2, forget_bias=3.0).init(key, 4).b:
        np.testing.assert_array_equal(b, np.repeat([0, 3, 0, 0, 0, 1, 0, 0], 2))
    for b in jaxrnn.GatedFeedbackLSTM(2, depth_size=2, forget_bias=3.0).init(key, 4).b:
        np.testing.assert_array_equal(b, of_gates)
    chrono = jaxrnn.GroupLSTM(4, num_groups=2, forget_bias=jaxrnn.Chrono(9.0)).init(key, 4).b
    np.testing.assert_array_equal(chrono[:, :2], -chrono[:, 2:4])
    assert (chrono[0] != chrono[1]).any()
