"""A label for every node of a tree: Tree-LSTMs (K. S. Tai et al., 2015) beside an LSTM that reads the tree in brackets.

By default the trees are expressions, and a node's label is the value of its subexpression, in arithmetic modulo 10 or
in logic. Networks train on shallow expressions and are tested on deeper ones too. All learn from the same labels: the
sequence network predicts a leaf's label at its symbol and an inner node's label at its closing bracket. --data reads
train.txt, dev.txt and test.txt in the format of the Stanford Sentiment Treebank (Socher et al., 2013):
(3 (2 It) (4 (4 great) (2 film))). With an odd number of classes, such as its five, the middle one is neutral, and the
script also prints the binary accuracy: neutral nodes are left out, and the prediction is the side, above or below
neutral, that has the larger probability. Each network is tested with the parameters of its own best validation.
"""

from __future__ import annotations

if __name__ == "__main__":
    from support.early import check_command_line

    check_command_line(__file__)  # before the imports below, which take seconds

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from data.labeled_trees import Examples, accuracy_by_depth, binary_accuracy, digest, generated, treebank
from jax import Array
from support.cells import cell_class, count_parameters, make_cell
from support.clock import process_start
from support.command_line import launch
from support.options import RunFolder, RunOptions, above, at_least, rate
from support.plots import RED, figure
from support.progress import print_table
from support.run import Run
from support.schedule import warmup_cosine
from support.training import many_steps, step_keys, training

import jaxrnn
from jaxrnn import trees

TREE_CELLS = {
    "ChildSumTreeLSTM": trees.ChildSumTreeLSTM,
    "NaryTreeLSTM": trees.NaryTreeLSTM,
    "RecursiveNet": trees.RecursiveNet,
    "RNTN": trees.RNTN,
}
Accuracies = dict[int, tuple[float, float]]  # by depth: of the roots, and of all nodes


@dataclass(frozen=True)
class Options(RunOptions):
    data: Path | None = None  # A folder of train.txt, dev.txt and test.txt. None: generated expressions
    task: Literal["arithmetic", "logic"] = "arithmetic"  # What to generate
    seen: int = 4  # Depth of the deepest training expressions
    deepest: int = 8  # Depth of the deepest test expressions
    expressions: int = 10_000  # Number of training expressions
    cell: tuple[str, ...] = ("NaryTreeLSTM", "LSTM")  # Names of cells in jaxrnn or jaxrnn.trees
    hidden_size: int = 64  # Hidden size, and size of the symbols' embeddings
    dropout: float = 0.0  # Dropout rate of the embeddings and of the states that are read out
    batch: int = 64  # Number of trees in a batch
    learning_rate: float = 4e-3  # Peak learning rate
    generators: ClassVar[tuple[str, ...]] = ("task", "seen", "deepest", "expressions")
    other_cells: ClassVar[tuple[str, ...]] = ("ChildSumTreeLSTM", "NaryTreeLSTM", "RecursiveNet", "RNTN")

    def check(self) -> None:
        super().check()
        at_least(1, cell=len(self.cell), batch=self.batch, expressions=self.expressions)
        at_least(2, seen=self.seen, hidden_size=self.hidden_size)
        at_least(self.seen, deepest=self.deepest)
        above(0, learning_rate=self.learning_rate)
        rate(dropout=self.dropout)
        for name in self.cell:
            if name not in TREE_CELLS:
                cell_class(name)


