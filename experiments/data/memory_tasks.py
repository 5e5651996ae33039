"""Tasks that need a memory of many steps, each with sequences without end.

S. Hochreiter, J. Schmidhuber, "Long short-term memory", 1997; M. Arjovsky, A. Shah, Y. Bengio, "Unitary evolution
recurrent neural networks", 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array


class Sequences(NamedTuple):
    xs: Array  # [time, batch, 2], or symbols [time, batch]
    targets: Array  # [time, batch], numbers or classes
    counted: Array  # [time, batch], whether that step's output is wanted


def adding(key: Array, length: int, batch: int) -> Sequences:
    """Pairs of a number from [-1, 1] and a mark; at the end, the mean of the two numbers that were marked.

    One of them is among the first ten, both are in the first half. The first and the last mark are -1. Hochreiter and
    Schmidhuber, experiment 4, but for two things: their targets are half of these and a half more, and their first pair
    may be one that is marked, and counts as zero.
    """
    k_x, k_first, k_second, k_last = jax.random.split(key, 4)
    steps = jnp.arange(length + length // 10)[:, None]
    last = jax.random.randint(k_last, (batch,), length - 1, len(steps))
    first = jax.random.randint(k_first, (batch,), 1, min(10, length // 2))
    second = jax.random.randint(k_second, (batch,), 1, length // 2 - 1)
    marked = (steps == first) | (steps == second + (second >= first))  # any but the first
    values = jax.random.uniform(k_x, (len(steps), batch), minval=-1.0)
    marks = marked - 1.0 * ((steps == 0) | (steps == last))
    sums = jnp.broadcast_to((values * marked).sum(0), values.shape)
    return Sequences(jnp.stack([values, marks], axis=-1), sums / 2, steps == last)


def copying(key: Array, length: int, batch: int) -> Sequences:
    """Ten symbols of eight kinds, to be repeated after `length` steps, when a sign is given (Arjovsky et al.)."""
    symbols, blank = jax.random.randint(key, (10, batch), 0, 8), jnp.full((length + 10, batch), 8)
    xs = jnp.concatenate([symbols, blank.at[length - 1].set(9)])
    targets = jnp.concatenate([blank, symbols])
    return Sequences(xs, targets, jnp.full(xs.shape, True))


def order(key: Array, length: int, batch: int) -> Sequences:
    """Noise, and in it one of two symbols early, one of them in the middle; at the end, which they were in which order.

    Hochreiter and Schmidhuber, experiment 6a, "temporal order".
    """
    k_x, k_early, k_middle, k_which, k_last = jax.random.split(key, 5)
    steps = jnp.arange(length + length // 10)[:, None]
    last = jax.random.randint(k_last, (batch,), length - 1, len(steps))
    early = jax.random.randint(k_early, (batch,), length // 10, length // 5 + 1)
    middle = jax.random.randint(k_middle, (batch,), length // 2, 6 * length // 10 + 1)
    one, other = jax.random.randint(k_which, (2, batch), 0, 2)
    xs = jax.random.randint(k_x, (len(steps), batch), 0, 4)
    for place, symbol in ((0, 4), (last, 5), (early, 6 + one), (middle, 6 + other)):
        xs = jnp.where(steps == place, symbol, xs)
    return Sequences(xs, jnp.broadcast_to(2 * one + other, xs.shape), steps == last)


def parity(key: Array, length: int, batch: int) -> Sequences:
    """Bits; at each step, whether the number of ones so far is odd. It takes a state, but no step looks far back."""
    bits = jax.random.randint(key, (length, batch), 0, 2)
    return Sequences(bits, jnp.cumsum(bits, axis=0) % 2, jnp.full(bits.shape, True))


class Task(NamedTuple):
    draw: Callable[[Array, int, int], Sequences]
    sizes: tuple[int, int]  # of inputs and outputs
    length: int
    hidden_size: int
    learning_rate: float
    largest: float  # error of a sequence that is correct
    mean: float  # of these errors
    measure: str
    baseline: Callable[[int], float]  # of the measure: the best without memory


TASKS = {
    "adding": Task(adding, (2, 1), 100, 16, 1e-2, 0.08, 0.02, "squared error", lambda length: 1 / 6),
    "copying": Task(copying, (10, 9), 10, 64, 1e-2, 0.3, 0.1, "nats", lambda length: 10 * math.log(8) / (length + 20)),
    "order": Task(order, (8, 4), 100, 16, 1e-2, 0.3, 0.1, "share wrong", lambda length: 3 / 4),
    "parity": Task(parity, (2, 2), 50, 16, 1e-2, 0.3, 0.1, "share wrong", lambda length: 1 / 2),
}


def judge(task: Task, outputs: Array, sequences: Sequences) -> tuple[Array, tuple[Array, Array]]:
    """The loss; and what the task is measured by, and of each sequence its largest error."""
    if task.sizes[1] == 1:
        errors = jnp.abs(outputs[..., 0] - sequences.targets)
        losses = measured = errors**2
    else:
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, sequences.targets)
        errors = 1 - jnp.exp(-losses)
        measured = losses if task.measure == "nats" else outputs.argmax(-1) != sequences.targets
    loss, measure = (jnp.mean(each, where=sequences.counted) for each in (losses, measured))
    return loss, (measure, jnp.max(errors, axis=0, where=sequences.counted, initial=0.0))
