"""Initializers of weights."""

import re

import jax
import pytest

import jaxrnn
from tests.support.cases import cases, examples
from tests.support.comparisons import to_numpy
from tests.support.inputs import INPUT
from tests.support.tiers import slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")


def test_uniform_initializer():
    draws = to_numpy(jaxrnn.initializers.uniform(0.25)(jax.random.key(0), (1000,)))
    assert -0.25 <= draws.min() < -0.24
    assert 0.24 < draws.max() < 0.25


LAYERS = {name: (case.cell, case.reference.input_size) for name, case in cases().items()}
LAYERS |= {name: (layer, INPUT) for name, layer in examples().items()}
SOME = ("LSTM", "GRU", "ConvLSTM", "SLSTM", "LinearAttention", "Stack")


@pytest.mark.parametrize("name", slow_but(LAYERS, SOME))
def test_a_vmapped_init_decomposes_one_matrix_at_a_time(name):
    """Two batches of matrices that XLA decomposes on its threads can wait for each other forever (JAX 0.10)."""
    layer, input_size = LAYERS[name]
    init = jax.jit(jax.vmap(lambda key: layer.init(key, input_size)))
    program = init.lower(jax.random.split(jax.random.key(0), 3)).as_text()
    decompositions = re.findall(r"custom_call @lapack.*", program)
    assert not [line for line in decompositions if re.search(r"tensor<(\d+x){3}", line)]
    assert decompositions or name not in ("LSTM", "GRU", "ConvLSTM", "SLSTM", "Stack")


@pytest.mark.parametrize("draw", [jaxrnn.initializers.orthogonal, jaxrnn.initializers.delta_orthogonal])
def test_draws_under_vmap_are_those_without(draw):
    keys = jax.random.split(jax.random.key(0), 6).reshape(2, 3)
    drawn = jax.jit(jax.vmap(jax.vmap(lambda key: draw(key, (3, 2, 4)))))(keys)
    for row in range(2):
        for column in range(3):
            alone = draw(keys[row, column], (3, 2, 4))
            assert (to_numpy(drawn[row, column]) == to_numpy(alone)).all()