class Network(NamedTuple):
    """A reader of symbols, a cell over trees or sequences, and a head that reads every node's state."""

    name: str
    reader: jaxrnn.Stack
    cell: Any
    head: jaxrnn.Stack

    @staticmethod
    def of(options: Options, name: str, num_classes: int) -> Network:
        size = options.hidden_size
        dropout = jaxrnn.Dropout(options.dropout)
        reader = jaxrnn.Stack(jaxrnn.Embedding(size), dropout)
        cell = TREE_CELLS[name](size) if name in TREE_CELLS else make_cell(name, size)
        head = jaxrnn.Stack(dropout, jaxrnn.Dense(num_classes))
        return Network(name, reader, cell, head)

    def init(self, key: Array, examples: Examples, num_symbols: int) -> tuple[Any, Any, Any]:
        k_reader, k_cell, k_head = jax.random.split(key, 3)
        reader = self.reader.init(k_reader, num_symbols)
        cell = self.cell.init(k_cell, self.cell.hidden_size)
        size = jax.eval_shape(self.outputs, (reader, cell), examples).shape[-1]
        return reader, cell, self.head.init(k_head, size)

    def outputs(self, params: Any, examples: Examples, key: Array | None = None) -> Array:
        """Returns the outputs of all nodes, [slots, trees, hidden]."""
        if isinstance(self.cell, trees.TreeCell):
            _, xs = jaxrnn.unroll(self.reader, params[0], examples.trees.xs, key=key)
            return trees.unroll(self.cell, params[1], examples.trees, xs).h
        _, xs = jaxrnn.unroll(self.reader, params[0], examples.symbols, key=key)
        _, ys = jaxrnn.unroll(self.cell, params[1], xs, lengths=examples.lengths)
        return ys[examples.trees.labels[..., 2], jnp.arange(ys.shape[1])]

    def logits(self, params: Any, examples: Examples, key: Array | None = None) -> Array:
        """Returns the logits of all nodes, [slots, trees, classes]."""
        k_reader, k_head = (None, None) if key is None else jax.random.split(key)
        return jaxrnn.unroll(self.head, params[2], self.outputs(params, examples, k_reader), key=k_head)[1]

    def loss(self, params: Any, examples: Examples, key: Array | None = None) -> Array:
        """Returns the mean cross-entropy of all nodes."""
        logits, labels = self.logits(params, examples, key), examples.trees.labels[..., 0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(where=examples.trees.valid)


class Train(NamedTuple):
    """Everything that training changes."""

    step: Array
    params: dict[str, Any]  # of each network
    adam: dict[str, Any]


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99))


def begin(options: Options, nets: tuple[Network, ...], examples: Examples, num_symbols: int) -> Train:
    keys = jax.random.split(jax.random.key(options.seed), len(nets))
    params = {net.name: net.init(key, examples, num_symbols) for net, key in zip(nets, keys, strict=True)}
    return Train(jnp.int32(0), params, {name: optimizer.init(p) for name, p in params.items()})


def update(
    options: Options, nets: tuple[Network, ...], train: Train, data: Examples, key: Array, progress: Array
) -> tuple[Train, Array]:
    """Runs one training step of all networks, on the same batch. Returns their mean loss."""
    k_batch, *k_nets = jax.random.split(key, 1 + len(nets))
    batch = data.take(jax.random.randint(k_batch, (options.batch,), 0, len(data.lengths)))
    learning_rate = options.learning_rate * warmup_cosine(train.step, progress)
    params, adam, losses = {}, {}, []
    for net, k_net in zip(nets, k_nets, strict=True):
        before = train.params[net.name]
        loss, gradient = jax.value_and_grad(net.loss)(before, batch, k_net)
        direction, adam[net.name] = optimizer.update(gradient, train.adam[net.name])
        params[net.name] = optax.apply_updates(before, optax.tree.scale(-learning_rate, direction))
        losses.append(loss)
    return Train(train.step + 1, params, adam), jnp.stack(losses).mean()


class Predictions(NamedTuple):
    """What a network predicts for all nodes, as arrays [slots, trees]."""

    losses: Any
    right: Any  # whether the label is predicted
    positive: Any  # whether the classes above the middle one are more probable than those below it


@partial(jax.jit, static_argnames="net")
def predict(net: Network, params: Any, examples: Examples) -> Predictions:
    logits, labels = net.logits(params, examples), examples.trees.labels[..., 0]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    probabilities = jax.nn.softmax(logits)
    side = (logits.shape[-1] + 1) // 2  # of an odd number of classes, the first one above the middle
    above, below = probabilities[..., side:].sum(-1), probabilities[..., : logits.shape[-1] - side].sum(-1)
    return Predictions(losses, logits.argmax(-1) == labels, above > below)


def evaluate(net: Network, params: Any, examples: Examples) -> Predictions:
    """Returns the predictions for all trees, computed for a few hundred of them at a time."""
    number = len(examples.lengths)
    size = 300
    parts = []
    for start in range(0, number, size):  # all parts have one size, so that there is one compilation
        which = np.minimum(np.arange(start, start + size), number - 1)
        parts.append(jax.device_get(predict(net, params, examples.take(which))))
    return Predictions(*(np.concatenate(part, axis=1)[:, :number] for part in zip(*parts, strict=True)))


def in_words(accuracies: dict[str, tuple[float, float]]) -> str:
    return ", ".join(f"{name} {root:.3f} and {node:.3f}" for name, (root, node) in accuracies.items())


