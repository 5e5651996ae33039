"""The sentiment of a sentence: a bidirectional GRU with attention pooling, compared with bags of words.

Without --data, a grammar composes reviews with negation ("nobody would call the plot dull"), contrast ("although the
plot was dull, the acting was wonderful", where the main clause decides), intensifiers and filler, so that their
sentiment is known. The test sentences combine opinion words with nouns, negations and conjunctions that they do not
occur with in training. Accuracies are printed for each construction. With a contrast, positive and negative sentences
have the same words.

--data has one of two formats, which the script recognizes. The first one is lines `label<TAB>text`, with any labels and
an optional header, in a folder of train.tsv, dev.tsv and test.tsv, or in a single file, which is split at random. The
second one is trees of the Stanford Sentiment Treebank (R. Socher et al., "Recursive deep models for semantic
compositionality over a sentiment treebank", 2013), such as (3 (2 It) (4 (4 great) (2 film))), in train.txt, dev.txt and
test.txt. The label of a sentence is that of the root. In these data, a sentence counts as a negation or a contrast if
it has an English word such as "not" or "but".

Attention pooling computes a score for each word, and averages the GRU's outputs weighted by the softmax of the scores
(Z. Yang et al., "Hierarchical attention networks for document classification", 2016). Training replaces some words by
the unknown word, so that the network learns to read words that do not occur in training (word dropout, M. Iyyer et al.,
"Deep unordered composition rivals syntactic methods for text classification", 2015).
"""

from __future__ import annotations

if __name__ == "__main__":
    from support.early import check_command_line

    check_command_line(__file__)  # before the imports below, which take seconds

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from data.labeled_sentences import (
    UNKNOWN,
    Coded,
    Sentence,
    bags_of_words,
    by_construction,
    coded,
    composed,
    read_sentences,
)
from jax import Array
from matplotlib import colormaps
from sklearn.metrics import f1_score
from support.cells import count_parameters, make_cell
from support.clock import duration, process_start
from support.command_line import launch
from support.errors import BadInputError
from support.options import RunFolder, RunOptions, above, at_least, rate
from support.plots import GREEN, RED, figure, font_for
from support.progress import print_table
from support.run import Run
from support.schedule import warmup_cosine
from support.training import many_steps, step_keys, training

import jaxrnn

Pooling = Literal["attention", "mean", "last"]
SHOWN = 12  # sentences of the picture
WIDTH = 96  # characters of its lines
DRAWN = 100  # words of a sentence in it, from its beginning
TOGETHER = 50_000  # words, padding included


@dataclass(frozen=True)
class Options(RunOptions):
    data: Path | None = None  # A folder or a file of lines `label<TAB>text` or of trees. None: composed reviews
    sentences: int = 6_000  # Number of composed training sentences
    fine: bool = False  # Five classes, from very negative to very positive, instead of two
    phrases: bool = False  # Train on all phrases of the trees, not only on whole sentences
    cell: str = "GRU"  # Name of a cell in jaxrnn
    pooling: Pooling = "attention"  # How the outputs of all words are pooled into one vector
    hidden_size: int = 64  # Hidden size of each layer, in each direction
    embedding_size: int = 64  # Size of the word embeddings
    layers: int = 1  # Number of recurrent layers
    dropout: float = 0.3  # Dropout rate after the embedding and after each layer
    word_dropout: float = 0.05  # Rate at which training words are replaced by the unknown word
    vocabulary: int = 20_000  # Largest size of the vocabulary; rarer words are unknown
    longest: int = 100  # Number of words after which longer sentences are cut
    batch: int = 64  # Number of sentences in a batch
    learning_rate: float = 3e-3  # Peak learning rate
    minutes: float = 2.0  # Time limit of the run in minutes, start-up included
    generators: ClassVar[tuple[str, ...]] = ("sentences",)

    def check(self) -> None:
        super().check()
        at_least(1, hidden_size=self.hidden_size, embedding_size=self.embedding_size, layers=self.layers)
        at_least(1, vocabulary=self.vocabulary, longest=self.longest, batch=self.batch)
        at_least(10, sentences=self.sentences)
        above(0, learning_rate=self.learning_rate)
        rate(dropout=self.dropout, word_dropout=self.word_dropout)
        if self.phrases and self.data is None:
            raise BadInputError("--phrases needs --data with trees")


class Params(NamedTuple):
    reader: Any
    scorer: Any
    head: Any


class Read(NamedTuple):
    """The output of a network for a batch of sentences."""

    logits: Array  # [sentences, classes]
    weights: Array  # [time, sentences], of the words in the pooled vector; zeros if it is not a mean


