"""The next frame of polyphonic music, predicted by the small networks of Chung et al.; and music they compose.

A frame says which of a piano's 88 keys sound. The loss is the sum of the keys' binary cross-entropies given all frames
before, in nats a frame. Networks of several seeds are trained as one program.

References: N. Boulanger-Lewandowski, Y. Bengio, P. Vincent, "Modeling temporal dependencies in high-dimensional
sequences", 2012 (the task and its data); J. Chung et al., "Empirical evaluation of gated recurrent neural networks on
sequence modeling", 2014 (the networks' sizes, weight noise); A. Graves, "Practical variational inference for neural
networks", 2011 (weight noise).
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
from composing import KEYS
from jax import Array
from piano_rolls import Chunks, Music, Streams, baselines, draw, write_midi

import jaxrnn

SIZES = {"Elman": 100, "GRU": 46, "LSTM": 36}  # of Chung et al.: about 20,000 parameters each
PROMPT = 16  # frames of a real piece that composing goes on from


@dataclass(frozen=True)
class Config(common.Config):
    data: Path | None = None  # A MATLAB file such as JSB_Chorales.mat or Nottingham.mat; None: music composed by rules
    cell: str = "GRU"  # A cell of jaxrnn, by name
    hidden_size: int | None = None  # Size of the state; None: as published for the cell
    seeds: int = 3  # Networks trained side by side, whose losses are averaged
    sequence_length: int = 100  # Frames the gradient goes back; longer pieces are cut
    batch: int = 16  # Pieces, or parts of them, in a minibatch
    learning_rate: float = 1e-2  # Its highest value
    weight_noise: float = 0.05  # Standard deviation of what is added to every weight while training
    dropout: float = 0.1  # Share of the inputs and of the outputs of the cell dropped while training
    compose: int = 128  # Frames to compose at the end

    def check(self) -> None:
        super().check()
        common.at_least(1, hidden_size=self.size, seeds=self.seeds, sequence_length=self.sequence_length)
        common.at_least(1, batch=self.batch, compose=self.compose)
        common.at_least(0, weight_noise=self.weight_noise)
        common.above(0, learning_rate=self.learning_rate)
        if not 0 <= self.dropout < 1:
            raise BadInputError(f"--dropout must be from 0 to below 1, but it is {self.dropout}")

    @property
    def size(self) -> int:
        return SIZES.get(self.cell, 40) if self.hidden_size is None else self.hidden_size


def make_model(config: Config) -> jaxrnn.Stack:
    cell = common.make_cell(config.cell, config.size)
    dropout = [jaxrnn.Dropout(config.dropout)] if config.dropout else []
    return jaxrnn.Stack(*dropout, cell, *dropout, jaxrnn.Dense(KEYS))


class Train(NamedTuple):
    """All that training changes; every leaf of params and adam has an axis of seeds first."""

    step: Array
    params: Any
    adam: Any


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


def keys_of(config: Config) -> Array:
    """A key for each network, the same whatever their number."""
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(config.seed)))(jnp.arange(config.seeds))


def begin(config: Config, model: jaxrnn.Stack) -> Train:
    params = jax.vmap(lambda key: model.init(key, KEYS))(keys_of(config))
    # Some four of a piano's keys sound at once: the others would be the first lesson, and saturate the state.
    params = (*params[:-1], params[-1]._replace(b=params[-1].b - 3.0))
    return Train(jnp.int32(0), params, jax.vmap(optimizer.init)(params))


def frame_losses(model: jaxrnn.Stack, params: Any, frames: Array, **how: Any) -> Array:
    """[time - 1, batch], of all frames but the first."""
    frames = frames.astype(jnp.float32)
    _, logits = jaxrnn.unroll(model, params, frames[:-1], **how)
    return optax.sigmoid_binary_cross_entropy(logits, frames[1:]).sum(-1)


@partial(jax.jit, static_argnames=("config", "model"), donate_argnames="train")
def update(
    config: Config, model: jaxrnn.Stack, chunks: Chunks, train: Train, updates: Array, schedule: Any
) -> tuple[Train, Array]:
    """Makes some updates of all networks, each on minibatches of its own, and returns their mean loss."""

    def loss_of(params: Any, frames: Array, lengths: Array, key: Array) -> Array:
        k_noise, k_dropout = jax.random.split(key)
        noise = optax.tree.random_like(k_noise, params, jax.random.normal)
        noisy = optax.tree.add_scale(params, config.weight_noise, noise) if config.weight_noise else params
        losses = frame_losses(model, noisy, frames, lengths=lengths, key=k_dropout if config.dropout else None)
        predicted = jnp.arange(len(losses))[:, None] < lengths
        return jnp.sum(losses, where=predicted) / lengths.sum()

    def one(_: int, carry: tuple[Train, Array]) -> tuple[Train, Array]:
        train, total = carry
        progress = schedule[0] + schedule[1] * train.step
        rate = config.learning_rate * jnp.minimum(1, (train.step + 1) / 100) * (0.5 + 0.5 * jnp.cos(jnp.pi * progress))

        def network(params: Any, adam: Any, key: Array) -> tuple[Any, Any, Array]:
            k_batch, k_loss = jax.random.split(jax.random.fold_in(key, train.step))
            chosen = jax.random.randint(k_batch, (config.batch,), 0, len(chunks.lengths))
            frames = jnp.moveaxis(chunks.frames[chosen], 0, 1)
            loss, gradient = jax.value_and_grad(loss_of)(params, frames, chunks.lengths[chosen], k_loss)
            direction, adam = optimizer.update(gradient, adam)
            return optax.apply_updates(params, optax.tree.scale(-rate, direction)), adam, loss

        params, adam, losses = jax.vmap(network)(train.params, train.adam, keys_of(config))
        return Train(train.step + 1, params, adam), total + losses.mean()

    train, total = jax.lax.fori_loop(0, updates, one, (train, jnp.float32(0)))
    return train, total / updates + 0 * optax.tree.norm(train.params)  # not finite if the parameters are not


@partial(jax.jit, static_argnames="model")
def evaluate(model: jaxrnn.Stack, params: Any, streams: Streams) -> Array:
    """[seeds], the mean loss of each network over all frames of whole pieces but their first."""

    def network(params: Any) -> Array:
        losses = frame_losses(model, params, streams.frames, resets=streams.begins[:-1])
        return jnp.mean(losses, where=streams.counts)

    return jax.lax.map(network, params)


@partial(jax.jit, static_argnames=("model", "length"))
def go_on(model: jaxrnn.Stack, params: Any, frames: Array, length: int, key: Array) -> Array:
    """Draws `length` frames, each from what the model expects after all before it."""

    def one(carry: tuple[Any, Array], key: Array) -> tuple[Any, Array]:
        state, logits = carry
        frame = jax.random.bernoulli(key, jax.nn.sigmoid(logits))
        return jaxrnn.step(model, params, state, frame.astype(jnp.float32)), frame

    state, logits = jaxrnn.unroll(model, params, frames.astype(jnp.float32))
    return jax.lax.scan(one, (state, logits[-1]), jax.random.split(key, length))[1]


def main(config: Config) -> None:
    model, music = make_model(config), Music.of(config.data)
    train = begin(config, model)
    run = common.Run(config, facts={"data": music.digest})
    simple = baselines(music)
    known = {} if music.floor is None else {"who knows the rules": music.floor}
    size = sum(leaf.size for leaf in jax.tree.leaves(train.params)) // config.seeds
    print(f"data    {music}")
    print(f"model   {config.seeds} x {model}, {size:,} parameters each")
    print(f"run     {run.path}", flush=True)

    valid, test = Streams.of(music.valid), Streams.of(music.test)
    more = partial(update, config, model, Chunks.of(music.train, config.sequence_length))
    for stage in common.training(config, run, train, more):
        losses = evaluate(model, stage.train.params, valid)
        stage.record(float(losses.mean()), valid_loss=float(losses.mean()))
        run.plot(simple | known, "nats a frame", f"{config.cell} on {music.name}")
        stage.say(f"validation {losses.mean():.3f}")

    (train, _), last = run.checkpoints.best(jax.eval_shape(lambda: (begin(config, model), 0.0))), run.rows[-1]
    losses = np.asarray(evaluate(model, train.params, test))
    real = music.test[0][: PROMPT + config.compose]
    first = jax.tree.map(lambda leaf: leaf[0], train.params)
    drawn = go_on(model, first, real[:PROMPT], config.compose, jax.random.key(config.seed))
    composed = np.concatenate([real[:PROMPT], np.asarray(drawn, np.uint8)])
    draw(
        run.path / "piano_rolls.png",
        {f"A test piece of {music.name}": real, f"Composed from frame {PROMPT} on": composed},
    )
    write_midi(run.path / "real.mid", real)
    write_midi(run.path / "composed.mid", composed)
    common.print_table(
        test=f"{losses.mean():.3f} nats a frame, of {config.seeds} seeds from {losses.min():.3f} to {losses.max():.3f}",
        beside=", ".join(f"{name} {loss:.3f}" for name, loss in (simple | known).items()),
        validation=f"{min(row['valid_loss'] for row in run.rows):.3f}, the best, after update {train.step:,}",
        time=f"{common.span(last['seconds'])}, {last['step']:,.0f} updates",
        curves=f"{run.path / 'curves.png'}, {run.path / 'metrics.csv'}",
        music=f"{run.path / 'composed.mid'} beside {run.path / 'real.mid'}, both in {run.path / 'piano_rolls.png'}",
    )


if __name__ == "__main__":
    common.run(main, Config)
