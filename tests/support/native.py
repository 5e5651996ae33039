"""Which cells the native loop refuses, and inputs for it, in float32."""

import jax
import jax.numpy as jnp

from tests.support.inputs import INPUT, draw_inputs, draw_params, draw_state
from tests.support.loops import BATCH, TIME

REFUSED = {  # cells that it cannot run, and the operation that their step needs
    "ConvGRU": "conv_general_dilated",
    "ConvLSTM": "conv_general_dilated",
    "HGRN": "complex64",
    "LRU": "complex64",
    "LinearRTU": "complex64",
    "ONLSTM": "cumsum",
    "PeepholeConvLSTM": "conv_general_dilated",
    "Retention": "complex64",
    "S4D": "complex64",
    "S5": "complex64",
    "URNN": "complex64",
}


def input_size_of(case):
    return getattr(case.reference, "input_size", INPUT)


def single(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def arguments(cell, input_size, batch=BATCH, time=TIME):
    params = draw_params(cell, input_size=input_size)
    return single((params, draw_inputs(input_size, time, batch), draw_state(cell, params, (batch,))))
