"""Serving requests for text by a character model, in the slots of a `jaxrnn.Stream`."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, NamedTuple

import numpy as np

import jaxrnn


class Request(NamedTuple):
    arrival: float  # in seconds since the start
    prompt: np.ndarray  # symbols, at least one
    length: int
    temperature: float
    seed: tuple[int, int]


class Writing:
    """A request on its way: what has been written for it, and when."""

    def __init__(self, request: Request):
        self.request = request
        self.symbols: list[int] = []
        self.waited = 0.0  # seconds from the arrival to the first character
        self._rng = np.random.default_rng(request.seed)  # its own: what others do changes nothing

    @property
    def done(self) -> bool:
        return len(self.symbols) == self.request.length

    def draw(self, logits: np.ndarray) -> None:
        """The next character, by the Gumbel-max trick."""
        noise = self._rng.gumbel(size=len(logits))
        self.symbols.append(int(np.argmax(logits / max(self.request.temperature, 1e-6) + noise)))


class Served(NamedTuple):
    writings: list[Writing]  # in the order of arrival
    steps: list[float]  # seconds of each step
    seconds: float  # from the first arrival to the last character

    @property
    def waited(self) -> list[float]:
        return [writing.waited for writing in self.writings]

    @property
    def rate(self) -> float:
        """Characters a second."""
        return sum(len(writing.symbols) for writing in self.writings) / self.seconds


def serve(model: jaxrnn.Stack, params: Any, requests: list[Request], slots: int) -> Served:
    """Writes for all requests, each from its arrival on, as soon as there is a slot."""
    stream = jaxrnn.Stream(model, params, slots)
    writings = [Writing(request) for request in requests]
    waiting, active, steps = deque(writings), {}, []
    start = time.perf_counter()

    def now() -> float:
        return time.perf_counter() - start

    while waiting or active:
        if not active:
            time.sleep(max(0.0, waiting[0].request.arrival - now()))
        while waiting and stream.free and waiting[0].request.arrival <= now():
            writing = waiting.popleft()
            slot, logits = stream.insert(writing.request.prompt)
            active[slot] = writing
            writing.draw(logits)
            writing.waited = now() - writing.request.arrival
        for slot in [slot for slot, writing in active.items() if writing.done]:
            stream.remove(slot)
            del active[slot]
        if active:
            before = now()
            logits = stream.step({slot: writing.symbols[-1] for slot, writing in active.items()})
            steps.append(now() - before)
            for slot, writing in active.items():
                writing.draw(logits[slot])
    return Served(writings, steps, now() - requests[0].arrival)


def warm_up(model: jaxrnn.Stack, params: Any, requests: list[Request], slots: int) -> None:
    """Compiles what serving needs, so that no request has to wait for it."""
    stream, longest = jaxrnn.Stream(model, params, slots), max(len(request.prompt) for request in requests)
    for power in range((longest - 1).bit_length() + 1):
        slot, _ = stream.insert(np.zeros(2**power, np.int32))
        stream.step({slot: 0})
        stream.remove(slot)
