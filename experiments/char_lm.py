"""A character language model: trains on any text, and generates similar text one character at a time.

The model is that of A. Karpathy's char-rnn (2015). Losses are in nats per character. With several --seeds or several
values of --learning-rate, several models train side by side as one program.
"""

from __future__ import annotations

if __name__ == "__main__":
    from support.early import check_command_line

    check_command_line(__file__)  # before the imports below, which take seconds

import math
import os
import textwrap
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from data.ngrams import ngram_losses
from data.text import Text, decode, encode, line_end
from jax import Array
from jax.sharding import Mesh
from models.language_model import loss_of_window, validation_loss
from support.cells import count_parameters, make_cell, scale_input_weights
from support.clock import duration, process_start
from support.command_line import launch
from support.devices import BATCH, COPIED, TIME_BATCH, make_mesh, place, value_and_grad
from support.ensemble import Ensemble, Losses, best_member, mean_of_finite
from support.errors import BadInputError
from support.options import Devices, OptionGroup, RunFolder, RunOptions, above, at_least, rate
from support.progress import print_table
from support.run import Run, read_config
from support.schedule import warmup_cosine
from support.training import Steps, many_steps, training

import jaxrnn

ORDER = 5  # of the n-gram: the best one for one to four megabytes of text


@dataclass(frozen=True)
class Options(RunOptions):
    data: Path | None = None  # A UTF-8 text. None: the running Python's standard library
    cell: str = "LSTM"  # Name of a cell in jaxrnn
    hidden_size: int = 256  # Hidden size of each layer
    layers: int = 1  # Number of recurrent layers
    dropout: float = 0.2  # Dropout rate after each layer
    sequence_length: int = 64  # Length of each training window; the state carries over to the next one
    batch: int = 32  # Number of streams of the text that are read side by side
    learning_rate: tuple[float, ...] = (8e-3,)  # Peak learning rate. Several values train one model each
    seeds: int = 1  # Number of random seeds. Each trains one model, all side by side
    devices: Devices = "auto"  # Devices that share each batch. auto: one for a CPU with the native loop, else all

    def check(self) -> None:
        super().check()
        at_least(1, hidden_size=self.hidden_size, layers=self.layers, batch=self.batch, seeds=self.seeds)
        at_least(1, sequence_length=self.sequence_length, learning_rate=len(self.learning_rate))
        rate(dropout=self.dropout)
        for learning_rate in self.learning_rate:
            above(0, learning_rate=learning_rate)

    @property
    def members(self) -> list[tuple[int, float]]:
        """The seed and the learning rate of each model."""
        return [(self.seed + n, learning_rate) for n in range(self.seeds) for learning_rate in self.learning_rate]


@dataclass(frozen=True)
class Sampling(OptionGroup):
    sample: int | None = None  # Only generate this many characters, from the best checkpoint of the run
    prompt: str = ""  # Text that the sample continues. Empty: the beginning of a line
    temperature: float = 0.8  # Sampling temperature: 1 samples from the model's distribution, 0 is greedy

    @property
    def continues_run(self) -> bool:
        return self.sample is not None

    def check_given(self, names: frozenset[str]) -> None:
        for name in ("prompt", "temperature"):
            if name in names and self.sample is None:
                raise BadInputError(f"--{name} has no effect without --sample: give the number of characters to sample")

    def check(self) -> None:
        at_least(0, temperature=self.temperature)
        at_least(1, sample=1 if self.sample is None else self.sample)


# --- One model: parameters, loss, training step ---


def make_model(options: Options, num_symbols: int) -> jaxrnn.Stack:
    cell = make_cell(options.cell, options.hidden_size, num_symbols)
    dropout = [jaxrnn.Dropout(options.dropout)] if options.dropout else []
    return jaxrnn.Stack(*[cell, *dropout] * options.layers, jaxrnn.Dense(num_symbols))


class Train(NamedTuple):
    """Everything that training changes."""

    step: Array
    position: Array  # of the next window, from the start of each stream
    params: Any
    adam: Any
    state: Any  # recurrent state of the streams
    learning_rate: Array  # peak


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99))


