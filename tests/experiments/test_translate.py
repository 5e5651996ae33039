"""Sequences to sequences: attention and beam search against other implementations, the data, what is learned."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections import Counter
from datetime import datetime
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu
import translate
from data import sequence_pairs
from data.sequence_pairs import END, UNKNOWN
from models.attention import Attention
from models.translator import Translator, search
from support.options import RunFolder

import jaxrnn
from jaxrnn.loops import Deferred, Scan
from jaxrnn.testing import check_cell
from tests.support.scripts import call_script, error_line, read_metrics

pytestmark = pytest.mark.usefixtures("quick")


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "translate.py", options, translate.main, translate.Options, RunFolder)


@pytest.mark.slow
def test_learns_dates_beyond_the_frequencies_of_digits(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ("--hidden-size", "64", "--embedding-size", "32", "--learning-rate", "0.008", "--dropout", "0")
    assert call(monkeypatch, *options, "--steps", "300", "--beam", "2", "--run-dir", "run") == 0

    dates = sequence_pairs.dates()
    places = [Counter(place) for place in zip(*(right for _, right in dates.dev), strict=True)]
    shares = [np.array([*counts.values()]) / len(dates.dev) for counts in places]
    trivial = sum(-(share * np.log(share)).sum() for share in shares) / 11  # the end is certain: nothing to its loss
    assert min(float(row["valid_loss"]) for row in read_metrics("run")) < 0.6 * trivial

    out = capsys.readouterr().out
    assert re.search(
        r"data +dates: 34,025 pairs for training, 500 for validation, 2,000 for test; sha256 \w{12}\n", out
    )
    assert re.search(r"greedy +\d+\.\d\d % exact, \d+\.\d\d % errors per symbol on test", out)
    assert re.search(r"beam of 2 +\d+\.\d\d % exact, \d+\.\d\d % errors per symbol on test", out)
    assert re.search(r"baseline +0\.00 % exact", out)
    for picture in ("attention.png", "curves.png"):
        assert Path("run", picture).read_bytes().startswith(b"\x89PNG")


def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(translate, "BUCKETS", 1)
    for split in ("train", "dev", "test"):
        Path(f"{split}.src").write_text("a b c\nb a\n" * 3)
        Path(f"{split}.trg").write_text("c b a\na b\n" * 3)
    options = ("--data", ".", "--hidden-size", "8", "--embedding-size", "4", "--batch", "4", "--steps", "2")
    assert call(monkeypatch, *options, "--cell", "GRU", "--beam", "1", "--run-dir", "run") == 0
    out = capsys.readouterr().out
    assert re.search(r"greedy +\d+\.\d\d BLEU, \d+\.\d\d % exact, \d+\.\d\d % errors per symbol on test", out)
    assert re.search(r"baseline +\d+\.\d\d BLEU", out)
    for picture in ("attention.png", "curves.png"):
        assert Path("run", picture).read_bytes().startswith(b"\x89PNG")
    columns = zip(*(line.split("\t") for line in Path("run/translations.tsv").read_text().splitlines()), strict=True)
    source, output, target = columns
    assert (source, target) == (("source", *3 * ["a b c", "b a"]), ("target", *3 * ["c b a", "a b"]))
    right = sum(one == other for one, other in zip(output, target, strict=True))
    assert f"BLEU, {100 * right / 6:.2f} % exact" in out


def test_error_rate_is_that_of_a_search_over_all_edits():
    """Levenshtein's distance as the length of the shortest way from one sequence to the other, one edit at a time."""

    def neighbours(s):
        yield from (s[:n] + s[n + 1 :] for n in range(len(s)))
        yield from (s[:n] + a + s[n + 1 :] for n in range(len(s)) for a in "ab")
        yield from (s[:n] + a + s[n:] for n in range(len(s) + 1) for a in "ab")

    words = ["".join(letters) for length in range(4) for letters in itertools.product("ab", repeat=length)]
    for start in words:
        distance, reached, steps = {start: 0}, {start}, 0
        while not distance.keys() >= set(words):
            steps += 1
            reached = {new for s in reached for new in neighbours(s) if len(new) <= 4} - distance.keys()
            distance |= dict.fromkeys(reached, steps)
        for end in words:
            assert sequence_pairs.edit_distance(list(start), list(end)) == distance[end], (start, end)
    assert sequence_pairs.error_rate([["a"], list("abc")], [list("ab"), list("xbc")]) == pytest.approx(2 / 5)
    assert sequence_pairs.error_rate([["a"]], [[]]) == 1


