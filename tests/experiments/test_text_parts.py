"""Texts that are read part by part, and the windows of their streams."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections import Counter

import jax
import numpy as np
import pytest
from data import parts as file_parts
from data import words
from data.text import Text
from data.windows import Streams
from support import devices
from support.errors import BadInputError
from support.feeding import Feed

from tests.support.scripts import EXPERIMENTS


def characters(kinds: str, number: int = 500) -> str:
    return "".join(random.Random(0).choices(kinds, k=number))


@pytest.mark.parametrize("chunk", [1, 7, 64, 10_000])
@pytest.mark.parametrize("kinds", ["abc \n", "aé€😀\r\n", "€"])
def test_a_text_in_parts_is_the_text(tmp_path, monkeypatch, chunk, kinds):
    monkeypatch.setattr(file_parts, "CHUNK", chunk)
    path, whole = tmp_path / "text.txt", characters(kinds)
    path.write_bytes(whole.encode())
    text = Text.of(path)
    assert text.alphabet == "".join(sorted(set(kinds)))
    assert text.digest == hashlib.sha256(whole.encode()).hexdigest()
    assert len(text.symbols) == len(whole)
    expected = [text.alphabet.index(c) for c in whole]
    assert np.asarray(text.symbols).tolist() == expected
    for start, stop in [(0, 1), (499, 500), (0, 500), (123, 321), (7, 7), (9, 3), (490, 600), (-20, None)]:
        found = text.symbols[start:stop]
        assert found.tolist() == expected[start:stop]
        assert found.dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "byte"),
    [(b"text\xff", "4 is 0xff"), (b"ab\xc3", "2 is 0xc3"), (b"\xe2\x82", "0 is 0xe2"), (b"a\x82bc", "1 is 0x82")],
)
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_the_first_byte_that_is_not_utf_8_is_named(tmp_path, monkeypatch, content, byte, chunk):
    monkeypatch.setattr(file_parts, "CHUNK", chunk)
    path = tmp_path / "text.txt"
    path.write_bytes(50 * b"x\xc3\xa9" + content)
    start, what = byte.split(maxsplit=1)
    with pytest.raises(BadInputError, match=f"text.txt is not UTF-8 text: byte {150 + int(start)} {what}$"):
        Text.of(path)


@pytest.mark.parametrize("chunk", [1, 7, 64, 10_000])
@pytest.mark.parametrize("end", ["", "\n", " ", "\r\n"])
def test_words_in_parts_are_the_words(tmp_path, monkeypatch, chunk, end):
    monkeypatch.setattr(file_parts, "CHUNK", chunk)
    rng = random.Random(1)
    parts = rng.choices(["the", "cat", "é€", "a\u00a0b", "<unk>", "rare"], [9, 5, 4, 3, 2, 1], k=300)
    text = "".join(part + rng.choice([" ", "  ", "\t", "\n", "\r\n", " \n\n"]) for part in parts) + "last" + end
    for split in words.SPLITS:
        (tmp_path / f"{split}.txt").write_bytes(text.encode())
    lines = text.replace("\r\n", "\n").split("\n")
    lines = lines[:-1] if not lines[-1] else lines
    expected = [word for line in lines for word in (*line.replace("\t", " ").split(" "), "<eos>") if word]
    frequent = [word for word, _ in Counter(expected).most_common() if word not in ("<eos>", "<unk>")][:4]
    corpus = words.Corpus.of(tmp_path, 6)
    assert corpus.vocabulary == ("<eos>", *frequent, "<unk>")
    known = {word: n for n, word in enumerate(corpus.vocabulary)}
    ids = [known.get(word, 5) for word in expected]
    assert np.asarray(corpus.train).tolist() == corpus.test.tolist() == ids
    assert corpus.train[100:150].tolist() == ids[100:150]
    assert corpus.train[-3:].tolist() == ids[-3:]


def test_rare_words_are_forgotten_when_there_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(words, "COUNTED", 20)
    monkeypatch.setattr(file_parts, "CHUNK", 50)
    text = "".join(f"often seldom often {n}\n" for n in range(500))
    for split in words.SPLITS:
        (tmp_path / f"{split}.txt").write_text(text)
    counts = words.WordFile.of(tmp_path / "train.txt").counts
    assert counts["often"] == 2 * counts["seldom"] == 1000
    assert len(counts) <= 20
    assert words.Corpus.of(tmp_path, 4).vocabulary == ("<eos>", "often", "seldom", "<unk>")


def test_the_digest_is_that_of_words_and_vocabulary(tmp_path):
    for split in words.SPLITS:
        (tmp_path / f"{split}.txt").write_text("a b c a\n")
    digests = {words.Corpus.of(tmp_path, size).digest for size in (3, 4)}
    (tmp_path / "test.txt").write_text("a b c b\n")
    assert len({*digests, words.Corpus.of(tmp_path, 3).digest}) == 3


def test_streams_of_a_circular_text():
    """Against the text repeated: a stream reads on where the next one began, and at the end from the beginning."""
    text = np.arange(103)
    streams = Streams(text, 101, number=4, length=7, circular=True, unit="characters")
    repeated = np.tile(text[:101], 9)
    windows = streams.cut(2, 60, range(1, 3))
    assert windows.shape == (60, 8, 2)
    for step in (2, 3, 20, 61):
        for column, stream in enumerate((1, 2)):
            start = stream * 25 + step * 7
            np.testing.assert_array_equal(windows[step - 2, :, column], repeated[start : start + 8])


def test_streams_that_return_to_their_starts():
    text = np.arange(100)
    streams = Streams(text, 100, number=3, length=7, circular=False, unit="words")
    assert streams.windows == 4
    windows = streams.cut(0, 10, range(3))
    np.testing.assert_array_equal(windows[0, :, 1], np.arange(33, 41))
    np.testing.assert_array_equal(windows[:3, -1], windows[1:4, 0])
    np.testing.assert_array_equal(windows[4:8], windows[:4])
    np.testing.assert_array_equal(streams.cut(3, 5, range(2, 3)), windows[3:8, :, 2:])


def test_a_text_that_is_too_short():
    complaint = r"the text is too short: training has 31 words, but one batch of windows takes 4 \* 8"
    with pytest.raises(BadInputError, match=complaint):
        Streams(np.arange(40), 31, number=4, length=7, circular=False, unit="words")
    assert Streams(np.arange(40), 32, number=4, length=7, circular=False, unit="words").windows == 1


def test_a_feed_gives_each_step_its_windows(monkeypatch):
    monkeypatch.setattr("support.feeding.BYTES", 1000)
    calls = []

    def cut(step: int, steps: int, streams: range) -> np.ndarray:
        calls.append((step, steps))
        return step + np.arange(steps, dtype=np.int16)[:, None, None] * np.ones((5, len(streams)), np.int16)

    feed = Feed(cut, devices.make_mesh("one", 3), 3)
    assert feed.capacity == 1000 // 30
    calls.clear()
    feed.prepare(4, 7)
    for step, steps in ((4, 6), (4, 7), (4, 8), (5, 3), (0, 33)):  # the first two are prepared
        block = feed(step, steps)
        assert block.windows.shape == (33, 5, 3)  # so that one compiled program is enough
        for n in range(step, step + steps):
            np.testing.assert_array_equal(block.at(n), n)
    assert calls == [(4, 7), (4, 8), (5, 3), (0, 33)]
    feed.prepare(0, 100)  # no more than it holds
    assert calls[-1] == (0, 33)
    assert isinstance(block.windows, jax.Array)


MEMORY = """
import resource, sys
from pathlib import Path

