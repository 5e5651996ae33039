"""`python -m jaxrnn` names all cells by family, and `python -m jaxrnn LSTM` describes one."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import jaxrnn
from jaxrnn import _catalogue as catalogue


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the list of cells or the page of one cell, and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxrnn",
        description="List the cells of jaxrnn by family, the purposes of a family's cells, or the details of one cell: "
        "its equations, its parameters at given sizes, its paper, the loops that can run it, and an example.",
        epilog="The default sizes are those of the cell's example.",
    )
    parser.add_argument("cell", nargs="?", help="a cell such as LSTM, a family such as vanilla, or all")
    parser.add_argument("--hidden-size", type=int, metavar="INT", help="hidden size of the cell")
    parser.add_argument(
        "--input-size",
        type=_size,
        metavar="INT[,INT...]",
        help="number of input features; for images, their shape and channels, such as 16,16,3",
    )
    parser.add_argument("--markdown", action="store_true", help="write jaxrnn/cells/README.md to standard output")
    options = parser.parse_args(arguments)
    sized = (options.hidden_size, options.input_size) != (None, None)
    if options.cell is None and sized:
        parser.error("a size needs a cell: name one, as in `python -m jaxrnn LSTM --hidden-size 128`")
    if options.cell is not None and options.markdown:
        parser.error("--markdown writes the list of all cells: leave out the cell")
    try:
        if options.markdown:
            text = catalogue.markdown().rstrip("\n")
        elif options.cell is None:
            text = catalogue.overview()
        elif not sized and (found := catalogue.families(options.cell)):
            text = catalogue.listing(found)
        else:
            text = catalogue.page(jaxrnn.cells.find(options.cell), options.hidden_size, options.input_size)
    except (LookupError, ValueError) as error:
        print(f"python -m jaxrnn: {error.args[0]}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for terminals that cannot show Greek letters
    try:
        print(text, flush=True)
    except BrokenPipeError:  # for example with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what Python flushes at exit
    return 0


def _size(text: str) -> Any:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, or several such as 16,16,3, but it is {text!r}") from None
    return sizes[0] if len(sizes) == 1 else sizes


if __name__ == "__main__":
    sys.exit(main())
