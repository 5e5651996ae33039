"""The hidden state that wrappers change."""

import jax
import numpy as np

import jaxrnn
from jaxrnn.wrappers._hidden import get_hidden, replace_hidden


def test_hidden_is_the_field_h_or_the_first_down_to_an_array():
    array, other, new = (np.full(2, value) for value in (1.0, 2.0, 3.0))
    lstm = jaxrnn.cells.LSTMState(h=array, c=other)
    memory = jaxrnn.cells.MemoryControllerLSTMState(h=array, v=other, c=other)
    for state in (array, lstm, memory, (array, other), jaxrnn.cells.CoRNNState(array, other), ((lstm, other), other)):
        assert get_hidden(state) is array
        changed = replace_hidden(state, new)
        assert get_hidden(changed) is new
        assert jax.tree.structure(changed) == jax.tree.structure(state)
        assert [leaf is new for leaf in jax.tree.leaves(changed)] == [leaf is array for leaf in jax.tree.leaves(state)]
