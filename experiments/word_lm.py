"""A word language model: embedding, recurrent layers, softmax; beside a Kneser-Ney n-gram of the same text.

The state goes on from one window of the text to the next, the gradient does not (truncated backpropagation through
time). `--optimizer sgd` is the classic recipe: plain gradient steps whose rate is divided by 4 after each epoch
that does not improve on the best validation loss. `--optimizer adam` follows a cosine instead.

References: W. Zaremba et al., "Recurrent neural network regularization", 2014 (dropout between layers); Y. Gal,
Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016 (--variational);
O. Press, L. Wolf, "Using the output embedding to improve language models", 2017 (--tied); PyTorch's example
word_language_model (the classic recipe's numbers).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import common  # first: its clock starts the run's
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import BadInputError
from jax import Array
from text import write
from words import END, Corpus, best_ngram, windows_of

import jaxrnn


@dataclass(frozen=True)
class Config(common.Config):
    data: Path | None = None  # A folder of train.txt, valid.txt, test.txt; None: source of the standard library
    vocabulary: int = 2000  # Most frequent words that are kept
    cell: str = "LSTM"  # A cell of jaxrnn, by name
    hidden_size: int = 128  # Size of the embedding and of each layer's state
    layers: int = 1  # Recurrent layers
    tied: bool = True  # Whether the softmax uses the embedding's vectors
    dropout: float = 0.3  # Share dropped after the embedding and after each layer
    variational: bool = False  # Whether the same is dropped on all words of a window
    sequence_length: int = 35  # Words the gradient goes back; the state goes on
    batch: int = 20  # Places in the text read side by side
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 5e-3  # Its highest value
    clip: float = 1.0  # The longest a gradient may be
    epochs: int | None = None  # How often the text is read; if given, --steps and --minutes say nothing

    def check(self) -> None:
        super().check()
        common.at_least(2, vocabulary=self.vocabulary)
        common.at_least(1, hidden_size=self.hidden_size, layers=self.layers, batch=self.batch)
        common.at_least(1, sequence_length=self.sequence_length, epochs=1 if self.epochs is None else self.epochs)
        common.above(0, learning_rate=self.learning_rate, clip=self.clip)
        if not 0 <= self.dropout < 1:
            raise BadInputError(f"--dropout must be from 0 to below 1, but it is {self.dropout}")


def make_model(config: Config, num_words: int) -> jaxrnn.Stack:
    cell = common.make_cell(config.cell, config.hidden_size)
    dropout = [jaxrnn.Dropout(config.dropout, shared=config.variational)] if config.dropout else []
    layers = (jaxrnn.Embedding(config.hidden_size), *dropout, *[cell, *dropout] * config.layers)
    return jaxrnn.Stack(*layers, jaxrnn.Dense(num_words))


class Train(NamedTuple):
    """All that training changes."""

    step: Array
    params: Any  # of tied weights only one
    optimizer: Any
    state: Any  # of the streams
    rate: Array  # by which plain gradient steps are multiplied
    best: Array  # validation loss after an epoch


def optimizer_of(config: Config) -> optax.GradientTransformation:
    direction = optax.scale_by_adam() if config.optimizer == "adam" else optax.identity()
    return optax.chain(optax.clip_by_global_norm(config.clip), direction)


def begin(config: Config, model: jaxrnn.Stack, num_words: int) -> Train:
    params = model.init(jax.random.key(config.seed), num_words)
    if config.tied:
        if params[0].w.shape[1] != params[-1].w.shape[0]:
            raise BadInputError(f"--tied needs outputs of the embedding's size, but those of {config.cell} differ")
        params = (*params[:-1], params[-1]._replace(w=None))
    state = model.initial_state(whole(params), (config.batch,))
    one = jnp.float32(1)
    return Train(jnp.int32(0), params, optimizer_of(config).init(params), state, one, math.inf * one)


def whole(params: Any) -> Any:
    """The model's parameters, from those that are trained: where weights are tied, one leaf stands in two places."""
    return (*params[:-1], params[-1]._replace(w=params[0].w.T)) if params[-1].w is None else params


@partial(jax.jit, static_argnames=("model", "window", "streams"))
def evaluate(model: jaxrnn.Stack, params: Any, words: Array, window: int = 35, streams: int = 10) -> Array:
    """The mean loss over all words, read in streams side by side, each with the word before it."""
    windows = -(-len(words) // (streams * window))
    places = jnp.arange(streams) * windows * window + jnp.arange(windows * window)[:, None]
    places = places.reshape(windows, window, streams)

    def read(state: Any, places: Array) -> tuple[Any, Array]:
        state, logits = jaxrnn.unroll(model, params, words[jnp.maximum(places - 1, 0)], state)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, words[jnp.minimum(places, len(words) - 1)])
        return state, jnp.sum(losses, where=(places > 0) & (places < len(words)))

    state = model.initial_state(params, (streams,))
    return jax.lax.scan(read, state, places)[1].sum() / (len(words) - 1)


