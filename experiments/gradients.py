"""Why gates: how far back the gradient of each cell reaches, before and after it has learnt to remember.

The task: a sequence of noise symbols, at one random place in it a symbol to be kept; at the end the network says which
it was. The lag from that place to the end is uniform. The gradient that is drawn is that of the last output h_T, in a
random direction v, with regard to the state k steps before: |v' dh_T/ds_{T-k}|, in the mean over sequences, directions
and seeds. A network learns across a lag only as far as this has not vanished.

J. Hochreiter, "Untersuchungen zu dynamischen neuronalen Netzen", 1991; Y. Bengio, P. Simard, P. Frasconi, "Learning
long-term dependencies with gradient descent is difficult", 1994; R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty
of training recurrent neural networks", 2013.
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

import jaxrnn

CLASSES, NOISE = 4, 4  # symbols to keep, and symbols between which they stand
LAG_BINS = 20  # in which right answers are counted
COLOURS = ("#c1440e", "#1f5fa8", "#3a923a", "#8d5fb0", "#9aa5b1", "#b58900", "#2aa198")


@dataclass(frozen=True)
class Config(common.Config):
    cells: tuple[str, ...] = ("Elman", "LSTM", "GRU")  # Cells of jaxrnn, by name
    hidden_size: int = 32  # Size of each state
    length: int = 80  # Of the sequences; the longest lag is one less
    batch: int = 32  # Sequences an update
    seeds: int = 3  # Networks of each cell, trained at once
    learning_rate: float = 3e-3  # Its highest value

    def check(self) -> None:
        super().check()
        common.at_least(1, hidden_size=self.hidden_size, batch=self.batch, seeds=self.seeds, cells=len(self.cells))
        common.at_least(LAG_BINS, length=self.length)
        common.above(0, learning_rate=self.learning_rate)
        if len(self.cells) > len(COLOURS) or len(set(self.cells)) < len(self.cells):
            raise BadInputError(f"--cells must be at most {len(COLOURS)} different ones, but they are {self.cells}")


class Learner(NamedTuple):
    """The networks of one cell. Each array has an axis of the seeds in front."""

    params: Any
    adam: Any


class Train(NamedTuple):
    """All that training changes."""

    step: Array
    learners: tuple[Learner, ...]  # one a cell


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


def make_cells(config: Config) -> list[jaxrnn.Cell]:
    return [common.make_cell(name, config.hidden_size) for name in config.cells]


def network(cell: jaxrnn.Cell) -> jaxrnn.Stack:
    return jaxrnn.Stack(cell, jaxrnn.Dense(CLASSES))


def answer(cell: jaxrnn.Cell, params: Any, xs: Array) -> Array:
    """The logits [batch, classes] at the end."""
    return jaxrnn.unroll(network(cell), params, xs)[1][-1]


def begin(config: Config) -> Train:
    def one(cell: jaxrnn.Cell, seed: Array) -> Learner:
        params = network(cell).init(jax.random.key(seed), CLASSES + NOISE)
        return Learner(params, optimizer.init(params))

    seeds = config.seed + jnp.arange(config.seeds)
    return Train(jnp.int32(0), tuple(jax.vmap(partial(one, cell))(seeds) for cell in make_cells(config)))


def draw(key: Array, batch: int, length: int) -> tuple[Array, Array, Array]:
    """Sequences [length, batch] of symbols, which class stands in each, and how many steps before the end."""
    k_noise, k_class, k_lag = jax.random.split(key, 3)
    noise = jax.random.randint(k_noise, (length, batch), CLASSES, CLASSES + NOISE)
    classes = jax.random.randint(k_class, (batch,), 0, CLASSES)
    lags = jax.random.randint(k_lag, (batch,), 0, length)
    here = jnp.arange(length)[:, None] == length - 1 - lags
    return jnp.where(here, classes, noise), classes, lags


@partial(jax.jit, static_argnames="config", donate_argnames="train")
def update(config: Config, train: Train, updates: Array, schedule: Any) -> tuple[Train, Array]:
    """Makes some updates of all networks and returns their mean loss."""

    def learn(cell: jaxrnn.Cell, xs: Array, classes: Array, rate: Array, learner: Learner) -> tuple[Learner, Array]:
        def loss(params: Any) -> Array:
            return optax.softmax_cross_entropy_with_integer_labels(answer(cell, params, xs), classes).mean()

        value, gradient = jax.value_and_grad(loss)(learner.params)
        direction, adam = optimizer.update(gradient, learner.adam)
        return Learner(optax.apply_updates(learner.params, optax.tree.scale(-rate, direction)), adam), value

    def one(_: int, carry: tuple[Train, Array]) -> tuple[Train, Array]:
        train, total = carry
        key = jax.random.fold_in(jax.random.key(config.seed), train.step)
        xs, classes, _lags = draw(key, config.batch, config.length)
        progress = schedule[0] + schedule[1] * train.step
        rate = config.learning_rate * (0.5 + 0.5 * jnp.cos(jnp.pi * progress))
        networks = zip(make_cells(config), train.learners, strict=True)
        learnt = [jax.vmap(partial(learn, cell, xs, classes, rate))(learner) for cell, learner in networks]
        learners, losses = zip(*learnt, strict=True)
        return Train(train.step + 1, learners), total + jnp.stack(losses).mean()

    train, total = jax.lax.fori_loop(0, updates, one, (train, 0.0))
    return train, total / updates


def gradient_norms(cell: jaxrnn.Cell, params: Any, xs: Array, key: Array) -> Array:
    """|v' dh_T/ds_{T-k}| of each lag k [length], the mean over the sequences; v is of length 1."""
    state = cell.initial_state(params, xs.shape[1:])
    # What is added to the state after each step is zero; the gradient with regard to it is that of the state.
    nothing = jax.tree.map(lambda leaf: jnp.zeros((len(xs), *leaf.shape)), state)

    def one(state: Any, now: tuple[Array, Any]) -> tuple[Any, Array]:
        z = cell.project(params, now[0])
        state = jax.tree.map(jnp.add, cell.step(params, state, z), now[1])
        return state, cell.readout(params, state, z)

    last, pull_back = jax.vjp(lambda added: jax.lax.scan(one, state, (xs, added))[1][-1], nothing)
    v = jax.random.normal(key, last.shape)
    (gradients,) = pull_back(v / jnp.linalg.norm(v, axis=-1, keepdims=True))
    squares = sum(jnp.sum(leaf**2, axis=-1) for leaf in jax.tree.leaves(gradients))
    return jnp.sqrt(squares).mean(1)[::-1]


