"""Shared by the tests of experiments."""

import pytest
import support.run


@pytest.fixture(autouse=True)
def _few_plots(monkeypatch):
    """Draws the curves of a run once, and not at every stage: drawing takes most of the time of a short run."""
    plot_curves = support.run.plot_curves

    def plot_once(path, *arguments):
        if not path.exists():
            plot_curves(path, *arguments)

    monkeypatch.setattr(support.run, "plot_curves", plot_once)
