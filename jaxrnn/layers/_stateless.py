"""Base of layers without a state."""

from __future__ import annotations

from typing import Any

from jaxrnn.layer import Layer


class Stateless(Layer):
    """A layer without a state, applied to the last axis of its input. All other axes are batch axes."""

    def initial_state(self, params: Any, batch_shape: tuple[int, ...] = (), dtype: Any = None) -> tuple[()]:
        return ()
