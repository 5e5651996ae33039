"""Speech recognition with connectionist temporal classification (CTC): phonemes or characters from sound.

A bidirectional network reads log-mel features of the sound. It learns from transcripts without alignments. Its outputs
are decoded greedily and by prefix beam search, with and without a bigram.

Synthesized speech (no --data): random words of 18 phonemes, pronounced by many speakers, in noise; see
data/synthesized_speech.py. No speaker is in two splits. One test utterance is written to utterance.wav.
--data FOLDER: WAV files (8 to 32 bits or floats, any number of channels, 4 kHz or more, at most 40 seconds) with
transcripts: in NAME.txt beside NAME.wav, or in lines "NAME text" of files transcripts.txt or *.trans.txt. There, NAME
is a path relative to the folder of the list, with or without .wav. Names without a recording are ignored. All
recordings are resampled to the lowest rate among them, at most 16 kHz. If there are subfolders, each is a speaker,
whose recordings are all in one split. Otherwise the recordings are split at random. With --units characters, symbols
are letters in lower case, digits, apostrophes and blanks. With --units tokens, they are the parts of a transcript
between blanks, such as phonemes.

Baselines: a network without recurrence, which reads a window of steps around each step and is trained with CTC on the
same batches; and for synthesized speech, scikit-learn's linear discriminant analysis of single steps, which learns from
the true alignments. The error rate is that of phonemes or characters: insertions, deletions and substitutions per
symbol.

References: A. Graves et al., "Connectionist temporal classification", 2006; A. Graves, A. Mohamed, G. Hinton, "Speech
recognition with deep recurrent neural networks", 2013.
"""

from __future__ import annotations

if __name__ == "__main__":
    from support.early import check_command_line

    check_command_line(__file__)  # before the imports below, which take seconds

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from data.aligned_frames import aligned_baseline
from data.recordings import recordings
from data.sequence_pairs import error_rate
from data.spectrograms import HOP_SECONDS, WINDOW_SECONDS, band_edges, center, log_mel
from data.synthesized_speech import synthesized_speech
from data.utterances import Batch, Utterance, as_arrays, labels_of
from jax import Array
from models import ctc
from scipy.io import wavfile
from support.cells import count_parameters, make_cell
from support.clock import duration, process_start
from support.command_line import launch
from support.errors import BadInputError
from support.files import whole_file, write_whole
from support.options import RunFolder, RunOptions, above, at_least, rate
from support.plots import GRAY, figure, font_for
from support.progress import print_table
from support.run import Run
from support.schedule import warmup_cosine
from support.training import many_steps, step_keys, training

import jaxrnn

BUCKETS = 2  # of utterances of similar length
AROUND = 5  # steps on either side that the network without recurrence reads
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the bigram; the best on validation data is used
TOGETHER = 100  # utterances in one evaluation
TYPICAL = 12  # symbols of the utterance that is drawn
SPACE = "␣"  # how it is drawn
COLUMNS = ["utterance", "said", "greedy", "beam", "bigram"]  # of decoded.tsv


@dataclass(frozen=True)
class Options(RunOptions):
    data: Path | None = None  # A folder of WAV files with transcripts. None: synthesized speech
    units: Literal["characters", "tokens"] = "characters"  # Symbols of transcripts: characters, or parts between blanks
    stack: int = 2  # Number of frames of 10 ms that are joined into one step
    cell: str = "LSTM"  # Name of a cell in jaxrnn
    hidden_size: int = 64  # Hidden size of each layer, in each direction
    layers: int = 1  # Number of bidirectional layers
    dropout: float = 0.3  # Dropout rate after each layer
    batch: int = 32  # Number of utterances in a batch
    learning_rate: float = 5e-3  # Peak learning rate
    beam: int = 16  # Width of the beam search
    minutes: float = 3.0  # Time limit of the run in minutes, start-up included

    def check_given(self, names: frozenset[str]) -> None:
        super().check_given(names)
        if "units" in names and self.data is None:
            raise BadInputError("--units has no effect without --data: synthesized speech has phonemes")

    def check(self) -> None:
        super().check()
        at_least(1, stack=self.stack, hidden_size=self.hidden_size, layers=self.layers)
        at_least(1, batch=self.batch, beam=self.beam)
        above(0, learning_rate=self.learning_rate)
        rate(dropout=self.dropout)


class Network(NamedTuple):
    """A network that outputs logits of the blank and of the symbols at each step."""

    name: str
    layers: jaxrnn.Stack

    def logits(self, params: Any, xs: Array, lengths: Array, key: Array | None = None) -> Array:
        return jaxrnn.unroll(self.layers, params, xs, lengths=lengths, key=key)[1]


