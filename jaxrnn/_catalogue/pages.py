"""The pages of the catalogue: the list of all cells, one cell's page, and the README of `jaxrnn/cells`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxrnn
from jaxrnn import cells, loops
from jaxrnn._catalogue import docstrings, equations
from jaxrnn.cells._families import FAMILIES, START_HERE, Family
from jaxrnn.layer import Cell, LinearCell, Loop

WIDTH = 80
_SHAPE_COMMENT = re.compile(r"^ +(\w+): .*?  # (.*)$", flags=re.MULTILINE)


_LINEAR = "* linear in its state: jaxrnn.loops.AssociativeScan runs all steps at once"


class Example(NamedTuple):
    """A cell and a size of its input."""

    cell: Cell
    input_size: Any


def overview() -> str:
    """Returns the names of all cells by family, short enough for one screen."""
    lines = []
    for family in FAMILIES:
        names = ", ".join(name + "*" * issubclass(getattr(cells, name), LinearCell) for name in family.purposes)
        lines.append(textwrap.fill(f"{family.title}: {names}", WIDTH, subsequent_indent="  "))
    return "\n".join(
        [
            *lines,
            _LINEAR,
            "",
            "python -m jaxrnn LSTM      one cell's equations, parameters and example",
            "python -m jaxrnn vanilla   what each cell of a family is good for",
            "python -m jaxrnn all       the same for all families",
        ]
    )


def listing(families: Sequence[Family] = FAMILIES) -> str:
    """Returns the cells of some families, each with its year and what it is good for, for a terminal."""
    lines = []
    for family in families:
        lines += [family.title, ""]
        for name, purpose in family.purposes.items():
            cell = getattr(cells, name)
            marked = name + "*" * issubclass(cell, LinearCell)
            lines.append(f"  {marked:<24}{docstrings.citation(cell).year}  {purpose.replace('`', '')}")
        lines.append("")
    return "\n".join([*lines, _LINEAR])


def families(name: str) -> list[Family]:
    """Returns the families whose titles begin with some letters, in any case; all of them for "all"."""
    if name.lower() == "all":
        return list(FAMILIES)
    return [family for family in FAMILIES if len(name) >= 4 and family.title.lower().startswith(name.lower())]


def markdown() -> str:
    """Returns the README of `jaxrnn/cells`."""
    parts = [_ABOUT, "| cell | when |", "|---|---|"]
    parts += [f"| {_link(getattr(cells, name))} | {when} |" for name, when in START_HERE.items()]
    for family in FAMILIES:
        parts += ["", f"## {family.title}", "", family.about, ""]
        parts += ["| cell | good for | paper | year | state | linear |", "|---|---|---|---|---|---|"]
        parts += [_row(getattr(cells, name), purpose) for name, purpose in family.purposes.items()]
    return "\n".join(parts) + "\n"


def page(kind: type[Cell], hidden_size: int | None = None, input_size: Any = None) -> str:
    """Returns one cell's page, for a terminal.

    Args:
      kind: The class of the cell.
      hidden_size: Replaces the hidden size of the example in the cell's docstring.
      input_size: Replaces the input size of that example.

    Raises:
      ValueError: The cell cannot have these sizes.
    """
    text = docstrings.parse(kind)
    example = example_of(kind, hidden_size, input_size)
    parts = [_wrapped(f"{kind.__name__}: {text.summary}")]
    for block in text.body:
        parts.append(_math(block.text) if block.is_math else _wrapped(block.text))
    parts.append(_heading("Arguments", _described_arguments(kind, text)))
    parts += _sizes(example)
    parts.append(_heading("Loops", ", ".join(_loops(example))))
    for section in ("References", "Deviations"):
        if section in text.sections:
            parts.append(_heading(section, _wrapped(" ".join(text.sections[section].split()), WIDTH - 2)))
    parts.append(_heading("Example", text.sections["Example"]))
    parts.append(_heading("File", f"jaxrnn/cells/{_file(kind)}"))
    return "\n\n".join(parts)


def example_of(kind: type[Cell], hidden_size: int | None = None, input_size: Any = None) -> Example:
    """Returns the cell and the input size of the example in a cell's docstring, or with other sizes.

    Raises:
      ValueError: The cell cannot have these sizes, or its docstring has no example of the usual form.
    """
    example = docstrings.parse(kind).sections.get("Example", "")
    code = "\n".join(line[4:] for line in example.splitlines() if line.startswith((">>> ", "... ")))
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    constructors = [call for call in calls if ast.unparse(call.func) == f"jaxrnn.{kind.__name__}"]
    sizes = [
        keyword.value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "init"
        for keyword in call.keywords
        if keyword.arg == "input_size"
    ]
    if not constructors or not sizes:
        raise ValueError(
            f"the example in the docstring of {kind.__name__} must call jaxrnn.{kind.__name__}(...) "
            "and init(key, input_size=...)"
        )
    cell = eval(ast.unparse(constructors[0]), {"jaxrnn": jaxrnn, "jax": jax, "jnp": jnp})
    if hidden_size is not None:
        names = [field.name for field in _arguments(kind)]
        if "hidden_size" not in names:
            raise ValueError(f"{kind.__name__} has no hidden_size: its arguments are {', '.join(names)}")
        cell = _with_hidden_size(cell, hidden_size)
    return Example(cell, ast.literal_eval(sizes[0]) if input_size is None else input_size)


def _sizes(example: Example) -> Iterator[str]:
    """Yields the sections about parameters, state and output at the sizes of an example."""
    cell, input_size = example
    params, state, output = _shapes(example)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    at = f"of {cell} with input_size={input_size}"
    yield _heading(_wrapped(f"Parameters {at}: {count:,} numbers"), _fields(params, ""))
    yield _heading("State", _fields(state, "*batch, "))
    yield _heading("Output", f"[*batch, {', '.join(map(str, output.shape))}]")


def _shapes(example: Example) -> tuple[Any, Any, Any]:
    """Returns the shapes of a cell's parameters, of its state and of its output, without a batch."""
    cell, input_size = example
    features = input_size if isinstance(input_size, tuple) else (input_size,)

    def run(key: Any, x: Any) -> Any:
        params = cell.init(key, input_size)
        state, y = cell(params, cell.initial_state(params), x)
        return params, state, y

    return jax.eval_shape(run, jax.random.key(0), jax.ShapeDtypeStruct(features, jnp.float32))


