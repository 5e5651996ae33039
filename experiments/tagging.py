"""One label per step, read in both directions: the tokens of Python source, or the folding of proteins.

Python (no --data): the class of the token that each character of the standard library belongs to, by `tokenize`, in
pieces that begin and end anywhere: later characters often decide whether a word is code or text.

Proteins (--data FOLDER): secondary structure from the residues alone, the data of N. Qian, T. Sejnowski, "Predicting
the secondary structure of globular proteins using neural network models", 1988 (UCI, "Molecular Biology (Protein
Secondary Structure)"): *.train and *.test, each line a residue and its class (_ coil, h helix, e sheet), `<>` before
each protein.

The networks are those of M. Schuster, K. Paliwal, "Bidirectional recurrent neural networks", 1997. With several
--members, networks that differ in all random choices train side by side, and the mean of their probabilities is used.
"""

from __future__ import annotations

if __name__ == "__main__":
    from support.early import check_command_line

    check_command_line(__file__)  # before the imports below, which take seconds

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from data.labeled_sequences import LabeledSequences
from data.labeled_steps import proteins, python_source, step_baselines
from jax import Array
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle
from support.cells import count_parameters, make_cell
from support.clock import duration, process_start
from support.command_line import launch
from support.ensemble import Ensemble
from support.options import RunFolder, RunOptions, above, at_least, rate
from support.plots import figure
from support.progress import print_table
from support.run import Run
from support.schedule import warmup_cosine
from support.training import Steps, many_steps, step_keys, training

import jaxrnn

COLORS = ("#dfe3e8", "#c1440e", "#4f9bd9", "#e0b030", "#7dbf6b", "#9b8fc4", "#8a6d5a")  # of the classes


@dataclass(frozen=True)
class Options(RunOptions):
    data: Path | None = None  # A folder with proteins in *.train and *.test. None: Python's standard library
    cell: str = "LSTM"  # Name of a cell in jaxrnn
    hidden_size: int = 64  # Hidden size of each layer, in each direction
    layers: int = 1  # Number of recurrent layers
    dropout: float = 0.2  # Dropout rate after the embedding and after each layer
    members: int = 1  # Number of networks that train side by side
    sequence_length: int = 128  # Length of the training sequences; longer ones are cut at random places
    batch: int = 32  # Number of sequences in a batch, for each member
    learning_rate: float = 5e-3  # Peak learning rate
    minutes: float = 3.0  # Time limit of the run in minutes, start-up included

    def check(self) -> None:
        super().check()
        at_least(1, hidden_size=self.hidden_size, layers=self.layers, members=self.members, batch=self.batch)
        at_least(1, sequence_length=self.sequence_length)
        above(0, learning_rate=self.learning_rate)
        rate(dropout=self.dropout)


def make_model(options: Options, num_classes: int) -> jaxrnn.Stack:
    reader = jaxrnn.Embedding(options.hidden_size)
    layer = jaxrnn.Bidirectional(make_cell(options.cell, options.hidden_size))
    dropout = jaxrnn.Dropout(options.dropout)
    return jaxrnn.Stack(reader, dropout, *[layer, dropout] * options.layers, jaxrnn.Dense(num_classes))


class Train(NamedTuple):
    """Everything that training changes."""

    step: Array
    params: Any
    adam: Any


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99))


def begin(model: jaxrnn.Stack, num_features: int, key: Array) -> Train:
    params = model.init(key, num_features)
    return Train(jnp.int32(0), params, optimizer.init(params))


def update(
    options: Options,
    model: jaxrnn.Stack,
    train: Train,
    data: tuple[Array, Array, Array],
    key: Array,
    progress: Array,
) -> tuple[Train, Array]:
    """Runs one training step, on pieces of random sequences."""
    all_xs, all_lengths, all_labels = data
    steps = jnp.arange(min(options.sequence_length, len(all_xs)))[:, None]
    k_batch, k_start, k_dropout = jax.random.split(key, 3)
    drawn = jax.random.randint(k_batch, (options.batch,), 0, len(all_lengths))
    starts = jax.random.randint(k_start, drawn.shape, 0, jnp.maximum(all_lengths[drawn] - len(steps), 0) + 1)
    xs = all_xs[starts + steps, drawn]
    labels = all_labels[starts + steps, drawn]
    lengths = jnp.minimum(all_lengths[drawn], len(steps))

    def loss_fn(params: Any) -> Array:
        _, logits = jaxrnn.unroll(model, params, xs, lengths=lengths, key=k_dropout)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(where=steps < lengths)  # padding has no label

    loss, gradient = jax.value_and_grad(loss_fn)(train.params)
    direction, adam = optimizer.update(gradient, train.adam)
    learning_rate = options.learning_rate * warmup_cosine(train.step, progress)
    params = optax.apply_updates(train.params, optax.tree.scale(-learning_rate, direction))
    return Train(train.step + 1, params, adam), loss


@partial(jax.jit, static_argnums=(0, 1, 2))
def begin_all(options: Options, model: jaxrnn.Stack, num_features: int) -> Train:
    keys = jax.random.split(jax.random.key(options.seed), options.members)
    return Ensemble(options.members).begin(partial(begin, model, num_features), keys)