sys.path.insert(0, {experiments!r})
import numpy as np
from data.text import Text
from data.windows import Streams
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
text = Text.of(Path(sys.argv[1]))
streams = Streams(text.symbols, text.num_train, 32, 64, circular=True, unit="characters")
for step in range(0, 200, 20):
    streams.cut(step, 20, range(32))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("unit", [b"a line of text\n", "naïve €\n".encode()], ids=["ascii", "utf-8"])
def test_a_long_text_takes_no_memory(tmp_path, unit):
    size = 2**27
    with (tmp_path / "text.txt").open("wb") as file:
        block = unit * 2**14
        for _ in range(size // len(block)):
            file.write(block)
    program = MEMORY.format(experiments=str(EXPERIMENTS))
    command = [sys.executable, "-c", program, str(tmp_path / "text.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < size / 4


OTHERS = {"shorter": b"ab" * 999, "other symbols": b"zz" * 1000, "other text": b"ba" * 1000, "empty": b""}


@pytest.mark.parametrize("kind", [Text.of, lambda path: words.Corpus.of(path.parent, 9)], ids=["characters", "words"])
@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_a_file_that_changes_while_it_is_read_is_never_used(tmp_path, monkeypatch, kind, content):
    monkeypatch.setattr(file_parts, "CHUNK", 64)
    for split in words.SPLITS:
        (tmp_path / f"{split}.txt").write_bytes(b"ab" * 1000)
    found = kind(tmp_path / "train.txt")
    found = found.symbols if isinstance(found, Text) else found.train
    before = found[-1:]
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(BadInputError, match=r"train.txt has changed since it was opened: restore it, and resume"):
        found[-1:]
    (tmp_path / "train.txt").write_bytes(b"ab" * 1000 + b" and more")
    np.testing.assert_array_equal(found[-1:], before)


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "train.txt")
    with pytest.raises(
        BadInputError, match=r"train.txt must be a file that can be read twice, but it is a device or a pipe: copy it"
    ):
        Text.of(tmp_path / "train.txt")
    with pytest.raises(BadInputError, match=r"cannot read .*: Is a directory"):
        Text.of(tmp_path)
