"""A label for every node of a tree: Tree-LSTMs (K. S. Tai et al., 2015) beside an LSTM that reads the tree in brackets.

By default the trees are expressions and a node's label is the value of its subexpression, in arithmetic modulo 10 or in
logic. Networks learn from shallow ones and are tested on deeper ones too. All are taught the same labels: the sequence
network gives a leaf's at its symbol and an inner node's at its closing bracket. --data reads train.txt, dev.txt and
test.txt in the format of the Stanford sentiment treebank (Socher et al., 2013): (3 (2 It) (4 (4 great) (2 film))).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import common  # first: its clock starts the run's
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from common import BadInputError
from jax import Array
from labelled_trees import Examples, by_depth, digest, draw, generated, in_words, treebank

import jaxrnn
from jaxrnn import trees

TREE_CELLS = {name: getattr(trees, name) for name in ("ChildSumTreeLSTM", "NaryTreeLSTM", "RecursiveNet", "RNTN")}


@dataclass(frozen=True)
class Config(common.Config):
    data: Path | None = None  # A folder of train.txt, dev.txt and test.txt; None: generated expressions
    task: Literal["arithmetic", "logic"] = "arithmetic"  # What is generated
    seen: int = 4  # Depth of the deepest expressions to learn from
    deepest: int = 8  # Depth of the deepest expressions to be tested on
    expressions: int = 10_000  # To learn from
    networks: tuple[str, ...] = (
        "NaryTreeLSTM",
        "LSTM",
    )  # Cells: of jaxrnn or of jaxrnn.trees, such as ChildSumTreeLSTM, RNTN
    hidden_size: int = 64  # Size of states and of symbols' vectors
    dropout: float = 0.0  # Share dropped of the symbols' vectors and of the states that are read out
    batch: int = 64  # Trees an update
    learning_rate: float = 4e-3  # Its highest value

    def check(self) -> None:
        super().check()
        common.at_least(1, networks=len(self.networks), batch=self.batch, expressions=self.expressions)
        common.at_least(2, seen=self.seen, hidden_size=self.hidden_size)
        common.at_least(self.seen, deepest=self.deepest)
        common.above(0, learning_rate=self.learning_rate)
        if not 0 <= self.dropout < 1:
            raise BadInputError(f"--dropout must be from 0 to below 1, but it is {self.dropout}")


class Network(NamedTuple):
    """A reader of symbols, a cell over trees or sequences, and a head that reads every node's state."""

    name: str
    reader: jaxrnn.Stack
    cell: Any
    head: jaxrnn.Stack

    @staticmethod
    def of(config: Config, name: str, num_classes: int) -> Network:
        size, dropout = config.hidden_size, jaxrnn.Dropout(config.dropout)
        cell = TREE_CELLS[name](size) if name in TREE_CELLS else common.make_cell(name, size)
        reader, head = jaxrnn.Stack(jaxrnn.Embedding(size), dropout), jaxrnn.Stack(dropout, jaxrnn.Dense(num_classes))
        return Network(name, reader, cell, head)

    def init(self, key: Array, examples: Examples, num_symbols: int) -> tuple[Any, Any, Any]:
        k_reader, k_cell, k_head = jax.random.split(key, 3)
        reader, cell = self.reader.init(k_reader, num_symbols), self.cell.init(k_cell, self.cell.hidden_size)
        size = jax.eval_shape(self.outputs, (reader, cell), examples).shape[-1]
        return reader, cell, self.head.init(k_head, size)

    def outputs(self, params: Any, examples: Examples, key: Array | None = None) -> Array:
        """Of all nodes [slots, trees, hidden]."""
        if isinstance(self.cell, trees.TreeCell):
            _, xs = jaxrnn.unroll(self.reader, params[0], examples.trees.xs, key=key)
            return trees.unroll(self.cell, params[1], examples.trees, xs).h
        _, xs = jaxrnn.unroll(self.reader, params[0], examples.symbols, key=key)
        _, ys = jaxrnn.unroll(self.cell, params[1], xs, lengths=examples.lengths)
        return ys[examples.trees.labels[..., 2], jnp.arange(ys.shape[1])]

    def logits(self, params: Any, examples: Examples, key: Array | None = None) -> Array:
        """Of all nodes [slots, trees, classes]."""
        k_reader, k_head = (None, None) if key is None else jax.random.split(key)
        return jaxrnn.unroll(self.head, params[2], self.outputs(params, examples, k_reader), key=k_head)[1]

    def loss(self, params: Any, examples: Examples, key: Array | None = None) -> Array:
        """The mean cross-entropy of all nodes."""
        logits, labels = self.logits(params, examples, key), examples.trees.labels[..., 0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(where=examples.trees.valid)


class Train(NamedTuple):
    """All that training changes."""

    step: Array
    params: dict[str, Any]  # of each network
    adam: dict[str, Any]


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99))


def begin(config: Config, nets: tuple[Network, ...], examples: Examples, num_symbols: int) -> Train:
    keys = jax.random.split(jax.random.key(config.seed), len(nets))
    params = {net.name: net.init(key, examples, num_symbols) for net, key in zip(nets, keys, strict=True)}
    return Train(jnp.int32(0), params, {name: optimizer.init(p) for name, p in params.items()})


