"""The catalogue of cells: what `python -m jaxrnn` prints, made from the docstrings of the cells."""

from jaxrnn._catalogue.docstrings import Docstring, citation, parse
from jaxrnn._catalogue.equations import plain_lines, plain_text
from jaxrnn._catalogue.pages import find, listing, markdown, page

__all__ = [
    "Docstring",
    "citation",
    "find",
    "listing",
    "markdown",
    "page",
    "parse",
    "plain_lines",
    "plain_text",
]
