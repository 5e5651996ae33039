"""A training step of a word model: `word_lm.py` with the classic recipe for the Penn Treebank."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import word_lm
from jax import Array
from support.devices import make_mesh
from support.feeding import Block

from benchmark.cases import gigaflop_of
from benchmark.contenders import TORCH
from benchmark.work import Task, torch_task

RECIPE = word_lm.Options(
    vocabulary=10_000,
    hidden_size=200,
    layers=2,
    tied=False,
    dropout=0.2,
    sequence_length=35,
    batch=20,
    optimizer="sgd",
    learning_rate=20.0,
    clip=0.25,
)
TINY = replace(RECIPE, vocabulary=50, hidden_size=8, sequence_length=5, batch=2)
WINDOWS = 500  # of the text; after the last one, the script computes its validation loss, here on two words
STEPS = 5  # per call, because the script also makes several


class Words(NamedTuple):
    """The recipe, the initial training state, and a random text."""

    options: word_lm.Options
    train: Any
    windows: Array  # [windows, sequence_length + 1, batch]


def make_words(options: word_lm.Options) -> Words:
    model = word_lm.make_model(options, options.vocabulary)
    train = jax.jit(partial(word_lm.begin, options, model, options.vocabulary))()
    shape = (WINDOWS, options.sequence_length + 1, options.batch)
    return Words(options, train, jax.random.randint(jax.random.key(1), shape, 0, options.vocabulary))


def without_dropout(words: Words) -> Words:
    """Returns the same model without dropout, so that the results of two libraries can be compared."""
    return make_words(replace(words.options, dropout=0.0))


def word_model(contender: str, words: Words) -> Task:
    """Returns a task that makes STEPS training steps per call. Its result is their mean loss."""
    return torch_words(contender, words) if contender.startswith(TORCH) else our_words(words)


def our_words(words: Words) -> Task:
    options = words.options
    model = word_lm.make_model(options, options.vocabulary)
    mesh = make_mesh("one", options.batch)
    steps = word_lm.make_steps(options, model, mesh, WINDOWS, np.zeros(2, int))
    data = Block(np.int32(0), words.windows)
    train = jax.tree.map(jnp.copy, words.train)  # because a call donates it

    def call() -> Array:
        nonlocal train
        train, loss = jax.block_until_ready(steps(train, data, jnp.int32(STEPS), (0.0, 0.0)))
        return loss

    return Task(call, lambda loss: [np.asarray(loss)], steps=STEPS)


def torch_words(contender: str, words: Words) -> Task:
    options = words.options
    embedding, *recurrent, dense = (p for p in words.train.params if p)  # dropout has no parameters
    arrays = {
        "name": options.cell,
        "embedding": np.asarray(embedding.w),
        "params": [{name: np.asarray(leaf) for name, leaf in p._asdict().items()} for p in recurrent],
        "dense": {name: np.asarray(leaf) for name, leaf in dense._asdict().items()},
        "windows": np.asarray(words.windows),
    }
    recipe = {"dropout": options.dropout, "clip": options.clip, "rate": options.learning_rate, "steps": STEPS}
    return torch_task(contender, "words", case=arrays, **recipe)._replace(steps=STEPS)


def sizes_of(words: Words) -> dict[str, int]:
    o = words.options
    return {"B": o.batch, "T": o.sequence_length, "I": o.hidden_size, "H": o.hidden_size, "L": o.layers}


def gigaflop(words: Words) -> float:
    """Returns the number of operations in products, in units of 1e9. Embeddings are looked up, so they do not count."""
    o = words.options
    return gigaflop_of(words.train.params[1:], o.batch * o.sequence_length, "training")
