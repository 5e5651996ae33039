"""The catalogue of cells: what `python -m jaxrnn` prints, made from the docstrings of the cells."""

from jaxrnn._catalogue.docstrings import Docstring, citation, parse
from jaxrnn._catalogue.equations import plain_lines, plain_text
from jaxrnn._catalogue.pages import families, listing, markdown, overview, page

__all__ = [
    "Docstring",
    "citation",
    "families",
    "listing",
    "markdown",
    "overview",
    "page",
    "parse",
    "plain_lines",
    "plain_text",
]
