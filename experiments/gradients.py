"""Why gates: how far back the gradient of each cell reaches, before and after it has learnt to remember.

The task: a sequence of noise symbols, at one random place in it a symbol to be kept; at the end the network says which
it was. The lag from that place to the end is uniform. The gradient that is drawn is that of the last output h_T, in a
random direction v, with regard to the state k steps before: |v' dh_T/ds_{T-k}|, in the mean over sequences, directions
and seeds. Beside it stands what was learnt: how often the answer is right at each lag.

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
from jax import Array

import jaxrnn

CLASSES, NOISE = 4, 4  # symbols to keep, and symbols between which they stand
LAG_BINS = 20  # in which right answers are counted
NORM = r"$|v^\top \partial h_T / \partial s_{T-k}|$"


@dataclass(frozen=True)
class Config(common.Config):
    cells: tuple[str, ...] = ("Elman", "LSTM", "GRU")  # Cells of jaxrnn, by name
    hidden_size: int = 32  # Size of each state
    length: int = 120  # Of the sequences; the longest lag is one less
    batch: int = 32  # Sequences an update
    seeds: int = 3  # Networks of each cell
    learning_rate: float = 3e-3  # Its highest value

    def check(self) -> None:
        super().check()
        common.at_least(1, hidden_size=self.hidden_size, batch=self.batch, seeds=self.seeds, cells=len(self.cells))
        common.at_least(LAG_BINS, length=self.length)
        common.above(0, learning_rate=self.learning_rate)


class Learner(NamedTuple):  # the networks of one cell: each array has an axis of the seeds in front
    params: Any
    adam: Any


class Train(NamedTuple):  # all that training changes
    step: Array
    learners: tuple[Learner, ...]  # one a cell


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


def make_cells(config: Config) -> list[jaxrnn.Cell]:
    return [common.make_cell(name, config.hidden_size) for name in config.cells]


def answer(cell: jaxrnn.Cell, params: Any, xs: Array) -> Array:
    """The logits [batch, classes] at the end."""
    return jaxrnn.unroll(jaxrnn.Stack(cell, jaxrnn.Dense(CLASSES)), params, xs)[1][-1]


def begin(config: Config) -> Train:
    def one(cell: jaxrnn.Cell, seed: Array) -> Learner:
        params = jaxrnn.Stack(cell, jaxrnn.Dense(CLASSES)).init(jax.random.key(seed), CLASSES + NOISE)
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


@partial(jax.jit, static_argnames=("config", "number"))
def measure(config: Config, train: Train, key: Array, number: int) -> tuple[Array, Array, Array]:
    """On new sequences: the gradient's norms [cells, lags], how many seeds are right [cells, number], the lags."""
    k_draw, k_v = jax.random.split(key)
    xs, classes, lags = draw(k_draw, number, config.length)

    def one(cell: jaxrnn.Cell, params: Any) -> tuple[Array, Array]:
        return gradient_norms(cell, params[0], xs[:, :100], k_v), answer(cell, params, xs).argmax(-1) == classes

    networks = zip(make_cells(config), train.learners, strict=True)
    of_seeds = [jax.vmap(partial(one, cell))(learner.params) for cell, learner in networks]
    norms, right = (jnp.stack([measured.mean(0) for measured in each]) for each in zip(*of_seeds, strict=True))
    return norms, right, lags


def plot(path: Path, config: Config, before: np.ndarray, after: np.ndarray, shares: np.ndarray) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for n, name in enumerate(config.cells):
        axes[0].semilogy(before[n], color=f"C{n}", label=name)
        axes[1].semilogy(after[n], color=f"C{n}")
        axes[2].plot((np.arange(LAG_BINS) + 0.5) * config.length / LAG_BINS, shares[n], color=f"C{n}", marker=".")
    axes[2].axhline(1 / CLASSES, color="#777777", linestyle="--", label="chance")
    for ax in axes:
        ax.grid(alpha=0.25)
    lowest = max(1e-12, min(before.min(), after.min()) / 3)
    axes[0].set(title="Gradient at initialisation", xlabel="lag k", ylim=(lowest, 10), ylabel=NORM)
    axes[1].set(title="Gradient after training", xlabel="lag k", ylim=(lowest, 10), ylabel=NORM)
    axes[2].set(title="Answers after training", xlabel="lag", ylim=(0, 1.05), ylabel="share that is right")
    figure.legend(frameon=False, loc="outside lower center", ncols=len(config.cells) + 1)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def main(config: Config) -> None:
    train, lag = begin(config), config.length // 2
    k_valid, k_test = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 2**31 - 1))  # no update's
    before, run = np.asarray(measure(config, train, k_test, 1000)[0]), common.Run(config, facts={})
    print(f"run     {config.seeds} seeds of {', '.join(config.cells)}; {run.path}", flush=True)
    for stage in common.training(config, run, train, partial(update, config)):
        shares = dict(zip(config.cells, measure(config, stage.train, k_valid, 200)[1].mean(1).tolist(), strict=True))
        stage.record(1 - float(np.mean(list(shares.values()))), **{f"right_{cell}": v for cell, v in shares.items()})
        stage.say(", ".join(f"{cell} {share:.0%} right" for cell, share in shares.items()))

    # There is no checkpoint to choose: every sequence is new, and the learning rate has come down to zero.
    train, _ = run.checkpoints.latest(jax.eval_shape(lambda: (begin(config), 0.0)))
    after, hits, lags = map(np.asarray, measure(config, train, k_test, 1000))
    bins = lags * LAG_BINS // config.length
    shares = np.array([np.bincount(bins, hit, LAG_BINS) / np.bincount(bins, minlength=LAG_BINS) for hit in hits])
    plot(run.path / "gradients.png", config, before, after, shares)
    common.print_table(
        **{
            cell: f"{hits[n].mean():.1%} right, {hits[n, lags >= lag].mean():.1%} from lag {lag} on; gradient there "
            f"{before[n, lag]:.1e} before training, {after[n, lag]:.1e} after it"
            for n, cell in enumerate(config.cells)
        },
        beside=f"chance {1 / CLASSES:.1%} right",
        time=f"{common.span(run.rows[-1]['seconds'])}, {run.rows[-1]['step']:,.0f} updates",
        plot=str(run.path / "gradients.png"),
    )


if __name__ == "__main__":
    common.run(main, Config)
