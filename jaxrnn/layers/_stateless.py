"""Base of layers without a state."""

from __future__ import annotations

from typing import Any

from jaxrnn.layer import Layer


class Stateless(Layer):
    """A layer whose state is empty. Of inputs of several feature axes it reads the last; the others are a batch."""

    def initial_state(self, params: Any, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> tuple[()]:
        return ()
