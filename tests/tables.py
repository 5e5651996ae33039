"""The tables that all batteries run over: what is exported stands here, or the suite fails (test_tables.py)."""

from __future__ import annotations

import catalogue
import jax
import jax.numpy as jnp
import numpy as np
import references
from references import INPUT, Case

import jaxrnn
from jaxrnn import loops

CELLS = {
    "Elman": Case(jaxrnn.Elman(4), references.elman(4)),
    "LSTM": Case(jaxrnn.LSTM(4), references.lstm(4)),
    "GRU": Case(jaxrnn.GRU(4), references.gru(4)),
    "ResetBeforeGRU": Case(jaxrnn.ResetBeforeGRU(4), references.reset_before_gru(4)),
    "ResetAfterMGU": Case(jaxrnn.ResetAfterMGU(4), references.reset_after_mgu(4)),
    "PeepholeLSTM": Case(jaxrnn.PeepholeLSTM(4), references.peephole_lstm(4)),
    "ProjectedLSTM": Case(jaxrnn.ProjectedLSTM(4, 2), references.projected_lstm(4, 2)),
    "Zoneout": Case(
        jaxrnn.Zoneout(jaxrnn.LSTM(4), jaxrnn.LSTMState(h=0.1, c=0.4)),
        references.zoneout(references.lstm(4), (0.1, 0.4)),
    ),
    "RecurrentDropout": Case(jaxrnn.RecurrentDropout(jaxrnn.GRU(4), 0.5), references.gru(4)),  # evaluation
    "LearnedInitialState": Case(
        jaxrnn.LearnedInitialState(jaxrnn.LSTM(4)), references.learned_initial_state(references.lstm(4))
    ),
    "Multiplicative": Case(jaxrnn.Multiplicative(jaxrnn.LSTM(4)), references.multiplicative(references.lstm(4))),
    "Mogrifier": Case(jaxrnn.Mogrifier(jaxrnn.GRU(4), 3, rank=2), references.mogrifier(references.gru(4), 3)),
    "FastSlow": Case(
        jaxrnn.FastSlow((jaxrnn.GRU(4),) * 3, jaxrnn.LSTM(2)),
        references.fast_slow([references.gru(4)] * 3, references.lstm(2)),
    ),
    "Skip": Case(jaxrnn.Skip(jaxrnn.LSTM(4)), references.skip(references.lstm(4))),
}

LAYERS = {
    "Stack": jaxrnn.Stack(jaxrnn.LSTM(4), jaxrnn.GRU(3)),
    "DenselyConnected": jaxrnn.DenselyConnected(jaxrnn.GRU(4), jaxrnn.Elman(2)),
    "Residual": jaxrnn.Residual(jaxrnn.LSTM(INPUT)),
    "Highway": jaxrnn.Highway(jaxrnn.GRU(INPUT)),
    "Using": jaxrnn.Using(jaxrnn.LSTM(4), loops.Scan(unroll=2)),
    "Bidirectional": jaxrnn.Bidirectional(jaxrnn.GRU(4), jaxrnn.LSTM(2)),
    "Reversed": jaxrnn.Reversed(jaxrnn.LSTM(4)),
    "Sliced": jaxrnn.Sliced(jaxrnn.GRU(4), 2),
    "Dense": jaxrnn.Dense(4),
    "Embedding": jaxrnn.Embedding(4),
    "Dropout": jaxrnn.Dropout(0.5),
    "LayerNorm": jaxrnn.LayerNorm(),
    "Window": jaxrnn.Window(3),
}

CATALOGUE = catalogue.CELLS  # held to less in more cells: test_catalogue.py
VARIANTS = catalogue.VARIANTS  # of cells of the catalogue, held to the same
ALL = {name: case.cell for name, case in CELLS.items()} | LAYERS

LOOPS = {  # every loop that can run any cell, and must equal `Scan()`
    "unroll": loops.Scan(unroll=3),
    "checkpoint": loops.Scan(checkpoint_every=4),
    "deferred": loops.Deferred(),
    "deferred-unroll": loops.Deferred(unroll=3),
    "deferred-checkpoint": loops.Deferred(checkpoint_every=4),
    "deferred-blocks": loops.Deferred(block=3, checkpoint_every=7),
}

LINEAR_LOOPS = {  # those that run a `LinearCell` only
    "associative": loops.AssociativeScan(),
    "associative-chunk": loops.AssociativeScan(chunk=4),
}


def draw_params(layer, seed=0, input_size=INPUT):
    """Parameters none of which is zero, so that no two can be swapped unseen."""
    params = layer.init(jax.random.key(seed), input_size)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.3 * rng.standard_normal(leaf.shape), params)


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def draw_inputs(input_size, *leading):
    return draw(*leading, *np.atleast_1d(input_size))


def draw_state(layer, params, batch_shape, seed=0):
    rng = np.random.default_rng([seed, 1])
    state = layer.initial_state(params, batch_shape)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype), state)


def flat(state):
    """A state as references have it: a tuple of arrays."""
    return tuple(jax.tree.leaves(state))


def to_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def assert_close(one, other, rtol=1e-12):
    """Equality of two pytrees of one structure of leaves; the tolerance is relative to each array's largest entry."""
    one, other = (jax.tree.leaves(to_numpy(tree)) for tree in (one, other))
    assert [a.shape for a in one] == [b.shape for b in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max(initial=0))
