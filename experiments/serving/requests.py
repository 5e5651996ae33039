"""Requests as JSON: parses and checks those of clients, and describes the one that continues a text."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import jax
import numpy as np
from data.text import decode, encode, line_end
from support.errors import BadInputError

import jaxrnn
from serving.engine import Request

MOST_SEEDS = 2**32
FIELDS = ("prompt", "length", "temperature", "seed", "position", "state")


class BadRequestError(Exception):
    """A request is malformed or exceeds a limit. The message is one line for the client."""


def digest_of(model: jaxrnn.Layer, params: Any, alphabet: str) -> bytes:
    """Returns a hash of a model, 16 bytes, so that a state is not continued by a different model."""
    digest = hashlib.sha256(repr((model, alphabet, jax.tree.structure(params))).encode())
    for leaf in jax.tree.leaves(params):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.digest()[:16]


@dataclass(frozen=True)
class Rules:
    """The limits of a request, and the conversion of texts and states to JSON and back.

    Args:
      alphabet: The characters of the model.
      digest: The hash of the model, from `digest_of`.
      state_bytes: Size of a state.
      longest_prompt: Largest number of characters of a prompt.
      longest_text: Largest number of characters to generate.
      highest_temperature: Highest sampling temperature.
    """

    alphabet: str
    digest: bytes
    state_bytes: int
    longest_prompt: int = 2000
    longest_text: int = 10_000
    highest_temperature: float = 10.0

    @property
    def max_bytes(self) -> int:
        """Largest size of a request. A character may take 12 bytes in JSON, and three bytes take four in base64."""
        return 12 * self.longest_prompt + 4 * (len(self.digest) + self.state_bytes) // 3 + 1024

    def parse(self, body: bytes) -> Request:
        """Parses a request.

        Raises:
          BadRequestError: It is not a JSON object, or a field is unknown or has an invalid value.
        """
        fields = parse_object(body)
        for name in fields:
            if name not in FIELDS:
                raise BadRequestError(f"unknown field {shortened(name)}; the fields are {', '.join(FIELDS)}")
        state = self._state(fields["state"]) if "state" in fields else None
        return Request(
            prompt=self._prompt(fields.get("prompt", ""), continues=state is not None),
            length=whole_number("length", fields.get("length", min(200, self.longest_text)), 1, self.longest_text),
            temperature=number("temperature", fields.get("temperature", 0.8), 0, self.highest_temperature),
            seed=whole_number("seed", fields.get("seed", secrets.randbelow(MOST_SEEDS)), 0, MOST_SEEDS - 1),
            position=whole_number("position", fields.get("position", 0), 0, 2**31),
            state=state,
        )

    def describe(self, request: Request) -> dict[str, Any]:
        """Returns a request as the JSON object from which `parse` makes it."""
        described: dict[str, Any] = {"prompt": decode(request.prompt, self.alphabet), "length": request.length}
        described |= {"temperature": request.temperature, "seed": request.seed, "position": request.position}
        if request.state is not None:
            described["state"] = base64.b64encode(self.digest + request.state).decode()
        return described

    def _prompt(self, prompt: Any, continues: bool) -> np.ndarray:
        if not isinstance(prompt, str):
            raise BadRequestError(f"prompt must be a string, but it is {shortened(prompt)}")
        if len(prompt) > self.longest_prompt:
            raise BadRequestError(f"prompt must have at most {self.longest_prompt} characters, but has {len(prompt)}")
        if continues and not prompt:
            raise BadRequestError("prompt must not be empty if there is a state: send what came with the state")
        try:
            return encode(prompt or line_end(self.alphabet), self.alphabet)
        except BadInputError as error:
            raise BadRequestError(str(error)) from None

    def _state(self, state: Any) -> bytes:
        """Returns the bytes of a state. The stream checks whether they are intact."""
        if not isinstance(state, str):
            raise BadRequestError(f"state must be a string, but it is {shortened(state)}")
        try:
            data = base64.b64decode(state.encode(), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise BadRequestError(BAD_STATE) from None
        digest, data = data[: len(self.digest)], data[len(self.digest) :]
        if digest != self.digest:
            raise BadRequestError(BAD_STATE)
        return data


BAD_STATE = "state must come from the last event of a text of this model, but it is damaged or of another model"


def parse_object(body: bytes) -> dict[str, Any]:
    """Parses a JSON object in UTF-8. NaN, Infinity and fields that occur twice, which Python accepts, are errors."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=refuse_constant, object_pairs_hook=unique_fields)
    except UnicodeDecodeError as error:
        raise BadRequestError(f"the body must be UTF-8, but byte {error.start} is {body[error.start]:#04x}") from None
    except json.JSONDecodeError as error:
        raise BadRequestError(f"the body must be JSON: {error}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or thousands of brackets
        raise BadRequestError("the body must be JSON, without extreme numbers and nesting") from None
    if not isinstance(value, dict):
        raise BadRequestError(f"the body must be a JSON object, but it is {shortened(value)}")
    return value


def refuse_constant(name: str) -> NoReturn:
    raise BadRequestError(f"the body must be JSON, which has no {name}")


def unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise BadRequestError("the body must not have a field twice")
    return fields


def whole_number(name: str, value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:  # True is an int, too
        raise BadRequestError(f"{name} must be an integer from {low} to {high}, but it is {shortened(value)}")
    return value


def number(name: str, value: Any, low: float, high: float) -> float:
    if type(value) not in (int, float) or not low <= value <= high:
        raise BadRequestError(f"{name} must be a number from {low:g} to {high:g}, but it is {shortened(value)}")
    return float(value)


def shortened(value: Any, dump: Callable[[Any], str] = json.dumps) -> str:
    """Returns a value as JSON in at most 40 characters, so that no error repeats a whole request."""
    text = dump(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
