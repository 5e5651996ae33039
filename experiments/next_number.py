"""The next number of a series: the sixth after five numbers, and the yearly sunspots one year ahead.

The first part is the number prediction of many tutorials, regression with one input feature and one output: the sixth
number of series such as 10, 20, 30, 40, 50. The same parameters predict it twice, by hand-written steps and by
`unroll`. A line through two numbers would do as well; this part only shows how the pieces fit together.

The second part is a benchmark on which a network may lose. It predicts the sunspots of 1921-1955 from those of
1700-1920. The score is the average relative variance, ARV = MSE / 1535, beside that of a linear autoregression over
nine years. The prediction is the mean of small networks, each of which is trained without one of five blocks of the
training years; the errors on the held-out years determine how long to train.

A. Weigend, B. Huberman, D. Rumelhart, "Predicting the future: a connectionist approach", 1990 (data and score);
A. Krogh, J. Vedelsby, "Neural network ensembles, cross validation, and active learning", 1995.
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
from data.sunspots import FIRST, LAST_OF_TRAINING, YEARS, arv, autoregression, blocks, read_numbers
from jax import Array
from support.cells import make_cell
from support.clock import duration, process_start
from support.command_line import launch
from support.ensemble import Ensemble
from support.options import RunFolder, RunOptions, above, at_least
from support.plots import BLUE, GRAY, RED, figure
from support.progress import print_table
from support.run import Run
from support.schedule import cosine
from support.training import Steps, many_steps, step_keys, training

import jaxrnn

ORDER = 9  # years that the autoregression reads
FOLDS = 5  # blocks of training years
NUM_TRAIN = LAST_OF_TRAINING - FIRST + 1
BLOCK = blocks(FOLDS)


@dataclass(frozen=True)
class Options(RunOptions):
    data: Path | None = None  # A CSV file with a header, then year,sunspots in each line. None: the one in data/
    steps: int | None = 600  # Number of training steps, instead of --minutes
    cell: str = "GRU"  # Name of a cell in jaxrnn
    hidden_size: int = 6  # Hidden size of each network for sunspots
    seeds: int = 8  # Number of networks for each held-out block
    learning_rate: float = 5e-3  # Peak learning rate
    noise: float = 0.1  # Noise added to the sunspots that are read, in their standard deviations

    def check(self) -> None:
        super().check()
        at_least(1, hidden_size=self.hidden_size, seeds=self.seeds)
        above(0, learning_rate=self.learning_rate)
        at_least(0, noise=self.noise)

    @property
    def networks(self) -> int:
        """Number of networks for sunspots."""
        return self.seeds * FOLDS


class Learner(NamedTuple):
    params: Any
    adam: Any


class Train(NamedTuple):
    """Everything that training changes."""

    step: Array
    series: Learner  # the network of the first part
    sunspots: Learner  # the networks of the second part: for each seed, one per block


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99), optax.add_decayed_weights(1e-2))


def make_models(options: Options) -> tuple[jaxrnn.Stack, jaxrnn.Stack]:
    """Returns the models for series of numbers, and for sunspots."""
    cell = partial(make_cell, options.cell)
    return jaxrnn.Stack(cell(32), jaxrnn.Dense(1)), jaxrnn.Stack(cell(options.hidden_size), jaxrnn.Dense(1))


def begin(options: Options) -> Train:
    def learner(model: jaxrnn.Stack, key: Array) -> Learner:
        params = model.init(key, 1)
        return Learner(params, optimizer.init(params))

    series, sunspots = make_models(options)
    keys = jax.random.split(jax.random.key(options.seed), 1 + options.networks)
    sunspots_learners = Ensemble(options.networks).begin(partial(learner, sunspots), keys[1:])
    return Train(jnp.int32(0), learner(series, keys[0]), sunspots_learners)


# --- Series of numbers ---


def draw_series(key: Array, number: int) -> tuple[Array, Array]:
    """Returns five equally spaced numbers, shape [5, number, 1], and the sixth, shape [number], all divided by 100."""
    k_start, k_step = jax.random.split(key)
    start = jax.random.uniform(k_start, (number,), minval=-1, maxval=1)
    step = jax.random.uniform(k_step, (number,), minval=-0.2, maxval=0.2)
    numbers = start + step * jnp.arange(6)[:, None]
    return numbers[:5, :, None], numbers[5]


@partial(jax.jit, static_argnums=0)
def by_hand(model: jaxrnn.Stack, params: Any, xs: Array) -> Array:
    """Predicts the number after those read, shape [batch], step by step."""
    state = model.initial_state(params, xs.shape[1:-1])
    y = xs[-1]
    for x in xs:
        state, y = jaxrnn.step(model, params, state, x)
    return y[:, 0]


@partial(jax.jit, static_argnums=0)
def by_unroll(model: jaxrnn.Stack, params: Any, xs: Array) -> Array:
    """Predicts the same numbers in one call."""
    _, ys = jaxrnn.unroll(model, params, xs)
    return ys[-1, :, 0]


def series_loss(model: jaxrnn.Stack, params: Any, key: Array) -> Array:
    xs, sixth = draw_series(key, 64)
    return ((by_unroll(model, params, xs) - sixth) ** 2).mean()


# --- Sunspots ---


def predict(model: jaxrnn.Stack, params: Any, numbers: Array) -> Array:
    """Predicts the number after each one of a series [time], from it and all numbers before it."""
    _, ys = jaxrnn.unroll(model, params, numbers[:, None])
    return ys[:, 0]


def sunspots_loss(
    options: Options, model: jaxrnn.Stack, numbers: Array, held_out: Array, params: Any, key: Array
) -> Array:
    """Returns the mean squared error on the training years outside of the held-out block."""
    noise = options.noise * jax.random.normal(key, numbers[1:].shape)
    errors = predict(model, params, numbers[:-1] + noise) - numbers[1:]
    block = BLOCK[1:NUM_TRAIN]
    return jnp.mean(errors**2, where=(block >= 0) & (block != held_out))


# --- Training ---


def update(options: Options, train: Train, numbers: Array, keys: Array, progress: Array) -> tuple[Train, Array]:
    """Runs one training step of all networks. Returns the mean loss on sunspots."""
    series, sunspots = make_models(options)

    def learn(loss_fn: Any, learner: Learner, key: Array, learning_rate: Array) -> tuple[Learner, Array]:
        loss, gradient = jax.value_and_grad(loss_fn)(learner.params, key)
        direction, adam = optimizer.update(gradient, learner.adam, learner.params)
        params = optax.apply_updates(learner.params, optax.tree.scale(-learning_rate, direction))
        return Learner(params, adam), loss

    def learn_sunspots(held_out: Array, learner: Learner, key: Array) -> tuple[Learner, Array]:
        loss_fn = partial(sunspots_loss, options, sunspots, numbers, held_out)
        return learn(loss_fn, learner, key, options.learning_rate * cosine(progress))

    of_series, _ = learn(partial(series_loss, series), train.series, keys[0], 1e-2 * cosine(progress))
    held_out = jnp.tile(jnp.arange(FOLDS), options.seeds)
    of_sunspots, losses = Ensemble(options.networks).map(learn_sunspots)(held_out, train.sunspots, keys[1:])
    return Train(train.step + 1, of_series, of_sunspots), losses.mean()


def make_steps(options: Options) -> Steps:
    """Returns a compiled function that makes many training steps; see `many_steps`."""
    keys = step_keys(options.seed)
    return many_steps(
        partial(update, options),
        lambda step: jax.random.split(keys(step), 1 + options.networks),
        params_of=lambda train: (train.series.params, train.sunspots.params),
    )


def plot(path: Path, numbers: np.ndarray, predictions: np.ndarray, linear: np.ndarray, title: str) -> None:
    """Draws predictions [networks, years] of the last years beside the data."""
    shown = YEARS >= 1880
    years = YEARS[shown]
    low, high = np.percentile(predictions[:, shown], (5, 95), axis=0)
    with figure(path, figsize=(9, 4.2)) as (_, grid):
        axes = grid[0, 0]
        test = LAST_OF_TRAINING + 0.5, YEARS[-1] + 0.5
        axes.axvspan(*test, color=GRAY, alpha=0.15, linewidth=0, label="test years")
        axes.plot(years, numbers[shown], "o", color="#222222", markersize=4, label="sunspots")
        axes.fill_between(years, low, high, color=BLUE, alpha=0.25, linewidth=0, label="nine of ten networks")
        axes.plot(years, predictions.mean(0)[shown], color=BLUE, linewidth=1.8, label="their mean")
        axes.plot(years, linear[shown], color=RED, linestyle="--", linewidth=1.3, label="autoregression")
        axes.set(xlabel="year", ylabel="sunspots, predicted from the years before", title=title)
        axes.legend(ncols=2)


def main(options: Options, folder: RunFolder) -> None:
    numbers = read_numbers(options.data)
    mean, deviation = numbers[:NUM_TRAIN].mean(), numbers[:NUM_TRAIN].std()
    scaled = jnp.asarray((numbers - mean) / deviation, jnp.float32)
    learned, test = BLOCK >= 0, YEARS > LAST_OF_TRAINING
    linear = autoregression(numbers, ORDER, YEARS <= LAST_OF_TRAINING)
    linear_held_out = [autoregression(numbers, ORDER, learned & (n != BLOCK)) for n in range(FOLDS)]
    series, sunspots = make_models(options)
    train = jax.jit(partial(begin, options))()
    like = jax.eval_shape(lambda: (train, 0.0))
    run = Run(folder, options, facts={"data": numbers.tolist()})
    print(f"data    {len(numbers)} years of sunspots, {YEARS[0]}-{YEARS[-1]}, test from {LAST_OF_TRAINING + 1} on")
    print(f"models  {options.seeds} times {FOLDS} of {sunspots}")
    print(f"run     {run.path}", flush=True)

    def predictions(params: Any) -> np.ndarray:
        """Returns the predictions of all networks, [networks, years]. For the first year, they are the mean."""
        scaled_predictions = jax.jit(jax.vmap(partial(predict, sunspots), in_axes=(0, None)))(params, scaled[:-1])
        return np.pad(np.asarray(scaled_predictions), ((0, 0), (1, 0))) * deviation + mean

    def held_out_arv(by_block: Any) -> float:
        """Returns the ARV of the training years, each predicted by networks that were trained without it."""
        return arv(np.choose(BLOCK.clip(0), by_block), numbers, learned)

    for stage in training(run, train, make_steps(options), scaled[:NUM_TRAIN], options.limit):
        by_block = predictions(stage.train.sunspots.params).reshape(options.seeds, FOLDS, -1).mean(0)
        held_out = held_out_arv(by_block)
        stage.record(held_out, held_out_arv=held_out)
        stage.say(f"ARV of the held-out years {held_out:.4f}")

    params = run.checkpoints.latest(like)[0].series.params
    xs, sixth = draw_series(jax.random.key(options.seed + 1), 1000)
    unrolled = by_unroll(series, params, xs)
    stepped = by_hand(series, params, xs)
    for n in range(4):
        five = ", ".join(f"{x:.1f}" for x in 100 * xs[:, n, 0])
        predicted = f"{100 * stepped[n]:.2f} by hand, {100 * unrolled[n]:.2f} by unroll"
        print(f"  {five} -> {predicted}, true {100 * sixth[n]:.2f}")
    error, last = (100 * jnp.sqrt(jnp.mean((guess - sixth) ** 2)) for guess in (unrolled, xs[-1, :, 0]))
    difference = 100 * jnp.abs(stepped - unrolled).max()

    each = predictions(run.checkpoints.best(like)[0].sunspots.params)
    alone = [arv(predicted, numbers, test) for predicted in each]
    score, baseline = arv(each.mean(0), numbers, test), arv(linear, numbers, test)
    repeating = arv(np.roll(numbers, 1), numbers, test)
    title = f"ARV of {LAST_OF_TRAINING + 1}-{YEARS[-1]}: {options.cell} {score:.3f}, AR({ORDER}) {baseline:.3f}"
    picture = run.path / "sunspots.png"
    plot(picture, numbers, each, linear, title)
    print_table(
        series=f"root mean square error {error:.2f} over 1000 series, {last:.2f} by repeating the last number; by hand "
        f"and by unroll differ by at most {difference:.0e}",
        sunspots=f"ARV {score:.3f} in the test years; one network alone {np.mean(alone):.3f} +- {np.std(alone):.3f}",
        baselines=f"AR({ORDER}) {baseline:.3f}, repeating the last year {repeating:.3f}",
        held_out=f"ARV {run.best['held_out_arv']:.3f}, AR({ORDER}) {held_out_arv(linear_held_out):.3f}",
        steps=f"{run.last['step']:,.0f}, the best after {run.best['step']:,.0f}",
        time=duration(run.last["seconds"]),
        plot=str(picture),
    )


if __name__ == "__main__":
    launch(main, Options, RunFolder, started=process_start())
