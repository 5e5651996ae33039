"""From one sequence to another: written dates to ISO dates, sums, sentences; with or without attention.

dates (default): 'saturday, 9 may 1998', '9/5/98' and other ways to write a day of 1950 to 2049 -> '1998-05-09'. No day
of the test data is in the training data, however it is written.
addition: '123+45' -> '168', three digits at most, after the Keras example "Sequence to sequence learning for performing
number addition": 45,000 sums for training, 5,000 others held out. An epoch is 45,000 sums drawn at random.
--data FOLDER: parallel text, tokenized, one sentence per line, in train, dev and test.SUFFIX of either side: words, or
symbols such as letters and phonemes, separated by blanks. BLEU is that of sacrebleu on the given tokens. Beside it are
the percentage of exact matches and the error rate: insertions, deletions and substitutions per symbol of the targets.
The outputs for the test set are written to translations.tsv.

Encoder and decoder without attention are those of Sutskever et al. 2014 and Cho et al. 2014, with a bidirectional
encoder; attention is that of Luong et al. 2015, global or local, with their scores or that of Bahdanau et al. 2015.
"""

from __future__ import annotations

if __name__ == "__main__":
    from support.early import check_command_line

    check_command_line(__file__)  # before the imports below, which take seconds

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from data.sequence_pairs import SequencePairs, additions, arrays, as_tokens, dates, parallel_text
from jax import Array
from models.attention import Attention
from models.translator import Translator, search
from support.cells import count_parameters, make_cell
from support.clock import duration, process_start
from support.command_line import launch
from support.errors import BadInputError
from support.files import write_whole
from support.options import RunFolder, RunOptions, above, at_least, rate
from support.plots import figure, font_for
from support.progress import print_table
from support.run import Run
from support.schedule import warmup_cosine
from support.training import many_steps, step_keys, training

BUCKETS = 4  # of sentences of similar length
VALIDATED = 500  # pairs for validation
COLUMNS = ["source", "output", "target"]  # of translations.tsv


@dataclass(frozen=True)
class Options(RunOptions):
    data: Path | None = None  # A folder of parallel text. None: pairs of --task
    source: str = "src"  # Suffix of the source files
    target: str = "trg"  # Suffix of the target files
    task: Literal["dates", "addition"] = "dates"  # What to generate without --data
    attention: Literal["none", "dot", "general", "additive"] = "general"  # Attention score, or no attention
    window: float | None = None  # Width of local attention around a predicted position. None: global attention
    input_feeding: bool = False  # Whether the decoder also reads the attention output of the step before
    cell: str = "LSTM"  # Name of a cell in jaxrnn
    hidden_size: int = 128  # Hidden size of the decoder. Each direction of the encoder has half of it
    embedding_size: int = 64  # Size of the symbols' embeddings
    dropout: float = 0.2  # Dropout rate of embeddings and of the decoder's outputs
    batch: int = 64  # Number of pairs in a batch
    learning_rate: float = 2e-3  # Peak learning rate
    beam: int = 5  # Width of the beam search on the test set
    power: float = 1.0  # Beam search ranks outputs by log p / length ** power
    generators: ClassVar[tuple[str, ...]] = ("task",)

    def check(self) -> None:
        super().check()
        at_least(1, embedding_size=self.embedding_size, batch=self.batch, beam=self.beam)
        above(0, learning_rate=self.learning_rate, window=1 if self.window is None else self.window)
        at_least(0, power=self.power)
        rate(dropout=self.dropout)
        if self.hidden_size < 4 or self.hidden_size % 4:
            raise BadInputError(f"--hidden-size must be a multiple of 4 above 0, but it is {self.hidden_size}")
        if self.attention == "none" and (self.input_feeding or self.window is not None):
            raise BadInputError("--input-feeding and --window need attention, but --attention is none")