def _loops(example: Example) -> Iterator[str]:
    """Yields the names of the loops that can run a cell."""
    cell, input_size = example
    features = input_size if isinstance(input_size, tuple) else (input_size,)
    xs = jax.ShapeDtypeStruct((2, *features), jnp.float32)
    params = jax.eval_shape(lambda key: cell.init(key, input_size), jax.random.key(0))
    chosen = [type(choice.loop) for choice in loops.Auto().choose(cell, params, xs)]
    default = inspect.signature(jaxrnn.unroll).parameters["loop"].default
    for name in loops.__all__:
        loop = getattr(loops, name)
        if inspect.isabstract(loop) or not issubclass(loop, Loop):
            continue
        if loop is loops.Native and loop not in chosen:  # `Auto` knows without compiling it
            continue
        if loop is not loops.Native:
            try:
                jax.eval_shape(partial(jaxrnn.unroll, cell, loop=loop()), params, xs)
            except TypeError:  # what a loop raises for a cell that it cannot run
                continue
        yield f"{name} (the default)" if isinstance(default, loop) else name


def _fields(values: Any, batch: str) -> str:
    """Describes the arrays of a named tuple: their shapes, and the comments in its source."""
    comments = dict(_SHAPE_COMMENT.findall(inspect.getsource(type(values))))
    rows = []
    for name, value in values._asdict().items():
        shapes = [f"[{batch}{', '.join(map(str, leaf.shape))}]".replace(", ]", "]") for leaf in jax.tree.leaves(value)]
        repeated = f"{len(shapes)} x {shapes[0]}" if len(shapes) > 1 and len(set(shapes)) == 1 else ", ".join(shapes)
        rows.append((name, repeated, comments.get(name, "")))
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    lines = []
    for name, shape, comment in rows:
        start = f"{name:<{widths[0]}}  {shape:<{widths[1]}}  "
        lines += _hanging(start, comment, WIDTH - 2)
    return "\n".join(lines)


def _arguments(kind: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind)  # every cell is a dataclass, but the class `Cell` does not say so


def _with_hidden_size(cell: Any, hidden_size: int) -> Cell:
    return dataclasses.replace(cell, hidden_size=hidden_size)


def _described_arguments(kind: type[Cell], text: docstrings.Docstring) -> str:
    described = text.arguments
    width = max((len(field.name) for field in _arguments(kind)), default=0)
    lines = []
    for field in _arguments(kind):
        default = ""
        if field.default is not dataclasses.MISSING:
            value = getattr(field.default, "__name__", None) or repr(field.default)
            default = f" Default: {value}."
        description = equations.plain_text(described[field.name]) + default
        lines += _hanging(f"{field.name:<{width}}  ", description, WIDTH - 2)
    return "\n".join(lines)


def _hanging(start: str, text: str, width: int) -> list[str]:
    """Wraps `start + text` so that further lines are indented to the end of `start`."""
    if len(start) > 48:  # no room beside it
        start, first = "      ", [start.rstrip()]
        return first + textwrap.wrap(text, width, initial_indent=start, subsequent_indent=start)
    lines = textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * len(start))
    return lines or [start.rstrip()]


def _heading(title: str, content: str) -> str:
    return f"{title}\n{textwrap.indent(content, '  ')}"


def _wrapped(text: str, width: int = WIDTH) -> str:
    return textwrap.fill(equations.plain_text(text), width, break_long_words=False, break_on_hyphens=False)


def _math(latex: str) -> str:
    return textwrap.indent("\n".join(equations.plain_lines(latex, WIDTH - 4)), "    ")


def _row(cell: type[Cell], purpose: str) -> str:
    """Returns a cell's row in a table of the README."""
    cited = docstrings.citation(cell)
    state = ", ".join(getattr(cells, f"{cell.__name__}State")._fields)
    linear = "yes" if issubclass(cell, LinearCell) else ""
    columns = (_link(cell), purpose, f"{cited.authors}, {cited.title}", cited.year, state, linear)
    return f"| {' | '.join(columns)} |"


def _link(cell: type[Cell]) -> str:
    return f"[`{cell.__name__}`]({_file(cell)})"


def _file(cell: type[Cell]) -> str:
    return Path(inspect.getfile(cell)).name


_ABOUT = f"""# Cells

{len(cells.all())} recurrent cells. Each is one published equation, one class and one file, and is tested against an
independent implementation in NumPy. `python -m jaxrnn all` prints this list, and `python -m jaxrnn LSTM` one cell's
equations, parameters, paper and example.

All of them run in every [loop](../loops/README.md), except that `AssociativeScan` needs a cell that is linear in its
state, as the last column says. The column *state* has the names of the arrays that a cell carries from step to step.

This page is written by `python -m jaxrnn --markdown`.

## Start here
"""
