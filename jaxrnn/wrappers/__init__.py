"""Wrappers: cells that wrap another cell, such as zoneout, recurrent dropout and learned initial states."""

from jaxrnn.wrappers.fast_slow import FastSlow, FastSlowInput, FastSlowParams, FastSlowState
from jaxrnn.wrappers.learned_initial_state import LearnedInitialState, LearnedInitialStateParams
from jaxrnn.wrappers.mogrifier import Mogrifier, MogrifierInput, MogrifierParams
from jaxrnn.wrappers.multiplicative import Multiplicative, MultiplicativeInput, MultiplicativeParams
from jaxrnn.wrappers.recurrent_dropout import RecurrentDropout
from jaxrnn.wrappers.skip import Skip, SkipParams, SkipState
from jaxrnn.wrappers.zoneout import Zoneout

__all__ = [
    "FastSlow",
    "FastSlowInput",
    "FastSlowParams",
    "FastSlowState",
    "LearnedInitialState",
    "LearnedInitialStateParams",
    "Mogrifier",
    "MogrifierInput",
    "MogrifierParams",
    "Multiplicative",
    "MultiplicativeInput",
    "MultiplicativeParams",
    "RecurrentDropout",
    "Skip",
    "SkipParams",
    "SkipState",
    "Zoneout",
]


def __dir__() -> list[str]:
    return __all__
