"""The loss of a language model, for one window and for a long text."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from support.devices import sum_over_streams, varying

import jaxrnn


def loss_of_window(
    model: jaxrnn.Stack, params: Any, read: Array, following: Array, state: Any, weights: Any = None, **how: Any
) -> tuple[Array, Any]:
    """Returns the loss of a model in a window of text, and the state after the window.

    Args:
      model: The model, whose last layer must be a `Dense` layer.
      params: Its parameters.
      read: The symbols that the model reads [time, batch].
      following: The symbols that it should predict [time, batch]: for each symbol, the next one.
      state: The state before the window.
      weights: Weight of each symbol's loss in their sum [time, batch]. None means the mean loss.
      **how: Further arguments of `jaxrnn.unroll`.
    """
    *layers, _ = model.layers
    *p_layers, p_dense = params
    state, hs = jaxrnn.unroll(jaxrnn.Stack(*layers), tuple(p_layers), read, state[:-1], **how)
    return jaxrnn.cross_entropy(p_dense, hs, following, weights), (*state, ())


@partial(jax.jit, static_argnames=("model", "num_train", "mesh"))
def validation_loss(model: jaxrnn.Stack, params: Any, symbols: Array, num_train: int, mesh: Mesh) -> Array:
    """Returns the mean loss over all characters after the first `num_train`, each predicted once.

    The text is read in 128 streams side by side, by the devices of a mesh. Each begins 128 characters before the first
    one that counts, so that of the first `num_train` only the last 129 are used.
    """
    streams = warm_up = window = 128
    number = -(-(len(symbols) - num_train) // streams)
    windows = -(-(warm_up + number) // window)

    def losses(params: Any, streams_here: Array, symbols: Array) -> Array:
        starts = num_train + number * streams_here - warm_up

        def read(state: Any, n: Array) -> tuple[Any, Array]:
            time = n * window + jnp.arange(window)[:, None]
            places = starts + time  # of the characters to predict
            counts = (time >= warm_up) & (time < warm_up + number) & (places < len(symbols)) & (streams_here < streams)
            read, following = symbols[jnp.maximum(places - 1, 0)], symbols[places]
            loss, state = loss_of_window(model, params, read, following, state, counts)
            return varying(state), loss

        state = varying(model.initial_state(params, streams_here.shape))
        return jax.lax.scan(read, state, jnp.arange(windows))[1].sum()

    return sum_over_streams(losses, mesh, streams)(params, symbols) / (len(symbols) - num_train)
