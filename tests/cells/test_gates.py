"""`gates`: the named gates of a step, from which the state after it follows by the cell's equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.support.cases import cell_cases
from tests.support.comparisons import assert_close, to_numpy
from tests.support.inputs import draw_inputs, draw_params
from tests.support.references import sigmoid

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH = 3, 2
tanh = np.tanh
CELLS = {name: case.cell for name, case in cell_cases().items()}
WITH_GATES = {name: cell for name, cell in CELLS.items() if hasattr(cell, "gates")}

NO_GATES = {  # cells whose step computes a logistic sigmoid that is not one gate of it
    "CfC": "it mixes two networks by time",
    "DeltaNet": "its gate reads the input only",
    "FastRNN": "its gates are two parameters",
    "GRUD": "its gates read an input that is imputed inside the step",
    "GatedAntisymmetricRNN": "its gate and its candidate share one product with the state",
    "GatedDeltaNet": "its gates read the input only",
    "GatedFeedbackLSTM": "it has gates for every pair of layers",
    "GridLSTM": "it has gates for every dimension of every layer",
    "HyperLSTM": "it has two networks",
    "IntersectionRNN": "it has gates along time and along depth",
    "KimiDeltaAttention": "its gates read the input only",
    "LEM": "its gates are time steps",
    "LinOSS": "it bounds a parameter",
    "LTC": "it is the activation of its network",
    "MLSTM": "its output gate reads the input only",
    "NASCell": "it was found by search and names no gates",
    "RWKV": "its gate reads inputs only",
    "RWKV7": "its gates read inputs only",
    "RecurrentHighwayNetwork": "it has gates for each of its layers",
    "SCRN": "it is the activation of its state",
    "UnICORNN": "it bounds a parameter",
}


def lstm(g, s, **_):
    c = g.f * s.c + g.i * g.g
    return {"c": c, "h": g.o * tanh(c)}


def memory(g, s, **_):
    """For LSTMs whose output is more than the gated memory."""
    return {"c": g.f * s.c + g.i * g.g}


def multiplicative(g, s, **_):
    c = g.f * s.c + g.i * g.g
    return {"c": c, "h": tanh(g.o * c)}


def capped(g, s, **_):
    c = g.f * s.c + np.minimum(g.i, 1 - g.f) * g.g
    return {"c": c, "h": g.o * tanh(c)}


def coupled(g, s, **_):
    c = g.f * s.c + (1 - g.f) * g.g
    return {"c": c, "h": g.o * tanh(c)}


def original(g, s, **_):
    c = s.c + g.i * g.g
    return {"c": c, "h": g.o * tanh(c)}


def memory_controller(g, s, **_):
    c = g.f * s.c + g.i * g.n
    return {"c": c, "h": g.o * tanh(c), "v": g.m * tanh(c)}


def highway(g, s, z, **_):
    c = g.f * s.c + g.i * g.g
    return {"c": c, "h": g.r * g.o * tanh(c) + (1 - g.r) * z[1]}


def ur(g, s, **_):
    e = g.r * (1 - (1 - g.f) ** 2) + (1 - g.r) * g.f**2
    c = e * s.c + (1 - e) * g.u
    return {"c": c, "h": g.o * tanh(c)}


def time_aware(g, s, p, z):
    short = tanh(s.c @ p.w_s + p.b_s)
    c = g.f * (s.c - short + z[1] * short) + g.i * g.g
    return {"c": c, "h": g.o * tanh(c)}


def phased(g, s, z, **_):
    c = g.f * s.c + g.i * g.g
    k = z[1]
    return {"c": k * c + (1 - k) * s.c, "h": k * g.o * tanh(c) + (1 - k) * s.h}


def ordered(g, s, **_):
    both = g.master_f * g.master_i
    c = (g.f * both + g.master_f - both) * s.c + (g.i * both + g.master_i - both) * g.g
    return {"c": c, "h": g.o * tanh(c)}


def exponential(g, s, **_):
    c, n = g.f * s.c + g.i * g.z, g.f * s.n + g.i
    return {"c": c, "n": n, "h": g.o * c / n, "m": g.m}


def parallel(g, s, **_):
    c = g.f * s.c + (1 - g.f) * g.z
    return {"c": c, "h": g.o * tanh(c)}


def kept(keep, candidate):
    """h_t = keep * h_{t-1} + (1 - keep) * candidate."""
    return lambda g, s, **_: {"h": getattr(g, keep) * s.h + (1 - getattr(g, keep)) * getattr(g, candidate)}


def replaced(update, candidate):
    """h_t = (1 - update) * h_{t-1} + update * candidate."""
    return lambda g, s, **_: {"h": (1 - getattr(g, update)) * s.h + getattr(g, update) * getattr(g, candidate)}


def bistable(g, s, z, **_):
    return {"h": g.c * s.h + (1 - g.c) * tanh(np.split(z, 3, -1)[2] + g.a * s.h)}


def fast(g, s, p, **_):
    return {"h": (sigmoid(p.zeta) * (1 - g.z) + sigmoid(p.nu)) * g.a + g.z * s.h}


def sru(g, s, z, **_):
    c = g.f * s.c + (1 - g.f) * z.c
    return {"c": c, "h": g.r * c + (1 - g.r) * z.x}


def tlstm(g, s, **_):
    c = g.f * s.c + (1 - g.f) * g.z
    return {"c": c, "h": c * g.o}


AFTER = {  # the state after a step, from its gates and the state before it
    **dict.fromkeys(("LSTM", "ConvLSTM", "MILSTM", "FactorizedLSTM", "GroupLSTM", "MogrifierLSTM"), lstm),
    **dict.fromkeys(("PeepholeLSTM", "PeepholeConvLSTM", "WMCLSTM"), lstm),
    **dict.fromkeys(("ProjectedLSTM", "LayerNormLSTM", "ResidualLSTM"), memory),
    "MultiplicativeLSTM": multiplicative,
    "CappedLSTM": capped,
    "CoupledLSTM": coupled,
    "OriginalLSTM": original,
    "MemoryControllerLSTM": memory_controller,
    "HighwayLSTM": highway,
    "URLSTM": ur,
    "TimeAwareLSTM": time_aware,
    "PhasedLSTM": phased,
    "ONLSTM": ordered,
    "SLSTM": exponential,
    "ParaLSTM": parallel,
    "RAN": lambda g, s, z, **_: {"c": g.i * z[0] + g.f * s.c},
    "GRU": kept("z", "n"),
    "LiGRU": kept("z", "a"),
    "ResetAfterMGU": kept("f", "n"),
    "UGRNN": kept("g", "c"),
    "MinimalRNN": kept("u", "z"),
    **dict.fromkeys(("ResetBeforeGRU", "ConvGRU", "LayerNormGRU", "MUT1", "MUT2", "MUT3"), replaced("z", "a")),
    "ParaGRU": replaced("z", "c"),
    "MGU": replaced("f", "a"),
    "LightRU": replaced("f", "a"),
    **dict.fromkeys(("SGU", "DSGU"), replaced("z", "o")),
    "MiRU1": lambda g, s, **_: {"h": CELLS["MiRU1"].update_rate * s.h + (1 - CELLS["MiRU1"].update_rate) * g.a},
    "TauGRU": lambda g, s, **_: {"h": (1 - g.g) * s.h + g.g * (g.u + g.a * g.z)},
    "JANET": lambda g, s, **_: {"h": g.f * s.h + g.i * g.g},
    "STAR": lambda g, s, **_: {"h": tanh((1 - g.k) * s.h + g.k * g.z)},
    "SGRN": lambda g, s, z, **_: {"h": tanh((1 - g.f) * z + g.f * s.h)},
    "ATR": lambda g, s, z, **_: {"h": g.i * z + g.f * s.h},
    "CFN": lambda g, s, z, **_: {"h": g.theta * tanh(s.h) + g.eta * np.split(z, 3, -1)[2]},
    "FastGRNN": fast,
    **dict.fromkeys(("BRC", "NBRC"), bistable),
    "SRU": sru,
    "TGRU": lambda g, s, **_: {"h": g.f * s.h + g.z * g.o},
    "TLSTM": tlstm,
}


def gates_over_time(name):
    """As the docstring of `states_over_time` shows."""
    cell, size = CELLS[name], cell_cases()[name].reference.input_size
    params, xs = draw_params(cell, input_size=size), draw_inputs(size, TIME, BATCH)
    first = cell.initial_state(params, (BATCH,))
    states, _ = jaxrnn.states_over_time(cell, params, xs)
    before = jax.tree.map(lambda s0, s: jnp.concatenate([s0[None], s[:-1]]), first, states)
    z = cell.project(params, xs)
    return to_numpy((cell.gates(params, before, z), before, states, params, z, xs))


@pytest.mark.parametrize("name", sorted(WITH_GATES))
def test_the_state_follows_from_the_gates(name):
    gates, before, states, params, z, _ = gates_over_time(name)
    assert type(gates) is getattr(jaxrnn.cells, f"{name}Gates")
    expected = AFTER[name](gates, before, p=params, z=z)
    assert_close({field: getattr(states, field) for field in expected}, expected)


def part(array, n, parts):
    return np.split(array, parts, -1)[n]


RESET_GATES = {  # they only affect the candidate
    "GRU": lambda p, h, x: x @ part(p.w_x, 0, 3) + h @ part(p.w_h, 0, 3) + part(p.b, 0, 3),
    "ResetBeforeGRU": lambda p, h, x: x @ part(p.w_x, 0, 3) + h @ part(p.w_h, 0, 2) + part(p.b, 0, 3),
    "MiRU1": lambda p, h, x: x @ part(p.w_x, 0, 2) + h @ p.w_h + part(p.b, 0, 2),
    "MUT1": lambda p, h, x: x @ part(p.w_x, 1, 2) + h @ p.w_h + part(p.b, 1, 3),
    "MUT2": lambda p, h, x: x + h @ part(p.w_h, 1, 2) + part(p.b, 1, 3),
    "MUT3": lambda p, h, x: x @ part(p.w_x, 1, 3) + h @ part(p.w_h, 1, 2) + part(p.b, 1, 3),
    "ParaGRU": lambda p, h, x: x @ part(p.w_x, 1, 3) + h * p.w_h[1] + part(p.b, 1, 3),
}


@pytest.mark.parametrize("name", RESET_GATES)
def test_reset_gates(name):
    gates, before, _, params, _, xs = gates_over_time(name)
    assert_close(gates.r, sigmoid(RESET_GATES[name](params, before.h, xs)))


def test_every_cell_with_gates_has_an_equation_and_every_other_one_a_reason():
    assert set(AFTER) == set(WITH_GATES)
    assert not set(NO_GATES) & set(WITH_GATES)
    for name, cell in CELLS.items():
        if name in WITH_GATES or isinstance(cell, jaxrnn.LinearCell):  # the gates of a linear cell read the input only
            continue
        size = cell_cases()[name].reference.input_size
        params = jax.eval_shape(lambda cell=cell, size=size: cell.init(jax.random.key(0), size))
        x = jax.ShapeDtypeStruct(tuple(np.atleast_1d(size)), float)
        jaxpr = str(jax.make_jaxpr(lambda p, x, cell=cell: cell(p, cell.initial_state(p), x))(params, x))
        assert ("logistic" in jaxpr) == (name in NO_GATES), name
