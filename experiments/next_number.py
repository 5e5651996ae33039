"""The next number: after five numbers the sixth, then the yearly sunspots, one year ahead.

The first part is the tutorials' number prediction, regression with one feature in and one out: of runs such as 10, 20,
30, 40, 50 the sixth number. The same parameters predict it twice, by steps written by hand and by `unroll`. A line
through two numbers would do as well; this shows how the pieces fit, no more.

The second part is a benchmark that a network can lose: sunspots 1921-1955 from those of 1700-1920, scored by the
average relative variance, ARV = MSE / 1535, beside a linear autoregression of nine years. The prediction is the mean of
small networks, each of which holds out one of five blocks of the training years; how long to train is chosen by the
errors on what was held out.

A. Weigend, B. Huberman, D. Rumelhart, "Predicting the future: a connectionist approach", 1990, whose data (sunspots.py)
and score these are; A. Krogh, J. Vedelsby, "Neural network ensembles, cross validation, and active learning", 1995.
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
from jax import Array
from sunspots import FIRST, LAST_OF_TRAINING, YEARS, arv, autoregression, blocks, plot, read_numbers

import jaxrnn

ORDER, FOLDS = 9, 5  # years that the autoregression reads; blocks of training years
NUM_TRAIN = LAST_OF_TRAINING - FIRST + 1
BLOCK = blocks(FOLDS)


@dataclass(frozen=True)
class Config(common.Config):
    data: Path | None = None  # A CSV file, year,sunspots in each line after the first; None: the one beside the script
    steps: int | None = 600  # Updates
    cell: str = "GRU"  # A cell of jaxrnn, by name
    hidden_size: int = 6  # Size of the state of each network for sunspots
    seeds: int = 8  # Networks for each block held out
    learning_rate: float = 5e-3  # Its highest value
    noise: float = 0.1  # Added to the sunspots that are read, in their standard deviations

    def check(self) -> None:
        super().check()
        common.at_least(1, hidden_size=self.hidden_size, seeds=self.seeds)
        common.above(0, learning_rate=self.learning_rate)
        common.at_least(0, noise=self.noise)


class Learner(NamedTuple):
    params: Any
    adam: Any


class Train(NamedTuple):  # all that training changes
    step: Array
    runs: Learner  # of the first part
    sunspots: Learner  # each array with an axis of the networks in front: of each seed, one for each block


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99), optax.add_decayed_weights(1e-2))


def make_models(config: Config) -> tuple[jaxrnn.Stack, jaxrnn.Stack]:
    """For runs of numbers, and for sunspots."""
    cell = partial(common.make_cell, config.cell)
    return jaxrnn.Stack(cell(32), jaxrnn.Dense(1)), jaxrnn.Stack(cell(config.hidden_size), jaxrnn.Dense(1))


def begin(config: Config) -> Train:
    def one(model: jaxrnn.Stack, key: Array) -> Learner:
        params = model.init(key, 1)
        return Learner(params, optimizer.init(params))

    runs, sunspots = make_models(config)
    key, *keys = jax.random.split(jax.random.key(config.seed), 1 + config.seeds * FOLDS)
    return Train(jnp.int32(0), one(runs, key), jax.vmap(partial(one, sunspots))(jnp.stack(keys)))


def draw_runs(key: Array, number: int) -> tuple[Array, Array]:
    """Five numbers [5, number, 1] in even steps, and the sixth [number]; in hundreds."""
    k_start, k_step = jax.random.split(key)
    start = jax.random.uniform(k_start, (number,), minval=-1, maxval=1)
    step = jax.random.uniform(k_step, (number,), minval=-0.2, maxval=0.2)
    numbers = start + step * jnp.arange(6)[:, None]
    return numbers[:5, :, None], numbers[5]


def by_hand(model: jaxrnn.Stack, params: Any, xs: Array) -> Array:
    """The number after those read [batch]."""
    state, y = model.initial_state(params, xs.shape[1:-1]), xs[-1]
    for x in xs:
        state, y = jaxrnn.step(model, params, state, x)
    return y[:, 0]


def by_unroll(model: jaxrnn.Stack, params: Any, xs: Array) -> Array:
    """The same in one call."""
    return jaxrnn.unroll(model, params, xs)[1][-1, :, 0]


def predict(model: jaxrnn.Stack, params: Any, numbers: Array) -> Array:
    """What is expected after each number of a series [time], from it and all before it."""
    return jaxrnn.unroll(model, params, numbers[:, None])[1][:, 0]


@partial(jax.jit, static_argnames="config", donate_argnames="train")
def update(config: Config, numbers: Array, train: Train, updates: Array, schedule: Any) -> tuple[Train, Array]:
    """Makes some updates of all networks and returns their mean loss on sunspots."""
    model_of_runs, model = make_models(config)
    held_out = jnp.tile(jnp.arange(FOLDS), config.seeds)

    def loss_of_runs(params: Any, key: Array) -> Array:
        xs, sixth = draw_runs(key, 64)
        return ((by_unroll(model_of_runs, params, xs) - sixth) ** 2).mean()

    def loss_of_sunspots(held_out: Array, params: Any, key: Array) -> Array:
        noise = config.noise * jax.random.normal(key, numbers[1:].shape)
        errors = predict(model, params, numbers[:-1] + noise) - numbers[1:]
        return jnp.mean(errors**2, where=(BLOCK[1:NUM_TRAIN] >= 0) & (BLOCK[1:NUM_TRAIN] != held_out))

    def learn(loss: Any, learner: Learner, key: Array, rate: Array) -> tuple[Learner, Array]:
        value, gradient = jax.value_and_grad(loss)(learner.params, key)
        direction, adam = optimizer.update(gradient, learner.adam, learner.params)
        params = optax.apply_updates(learner.params, optax.tree.scale(-rate, direction))
        return Learner(params, adam), value

    def one(_: int, carry: tuple[Train, Array]) -> tuple[Train, Array]:
        train, total = carry
        key, *keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), train.step), 1 + len(held_out))
        rate = 0.5 + 0.5 * jnp.cos(jnp.pi * (schedule[0] + schedule[1] * train.step))
        runs, _loss = learn(loss_of_runs, train.runs, key, 1e-2 * rate)
        each = jax.vmap(lambda block, *rest: learn(partial(loss_of_sunspots, block), *rest), in_axes=(0, 0, 0, None))
        sunspots, losses = each(held_out, train.sunspots, jnp.stack(keys), config.learning_rate * rate)
        return Train(train.step + 1, runs, sunspots), total + losses.mean()

    train, total = jax.lax.fori_loop(0, updates, one, (train, 0.0))
    return train, total / updates


def main(config: Config) -> None:
    numbers = read_numbers(config.data)
    mean, deviation = numbers[:NUM_TRAIN].mean(), numbers[:NUM_TRAIN].std()
    scaled = jnp.asarray((numbers - mean) / deviation, jnp.float32)
    learnt, test = BLOCK >= 0, YEARS > LAST_OF_TRAINING
    linear = autoregression(numbers, ORDER, YEARS <= LAST_OF_TRAINING)
    linear_held_out = [autoregression(numbers, ORDER, learnt & (n != BLOCK)) for n in range(FOLDS)]
    (model_of_runs, model), run = make_models(config), common.Run(config, facts={"data": numbers.tolist()})
    print(f"data    {len(numbers)} years of sunspots, {YEARS[0]}-{YEARS[-1]}, test from {LAST_OF_TRAINING + 1} on")
    print(f"models  {config.seeds} times {FOLDS} of {model}")
    print(f"run     {run.path}", flush=True)

    def predictions(params: Any) -> np.ndarray:  # [networks, years]; the first year's is the mean
        expected = jax.jit(jax.vmap(partial(predict, model), in_axes=(0, None)))(params, scaled[:-1])
        return np.pad(np.asarray(expected), ((0, 0), (1, 0))) * deviation + mean

    def held_out_arv(of_blocks: Any) -> float:  # each block's years by what did not learn them
        return arv(np.choose(BLOCK.clip(0), of_blocks), numbers, learnt)

    for stage in common.training(config, run, begin(config), partial(update, config, scaled[:NUM_TRAIN])):
        of_blocks = predictions(stage.train.sunspots.params).reshape(config.seeds, FOLDS, -1).mean(0)
        held_out = held_out_arv(of_blocks)
        stage.record(held_out, held_out_arv=held_out)
        stage.say(f"ARV of the years held out {held_out:.4f}")

    like = jax.eval_shape(lambda: (begin(config), 0.0))
    params = run.checkpoints.latest(like)[0].runs.params
    xs, sixth = draw_runs(jax.random.key(config.seed + 1), 1000)
    unrolled, stepped = by_unroll(model_of_runs, params, xs), by_hand(model_of_runs, params, xs)
    for n in range(4):
        five = ", ".join(f"{x:.1f}" for x in 100 * xs[:, n, 0])
        print(
            f"  {five} -> {100 * stepped[n]:.2f} by hand, {100 * unrolled[n]:.2f} by unroll, right {100 * sixth[n]:.2f}"
        )
    error, last = (100 * jnp.sqrt(jnp.mean((guess - sixth) ** 2)) for guess in (unrolled, xs[-1, :, 0]))
    of_networks = predictions(run.checkpoints.best(like)[0].sunspots.params)
    alone = [arv(predicted, numbers, test) for predicted in of_networks]
    score, baseline = arv(of_networks.mean(0), numbers, test), arv(linear, numbers, test)
    title = f"ARV of {LAST_OF_TRAINING + 1}-{YEARS[-1]}: {config.cell} {score:.3f}, AR({ORDER}) {baseline:.3f}"
    plot(run.path / "sunspots.png", numbers, of_networks, linear, title)
    common.print_table(
        runs=f"error {error:.2f} in the mean of 1000 runs, {last:.2f} by repeating the last number; by hand and by "
        f"unroll differ by at most {100 * jnp.abs(stepped - unrolled).max():.0e}",
        sunspots=f"ARV {score:.3f} in the test years; one network alone {np.mean(alone):.3f} +- {np.std(alone):.3f}",
        beside=f"AR({ORDER}) {baseline:.3f}, repeating the last year {arv(np.roll(numbers, 1), numbers, test):.3f}",
        held_out=f"ARV {run.best['held_out_arv']:.3f}, AR({ORDER}) {held_out_arv(linear_held_out):.3f}",
        updates=f"{run.rows[-1]['step']:,.0f}, the best after {run.best['step']:,.0f}",
        time=common.span(run.rows[-1]["seconds"]),
        plot=str(run.path / "sunspots.png"),
    )


if __name__ == "__main__":
    common.run(main, Config)
