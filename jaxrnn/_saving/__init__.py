"""Files that hold a layer and its parameters."""

from jaxrnn._saving.files import load, save

__all__ = ["load", "save"]
