"""The tasks of the zoo of cells: adding, permuted digits, characters."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from data import labeled_sequences, memory_tasks
from data.memory_tasks import Sequences
from data.ngrams import ngram_losses
from data.text import SHORTER, Text
from jax import Array

WINDOW = 100  # characters
TESTED = 512  # sequences for validation, and as many for the test


class Task(NamedTuple):
    """A task of the zoo.

    Attributes:
      draw: (key, batch) -> training sequences, for use under `jit`.
      valid: Sequences that choose a learning rate.
      test: Sequences whose results are in the table.
      inputs: Number of features, or of symbols.
      outputs: Number of classes; 1 means that the output is a number.
      measure: Name of what is measured.
      baselines: Measures of other methods.
    """

    draw: Callable[[Array, int], Sequences]
    valid: Sequences
    test: Sequences
    inputs: int
    outputs: int
    measure: str
    baselines: dict[str, float]


def judge(task: Task, outputs: Array, sequences: Sequences) -> tuple[Array, Array]:
    """Returns the loss and the task's measure."""
    if task.outputs == 1:
        losses = measured = (outputs[..., 0] - sequences.targets) ** 2
    else:
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, sequences.targets)
        measured = losses if task.measure == "nats" else outputs.argmax(-1) != sequences.targets
    return jnp.mean(losses, where=sequences.counted), jnp.mean(measured, where=sequences.counted)


@cache
def adding() -> Task:
    """Makes the adding task: two of a hundred numbers are marked, and the target at the end is their mean."""
    draw = jax.jit(memory_tasks.adding, static_argnums=(1, 2))
    valid, test = (draw(jax.random.key(seed), 100, TESTED) for seed in (2**31 - 1, 2**31 - 2))  # not training keys
    return Task(
        draw=lambda key, batch: memory_tasks.adding(key, 100, batch),
        valid=valid,
        test=test,
        inputs=2,
        outputs=1,
        measure="squared error",
        baselines={"a guess": 1 / 6},
    )


@cache
def digits() -> Task:
    """Makes the digits task: 8 x 8 images, one pixel per step in a random order; the target at the end is the digit."""
    data = labeled_sequences.digits()
    order = np.random.default_rng(0).permutation(64)
    pixels = data.xs.swapaxes(0, 1).reshape(-1, 64).T[order, :, None]  # [64, images, 1]

    def of(images: Array | np.ndarray) -> Sequences:
        xs = jnp.asarray(pixels)[:, images]
        last = jnp.arange(64)[:, None] == 63
        labels = jnp.asarray(data.labels)[images]
        return Sequences(xs, jnp.broadcast_to(labels, xs.shape[:2]), jnp.broadcast_to(last, xs.shape[:2]))

    def draw(key: Array, batch: int) -> Sequences:
        return of(jax.random.choice(key, jnp.asarray(data.train), (batch,)))

    accuracy = labeled_sequences.sequence_baselines(data)["logistic regression"]
    return Task(
        draw=draw,
        valid=of(data.valid),
        test=of(data.test),
        inputs=1,
        outputs=10,
        measure="error rate",
        baselines={"logistic regression": 1 - accuracy, "a guess": 0.9},
    )


@cache
def characters() -> Task:
    """Makes the characters task: the next character of the standard library's source.

    In validation and testing, only the second half of a window counts.
    """
    text = Text.of(None, SHORTER)
    symbols = jnp.asarray(text.symbols)
    num_train = text.num_train
    number = len(text.alphabet)

    def of(starts: Array, counted_from: int) -> Sequences:
        windows = symbols[starts + jnp.arange(WINDOW + 1)[:, None]].astype(jnp.int32)
        counted = jnp.arange(WINDOW)[:, None] >= counted_from
        return Sequences(windows[:-1], windows[1:], jnp.broadcast_to(counted, windows[1:].shape))

    def draw(key: Array, batch: int) -> Sequences:
        return of(jax.random.randint(key, (batch,), 0, num_train - WINDOW), 0)

    starts = jnp.linspace(num_train, len(symbols) - WINDOW - 1, 2 * TESTED).astype(jnp.int32)
    half = len(starts) // 2
    losses = ngram_losses(np.asarray(text.symbols), num_train, number, 5)
    baselines = {"order-5 n-gram": losses[4], "bigram": losses[1], "a guess": math.log(number)}
    return Task(
        draw=draw,
        valid=of(starts[:half], WINDOW // 2),
        test=of(starts[half:], WINDOW // 2),
        inputs=number,
        outputs=number,
        measure="nats",
        baselines=baselines,
    )


TASKS = {"adding": adding, "digits": digits, "characters": characters}
