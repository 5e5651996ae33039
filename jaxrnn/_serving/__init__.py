"""Many sequences side by side, each fed step by step."""

from jaxrnn._serving.stream import Stream

__all__ = ["Stream"]
