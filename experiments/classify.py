"""One label per sequence, predicted from the last state: handwritten digits read row by row, or the language of a name.

An Elman network, an LSTM, a GRU and a bidirectional LSTM train side by side on the same batches; their probabilities
are also averaged.

Digits (no --data): scikit-learn's 1,797 images of 8 x 8 pixels (E. Alpaydin, C. Kaynak, "Optical recognition of
handwritten digits", 1998), whose rows are 8 steps. The halves for training and testing are those of scikit-learn's
example "Recognizing hand-written digits". The networks train on slightly rotated and shifted images, the baselines do
not.

Names (--data FOLDER): <language>.txt for each language, one name per line, such as those of S. Robertson, "Classifying
names with a character-level RNN" (PyTorch tutorials). Names that occur several times in a file count once, so that no
test name of a language is in its training data. Names are normalized to Unicode's form C; capitals and accents are
kept.
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
from data.labeled_sequences import LabeledSequences, digits, names, sequence_baselines, warp
from jax import Array
from sklearn.metrics import ConfusionMatrixDisplay
from support.cells import count_parameters, make_cell
from support.clock import duration, process_start
from support.command_line import launch
from support.errors import BadInputError
from support.options import RunFolder, RunOptions, above, at_least, rate
from support.plots import RED, figure
from support.progress import print_table
from support.run import Run
from support.schedule import warmup_cosine
from support.training import many_steps, step_keys, training

import jaxrnn


@dataclass(frozen=True)
class Options(RunOptions):
    data: Path | None = None  # A folder of <language>.txt, one name per line. None: scikit-learn's digits
    cell: str | None = None  # Name of a cell in jaxrnn. None: four networks side by side
    bidirectional: bool = False  # Whether that cell reads in both directions
    hidden_size: int = 128  # Hidden size of each layer, in each direction
    layers: int = 1  # Number of recurrent layers
    dropout: float = 0.5  # Dropout rate after the embedding, between layers and of the last state
    batch: int = 64  # Number of sequences in a batch
    learning_rate: float = 5e-3  # Peak learning rate
    minutes: float = 3.0  # Time limit of the run in minutes, start-up included

    def check(self) -> None:
        super().check()
        at_least(1, hidden_size=self.hidden_size, layers=self.layers, batch=self.batch)
        above(0, learning_rate=self.learning_rate)
        rate(dropout=self.dropout)
        if self.bidirectional and self.cell is None:
            raise BadInputError("--bidirectional needs --cell: name the cell that reads in both directions")


class Network(NamedTuple):
    """A recurrent body, and a head that reads its last state."""

    name: str
    body: jaxrnn.Stack
    head: jaxrnn.Stack

    def init(self, key: Array, num_features: int) -> tuple[Any, Any]:
        k_body, k_head = jax.random.split(key)
        params = self.body.init(k_body, num_features)
        h = jax.eval_shape(lambda: self.last_h(self.body.initial_state(params)))
        return params, self.head.init(k_head, h.shape[-1])

    def logits(self, params: Any, xs: Array, lengths: Array, key: Array | None = None) -> Array:
        k_body, k_head = (None, None) if key is None else jax.random.split(key)
        state, _ = jaxrnn.unroll(self.body, params[0], xs, lengths=lengths, key=k_body)
        h = self.last_h(state)  # at the last step of each sequence, because padding does not change the state
        nothing = self.head.initial_state(params[1], h.shape[:-1])
        return jaxrnn.step(self.head, params[1], nothing, h, key=k_head)[1]

    def last_h(self, state: Any) -> Array:
        """Returns the last layer's h after the whole sequence: forward at its end, backward at its beginning."""
        both_directions = isinstance(self.body.layers[-1], jaxrnn.Bidirectional)
        return jnp.concatenate([s.h for s in (state[-1] if both_directions else [state[-1]])], axis=-1)


def make_networks(options: Options, data: LabeledSequences) -> tuple[Network, ...]:
    def network(cell: str, bidirectional: bool) -> Network:
        layer: jaxrnn.Layer = make_cell(cell, options.hidden_size)
        name = cell
        if bidirectional:
            layer = jaxrnn.Bidirectional(layer)
            name = f"bidirectional {cell}"
        dropout = jaxrnn.Dropout(options.dropout)
        reader = [jaxrnn.Embedding(options.hidden_size), dropout] if data.alphabet else []
        body = jaxrnn.Stack(*reader, *[layer, dropout] * (options.layers - 1), layer)
        return Network(name, body, jaxrnn.Stack(dropout, jaxrnn.Dense(len(data.classes))))

    if options.cell is not None:
        return (network(options.cell, options.bidirectional),)
    return network("Elman", False), network("LSTM", False), network("GRU", False), network("LSTM", True)


class Train(NamedTuple):
    """Everything that training changes."""

    step: Array
    params: dict[str, Any]  # of each network
    adam: dict[str, Any]


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99))


@partial(jax.jit, static_argnums=(0, 1, 2))
def begin(options: Options, networks: tuple[Network, ...], num_features: int) -> Train:
    keys = jax.random.split(jax.random.key(options.seed), len(networks))
    params = {network.name: network.init(key, num_features) for network, key in zip(networks, keys, strict=True)}
    return Train(jnp.int32(0), params, {name: optimizer.init(p) for name, p in params.items()})