def make_networks(options: Options, num_labels: int) -> tuple[Network, Network]:
    """Returns the bidirectional network, and the one without recurrence, which has one hidden layer more."""
    dropout, head = jaxrnn.Dropout(options.dropout), jaxrnn.Dense(1 + num_labels)
    both = jaxrnn.Bidirectional(make_cell(options.cell, options.hidden_size))
    wide = jaxrnn.Dense(2 * options.hidden_size)
    window = jaxrnn.Bidirectional(jaxrnn.Window(1 + AROUND))
    return (
        Network(f"bidirectional {options.cell}", jaxrnn.Stack(*[both, dropout] * options.layers, head)),
        Network(
            f"window of {2 * AROUND + 1} steps",
            jaxrnn.Stack(window, *[wide, jax.nn.relu, dropout] * (1 + options.layers), head),
        ),
    )


class Train(NamedTuple):
    """Everything that training changes."""

    step: Array
    params: dict[str, Any]  # of each network
    adam: dict[str, Any]


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99))


def begin(options: Options, networks: tuple[Network, ...], num_features: int) -> Train:
    keys = jax.random.split(jax.random.key(options.seed), len(networks))
    params = {net.name: net.layers.init(key, num_features) for net, key in zip(networks, keys, strict=True)}
    return Train(jnp.int32(0), params, {name: optimizer.init(p) for name, p in params.items()})


def loss_fn(params: Any, network: Network, batch: Batch, key: Array) -> Array:
    """Returns the loss in nats per symbol."""
    logits = network.logits(params, batch.xs, batch.lengths, key)
    losses = ctc.losses(logits, batch.lengths, batch.labels, batch.sizes)
    return losses.sum() / jnp.maximum(batch.sizes.sum(), 1)


def update(
    options: Options, networks: tuple[Network, ...], train: Train, buckets: list[Batch], key: Array, progress: Array
) -> tuple[Train, Array]:
    """Runs one training step of all networks, on the same utterances of one bucket. Returns the first one's loss."""
    k_bucket, k_batch, k_dropout = jax.random.split(key, 3)

    def losses_and_gradients(bucket: Batch, params: dict[str, Any]) -> dict[str, Any]:
        drawn = jax.random.randint(k_batch, (options.batch,), 0, len(bucket.sizes))
        batch = Batch(bucket.xs[:, drawn], bucket.lengths[drawn], bucket.labels[drawn], bucket.sizes[drawn])
        keys = jax.random.split(k_dropout, len(networks))
        return {
            net.name: jax.value_and_grad(loss_fn)(params[net.name], net, batch, k_net)
            for net, k_net in zip(networks, keys, strict=True)
        }

    branches = [partial(losses_and_gradients, bucket) for bucket in buckets]  # each of its own shape
    found = jax.lax.switch(jax.random.randint(k_bucket, (), 0, len(buckets)), branches, train.params)
    learning_rate = options.learning_rate * warmup_cosine(train.step, progress)
    params, adam = {}, {}
    for name, (_, gradient) in found.items():
        direction, adam[name] = optimizer.update(gradient, train.adam[name])
        params[name] = optax.apply_updates(train.params[name], optax.tree.scale(-learning_rate, direction))
    return Train(train.step + 1, params, adam), found[networks[0].name][0]


def make_buckets(utterances: list[Utterance], vocabulary: list[str], stack: int) -> list[Batch]:
    """Returns the training utterances in buckets of similar lengths, so that batches have little padding."""
    ordered = sorted(utterances, key=lambda utterance: len(utterance.features))
    cuts = np.linspace(0, len(ordered), min(BUCKETS, len(ordered)) + 1).astype(int)
    return [jax.device_put(as_arrays(ordered[a:b], vocabulary, stack)) for a, b in pairwise(cuts)]


@partial(jax.jit, static_argnames="network")
def outputs_and_losses(network: Network, params: Any, batch: Batch) -> tuple[Array, Array]:
    """Returns log probabilities [time, utterances, 1 + labels], and the losses of the utterances."""
    logits = network.logits(params, batch.xs, batch.lengths)
    return jax.nn.log_softmax(logits), ctc.losses(logits, batch.lengths, batch.labels, batch.sizes)