def begin(options: Options, model: jaxrnn.Stack, num_symbols: int, seed: Array, learning_rate: Array) -> Train:
    first, *others = model.init(jax.random.key(seed), num_symbols)
    params = (scale_input_weights(model.layers[0], first, num_symbols), *others)
    state = model.initial_state(params, (options.batch,))
    return Train(jnp.int32(0), jnp.int32(0), params, optimizer.init(params), state, learning_rate)


def loss_fn(model: jaxrnn.Stack, params: Any, window: Array, state: Any, key: Array) -> tuple[Array, Any]:
    """Returns the mean loss of each character of a window given those before it, and the state after the window."""
    return loss_of_window(model, params, window[:-1], window[1:], state, key=key)


def update(
    options: Options, model: jaxrnn.Stack, mesh: Mesh, train: Train, symbols: Array, key: Array, progress: Array
) -> tuple[Train, Array]:
    """Runs one training step, on the next window of every stream."""
    # The streams read the text as a ring, at equal distances, so that no window is the last and no state is lost.
    starts = jnp.arange(options.batch) * (len(symbols) // options.batch)
    places = starts + train.position + jnp.arange(options.sequence_length + 1)[:, None]
    window = symbols[places % len(symbols)].astype(jnp.int32)

    # The streams take turns restarting from the initial state, which validation and sampling start from too.
    restarts = jnp.arange(options.batch) == train.step % options.batch
    state = jaxrnn.ops.where(restarts, model.initial_state(train.params, (options.batch,)), train.state)

    gradient_of = value_and_grad(partial(loss_fn, model), mesh)
    (loss, state), gradient = gradient_of(train.params, window, state, key)
    direction, adam = optimizer.update(gradient, train.adam)
    scale = -train.learning_rate * warmup_cosine(train.step, progress)
    params = optax.apply_updates(train.params, optax.tree.scale(scale, direction))
    position = (train.position + options.sequence_length) % len(symbols)
    return Train(train.step + 1, position, params, adam, state, train.learning_rate), loss


@partial(jax.jit, static_argnames=("model", "length"))
def generate(model: jaxrnn.Stack, params: Any, prompt: Array, length: int, key: Array, temperature: Array) -> Array:
    """Samples `length` symbols, each from the model's distribution after all symbols before it."""

    def sample(logits: Array, key: Array) -> Array:
        return jax.random.categorical(key, logits / jnp.maximum(temperature, 1e-6))

    return jaxrnn.generate(model, params, prompt, steps=length, feed=sample, key=key).xs


# --- All models of a run: usually one ---


def begin_all(options: Options, model: jaxrnn.Stack, num_symbols: int) -> Train:
    seeds, learning_rates = map(jnp.array, zip(*options.members, strict=True))
    return Ensemble(len(options.members)).begin(partial(begin, options, model, num_symbols), seeds, learning_rates)


def make_steps(options: Options, model: jaxrnn.Stack, mesh: Mesh) -> Steps:
    """Returns a compiled function that makes many training steps; see `many_steps`."""
    ensemble = Ensemble(len(options.members))
    seeds = jnp.array([seed for seed, _ in options.members])

    def keys(step: Array) -> Array:
        return jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), step))(seeds)

    update_all = ensemble.update(partial(update, options, model, mesh))
    return many_steps(update_all, ensemble.keys(keys), ensemble.size, mean=mean_of_finite)


def best_params(options: Options, run: Run, like: Train) -> Any:
    """Returns the parameters of the best model in the best checkpoint."""
    train, _ = run.checkpoints.best((like, 0.0))
    return Ensemble(len(options.members)).member(train.params, best_member(run.best))


# --- Training and sampling ---


