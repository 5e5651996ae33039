"""Sentiment: the grammar's labels and parts, the readers, pooling, the baselines, and that the network learns."""

from __future__ import annotations

import random
import re
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentiment
from data import composed_reviews, labeled_sentences
from data.labeled_sentences import UNKNOWN, LabeledSentences, Sentence, coded, read_sentences, words_of
from matplotlib.image import imread
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from support.checkpoints import Checkpoints
from support.options import RunFolder

import jaxrnn
from tests.support.scripts import call_script, error_line, read_metrics, stop_after

pytestmark = pytest.mark.usefixtures("quick")
SMALL = ("--hidden-size", "4", "--embedding-size", "4", "--batch", "4")
WORDS = {"negative": ("dull", "bad", "weak"), "positive": ("good", "fine", "great")}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory to work in, with few sentences for validation and test, and without a choice of regularization."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(labeled_sentences, "VALIDATED", 16)
    monkeypatch.setattr(labeled_sentences, "TESTED", 40)
    monkeypatch.setattr(labeled_sentences, "STRENGTHS", (1.0,))
    return tmp_path


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "sentiment.py", options, sentiment.main, sentiment.Options, RunFolder)


def lines(number: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    labels = [rng.choice([*WORDS]) for _ in range(number)]
    return "".join(f"{label}\tThe {n}th film was {rng.choice(WORDS[label])}!\n" for n, label in enumerate(labels))


def tree(label: int, *words: str) -> str:
    """Returns a sentence as a tree whose words are neutral and whose phrases have the label of the sentence."""
    first, *rest = words
    return f"({label} (2 {first}) {tree(label, *rest)})" if rest else f"({label} {first})"


def write_trees(folder: Path) -> None:
    folder.mkdir()
    for name, number in (("train", 30), ("dev", 10), ("test", 10)):
        found = [tree(n % 5, "A", f"film{n % 7}", "not", WORDS["positive"][n % 3]) for n in range(number)]
        (folder / f"{name}.txt").write_text("\n".join(found) + "\n\n")


def shares(out: str, name: str) -> list[float]:
    return [
        float(share) for share in re.search(rf"^  {re.escape(name)} +((?:[\d.]+ *)+)$", out, re.MULTILINE)[1].split()
    ]


def test_it_runs(here, monkeypatch, capsys):
    assert call(monkeypatch, *SMALL, "--sentences", "40", "--steps", "2", "--fine", "--run-dir", "run") == 0
    out = capsys.readouterr().out
    assert "composed reviews: sentences 40 to train, 16 to validate, 40 to test; 5 classes: very negative" in out
    assert re.search(r"^ +all +plain +negation +contrast +both +neutral$", out, re.MULTILINE)
    for name in ("bidirectional GRU, attention", "bag of words", "bag of 1-2-grams", "always negative"):
        every, *each = shares(out, name)
        assert every == pytest.approx(np.mean(each), abs=2e-3)  # the groups have the same size
    assert len(shares(out, "very positive")) == 4  # F1
    np.testing.assert_allclose(
        np.mean([shares(out, c) for c in labeled_sentences.DEGREES], 0), shares(out, "mean"), atol=2e-3
    )
    for picture in ("curves", "constructions", "sentences"):
        assert Path(f"run/{picture}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_it_learns_what_a_bag_of_words_cannot(here, monkeypatch, capsys):
    monkeypatch.setattr(labeled_sentences, "VALIDATED", 200)
    monkeypatch.setattr(labeled_sentences, "TESTED", 400)
    options = ("--sentences", "1000", "--hidden-size", "32", "--embedding-size", "32", "--batch", "32")
    options += ("--dropout", "0.1", "--learning-rate", "0.02")
    assert call(monkeypatch, *options, "--steps", "250") == 0
    out = capsys.readouterr().out
    every, *each = shares(out, "bidirectional GRU, attention")
    assert every > 0.85
    for name in ("bag of words", "bag of 1-2-grams"):
        _, plain, *others = shares(out, name)
        assert plain > max(others) + 0.2
        assert max(others) < 0.6
        assert min(each) > max(others) + 0.1
    assert call(monkeypatch, "--resume") == 0  # it has ended: only its result is printed again
    assert capsys.readouterr().out.split("Accuracy on")[1] == out.split("Accuracy on")[1]


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_parameters(here, monkeypatch, capsys):
    Path("films.tsv").write_text(lines(60))
    options = (*SMALL, "--data", "films.tsv", "--pooling", "last", "--steps", "4")
    assert call(monkeypatch, *options, "--run-dir", "whole") == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert call(patch, *options, "--run-dir", "stopped") == 130
    assert call(monkeypatch, "--run-dir", "stopped", "--resume") == 0
    assert "bidirectional GRU, last" in capsys.readouterr().out
    assert read_metrics("stopped")[-1]["valid_loss"] == read_metrics("whole")[-1]["valid_loss"]
    data = read_sentences(Path("films.tsv"), False, False, 0)
    network = sentiment.Network.of(sentiment.Options(hidden_size=4, embedding_size=4, pooling="last"), 2)
    like = jax.eval_shape(lambda: (sentiment.begin(network, len(data.vocabulary(100)) + 1, 0), 0.0))
    ends = [Checkpoints(Path(run)).latest(like)[0] for run in ("whole", "stopped")]
    assert ends[0].step == 4
    jax.tree.map(np.testing.assert_array_equal, *ends)


LEADS = (
    *(
        "even though",
        "although",
        "though",
        "while",
        "in spite of the fact that",
    ),  # before the clause that does not decide
    *("but", "yet", "still", "and in addition", "and", ""),
)
SIGNS = {form: np.sign(value) for value, words in composed_reviews.ADJECTIVES.items() for form in words}
SIGNS |= {form: np.sign(value) for value, words in composed_reviews.VERBS.items() for forms in words for form in forms}


def clauses_of(text: str) -> list[tuple[str, str]]:
    """Returns the clauses of a review without its filler, each with the conjunction before it."""
    for filler in (*composed_reviews.ASIDES, *(opening.format("") for opening in composed_reviews.OPENINGS)):
        text = text.replace(filler, "")
    clauses = re.split(r", |\. ", text.strip(" .").replace("still, ", "still "))
    leads = [next(lead for lead in LEADS if f"{clause} ".startswith(f"{lead} " if lead else "")) for clause in clauses]
    return [(lead, clause.removeprefix(lead).strip()) for lead, clause in zip(leads, clauses, strict=True)]


def main_of(clauses: list[tuple[str, str]]) -> int:
    """Returns which clause decides: the one without a conjunction of concession, or else the last one."""
    return int(len(clauses) == 2 and clauses[1][0] not in LEADS[:5])


def sign_of(clause: str) -> int:
    (opinion,) = {*clause.split()} & {*SIGNS}
    negations = len(re.findall(r"\b(?:not|never|nobody|hardly|anything but)\b", clause))
    return SIGNS[opinion] * (-1) ** negations


def test_composed_labels_are_those_that_a_reader_finds():
    for part in ("train", "valid", "test"):
        found = composed_reviews.reviews(random.Random(part), part, 800, neutral=False)
        for review in found:
            clauses = clauses_of(review.text)
            signs = [sign_of(clause) for _, clause in clauses]
            assert np.sign(review.value) == signs[main_of(clauses)]
            assert (review.construction in ("contrast", "both")) == (len({*signs}) == 2)
        for construction in ("plain", "negation", "contrast", "both"):
            values = [review.value for review in found if review.construction == construction]
            assert (len(values), sum(map(np.sign, values))) == (200, 0)


def test_intensifiers_and_negations_change_the_degree():
    rng, found = random.Random(0), {}
    for part, construction, side in product(("train", "valid", "test"), ("plain", "negation"), (1, -1)):
        for _ in range(2000):
            review = composed_reviews.compose(rng, part, construction, side)
            (_, clause), *more = clauses_of(review.text)
            if not more:
                found.setdefault(re.sub("^the [a-z]+ was ", "", clause), set()).add(review.value)
    expected = {"wonderful": 2, "good": 1, "very good": 2, "rather wonderful": 1, "not wonderful": -1}
    expected |= {"not very good": -1, "anything but awful": 1, "never anything but awful": -1}
    assert {words: found[words] for words in expected} == {words: {value} for words, value in expected.items()}


def test_combinations_of_the_test_are_not_in_training():
    present = {form: forms[0] for verbs in composed_reviews.VERBS.values() for forms in verbs for form in forms}
    kinds = ("noun", "frame", "conjunction")
    found = {part: {kind: set() for kind in kinds} for part in ("train", "valid", "test")}
    words = {}
    for part, combinations in found.items():
        drawn = composed_reviews.reviews(random.Random(0), part, 4000, neutral=False)
        words[part] = {word for review in drawn for word in words_of(review.text)}
        for review in drawn:
            clauses = clauses_of(review.text)
            for n, (_, clause) in enumerate(clauses):
                (form,) = {*clause.split()} & {*SIGNS}
                (noun,) = {*clause.split()} & {*composed_reviews.NOUNS}
                opinion = present.get(form, form)
                combinations["noun"].add((opinion, noun))
                combinations["frame"].add((opinion, clause.replace(form, "*").replace(noun, "*")))
                if review.construction in ("contrast", "both") and n == main_of(clauses):
                    combinations["conjunction"].add((opinion, n, *(lead for lead, _ in clauses)))
    for kind in kinds:
        train, valid, test = (found[part][kind] for part in ("train", "valid", "test"))
        assert min(len(valid), len(test)) > 70
        assert len(train) > 2 * len(test)
        assert not train & test
        assert not (train | test) & valid
    assert words["test"] | words["valid"] <= words["train"]


def test_neutral_reviews_are_only_composed_for_five_classes():
    two, five = (labeled_sentences.composed(200, fine, 0) for fine in (False, True))
    assert (two.classes, five.classes) == (labeled_sentences.SIDES, labeled_sentences.DEGREES)
    assert {sentence.label for sentence in two.train} == {0, 1}
    assert {sentence.construction for sentence in two.train} == {"plain", "negation", "contrast", "both"}
    for sentence in five.train:
        assert (sentence.construction == "neutral") == (five.classes[sentence.label] == "neutral")
        assert (sentence.construction == "neutral") == bool(
            {"neither", "whether", "some", "sometimes", "side"} & {*sentence.words}
        )
    assert (
        labeled_sentences.composed(200, False, 1).digest
        != two.digest
        == labeled_sentences.composed(200, False, 0).digest
    )


def test_words_are_split_from_punctuation():
    assert words_of("It isn\u2019t \u201cwell-made\u201d, 8\u00a01/2 out of 10!") == (
        "it", "isn't", "\u201c", "well-made", "\u201d", ",", "8", "1", "/", "2", "out", "of", "10", "!",
    )  # fmt: skip
    found = [labeled_sentences.construction_of(words_of(text)) for text in ("Good", "Isn't it", "Good but", "But no")]
    assert found == ["plain", "negation", "contrast", "both"]


@pytest.mark.parametrize("content", ["10\tA b\n9\tC\tD!\n\n9\tE\n", "\ufefflabel\ttext\r\n10\tA b\r\n9\tC\tD!\r\n9\tE",
                                     "Sentence\tLabel\nA b\t10\nC\tD!\t9\n \t\nE\t9",
                                     "\ufeff\n \nlabel\ttext\n10\tA b\n9\tC\tD!\n9\tE"])  # fmt: skip
def test_lines_of_a_folder_are_read(here, content):
    Path("films").mkdir()
    for name in ("train.tsv", "dev.txt", "test.tsv"):
        Path("films", name).write_text(content, "utf-8", newline="")
    data = read_sentences(Path("films"), False, False, 0)
    assert data.classes == ("9", "10")
    assert data.train == data.valid == data.test
    assert [(sentence.words, sentence.label) for sentence in data.train] == [
        (("a", "b"), 1),
        (("c", "d", "!"), 0),
        (("e",), 0),
    ]


def test_a_single_file_is_split(here):
    Path("films.tsv").write_text(lines(200) + lines(200).replace("The", "the"))
    data = read_sentences(Path("films.tsv"), False, False, 0)
    assert list(map(len, data[2:])) == [160, 20, 20]
    expected = {words_of(text): label for label, text in (line.split("\t") for line in lines(200).splitlines())}
    found = {sentence.words: data.classes[sentence.label] for part in data[2:] for sentence in part}
    assert found == expected  # so no sentence is in two parts
    share = np.mean([label == "positive" for label in found.values()])
    for part in data[2:]:
        assert np.mean([sentence.label for sentence in part]) == pytest.approx(share, abs=0.03)
    assert read_sentences(Path("films.tsv"), False, False, 1).test != data.test


def test_trees_are_read(here):
    write_trees(here / "trees")
    dev = here / "trees/dev.txt"
    dev.write_text("\ufeff\n" + dev.read_text(), "utf-8")
    five, two, phrases = (
        read_sentences(Path("trees"), *how, 0) for how in ((True, False), (False, False), (False, True))
    )
    assert (five.classes, two.classes) == (labeled_sentences.DEGREES, labeled_sentences.SIDES)
    assert [sentence.label for sentence in five.train] == [n % 5 for n in range(30)]
    assert [sentence.label for sentence in two.train] == [int(n % 5 > 2) for n in range(30) if n % 5 != 2]
    assert five.test[3] == Sentence(("a", "film3", "not", "good"), 3, "negation")
    assert phrases[3:] == two[3:]
    expected = {(sentence.words[n:], sentence.label) for sentence in two.train for n in range(4)}
    assert {(sentence.words, sentence.label) for sentence in phrases.train} == expected
    assert len(phrases.train) == len(expected)


def test_rare_words_and_long_sentences_are_cut(here):
    sentences = [Sentence(tuple(words), n, "plain") for n, words in enumerate(("aab", "abac", "d"))]
    data = LabeledSentences("x", ("0", "1", "2"), sentences[:2], [], [])
    assert data.vocabulary(2) == {"a": 1, "b": 2}
    found = coded(sentences, data.vocabulary(2), longest=3)
    assert found.xs.T.tolist() == [[1, 1, 2], [1, 2, 1], [UNKNOWN, 0, 0]]
    assert found.lengths.tolist() == [3, 3, 1]
    assert coded(sentences, data.vocabulary(9), longest=9).xs[:4, 1].tolist() == [1, 2, 1, 3]


@pytest.mark.parametrize("pooling", ["attention", "mean", "last"])
def test_pooling_is_over_the_words_alone(pooling):
    network = sentiment.Network.of(sentiment.Options(pooling=pooling, hidden_size=3, embedding_size=4, dropout=0.5), 2)
    params = jax.jit(network.init, static_argnums=1)(jax.random.key(0), 9)
    xs = jax.random.randint(jax.random.key(1), (6, 3), 0, 9)
    lengths = np.array([6, 1, 4])
    found = sentiment.read(network, params, xs, lengths)
    padded = np.where(np.arange(6)[:, None] < lengths, xs, 8)
    np.testing.assert_array_equal(sentiment.read(network, params, padded, lengths).logits, found.logits)
    for n, length in enumerate(lengths):
        state, ys = jaxrnn.unroll(network.reader, params.reader, xs[:length, n])
        ys = np.asarray(ys, np.float64)
        if pooling == "last":
            forward, backward = state[2]
            pooled = np.concatenate([forward.h, backward.h])
            np.testing.assert_array_equal(found.weights, 0)
        else:
            scores = np.zeros(length)
            if pooling == "attention":
                hidden, _, last = params.scorer
                scores = (np.tanh(ys @ hidden.w + hidden.b) @ last.w + last.b)[:, 0]
            weights = np.exp(scores) / np.exp(scores).sum()
            pooled = weights @ ys
            np.testing.assert_allclose(found.weights[:, n], [*weights, *np.zeros(6 - length)], rtol=1e-5)
        logits = pooled @ params.head[0].w + params.head[0].b
        np.testing.assert_allclose(found.logits[n], logits, rtol=1e-4, atol=1e-6)


def test_falls_are_those_of_sentences_without_a_word(monkeypatch):
    network = sentiment.Network.of(sentiment.Options(hidden_size=3, embedding_size=4), 2)
    params = jax.tree.map(lambda p: 3 * p, jax.jit(network.init, static_argnums=1)(jax.random.key(0), 9))
    xs = jnp.array([3, 5, 8, 1, 7, 0])

    def probability(symbols):
        return jax.nn.softmax(sentiment.read(network, params, symbols[:4, None], np.array([4])).logits)[0, 1]

    expected = [probability(xs) - probability(xs.at[n].set(UNKNOWN)) for n in range(4)]
    found = sentiment.falls(network, params, xs, 4, 1)
    np.testing.assert_allclose(found, [*expected, 0, 0], atol=1e-6)
    assert np.abs(expected).min() > 1e-4
    monkeypatch.setattr(sentiment, "DRAWN", 3)
    np.testing.assert_allclose(sentiment.falls(network, params, xs[:5], 4, 1), expected[:3], atol=1e-6)


def test_long_sentences_and_words_are_drawn_in_part(tmp_path):
    """A picture of all words would be larger than matplotlib allows."""
    shown = [
        sentiment.Shown(Sentence(words, 0, "plain"), "a", "b", 0.5, np.ones(len(words)), np.ones(3))
        for words in (("word",) * 20_000, ("w" * 5000, "$x_{$", "\u597d"))
    ]
    sentiment.plot_sentences(tmp_path / "sentences.png", shown, "title")
    height, width, _ = imread(tmp_path / "sentences.png").shape
    assert height < width == 11 * 150


def test_word_dropout_replaces_words_by_the_unknown_one():
    xs = np.full((100, 40), 4)
    assert (sentiment.drop_words(jax.random.key(0), xs, 0.0) == xs).all()
    found = sentiment.drop_words(jax.random.key(0), xs, 0.25)
    assert {*np.unique(found)} == {UNKNOWN, 4}
    assert np.mean(found == UNKNOWN) == pytest.approx(0.25, abs=0.03)


def test_bags_of_words_see_no_order_but_bigrams_do():
    rng = random.Random(0)

    def drawn(number: int) -> list[Sentence]:
        labels = [n % 2 for n in range(number)]
        pairs = [("not", "bad") if label else ("bad", "not") for label in labels]
        return [
            Sentence((rng.choice("xyz"), *pair, rng.choice("xyz")), label, "plain")
            for pair, label in zip(pairs, labels, strict=True)
        ]

    data = LabeledSentences("x", ("no", "yes"), drawn(101), drawn(50), drawn(400))
    labels = np.array([sentence.label for sentence in data.test])
    shares = {name: np.mean(found == labels) for name, found in labeled_sentences.bags_of_words(data).items()}
    assert shares["bag of 1-2-grams"] == 1
    assert 0.4 < shares["bag of words"] < 0.6
    assert shares["always no"] == 0.5


@pytest.mark.slow
def test_the_bags_are_those_that_validation_chooses():
    data = labeled_sentences.composed(400, False, 0)._replace(valid=labeled_sentences.composed(10, False, 1).test)
    columns = [([" ".join(s.words) for s in part], [s.label for s in part]) for part in data[2:]]
    (seen, labels), (held_out, wanted), (unseen, _) = columns
    models = [
        make_pipeline(kind(token_pattern=r"\S+", ngram_range=(1, 2)), LogisticRegression(C=c, max_iter=1000))
        for kind, c in product((CountVectorizer, TfidfVectorizer), labeled_sentences.STRENGTHS)
    ]
    scores = [model.fit(seen, labels).score(held_out, wanted) for model in models]
    assert len({*scores}) > 1
    expected = models[int(np.argmax(scores))].predict(unseen)
    np.testing.assert_array_equal(labeled_sentences.bags_of_words(data)["bag of 1-2-grams"], expected)


def test_shown_sentences_are_of_each_construction():
    sentences = [
        Sentence(("word",) * (3 + 90 * (n % 3 == 0)), 0, labeled_sentences.CONSTRUCTIONS[n % 4]) for n in range(80)
    ]
    right = np.arange(80) % 5 > 0
    found = sentiment.examples(sentences, right)
    assert len({*found}) == sentiment.SHOWN
    assert [sentences[n].construction for n in found] == [
        c for c in labeled_sentences.CONSTRUCTIONS[:4] for _ in range(3)
    ]
    assert all(len(sentences[n].words) == 3 for n in found)
    assert [bool(right[n]) for n in found] == [True, False, True] * 4


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", "missing"], "cannot read .*missing: No such file"),
        (["--data", "empty.tsv"], "empty.tsv has no sentence with a label"),
        (["--data", "header.tsv"], "header.tsv has no sentence with a label"),
        (["--data", "bytes.tsv"], "bytes.tsv is not UTF-8 text: byte 2 is 0xff"),
        (["--data", "untabbed.tsv"], "untabbed.tsv, line 2: 'positive good' is not a label, a tab and a text"),
        (["--data", "unlabeled.tsv"], "unlabeled.tsv, line 2: the label is missing"),
        (["--data", "wordless.tsv"], "wordless.tsv, line 1: the text has no words"),
        (["--data", "one.tsv"], "one.tsv must have at least two different labels, but all are 'a'"),
        (["--data", "few.tsv"], "each label of .*few.tsv must have at least 10 different sentences.* but 'nan' has 1"),
        (["--data", "swapped.tsv"], "swapped.tsv has 150 different labels, such as 'film 0', but at most 100"),
        (["--data", "half"], "half must have either dev.tsv or dev.txt, but it has neither"),
        (["--data", "double"], "double must have either train.tsv or train.txt, but it has both"),
        (
            ["--data", "strange"],
            "strange/dev.tsv, line 2: the label 'c' does not occur in .*strange/train.tsv, .*'a', 'b'",
        ),
        (["--data", "mixed"], "mixed/train.tsv has lines of a label.*, but .*mixed/dev.txt has trees: use one format"),
        (["--data", "good.tsv", "--fine"], "--fine needs trees, but .*good.tsv has lines"),
        (["--data", "good.tsv", "--phrases"], "--phrases needs trees, but .*good.tsv has lines"),
        (["--phrases"], "--phrases needs --data with trees"),
        (["--data", "open.txt"], r"open.txt, line 2: not a tree such as \(3 \(2 good\) \(2 film\)\)"),
        (["--data", "high.txt"], "high.txt, line 3: labels must be from 0, very negative, to 4, .* but one is 5"),
        (["--data", "neutral.txt"], "neutral.txt has no sentence with a label other than neutral"),
        (["--cell", "GUR"], "no cell named 'GUR'"),
        (["--data", "deep.txt"], "deep.txt, line 2: a tree may have at most 300 levels, but this one has more"),
        (["--data", "good.tsv", "--sentences=50"], "--sentences has no effect with --data: give one of them"),
        (["--seed", "2147483648"], "--seed must be at most 2147483647, but it is 2147483648"),
        (["--pooling", "max"], "--pooling"),
        (["--dropout", "1"], "--dropout must be from 0 to below 1"),
        (["--word-dropout", "-0.1"], "--word-dropout must be from 0 to below 1"),
        (["--sentences", "5"], "--sentences must be at least 10"),
        (["--longest", "0"], "--longest must be at least 1"),
        (["--learning-rate", "nan"], "--learning-rate must be above 0"),
        (["--resume"], "there is no run in runs/sentiment"),
    ],
)
def test_bad_input_is_reported_in_one_line(here, monkeypatch, capsys, options, complaint):
    good = "".join(f"{label}\tfilm {n}\n" for n in range(10) for label in "ab")
    files = {
        "good.tsv": lines(50),
        "empty.tsv": "\n",
        "header.tsv": "label\ttext\n",
        "untabbed.tsv": "negative\tbad\npositive good\n",
        "unlabeled.tsv": "a\tb\n \tb\n",
        "wordless.tsv": "a\t \n",
        "one.tsv": "a\tb\na\tc\n",
        "few.tsv": good + "nan\tfilm\n",
        "swapped.tsv": "".join(f"film {n}\t{n % 2}\n" for n in range(150)),
        "half/train.tsv": good,
        "double/train.tsv": good,
        "double/train.txt": good,
        "strange/train.tsv": good,
        "strange/dev.tsv": "a\tb\nc\td\n",
        "strange/test.tsv": good,
        "mixed/train.tsv": good,
        "mixed/dev.txt": "(3 (2 A) (4 film))",
        "mixed/test.tsv": good,
        "open.txt": "(3 good)\n(3 (2 good)\n",
        "high.txt": "(3 good)\n\n(3 (5 good) (2 film))\n",
        "deep.txt": "(3 good)\n" + "(3 (2 a) " * 300 + "(3 b)" + ")" * 300,
        "neutral.txt": "(2 (4 good) (2 film))\n",
    }
    for name, content in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    Path("bytes.tsv").write_bytes(b"a\t\xff\n")
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
    assert not Path("runs").exists()
