"""The benchmark's table of ratios and its plot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.ticker import NullFormatter, ScalarFormatter
from support.plots import BLUE, figure

Rows = list[dict[str, Any]]
COLORS = ("#1f5fa8", "#c1440e", "#3a923a", "#8b5fa8", "#9a7b1f", "#5f6b78", "#c25b9a", "#1f9a9a")


def print_ratios(rows: Rows, ours: str) -> None:
    """Prints a line per contender and a column per cell: the geometric mean over all sizes, and the lowest ratio."""
    for suite, mode in dict.fromkeys((row["suite"], row["mode"]) for row in rows if row["suite"] in ("layer", "model")):
        some = [row for row in rows if (row["suite"], row["mode"]) == (suite, mode)]
        cells = list(dict.fromkeys(row["cell"] for row in some))
        print(f"\n{suite + ', ' + mode:<34}" + "".join(f"{cell:>16}" for cell in cells))
        for name in dict.fromkeys(row["contender"] for row in some if row["contender"] != ours):
            line = f"  {name:<32}"
            for cell in cells:
                found = [row["ratio"] for row in some if (row["contender"], row["cell"]) == (name, cell)]
                mean = math.exp(sum(map(math.log, found)) / len(found)) if found else 0
                line += f"{f'{mean:.2f} ({min(found):.2f})' if found else '':>16}"
            print(line)


def plot(rows: Rows, path: Path, title: str) -> None:
    """Draws a panel per suite and mode that has been measured."""
    panels: dict[tuple[str, str, str], Rows] = {}
    for row in rows:
        panels.setdefault((row["suite"], row["mode"], row["varied"]), []).append(row)
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    size = 6 * columns, 4 * lines
    with figure(path, rows=lines, columns=columns, dpi=130, figsize=size) as (drawn, grid):
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, ((suite, mode, varied), some) in zip(grid.flat, panels.items(), strict=False):
            draw = against_size if varied else ratios if suite in ("layer", "model") else speeds
            draw(axes, some)
            axes.set_title(f"{suite}: {mode}" + (f" against {varied}" if varied else ""))
        drawn.suptitle(title)


def ratios(axes: Any, rows: Rows) -> None:
    """Draws a row per contender, a dot per size."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    names = list(dict.fromkeys(row["contender"] for row in rows))
    for n, cell in enumerate(cells):
        some = [row for row in rows if row["cell"] == cell]
        places = [names.index(row["contender"]) + 0.12 * (n - len(cells) / 2) for row in some]
        axes.plot([row["ratio"] for row in some], places, "o", color=COLORS[n % 8], markersize=4, label=cell)
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set(xscale="log", xlabel="relative time (right of the line: jaxrnn is faster)")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks([0.5, 1, 2, 4, 8])
    axes.legend(fontsize="small")


def against_size(axes: Any, rows: Rows) -> None:
    """Draws times or memory against the size that varies."""
    cells = {row["cell"] for row in rows}
    measured = "temporary_mib" if rows[0]["temporary_mib"] is not None else "median_ms"
    curves = dict.fromkeys((row["contender"], row["cell"]) for row in rows)
    for n, (contender, cell) in enumerate(curves):
        some = [row for row in rows if (row["contender"], row["cell"]) == (contender, cell)]
        label = contender if len(cells) == 1 else f"{contender}, {cell}"
        varied = some[0]["varied"]
        axes.plot(
            [row[varied] for row in some], [row[measured] for row in some], "o-", color=COLORS[n % 8], label=label
        )
    axes.set(xscale="log", yscale="log", xlabel=rows[0]["varied"])
    axes.set_ylabel("MiB of temporaries" if measured == "temporary_mib" else "milliseconds")
    axes.legend(fontsize="small")


def speeds(axes: Any, rows: Rows) -> None:
    """Draws what the machine can do: one large product."""
    axes.bar([row["contender"] for row in rows], [row["gflops"] for row in rows], color=BLUE)
    axes.set_ylabel("GFLOP/s")