@partial(jax.jit, static_argnames=("config", "nets"))
def update(
    config: Config, nets: tuple[Network, ...], data: Examples, train: Train, updates: Array, schedule: Any
) -> tuple[Train, Array]:
    """Makes some updates and returns their mean loss. Each draws one batch, for all networks."""

    def one(_: int, carry: tuple[Train, Array]) -> tuple[Train, Array]:
        (step, params, adam), total = carry
        k_batch, *k_nets = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), step), 1 + len(nets))
        batch = data.take(jax.random.randint(k_batch, (config.batch,), 0, len(data.lengths)))
        progress = schedule[0] + schedule[1] * step
        rate = config.learning_rate * jnp.minimum(1, (step + 1) / 100) * (0.5 + 0.5 * jnp.cos(jnp.pi * progress))
        for net, key in zip(nets, k_nets, strict=True):
            loss, gradient = jax.value_and_grad(net.loss)(params[net.name], batch, key)
            direction, state = optimizer.update(gradient, adam[net.name])
            after = optax.apply_updates(params[net.name], optax.tree.scale(-rate, direction))
            params, adam, total = {**params, net.name: after}, {**adam, net.name: state}, total + loss / len(nets)
        return Train(step + 1, params, adam), total

    train, total = jax.lax.fori_loop(0, updates, one, (train, jnp.float32(0)))
    return train, total / updates


@partial(jax.jit, static_argnames="net")
def losses_and_hits(net: Network, params: Any, examples: Examples) -> tuple[Array, Array]:
    """Of all nodes [slots, trees], and whether they are given their own class."""
    logits, labels = net.logits(params, examples), examples.trees.labels[..., 0]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels), logits.argmax(-1) == labels


def evaluate(net: Network, params: Any, examples: Examples) -> tuple[float, np.ndarray]:
    """The mean loss of the nodes that count, and whether each [slots, trees] is given its own class."""
    parts, number, at_once = [], len(examples.lengths), 300
    for start in range(0, number, at_once):  # parts of one size, or each would be compiled anew
        which = np.minimum(np.arange(start, start + at_once), number - 1)
        parts.append(jax.device_get(losses_and_hits(net, params[net.name], examples.take(which))))
    losses, hits = (np.concatenate(part, axis=1)[:, :number] for part in zip(*parts, strict=True))
    return float(losses.mean(where=examples.counted)), hits


def train_model(config: Config) -> None:
    made = (config.task, config.seen, config.deepest, config.expressions, config.seed)
    (data, valid, test), num_symbols, num_classes = treebank(config.data) if config.data else generated(*made)
    nets = tuple(Network.of(config, name, num_classes) for name in dict.fromkeys(config.networks))
    train = begin(config, nets, valid, num_symbols)
    run = common.Run(config, {"data": digest((data, valid, test))})
    counts = np.bincount(data.trees.labels[..., 0][data.counted])
    most, group, entropy = int(counts.argmax()), 5 if config.data else 1, float(scipy.stats.entropy(counts))
    sizes = " + ".join(str(len(part.lengths)) for part in (data, valid, test))
    print(f"data    {config.data or config.task}: {sizes} trees to train, validate and test, {num_symbols:,} symbols")
    for net in nets:
        print(f"model   {net.cell}, {sum(leaf.size for leaf in jax.tree.leaves(train.params[net.name])):,} parameters")
    print(f"run     {run.path}", flush=True)

    updates = partial(update, config, nets, jax.device_put(data))
    for stage in common.training(config, run, train, updates, items=(config.batch, "trees")):
        scores = {net.name: evaluate(net, stage.train.params, valid) for net in nets}
        losses = {f"{name}_loss": loss for name, (loss, _) in scores.items()}
        right = {name: float(hits.mean(where=valid.counted)) for name, (_, hits) in scores.items()}
        stage.record(np.mean([*losses.values()]).item(), **losses, **{f"{n}_accuracy": a for n, a in right.items()})
        run.plot({"entropy of the classes": entropy}, "nats per node", f"{config.data or config.task}, validation")
        stage.say("validation, nodes right: " + ", ".join(f"{name} {share:.3f}" for name, share in right.items()))

    best, _ = run.checkpoints.best(jax.eval_shape(lambda: (begin(config, nets, valid, num_symbols), 0.0)))
    hits = {net.name: evaluate(net, best.params, test)[1] for net in nets}
    hits[f"always {most}"] = test.trees.labels[..., 0] == most
    shares = {name: by_depth(test, hit, group) for name, hit in hits.items()}
    draw(run.path / "depths.png", shares, None if config.data else config.seen)
    print(f"right in the test set after update {best.step}, of roots and of all nodes:")
    rows = {}
    for depth in shares[f"always {most}"]:
        more = f" to {depth + group - 1}" if config.data else ", never seen" * (depth > config.seen)
        rows[f"depth {depth}{more}"] = in_words({name: share[depth] for name, share in shares.items()})
    rows["all"] = in_words({name: by_depth(test, hit, 10**6)[0] for name, hit in hits.items()})
    common.print_table(**rows, pictures=f"depths.png and curves.png in {run.path}")


def main() -> None:
    common.run(train_model, Config)


if __name__ == "__main__":
    main()