def train_model(options: Options, folder: RunFolder, sampling: Sampling) -> Run:
    text = Text.of(options.data)
    num_symbols = len(text.alphabet)
    if text.num_train < options.batch * (options.sequence_length + 1):
        needed = f"one batch of windows takes {options.batch} * {options.sequence_length + 1}"
        raise BadInputError(f"{text.name} is too short: training has {text.num_train:,} characters, but {needed}")
    prompt = encode(line_end(text.alphabet), text.alphabet)

    mesh = make_mesh(options.devices, options.batch)
    model = make_model(options, num_symbols)
    ensemble = Ensemble(len(options.members))
    split_state = BATCH if ensemble.size == 1 else TIME_BATCH
    train = jax.jit(partial(begin_all, options, model, num_symbols))()
    specs: Any = dict.fromkeys(Train._fields, COPIED) | {"state": split_state}
    train = place(train, mesh, Train(**specs))
    steps = make_steps(options, model, mesh)

    run = Run(folder, options, facts={"data": text.digest}, notes={"alphabet": text.alphabet})
    ngram = ngram_losses(text.symbols, text.num_train, num_symbols, ORDER)[-1]
    size = count_parameters(train.params) // ensemble.size
    print(f"data    {text}")
    print(f"n-gram  order {ORDER}, interpolated Witten-Bell: {ngram:.3f} nats per character")
    print(f"model   {model}, {size:,} parameters" + (f", {ensemble.size} models" if ensemble.size > 1 else ""))
    print(f"device  {mesh.size} x {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores")
    print(f"run     {run.path}", flush=True)

    symbols = jax.device_put(text.symbols)
    train_symbols = symbols[: text.num_train]
    characters = options.batch * options.sequence_length * ensemble.size

    for stage in training(run, train, steps, train_symbols, options.limit, items=(characters, "chars")):
        params = jax.device_get(stage.train.params)
        speed = stage.rate * characters
        valid = ensemble.map(lambda params: validation_loss(model, params, symbols, text.num_train))(params)
        losses = Losses(valid)
        stage.record(losses.lowest, **losses.columns, chars_per_second=speed)
        run.plot({f"order-{ORDER} n-gram": ngram}, "nats per character", f"{options.cell} on {text.name}")
        stage.say(f"validation {losses} (order-{ORDER} n-gram {ngram:.3f}), {speed:,.0f} chars/s")
        key = jax.random.fold_in(jax.random.key(options.seed), stage.step)
        sample = generate(model, ensemble.member(params, losses.best), prompt, 150, key, sampling.temperature)
        stage.show(textwrap.indent(decode(sample, text.alphabet), "    | ", lambda line: True))

    uniform = f"uniform over all symbols {math.log(num_symbols):.3f}"
    print_table(
        **summary(options, run),
        baselines=f"order-{ORDER} n-gram {ngram:.3f}, {uniform}",
        curves=run.curves,
        checkpoints=f"{run.path / 'checkpoints'}: latest {run.checkpoints.step}, best {run.checkpoints.best_step}",
        sample=run.command("--sample", "500"),
    )
    return run


def summary(options: Options, run: Run) -> dict[str, str]:
    """Returns the final losses of a run's models, its time and its speed, as lines of a table."""
    last = run.last
    several = len(options.members) > 1
    loss = f"{last['valid_loss']:z.3f} nats per character, {last['valid_loss'] / math.log(2):z.3f} bits"
    lines = {"validation": f"{loss}; best {run.best['valid_loss']:z.3f} nats{', means of all models' * several}"}
    for n, (seed, learning_rate) in enumerate(options.members if several else []):
        reached = last.get(f"member_{n}", 0.0)
        lines[f"model {n}"] = f"seed {seed}, learning rate {learning_rate:g}: validation {reached:z.3f}"
    lines["training"] = f"{last['train_loss']:z.3f} at the end, after {last['step']:,.0f} steps"
    lines["time"] = f"{duration(last['seconds'])}, {last['chars_per_second']:,.0f} characters per second"
    return lines


def print_sample(options: Options, folder: RunFolder, sampling: Sampling, length: int) -> None:
    config = read_config(folder.existing)
    alphabet = config["notes"]["alphabet"]
    prompt = encode(sampling.prompt or line_end(alphabet), alphabet)
    model = make_model(options, len(alphabet))
    run = Run.open(folder.existing)
    params = best_params(options, run, jax.eval_shape(lambda: begin_all(options, model, len(alphabet))))
    sample = generate(model, params, prompt, length, jax.random.key(options.seed), sampling.temperature)
    print(sampling.prompt + decode(sample, alphabet))


def main(options: Options, folder: RunFolder, sampling: Sampling) -> None:
    if sampling.sample is None:
        train_model(options, folder, sampling)
    else:
        print_sample(options, folder, sampling, sampling.sample)


if __name__ == "__main__":
    launch(main, Options, RunFolder, Sampling, started=process_start())
