"""A sequence to a label, read off the last state: handwritten digits row by row, or names to languages.

Elman, LSTM, GRU and a bidirectional LSTM learn beside one another from the same batches; together they vote.

Digits (no --data): scikit-learn's 1,797 images of 8 x 8 pixels (E. Alpaydin, C. Kaynak, "Optical recognition of
handwritten digits", 1998), their rows as 8 steps; training and testing on the halves of scikit-learn's example,
"Recognizing hand-written digits". The networks learn from images a little turned and moved, their baselines do not.

Names (--data FOLDER): <language>.txt for each language, a name a line, such as those of S. Robertson, "Classifying
names with a character-level RNN" (PyTorch tutorials). What a file has several times counts once, so that training has
seen no test name of a language. Characters are those of Unicode's normal form C, capitals and accents kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import common  # first: its clock starts the run's
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import BadInputError
from jax import Array
from labelled import Data, digits, draw_errors, names, sequence_baselines, warp

import jaxrnn
from jaxrnn.bidirectional import BidirectionalState


@dataclass(frozen=True)
class Config(common.Config):
    data: Path | None = None  # A folder of <language>.txt, a name a line; None: scikit-learn's digits
    cell: str | None = None  # A cell of jaxrnn, by name; None: four networks beside one another
    bidirectional: bool = False  # Whether that cell reads in both directions
    hidden_size: int = 128  # Size of each layer's state, in each direction
    layers: int = 1  # Recurrent layers
    dropout: float = 0.5  # Share dropped of embedded symbols, between layers and of the last state
    batch: int = 64  # Sequences an update
    learning_rate: float = 5e-3  # Its highest value
    minutes: float = 3.0  # How long the run takes, from start to end

    def check(self) -> None:
        super().check()
        common.at_least(1, hidden_size=self.hidden_size, layers=self.layers, batch=self.batch)
        common.above(0, learning_rate=self.learning_rate)
        if not 0 <= self.dropout < 1:
            raise BadInputError(f"--dropout must be from 0 to below 1, but it is {self.dropout}")
        if self.bidirectional and self.cell is None:
            raise BadInputError("--bidirectional is about one --cell: name it")


class Network(NamedTuple):
    """A recurrent body, and a head that reads its last state."""

    name: str
    body: jaxrnn.Stack
    head: jaxrnn.Stack

    def init(self, key: Array, num_features: int) -> tuple[Any, Any]:
        k_body, k_head = jax.random.split(key)
        params = self.body.init(k_body, num_features)
        h = jax.eval_shape(lambda: last_h(self.body.initial_state(params)))
        return params, self.head.init(k_head, h.shape[-1])

    def logits(self, params: Any, xs: Array, lengths: Array, key: Array | None = None) -> Array:
        k_body, k_head = (None, None) if key is None else jax.random.split(key)
        state, _ = jaxrnn.unroll(self.body, params[0], xs, lengths=lengths, key=k_body)
        h = last_h(state)  # each sequence's own last one: padding leaves the state alone
        nothing = self.head.initial_state(params[1], h.shape[:-1])
        return jaxrnn.step(self.head, params[1], nothing, h, key=k_head)[1]


def last_h(state: Any) -> Array:
    """What the last layer's state holds; of both directions: at the last step and, reading back, at the first."""
    last = state[-1]
    return jnp.concatenate([s.h for s in (last if isinstance(last, BidirectionalState) else [last])], axis=-1)


def make_networks(config: Config, data: Data) -> tuple[Network, ...]:
    def one(cell: str, bidirectional: bool) -> Network:
        layer: jaxrnn.Layer = common.make_cell(cell, config.hidden_size)
        layer, name = (jaxrnn.Bidirectional(layer), f"bidirectional {cell}") if bidirectional else (layer, cell)
        dropout = jaxrnn.Dropout(config.dropout)
        reader = [jaxrnn.Embedding(config.hidden_size), dropout] if data.alphabet else []
        body = jaxrnn.Stack(*reader, *[layer, dropout] * (config.layers - 1), layer)
        return Network(name, body, jaxrnn.Stack(dropout, jaxrnn.Dense(len(data.classes))))

    if config.cell is not None:
        return (one(config.cell, config.bidirectional),)
    return one("Elman", False), one("LSTM", False), one("GRU", False), one("LSTM", True)


class Train(NamedTuple):
    """All that training changes."""

    step: Array
    params: dict[str, Any]  # of each network
    adam: dict[str, Any]


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99))


@partial(jax.jit, static_argnums=(0, 1, 2))
def begin(config: Config, networks: tuple[Network, ...], num_features: int) -> Train:
    keys = jax.random.split(jax.random.key(config.seed), len(networks))
    params = {network.name: network.init(key, num_features) for network, key in zip(networks, keys, strict=True)}
    return Train(jnp.int32(0), params, {name: optimizer.init(p) for name, p in params.items()})


