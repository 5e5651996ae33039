"""A character language model: learns to write from any text, one character after the other.

In the manner of A. Karpathy's char-rnn (2015). Losses are in nats per character.
"""

from __future__ import annotations

import math
import os
import textwrap
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import common  # first: its clock starts the run's
import ensemble
import jax
import jax.numpy as jnp
import optax
from common import BadInputError
from devices import AXIS, BATCH, MEMBERS_BATCH, SHARED, TIME_BATCH, Devices, make_mesh, place
from jax import Array
from jax.sharding import Mesh
from text import Text, decode, encode, line_end, ngram_losses, validation_loss, write

import jaxrnn

ORDER = 5  # of the n-gram: the best on a megabyte


@dataclass(frozen=True)
class Config(ensemble.Config):
    data: Path | None = None  # A UTF-8 text; None: the running Python's standard library
    cell: str = "LSTM"  # A cell of jaxrnn, by name
    hidden_size: int = 256  # Size of each layer's state
    layers: int = 1  # Recurrent layers
    dropout: float = 0.2  # Share of the outputs dropped after each layer
    sequence_length: int = 64  # Characters the gradient goes back; the state goes on
    batch: int = 32  # Places in the text read side by side
    learning_rate: tuple[float, ...] = (8e-3,)  # Its highest value; of several, each trains models of its own
    devices: Devices = "all"  # That share each batch; on a CPU, its cores
    sample: int | None = None  # Only write so many characters, from the best checkpoint in --run-dir
    prompt: str = ""  # What samples go on from; if empty, the beginning of a line
    temperature: float = 0.8  # Of samples: 1 as likely as in the model, 0 always the likeliest character

    of_the_call: ClassVar[tuple[str, ...]] = (*common.Config.of_the_call, "sample", "prompt", "temperature")

    def check(self) -> None:
        super().check()
        common.at_least(1, hidden_size=self.hidden_size, layers=self.layers, batch=self.batch)
        common.at_least(1, sequence_length=self.sequence_length, sample=1 if self.sample is None else self.sample)
        common.at_least(0, temperature=self.temperature)
        if not 0 <= self.dropout < 1:
            raise BadInputError(f"--dropout must be from 0 to below 1, but it is {self.dropout}")


def make_model(config: Config, num_symbols: int) -> jaxrnn.Stack:
    cell = common.make_cell(config.cell, config.hidden_size, num_symbols)
    dropout = [jaxrnn.Dropout(config.dropout)] if config.dropout else []
    return jaxrnn.Stack(*[cell, *dropout] * config.layers, jaxrnn.Dense(num_symbols))


class Member(NamedTuple):
    """A model in training. Where there are several, each array has an axis of them in front."""

    params: Any
    adam: Any
    state: Any  # of the streams
    key: Any  # for dropout
    learning_rate: Any


class Train(NamedTuple):
    """All that training changes."""

    step: Any
    position: Any  # of the next window, from each stream's start
    members: Any


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99))


def begin(config: Config, model: jaxrnn.Stack, num_symbols: int) -> Train:
    def one(seed: Array, learning_rate: Array) -> Member:
        params = model.init(key := jax.random.key(seed), num_symbols)
        # The initial law expects all input features at once, but of symbols there is one at a time.
        scaled = {"w_x": params[0].w_x * num_symbols**0.5} if hasattr(params[0], "w_x") else {}
        params, state = (params[0]._replace(**scaled), *params[1:]), model.initial_state(params, (config.batch,))
        return Member(params, optimizer.init(params), state, jax.random.key_data(key), learning_rate)

    return Train(jnp.int32(0), jnp.int32(0), config.begin(one))


@partial(jax.jit, static_argnames=("config", "model", "mesh"), donate_argnames="train")
def update(
    config: Config, model: jaxrnn.Stack, mesh: Mesh, symbols: Array, train: Train, updates: Array, schedule: Any
) -> tuple[Train, Array]:
    """Makes some updates and returns their mean loss. Each reads the next window of every stream."""
    # The text is a ring on which the streams go round behind one another: no window is the last, no state is lost.
    starts = jnp.arange(config.batch) * (len(symbols) // config.batch)

    def loss_and_state(params: Any, window: Array, state: Any, key: Array) -> tuple[Array, Any]:
        key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
        state, logits = jaxrnn.unroll(model, params, window[:-1], state, key=key)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, window[1:]).mean()
        return jax.lax.pmean(loss, AXIS), state

    gradient_of = jax.shard_map(  # on each device of its streams; the gradients are summed
        jax.value_and_grad(loss_and_state, has_aux=True),
        mesh=mesh,
        in_specs=(SHARED, TIME_BATCH, BATCH, SHARED),
        out_specs=((SHARED, BATCH), SHARED),
    )

    def learn(member: Member, window: Array, step: Array) -> tuple[Member, Array]:
        # The streams take turns to begin anew, as validation and writing do, or the model would forget how to.
        anew = jnp.arange(config.batch) == step % config.batch
        state = jaxrnn.ops.where(anew, model.initial_state(member.params, (config.batch,)), member.state)
        key = jax.random.fold_in(jax.random.wrap_key_data(member.key), step)
        (loss, state), gradient = gradient_of(member.params, window, state, key)
        direction, adam = optimizer.update(gradient, member.adam)
        progress = schedule[0] + schedule[1] * step
        rate = member.learning_rate * jnp.minimum(1, (step + 1) / 100) * (0.5 + 0.5 * jnp.cos(jnp.pi * progress))
        params = optax.apply_updates(member.params, optax.tree.scale(-rate, direction))
        return member._replace(params=params, adam=adam, state=state), loss

    def one(_: int, carry: tuple[Train, Array]) -> tuple[Train, Array]:
        train, total = carry
        places = starts + train.position + jnp.arange(config.sequence_length + 1)[:, None]
        window = symbols[places % len(symbols)].astype(jnp.int32)
        members, losses = config.each(learn, 0, None, None)(train.members, window, train.step)
        position = (train.position + config.sequence_length) % len(symbols)
        return Train(train.step + 1, position, members), total + losses

    train, total = jax.lax.fori_loop(0, updates, one, (train, jnp.zeros_like(train.members.learning_rate)))
    losses = total / updates + 0 * config.each(optax.tree.norm, 0)(train.members.params)  # finite if parameters are
    return train, jnp.nanmean(jnp.where(jnp.isfinite(losses), losses, jnp.nan))  # so long as one model learns


