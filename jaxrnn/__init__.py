"""Recurrent networks for JAX: cells as pure functions over explicit parameters, one `unroll` for all."""

from jaxrnn import cells, initializers, loops, ops, weights
from jaxrnn.adopt import adopt
from jaxrnn.bidirectional import Bidirectional, Reversed, concat
from jaxrnn.cells import *  # noqa: F403
from jaxrnn.combinators import DenselyConnected, Highway, Residual, Stack, Using
from jaxrnn.fast_slow import FastSlow
from jaxrnn.feedforward import Dense, Dropout, Embedding, LayerNorm
from jaxrnn.files import load, save
from jaxrnn.initializers import Chrono
from jaxrnn.layer import Cell, Layer, LinearCell, Plan, StepKey
from jaxrnn.multiplicative import Mogrifier, Multiplicative
from jaxrnn.skip import Skip
from jaxrnn.sliced import Sliced
from jaxrnn.stream import Stream
from jaxrnn.unroll import step, unroll
from jaxrnn.window import Window
from jaxrnn.wrappers import LearnedInitialState, RecurrentDropout, Zoneout

__version__ = "0.1.0"

__all__ = [
    "Bidirectional",
    "Cell",
    "Chrono",
    "Dense",
    "DenselyConnected",
    "Dropout",
    "Embedding",
    "FastSlow",
    "Highway",
    "Layer",
    "LayerNorm",
    "LearnedInitialState",
    "LinearCell",
    "Mogrifier",
    "Multiplicative",
    "Plan",
    "RecurrentDropout",
    "Residual",
    "Reversed",
    "Skip",
    "Sliced",
    "Stack",
    "StepKey",
    "Stream",
    "Using",
    "Window",
    "Zoneout",
    "adopt",
    "cells",
    "concat",
    "initializers",
    "load",
    "loops",
    "ops",
    "save",
    "step",
    "unroll",
    "weights",
]
__all__ += cells.__all__