@dataclass(frozen=True)
class Network:
    """A reader of words in both directions, pooling over all words, and a head.

    Args:
      reader: Embedding and bidirectional layers.
      scorer: Layers that compute the attention score of each word from the output of the reader.
      head: Layers that compute the logits from the pooled outputs.
      pooling: What the head reads: the mean of the outputs of all words, weighted by attention or with equal weights,
        or the outputs of each direction after its last word.
    """

    reader: jaxrnn.Stack
    scorer: jaxrnn.Stack
    head: jaxrnn.Stack
    pooling: Pooling

    @staticmethod
    def of(options: Options, num_classes: int) -> Network:
        dropout = jaxrnn.Dropout(options.dropout)
        layer = jaxrnn.Bidirectional(make_cell(options.cell, options.hidden_size))
        reader = jaxrnn.Stack(jaxrnn.Embedding(options.embedding_size), dropout, *[layer, dropout] * options.layers)
        scorer = jaxrnn.Stack(jaxrnn.Dense(options.hidden_size), jnp.tanh, jaxrnn.Dense(1))
        return Network(reader, scorer, jaxrnn.Stack(jaxrnn.Dense(num_classes)), options.pooling)

    def init(self, key: Array, num_symbols: int) -> Params:
        k_reader, k_scorer, k_head = jax.random.split(key, 3)
        reader = self.reader.init(k_reader, num_symbols)
        ys = jax.eval_shape(lambda: jaxrnn.unroll(self.reader, reader, jnp.zeros((1, 1), jnp.int32))[1])
        scorer = self.scorer.init(k_scorer, ys.shape[-1]) if self.pooling == "attention" else ()
        return Params(reader, scorer, self.head.init(k_head, ys.shape[-1]))

    def read(self, params: Params, xs: Array, lengths: Array, key: Array | None = None) -> Read:
        """Reads sentences, given as symbols [time, sentences]."""
        _, ys = jaxrnn.unroll(self.reader, params.reader, xs, lengths=lengths, key=key)
        words = jnp.arange(len(xs))[:, None] < lengths  # the others are padding
        if self.pooling == "last":
            forward, backward = jnp.split(ys, 2, axis=-1)
            pooled = jnp.concatenate([jaxrnn.at_last(forward, lengths), backward[0]], axis=-1)
            return Read(self.head(params.head, pooled), jnp.zeros(words.shape))
        scores = jnp.zeros(words.shape)
        if self.pooling == "attention":
            scores = self.scorer(params.scorer, ys)[..., 0]
        weights = jax.nn.softmax(jnp.where(words, scores, -jnp.inf), axis=0)
        pooled = jnp.einsum("ts,tsh->sh", weights, ys)
        return Read(self.head(params.head, pooled), weights)

    def loss(self, params: Params, batch: Coded, key: Array | None = None) -> Array:
        logits = self.read(params, batch.xs, batch.lengths, key).logits
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()


class Train(NamedTuple):
    """Everything that training changes."""

    step: Array
    params: Any
    adam: Any


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99))


@partial(jax.jit, static_argnums=(0, 1, 2))
def begin(network: Network, num_symbols: int, seed: int) -> Train:
    params = network.init(jax.random.key(seed), num_symbols)
    return Train(jnp.int32(0), params, optimizer.init(params))


def drop_words(key: Array, xs: Array, rate: float) -> Array:
    """Replaces words by the unknown one at random."""
    return jnp.where(jax.random.bernoulli(key, rate, xs.shape), UNKNOWN, xs)


def update(
    options: Options, network: Network, train: Train, data: Coded, key: Array, progress: Array
) -> tuple[Train, Array]:
    """Runs one training step."""
    k_batch, k_words, k_dropout = jax.random.split(key, 3)
    batch = data.take(jax.random.randint(k_batch, (options.batch,), 0, len(data.labels)))
    batch = batch._replace(xs=drop_words(k_words, batch.xs, options.word_dropout))
    loss, gradient = jax.value_and_grad(network.loss)(train.params, batch, k_dropout)
    direction, adam = optimizer.update(gradient, train.adam)
    learning_rate = options.learning_rate * warmup_cosine(train.step, progress)
    params = optax.apply_updates(train.params, optax.tree.scale(-learning_rate, direction))
    return Train(train.step + 1, params, adam), loss


read = jax.jit(Network.read, static_argnums=0)


