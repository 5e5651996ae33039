"""A word language model of an embedding, recurrent layers and a softmax, compared with a Kneser-Ney n-gram.

The state carries over from one window of the text to the next, but the gradient does not (truncated backpropagation
through time). `--optimizer sgd` is the classic recipe: plain gradient steps whose learning rate is divided by 4 after
each epoch that does not improve the best validation loss. `--optimizer adam` uses a cosine schedule instead.

References: W. Zaremba et al., "Recurrent neural network regularization", 2014 (dropout between layers); Y. Gal,
Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016 (--variational);
O. Press, L. Wolf, "Using the output embedding to improve language models", 2017 (--tied); PyTorch's example
word_language_model (the values of the classic recipe).
"""

from __future__ import annotations

if __name__ == "__main__":
    from support.early import check_command_line

    check_command_line(__file__)  # before the imports below, which take seconds

import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from char_lm import generate
from data.windows import Streams
from data.words import END, NGRAM_WORDS, Corpus, best_ngram
from jax import Array
from jax.sharding import Mesh
from models.language_model import loss_of_window
from support.cells import count_parameters, make_cell
from support.clock import duration, process_start
from support.command_line import launch
from support.devices import (
    BATCH,
    COPIED,
    constrain,
    gathered,
    make_mesh,
    parameter_specs,
    shardings,
    sum_over_streams,
    value_and_grad,
    varying,
)
from support.errors import BadInputError
from support.feeding import Block, Feed
from support.options import Cluster, Devices, RunFolder, RunOptions, above, at_least, rate
from support.progress import print_table
from support.run import Run
from support.schedule import warmup_cosine
from support.training import Steps, many_steps, step_keys, training

import jaxrnn


@dataclass(frozen=True)
class Options(RunOptions):
    data: Path | None = None  # A folder of train.txt, valid.txt and test.txt. None: source of the standard library
    vocabulary: int = 2000  # Number of words to keep, the most frequent ones
    cell: str = "LSTM"  # Name of a cell in jaxrnn
    hidden_size: int = 128  # Size of the embedding, and hidden size of each layer
    layers: int = 1  # Number of recurrent layers
    tied: bool = True  # Use the embedding as the weights of the softmax; --no-tied separates them
    dropout: float = 0.3  # Dropout rate after the embedding and after each layer
    variational: bool = False  # Drop the same units for all words of a window
    sequence_length: int = 35  # Length of each training window; the state carries over to the next one
    batch: int = 20  # Batch size: number of streams in which the text is read
    optimizer: Literal["adam", "sgd"] = "adam"  # Adam with a cosine schedule, or the classic recipe
    learning_rate: float = 5e-3  # Peak learning rate
    clip: float = 1.0  # Largest gradient norm; larger gradients are scaled down to it
    devices: Devices = "auto"  # Devices that share each batch. auto: one for a CPU with the native loop, else all
    shard_parameters: bool = False  # Split the parameters and the state of the optimizer over the devices, too
    epochs: int | None = None  # Number of passes through the text, instead of --steps or --minutes
    alternatives: ClassVar[tuple[str, ...]] = ("epochs", "steps", "minutes")
    limits: ClassVar[tuple[str, ...]] = alternatives
    layout: ClassVar[tuple[str, ...]] = ("devices", "shard_parameters")

    def check(self) -> None:
        super().check()
        at_least(2, vocabulary=self.vocabulary)
        at_least(1, hidden_size=self.hidden_size, layers=self.layers, batch=self.batch)
        at_least(1, sequence_length=self.sequence_length, epochs=1 if self.epochs is None else self.epochs)
        above(0, learning_rate=self.learning_rate, clip=self.clip)
        rate(dropout=self.dropout)


def make_model(options: Options, num_words: int) -> jaxrnn.Stack:
    cell = make_cell(options.cell, options.hidden_size)
    dropout = [jaxrnn.Dropout(options.dropout, shared=options.variational)] if options.dropout else []
    layers = (jaxrnn.Embedding(options.hidden_size), *dropout, *[cell, *dropout] * options.layers)
    return jaxrnn.Stack(*layers, jaxrnn.Dense(num_words))


