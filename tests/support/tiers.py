"""Parameters of tests of which only a few are in the default tier."""

from __future__ import annotations

import pytest

REPRESENTATIVES = ("LSTM", "GRU", "MinGRU", "Zoneout")  # of cells; they take every test of every tier


def slow_but(values, chosen):
    """Parameters for `pytest.mark.parametrize`: those that are not chosen are marked slow.

    A value is one argument of the test, or a tuple of several.
    """
    return [value if value in chosen else slow(*(value if isinstance(value, tuple) else (value,))) for value in values]


def slow(*values):
    """One set of parameters, marked slow."""
    return pytest.param(*values, marks=pytest.mark.slow)