def make_steps(options: Options, model: jaxrnn.Stack) -> Steps:
    """Returns a compiled function that makes many training steps of all members, each on a batch of its own."""
    ensemble = Ensemble(options.members)
    keys = step_keys(options.seed)
    update_all = ensemble.update(partial(update, options, model))
    member_keys = ensemble.keys(lambda step: jax.random.split(keys(step), options.members))
    return many_steps(update_all, member_keys, ensemble.size)


@partial(jax.jit, static_argnames=("model", "members"))
def log_probabilities(model: jaxrnn.Stack, members: int, params: Any, xs: Array, lengths: Array) -> Array:
    """Returns log probabilities [time, sequences, classes] of each step's classes, from the mean over the members."""
    ensemble = Ensemble(members)
    logits = ensemble.stacked(ensemble.map(lambda p: jaxrnn.unroll(model, p, xs, lengths=lengths)[1])(params))
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(members)


def plot(
    path: Path, data: LabeledSequences, predicted: np.ndarray, title: str, rows: int = 6, columns: int = 96
) -> None:
    """Draws some test sequences: their symbols, and below them the true and the predicted labels."""
    longest = data.test[np.argsort(-data.lengths[data.test], kind="stable")]
    shown = longest[:: max(1, len(longest) // rows)][:rows]
    last = len(data.classes) - 0.5
    with figure(path, rows=len(shown), figsize=(15, 0.9 * len(shown) + 1), dpi=130, grid=False) as (drawn, grid):
        for axes, sequence in zip(grid[:, 0], shown, strict=True):
            string = data.string(sequence)[:columns]
            (place,) = np.flatnonzero(data.test == sequence)
            labels = np.stack([data.labels[: len(string), sequence], predicted[: len(string), place]])
            axes.imshow(labels, ListedColormap(COLORS[: len(data.classes)]), aspect="auto", vmin=-0.5, vmax=last)
            for column, symbol in enumerate(string):
                letter = "↵" if symbol == "\n" else symbol
                axes.text(column, -0.6, letter, ha="center", va="bottom", family="monospace", fontsize=8)
            axes.set(xlim=(-0.5, columns - 0.5), xticks=[], yticks=[0, 1], yticklabels=["true", "predicted"])
            axes.spines[:].set_visible(False)
        handles = [Rectangle((0, 0), 1, 1, color=color) for color in COLORS[: len(data.classes)]]
        drawn.legend(handles, data.classes, loc="outside lower center", ncols=len(data.classes))
        drawn.suptitle(title)


def main(options: Options, folder: RunFolder) -> None:
    data = python_source() if options.data is None else proteins(options.data)
    model = make_model(options, len(data.classes))
    train = begin_all(options, model, data.num_features)
    run = Run(folder, options, facts={"data": data.digest})
    baselines = step_baselines(data)
    size = count_parameters(train.params) // options.members
    print(f"data    {data}")
    print(f"beside  accuracy on all test steps: {', '.join(f'{name} {a:.3f}' for name, a in baselines.items())}")
    print(f"model   {options.members} x {model}, {size:,} parameters")
    print(f"run     {run.path}", flush=True)

    def measure(params: Any, part: np.ndarray) -> tuple[np.ndarray, float, float]:
        """Returns the predicted labels of some sequences, and the mean loss and the accuracy over all their steps."""
        found = np.asarray(log_probabilities(model, options.members, params, data.xs[:, part], data.lengths[part]))
        labels = data.labels[:, part]
        counts = data.steps[:, part]
        losses = -np.take_along_axis(found, labels[..., None], axis=-1)[..., 0]
        predicted = found.argmax(-1)
        return predicted, float(losses[counts].mean()), float((predicted == labels)[counts].mean())

    steps_per_batch = int(np.minimum(data.lengths, options.sequence_length).mean() * options.batch * options.members)
    seen = jax.device_put((data.xs[:, data.train], data.lengths[data.train], data.labels[:, data.train]))
    steps = make_steps(options, model)
    for stage in training(run, train, steps, seen, options.limit, items=(steps_per_batch, "steps")):
        _, valid_loss, accuracy = measure(stage.train.params, data.valid)
        stage.record(valid_loss, valid_loss=valid_loss, valid_right=accuracy)
        stage.say(f"validation {valid_loss:z.3f}, {accuracy:.1%} correct")

    best, _ = run.checkpoints.best(jax.eval_shape(lambda: (begin_all(options, model, data.num_features), 0.0)))
    predicted, _, accuracy = measure(best.params, data.test)
    run.plot({}, "nats per step", f"{options.cell} on {data.name}")
    picture = run.path / "labels.png"
    plot(picture, data, predicted, f"{data.name}, test: {accuracy:.1%} of all steps correct")
    print(f"Accuracy on the steps of the test set at training step {best.step:,}, the best in validation:")
    name = f"bidirectional {options.cell}" + f", {options.members} together" * (options.members > 1)
    print_table(**{name: f"{share:.3f}" for name, share in ({name: accuracy} | baselines).items()})
    print(f"{duration(run.last['seconds'])}, {run.last['step']:,.0f} steps; {picture}")


if __name__ == "__main__":
    launch(main, Options, RunFolder, started=process_start())
