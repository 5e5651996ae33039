"""Converts layers and their parameters from and to other libraries.

Every `from_*` function returns a layer and its parameters, and every `to_*` function takes both. Except for
`to_equinox`, none of them needs the other library: named arrays are enough.
"""

from jaxrnn.convert.equinox import from_equinox, to_equinox
from jaxrnn.convert.haiku import from_haiku, to_haiku
from jaxrnn.convert.keras import from_keras, to_keras
from jaxrnn.convert.linen import from_linen, to_linen
from jaxrnn.convert.nnx import from_nnx, to_nnx
from jaxrnn.convert.tensorflow import from_tensorflow, to_tensorflow
from jaxrnn.convert.torch import from_torch, to_torch

__all__ = [
    "from_equinox",
    "from_haiku",
    "from_keras",
    "from_linen",
    "from_nnx",
    "from_tensorflow",
    "from_torch",
    "to_equinox",
    "to_haiku",
    "to_keras",
    "to_linen",
    "to_nnx",
    "to_tensorflow",
    "to_torch",
]


def __dir__() -> list[str]:
    return __all__