class Outputs(NamedTuple):
    """What a network outputs for some utterances.

    Attributes:
      log_probs: Log probabilities [steps, 1 + labels] of each utterance.
      loss: The loss in nats per symbol.
    """

    log_probs: list[np.ndarray]
    loss: float

    @staticmethod
    def of(network: Network, params: Any, whole: Batch) -> Outputs:
        """Runs a network on some utterances at a time."""
        number = len(whole.sizes)
        log_probs, losses = [], []
        for start in range(0, number, TOGETHER):  # all parts have one size, so that there is one compilation
            which = np.minimum(np.arange(start, start + min(TOGETHER, number)), number - 1)
            part = Batch(whole.xs[:, which], whole.lengths[which], whole.labels[which], whole.sizes[which])
            found, lost = map(np.asarray, outputs_and_losses(network, params, part))
            log_probs += [found[: part.lengths[n], n] for n in range(len(which))]
            losses += lost.tolist()
        return Outputs(log_probs[:number], sum(losses[:number]) / max(1, int(whole.sizes.sum())))

    def greedy(self, vocabulary: list[str]) -> list[list[str]]:
        return [as_symbols(ctc.greedy(log_probs), vocabulary) for log_probs in self.log_probs]

    def beam_search(self, vocabulary: list[str], width: int, bigram: np.ndarray | None = None) -> list[list[str]]:
        return [as_symbols(ctc.beam_search(found, width, bigram)[0], vocabulary) for found in self.log_probs]


def as_symbols(labels: ctc.Labels, vocabulary: list[str]) -> list[str]:
    return [vocabulary[label - 1] for label in labels]


def errors(outputs: list[list[str]], utterances: list[Utterance]) -> float:
    return error_rate(outputs, [utterance.symbols for utterance in utterances])


def choose_weight(
    outputs: Outputs, utterances: list[Utterance], vocabulary: list[str], width: int, bigram: np.ndarray
) -> float:
    """Returns the weight of the bigram with the fewest errors in a beam search."""
    return min(WEIGHTS, key=lambda weight: errors(outputs.beam_search(vocabulary, width, weight * bigram), utterances))


def write_sound(path: Path, utterance: Utterance) -> Path:
    """Writes the sound of an utterance as a WAV file of 16 bits."""
    samples, sample_rate = utterance.sound()
    with whole_file(path) as unfinished:
        wavfile.write(unfinished, sample_rate, (samples * (2**15 - 1)).astype(np.int16))
    return path


def plot(path: Path, utterance: Utterance, log_probs: np.ndarray, vocabulary: list[str], stack: int, text: str) -> None:
    """Draws the spectrogram of an utterance, with its symbols if their alignment is known, and a network's outputs."""
    samples, sample_rate = utterance.sound()
    bands = log_mel(samples, sample_rate)
    seconds = (WINDOW_SECONDS - HOP_SECONDS) / 2 + np.array([0, len(bands)]) * HOP_SECONDS
    centers = band_edges(sample_rate)[1:-1]
    shown = [hertz for hertz in (125, 250, 500, 1000, 2000, 4000) if hertz < centers[-1]]
    font = font_for("".join(vocabulary) + SPACE)
    with figure(path, rows=2, figsize=(13, 7), dpi=130, grid=False, sharex=True) as (drawn, grid):
        above, below = grid[:, 0]
        above.imshow(bands.T, aspect="auto", origin="lower", cmap="magma", extent=(*seconds, -0.5, len(centers) - 0.5))
        above.set_yticks(np.interp(shown, centers, np.arange(len(centers))), map(str, shown))
        above.set(ylabel="frequency (Hz)")
        for symbol, start, end in utterance.segments:
            above.axvline(end, color="white", linewidth=0.8)
            above.text((start + end) / 2, len(centers) + 0.5, symbol, ha="center", fontproperties=font, fontsize=13)
        times = [center(step, stack) for step in range(len(log_probs))]
        probabilities = np.exp(log_probs)
        best = log_probs.argmax(-1)
        below.plot(times, probabilities[:, ctc.BLANK], color=GRAY, linestyle="--", linewidth=1.2, label="blank")
        for label in np.flatnonzero(probabilities.max(0) > 0.05):
            if label != ctc.BLANK:
                below.plot(times, probabilities[:, label])
        changes = np.flatnonzero(np.diff(best, prepend=-1))
        for first, last in pairwise([*changes, len(best)]):
            if best[first] != ctc.BLANK:
                peak = first + int(probabilities[first:last, best[first]].argmax())
                symbol = vocabulary[best[first] - 1].replace(" ", SPACE)
                height = probabilities[peak, best[first]] + 0.02
                below.text(times[peak], height, symbol, ha="center", fontproperties=font, fontsize=13)
        below.set(
            xlabel="time (s)", ylabel="probability of each symbol", ylim=(0, 1.12), xlim=(0, len(samples) / sample_rate)
        )
        below.legend(loc="upper right")
        drawn.suptitle(text)


