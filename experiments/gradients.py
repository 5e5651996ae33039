"""Why gates help: how far back the gradient of each cell reaches, before and after it has learned to remember.

The task: a sequence of noise symbols contains one symbol to remember, at a random place; at the end the network says
which one it was. The lag from that place to the end is uniform. The plot shows the gradient of the last output h_T, in
a random direction v, with respect to the state k steps before: |v' dh_T/ds_{T-k}|, averaged over sequences, directions
and seeds; and beside it the accuracy at each lag.

J. Hochreiter, "Untersuchungen zu dynamischen neuronalen Netzen", 1991; Y. Bengio, P. Simard, P. Frasconi, "Learning
long-term dependencies with gradient descent is difficult", 1994; R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty
of training recurrent neural networks", 2013.
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
from jax import Array
from support.cells import make_cell
from support.clock import duration, process_start
from support.command_line import launch
from support.ensemble import Ensemble
from support.options import RunFolder, RunOptions, above, at_least
from support.plots import GRAY, figure
from support.progress import print_table
from support.run import Run
from support.schedule import cosine
from support.training import Steps, many_steps, step_keys, training

import jaxrnn

CLASSES = 4  # symbols to remember
NOISE = 4  # other symbols
LAG_BINS = 20  # in which accuracies are counted
NORM = r"$|v^\top \partial h_T / \partial s_{T-k}|$"


@dataclass(frozen=True)
class Options(RunOptions):
    cell: tuple[str, ...] = ("Elman", "LSTM", "GRU")  # Names of cells in jaxrnn
    hidden_size: int = 32  # Hidden size of each cell
    length: int = 120  # Length of the sequences; the longest lag is one less
    batch: int = 32  # Number of sequences in a batch
    seeds: int = 3  # Number of networks of each cell, which train side by side
    learning_rate: float = 3e-3  # Peak learning rate

    def check(self) -> None:
        super().check()
        at_least(1, hidden_size=self.hidden_size, batch=self.batch, seeds=self.seeds, cell=len(self.cell))
        at_least(LAG_BINS, length=self.length)
        above(0, learning_rate=self.learning_rate)


class Learner(NamedTuple):
    """The network of one cell. With several seeds, arrays have an axis of them in front."""

    params: Any
    adam: Any


class Train(NamedTuple):
    """Everything that training changes."""

    step: Array
    learners: tuple[Learner, ...]  # one per cell


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


def make_cells(options: Options) -> list[jaxrnn.Cell]:
    return [make_cell(name, options.hidden_size) for name in options.cell]


def make_model(cell: jaxrnn.Cell) -> jaxrnn.Stack:
    return jaxrnn.Stack(cell, jaxrnn.Dense(CLASSES))


def answer(cell: jaxrnn.Cell, params: Any, xs: Array) -> Array:
    """Returns the logits [batch, classes] at the end."""
    _, ys = jaxrnn.unroll(make_model(cell), params, xs)
    return ys[-1]


def begin(options: Options) -> Train:
    def learner(cell: jaxrnn.Cell, seed: Array) -> Learner:
        params = make_model(cell).init(jax.random.key(seed), CLASSES + NOISE)
        return Learner(params, optimizer.init(params))

    seeds = options.seed + jnp.arange(options.seeds)
    ensemble = Ensemble(options.seeds)
    return Train(jnp.int32(0), tuple(ensemble.begin(partial(learner, cell), seeds) for cell in make_cells(options)))


def draw(key: Array, batch: int, length: int) -> tuple[Array, Array, Array]:
    """Draws sequences [length, batch]. Returns them, the symbol to keep in each, and its distance from the end."""
    k_noise, k_class, k_lag = jax.random.split(key, 3)
    noise = jax.random.randint(k_noise, (length, batch), CLASSES, CLASSES + NOISE)
    classes = jax.random.randint(k_class, (batch,), 0, CLASSES)
    lags = jax.random.randint(k_lag, (batch,), 0, length)
    here = jnp.arange(length)[:, None] == length - 1 - lags
    return jnp.where(here, classes, noise), classes, lags


def update(options: Options, train: Train, data: None, key: Array, progress: Array) -> tuple[Train, Array]:
    """Runs one training step of all networks, on the same new sequences. Returns their mean loss."""
    xs, classes, _ = draw(key, options.batch, options.length)
    learning_rate = options.learning_rate * cosine(progress)

    def learn(cell: jaxrnn.Cell, learner: Learner) -> tuple[Learner, Array]:
        def loss_fn(params: Any) -> Array:
            return optax.softmax_cross_entropy_with_integer_labels(answer(cell, params, xs), classes).mean()

        loss, gradient = jax.value_and_grad(loss_fn)(learner.params)
        direction, adam = optimizer.update(gradient, learner.adam)
        params = optax.apply_updates(learner.params, optax.tree.scale(-learning_rate, direction))
        return Learner(params, adam), loss

    ensemble = Ensemble(options.seeds)
    networks = zip(make_cells(options), train.learners, strict=True)
    learners, losses = zip(*(ensemble.map(partial(learn, cell))(learner) for cell, learner in networks), strict=True)
    return Train(train.step + 1, learners), jnp.stack(losses).mean()


def make_steps(options: Options) -> Steps:
    """Returns a compiled function that makes many training steps; see `many_steps`."""
    return many_steps(
        partial(update, options),
        step_keys(options.seed),
        params_of=lambda train: [learner.params for learner in train.learners],
    )


def gradient_norms(cell: jaxrnn.Cell, params: Any, xs: Array, key: Array) -> Array:
    """Returns |v' dh_T/ds_{T-k}| for each lag k [length], averaged over the sequences; v has length 1."""
    state = cell.initial_state(params, xs.shape[1:])
    # Zeros are added to the state after each step. The gradient with respect to them is that of the state.
    zeros = jax.tree.map(lambda leaf: jnp.zeros((len(xs), *leaf.shape)), state)

    def one(state: Any, now: tuple[Array, Any]) -> tuple[Any, Array]:
        x, added = now
        z = cell.project(params, x)
        state = jax.tree.map(jnp.add, cell.step(params, state, z), added)
        return state, cell.readout(params, state, z)

    last, pull_back = jax.vjp(lambda added: jax.lax.scan(one, state, (xs, added))[1][-1], zeros)
    v = jax.random.normal(key, last.shape)
    (gradients,) = pull_back(v / jnp.linalg.norm(v, axis=-1, keepdims=True))
    squares = sum(jnp.sum(leaf**2, axis=-1) for leaf in jax.tree.leaves(gradients))
    return jnp.sqrt(squares).mean(1)[::-1]


