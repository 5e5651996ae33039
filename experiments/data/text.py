"""Text as symbols: what models of it are measured by, and how they write."""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import BadInputError
from jax import Array

import jaxrnn

LENGTH = 1_115_394  # characters kept of the standard library: as many as tinyshakespeare has


@dataclass(frozen=True)
class Text:
    """A text as symbols: integers into its sorted alphabet. The last tenth of it is for validation."""

    name: str
    alphabet: str
    symbols: np.ndarray  # [characters], integers
    digest: str  # of the UTF-8 bytes

    @staticmethod
    def of(path: Path | None) -> Text:
        """Reads a UTF-8 file; None: the running Python's standard library, for which there is nothing to download."""
        if path is None:
            return Text.from_string(f"Python {platform.python_version()}'s standard library", standard_library())
        try:
            characters = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadInputError(
                f"{path} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}"
            ) from None
        except OSError as error:
            raise BadInputError(f"cannot read {path}: {error.strerror}") from None
        if not characters:
            raise BadInputError(f"{path} is empty")
        return Text.from_string(path.name, characters)

    @staticmethod
    def from_string(name: str, characters: str) -> Text:
        points = np.frombuffer(characters.encode("utf-32-le"), np.uint32)
        alphabet, symbols = np.unique(points, return_inverse=True)
        digest = hashlib.sha256(characters.encode()).hexdigest()
        smallest = np.min_scalar_type(len(alphabet))
        return Text(name, "".join(map(chr, alphabet)), symbols.astype(smallest), digest)

    @property
    def num_train(self) -> int:
        """How many characters, from the first on, are for training."""
        return len(self.symbols) * 9 // 10

    def __str__(self) -> str:
        size = f"{len(self.symbols):,} characters, {len(self.alphabet)} symbols"
        return f"{self.name}: {size}, the last tenth for validation; sha256 {self.digest[:12]}"


def encode(characters: str, alphabet: str) -> np.ndarray:
    if unknown := sorted(set(characters) - set(alphabet)):
        raise BadInputError(
            f"the text the model learns from has no {', '.join(map(repr, unknown))}, but the prompt has"
        )
    return np.array([alphabet.index(c) for c in characters], np.int32)


def line_end(alphabet: str) -> str:
    """What a text's lines end with, or for want of such its first symbol."""
    return "\n" if "\n" in alphabet else alphabet[0]


def decode(symbols: np.ndarray, alphabet: str) -> str:
    return "".join(alphabet[s] for s in symbols)


def standard_library() -> str:
    """The top-level modules of the running Python's standard library, sorted by name, those in ASCII."""
    files = (path.read_bytes() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))
    return b"".join(file for file in files if file.isascii()).decode().replace("\r\n", "\n")[:LENGTH]


def ngram_losses(symbols: np.ndarray, num_train: int, num_symbols: int, order: int) -> list[float]:
    r"""Mean losses, in nats a symbol, of interpolated Witten-Bell n-grams of order 1 to `order`.

    .. math:: P_n(c \mid h) = \frac{N(h c) + T(h) P_{n-1}(c \mid h')}{N(h) + T(h)}

    :math:`h` is the context of :math:`n - 1` symbols, :math:`h'` the same without its first, :math:`N` counts
    occurrences and :math:`T(h)` the different symbols seen after :math:`h`; :math:`P_0` is uniform.
    The first `num_train` symbols are counted, the rest are predicted.

    References: I. Witten, T. Bell, "The zero-frequency problem", 1991; S. Chen, J. Goodman, "An empirical
    study of smoothing techniques for language modeling", 1998.
    """
    symbols = symbols.astype(np.int64)
    context = np.zeros(len(symbols), np.int64)  # a number for what stands before each symbol
    p = np.full(len(symbols) - num_train, 1 / num_symbols)
    losses = []
    for _ in range(order):
        # Grams are numbered anew at each order, so that no product of numbers outgrows an integer.
        _, first, gram = np.unique(context * num_symbols + symbols, return_index=True, return_inverse=True)
        seen = np.bincount(gram[:num_train], minlength=len(first))
        follow = np.bincount(context[:num_train], minlength=context.max() + 1)
        kinds = np.bincount(context[first[seen > 0]], minlength=len(follow))
        h = context[num_train:]
        total = follow[h] + kinds[h]
        p = np.where(total > 0, (seen[gram[num_train:]] + kinds[h] * p) / np.maximum(total, 1), p)
        losses.append(float(-np.log(p).mean()))
        context = np.concatenate([[len(first)], gram[:-1]])  # before the first symbol stands nothing
    return losses


@partial(jax.jit, static_argnames=("model", "num_train"))
def validation_loss(model: jaxrnn.Stack, params: Any, symbols: Array, num_train: int) -> Array:
    """The mean loss over every character after the first `num_train`, each predicted once.

    They are read in 128 streams side by side, each begun 128 characters before the first that counts.
    """
    streams = warm_up = window = 128
    number = -(-(len(symbols) - num_train) // streams)
    windows = -(-(warm_up + number) // window)
    starts = num_train + number * jnp.arange(streams) - warm_up

    def read(state: Any, n: Array) -> tuple[Any, Array]:
        time = n * window + jnp.arange(window)[:, None]
        places = starts + time  # of the characters to predict
        state, logits = jaxrnn.unroll(model, params, symbols[jnp.maximum(places - 1, 0)], state)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, symbols[places].astype(jnp.int32))
        counts = (time >= warm_up) & (time < warm_up + number) & (places < len(symbols))
        return state, jnp.sum(losses, where=counts)

    state = model.initial_state(params, (streams,))
    return jax.lax.scan(read, state, jnp.arange(windows))[1].sum() / (len(symbols) - num_train)


@partial(jax.jit, static_argnames=("model", "length"))
def write(model: jaxrnn.Stack, params: Any, prompt: Array, length: int, key: Array, temperature: Array) -> Array:
    """Draws `length` characters, each from what the model expects after all before it."""

    def one(carry: tuple[Any, Array], key: Array) -> tuple[Any, Array]:
        state, logits = carry
        symbol = jax.random.categorical(key, logits / jnp.maximum(temperature, 1e-6))
        return jaxrnn.step(model, params, state, symbol), symbol

    state, logits = jaxrnn.unroll(model, params, prompt)
    return jax.lax.scan(one, (state, logits[-1]), jax.random.split(key, length))[1]