def train_model(config: Config) -> None:
    text = Text.of(config.data)
    if text.num_train < config.batch * (config.sequence_length + 1):
        needed = f"one batch of windows takes {config.batch} * {config.sequence_length + 1}"
        raise BadInputError(f"{text.name} is too short: training has {text.num_train:,} characters, but {needed}")
    prompt = encode(config.prompt or line_end(text.alphabet), text.alphabet)
    mesh, model = make_mesh(config.devices, config.batch), make_model(config, len(text.alphabet))
    of_state = BATCH if config.alone else MEMBERS_BATCH
    specs = Train(SHARED, SHARED, Member(SHARED, SHARED, of_state, SHARED, SHARED))
    train = place(begin(config, model, len(text.alphabet)), mesh, specs)
    run = common.Run(config, facts={"data": text.digest}, notes={"alphabet": text.alphabet})
    ngram = ngram_losses(text.symbols, text.num_train, len(text.alphabet), ORDER)[-1]
    print(f"data    {text}")
    print(f"n-gram  order {ORDER}, interpolated Witten-Bell: {ngram:.3f} nats per character")
    number = sum(leaf.size for leaf in jax.tree.leaves(train.members.params)) // len(config.members)
    print(f"model   {model}, {number:,} parameters" + ("" if config.alone else f", {len(config.members)} times"))
    print(f"device  {mesh.size} x {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores")
    print(f"run     {run.path}", flush=True)

    symbols, characters = jax.device_put(text.symbols), config.batch * config.sequence_length * len(config.members)
    more = partial(update, config, model, mesh, symbols[: text.num_train])
    for stage in common.training(config, run, train, more, items=(characters, "chars")):
        params, speed = jax.device_get(stage.train.members.params), stage.rate * characters
        valid = config.each(lambda params: validation_loss(model, params, symbols, text.num_train), 0)(params)
        losses = ensemble.Losses(valid)
        stage.record(losses.least, **losses.columns, chars_per_second=speed)
        run.plot({f"order-{ORDER} n-gram": ngram}, "nats per character", f"{config.cell} on {text.name}")
        stage.say(f"validation {losses} (order-{ORDER} n-gram {ngram:.3f}), {speed:,.0f} chars/s")
        key = jax.random.fold_in(jax.random.key(config.seed), stage.step)
        written = write(model, config.member(params, losses.best), prompt, 150, key, config.temperature)
        stage.show(textwrap.indent(decode(written, text.alphabet), "    | ", lambda line: True))

    beside = f"order-{ORDER} n-gram {ngram:.3f}, every symbol alike {math.log(len(text.alphabet)):.3f}"
    common.print_table(
        **config.summary(run, beside),
        curves=f"{run.path / 'curves.png'}, {run.path / 'metrics.csv'}",
        checkpoints=f"{run.path / 'checkpoints'}: latest {run.checkpoints.step}, best {run.checkpoints.best_step}",
        write=run.command("--sample", "500"),
    )


def write_sample(config: Config, length: int) -> None:
    run_dir = common.existing_run_dir(config)
    alphabet = common.read_run(run_dir)["notes"]["alphabet"]
    prompt = encode(config.prompt or line_end(alphabet), alphabet)
    model = make_model(config, len(alphabet))
    run = common.Run(replace(config, resume=True), facts=common.read_run(run_dir)["facts"])
    params = config.best(run, jax.eval_shape(lambda: begin(config, model, len(alphabet))))
    written = write(model, params, prompt, length, jax.random.key(config.seed), config.temperature)
    print(config.prompt + decode(written, alphabet))


def main() -> None:
    common.run(lambda config: write_sample(config, config.sample) if config.sample else train_model(config), Config)


if __name__ == "__main__":
    main()