class Train(NamedTuple):
    """The training state."""

    step: Array
    params: Any  # tied weights are stored once
    optimizer: Any
    state: Any  # recurrent state of the streams
    rate: Array  # factor of the learning rate, for plain gradient steps
    best: Array  # lowest validation loss after an epoch


def make_optimizer(options: Options) -> optax.GradientTransformation:
    direction = optax.scale_by_adam() if options.optimizer == "adam" else optax.identity()
    return optax.chain(optax.clip_by_global_norm(options.clip), direction)


def begin(options: Options, model: jaxrnn.Stack, num_words: int) -> Train:
    params = model.init(jax.random.key(options.seed), num_words)
    if options.tied:
        if params[0].w.shape[1] != params[-1].w.shape[0]:
            raise BadInputError(
                f"--tied needs outputs of the embedding's size, but the outputs of {options.cell} have another size"
            )
        params = (*params[:-1], params[-1]._replace(w=None))
    state = model.initial_state(untie(params), (options.batch,))
    return Train(
        step=jnp.int32(0),
        params=params,
        optimizer=make_optimizer(options).init(params),
        state=state,
        rate=jnp.float32(1),
        best=jnp.float32(math.inf),
    )


def untie(params: Any) -> Any:
    """Returns the model's parameters, given the trained ones: tied weights appear in both places."""
    return (*params[:-1], params[-1]._replace(w=params[0].w.T)) if params[-1].w is None else params


def begin_on(mesh: Mesh, options: Options, model: jaxrnn.Stack, num_words: int) -> Train:
    """Initializes the training state on the devices of a mesh, each part on the devices that keep it."""
    like = jax.eval_shape(partial(begin, options, model, num_words))
    params, optimizer = parameter_specs((like.params, like.optimizer), mesh, options.shard_parameters)
    fields: Any = COPIED, params, optimizer, jax.tree.map(lambda _: BATCH, like.state), COPIED, COPIED
    return jax.jit(partial(begin, options, model, num_words), out_shardings=shardings(mesh, Train(*fields)))()


