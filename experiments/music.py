"""The next frame of polyphonic music, predicted by the small networks of Chung et al., and music that they compose.

A frame says which of a piano's 88 keys sound. The loss is the sum of the keys' binary cross-entropies given all frames
before, in nats per frame. Networks of several seeds train side by side as one program, until their validation loss no
longer falls: when it has not fallen for a while, they continue from the best parameters with a lower learning rate. The
third time, or at the limit of --minutes or --steps, training ends.

References: N. Boulanger-Lewandowski, Y. Bengio, P. Vincent, "Modeling temporal dependencies in high-dimensional
sequences", 2012 (the task and its data); J. Chung et al., "Empirical evaluation of gated recurrent neural networks on
sequence modeling", 2014 (the networks' sizes, weight noise); A. Graves, "Practical variational inference for neural
networks", 2011 (weight noise).
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
from data.composed_music import KEYS, LOWEST
from data.piano_rolls import Chunks, Music, Streams, baselines, write_midi
from jax import Array
from support.cells import count_parameters, make_cell
from support.clock import duration, process_start
from support.command_line import launch
from support.ensemble import Ensemble, Losses
from support.options import RunFolder, RunOptions, above, at_least, rate
from support.plots import figure
from support.progress import print_table
from support.run import Run
from support.schedule import warmup_cosine
from support.training import Steps, many_steps, training

import jaxrnn

SIZES = {"Elman": 100, "GRU": 46, "LSTM": 36}  # of Chung et al.: about 20,000 parameters each
PROMPT = 16  # frames of a real piece that composing continues
STAGES = 60  # validations until the limit
CUTS = 3  # how often the validation loss stops falling before training ends
CUT = 0.3  # factor of the learning rate, each time before the last


@dataclass(frozen=True)
class Options(RunOptions):
    minutes: float = 20.0  # Time limit of the run in minutes, start-up included; most runs end before
    data: Path | None = None  # A MATLAB file such as JSB_Chorales.mat or Nottingham.mat. None: music composed by rules
    cell: str = "GRU"  # Name of a cell in jaxrnn
    hidden_size: int | None = None  # Hidden size. None: the published size of the cell
    seeds: int = 3  # Number of networks that train side by side; their losses are averaged
    sequence_length: int = 200  # Length of the training sequences in frames; longer pieces are cut
    batch: int = 16  # Number of pieces, or parts of them, in a batch
    learning_rate: float = 1e-2  # Peak learning rate
    patience: int = 4  # Number of validations without a lower loss after which the learning rate is cut
    weight_noise: float = 0.02  # Standard deviation of the noise added to every weight in training
    dropout: float = 0.05  # Dropout rate of the cell's inputs and outputs
    compose: int = 128  # Number of frames to compose at the end

    def check(self) -> None:
        super().check()
        at_least(1, hidden_size=self.size, seeds=self.seeds, sequence_length=self.sequence_length)
        at_least(1, batch=self.batch, patience=self.patience, compose=self.compose)
        at_least(0, weight_noise=self.weight_noise)
        above(0, learning_rate=self.learning_rate)
        rate(dropout=self.dropout)

    @property
    def size(self) -> int:
        return SIZES.get(self.cell, 40) if self.hidden_size is None else self.hidden_size


def make_model(options: Options) -> jaxrnn.Stack:
    cell = make_cell(options.cell, options.size)
    dropout = [jaxrnn.Dropout(options.dropout)] if options.dropout else []
    return jaxrnn.Stack(*dropout, cell, *dropout, jaxrnn.Dense(KEYS))


class Train(NamedTuple):
    """Everything that training changes."""

    step: Array
    params: Any
    adam: Any


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


def begin(model: jaxrnn.Stack, key: Array) -> Train:
    params = model.init(key, KEYS)
    # About four of a piano's keys sound at once. Without this bias the network would first learn that, and saturate.
    params = (*params[:-1], params[-1]._replace(b=params[-1].b - 3.0))
    return Train(jnp.int32(0), params, optimizer.init(params))


def frame_losses(model: jaxrnn.Stack, params: Any, frames: Array, **how: Any) -> Array:
    """Losses of all frames but the first, [time - 1, batch]."""
    frames = frames.astype(jnp.float32)
    _, logits = jaxrnn.unroll(model, params, frames[:-1], **how)
    return optax.sigmoid_binary_cross_entropy(logits, frames[1:]).sum(-1)


def update(
    options: Options, model: jaxrnn.Stack, train: Train, data: tuple[Chunks, Array], key: Array, progress: Array
) -> tuple[Train, Array]:
    """Runs one training step, on random chunks. `data` also holds a factor of the learning rate."""
    chunks, factor = data
    k_batch, k_loss = jax.random.split(key)
    k_noise, k_dropout = jax.random.split(k_loss)
    drawn = jax.random.randint(k_batch, (options.batch,), 0, len(chunks.lengths))
    frames = jnp.moveaxis(chunks.frames[drawn], 0, 1)
    lengths = chunks.lengths[drawn]

    def loss_fn(params: Any) -> Array:
        if options.weight_noise:
            noise = optax.tree.random_like(k_noise, params, jax.random.normal)
            params = optax.tree.add_scale(params, options.weight_noise, noise)
        losses = frame_losses(model, params, frames, lengths=lengths, key=k_dropout if options.dropout else None)
        predicted = jnp.arange(len(losses))[:, None] < lengths
        return jnp.sum(losses, where=predicted) / lengths.sum()

    loss, gradient = jax.value_and_grad(loss_fn)(train.params)
    direction, adam = optimizer.update(gradient, train.adam)
    learning_rate = factor * options.learning_rate * warmup_cosine(train.step, progress)
    params = optax.apply_updates(train.params, optax.tree.scale(-learning_rate, direction))
    return Train(train.step + 1, params, adam), loss


def network_keys(options: Options) -> Array:
    """Returns a random key for each network, the same for any number of networks."""
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(options.seed)))(jnp.arange(options.seeds))


def begin_all(options: Options, model: jaxrnn.Stack) -> Train:
    return Ensemble(options.seeds).begin(partial(begin, model), network_keys(options))


def make_steps(options: Options, model: jaxrnn.Stack) -> Steps:
    """Returns a compiled function that makes many training steps of all networks, each on batches of its own."""
    ensemble = Ensemble(options.seeds)

    def keys(step: Array) -> Array:
        return jax.vmap(lambda key: jax.random.fold_in(key, step))(network_keys(options))

    return many_steps(ensemble.update(partial(update, options, model)), ensemble.keys(keys), ensemble.size)


def plateaus(losses: list[float], patience: int) -> int:
    """Returns how often `patience` losses in a row were not lower than all earlier ones."""
    lowest, waited, number = np.inf, 0, 0
    for loss in losses:
        lowest, waited = (loss, 0) if loss < lowest else (lowest, waited + 1)
        if waited == patience:
            waited, number = 0, number + 1
    return number


@partial(jax.jit, static_argnames="model")
def network_loss(model: jaxrnn.Stack, params: Any, streams: Streams) -> Array:
    losses = frame_losses(model, params, streams.frames, resets=streams.begins[:-1])
    return jnp.mean(losses, where=streams.counts)


def evaluate(options: Options, model: jaxrnn.Stack, params: Any, streams: Streams) -> np.ndarray:
    """Returns the mean loss of each network [seeds], over all frames of whole pieces but the first ones."""
    member = partial(Ensemble(options.seeds).member, params)
    return np.array([network_loss(model, member(n), streams) for n in range(options.seeds)])


@partial(jax.jit, static_argnames=("model", "length"))
def compose(model: jaxrnn.Stack, params: Any, frames: Array, length: int, key: Array) -> Array:
    """Samples `length` frames, each from the model's distribution after all frames before it."""

    def sample(logits: Array, key: Array) -> Array:
        return jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(jnp.float32)

    return jaxrnn.generate(model, params, frames.astype(jnp.float32), steps=length, feed=sample, key=key).xs


