"""Tasks that need a memory of many steps. Each can generate any number of sequences.

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
    """Sequences of a task, and what the network has to output."""

    xs: Array  # [time, batch, 2], or symbols [time, batch]
    targets: Array  # [time, batch], numbers or classes
    counted: Array  # [time, batch], whether the output of that step counts


def adding(key: Array, length: int, batch: int) -> Sequences:
    """Draws pairs of a number from [-1, 1] and a mark; the target at the end is the mean of the two marked numbers.

    One of them is among the first ten, both are in the first half. The first and the last mark are -1. This is
    experiment 4 of Hochreiter and Schmidhuber with two differences: their target is half of this one plus a half, and
    their first pair may be a marked one, which then counts as zero.
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
    """Draws ten symbols of eight kinds, to be repeated `length` steps later, after a sign (Arjovsky et al.)."""
    symbols = jax.random.randint(key, (10, batch), 0, 8)
    blank = jnp.full((length + 10, batch), 8)
    xs = jnp.concatenate([symbols, blank.at[length - 1].set(9)])
    targets = jnp.concatenate([blank, symbols])
    return Sequences(xs, targets, jnp.full(xs.shape, True))


def order(key: Array, length: int, batch: int) -> Sequences:
    """Draws noise with one of two symbols early and one in the middle; the target is which ones they were, in order.

    This is experiment 6a of Hochreiter and Schmidhuber, "temporal order".
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
    """Draws bits; the target at each step is whether the number of ones so far is odd. No lag is long."""
    bits = jax.random.randint(key, (length, batch), 0, 2)
    return Sequences(bits, jnp.cumsum(bits, axis=0) % 2, jnp.full(bits.shape, True))


class Task(NamedTuple):
    """A task, and when it counts as solved.

    Attributes:
      draw: (key, length, batch) -> sequences.
      inputs: Number of features, or of symbols.
      outputs: Number of classes; 1 means that the output is a number.
      length: Default length of the sequences.
      hidden_size: Default hidden size.
      learning_rate: Default learning rate.
      largest_error: Errors of correct sequences are below this.
      mean_error: The mean error must be below this for the task to count as solved.
      measure: Name of what is measured.
      baseline: The measure of the best output without memory, for a length.
    """

    draw: Callable[[Array, int, int], Sequences]
    inputs: int
    outputs: int
    length: int
    hidden_size: int
    learning_rate: float
    largest_error: float
    mean_error: float
    measure: str
    baseline: Callable[[int], float]


TASKS = {
    "adding": Task(
        adding, inputs=2, outputs=1, length=100, hidden_size=16, learning_rate=1e-2, largest_error=0.08,
        mean_error=0.02, measure="squared error", baseline=lambda length: 1 / 6,
    ),
    "copying": Task(
        copying, inputs=10, outputs=9, length=10, hidden_size=64, learning_rate=1e-2, largest_error=0.3,
        mean_error=0.1, measure="nats", baseline=lambda length: 10 * math.log(8) / (length + 20),
    ),
    "order": Task(
        order, inputs=8, outputs=4, length=100, hidden_size=16, learning_rate=1e-2, largest_error=0.3,
        mean_error=0.1, measure="error rate", baseline=lambda length: 3 / 4,
    ),
    "parity": Task(
        parity, inputs=2, outputs=2, length=50, hidden_size=16, learning_rate=1e-2, largest_error=0.3,
        mean_error=0.1, measure="error rate", baseline=lambda length: 1 / 2,
    ),
}  # fmt: skip


def judge(task: Task, outputs: Array, sequences: Sequences) -> tuple[Array, tuple[Array, Array]]:
    """Returns the loss; and the task's measure, and the largest error of each sequence."""
    if task.outputs == 1:
        errors = jnp.abs(outputs[..., 0] - sequences.targets)
        losses = measured = errors**2
    else:
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, sequences.targets)
        errors = 1 - jnp.exp(-losses)
        measured = losses if task.measure == "nats" else outputs.argmax(-1) != sequences.targets
    loss, measure = (jnp.mean(each, where=sequences.counted) for each in (losses, measured))
    return loss, (measure, jnp.max(errors, axis=0, where=sequences.counted, initial=0.0))