def plot(path: Path, accuracies: dict[str, Accuracies], seen: int | None) -> None:
    """Draws the accuracies of each network against the depth."""
    with figure(path, columns=2, figsize=(11, 4.2), dpi=140, sharey=True) as (_, grid):
        for column, (what, axes) in enumerate(zip(("roots", "nodes"), grid[0], strict=True)):
            for name, by_depth in accuracies.items():
                style = "--" if name.startswith("always") else "-"
                axes.plot([*by_depth], [pair[column] for pair in by_depth.values()], style, marker="o", label=name)
            if seen is not None:
                axes.axvline(seen + 0.5, color=RED, linestyle=":", label="deeper than in training")
            axes.set(xlabel="depth of the tree", ylabel=f"accuracy on {what}", ylim=(0, 1.02))
        grid[0, 0].legend()


def main(options: Options, folder: RunFolder) -> None:
    if options.data:
        (data, valid, test), num_symbols, num_classes = treebank(options.data)
        name = str(options.data)
        depths_per_group = 5
    else:
        sizes = options.seen, options.deepest, options.expressions
        (data, valid, test), num_symbols, num_classes = generated(options.task, *sizes, options.seed)
        name = options.task
        depths_per_group = 1
    nets = tuple(Network.of(options, network, num_classes) for network in dict.fromkeys(options.cell))
    train = jax.jit(partial(begin, options, nets, valid, num_symbols))()
    run = Run(folder, options, {"data": digest((data, valid, test))})
    counts = np.bincount(data.trees.labels[..., 0][data.counted])
    most_frequent = int(counts.argmax())
    entropy = float(scipy.stats.entropy(counts))
    sizes = " + ".join(str(len(part.lengths)) for part in (data, valid, test))
    print(f"data    {name}: {sizes} trees to train, validate and test, {num_symbols:,} symbols")
    for net in nets:
        print(f"model   {net.cell}, {count_parameters(train.params[net.name]):,} parameters")
    print(f"run     {run.path}", flush=True)

    chosen = {net.name: run.open_checkpoints(f"networks/{net.name}") for net in nets}  # by each one's own accuracy
    steps = many_steps(partial(update, options, nets), step_keys(options.seed))
    for stage in training(run, train, steps, jax.device_put(data), options.limit, items=(options.batch, "trees")):
        found = {net.name: evaluate(net, stage.train.params[net.name], valid) for net in nets}
        losses = {f"{name}_loss": float(p.losses.mean(where=valid.counted)) for name, p in found.items()}
        right = {name: float(p.right.mean(where=valid.counted)) for name, p in found.items()}
        accuracies = {f"{name}_accuracy": share for name, share in right.items()}
        for name, share in right.items():
            run.save(stage.step, stage.train.params[name], 1 - share, to=chosen[name])
        stage.record(np.mean([*losses.values()]).item(), **losses, **accuracies)
        run.plot({"entropy of the classes": entropy}, "nats per node", f"{name}, validation")
        stage.say("validation accuracy on nodes: " + ", ".join(f"{name} {share:.3f}" for name, share in right.items()))

    like = jax.eval_shape(lambda: begin(options, nets, valid, num_symbols).params)
    best = {name: checkpoints.best(like[name]) for name, checkpoints in chosen.items()}
    predictions = {net.name: evaluate(net, best[net.name], test) for net in nets}
    always = f"always {most_frequent}"
    hits = {name: p.right for name, p in predictions.items()}
    hits[always] = test.trees.labels[..., 0] == most_frequent
    by_depth = {name: accuracy_by_depth(test, hit, depths_per_group) for name, hit in hits.items()}
    plot(run.path / "depths.png", by_depth, None if options.data else options.seen)
    steps_of = ", ".join(f"{name} after step {checkpoints.best_step:,}" for name, checkpoints in chosen.items())
    print(f"test accuracy on roots and on all nodes; {steps_of}:")
    rows = {}
    for depth in by_depth[always]:
        if options.data:
            group = f"depth {depth} to {depth + depths_per_group - 1}"
        else:
            group = f"depth {depth}" + ", not in training" * (depth > options.seen)
        rows[group] = in_words({name: found[depth] for name, found in by_depth.items()})
    rows["all"] = in_words({name: accuracy_by_depth(test, hit, 10**6)[0] for name, hit in hits.items()})
    if options.data and num_classes % 2 and num_classes > 1:
        middle = num_classes // 2
        sides = {name: p.positive for name, p in predictions.items()}
        answer = counts[middle + 1 :].sum() > counts[:middle].sum()
        sides["always " + ("positive" if answer else "negative")] = np.full(test.counted.shape, answer)
        rows["binary"] = in_words({name: binary_accuracy(test, side, middle) for name, side in sides.items()})
    print_table(**rows, pictures=f"depths.png and curves.png in {run.path}")


if __name__ == "__main__":
    launch(main, Options, RunFolder, started=process_start())