def plot_rolls(path: Path, rolls: dict[str, np.ndarray]) -> None:
    """Draws piano rolls, one above the other."""
    on = np.flatnonzero(np.concatenate(list(rolls.values())).any(0))
    low, high = on.min(initial=KEYS - 1), on.max(initial=0)
    with figure(path, rows=len(rolls), figsize=(8, 2.4 * len(rolls)), sharex=True, grid=False) as (_, grid):
        for axes, (name, roll) in zip(grid[:, 0], rolls.items(), strict=True):
            extent = (0, len(roll), low + LOWEST - 0.5, high + LOWEST + 0.5)
            axes.imshow(roll.T[low : high + 1], origin="lower", aspect="auto", cmap="Blues", extent=extent)
            axes.set(title=name, ylabel="MIDI key")
        grid[-1, 0].set(xlabel="frame")


def main(options: Options, folder: RunFolder) -> None:
    model = make_model(options)
    music = Music.of(options.data)
    train = jax.jit(partial(begin_all, options, model))()
    run = Run(folder, options, facts={"data": music.digest})
    others = baselines(music)
    if music.floor is not None:
        others["the rules themselves"] = music.floor
    size = count_parameters(train.params) // options.seeds
    print(f"data    {music}")
    print(f"model   {options.seeds} x {model}, {size:,} parameters each")
    print(f"run     {run.path}", flush=True)

    valid, test = Streams.of(music.valid), Streams.of(music.test)
    chunks = Chunks.of(music.train, options.sequence_length)
    compiled = make_steps(options, model)

    like = jax.eval_shape(lambda: (begin_all(options, model), 0.0))

    def cuts(rows: list[dict[str, Any]]) -> int:
        return plateaus([row["valid_loss"] for row in rows], options.patience)

    def steps(train: Train, chunks: Chunks, number: Any, schedule: Any) -> tuple[Train, Array]:
        if run.rows and run.last["step"] == train.step and cuts(run.rows) > cuts(run.rows[:-1]):
            train = jax.device_put(run.checkpoints.best(like)[0]._replace(step=train.step))
        return compiled(train, (chunks, jnp.float32(CUT ** cuts(run.rows))), number, schedule)

    ended = cuts(run.rows) == CUTS  # a resumed run that has ended trains no further
    for stage in () if ended else training(run, train, steps, chunks, options.limit, stages=STAGES):
        losses = Losses(evaluate(options, model, stage.train.params, valid))
        stage.record(losses.mean, **losses.columns)
        run.plot(others, "nats per frame", f"{options.cell} on {music.name}")
        number = cuts(run.rows)
        stage.say(f"validation {losses}" + (f", learning rate cut {number} times" if number else ""))
        if ended := number == CUTS:
            break

    train, _ = run.checkpoints.best(like)
    losses = evaluate(options, model, train.params, test)
    real = music.test[0][: PROMPT + options.compose]
    first = Ensemble(options.seeds).member(train.params, 0)
    frames = compose(model, first, real[:PROMPT], options.compose, jax.random.key(options.seed))
    composed = np.concatenate([real[:PROMPT], np.asarray(frames, np.uint8)])
    rolls = {f"A test piece of {music.name}": real, f"Composed from frame {PROMPT} on": composed}
    plot_rolls(run.path / "piano_rolls.png", rolls)
    write_midi(run.path / "real.mid", real)
    write_midi(run.path / "composed.mid", composed)
    best = min(row["valid_loss"] for row in run.rows)
    print_table(
        test=f"{losses.mean():.3f} nats per frame; {options.seeds} seeds from {losses.min():.3f} to {losses.max():.3f}",
        baselines=", ".join(f"{name} {loss:.3f}" for name, loss in others.items()),
        validation=f"{best:.3f}, the best, after step {train.step:,}" + ("" if ended else "; the limit ended training"),
        time=f"{duration(run.last['seconds'])}, {run.last['step']:,.0f} steps",
        curves=run.curves,
        music=f"{run.path / 'composed.mid'} beside {run.path / 'real.mid'}, both in {run.path / 'piano_rolls.png'}",
    )


if __name__ == "__main__":
    launch(main, Options, RunFolder, started=process_start())
