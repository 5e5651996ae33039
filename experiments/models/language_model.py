"""The loss of a language model over a long text."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

import jaxrnn


@partial(jax.jit, static_argnames=("model", "num_train"))
def validation_loss(model: jaxrnn.Stack, params: Any, symbols: Array, num_train: int) -> Array:
    """Returns the mean loss over all characters after the first `num_train`, each predicted once.

    The text is read in 128 streams side by side. Each begins 128 characters before the first one that counts.
    """
    streams = warm_up = window = 128
    number = -(-(len(symbols) - num_train) // streams)
    windows = -(-(warm_up + number) // window)
    starts = num_train + number * jnp.arange(streams) - warm_up

    def read(state: Any, n: Array) -> tuple[Any, Array]:
        time = n * window + jnp.arange(window)[:, None]
        places = starts + time  # of the characters to predict
        state, logits = jaxrnn.unroll(model, params, symbols[jnp.maximum(places - 1, 0)], state)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, symbols[places].astype(jnp.int32))
        counts = (time >= warm_up) & (time < warm_up + number) & (places < len(symbols))
        return state, jnp.sum(losses, where=counts)

    state = model.initial_state(params, (streams,))
    return jax.lax.scan(read, state, jnp.arange(windows))[1].sum() / (len(symbols) - num_train)