def test_only_blanks_separate_tokens(tmp_path):
    for split in ("train", "dev", "test"):
        Path(tmp_path, f"{split}.a").write_text("8\u00a01/2 \u3000 b\t c\n", "utf-8")
        Path(tmp_path, f"{split}.b").write_text("x\n")
    data = sequence_pairs.parallel_text(tmp_path, "a", "b")
    assert data.train == [(["8\u00a01/2", "\u3000", "b", "c"], ["x"])]


@pytest.mark.slow
def test_text_with_local_attention_and_input_feeding(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(translate, "BUCKETS", 2)
    text = {
        "train": ["彼 は 泳 ぐ", "私 は 走 る 。", "彼 は 走 る 。"] * 4,
        "dev": ["私 は 泳 ぐ"],
        "test": ["彼 は 食べ る", "私"],
    }
    for split, lines in text.items():
        Path(f"{split}.ja").write_text("\n".join(lines) + "\n", "utf-8")
        Path(f"{split}.en").write_text("\n".join("he swims well ." for _ in lines) + "\n")
    options = ("--hidden-size", "8", "--embedding-size", "4", "--batch", "4", "--steps", "4", "--run-dir", "run")
    suffixes = ("--data", ".", "--source", "ja", "--target", "en")
    more = ("--window", "2", "--input-feeding", "--cell", "GRU", "--learning-rate", "0.1")
    assert call(monkeypatch, *options, *suffixes, *more) == 0
    captured = capsys.readouterr()
    assert re.search(
        r"beam of 5 +\d+\.\d\d BLEU, \d+\.\d\d % exact, \d+\.\d\d % errors per symbol on test", captured.out
    )
    assert re.search(r"baseline +100.00 BLEU", captured.out)
    assert "Glyph" not in captured.err
    assert read_metrics("run")[-1]["step"] == "4"


def make(attention: jaxrnn.Cell | None = None, num_target: int = 5, scale: float = 4.0) -> tuple[Translator, object]:
    """A small model whose outputs are far from uniform."""
    model = Translator(jaxrnn.LSTM(4), attention or jaxrnn.LSTM(8), 4, 0.0, num_target)
    return model, jax.tree.map(lambda p: scale * p, model.init(jax.random.key(0), 6))


def sources(number: int, time: int = 5) -> tuple[jax.Array, jax.Array]:
    symbols = jax.random.randint(jax.random.key(1), (time, number), 0, 6)
    return symbols, 1 + jnp.arange(number) % time


@pytest.mark.parametrize(
    ("score", "window"),
    [
        ("general", 3.0),
        pytest.param("dot", None, marks=pytest.mark.slow),
        pytest.param("additive", None, marks=pytest.mark.slow),
    ],
)
def test_attention_is_that_of_numpy(score, window):
    cell = Attention(jaxrnn.GRU(6), score, window)
    params = jax.tree.map(lambda p: 3 * p, cell.init(jax.random.key(0), 3))
    values, h = (np.asarray(jax.random.normal(jax.random.key(n), (2, 4, 6))) for n in (1, 2))
    lengths = np.array([4, 2])
    queries = h.swapaxes(0, 1)  # [step, batch, hidden]
    weights, attended = cell.attend(cell.remember(params, jnp.asarray(values), jnp.asarray(lengths)), queries)
    w = {name: None if p is None else np.asarray(p) for name, p in params._asdict().items() if name not in ("cell",)}
    for step, b in itertools.product(range(4), range(2)):
        q, scores = queries[step, b], []
        for s in range(lengths[b]):
            m = values[b, s]
            if score == "dot":
                e = q @ m
            elif score == "general":
                e = q @ (m @ w["w_k"])
            else:
                e = w["v"] @ np.tanh(q @ w["w_q"] + m @ w["w_k"])
            if window is not None:
                p = (lengths[b] - 1) / (1 + np.exp(-w["v_p"] @ np.tanh(q @ w["w_p"])))
                e -= (s - p) ** 2 / (2 * (window / 2) ** 2)
            scores.append(e)
        a = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(weights[step, b, : lengths[b]], a, rtol=1e-4, atol=1e-6)
        h_tilde = np.tanh(np.concatenate([a @ values[b, : lengths[b]], q]) @ w["w_c"])
        np.testing.assert_allclose(attended[step, b], h_tilde, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("score", "feeding"), [("dot", False), ("additive", True)])
def test_weights_sum_to_one_and_vanish_on_padding(score, feeding):
    model, params = make(Attention(jaxrnn.LSTM(8), score, input_feeding=feeding))
    (source, lengths), target = sources(5), jnp.full((3, 5), 2)
    alignment = jax.jit(model.alignment)
    weights = alignment(params, source, lengths, target)
    assert weights.shape == (3, 5, 5)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert (weights[:, np.arange(5) >= lengths[:, None]] == 0).all()
    assert (weights[:, 4] > 0).all()
    other = jnp.where(jnp.arange(5)[:, None] < lengths, source, 5)  # other symbols in the padding
    np.testing.assert_array_equal(alignment(params, other, lengths, target), weights)


@pytest.mark.slow
def test_the_cell_keeps_the_contract_and_loops_agree():
    check_cell(Attention(jaxrnn.LSTM(8), "dot", input_feeding=True))
    cell = Attention(jaxrnn.GRU(6), "additive", 3.0, input_feeding=True)
    params, (values, xs) = cell.init(jax.random.key(0), 3), (jnp.cos(jnp.arange(n)) for n in (2 * 5 * 6, 4 * 2 * 3))

    def loss(params, values, loop):
        params = cell.remember(params, values, jnp.array([5, 3]))
        return (jaxrnn.unroll(cell, params, xs.reshape(4, 2, 3), loop=loop)[1] ** 2).sum()

    gradients = [
        jax.jit(jax.grad(lambda *p, loop=loop: loss(*p, loop), (0, 1)))(params, values.reshape(2, 5, 6))
        for loop in (Scan(), Deferred())
    ]
    for one, other in zip(*map(jax.tree.leaves, gradients), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
        assert (one != 0).any()


encode = jax.jit(Translator.encode, static_argnums=0)


@partial(jax.jit, static_argnums=0)
def decode(model: Translator, params: object, state: object, read: jax.Array) -> tuple[object, jax.Array]:
    state, logits = jaxrnn.step(model.decoder, params, state, read)
    return state, jax.nn.log_softmax(logits)[0]


def log_probabilities(model: Translator, params: object, source, length, outputs: list[tuple[int, ...]]) -> np.ndarray:
    """log p of each output for one source, step by step."""
    p_decoder, first = encode(model, params, source[:, None], length[None])
    found: dict[tuple[int, ...], tuple[float, object, np.ndarray]] = {}

    def after(prefix: tuple[int, ...]) -> tuple[float, object, np.ndarray]:
        if prefix not in found:
            log_p, state, following = (0.0, first, None) if not prefix else after(prefix[:-1])
            if following is not None:
                log_p += following[prefix[-1]]
            read = jnp.array([prefix[-1] if prefix else END])
            state, following = decode(model, p_decoder, state, read)
            found[prefix] = log_p, state, np.asarray(following)
        return found[prefix]

    return np.array([after(output[:-1])[0] + after(output[:-1])[2][output[-1]] for output in outputs])


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [None, Attention(jaxrnn.LSTM(8), input_feeding=True)])
def test_beam_search_is_exhaustive_search_if_the_beam_is_wide(decoder):
    model, params = make(decoder, num_target=4)
    steps, (source, lengths) = 4, sources(4)
    words = [n for n in range(4) if n not in (END, UNKNOWN)]
    outputs = [(*out, END) for n in range(steps) for out in itertools.product(words, repeat=n)]
    outputs += list(itertools.product(words, repeat=steps))  # cut off
    wide = {power: search(model, params, source, lengths, steps, len(outputs), power) for power in (0.0, 1.0)}
    narrow, greedy = (search(model, params, source, lengths, steps, width, 0.0) for width in (2, 1))
    for b in range(4):
        log_p = log_probabilities(model, params, source[:, b], lengths[b], outputs)
        for power, (symbols, total) in wide.items():
            best = max(range(len(outputs)), key=lambda n: log_p[n] / len(outputs[n]) ** power)
            padded = (*outputs[best], *[END] * (steps - len(outputs[best])))
            np.testing.assert_array_equal(symbols[:, b], padded)
            assert total[b] == pytest.approx(log_p[best], rel=1e-4)
        written = tuple(int(s) for s in greedy[0][:, b])
        written = written[: written.index(END) + 1] if END in written else written
        prefix: tuple[int, ...] = ()
        while not prefix or (prefix[-1] != END and len(prefix) < steps):  # greedily, one symbol after the other
            options = [(*prefix, n) for n in (END, *words)]
            prefix = options[int(log_probabilities(model, params, source[:, b], lengths[b], options).argmax())]
        assert written == prefix
    assert (wide[0.0][1] >= narrow[1] - 1e-5).all()
    assert (wide[0.0][1] >= greedy[1] - 1e-5).all()


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [None, Attention(jaxrnn.LSTM(8), input_feeding=True)])
def test_greedy_search_is_a_closed_loop(decoder):
    model, params = make(decoder, num_target=6)
    source, lengths = sources(16)
    symbols, _ = search(model, params, source, lengths, 8)
    p_decoder, state = model.encode(params, source, lengths)

    def best(logits):
        return jnp.where(jnp.arange(6) == UNKNOWN, -jnp.inf, logits).argmax(-1)

    end = jnp.full((1, 16), END)
    out = jaxrnn.generate(model.decoder, p_decoder, end, state, steps=8, feed=best, stop=lambda x: x == END)
    np.testing.assert_array_equal(symbols, np.where(np.arange(8)[:, None] < out.lengths, out.xs, END))
    assert len(set(out.lengths.tolist())) > 1


