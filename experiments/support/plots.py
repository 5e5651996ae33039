"""Figures: one style for all experiments, and the curves of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib import font_manager, ft2font
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from support.files import whole_file

BLUE, RED, GREEN, GRAY = "#1f5fa8", "#c1440e", "#3a923a", "#9aa5b1"


@contextlib.contextmanager
def figure(path: Path, rows: int = 1, columns: int = 1, dpi: int = 160, **options: Any) -> Iterator[tuple[Figure, Any]]:
    """Yields a figure with a grid of axes [rows, columns], and saves it in one move at the end."""
    size = options.pop("figsize")
    drawn = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(drawn)
    grid = drawn.subplots(rows, columns, squeeze=False, **options)
    yield drawn, grid
    with whole_file(path) as unfinished:
        drawn.savefig(unfinished, dpi=dpi)


def tidy(axes: Any, grid: bool = True) -> None:
    """Draws a light grid, and removes the frame above and on the right."""
    if grid:
        axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def plot_curves(path: Path, rows: list[dict[str, Any]], baselines: dict[str, float], ylabel: str, title: str) -> None:
    """Draws losses against the training step: those of single models thin, baselines as horizontal lines."""
    steps = [row["step"] for row in rows]

    def column(name: str) -> list[float]:
        return [row[name] for row in rows]

    losses = [name for name in rows[-1] if name.endswith("_loss")]
    members = [name for name in rows[-1] if name.startswith("member_")]
    with figure(path, figsize=(7, 4.2)) as (_, grid):
        axes = grid[0, 0]
        for name, color in zip(losses, (GRAY, BLUE, GREEN), strict=False):
            label = f"{name.replace('_loss', '').replace('valid', 'validation')}, last {rows[-1][name]:.3f}"
            axes.plot(steps, column(name), color=color, marker=".", linewidth=1.8, label=label)
        for name in members:
            axes.plot(steps, column(name), color=BLUE, linewidth=0.6, alpha=0.6)
        if members:
            each = [[row[name] for name in members] for row in rows]
            axes.fill_between(steps, [*map(min, each)], [*map(max, each)], color=BLUE, alpha=0.12, linewidth=0)
        for name, value in baselines.items():
            axes.axhline(value, color=RED, linestyle="--", linewidth=1.3, label=f"{name}, {value:.3f}")
        axes.set(xlabel="training step", ylabel=ylabel, title=title)
        tidy(axes)
        axes.legend(frameon=False)


def font_for(text: str) -> font_manager.FontProperties | None:
    """Returns an installed font that has all characters of a text, or None."""
    for path in (font_manager.findfont("DejaVu Sans"), *sorted(font_manager.findSystemFonts())):
        try:
            if {*map(ord, text)} <= ft2font.FT2Font(path).get_charmap().keys():
                return font_manager.FontProperties(fname=path)
        except (OSError, RuntimeError):  # not a readable font
            continue
    return None
