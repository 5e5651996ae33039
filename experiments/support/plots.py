"""Figures: one style for all experiments, and the curves of a run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cycler import cycler
from matplotlib import font_manager, ft2font, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from support.files import whole_file

BLUE, RED, GREEN, GRAY = "#1f5fa8", "#c1440e", "#3a923a", "#9aa5b1"


STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=[BLUE, RED, GREEN, "#e0a030", "#8a6fb0", "#4fa3b5", "#8a6d5a", "#5b6672"]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
}


@contextlib.contextmanager
def figure(
    path: Path, rows: int = 1, columns: int = 1, dpi: int = 160, grid: bool = True, **options: Any
) -> Iterator[tuple[Figure, Any]]:
    """Yields a figure with a grid of axes [rows, columns], and saves it in one move at the end.

    Args:
      path: The file.
      rows: Number of rows.
      columns: Number of columns.
      dpi: Resolution.
      grid: Whether to draw grid lines. Axes with images have none.
      options: Other arguments of `Figure.subplots`, and `figsize`.
    """
    with rc_context(STYLE | {"axes.grid": grid}):
        drawn = Figure(figsize=options.pop("figsize"), layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn, drawn.subplots(rows, columns, squeeze=False, **options)
        for text in drawn.findobj(Text):
            if r"\mathdefault" not in text.get_text():  # not a label of a tick, but perhaps a name with dollar signs
                text.set_parse_math(False)
                text.set_text(text.get_text().encode(errors="backslashreplace").decode())  # names of files, likewise
        with whole_file(path) as unfinished:
            drawn.savefig(unfinished, dpi=dpi)


def visible_range(curves: Iterable[list[float]]) -> tuple[float, float]:
    """Returns the lowest and the highest value to show of several curves.

    High values at the beginning, in the first fifth of a curve, are left out as long as they take two fifths of the
    height from the rest.
    """
    shown: list[float] = []
    for curve in curves:
        values = [value for value in curve if math.isfinite(value)]
        for _ in range(math.ceil(len(values) / 5) if len(values) > 3 else 0):
            if values[0] - max(values[1:]) > 0.4 * (values[0] - min(values)):
                values = values[1:]
        shown += values
    return (min(shown), max(shown)) if shown else (0.0, 1.0)


def plot_curves(path: Path, rows: list[dict[str, Any]], baselines: dict[str, float], ylabel: str, title: str) -> None:
    """Draws losses against the training step: those of single models thin, baselines as horizontal lines."""
    steps = [row["step"] for row in rows]
    losses = [name for name in rows[-1] if name.endswith("_loss")]
    members = [name for name in rows[-1] if name.startswith("member_")]
    columns = {name: [row[name] for row in rows] for name in losses + members}
    with figure(path, figsize=(7, 4.2)) as (_, grid):
        axes = grid[0, 0]
        for name, color in zip(losses, (GRAY, BLUE, GREEN), strict=False):
            several = f", mean of {len(members)}" if members and name == "valid_loss" else ""
            what = name.replace("_loss", "").replace("valid", "validation") + several
            axes.plot(steps, columns[name], color=color, marker="o", label=f"{what}, last {columns[name][-1]:z.3f}")
        for n, name in enumerate(members):
            each = f"each model, last {', '.join(f'{columns[one][-1]:z.3f}' for one in members[:4])}"
            each += ", ..." if len(members) > 4 else ""
            axes.plot(
                steps,
                columns[name],
                color=GREEN,
                marker="o",
                markersize=2,
                linewidth=0.9,
                label=each if n == 0 else None,
            )
        for name, value in baselines.items():
            axes.axhline(value, color=RED, linestyle="--", linewidth=1.3, label=f"{name}, {value:z.3f}")
        low, high = visible_range([*columns.values(), *([value] for value in baselines.values())])
        margin = 0.05 * (high - low or 1)
        axes.set(xlabel="training step", ylabel=ylabel, title=title, ylim=(low - margin, high + margin))
        axes.legend()


def font_for(text: str) -> font_manager.FontProperties | None:
    """Returns an installed font that has all characters of a text, or None."""
    for path in (font_manager.findfont("DejaVu Sans"), *sorted(font_manager.findSystemFonts())):
        try:
            if {*map(ord, text)} <= ft2font.FT2Font(path).get_charmap().keys():
                return font_manager.FontProperties(fname=path)
        except (OSError, RuntimeError):  # not a readable font
            continue
    return None