def loss_fn(params: Any, network: Network, batch: tuple[Array, Array, Array], key: Array) -> Array:
    xs, lengths, labels = batch
    logits = network.logits(params, xs, lengths, key)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def update(
    options: Options,
    networks: tuple[Network, ...],
    train: Train,
    data: tuple[Array, Array, Array],
    key: Array,
    progress: Array,
) -> tuple[Train, Array]:
    """Runs one training step of all networks, on the same batch. Returns their mean loss."""
    all_xs, all_lengths, all_labels = data
    k_batch, k_warp, k_dropout = jax.random.split(key, 3)
    drawn = jax.random.randint(k_batch, (options.batch,), 0, len(all_labels))
    xs = all_xs[:, drawn]
    if xs.ndim > 2:  # images, not symbols
        xs = warp(k_warp, xs)
    batch = xs, all_lengths[drawn], all_labels[drawn]

    learning_rate = options.learning_rate * warmup_cosine(train.step, progress)
    params, adam, losses = {}, {}, []
    for network, k_network in zip(networks, jax.random.split(k_dropout, len(networks)), strict=True):
        before = train.params[network.name]
        loss, gradient = jax.value_and_grad(loss_fn)(before, network, batch, k_network)
        direction, adam[network.name] = optimizer.update(gradient, train.adam[network.name])
        params[network.name] = optax.apply_updates(before, optax.tree.scale(-learning_rate, direction))
        losses.append(loss)
    return Train(train.step + 1, params, adam), jnp.stack(losses).mean()


@partial(jax.jit, static_argnames="networks")
def log_probabilities(networks: tuple[Network, ...], params: Any, xs: Array, lengths: Array) -> Array:
    """Returns log probabilities of the classes, [networks, sequences, classes].

    If there are several networks, the last entry is that of the mean of their probabilities.
    """
    each = jnp.stack([jax.nn.log_softmax(n.logits(params[n.name], xs, lengths)) for n in networks])
    together = jax.nn.logsumexp(each, axis=0) - jnp.log(len(networks))
    return jnp.concatenate([each, together[None]]) if len(networks) > 1 else each


def plot(path: Path, run: Run, data: LabeledSequences, baselines: dict[str, float], predicted: np.ndarray) -> None:
    """Draws the networks' errors on validation data during training, and the confusion matrix of the test data."""
    steps = [row["step"] for row in run.rows]
    with figure(path, columns=2, figsize=(13, 5.5), dpi=130) as (_, grid):
        left, right = grid[0]
        for name in (name for name in run.last if name.endswith("_right")):
            left.plot(steps, [1 - row[name] for row in run.rows], marker="o", label=name.removesuffix("_right"))
        for style, (name, share) in zip(("--", ":"), [*baselines.items()][:-1], strict=False):
            left.axhline(1 - share, color=RED, linestyle=style, label=f"{name}, test")
        left.set(xlabel="training step", ylabel="error rate", yscale="log", title=f"{data.name}, validation")
        left.legend(fontsize="small")
        ConfusionMatrixDisplay.from_predictions(
            data.labels[data.test], predicted, labels=range(len(data.classes)), display_labels=data.classes,
            normalize="true", include_values=False, xticks_rotation="vertical", cmap="Blues", ax=right,
        )  # fmt: skip
        right.grid(False)
        right.set_title(f"{data.name}, test: {(predicted == data.labels[data.test]).mean():.1%} correct")


def main(options: Options, folder: RunFolder) -> None:
    data = digits() if options.data is None else names(options.data)
    networks = make_networks(options, data)
    judged = [network.name for network in networks] + ["all together"] * (len(networks) > 1)
    train = begin(options, networks, data.num_features)
    run = Run(folder, options, facts={"data": data.digest})
    baselines = sequence_baselines(data)
    print(f"data    {data}")
    for network in networks:
        print(f"model   {network.body}, {count_parameters(train.params[network.name]):,} parameters")
    print(f"run     {run.path}", flush=True)

    def measure(params: Any, part: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        found = np.asarray(log_probabilities(networks, params, data.xs[:, part], data.lengths[part]))
        accuracies = (found.argmax(-1) == data.labels[part]).mean(-1)
        return found, {f"{name}_right": float(share) for name, share in zip(judged, accuracies, strict=True)}

    seen = jax.device_put((data.xs[:, data.train], data.lengths[data.train], data.labels[data.train]))
    steps = many_steps(partial(update, options, networks), step_keys(options.seed))
    for stage in training(run, train, steps, seen, options.limit, items=(options.batch, data.name)):
        found, accuracies = measure(stage.train.params, data.valid)
        valid_loss = -float(found[-1, np.arange(len(data.valid)), data.labels[data.valid]].mean())
        stage.record(
            valid_loss, valid_loss=valid_loss, **accuracies
        )  # the loss of the mean of all networks, which share one checkpoint
        shares = ", ".join(f"{name} {share:.3f}" for name, share in zip(judged, accuracies.values(), strict=True))
        stage.say(f"validation {valid_loss:z.3f}, accuracy {shares}")

    best, _ = run.checkpoints.best(jax.eval_shape(lambda: (begin(options, networks, data.num_features), 0.0)))
    found, accuracies = measure(best.params, data.test)
    picture = run.path / "curves.png"
    plot(picture, run, data, baselines, found[-1].argmax(-1))
    print(f"Accuracy on the test set with the best parameters in validation, those of step {best.step:,}:")
    scores = dict(zip(judged, accuracies.values(), strict=True)) | baselines
    print_table(**{name: f"{share:.3f}" for name, share in scores.items()})
    print(f"{duration(run.last['seconds'])}, {run.last['step']:,.0f} steps; {picture}")


if __name__ == "__main__":
    launch(main, Options, RunFolder, started=process_start())
