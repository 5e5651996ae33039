"""Predicts how long each point, one layer at one size, takes to measure, and how many rounds fit into a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from benchmark.cases import Size, gigaflop_of
from benchmark.contenders import TORCH, UNROLLED
from benchmark.work import LONG, MOST_CALLS, TURN

LEAST = 3  # the smallest number of rounds, if there is time for it
EFFICIENCY = 0.5  # assumed speed of a layer, as a fraction of that of a large product
PER_STEP = 1e-5  # seconds that a step takes in addition
COMPILING = {"cpu": {"forward": 0.3, "gradient": 0.9}, "gpu": {"forward": 2.0, "gradient": 5.0}}  # seconds per program


class Cost(NamedTuple):
    """Predicted seconds of one point."""

    fixed: float  # compiling, comparing results, and the first call of each contender
    turn: float  # one turn of each contender


def predict(layer: Any, size: Size, mode: str, contenders: Sequence[str], bound: float) -> Cost:
    """Predicts the cost of timing a layer with some contenders; `bound` is the GFLOP/s of a large product."""
    batch, steps, hidden = size
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), hidden))
    call = gigaflop_of(params, steps * batch, mode) / (EFFICIENCY * bound)
    call += PER_STEP * steps * (1 if mode == "forward" else 3)
    compiling = COMPILING.get(jax.default_backend(), COMPILING["gpu"])[mode]
    programs = [name for name in contenders if not name.startswith(TORCH)]
    unrolled = sum(UNROLLED[name][1] for name in programs if name in UNROLLED)
    short = call < LONG / 1e3
    calls = min(MOST_CALLS, max(1, int(TURN / 1e3 / call))) + short
    fixed = compiling * (len(programs) + unrolled / 8) + (2 if short else 1) * call * len(contenders)
    return Cost(fixed, calls * call * len(contenders))


def total(costs: Sequence[Cost], rounds: Sequence[int]) -> float:
    """Returns the predicted seconds of all points."""
    return sum(cost.fixed + n * cost.turn for cost, n in zip(costs, rounds, strict=True))


def fitting(costs: Sequence[Cost], seconds: float, most: int) -> list[int]:
    """Returns the number of rounds for each point, chosen so that all points take about the same time.

    It is at most `most`, and at least LEAST if there is time for that. It is never 0, so all rounds together may take
    longer than `seconds`.
    """
    least = next((n for n in range(min(LEAST, most), 1, -1) if total(costs, [n] * len(costs)) <= seconds), 1)

    def rounds(share: float) -> list[int]:
        return [min(most, max(least, int(share / cost.turn))) for cost in costs]

    low, high = 0.0, (most + 1) * max((cost.turn for cost in costs), default=0.0)
    if total(costs, rounds(high)) <= seconds:
        return rounds(high)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if total(costs, rounds(middle)) <= seconds else (low, middle)
    return rounds(low)


def rounds_in_turn(
    costs: Sequence[Cost], minutes: float, most: int, clock: Callable[[], float] = time.perf_counter
) -> Iterator[int]:
    """Yields the number of rounds of each point when it begins, or 0 to leave it out.

    The time that past points took corrects the predictions for the others. A point is left out if it is predicted to
    exceed the time limit by more than a tenth.
    """
    started, predicted = clock(), 0.0
    for n, cost in enumerate(costs):
        elapsed = clock() - started
        correction = elapsed / predicted if predicted else 1.0
        rounds = fitting(costs[n:], (60 * minutes - elapsed) / correction, most)[0]
        if elapsed + correction * (cost.fixed + rounds * cost.turn) > 1.1 * 60 * minutes:
            rounds = 0
        predicted += (cost.fixed + rounds * cost.turn) if rounds else 0.0
        yield rounds