@pytest.mark.slow
def test_a_beam_finds_likelier_outputs_than_greedy_search():
    model, params = make(Attention(jaxrnn.LSTM(8)), num_target=12)
    source, lengths = sources(64)
    log_p = [search(model, params, source, lengths, 8, width, 0.0)[1].mean() for width in (1, 4)]
    assert log_p[1] > log_p[0] + 0.01


@pytest.mark.slow
def test_the_loss_is_that_of_each_symbol_given_those_before_it():
    model, params = make(Attention(jaxrnn.LSTM(8), "general", input_feeding=True))
    source, lengths = sources(3)
    targets = [(2, 3, END), (4, END), (3, 2, 2, END)]
    padded = jnp.array([[*t, 3, 3, 3, 3][:4] for t in targets]).T  # any symbols in the padding
    loss = model.loss(params, (source, lengths, padded, jnp.array([*map(len, targets)])))
    log_p = [log_probabilities(model, params, source[:, b], lengths[b], [t])[0] for b, t in enumerate(targets)]
    assert loss == pytest.approx(-sum(log_p) / 9, rel=1e-4)


def test_dates_are_the_same_days_in_both_ways():
    dates = sequence_pairs.dates()
    ways = "%A, %d %B %Y", "%d/%m/%y", "%d.%m.%Y", "%B %d, %Y", "%d %b %y", "%a %d %b %Y", "the %d of %B %Y"
    seen = Counter()
    for source, right in dates.train[:300] + dates.test[:300]:
        text, day = "".join(source), datetime.strptime("".join(right), "%Y-%m-%d")
        for way in ways:
            try:
                read = datetime.strptime(text, way)
            except ValueError:
                continue
            century = 100 * (read.year < 1950) - 100 * (read.year > 2049)  # strptime has another for two digits
            assert read.replace(year=read.year + century) == day
            seen[way] += 1
    assert min(seen[way] for way in ways) > 30
    assert not {"".join(r) for _, r in dates.train} & {"".join(r) for _, r in dates.dev + dates.test}


