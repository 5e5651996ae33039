"""A sequence to another: written dates to ISO dates, sums, sentences; with attention and without, by beam search.

dates (default): 'saturday, 9 may 1998', '9/5/98' and other ways to write a day of 1950 to 2049 -> '1998-05-09'. No day
of the test is one of training, however it is written.
addition: '123+45' -> '168', three digits at most, after the Keras example "Sequence to sequence learning for performing
number addition": 45,000 sums for training, 5,000 others held out; an epoch is 45,000 sums drawn.
--data FOLDER: parallel text, tokenised, one sentence a line, in train, dev and test.SUFFIX of either side. BLEU is
sacrebleu's, of the tokens as they are.

Encoder and decoder without attention are as those of Sutskever et al. 2014 and Cho et al. 2014, the encoder
bidirectional; attention is that of Luong et al. 2015, global or local, by their scores or that of Bahdanau et al. 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import common  # first: its clock starts the run's
import jax
import jax.numpy as jnp
import numpy as np
import optax
from attention import Attention
from common import BadInputError
from jax import Array
from pairs import additions, arrays, as_tokens, dates, draw, parallel_text
from seq2seq import Translator, search

BUCKETS, DEV = 4, 500  # of sentences by length; pairs of dev that are looked at


@dataclass(frozen=True)
class Config(common.Config):
    data: Path | None = None  # A folder of parallel text; None: --task
    source: str = "src"  # Suffix of the source's files
    target: str = "trg"  # Suffix of the target's files
    task: Literal["dates", "addition"] = "dates"  # What is generated where there is no --data
    attention: Literal["none", "dot", "general", "additive"] = "general"  # The score, or no attention
    window: float | None = None  # Of local attention around a predicted position, in symbols; None: global
    input_feeding: bool = False  # Whether the decoder reads what it attended to a step before
    cell: str = "LSTM"  # A cell of jaxrnn, by name
    hidden_size: int = 128  # Of the decoder; of the encoder half in each direction
    embedding_size: int = 64  # Of either side's symbols
    dropout: float = 0.2  # Share of embeddings and of the decoder's outputs dropped
    batch: int = 64  # Sequences an update
    learning_rate: float = 2e-3  # Its highest value
    beam: int = 5  # Width of the beam search on the test set
    power: float = 1.0  # Beam search ranks by log p / length ** power

    def check(self) -> None:
        super().check()
        common.at_least(1, embedding_size=self.embedding_size, batch=self.batch, beam=self.beam)
        common.above(0, learning_rate=self.learning_rate, window=1 if self.window is None else self.window)
        common.at_least(0, power=self.power)
        if self.hidden_size < 4 or self.hidden_size % 4:
            raise BadInputError(f"--hidden-size must be a multiple of 4 above 0, but it is {self.hidden_size}")
        if not 0 <= self.dropout < 1:
            raise BadInputError(f"--dropout must be from 0 to below 1, but it is {self.dropout}")
        if self.attention == "none" and (self.input_feeding or self.window is not None):
            raise BadInputError("--input-feeding and --window are of attention, but --attention is none")


def make_model(config: Config, num_target: int) -> Translator:
    half, cell = (common.make_cell(config.cell, size) for size in (config.hidden_size // 2, config.hidden_size))
    if config.attention != "none":
        cell = Attention(cell, config.attention, config.window, config.input_feeding)
    return Translator(half, cell, config.embedding_size, config.dropout, num_target)


class Train(NamedTuple):
    """All that training changes."""

    step: Array
    params: Any
    adam: Any


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


def begin(config: Config, model: Translator, num_source: int) -> Train:
    params = model.init(jax.random.key(config.seed), num_source)
    return Train(jnp.int32(0), params, optimizer.init(params))


@partial(jax.jit, static_argnames=("config", "model"), donate_argnames="train")
def update(
    config: Config, model: Translator, buckets: Any, train: Train, updates: Array, schedule: Any
) -> tuple[Train, Array]:
    """Makes some updates and returns their mean loss. Each draws a bucket, then pairs of it."""

    def learn(pairs: Any, params: Any, key: Array) -> tuple[Array, Any]:
        k_batch, k_dropout = jax.random.split(key)
        chosen = jax.random.randint(k_batch, (config.batch,), 0, pairs[1].size)
        return jax.value_and_grad(model.loss)(params, [x[..., chosen] for x in pairs], k_dropout)

    def one(_: int, carry: tuple[Train, Array]) -> tuple[Train, Array]:
        train, total = carry
        k_bucket, key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), train.step))
        branches = [partial(learn, pairs) for pairs in buckets]  # of as many shapes
        loss, gradient = jax.lax.switch(jax.random.randint(k_bucket, (), 0, len(buckets)), branches, train.params, key)
        direction, adam = optimizer.update(gradient, train.adam)
        progress = schedule[0] + schedule[1] * train.step
        rate = config.learning_rate * jnp.minimum(1, (train.step + 1) / 100) * (0.5 + 0.5 * jnp.cos(jnp.pi * progress))
        params = optax.apply_updates(train.params, optax.tree.scale(-rate, direction))
        return Train(train.step + 1, params, adam), total + loss

    train, total = jax.lax.fori_loop(0, updates, one, (train, jnp.float32(0)))
    return train, total / updates


def translate(
    model: Translator, params: Any, data: Any, steps: int, width: int = 1, power: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs [steps, sources] and their log p, a few hundred at once."""
    sources, lengths, *_ = data
    parts = np.array_split(np.arange(len(lengths)), -(-len(lengths) // 500))
    found = [search(model, params, sources[:, part], lengths[part], steps, width, power) for part in parts]
    outputs, log_p = zip(*found, strict=True)
    return np.concatenate(outputs, -1), np.concatenate(log_p)


def main_function(config: Config) -> None:
    if config.data is not None:
        data = parallel_text(config.data, config.source, config.target)
    else:
        data = dates() if config.task == "dates" else additions()
    vocabularies = data.vocabulary(0), data.vocabulary(1)
    model = make_model(config, len(vocabularies[1]))
    train = begin(config, model, len(vocabularies[0]))
    run = common.Run(config, facts={"data": data.digest})
    print(f"data    {data}")
    print(f"symbols {len(vocabularies[0]):,} of the source, {len(vocabularies[1]):,} of the target")
    print(f"model   {model.decoder}, {sum(leaf.size for leaf in jax.tree.leaves(train.params)):,} parameters")
    print(f"run     {run.path}", flush=True)

    # Pairs of like lengths, so that little of a batch is padding.
    ordered = sorted(data.train, key=lambda pair: (len(pair[1]), len(pair[0])))
    cuts = np.linspace(0, len(ordered), min(BUCKETS if data.words else 1, len(ordered)) + 1).astype(int)
    buckets = [jax.device_put(arrays(ordered[a:b], *vocabularies)) for a, b in pairwise(cuts)]
    dev, test = (arrays(pairs, *vocabularies) for pairs in (data.dev[:DEV], data.test))
    loss_of = jax.jit(Translator.loss, static_argnums=0)
    for stage in common.training(config, run, train, partial(update, config, model, buckets)):
        params, epoch = stage.train.params, stage.step * config.batch / len(data.train)
        written, _ = translate(model, params, dev, data.longest)
        score, valid_loss = (
            data.score_of(as_tokens(written, vocabularies[1]), data.dev[:DEV]),
            loss_of(model, params, dev),
        )
        stage.record(-score, valid_loss=float(valid_loss), quality=score, epoch=epoch)
        run.plot({}, "nats per symbol", f"{config.attention} attention on {data.name}")
        stage.say(f"validation {valid_loss:.3f}, {score:.1f} {data.unit}, epoch {epoch:.1f}")

    train, _ = jax.device_put(run.checkpoints.best(jax.eval_shape(lambda: (train, 0.0))))
    results, outputs, written = {}, [], np.empty(0)
    for width in sorted({1, config.beam}):  # the widest last: its outputs are shown
        written, log_p = translate(model, train.params, test, data.longest, width, config.power)
        outputs = as_tokens(written, vocabularies[1])
        name = f"beam of {width}" if width > 1 else "greedy"
        results[name] = f"{data.score_of(outputs, data.test):.2f} {data.unit} on test, log p {log_p.mean():.3f}"
    if config.attention != "none":
        weights = np.asarray(model.alignment(train.params, *(jnp.asarray(x[..., :4]) for x in (*test[:2], written))))
        sides = [([*source, "</s>"], [*out, "</s>"]) for (source, _), out in zip(data.test, outputs, strict=True)]
        draw(run.path / "attention.png", [(weights[:, n], *sides[n]) for n in range(min(4, len(sides)))])
        results["attention"] = str(run.path / "attention.png")
    reached = [row["epoch"] for row in run.rows if row["quality"] >= 99]
    for (source, right), out in zip(data.test[:3], outputs, strict=False):
        print(
            "    | ", *(("" if not data.words else " ").join(tokens) for tokens in (source, out, right)), sep="\n    | "
        )
    common.print_table(
        **results,
        baseline=f"{data.score_of(data.nearest(), data.test):.2f} {data.unit}: the target of the most similar source",
        checkpoint=f"of update {run.checkpoints.best_step:,}, {run.best['quality']:.2f} {data.unit} on validation",
        epochs=f"{run.rows[-1]['epoch']:.1f}"
        + (f"; 99 {data.unit} on validation by {reached[0]:.1f}" if reached else ""),
        time=common.span(run.rows[-1]["seconds"]),
        curves=f"{run.path / 'curves.png'}, {run.path / 'metrics.csv'}",
    )


def main() -> None:
    common.run(main_function, Config)


if __name__ == "__main__":
    main()
