"""Runs many independent sequences side by side, one step at a time."""

from jaxrnn._serving.stream import Stream

__all__ = ["Stream"]