def make_model(options: Options, num_target: int) -> Translator:
    encoder_cell = make_cell(options.cell, options.hidden_size // 2)
    decoder_cell = make_cell(options.cell, options.hidden_size)
    if options.attention != "none":
        decoder_cell = Attention(decoder_cell, options.attention, options.window, options.input_feeding)
    return Translator(encoder_cell, decoder_cell, options.embedding_size, options.dropout, num_target)


class Train(NamedTuple):
    """Everything that training changes."""

    step: Array
    params: Any
    adam: Any


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


def begin(options: Options, model: Translator, num_source: int) -> Train:
    params = model.init(jax.random.key(options.seed), num_source)
    return Train(jnp.int32(0), params, optimizer.init(params))


def update(
    options: Options, model: Translator, train: Train, buckets: list[Any], key: Array, progress: Array
) -> tuple[Train, Array]:
    """Runs one training step, on pairs drawn from one of the buckets."""
    k_bucket, key = jax.random.split(key)

    def loss_and_gradient(pairs: Any, params: Any, key: Array) -> tuple[Array, Any]:
        k_batch, k_dropout = jax.random.split(key)
        drawn = jax.random.randint(k_batch, (options.batch,), 0, pairs[1].size)
        return jax.value_and_grad(model.loss)(params, [array[..., drawn] for array in pairs], k_dropout)

    branches = [partial(loss_and_gradient, pairs) for pairs in buckets]  # each of its own shape
    chosen = jax.random.randint(k_bucket, (), 0, len(buckets))
    loss, gradient = jax.lax.switch(chosen, branches, train.params, key)
    direction, adam = optimizer.update(gradient, train.adam)
    learning_rate = options.learning_rate * warmup_cosine(train.step, progress)
    params = optax.apply_updates(train.params, optax.tree.scale(-learning_rate, direction))
    return Train(train.step + 1, params, adam), loss


def translate(
    model: Translator, params: Any, pairs: Any, steps: int, width: int = 1, power: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns outputs [steps, sources] and their log p, computed for a few hundred sources at a time."""
    sources, lengths, *_ = pairs
    parts = np.array_split(np.arange(len(lengths)), -(-len(lengths) // 500))
    found = [search(model, params, sources[:, part], lengths[part], steps, width, power) for part in parts]
    outputs, log_p = zip(*found, strict=True)
    return np.concatenate(outputs, -1), np.concatenate(log_p)


def make_buckets(data: SequencePairs, vocabularies: tuple[list[str], list[str]]) -> list[Any]:
    """Returns the training pairs in buckets of similar lengths, so that batches have little padding."""
    ordered = sorted(data.train, key=lambda pair: (len(pair[1]), len(pair[0])))
    cuts = np.linspace(0, len(ordered), min(BUCKETS if data.words else 1, len(ordered)) + 1).astype(int)
    return [jax.device_put(arrays(ordered[a:b], *vocabularies)) for a, b in pairwise(cuts)]


def plot_attention(path: Path, maps: list[tuple[np.ndarray, list[str], list[str]]]) -> None:
    """Draws attention weights [target, source] beside the tokens of source and output."""
    fonts = [font_for("".join(token for each in maps for token in each[side])) for side in (1, 2)]
    labels = [
        name if font else f"{name}, by number: no installed font has its characters"
        for name, font in zip(("source", "output"), fonts, strict=True)
    ]
    with figure(path, rows=2, columns=2, figsize=(11, 9), grid=False) as (_, grid):
        for axes, (weights, source, output) in zip(grid.flat, maps, strict=False):
            axes.imshow(weights[: len(output), : len(source)], cmap="Blues", vmin=0, vmax=1, aspect="auto")
            for axis, tokens, font in zip((axes.xaxis, axes.yaxis), (source, output), fonts, strict=True):
                shown = tokens if font else [str(n) for n in range(1, 1 + len(tokens))]
                rotation = 90 if axis is axes.xaxis and max(map(len, shown)) > 1 else 0
                axis.set_ticks(range(len(shown)), shown, fontproperties=font, rotation=rotation, fontsize=9)
            axes.set(xlabel=labels[0], ylabel=labels[1])


def main(options: Options, folder: RunFolder) -> None:
    if options.data is not None:
        data = parallel_text(options.data, options.source, options.target)
    else:
        data = dates() if options.task == "dates" else additions()
    vocabularies = data.vocabulary(0), data.vocabulary(1)
    model = make_model(options, len(vocabularies[1]))
    train = jax.jit(partial(begin, options, model, len(vocabularies[0])))()
    like = jax.eval_shape(lambda: (train, 0.0))
    run = Run(folder, options, facts={"data": data.digest})
    print(f"data    {data}")
    print(f"symbols {len(vocabularies[0]):,} of the source, {len(vocabularies[1]):,} of the target")
    print(f"model   {model.decoder}, {count_parameters(train.params):,} parameters")
    print(f"run     {run.path}", flush=True)

    dev_pairs = data.dev[:VALIDATED]
    dev = arrays(dev_pairs, *vocabularies)
    test = arrays(data.test, *vocabularies)
    loss_of = jax.jit(Translator.loss, static_argnums=0)
    steps = many_steps(partial(update, options, model), step_keys(options.seed))
    for stage in training(run, train, steps, make_buckets(data, vocabularies), options.limit):
        params = stage.train.params
        epoch = stage.step * options.batch / len(data.train)
        outputs, _ = translate(model, params, dev, data.longest)
        score = data.score_of(as_tokens(outputs, vocabularies[1]), dev_pairs)
        valid_loss = float(loss_of(model, params, dev))
        stage.record(-score, valid_loss=valid_loss, quality=score, epoch=epoch)
        run.plot({}, "nats per symbol", f"{options.attention} attention on {data.name}")
        stage.say(f"validation {valid_loss:z.3f}, {score:.1f} {data.unit}, epoch {epoch:.1f}")

    train, _ = jax.device_put(run.checkpoints.best(like))
    results, tokens, outputs = {}, [], np.empty(0)
    for width in sorted({1, options.beam}):  # the widest last: its outputs are shown
        outputs, log_p = translate(model, train.params, test, data.longest, width, options.power)
        tokens = as_tokens(outputs, vocabularies[1])
        name = f"beam of {width}" if width > 1 else "greedy"
        results[name] = f"{data.scores(tokens, data.test)} on test, log p {log_p.mean():z.3f}"
    if options.attention != "none":
        first = (jnp.asarray(array[..., :4]) for array in (*test[:2], outputs))
        weights = np.asarray(jax.jit(Translator.alignment, static_argnums=0)(model, train.params, *first))
        sides = [([*source, "</s>"], [*out, "</s>"]) for (source, _), out in zip(data.test, tokens, strict=True)]
        picture = run.path / "attention.png"
        plot_attention(picture, [(weights[:, n], *sides[n]) for n in range(min(4, len(sides)))])
        results["attention"] = str(picture)
    separator = " " if data.words else ""
    lines = [
        [separator.join(side) for side in (source, out, target)]
        for (source, target), out in zip(data.test, tokens, strict=True)
    ]
    write_whole(run.path / "translations.tsv", "".join("\t".join(line) + "\n" for line in [COLUMNS, *lines]))
    for line in lines[:3]:
        print("    | ", *line, sep="\n    | ")
    reached = [row["epoch"] for row in run.rows if row["quality"] >= 99]
    soon = f"; 99 {data.unit} on validation by {reached[0]:.1f}" if reached else ""
    print_table(
        **results,
        baseline=f"{data.scores(data.nearest(), data.test)}: the target of the most similar source",
        checkpoint=f"step {run.checkpoints.best_step:,}, {run.best['quality']:.2f} {data.unit} on validation",
        epochs=f"{run.last['epoch']:.1f}{soon}",
        time=duration(run.last["seconds"]),
        translations=str(run.path / "translations.tsv"),
        curves=run.curves,
    )


if __name__ == "__main__":
    launch(main, Options, RunFolder, started=process_start())