@partial(jax.jit, static_argnames=("model", "mesh", "window", "streams"))
def evaluate(model: jaxrnn.Stack, params: Any, words: Array, mesh: Mesh, window: int = 35, streams: int = 10) -> Array:
    """Returns the mean loss over all words but the first, read in streams side by side by the devices of a mesh."""
    windows = -(-len(words) // (streams * window))

    def losses(params: Any, streams_here: Array, words: Array) -> Array:
        places = streams_here * windows * window + jnp.arange(windows * window)[:, None]
        places = places.reshape(windows, window, -1)

        def read(state: Any, places: Array) -> tuple[Any, Array]:
            read, following = words[jnp.maximum(places - 1, 0)], words[jnp.minimum(places, len(words) - 1)]
            counts = (places > 0) & (places < len(words))
            loss, state = loss_of_window(model, params, read, following, state, counts)
            return varying(state), loss

        state = varying(model.initial_state(params, streams_here.shape))
        return jax.lax.scan(read, state, places)[1].sum()

    return sum_over_streams(losses, mesh, streams)(params, words) / (len(words) - 1)


def update(
    options: Options,
    model: jaxrnn.Stack,
    mesh: Mesh,
    windows: int,
    valid: Array,
    train: Train,
    block: Block,
    key: Array,
    progress: Array,
) -> tuple[Train, Array]:
    """Runs one training step, on the next window of every stream.

    Args:
      windows: Number of training steps of an epoch.
      valid: The validation words on which plain gradient steps choose their learning rate at the end of an epoch.
    """
    state = model.initial_state(untie(train.params), (options.batch,))
    state = jaxrnn.ops.where(train.step % windows == 0, state, train.state)

    def loss_fn(params: Any, window: Array, state: Any, keys: Array) -> tuple[Array, Any]:
        used = keys if options.dropout else None
        return loss_of_window(model, untie(params), window[:-1], window[1:], state, key=used)

    def anneal(train: Train) -> Train:
        loss = evaluate(model, untie(train.params), valid, mesh)
        factor = jnp.where(loss < train.best, 1, 0.25)
        return train._replace(rate=train.rate * factor, best=jnp.minimum(loss, train.best))

    split = options.shard_parameters
    gradient_of = value_and_grad(loss_fn, mesh, split)
    (loss, state), gradient = gradient_of(train.params, block.at(train.step), state, key)
    direction, optimizer = make_optimizer(options).update(gradient, train.optimizer)
    scale = warmup_cosine(train.step, progress) if options.optimizer == "adam" else train.rate
    params = optax.apply_updates(train.params, optax.tree.scale(-options.learning_rate * scale, direction))
    params, optimizer = constrain((params, optimizer), mesh, split)
    train = train._replace(step=train.step + 1, params=params, optimizer=optimizer, state=state)
    if options.optimizer == "sgd":
        train = jax.lax.cond(train.step % windows == 0, anneal, lambda train: train, train)
    return train, loss


def make_steps(options: Options, model: jaxrnn.Stack, mesh: Mesh, windows: int, valid: Any) -> Steps:
    """Returns a compiled function that runs many training steps; see `many_steps`."""
    return many_steps(partial(update, options, model, mesh, windows, jnp.asarray(valid)), step_keys(options.seed))


def streams_of(options: Options, corpus: Corpus) -> Streams:
    return Streams(
        corpus.train, len(corpus.train), options.batch, options.sequence_length, circular=False, unit="words"
    )


def main(options: Options, folder: RunFolder) -> None:
    corpus = Corpus.of(options.data, options.vocabulary)
    size = len(corpus.vocabulary)
    streams = streams_of(options, corpus)
    mesh = make_mesh(options.devices, options.batch)
    model = make_model(options, size)
    train = begin_on(mesh, options, model, size)
    run = Run(folder, options, facts={"data": corpus.digest})
    order, ngram_valid, ngram_test = best_ngram(corpus)
    ngram = f"Kneser-Ney {order}-gram"
    of_part = f" on the last {NGRAM_WORDS:,} training words" if len(corpus.train) > NGRAM_WORDS else ""
    print(f"data    {corpus}")
    print(f"n-gram  {ngram}{of_part}: validation perplexity {math.exp(ngram_valid):.2f}")
    print(f"model   {model}, {count_parameters(train.params):,} parameters")
    print(f"device  {mesh.size} x {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores")
    print(f"run     {run.path}", flush=True)

    steps = make_steps(options, model, mesh, streams.windows, corpus.valid)
    feed = Feed(streams.cut, mesh, options.batch)
    limit = (options.epochs * streams.windows, 0.0) if options.epochs else options.limit
    words = options.batch * options.sequence_length
    stages = options.epochs or 20
    for stage in training(run, train, steps, feed, limit, items=(words, "words"), stages=stages):
        epoch = stage.step / streams.windows
        speed = stage.rate * words
        loss = float(evaluate(model, untie(gathered(stage.train.params, mesh)), corpus.valid, mesh))
        stage.record(loss, valid_loss=loss, epoch=epoch, words_per_second=speed)
        run.plot({ngram: ngram_valid}, "nats per word", f"{options.cell} on {corpus.name}")
        perplexity = f"validation perplexity {math.exp(loss):.2f} ({ngram} {math.exp(ngram_valid):.2f})"
        stage.say(f"epoch {epoch:.1f}, {perplexity}, {speed:,.0f} words/s")

    train, _ = run.checkpoints.best(jax.eval_shape(lambda: (begin(options, model, size), 0.0)))
    params = jax.device_get(untie(train.params))
    loss = float(evaluate(model, params, corpus.test, mesh))
    best = min(row["valid_loss"] for row in run.rows)
    sample = generate(model, params, np.zeros(1, int), 60, jax.random.key(options.seed), jnp.float32(0.8))
    print("    | " + " ".join(corpus.vocabulary[n] for n in sample).replace(f" {END} ", "\n    | "))
    speed = f"{run.last['epoch']:.1f} epochs, {run.last['words_per_second']:,.0f} words/s"
    print_table(
        test=f"perplexity {math.exp(loss):.2f} ({loss:.3f} nats per word)",
        baselines=f"{ngram} {math.exp(ngram_test):.2f}, uniform over all words {size:,}",
        validation=f"perplexity {math.exp(best):.2f}, the best; {ngram} {math.exp(ngram_valid):.2f}",
        time=f"{duration(run.last['seconds'])}, {speed}",
        curves=run.curves,
    )


if __name__ == "__main__":
    launch(main, Options, RunFolder, Cluster, started=process_start())
