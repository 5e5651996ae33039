"""A character language model: trains on any text, and generates similar text one character at a time.

The model is that of A. Karpathy's char-rnn (2015). Losses are in nats per character. With several --seeds or several
values of --learning-rate, several models train at the same time in one program.
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
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from data.ngrams import ngram_losses
from data.text import Text, decode, encode, line_end
from data.windows import Streams
from jax import Array
from jax.sharding import Mesh
from models.language_model import loss_of_window, validation_loss
from support.cells import count_parameters, make_cell, scale_input_weights
from support.clock import duration, process_start
from support.command_line import launch
from support.devices import BATCH, COPIED, constrain, gathered, make_mesh, parameter_specs, shardings, value_and_grad
from support.distributed import is_first
from support.ensemble import Ensemble, Losses, best_member, mean_of_finite
from support.errors import BadInputError
from support.feeding import Block, Feed
from support.options import Cluster, Devices, OptionGroup, RunFolder, RunOptions, above, at_least, rate
from support.progress import print_table
from support.run import Run, read_config
from support.schedule import warmup_cosine
from support.training import Steps, many_steps, training

import jaxrnn

ORDER = 5  # order of the n-gram, the best one for one to four megabytes of text
NGRAM_CHARACTERS = 4_000_000  # largest number of training characters that the n-gram counts


@dataclass(frozen=True)
class Options(RunOptions):
    data: Path | None = None  # A UTF-8 text. None: the running Python's standard library
    cell: str = "LSTM"  # Name of a cell in jaxrnn
    hidden_size: int = 256  # Hidden size of each layer
    layers: int = 1  # Number of recurrent layers
    dropout: float = 0.2  # Dropout rate after each layer
    sequence_length: int = 64  # Length of each training window; the state carries over to the next one
    batch: int = 32  # Batch size: number of streams in which the text is read
    learning_rate: tuple[float, ...] = (8e-3,)  # Peak learning rate. Several values train one model each
    seeds: int = 1  # Number of random seeds, from --seed. Each trains one model
    devices: Devices = "auto"  # Devices that share each batch. auto: one for a CPU with the native loop, else all
    shard_parameters: bool = False  # Split the parameters and the state of the optimizer over the devices, too
    layout: ClassVar[tuple[str, ...]] = ("devices", "shard_parameters")

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
    """The training state."""

    step: Array
    params: Any
    adam: Any
    state: Any  # recurrent state of the streams
    learning_rate: Array  # peak


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99))


def begin(options: Options, model: jaxrnn.Stack, num_symbols: int, seed: Array, learning_rate: Array) -> Train:
    first, *others = model.init(jax.random.key(seed), num_symbols)
    params = (scale_input_weights(model.layers[0], first, num_symbols), *others)
    state = model.initial_state(params, (options.batch,))
    return Train(jnp.int32(0), params, optimizer.init(params), state, learning_rate)


def loss_fn(model: jaxrnn.Stack, params: Any, window: Array, state: Any, keys: Array) -> tuple[Array, Any]:
    """Returns the mean loss of each character of a window given those before it, and the state after the window."""
    return loss_of_window(model, params, window[:-1], window[1:], state, key=keys)


def update(
    options: Options, model: jaxrnn.Stack, mesh: Mesh, train: Train, block: Block, key: Array, progress: Array
) -> tuple[Train, Array]:
    """Runs one training step, on the next window of every stream."""
    window = block.at(train.step).astype(jnp.int32)

    # The streams take turns restarting from the initial state, which validation and sampling start from too.
    restarts = jnp.arange(options.batch) == train.step % options.batch
    state = jaxrnn.ops.where(restarts, model.initial_state(train.params, (options.batch,)), train.state)

    split = options.shard_parameters
    gradient_of = value_and_grad(partial(loss_fn, model), mesh, split)
    (loss, state), gradient = gradient_of(train.params, window, state, key)
    direction, adam = optimizer.update(gradient, train.adam)
    scale = -train.learning_rate * warmup_cosine(train.step, progress)
    params = optax.apply_updates(train.params, optax.tree.scale(scale, direction))
    params, adam = constrain((params, adam), mesh, split)
    return Train(train.step + 1, params, adam, state, train.learning_rate), loss


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


def begin_on(mesh: Mesh, options: Options, model: jaxrnn.Stack, num_symbols: int) -> Train:
    """Initializes the training state on the devices of a mesh, each part on the devices that keep it."""
    one = jax.eval_shape(partial(begin, options, model, num_symbols), jnp.uint32(0), jnp.float32(0))
    params, adam = parameter_specs((one.params, one.adam), mesh, options.shard_parameters)
    fields: Any = COPIED, params, adam, jax.tree.map(lambda _: BATCH, one.state), COPIED
    specs = Train(*fields)
    kept = shardings(mesh, Ensemble(len(options.members)).specs(specs))
    return jax.jit(partial(begin_all, options, model, num_symbols), out_shardings=kept)()


def make_steps(options: Options, model: jaxrnn.Stack, mesh: Mesh) -> Steps:
    """Returns a compiled function that runs many training steps; see `many_steps`."""
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


def streams_of(options: Options, text: Text) -> Streams:
    """Returns the streams of the training text, in which it is circular, so that the states carry over forever."""
    return Streams(
        text.symbols, text.num_train, options.batch, options.sequence_length, circular=True, unit="characters"
    )


def train_model(options: Options, folder: RunFolder, sampling: Sampling) -> Run:
    text = Text.of(options.data)
    num_symbols = len(text.alphabet)
    streams = streams_of(options, text)
    prompt = encode(line_end(text.alphabet), text.alphabet)

    mesh = make_mesh(options.devices, options.batch)
    model = make_model(options, num_symbols)
    ensemble = Ensemble(len(options.members))
    train = begin_on(mesh, options, model, num_symbols)
    steps = make_steps(options, model, mesh)
    feed = Feed(streams.cut, mesh, options.batch)

    run = Run(folder, options, facts={"data": text.digest}, notes={"alphabet": text.alphabet})
    counted = min(text.num_train, NGRAM_CHARACTERS)
    ngram = ngram_losses(text.symbols[text.num_train - counted :], counted, num_symbols, ORDER)[-1]
    of_part = f" on the last {counted:,} training characters" if counted < text.num_train else ""
    size = count_parameters(train.params) // ensemble.size
    print(f"data    {text}")
    print(f"n-gram  order {ORDER}, interpolated Witten-Bell{of_part}: {ngram:.3f} nats per character")
    print(f"model   {model}, {size:,} parameters" + (f", {ensemble.size} models" if ensemble.size > 1 else ""))
    print(f"device  {mesh.size} x {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores")
    print(f"run     {run.path}", flush=True)

    first = max(0, text.num_train - 129)  # what validation reads
    symbols = text.symbols[first:]
    characters = options.batch * options.sequence_length * ensemble.size

    for stage in training(run, train, steps, feed, options.limit, items=(characters, "chars")):
        params = gathered(stage.train.params, mesh)
        speed = stage.rate * characters
        valid_of = partial(validation_loss, model, symbols=symbols, num_train=text.num_train - first, mesh=mesh)
        losses = Losses(ensemble.map(lambda params, valid_of=valid_of: valid_of(params=params))(params))
        stage.record(losses.lowest, **losses.columns, chars_per_second=speed)
        run.plot({f"order-{ORDER} n-gram": ngram}, "nats per character", f"{options.cell} on {text.name}")
        stage.say(f"validation {losses} (order-{ORDER} n-gram {ngram:.3f}), {speed:,.0f} chars/s")
        if is_first():
            key = jax.random.fold_in(jax.random.key(options.seed), stage.step)
            best = ensemble.member(jax.device_get(params), losses.best)
            sample = generate(model, best, prompt, 150, key, sampling.temperature)
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
    """Returns the final losses, the time and the speed of a run, as rows of a table."""
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
    launch(main, Options, RunFolder, Sampling, Cluster, started=process_start())
