"""Saves a layer and its parameters to one file, and loads both again."""

from jaxrnn._saving.files import load, save

__all__ = ["load", "save"]