@partial(jax.jit, static_argnames=("options", "number"))
def measure(options: Options, train: Train, key: Array, number: int) -> tuple[Array, Array, Array]:
    """Measures on new sequences. Returns gradient norms [cells, lags], accuracies [cells, number], and the lags."""
    k_draw, k_v = jax.random.split(key)
    xs, classes, lags = draw(k_draw, number, options.length)
    ensemble = Ensemble(options.seeds)

    def one(cell: jaxrnn.Cell, params: Any) -> tuple[Array, Array]:
        return gradient_norms(cell, params[0], xs[:, :100], k_v), answer(cell, params, xs).argmax(-1) == classes

    norms, correct = [], []
    for cell, learner in zip(make_cells(options), train.learners, strict=True):
        of_seeds = ensemble.stacked(ensemble.map(partial(one, cell))(learner.params))
        norms.append(of_seeds[0].mean(0))
        correct.append(of_seeds[1].mean(0))
    return jnp.stack(norms), jnp.stack(correct), lags


def plot(path: Path, options: Options, before: np.ndarray, after: np.ndarray, accuracies: np.ndarray) -> None:
    lowest = max(1e-12, min(before.min(), after.min()) / 3)
    bins = (np.arange(LAG_BINS) + 0.5) * options.length / LAG_BINS
    with figure(path, columns=3, figsize=(13, 4.2)) as (drawn, grid):
        left, middle, right = grid[0]
        for n, name in enumerate(options.cell):
            left.semilogy(before[n], color=f"C{n}", label=name)
            middle.semilogy(after[n], color=f"C{n}")
            right.plot(bins, accuracies[n], color=f"C{n}", marker="o")
        right.axhline(1 / CLASSES, color=GRAY, linestyle="--", label="chance")
        left.set(title="Gradient at initialization", xlabel="lag k", ylim=(lowest, 10), ylabel=NORM)
        middle.set(title="Gradient after training", xlabel="lag k", ylim=(lowest, 10), ylabel=NORM)
        right.set(title="Accuracy after training", xlabel="lag", ylim=(0, 1.05), ylabel="accuracy")
        drawn.legend(loc="outside lower center", ncols=len(options.cell) + 1)


def main(options: Options, folder: RunFolder) -> None:
    train = jax.jit(partial(begin, options))()
    like = jax.eval_shape(lambda: (train, 0.0))
    lag = options.length // 2
    no_training_key = jax.random.fold_in(jax.random.key(options.seed), 2**31 - 1)
    k_valid, k_test = jax.random.split(no_training_key)
    before = np.asarray(measure(options, train, k_test, 1000)[0])
    run = Run(folder, options, facts={})
    print(f"run     {options.seeds} seeds of {', '.join(options.cell)}; {run.path}", flush=True)
    for stage in training(run, train, make_steps(options), None, options.limit):
        correct = measure(options, stage.train, k_valid, 200)[1].mean(1).tolist()
        accuracies = dict(zip(options.cell, correct, strict=True))
        stage.record(1 - float(np.mean(correct)), **{f"right_{cell}": share for cell, share in accuracies.items()})
        stage.say(", ".join(f"{cell} {share:.0%} correct" for cell, share in accuracies.items()))

    # The latest checkpoint is used: every sequence is new, and the learning rate has fallen to zero.
    train, _ = run.checkpoints.latest(like)
    after, correct, lags = map(np.asarray, measure(options, train, k_test, 1000))
    bins = lags * LAG_BINS // options.length
    in_bin = np.bincount(bins, minlength=LAG_BINS)
    accuracies = np.array([np.bincount(bins, share, LAG_BINS) / in_bin for share in correct])
    picture = run.path / "gradients.png"
    plot(picture, options, before, after, accuracies)
    rows = {}
    for n, cell in enumerate(options.cell):
        shares = f"{correct[n].mean():.1%} correct, {correct[n, lags >= lag].mean():.1%} from lag {lag} on"
        rows[cell] = f"{shares}; gradient there {before[n, lag]:.1e} before training, {after[n, lag]:.1e} after it"
    print_table(
        **rows,
        baseline=f"chance {1 / CLASSES:.1%} correct",
        time=f"{duration(run.last['seconds'])}, {run.last['step']:,.0f} steps",
        plot=str(picture),
    )


if __name__ == "__main__":
    launch(main, Options, RunFolder, started=process_start())