@partial(jax.jit, static_argnames=("config", "networks"))
def update(
    config: Config, networks: tuple[Network, ...], data: tuple[Array, ...], train: Train, updates: Array, schedule: Any
) -> tuple[Train, Array]:
    """Makes some updates and returns their mean loss. Each draws one batch for all networks."""
    all_xs, all_lengths, all_labels = data

    def loss_of(params: Any, network: Network, batch: tuple[Array, Array, Array], key: Array) -> Array:
        xs, lengths, labels = batch
        logits = network.logits(params, xs, lengths, key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def one(_: int, carry: tuple[Train, Array]) -> tuple[Train, Array]:
        (step, params, adam), total = carry
        k_batch, k_warp, k_dropout = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), step), 3)
        drawn = jax.random.randint(k_batch, (config.batch,), 0, len(all_labels))
        xs = all_xs[:, drawn] if all_xs.ndim == 2 else warp(k_warp, all_xs[:, drawn])
        progress = schedule[0] + schedule[1] * step
        rate = config.learning_rate * jnp.minimum(1, (step + 1) / 100) * (0.5 + 0.5 * jnp.cos(jnp.pi * progress))
        for network, key in zip(networks, jax.random.split(k_dropout, len(networks)), strict=True):
            name, batch = network.name, (xs, all_lengths[drawn], all_labels[drawn])
            loss, gradient = jax.value_and_grad(loss_of)(params[name], network, batch, key)
            direction, state = optimizer.update(gradient, adam[name])
            after = optax.apply_updates(params[name], optax.tree.scale(-rate, direction))
            params, adam, total = params | {name: after}, adam | {name: state}, total + loss / len(networks)
        return Train(step + 1, params, adam), total

    train, total = jax.lax.fori_loop(0, updates, one, (train, jnp.float32(0)))
    return train, total / updates + 0 * optax.tree.norm(train.params)  # not finite if the parameters are not


@partial(jax.jit, static_argnames="networks")
def log_probabilities(networks: tuple[Network, ...], params: Any, xs: Array, lengths: Array) -> Array:
    """Of classes [networks, sequences, classes]; those of the mean of all come last where there are several."""
    each = jnp.stack([jax.nn.log_softmax(n.logits(params[n.name], xs, lengths)) for n in networks])
    together = jax.nn.logsumexp(each, axis=0) - jnp.log(len(networks))
    return jnp.concatenate([each, together[None]]) if len(networks) > 1 else each


def train_model(config: Config) -> None:
    data = digits() if config.data is None else names(config.data)
    networks = make_networks(config, data)
    judged = [network.name for network in networks] + ["all together"] * (len(networks) > 1)
    train = begin(config, networks, data.num_features)
    run = common.Run(config, facts={"data": data.digest})
    baselines = sequence_baselines(data)
    print(f"data    {data}")
    for network in networks:
        size = sum(leaf.size for leaf in jax.tree.leaves(train.params[network.name]))
        print(f"model   {network.body}, {size:,} parameters")
    print(f"run     {run.path}", flush=True)

    def measure(params: Any, part: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        found = np.asarray(log_probabilities(networks, params, data.xs[:, part], data.lengths[part]))
        right = (found.argmax(-1) == data.labels[part]).mean(-1)
        return found, {f"{name}_right": float(share) for name, share in zip(judged, right, strict=True)}

    seen = jax.device_put((data.xs[:, data.train], data.lengths[data.train], data.labels[data.train]))
    for stage in common.training(
        config, run, train, partial(update, config, networks, seen), (config.batch, data.name)
    ):
        found, right = measure(stage.train.params, data.valid)
        valid_loss = -float(found[-1, np.arange(len(data.valid)), data.labels[data.valid]].mean())
        stage.record(valid_loss, valid_loss=valid_loss, **right)  # all together: one checkpoint for all
        told = ", ".join(f"{name} {share:.3f}" for name, share in zip(judged, right.values(), strict=True))
        stage.say(f"validation {valid_loss:.3f}, right {told}")

    best, _ = run.checkpoints.best(jax.eval_shape(lambda: (begin(config, networks, data.num_features), 0.0)))
    found, right = measure(best.params, data.test)
    draw_errors(run.path / "curves.png", run.rows, data, baselines, found[-1].argmax(-1))
    print(f"Right of the test set, with the parameters best in validation, those of update {best.step:,}:")
    scores = dict(zip(judged, right.values(), strict=True)) | baselines
    common.print_table(**{name: f"{share:.3f}" for name, share in scores.items()})
    print(f"{common.span(run.rows[-1]['seconds'])}, {run.rows[-1]['step']:,.0f} updates; {run.path / 'curves.png'}")


def main() -> None:
    common.run(train_model, Config)


if __name__ == "__main__":
    main()