@pytest.mark.slow
def test_sums_are_right_and_held_out_in_either_order():
    sums = sequence_pairs.additions()
    assert (len(sums.train), len(sums.dev) + len(sums.test)) == (45_000, 5_000)
    asked = [
        [frozenset(map(int, "".join(s).split("+"))) for s, _ in split] for split in (sums.train, sums.dev + sums.test)
    ]
    assert not {*asked[0]} & {*asked[1]}
    for source, right in sums.train[:1000]:
        assert sum(map(int, "".join(source).split("+"))) == int("".join(right))


def test_symbols_scores_and_the_baseline():
    data = sequence_pairs.SequencePairs(
        "some", [(["a", "b"], ["x"]), (["b", "c"], ["y", "x"])] * 2 + [(["d"], ["z"])], [], [], words=True
    )
    vocabularies = data.vocabulary(0), data.vocabulary(1)
    assert vocabularies == (["</s>", "<unk>", "a", "b", "c"], ["</s>", "<unk>", "x", "y"])
    source, lengths, target, target_lengths = sequence_pairs.arrays(data.train[2:], *vocabularies)
    np.testing.assert_array_equal(source.T, [[2, 3, END], [3, 4, END], [UNKNOWN, END, END]])
    np.testing.assert_array_equal((lengths, target_lengths), [[3, 3, 2], [2, 3, 2]])
    assert sequence_pairs.as_tokens(target, vocabularies[1]) == [["x"], ["y", "x"], ["<unk>"]]
    assert data._replace(test=[(["c", "b"], ["y"])]).nearest() == [["y", "x"]]

    hypotheses, right = ["the cat sat on the mat .", "it did"], ["the cat sat on a mat .", "it did n't"]
    scored = data.score_of([h.split() for h in hypotheses], [([], r.split()) for r in right])
    precisions = 8 / 9, 5 / 7, 2 / 5, 1 / 4  # counted by hand, of one to four words; the second is too short for more
    penalty = math.exp(1 - 10 / 9)
    assert scored == pytest.approx(100 * penalty * math.prod(precisions) ** 0.25, abs=0.01)
    assert scored == sacrebleu.corpus_bleu(hypotheses, [right], tokenize="none", force=True).score
    assert data._replace(words=False).score_of([["1"], ["2"]], [([], ["1"]), ([], ["3"])]) == 50