def main(options: Options, folder: RunFolder) -> None:
    data = synthesized_speech() if options.data is None else recordings(options.data, options.units)
    data.check_steps(options.stack)
    vocabulary = data.vocabulary
    networks = make_networks(options, len(vocabulary))
    begin_all = partial(begin, options, networks, data.num_features(options.stack))
    train = jax.jit(begin_all)()
    run = Run(folder, options, facts={"data": data.digest})
    print(f"data    {data}")
    for network in networks:
        print(f"model   {network.layers}, {count_parameters(train.params[network.name]):,} parameters")
    print(f"run     {run.path}", flush=True)

    valid, test = (as_arrays(part, vocabulary, options.stack) for part in (data.valid, data.test))
    recurrent, window = networks
    chosen = {net.name: run.open_checkpoints(f"networks/{net.name}") for net in networks}  # by each one's own errors
    buckets = make_buckets(data.train, vocabulary, options.stack)
    steps = many_steps(partial(update, options, networks), step_keys(options.seed))
    for stage in training(run, train, steps, buckets, options.limit, items=(options.batch, "utterances")):
        found = {net.name: Outputs.of(net, stage.train.params[net.name], valid) for net in networks}
        shares = {name: errors(outputs.greedy(vocabulary), data.valid) for name, outputs in found.items()}
        for name, share in shares.items():
            run.save(stage.step, stage.train.params[name], share, to=chosen[name])
        stage.record(
            shares[recurrent.name],
            valid_loss=found[recurrent.name].loss,
            window_loss=found[window.name].loss,
            valid_errors=shares[recurrent.name],
            window_errors=shares[window.name],
        )
        run.plot({}, "nats per symbol", f"{recurrent.name} on {data.name}")
        stage.say("errors on validation: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))

    like = jax.eval_shape(begin_all).params
    best = {net.name: chosen[net.name].best(like[net.name]) for net in networks}
    bigram = ctc.bigram_of([labels_of(utterance, vocabulary) for utterance in data.train], len(vocabulary))
    separator = " " if options.data is not None and options.units == "tokens" else ""
    results, shown = {}, {}
    for net in networks:
        of_valid, of_test = (Outputs.of(net, best[net.name], part) for part in (valid, test))
        weight = choose_weight(of_valid, data.valid, vocabulary, options.beam, bigram)
        decoded = {
            "greedy": of_test.greedy(vocabulary),
            f"beam of {options.beam}": of_test.beam_search(vocabulary, options.beam),
            f"with {weight:g} x bigram": of_test.beam_search(vocabulary, options.beam, weight * bigram),
        }
        results[net.name] = ", ".join(f"{errors(out, data.test):.1%} {how}" for how, out in decoded.items())
        if net is recurrent:
            shown = decoded
            number = min(range(len(data.test)), key=lambda n: abs(len(data.test[n].symbols) - TYPICAL))
            example = data.test[number]
            picture = run.path / "spikes.png"
            title = f"{net.name} on {example.name}: {separator.join(example.symbols)}"
            plot(picture, example, of_test.log_probs[number], vocabulary, options.stack, title)
            results["picture"] = str(picture)
            if options.data is None:
                results["sound of it"] = str(write_sound(run.path / "utterance.wav", example))
    if all(utterance.segments for utterance in data.train):
        for name, outputs in aligned_baseline(data, options.stack).items():
            results[name] = f"{errors(outputs, data.test):.1%}"
    lines = [
        [utterance.name, *(separator.join(symbols) for symbols in (utterance.symbols, *each))]
        for utterance, *each in zip(data.test, *shown.values(), strict=True)
    ]
    write_whole(run.path / "decoded.tsv", "".join("\t".join(line) + "\n" for line in [COLUMNS, *lines]))
    for line in lines[:: -(-len(lines) // 3)]:
        print(*(f"    | {name:<9}  {text}" for name, text in zip(COLUMNS, line, strict=True)), "    |", sep="\n")
    print("Errors per symbol of the test utterances, with the best parameters in validation:")
    print_table(
        **results,
        decoded=str(run.path / "decoded.tsv"),
        curves=run.curves,
        time=f"{duration(run.last['seconds'])}, {run.last['step']:,.0f} steps",
    )


if __name__ == "__main__":
    launch(main, Options, RunFolder, started=process_start())