def read_all(network: Network, params: Params, data: Coded) -> tuple[np.ndarray, np.ndarray]:
    """Returns log probabilities [sentences, classes] and weights [time, sentences], of a few sentences at a time."""
    number = len(data.labels)
    size = min(max(1, TOGETHER // len(data.xs)), number)
    parts = []
    for start in range(0, number, size):  # all parts have one size, so that there is one compilation
        some = data.take(np.minimum(np.arange(start, start + size), number - 1))
        parts.append(jax.device_get(read(network, params, some.xs, some.lengths)))
    logits = np.concatenate([part.logits for part in parts])[:number]
    weights = np.concatenate([part.weights for part in parts], axis=1)[:, :number]
    return np.asarray(jax.nn.log_softmax(logits)), weights


def mean_loss(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    return -float(log_probabilities[np.arange(len(labels)), labels].mean())


@partial(jax.jit, static_argnums=0)
def falls(network: Network, params: Params, xs: Array, length: Array, label: Array) -> Array:
    """Returns how much the probability of a label falls when each word of a sentence is replaced by the unknown one.

    The sentence is given as symbols [time]. Only the first `DRAWN` words are replaced, one at a time.
    """
    replaced = jnp.eye(len(xs), min(len(xs), DRAWN), dtype=bool)
    without = jnp.where(replaced, UNKNOWN, xs[:, None])
    copies = jnp.concatenate([xs[:, None], without], axis=1)
    logits = network.read(params, copies, jnp.full(copies.shape[1], length)).logits
    whole, *others = jnp.unstack(jax.nn.softmax(logits)[:, label])
    return whole - jnp.stack(others)


def examples(sentences: list[Sentence], right: np.ndarray) -> list[int]:
    """Returns the indices of sentences to show, equally many of each construction, a third of them wrong if possible.

    Sentences of more than two lines are only shown if there are no others.
    """
    short = np.array([len(" ".join(sentence.words)) <= 2 * WIDTH for sentence in sentences])
    groups = list(by_construction(sentences).values())[1:]
    found: list[list[int]] = [[] for _ in groups]
    for turn in range(SHOWN // len(groups)):
        for group, taken in zip(groups, found, strict=True):
            left = [int(n) for n in group if n not in taken]
            taken += sorted(left, key=lambda n: (not short[n], right[n] == (turn % 3 == 1)))[:1]
    return [n for taken in found for n in taken]


class Shown(NamedTuple):
    """A test sentence in the picture."""

    sentence: Sentence
    label: str
    predicted: str
    probability: float
    weights: np.ndarray  # [words], of attention; zeros without it
    falls: np.ndarray  # [words], see `falls`


def plot_sentences(path: Path, sentences: list[Shown], title: str) -> None:
    """Draws sentences in boxes of words: attention as the color of a box, falls of the probability as bars below."""
    font = font_for("".join(word for shown in sentences for word in shown.sentence.words))
    families = ["monospace", *([font.get_name()] if font else [])]
    line = 0.0
    with figure(path, figsize=(11, 7), dpi=150, grid=False) as (drawn, grid):
        axes = grid[0, 0]
        for shown in sentences:
            wrong = shown.predicted != shown.label
            note = f"{shown.predicted[:16]} {shown.probability:.0%}" + f", but is {shown.label[:16]}" * wrong
            axes.text(WIDTH + 3, line, shown.sentence.construction, fontsize=9, va="center", color="gray")
            axes.text(WIDTH + 14, line, note, fontsize=9, va="center", color=RED if wrong else GREEN, parse_math=False)
            column = 0.0
            shades = shown.weights / max(shown.weights.max(), 1e-9)
            for word, shade, fall in zip(shown.sentence.words, shades, shown.falls, strict=False):
                word = word[:WIDTH]
                if column and column + len(word) > WIDTH:
                    line, column = line + 1.2, 0.0
                drawable = word if font else word.encode("ascii", "replace").decode()
                fill = colormaps["Blues"](0.8 * shade)
                axes.text(
                    column, line, drawable, family=families, fontsize=9, va="center", parse_math=False,
                    color="white" if shade > 0.7 else "black",
                    bbox={"boxstyle": "square,pad=0.2", "facecolor": fill, "edgecolor": "#d5dae0"},
                )  # fmt: skip
                below = [line + 0.5] * 2
                axes.plot([column, column + len(word)], below, color=RED, alpha=float(np.clip(fall, 0, 1)), linewidth=3)
                column += len(word) + 1.3
            line += 1.8
        axes.set(xlim=(-1, WIDTH + 48), ylim=(line - 0.8, -0.9), xticks=[], yticks=[])
        axes.set_title(title, fontsize=10)
        axes.spines[:].set_visible(False)
        drawn.set_size_inches(11, 0.24 * line + 0.6)


def plot_constructions(path: Path, scores: dict[str, dict[str, float]], sizes: dict[str, int], title: str) -> None:
    """Draws the accuracies of all methods in each group of test sentences as bars."""
    width = 0.8 / len(scores)
    with figure(path, figsize=(9, 4.2), dpi=140) as (drawn, grid):
        axes = grid[0, 0]
        for n, (name, shares) in enumerate(scores.items()):
            places = np.arange(len(sizes)) + (n - (len(scores) - 1) / 2) * width
            bars = axes.bar(places, [shares[group] for group in sizes], 0.92 * width, label=name)
            axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1)
        ticks = [f"{group}\n{size:,}" for group, size in sizes.items()]
        axes.set(xticks=range(len(sizes)), xticklabels=ticks, ylim=(0, 1.05), title=title)
        axes.set(xlabel="construction, and number of test sentences", ylabel="accuracy")
        axes.grid(axis="x", visible=False)
        drawn.legend(loc="outside lower center", ncols=len(scores))


def f1_of_classes(labels: np.ndarray, predicted: np.ndarray, number: int) -> np.ndarray:
    score: Any = f1_score
    return score(labels, predicted, labels=range(number), average=None, zero_division=0)


def print_columns(rows: dict[str, list[str]]) -> None:
    """Prints a name and several values per line, aligned."""
    widths = [max(map(len, column)) for column in zip(*rows.values(), strict=True)]
    print_table(**{k: "  ".join(f"{v:>{w}}" for v, w in zip(row, widths, strict=True)) for k, row in rows.items()})


def main(options: Options, folder: RunFolder) -> None:
    if options.data is None:
        data = composed(options.sentences, options.fine, options.seed)
    else:
        data = read_sentences(options.data, options.fine, options.phrases, options.seed)
    vocabulary = data.vocabulary(options.vocabulary)
    seen, valid, test = (coded(part, vocabulary, options.longest) for part in (data.train, data.valid, data.test))
    network = Network.of(options, len(data.classes))
    train = begin(network, len(vocabulary) + 1, options.seed)
    run = Run(folder, options, facts={"data": data.digest})
    unknown = np.mean([word not in vocabulary for sentence in data.test for word in sentence.words])
    print(f"data    {data}")
    print(f"words   vocabulary of {len(vocabulary):,}, {unknown:.1%} of the test words unknown")
    print(f"model   {network.reader}, {options.pooling} pooling, {count_parameters(train.params):,} parameters")
    print(f"run     {run.path}", flush=True)

    steps = many_steps(partial(update, options, network), step_keys(options.seed))
    for stage in training(run, train, steps, jax.device_put(seen), options.limit, items=(options.batch, "sentences")):
        found, _ = read_all(network, stage.train.params, valid)
        valid_loss, accuracy = mean_loss(found, valid.labels), float((found.argmax(-1) == valid.labels).mean())
        stage.record(valid_loss, valid_loss=valid_loss, valid_right=accuracy)
        stage.say(f"validation {valid_loss:z.3f}, {accuracy:.1%} correct")

    best, _ = run.checkpoints.best(jax.eval_shape(lambda: (begin(network, len(vocabulary) + 1, options.seed), 0.0)))
    found, weights = read_all(network, best.params, test)
    name = f"bidirectional {options.cell}, {options.pooling}"
    predicted = {name: found.argmax(-1)} | bags_of_words(data)
    groups = by_construction(data.test)
    scores = {
        method: {group: float((labels == test.labels)[which].mean()) for group, which in groups.items()}
        for method, labels in predicted.items()
    }
    run.plot({}, "nats per sentence", f"{name} on {data.name}")
    title = f"{data.name}, test accuracy {scores[name]['all']:.3f}"
    plot_constructions(run.path / "constructions.png", scores, {g: len(which) for g, which in groups.items()}, title)
    shown = []
    for n in examples(data.test, predicted[name] == test.labels):
        label = predicted[name][n]
        lost = np.asarray(falls(network, best.params, test.xs[:, n], test.lengths[n], label))
        attention = weights[:, n] if options.pooling == "attention" else np.zeros(len(weights))
        names = data.classes[test.labels[n]], data.classes[label]
        shown.append(Shown(data.test[n], *names, np.exp(found[n, label]), attention, lost))
    blue = "Blue: attention. " if options.pooling == "attention" else ""
    red = "Red: fall of the predicted probability without the word."
    plot_sentences(run.path / "sentences.png", shown, f"{title}. {blue}{red}")
    print(f"Accuracy on the test set at training step {best.step:,}, the best in validation:")
    print_columns({"": list(groups)} | {m: [f"{share:.3f}" for share in each.values()] for m, each in scores.items()})
    if len(data.classes) > 2:
        print("F1 of each class, and their mean:")
        f1 = np.stack([f1_of_classes(test.labels, labels, len(data.classes)) for labels in predicted.values()])
        rows = dict(zip((*data.classes, "mean"), (*f1.T, f1.mean(1)), strict=True))
        print_columns({"": list(predicted)} | {c: [f"{share:.3f}" for share in row] for c, row in rows.items()})
    print(f"{duration(run.last['seconds'])}, {run.last['step']:,.0f} steps; pictures in {run.path}")


if __name__ == "__main__":
    launch(main, Options, RunFolder, started=process_start())