@pytest.mark.parametrize("cell", ["GRU", pytest.param("ProjectedLSTM", marks=pytest.mark.slow)])
def test_cells_by_name(cell):
    config = translate.Options(cell=cell, hidden_size=8, embedding_size=4, input_feeding=True)
    model = translate.make_model(config, 9)
    train = jax.eval_shape(lambda: translate.begin(config, model, 7))
    batch = [jax.ShapeDtypeStruct(shape, np.int32) for shape in ((5, 12), (12,), (6, 12), (12,))]
    update = partial(translate.update, config, model)
    after, loss = jax.eval_shape(update, train, [batch], jax.random.key(0), jnp.float32(0.1))
    assert jax.tree.structure(after) == jax.tree.structure(train)
    assert loss.shape == ()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", ".", "--task", "dates"], "--task has no effect with --data"),
        (["--data", "missing"], "cannot read .*missing/train.src: No such file"),
        (["--data", ".", "--source", "bytes"], "train.bytes is not UTF-8 text: byte 4 is 0xff"),
        (["--data", ".", "--target", "short"], "train has 2 lines in .src, 1 in .short"),
        (["--data", ".", "--source", "long", "--target", "long"], "no training pair of at most 50 words"),
        (["--data", "."], "cannot read .*dev.src: No such file"),
        (["--data", ".", "--target", "none"], "cannot read .*train.none"),
        (["--cell", "LSMT"], "no cell named 'LSMT'"),
        (["--attention", "much"], "--attention"),
        (["--attention", "none", "--input-feeding"], "--input-feeding and --window need attention"),
        (["--window", "0"], "--window must be above 0"),
        (["--hidden-size", "6"], "--hidden-size must be a multiple of 4 above 0, but it is 6"),
        (["--embedding-size", "0"], "--embedding-size must be at least 1"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--beam", "0"], "--beam must be at least 1"),
        (["--power", "-1"], "--power must be at least 0"),
        (["--dropout", "1"], "--dropout must be from 0 to below 1"),
        (["--learning-rate", "inf"], "--learning-rate must be above 0 and finite"),
        (["--resume"], "there is no run in runs/translate"),
    ],
)
def test_bad_input_is_reported_in_one_line(tmp_path, monkeypatch, capsys, options, complaint):
    monkeypatch.chdir(tmp_path)
    contents = {"src": b"a b\nc\n", "trg": b"a b\nc\n", "bytes": b"text\xff", "short": b"a\n", "long": b"a " * 51}
    for suffix, content in contents.items():
        for split in ("train", "dev", "test") if suffix == "long" else ("train",):
            Path(f"{split}.{suffix}").write_bytes(content)
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
    assert not Path("runs").exists()


def test_a_cell_is_a_value():
    cell = Attention(jaxrnn.LSTM(8), "additive", 2.0, True)
    assert cell == Attention(jaxrnn.LSTM(8), "additive", 2.0, True) != dataclasses.replace(cell, window=None)
