"""Layers that combine cells, such as stacks, or that are used between them, such as dense layers and dropout."""

from jaxrnn.layers._output_size import output_size
from jaxrnn.layers.activation import Activation
from jaxrnn.layers.bidirectional import Bidirectional, BidirectionalParams, BidirectionalState, concat
from jaxrnn.layers.dense import Dense, DenseParams
from jaxrnn.layers.densely_connected import DenselyConnected
from jaxrnn.layers.dropout import Dropout
from jaxrnn.layers.embedding import Embedding, EmbeddingParams
from jaxrnn.layers.highway import Highway, HighwayParams
from jaxrnn.layers.layer_norm import LayerNorm, LayerNormParams
from jaxrnn.layers.residual import Residual
from jaxrnn.layers.reversed import Reversed
from jaxrnn.layers.sliced import Sliced
from jaxrnn.layers.stack import Stack
from jaxrnn.layers.using import Using
from jaxrnn.layers.window import Window, WindowParams, WindowState

__all__ = [
    "Activation",
    "Bidirectional",
    "BidirectionalParams",
    "BidirectionalState",
    "Dense",
    "DenseParams",
    "DenselyConnected",
    "Dropout",
    "Embedding",
    "EmbeddingParams",
    "Highway",
    "HighwayParams",
    "LayerNorm",
    "LayerNormParams",
    "Residual",
    "Reversed",
    "Sliced",
    "Stack",
    "Using",
    "Window",
    "WindowParams",
    "WindowState",
    "concat",
    "output_size",
]


def __dir__() -> list[str]:
    return __all__
