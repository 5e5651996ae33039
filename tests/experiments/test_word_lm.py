"""The word language model: what it learns, its n-grams, its windows, and that it resumes."""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import word_lm
from data import ngrams, words
from support import devices, feeding
from support.checkpoints import Checkpoints
from support.errors import BadInputError
from support.options import RunFolder
from support.run import saved_options

import jaxrnn
from tests.support.scripts import call_script, error_line, read_metrics, stop_after

pytestmark = pytest.mark.usefixtures("quick")
SMALL = ("--hidden-size", "32", "--batch", "16", "--sequence-length", "16", "--dropout", "0")


def sentences(number: int, seed: int) -> str:
    """Sentences whose last word is the first one's partner: too far from it for an n-gram."""
    pairs = random.Random(seed).choices(("a A", "b B", "c C", "d D"), k=number)
    return "".join(" {} 1 2 3 4 5 {}\n".format(*pair.split()) for pair in pairs)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with a corpus in it, to work in."""
    monkeypatch.chdir(tmp_path)
    Path("corpus").mkdir()
    for seed, (split, number) in enumerate((("train", 1000), ("valid", 60), ("test", 60))):
        Path(f"corpus/{split}.txt").write_text(sentences(number, seed))
    return tmp_path


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "word_lm.py", options, word_lm.main, word_lm.Options, RunFolder)


def perplexities(out: str) -> tuple[float, float]:
    test = float(re.search(r"test +perplexity (\S+) ", out)[1])
    return test, float(re.search(r"baselines +Kneser-Ney \d-gram (\S+),", out)[1])


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adam", marks=pytest.mark.slow)])
def test_it_runs(here, monkeypatch, capsys, optimizer):
    options = ("--data", "corpus", *SMALL, "--optimizer", optimizer, "--steps", "3", "--hidden-size", "8")
    assert call(monkeypatch, *options, "--run-dir", "run") == 0
    perplexity, ngram = perplexities(capsys.readouterr().out)
    assert 1 < ngram < perplexity < 20  # of 15 words, after three steps
    assert [int(row["step"]) for row in read_metrics("run")][-1] == 3
    assert Path("run/curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_it_learns_what_an_ngram_cannot_and_goes_on(here, monkeypatch, capsys):
    options = ("--data", "corpus", *SMALL, "--steps", "400", "--learning-rate", "0.02")
    assert call(monkeypatch, *options, "--run-dir", "whole") == 0
    out = capsys.readouterr().out
    perplexity, ngram = perplexities(out)
    # Of each eight words one is one of four; so is a second, if the first has been forgotten.
    assert ngram > 0.97 * 4 ** (2 / 8)
    assert perplexity < 0.95 * 4 ** (2 / 8)
    assert len(read_metrics("whole")) == 20
    assert Path("whole/curves.png").read_bytes().startswith(b"\x89PNG")

    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 200)
        assert call(monkeypatch, *options, "--run-dir", "halves") == 130
    assert call(monkeypatch, "--run-dir", "halves", "--resume") == 0
    assert [row["valid_loss"] for row in read_metrics("halves")] == [row["valid_loss"] for row in read_metrics("whole")]


@pytest.mark.slow
def test_the_classic_recipe_learns_and_anneals(here, monkeypatch, capsys):
    options = ("--data", "corpus", *SMALL, "--optimizer", "sgd", "--clip", "0.25", "--learning-rate", "5")
    assert call(monkeypatch, *options, "--no-tied", "--epochs", "7", "--run-dir", "run") == 0
    perplexity, _ = perplexities(capsys.readouterr().out)
    assert perplexity < 3  # 11 to who knows how often each word occurs
    losses = [float(row["valid_loss"]) for row in read_metrics("run")]
    assert [float(row["epoch"]) for row in read_metrics("run")] == list(range(1, 8))
    best = [math.inf, *np.minimum.accumulate(losses)[:-1]]
    expected = 0.25 ** sum(loss >= before for loss, before in zip(losses, best, strict=True))
    config = saved_options(word_lm.Options, Path("run"))
    model = word_lm.make_model(config, 15)
    like = jax.eval_shape(lambda: (word_lm.begin(config, model, 15), 0.0))
    train, _ = Checkpoints(Path("run")).latest(like)
    assert train.rate == pytest.approx(expected)
    assert train.best == pytest.approx(min(losses))


def test_ngrams_are_those_of_a_slow_one():
    text = np.random.default_rng(0).choice(5, 400, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    num_train, num_words = 300, 6
    trained = [tuple(text[place - n + 1 : place + 1]) for n in range(1, 7) for place in range(n - 1, num_train)]
    # The implementation counts grams that reach back before the text's beginning too.
    trained += [(None,) * (n - 1 - place) + tuple(text[: place + 1]) for n in range(2, 7) for place in range(n - 1)]
    occurrences = Counter(trained)
    before: dict[tuple, int] = Counter(gram[1:] for gram in occurrences if len(gram) > 1)

    def probability(gram: tuple, counts: Counter) -> float:
        if not gram:
            return 1 / num_words
        same_order = {g: c for g, c in counts.items() if len(g) == len(gram)}
        by_context: dict[tuple, list[int]] = defaultdict(list)
        for other, count in same_order.items():
            by_context[other[:-1]].append(count)
        once, twice = (sum(c == n for c in same_order.values()) for n in (1, 2))
        discount = once / max(1, once + 2 * twice)
        lower = probability(gram[1:], before)
        follow = by_context[gram[:-1]]
        if not follow:
            return lower
        return (max(same_order.get(gram, 0) - discount, 0) + discount * len(follow) * lower) / sum(follow)

    found = ngrams.kneser_ney(text, num_train, num_words, 4)
    assert found.shape == (4, 100)
    for order in range(1, 5):
        for place in range(num_train, num_train + 30):
            gram = tuple(text[place - order + 1 : place + 1])
            assert found[order - 1, place - num_train] == pytest.approx(math.log(probability(gram, occurrences)))
    # They are probabilities: over all words that could follow they sum to one.
    texts = [np.append(text[:350], word) for word in range(num_words)]
    last = [ngrams.kneser_ney(one, num_train, num_words, 4)[:, -1] for one in texts]
    np.testing.assert_allclose(np.exp(last).sum(0), 1)

    corpus = words.Corpus("", tuple("abcdef"), text[:num_train], text[num_train:350], text[350:], "")
    order, valid, test = words.best_ngram(corpus, 4)
    assert valid == pytest.approx(-found[:, :50].mean(1).max())
    assert test == pytest.approx(-found[order - 1, 50:].mean())


@pytest.mark.slow
def test_evaluation_is_that_of_streams_read_word_by_word():
    model = jaxrnn.Stack(jaxrnn.Embedding(4), jaxrnn.LSTM(4), jaxrnn.Dense(7))
    params = model.init(jax.random.key(0), 7)
    text = np.random.default_rng(0).integers(0, 7, 333)
    length, losses = 40, []  # ten streams of windows of ten: of 34 words each, rounded up
    for start in range(0, len(text), length):
        state = model.initial_state(params)
        for place in range(start, min(start + length, len(text))):
            state, logits = jaxrnn.step(model, params, state, jnp.asarray(text[max(place - 1, 0)]))
            losses += [-float(jax.nn.log_softmax(logits)[text[place]])] if place else []
    assert len(losses) == 332
    found = word_lm.evaluate(model, params, jnp.asarray(text), devices.make_mesh("one", 1), window=10)
    np.testing.assert_allclose(found, np.mean(losses), rtol=1e-5)


def test_the_corpus_is_read_as_it_is(here):
    Path("corpus/test.txt").write_text("a a new\nb")
    Path("corpus/train.txt").write_text(" a b a <unk> \n\n a b c \n")
    corpus = words.Corpus.of(Path("corpus"), 4)
    assert corpus.vocabulary == ("<eos>", "a", "b", "<unk>")
    assert np.asarray(corpus.train).tolist() == [1, 2, 1, 3, 0, 0, 1, 2, 3, 0]
    assert corpus.test.tolist() == [1, 1, 3, 0, 2, 0]


def test_only_blanks_separate_words():
    assert words.words_in("8\u00a01/2 \u3000 a\tb\n") == ["8\u00a01/2", "\u3000", "a", "b", "<eos>"]


def test_tokens_of_a_module(here):
    Path("module.py").write_text('"""Docs."""\nif x:  # why\n    y = 3 + f("a")\n')
    expected = "<string> <eos> if x : <eos> <indent> y = <number> + f ( <string> ) <eos> <dedent>"
    assert words.tokens(Path("module.py")) == expected.split()


@pytest.mark.parametrize(
    "cell", ["GRU", *(pytest.param(c, marks=pytest.mark.slow) for c in ("Elman", "ProjectedLSTM"))]
)
@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_are_one(cell, tied):
    config = word_lm.Options(cell=cell, hidden_size=6, layers=2, tied=tied, variational=True)
    model = word_lm.make_model(config, 9)
    if tied and cell == "ProjectedLSTM":
        with pytest.raises(BadInputError, match="--tied needs outputs of the embedding's size"):
            word_lm.begin(config, model, 9)
        return
    train = jax.eval_shape(lambda: word_lm.begin(config, model, 9))
    assert sum(leaf.size == 54 for leaf in jax.tree.leaves(train.params)) == (1 if tied else 2) or cell != "GRU"
    block = feeding.Block(jnp.int32(0), jax.ShapeDtypeStruct((3, 8, 20), np.int32))
    update = partial(word_lm.update, config, model, devices.make_mesh("one", 20), 3, jnp.zeros(40, jnp.int32))
    after, loss = jax.eval_shape(update, train, block, jax.random.key(0), jnp.float32(0.1))
    assert jax.tree.structure(after) == jax.tree.structure(train)
    assert loss.shape == ()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", "missing"], "cannot read missing/train.txt: No such file|cannot read .*missing/train.txt: No such"),
        (["--data", "corpus/train.txt"], "cannot read .*train.txt/train.txt: Not a directory"),
        (["--data", "empty"], "train.txt has no words"),
        (["--data", "bytes"], "train.txt is not UTF-8 text: byte 4 is 0xff"),
        (
            ["--data", "corpus", "--batch", "3000"],
            "training has 8,000 words, but one batch of windows takes 3000 \\* 36",
        ),
        (["--data", "corpus", "--cell", "ProjectedLSTM"], "--tied needs outputs of the embedding's size"),
        (["--cell", "LSMT", "--data", "corpus"], "no cell named 'LSMT'"),
        (["--hidden-size", "0"], "--hidden-size must be at least 1"),
        (["--layers", "0"], "--layers must be at least 1"),
        (["--vocabulary", "1"], "--vocabulary must be at least 2"),
        (["--sequence-length", "0"], "--sequence-length must be at least 1"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--clip", "0"], "--clip must be above 0"),
        (["--dropout", "1"], "--dropout must be from 0 to below 1"),
        (["--optimizer", "momentum"], "momentum"),
    ],
)
def test_bad_input_is_reported_in_one_line(here, monkeypatch, capsys, options, complaint):
    for name, content in (("empty", b"\n\n"), ("bytes", b"text\xff")):
        Path(name).mkdir()
        for split in words.SPLITS:
            Path(f"{name}/{split}.txt").write_bytes(content)
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
    assert not Path("runs").exists()