@partial(jax.jit, static_argnames="config")
def norms_of(config: Config, train: Train, key: Array) -> Array:
    """The gradient's norms [cells, lags], the mean over the seeds."""
    k_draw, k_v = jax.random.split(key)
    xs, _classes, _lags = draw(k_draw, 200, config.length)
    networks = zip(make_cells(config), train.learners, strict=True)
    of_seeds = (jax.vmap(lambda p, c=cell: gradient_norms(c, p[0], xs, k_v))(net.params) for cell, net in networks)
    return jnp.stack([norms.mean(0) for norms in of_seeds])


@partial(jax.jit, static_argnames=("config", "number"))
def right(config: Config, train: Train, key: Array, number: int) -> tuple[Array, Array]:
    """How many of the seeds know each of so many sequences [cells, number], and the lags [number]."""
    xs, classes, lags = draw(key, number, config.length)
    networks = zip(make_cells(config), train.learners, strict=True)
    answers = (jax.vmap(lambda p, c=cell: answer(c, p, xs))(net.params).argmax(-1) for cell, net in networks)
    return jnp.stack([(guess == classes).mean(0) for guess in answers]), lags


def plot(path: Path, config: Config, before: np.ndarray, after: np.ndarray, shares: np.ndarray) -> None:
    """The gradients' norms before and after training, and the right answers, against the lag."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    titles = ("The gradient at initialisation", "The gradient after training", "Right answers after training")
    lags = (np.arange(LAG_BINS) + 0.5) * config.length / LAG_BINS
    for n, (name, colour) in enumerate(zip(config.cells, COLOURS, strict=False)):
        axes[0].semilogy(before[n], color=colour, linewidth=1.8, label=name)
        axes[1].semilogy(after[n], color=colour, linewidth=1.8)
        axes[2].plot(lags, shares[n], color=colour, marker=".", linewidth=1.8)
    axes[2].axhline(1 / CLASSES, color="#777777", linestyle="--", linewidth=1.3, label="chance")
    for ax, title in zip(axes, titles, strict=True):
        ax.set(xlabel="lag, in steps", title=title)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    norms = np.concatenate([before, after])
    limits = (max(1e-12, norms[norms > 0].min() / 3), 3 * norms.max())
    for ax in axes[:2]:
        ax.set(ylim=limits, ylabel=r"$|v^\top \partial h_T / \partial s_{T-k}|$")
    axes[2].set(ylim=(0, 1.05), ylabel="share")
    figure.legend(frameon=False, loc="outside lower center", ncols=len(config.cells) + 1)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def main(config: Config) -> None:
    train = begin(config)
    k_valid, k_test, k_norms = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 2**31 - 1), 3)
    before = np.asarray(norms_of(config, train, k_norms))
    run = common.Run(config, facts={})
    print(f"task    which of {CLASSES} symbols stood among {config.length - 1} of noise")
    print(f"models  {', '.join(config.cells)} of {config.hidden_size} units, {config.seeds} seeds of each")
    print(f"run     {run.path}", flush=True)
    for stage in common.training(config, run, train, partial(update, config)):
        shares = dict(zip(config.cells, right(config, stage.train, k_valid, 500)[0].mean(1).tolist(), strict=True))
        stage.record(1 - float(np.mean(list(shares.values()))), **{f"right_{cell}": v for cell, v in shares.items()})
        stage.say(", ".join(f"{cell} {share:.0%} right" for cell, share in shares.items()))

    # There is no checkpoint to choose: every sequence is new, and the learning rate has come down to zero.
    train, _ = run.checkpoints.latest(jax.eval_shape(lambda: (begin(config), 0.0)))
    after = np.asarray(norms_of(config, train, k_norms))
    hits, lags = map(np.asarray, right(config, train, k_test, 5000))
    bins = lags * LAG_BINS // config.length
    shares = np.array([np.bincount(bins, hit, LAG_BINS) / np.bincount(bins, minlength=LAG_BINS) for hit in hits])
    plot(run.path / "gradients.png", config, before, after, shares)
    shown = [config.length // 8, config.length // 2, config.length - 1]
    rows = {}
    for n, cell in enumerate(config.cells):
        norms = (", ".join(f"{norms[n, k]:.0e}" for k in shown) for norms in (before, after))
        answers = f"right {hits[n].mean():.1%}, from lag {shown[1]} on {hits[n, lags >= shown[1]].mean():.1%}"
        rows[cell] = f"{answers}; gradient {' before and '.join(norms)} after training"
    common.print_table(
        **rows,
        beside=f"chance {1 / CLASSES:.0%} right; the gradients are those at lags {', '.join(map(str, shown))}",
        time=f"{common.span(run.rows[-1]['seconds'])}, {run.rows[-1]['step']:,.0f} updates",
        plot=str(run.path / "gradients.png"),
    )


if __name__ == "__main__":
    common.run(main, Config)
