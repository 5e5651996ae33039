"""A label for every step, read in both directions: the tokens of Python source, or what proteins fold into.

Python (no --data): the class of the token that each character of the standard library is part of, as `tokenize` has
it, in pieces that begin and end anywhere: whether a word is code or text is often told by what comes later.

Proteins (--data FOLDER): secondary structure from the residues alone, the data of N. Qian, T. Sejnowski, "Predicting
the secondary structure of globular proteins using neural network models", 1988 (UCI, "Molecular Biology (Protein
Secondary Structure)"): *.train and *.test, a residue and its class (_ coil, h helix, e sheet) a line, `<>` before each.

The networks are of M. Schuster, K. Paliwal, "Bidirectional recurrent neural networks", 1997. With several --members,
networks that differ in all that is random learn side by side by `jax.vmap`; the mean of their probabilities is judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import common  # first: its clock starts the run's
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from common import BadInputError
from jax import Array
from labelled import Data
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle
from tagged import proteins, python_source, step_baselines

import jaxrnn

COLOURS = ("#dfe3e8", "#c1440e", "#4f9bd9", "#e0b030", "#7dbf6b", "#9b8fc4", "#8a6d5a")  # of the classes


@dataclass(frozen=True)
class Config(common.Config):
    data: Path | None = None  # A folder with proteins in *.train and *.test; None: Python's standard library
    cell: str = "LSTM"  # A cell of jaxrnn, by name
    hidden_size: int = 64  # Size of each layer's state, in each direction
    layers: int = 1  # Recurrent layers
    dropout: float = 0.2  # Share of the outputs dropped after each layer
    members: int = 1  # Networks side by side
    sequence_length: int = 128  # Steps of a sequence that an update reads
    batch: int = 32  # Sequences an update and member
    learning_rate: float = 5e-3  # Its highest value
    minutes: float = 3.0  # How long the run takes, from start to end

    def check(self) -> None:
        super().check()
        common.at_least(1, hidden_size=self.hidden_size, layers=self.layers, members=self.members, batch=self.batch)
        common.at_least(1, sequence_length=self.sequence_length)
        common.above(0, learning_rate=self.learning_rate)
        if not 0 <= self.dropout < 1:
            raise BadInputError(f"--dropout must be from 0 to below 1, but it is {self.dropout}")


def make_model(config: Config, num_classes: int) -> jaxrnn.Stack:
    layer, dropout = jaxrnn.Bidirectional(common.make_cell(config.cell, config.hidden_size)), config.dropout
    reader = jaxrnn.Embedding(config.hidden_size)
    return jaxrnn.Stack(
        reader, jaxrnn.Dropout(dropout), *[layer, jaxrnn.Dropout(dropout)] * config.layers, jaxrnn.Dense(num_classes)
    )


class Train(NamedTuple):
    """All that training changes."""

    step: Array
    params: Any  # of all members: each leaf [members, ...]
    adam: Any


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99))


@partial(jax.jit, static_argnums=(0, 1, 2))
def begin(config: Config, model: jaxrnn.Stack, num_features: int) -> Train:
    keys = jax.random.split(jax.random.key(config.seed), config.members)
    params = jax.vmap(lambda key: model.init(key, num_features))(keys)
    return Train(jnp.int32(0), params, jax.vmap(optimizer.init)(params))


@partial(jax.jit, static_argnames=("config", "model"))
def update(
    config: Config, model: jaxrnn.Stack, data: tuple[Array, ...], train: Train, updates: Array, schedule: Any
) -> tuple[Train, Array]:
    """Makes some updates and returns their mean loss. Each member draws stretches of sequences of its own."""
    all_xs, all_lengths, all_labels = data

    steps = jnp.arange(min(config.sequence_length, len(all_xs)))[:, None]

    def loss_of(params: Any, key: Array) -> Array:
        k_batch, k_start, k_dropout = jax.random.split(key, 3)
        drawn = jax.random.randint(k_batch, (config.batch,), 0, len(all_lengths))
        starts = jax.random.randint(k_start, drawn.shape, 0, jnp.maximum(all_lengths[drawn] - len(steps), 0) + 1)
        xs, labels = all_xs[starts + steps, drawn], all_labels[starts + steps, drawn]
        lengths = jnp.minimum(all_lengths[drawn], len(steps))
        _, logits = jaxrnn.unroll(model, params, xs, lengths=lengths, key=k_dropout)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(where=steps < lengths)  # padding has no label

    def one(_: int, carry: tuple[Train, Array]) -> tuple[Train, Array]:
        (step, params, adam), total = carry
        keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), step), config.members)
        loss, gradient = jax.vmap(jax.value_and_grad(loss_of))(params, keys)
        direction, adam = jax.vmap(optimizer.update)(gradient, adam)
        progress = schedule[0] + schedule[1] * step
        rate = config.learning_rate * jnp.minimum(1, (step + 1) / 100) * (0.5 + 0.5 * jnp.cos(jnp.pi * progress))
        params = optax.apply_updates(params, optax.tree.scale(-rate, direction))
        return Train(step + 1, params, adam), total + loss.mean()

    train, total = jax.lax.fori_loop(0, updates, one, (train, jnp.float32(0)))
    return train, total / updates + 0 * optax.tree.norm(train.params)  # not finite if the parameters are not


@partial(jax.jit, static_argnames="model")
def log_probabilities(model: jaxrnn.Stack, params: Any, xs: Array, lengths: Array) -> Array:
    """Of each step's classes [time, sequences, classes]: of the mean of all members' probabilities."""
    _, logits = jax.vmap(lambda p: jaxrnn.unroll(model, p, xs, lengths=lengths))(params)
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(logits))


def draw(path: Path, data: Data, guessed: np.ndarray, title: str, rows: int = 6, columns: int = 96) -> None:
    """Draws some sequences of the test set: below their symbols the right labels, below these the guessed ones."""
    longest = data.test[np.argsort(-data.lengths[data.test], kind="stable")]
    shown = longest[:: max(1, len(longest) // rows)][:rows]
    figure, all_axes = plt.subplots(len(shown), squeeze=False, figsize=(15, 0.9 * len(shown) + 1), layout="constrained")
    for axes, sequence in zip(all_axes[:, 0], shown, strict=True):
        string = data.string(sequence)[:columns]
        (place,) = np.flatnonzero(data.test == sequence)
        labels = np.stack([data.labels[: len(string), sequence], guessed[: len(string), place]])
        axes.imshow(
            labels, ListedColormap(COLOURS[: len(data.classes)]), aspect="auto", vmin=-0.5, vmax=len(data.classes) - 0.5
        )
        for column, symbol in enumerate(string):
            axes.text(
                column, -0.6, {"\n": "↵"}.get(symbol, symbol), ha="center", va="bottom", family="monospace", fontsize=8
            )
        axes.set(xlim=(-0.5, columns - 0.5), xticks=[], yticks=[0, 1], yticklabels=["right", "guessed"])
        axes.spines[:].set_visible(False)
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS[: len(data.classes)]]
    figure.legend(handles, data.classes, loc="outside lower center", ncols=len(data.classes), frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def train_model(config: Config) -> None:
    data = python_source() if config.data is None else proteins(config.data)
    model = make_model(config, len(data.classes))
    train = begin(config, model, data.num_features)
    run = common.Run(config, facts={"data": data.digest})
    baselines = step_baselines(data)
    size = sum(leaf.size for leaf in jax.tree.leaves(train.params)) // config.members
    print(f"data    {data}")
    print(f"beside  {', '.join(f'{name} {right:.3f}' for name, right in baselines.items())} of all test steps right")
    print(f"model   {config.members} x {model}, {size:,} parameters")
    print(f"run     {run.path}", flush=True)

    def measure(params: Any, part: np.ndarray) -> tuple[np.ndarray, float, float]:
        """The labels guessed for some sequences, the mean loss and the share that is right, over all their steps."""
        found = np.asarray(log_probabilities(model, params, data.xs[:, part], data.lengths[part]))
        labels, counts = data.labels[:, part], data.steps[:, part]
        losses, guessed = -np.take_along_axis(found, labels[..., None], axis=-1)[..., 0], found.argmax(-1)
        return guessed, float(losses[counts].mean()), float((guessed == labels)[counts].mean())

    steps = int(np.minimum(data.lengths, config.sequence_length).mean() * config.batch * config.members)
    seen = jax.device_put((data.xs[:, data.train], data.lengths[data.train], data.labels[:, data.train]))
    for stage in common.training(config, run, train, partial(update, config, model, seen), (steps, "steps")):
        _, valid_loss, right = measure(stage.train.params, data.valid)
        stage.record(valid_loss, valid_loss=valid_loss, valid_right=right)
        stage.say(f"validation {valid_loss:.3f}, {right:.1%} right")

    best, _ = run.checkpoints.best(jax.eval_shape(lambda: (begin(config, model, data.num_features), 0.0)))
    guessed, _, right = measure(best.params, data.test)
    run.plot({}, "nats per step", f"{config.cell} on {data.name}")
    draw(run.path / "labels.png", data, guessed, f"{data.name}, test: {right:.1%} of all steps right")
    print(f"Shares of the test set's steps that are right, at update {best.step:,}, the best in validation:")
    name = f"bidirectional {config.cell}" + f", {config.members} together" * (config.members > 1)
    common.print_table(**{name: f"{share:.3f}" for name, share in ({name: right} | baselines).items()})
    print(f"{common.span(run.rows[-1]['seconds'])}, {run.rows[-1]['step']:,.0f} updates; {run.path / 'labels.png'}")


def main() -> None:
    common.run(train_model, Config)


if __name__ == "__main__":
    main()