@partial(jax.jit, static_argnames=("config", "model"), donate_argnames="train")
def update(
    config: Config, model: jaxrnn.Stack, words: Array, valid: Array, train: Train, updates: Array, schedule: Any
) -> tuple[Train, Array]:
    """Makes some updates and returns their mean loss. Each reads the next window of every stream.

    Args:
      words: [windows, sequence_length + 1, batch].
      valid: words at which the end of an epoch looks to choose the rate of plain gradient steps.
    """

    def loss_and_state(params: Any, window: Array, state: Any, key: Array | None) -> tuple[Array, Any]:
        state, logits = jaxrnn.unroll(model, whole(params), window[:-1], state, key=key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, window[1:]).mean(), state

    gradient_of = jax.value_and_grad(loss_and_state, has_aux=True)

    def anneal(train: Train) -> Train:
        loss = evaluate(model, whole(train.params), valid)
        return train._replace(
            rate=train.rate * jnp.where(loss < train.best, 1, 0.25), best=jnp.minimum(loss, train.best)
        )

    def one(_: int, carry: tuple[Train, Array]) -> tuple[Train, Array]:
        train, total = carry
        key = jax.random.fold_in(jax.random.key(config.seed), train.step) if config.dropout else None
        place = train.step % len(words)
        state = jaxrnn.ops.where(place == 0, model.initial_state(whole(train.params), (config.batch,)), train.state)
        (loss, state), gradient = gradient_of(train.params, words[place], state, key)
        direction, optimizer = optimizer_of(config).update(gradient, train.optimizer)
        progress = schedule[0] + schedule[1] * train.step
        cosine = jnp.minimum(1, (train.step + 1) / 100) * (0.5 + 0.5 * jnp.cos(jnp.pi * progress))
        rate = config.learning_rate * (cosine if config.optimizer == "adam" else train.rate)
        params = optax.apply_updates(train.params, optax.tree.scale(-rate, direction))
        train = train._replace(step=train.step + 1, params=params, optimizer=optimizer, state=state)
        if config.optimizer == "sgd":
            train = jax.lax.cond(train.step % len(words) == 0, anneal, lambda train: train, train)
        return train, total + loss

    train, total = jax.lax.fori_loop(0, updates, one, (train, jnp.float32(0)))
    return train, total / updates + 0 * optax.tree.norm(train.params)  # not finite if the parameters are not


def main(config: Config) -> None:
    corpus = Corpus.of(config.data, config.vocabulary)
    size, windows = len(corpus.vocabulary), jnp.asarray(windows_of(corpus.train, config.batch, config.sequence_length))
    model = make_model(config, size)
    train = begin(config, model, size)
    run = common.Run(config, facts={"data": corpus.digest})
    order, of_valid, of_test = best_ngram(corpus)
    name = f"Kneser-Ney {order}-gram"
    print(f"data    {corpus}")
    print(f"n-gram  {name}: validation perplexity {math.exp(of_valid):.2f}")
    print(f"model   {model}, {sum(leaf.size for leaf in jax.tree.leaves(train.params)):,} parameters")
    print(f"run     {run.path}", flush=True)

    valid = jnp.asarray(corpus.valid)
    limit = dataclasses.replace(config, steps=config.epochs * len(windows) if config.epochs else config.steps)
    more, items = partial(update, config, model, windows, valid), config.batch * config.sequence_length
    for stage in common.training(limit, run, train, more, items=(items, "words"), stages=config.epochs or 20):
        loss = float(evaluate(model, whole(stage.train.params), valid))
        stage.record(loss, valid_loss=loss, epoch=stage.step / len(windows), words_per_second=stage.rate * items)
        run.plot({name: of_valid}, "nats a word", f"{config.cell} on {corpus.name}")
        perplexity = f"validation perplexity {math.exp(loss):.2f} ({name} {math.exp(of_valid):.2f})"
        stage.say(f"epoch {stage.step / len(windows):.1f}, {perplexity}, {stage.rate * items:,.0f} words/s")

    (train, _), last = run.checkpoints.best(jax.eval_shape(lambda: (begin(config, model, size), 0.0))), run.rows[-1]
    params, best = whole(train.params), min(row["valid_loss"] for row in run.rows)
    loss = float(evaluate(model, params, jnp.asarray(corpus.test)))
    written = write(model, params, np.zeros(1, int), 60, jax.random.key(config.seed), jnp.float32(0.8))
    print("    | " + " ".join(corpus.vocabulary[n] for n in written).replace(f" {END} ", "\n    | "))
    common.print_table(
        test=f"perplexity {math.exp(loss):.2f} ({loss:.3f} nats a word)",
        beside=f"{name} {math.exp(of_test):.2f}, every word alike {size:,}",
        validation=f"perplexity {math.exp(best):.2f}, the best; {name} {math.exp(of_valid):.2f}",
        time=f"{common.span(last['seconds'])}, {last['epoch']:.1f} epochs, {last['words_per_second']:,.0f} words/s",
        curves=f"{run.path / 'curves.png'}, {run.path / 'metrics.csv'}",
    )


if __name__ == "__main__":
    common.run(main, Config)
