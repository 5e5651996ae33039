"""The benchmark's tables and plots."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.ticker import NullFormatter, ScalarFormatter
from support.files import write_whole
from support.plots import figure

from benchmark.contenders import COMPILED, CUDNN, LOOPS, OURS, SLEEPING, TORCH

Rows = list[dict[str, Any]]
COLORS = ("#1f5fa8", "#c1440e", "#3a923a", "#8b5fa8", "#9a7b1f", "#5f6b78", "#c25b9a", "#1f9a9a")
BOTH = ("forward", "gradient")
LARGE = 256, 32  # hidden size and batch from which products are large enough to come near the bound
IN_OURS = ", our loop"  # ends the names of contenders that run cells of other libraries with our loop
MOST_DOTS = 8  # the most sizes that a panel shows as one dot each
IN_MARKDOWN = {
    "lax.scan": "`lax.scan` of the same cell",
    "flax linen": "Flax linen",
    "flax linen, optimized": "Flax linen, `OptimizedLSTMCell`",
    "flax nnx": "Flax nnx",
    "haiku": "Haiku",
    "keras": "Keras on JAX",
    "equinox": "Equinox",
    CUDNN: f"`{CUDNN}` (cuDNN)",
    TORCH: "PyTorch",
    SLEEPING: "PyTorch, idle threads asleep",
    COMPILED: f"`{COMPILED}`",
}


# --- Tables ---


class Table(NamedTuple):
    """A table.

    Attributes:
      title: Its title.
      columns: The names of its columns.
      lines: What was timed, the name of a contender, and a text for each column. Lines are grouped by what was timed.
    """

    title: str
    columns: list[str]
    lines: list[tuple[str, str, list[str]]]

    def as_text(self) -> str:
        lines = [f"\n{self.title}"]
        for mode, some in grouped(self.lines, 0).items():
            lines.append(f"  {mode:<34}" + "".join(f"{column:>22}" for column in self.columns))
            lines += [f"    {name:<32}" + "".join(f"{text:>22}" for text in texts) for _, name, texts in some]
        return "\n".join(lines)

    def as_markdown(self) -> str:
        lines: list[list[str]] = [["", "", *self.columns], ["---"] * (len(self.columns) + 2)]
        for mode, some in grouped(self.lines, 0).items():
            for n, (_, name, texts) in enumerate(some):
                base = name.removesuffix(IN_OURS)
                label = IN_MARKDOWN.get(base, base) + name.removeprefix(base)
                lines.append(["" if n else mode, label, *texts])
        table = ("|" + "|".join(f" {text} " if text else " " for text in line) + "|" for line in lines)
        return "\n".join([f"{self.title}:", "", *table])


def write_tables(tables: list[Table], path: Path, headline: str) -> None:
    """Writes the headline and all tables as Markdown."""
    write_whole(path, "\n\n".join([headline, *(table.as_markdown() for table in tables)]) + "\n")


def tables_of(rows: Rows) -> list[Table]:
    """Returns tables of ratios, speeds, fractions of the bound, and measurements against a size that varies."""
    tables = []
    for suite, some in grouped(rows, "suite").items():
        single = [row for row in some if not row["varied"]]
        tables.append(memory_table(suite, [row for row in single if row["temporary_mib"] is not None]))
        single = [row for row in single if row["temporary_mib"] is None]
        if suite != "bound":
            tables.append(ratio_table(suite, single))
        for counted, own in grouped(single, "counted").items():
            if counted:
                tables.append(speed_table(f"{suite}, {counted} per second", own))
        tables.append(bound_table(suite, [row for row in single if row["mode"] in BOTH and is_large(row)]))
        for varied, own in grouped(some, "varied").items():
            if varied:
                tables += [
                    against(f"{suite} against {varied}", mode, them) for mode, them in grouped(own, "mode").items()
                ]
    return [table for table in tables if table.lines]


def timed(row: dict[str, Any]) -> str:
    """Returns what was timed in a row, with the precision if that is not float32."""
    return row["mode"] if row["precision"] == "float32" else f"{row['mode']}, {row['precision']}"


def is_large(row: dict[str, Any]) -> bool:
    return row["H"] >= LARGE[0] and row["B"] >= LARGE[1]


def grouped(rows: Sequence[Any], key: Any) -> dict[Any, list[Any]]:
    """Groups rows by a column or by a function of the row, in order of appearance."""
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        groups.setdefault(key(row) if callable(key) else row[key], []).append(row)
    return groups


def size_of(row: dict[str, Any]) -> str:
    return f"{row['B']}x{row['T']}x{row['H']}"


def geometric_mean(numbers: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, numbers)) / len(numbers))


def make_lines(mode: str, rows: Rows, column: Any, text: Callable[[Rows], str], columns: list[str]) -> list[Any]:
    """Returns a line for each contender. `text` makes a cell from the rows of one contender in one column."""
    lines = []
    for name, own in grouped(rows, "contender").items():
        found = grouped(own, column)
        lines.append((mode, name, [text(found[wanted]) if wanted in found else "" for wanted in columns]))
    return lines


def ratio_table(suite: str, rows: Rows) -> Table:
    """Makes a table of geometric means over sizes, with the lowest ratio in parentheses."""
    modes = grouped(rows, timed)
    for precision, some in grouped([row for row in rows if row["mode"] in BOTH], "precision").items():
        if len(grouped(some, "mode")) == len(BOTH):
            modes[timed({"mode": " and ".join(BOTH), "precision": precision})] = some
    cells, lines, most = list(grouped(rows, "cell")), [], 0
    for mode, some in modes.items():
        sizes = {cell: len(grouped(own, size_of)) for cell, own in grouped(some, "cell").items()}
        others = [row for row in some if row["contender"] != OURS]
        lines += make_lines(mode, others, "cell", partial(mean_ratio, sizes=sizes), cells)
        most = max(most, *sizes.values())
    over = f", geometric mean over {most} sizes (lowest)" if most > 1 else ""
    return Table(f"{suite}, time relative to {OURS}{over}", cells, lines)


def mean_ratio(rows: Rows, sizes: dict[str, int]) -> str:
    """Returns the mean and the lowest ratio, and the number of sizes if some sizes of the cell are missing."""
    found, number = [row["ratio"] for row in rows], len(grouped(rows, size_of))
    lowest = f" ({min(found):.2f})" if len(found) > 1 else ""
    return f"{geometric_mean(found):.2f}{lowest}" + (f", {number} sizes" if number < sizes[rows[0]["cell"]] else "")


def memory_table(suite: str, rows: Rows) -> Table:
    """Makes a table of the time and the temporary memory of the default loop, and of other loops relative to it."""
    others = [name for name in grouped(rows, "contender") if name != OURS]
    columns = [f"{OURS}, ms", *(f"{name}, time" for name in others), f"{OURS}, MiB", *(f"{n}, MiB" for n in others)]
    lines = []
    for what, some in grouped(rows, lambda row: (row["cell"], f"{timed(row)}, {size_of(row)}")).items():
        found = {row["contender"]: row for row in some}
        texts = []
        for measured in ("median_ms", "temporary_mib"):
            ours = found[OURS][measured]
            texts.append(f"{ours:.4g}")
            texts += [f"{found[name][measured] / ours:.2f} times" if name in found else "" for name in others]
        lines.append((*what, texts))
    return Table(f"{suite}, time and temporary memory", columns, lines)


def speed_table(title: str, rows: Rows) -> Table:
    """Makes a table of how many symbols or words are processed per second."""

    def column(row: dict[str, Any]) -> str:
        return f"{row['cell']} {size_of(row)}"

    columns, lines = list(grouped(rows, column)), []
    for mode, some in grouped(rows, timed).items():
        lines += make_lines(mode, some, column, lambda own: f"{own[0]['per_second']:,.0f}", columns)
    return Table(title, columns, lines)


def bound_table(suite: str, rows: Rows) -> Table:
    """Makes a table of the speed of our loops and PyTorch, as a fraction of that of a large product."""

    def text(some: Rows) -> str:
        found = [row["fraction_of_bound"] for row in some]
        return f"{sum(found) / len(found):.0%}" + (f" ({min(found):.0%})" if len(found) > 1 else "")

    rows = [row for row in rows if row["contender"] in (*LOOPS, TORCH)]
    cells, lines = list(grouped(rows, "cell")), []
    for mode, some in grouped(rows, timed).items():
        lines += make_lines(mode, some, "cell", text, cells)
    where = f"at H ≥ {LARGE[0]} and B ≥ {LARGE[1]}"
    return Table(f"{suite}, fraction of the speed of a large product, {where}, mean (lowest)", cells, lines)


def against(title: str, mode: str, rows: Rows) -> Table:
    """Makes a table of times or memory against the size that varies."""
    varied = rows[0]["varied"]
    measured, unit = measured_in(rows[0])

    def column(row: dict[str, Any]) -> str:
        return f"{row['cell']}, {varied} = {row[varied]}"

    columns, lines = list(grouped(rows, column)), []
    for what, some in grouped(rows, timed).items():
        lines += make_lines(what, some, column, lambda own: f"{own[0][measured]:.4g}", columns)
    return Table(f"{title}, {mode}, {unit}", columns, lines)


def measured_in(row: dict[str, Any]) -> tuple[str, str]:
    """Returns the column of what was measured, and its unit."""
    units = {"temporary_mib": "MiB of temporaries", "iterations": "iterations", "median_ms": "ms"}
    column = next(column for column in units if row.get(column) is not None)
    return column, units[column]


# --- Plots ---


def plot(rows: Rows, folder: Path, title: str) -> list[str]:
    """Draws one plot for each suite, and returns their paths."""
    paths = []
    for suite, some in grouped([row for row in rows if row["suite"] != "bound"], "suite").items():
        panels = list(panels_of(suite, some))
        columns = 2 if len(panels) == 4 else min(3, len(panels))
        lines = -(-len(panels) // columns)
        paths.append(folder / f"{suite}.png")
        with figure(paths[-1], rows=lines, columns=columns, dpi=130, figsize=(6 * columns, 4 * lines)) as (drawn, grid):
            for axes in grid.flat[len(panels) :]:
                axes.set_visible(False)
            for axes, (name, draw, shown) in zip(grid.flat, panels, strict=False):
                draw(axes, shown)
                axes.set_title(name)
            drawn.suptitle(title)
    return [str(path) for path in paths]


def panels_of(suite: str, rows: Rows) -> Iterable[tuple[str, Callable[[Any, Rows], None], Rows]]:
    """Yields the panels of a suite: the title, the function that draws it, and its rows."""
    for (mode, varied), some in grouped(rows, lambda row: (timed(row), row["varied"])).items():
        title = f"{suite}: {mode}"
        if varied:
            yield f"{title} against {varied}", against_size, some
        elif len(grouped(some, size_of)) > MOST_DOTS:
            for cell, own in grouped(some, "cell").items():
                yield f"{title}, {cell}", against_hidden_size, own
        else:
            yield title, ratios, some


def ratios(axes: Any, rows: Rows) -> None:
    """Draws relative times: a line for each contender, and a dot for each size."""
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
    measured, unit = measured_in(rows[0])
    curves = dict.fromkeys((row["contender"], row["cell"]) for row in rows)
    for n, (contender, cell) in enumerate(curves):
        some = [row for row in rows if (row["contender"], row["cell"]) == (contender, cell)]
        label = contender if len(cells) == 1 else f"{contender}, {cell}"
        varied = some[0]["varied"]
        axes.plot(
            [row[varied] for row in some], [row[measured] for row in some], "o-", color=COLORS[n % 8], label=label
        )
    axes.set(xscale="log", yscale="log", xlabel=rows[0]["varied"])
    axes.set_ylabel("milliseconds" if unit == "ms" else unit)
    axes.legend(fontsize="small")


def against_hidden_size(axes: Any, rows: Rows) -> None:
    """Draws relative times of our loops and PyTorch: geometric means over batches and lengths, and their range."""
    shown = [row for row in rows if row["contender"] in (*LOOPS, TORCH) and row["contender"] != OURS]
    for n, (name, some) in enumerate(grouped(shown, "contender").items()):
        found = {hidden: [row["ratio"] for row in own] for hidden, own in sorted(grouped(some, "H").items())}
        means = [geometric_mean(ratios) for ratios in found.values()]
        color = COLORS[n % 8]
        axes.plot([*found], means, "o-", color=color, label=name)
        lowest, highest = ([f(ratios) for ratios in found.values()] for f in (min, max))
        axes.fill_between([*found], lowest, highest, color=color, alpha=0.12, linewidth=0)
    axes.axhline(1, color="#333333", linewidth=1)
    axes.set(
        xscale="log", yscale="log", xlabel="hidden size", ylabel="relative time (above the line: jaxrnn is faster)"
    )
    for axis, ticks in ((axes.xaxis, sorted({row["H"] for row in rows})), (axes.yaxis, [0.5, 1, 2, 4, 8])):
        axis.set_ticks(ticks)
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    axes.legend(fontsize="small")
