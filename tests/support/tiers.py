"""Parameters of tests of which only a few are in the default tier."""

from __future__ import annotations

import pytest

REPRESENTATIVES = ("LSTM", "GRU", "MinGRU", "Zoneout")  # of cells; they take every test of every tier


def slow_but(values, chosen):
    """Parameters for `pytest.mark.parametrize`: those that are not chosen are marked slow."""
    return [value if value in chosen else pytest.param(value, marks=pytest.mark.slow) for value in values]


def slow(*values):
    """One slow parameter."""
    return pytest.param(*values, marks=pytest.mark.slow)
