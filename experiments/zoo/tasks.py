"""The tasks of the zoo of cells: adding, permuted digits, characters."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import labelled
import memory_tasks
import numpy as np
import optax
from jax import Array
from memory_tasks import Sequences
from text import Text, ngram_losses

WINDOW = 100  # characters
TESTED = 512  # sequences in validation, and as many in the test


class Task(NamedTuple):
    """What is drawn to train on, and what is measured on.

    Attributes:
      draw: (key, batch) -> sequences to train on, for use under `jit`.
      valid: sequences to choose a learning rate by.
      test: sequences that the table tells of.
      inputs: number of features, or of symbols.
      outputs: number of classes; 1: a number.
      measure: what it is measured by.
      baselines: that of others.
    """

    draw: Callable[[Array, int], Sequences]
    valid: Sequences
    test: Sequences
    inputs: int
    outputs: int
    measure: str
    baselines: dict[str, float]


def judge(task: Task, outputs: Array, sequences: Sequences) -> tuple[Array, Array]:
    """The loss, and what the task is measured by."""
    if task.outputs == 1:
        losses = measured = (outputs[..., 0] - sequences.targets) ** 2
    else:
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, sequences.targets)
        measured = losses if task.measure == "nats" else outputs.argmax(-1) != sequences.targets
    return jnp.mean(losses, where=sequences.counted), jnp.mean(measured, where=sequences.counted)


@cache
def adding() -> Task:
    """Two marked numbers among a hundred, to be added at the end."""
    draw = jax.jit(memory_tasks.adding, static_argnums=(1, 2))
    valid, test = (draw(jax.random.key(seed), 100, TESTED) for seed in (2**31 - 1, 2**31 - 2))  # no training key
    return Task(
        lambda key, batch: memory_tasks.adding(key, 100, batch), valid, test, 2, 1, "squared error", {"a guess": 1 / 6}
    )


@cache
def digits() -> Task:
    """scikit-learn's 8 x 8 digits, a pixel a step, in one random order for all; at the end, which digit it was."""
    data = labelled.digits()
    order = np.random.default_rng(0).permutation(64)
    pixels = data.xs.swapaxes(0, 1).reshape(-1, 64).T[order, :, None]  # [64, images, 1]

    def of(images: Array | np.ndarray) -> Sequences:
        xs = jnp.asarray(pixels)[:, images]
        last = jnp.arange(64)[:, None] == 63
        labels = jnp.asarray(data.labels)[images]
        return Sequences(xs, jnp.broadcast_to(labels, xs.shape[:2]), jnp.broadcast_to(last, xs.shape[:2]))

    def draw(key: Array, batch: int) -> Sequences:
        return of(jax.random.choice(key, jnp.asarray(data.train), (batch,)))

    baselines = {"logistic regression": 1 - labelled.sequence_baselines(data)["logistic regression"], "a guess": 0.9}
    return Task(draw, of(data.valid), of(data.test), 1, 10, "share wrong", baselines)


@cache
def characters() -> Task:
    """The standard library's source, the next character at each step of a window; of tests the second half counts."""
    text = Text.of(None)
    symbols, num_train, number = jnp.asarray(text.symbols), text.num_train, len(text.alphabet)

    def of(starts: Array, counted_from: int) -> Sequences:
        windows = symbols[starts + jnp.arange(WINDOW + 1)[:, None]].astype(jnp.int32)
        counted = jnp.arange(WINDOW)[:, None] >= counted_from
        return Sequences(windows[:-1], windows[1:], jnp.broadcast_to(counted, windows[1:].shape))

    def draw(key: Array, batch: int) -> Sequences:
        return of(jax.random.randint(key, (batch,), 0, num_train - WINDOW), 0)

    starts = jnp.linspace(num_train, len(symbols) - WINDOW - 1, 2 * TESTED).astype(jnp.int32)
    half = len(starts) // 2
    losses = ngram_losses(text.symbols, num_train, number, 5)
    baselines = {"order-5 n-gram": losses[4], "bigram": losses[1], "a guess": math.log(number)}
    return Task(draw, of(starts[:half], WINDOW // 2), of(starts[half:], WINDOW // 2), number, number, "nats", baselines)


TASKS = {"adding": adding, "digits": digits, "characters": characters}
