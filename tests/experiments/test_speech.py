"""Speech: CTC and its decoders against all paths, features and sounds against physics, files, what is learned."""

from __future__ import annotations

import itertools
import re
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import speech
from data import aligned_frames, recordings, spectrograms, synthesized_speech, utterances
from data.synthesized_speech import RATE, Script
from data.utterances import Segment, Utterance
from models import ctc
from scipy.io import wavfile
from scipy.special import log_softmax
from support.errors import BadInputError
from support.files import read_lines, write_whole
from support.options import RunFolder
from support.plots import figure

import jaxrnn
from tests.support.scripts import call_script, error_line, read_metrics, stop_after

pytestmark = pytest.mark.usefixtures("quick")
SMALL = ("--hidden-size", "4", "--layers", "1", "--batch", "4", "--beam", "2")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory to work in, and few synthesized utterances."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(synthesized_speech, "SPEAKERS", (4, 1, 1))
    monkeypatch.setattr(synthesized_speech, "EACH", 4)
    monkeypatch.setattr(speech, "BUCKETS", 1)
    return tmp_path


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "speech.py", options, speech.main, speech.Options, RunFolder)


def share(out: str, name: str) -> float:
    """The greedy error rate of a network, or that of the baseline."""
    return float(re.search(rf"^  {name} +([\d.]+)%", out, re.MULTILINE)[1]) / 100


def tone(seconds: float = 0.5, hertz: float = 440, rate: int = 8000) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_folder(folder: str, names: list[str], text: str | None = "abc", rate: int = 8000) -> None:
    """Writes recordings with a transcript beside each."""
    for n, name in enumerate(names):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(path, rate, tone(hertz=300 + 50 * n, rate=rate))
        if text is not None:
            path.with_suffix(".txt").write_text(text + "\n")


def numbered(number: int, parent: str = "") -> list[str]:
    return [f"{parent}{n}.wav" for n in range(number)]


# ---- the script ------------------------------------------------------------------------------------------------------


def test_it_runs(here, monkeypatch, capsys):
    assert call(monkeypatch, *SMALL, "--steps", "2", "--run-dir", "run") == 0
    out = capsys.readouterr().out
    assert re.search(r"16 utterances of 4 speakers to train, 4 utterances of 1 speakers to validate, 4 utt", out)
    assert re.search(r"bidirectional LSTM +[\d.]+% greedy, [\d.]+% beam of 2, [\d.]+% with [\d.]+ x bigram\n", out)
    assert re.search(r"window of 11 steps +[\d.]+% greedy, [\d.]+% beam of 2, [\d.]+% with [\d.]+ x bigram\n", out)
    assert share(out, "linear discriminant analysis, true alignments") > 0
    for picture in ("spikes.png", "curves.png"):
        assert Path("run", picture).read_bytes().startswith(b"\x89PNG")
    rate, samples = wavfile.read("run/utterance.wav")
    assert (rate, samples.dtype) == (RATE, np.int16)
    data = synthesized_speech.synthesized_speech()
    assert len(samples) in [len(utterance.sound()[0]) for utterance in data.test]
    head, *lines = Path("run/decoded.tsv").read_text("utf-8").splitlines()
    assert head.split("\t") == speech.COLUMNS
    assert [line.split("\t")[:2] for line in lines] == [[u.name, "".join(u.symbols)] for u in data.test]


@pytest.mark.slow
def test_recordings_are_learned_from(here, monkeypatch, capsys):
    write_folder("sounds", numbered(10), "AB  c")
    assert call(monkeypatch, *SMALL, "--data", "sounds", "--cell", "GRU", "--steps", "1", "--run-dir", "run") == 0
    out = capsys.readouterr().out
    assert "sounds at 8,000 Hz: 7 utterances to train, 1 utterances to validate, 2 utterances to test" in out
    assert "4 symbols" in out
    assert "linear" not in out
    assert not Path("run/utterance.wav").exists()
    assert Path("run/decoded.tsv").read_text().splitlines()[1].split("\t")[1] == "ab c"


@pytest.mark.slow
def test_a_stopped_run_ends_as_one_that_was_not_stopped(here, monkeypatch, capsys):
    options = (*SMALL, "--steps", "40")
    assert call(monkeypatch, *options, "--run-dir", "whole") == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 20)
        assert call(patch, *options, "--run-dir", "halves") == 130
    assert call(monkeypatch, "--resume", "--run-dir", "halves") == 0
    capsys.readouterr()
    both = [[{**row, "seconds": ""} for row in read_metrics(run)] for run in ("whole", "halves")]
    assert both[0] == both[1]
    assert Path("whole/decoded.tsv").read_bytes() == Path("halves/decoded.tsv").read_bytes()


@pytest.mark.slow
def test_it_learns_phonemes_of_new_speakers(here, monkeypatch, capsys):
    monkeypatch.setattr(synthesized_speech, "SPEAKERS", (20, 2, 3))
    monkeypatch.setattr(synthesized_speech, "EACH", 15)
    options = ("--hidden-size", "32", "--layers", "1", "--dropout", "0", "--learning-rate", "0.02", "--beam", "4")
    assert call(monkeypatch, *options, "--steps", "220", "--run-dir", "run") == 0
    out = capsys.readouterr().out
    assert share(out, "bidirectional LSTM") < 0.45
    with_bigram = float(re.search(r"bidirectional LSTM .* ([\d.]+)% with", out)[1]) / 100
    assert with_bigram < share(out, "linear discriminant analysis, true alignments")


# ---- connectionist temporal classification ---------------------------------------------------------------------------


def all_paths(log_probs: np.ndarray) -> dict[tuple[int, ...], float]:
    """The probability of each label sequence, as the sum over all its paths."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        merged = [label for n, label in enumerate(path) if n == 0 or label != path[n - 1]]
        labels = tuple(label for label in merged if label != 0)
        found[labels] = found.get(labels, 0.0) + float(np.exp(sum(log_probs[n, label] for n, label in enumerate(path))))
    return found


def random_outputs(seed: int, steps: int = 5, classes: int = 3, scale: float = 1.5) -> np.ndarray:
    return log_softmax(scale * np.random.default_rng(seed).normal(size=(steps, classes)), axis=-1)


def test_the_loss_is_the_sum_over_all_paths():
    log_probs = np.stack([random_outputs(n) for n in range(4)], axis=1)
    lengths, sizes = np.array([5, 4, 5, 3]), np.array([2, 3, 0, 2])
    labels = np.array([[1, 2, 0], [2, 1, 2], [1, 1, 1], [1, 1, 2]])  # 1, 1 needs all of its three steps
    losses = ctc.losses(jnp.asarray(log_probs) + 7, lengths, labels, sizes)  # logits are normalized
    for n in range(4):
        wanted = all_paths(log_probs[: lengths[n], n])[tuple(labels[n, : sizes[n]].tolist())]
        assert losses[n] == pytest.approx(-np.log(wanted), rel=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_finds_the_best_labels_of_all(seed):
    log_probs = random_outputs(seed)
    every = all_paths(log_probs)
    best = max(every, key=lambda labels: every[labels])
    labels, score = ctc.beam_search(log_probs, width=1000, least=0)
    assert labels == best
    assert score == pytest.approx(np.log(every[best]), rel=1e-9)

    bigram = np.random.default_rng(seed).normal(size=(3, 3))
    scores = {
        labels: np.log(p) + sum(bigram[a, b] for a, b in itertools.pairwise((0, *labels)))
        for labels, p in every.items()
    }
    best = max(scores, key=lambda labels: scores[labels])
    labels, score = ctc.beam_search(log_probs, width=1000, bigram=bigram, least=0)
    assert labels == best
    assert score == pytest.approx(scores[best], rel=1e-9)


def test_beams_of_one_and_more_differ_where_a_sum_of_paths_wins():
    p = np.array([[0.6, 0.4], [0.6, 0.4]])  # the best path is blank, blank with 0.36; label 1 has 0.64 in three paths
    assert ctc.greedy(np.log(p)) == ()
    labels, score = ctc.beam_search(np.log(p), width=2)
    assert labels == (1,)
    assert np.exp(score) == pytest.approx(0.64)


def test_a_long_search_does_not_underflow():
    log_probs = np.tile(random_outputs(0, steps=50), (50, 1))  # of a probability of about exp(-850)
    labels, score = ctc.beam_search(log_probs, width=4)
    assert -2000 < score < -750  # below the smallest float
    assert len(labels) > 100


def test_paths_collapse():
    assert ctc.collapse([0, 1, 1, 0, 1, 2, 2, 2, 0, 0, 1]) == (1, 1, 2, 1)
    assert ctc.collapse([]) == ()


def test_bigrams_are_relative_frequencies():
    bigram = ctc.bigram_of([[1, 2, 1], [1, 2]], 2)
    counts = np.array([[2, 0], [0, 2], [1, 0]]) + 0.5  # rows: the beginning, 1, 2
    conditional = counts / counts.sum(1, keepdims=True)
    overall = counts.sum(0) / counts.sum()
    np.testing.assert_allclose(bigram[:, 1:], np.log(conditional / overall))
    np.testing.assert_array_equal(bigram[:, 0], 0)


# ---- features --------------------------------------------------------------------------------------------------------


def test_a_frame_is_the_transform_of_its_window():
    rate = 8000
    sound = np.random.default_rng(0).normal(size=1000)
    features = spectrograms.log_mel(sound, rate)
    assert features.shape == (1 + (1000 - 200) // 80, spectrograms.BANDS)
    frame = sound[3 * 80 :][:200] * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 200))
    f = np.arange(257) * rate / 512
    power = np.abs(np.exp(-2j * np.pi * np.outer(f, np.arange(200)) / rate) @ frame) ** 2 / 512
    mels = np.linspace(*(2595 * np.log10(1 + np.array([60, 4000]) / 700)), spectrograms.BANDS + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    for band in (0, 17, 39):
        weights = np.interp(f, edges[band : band + 3], [0, 1, 0], left=0, right=0)
        assert features[3, band] == pytest.approx(np.log(weights @ power), rel=1e-3)


@pytest.mark.parametrize("hertz", [200, 1000, 3000])
def test_a_tone_is_in_its_band(hertz):
    bands = spectrograms.log_mel(tone(hertz=hertz, rate=16_000), 16_000)
    edges = spectrograms.band_edges(16_000)
    loudest = int(bands.mean(0).argmax())
    assert edges[loudest] < hertz < edges[loudest + 2]


def test_normalized_features_do_not_depend_on_the_level():
    sound = np.random.default_rng(0).normal(size=4000)
    one, other = (spectrograms.normalized(spectrograms.log_mel(level * sound, 8000)) for level in (0.01, 0.5))
    np.testing.assert_allclose(one, other, atol=1e-3)
    np.testing.assert_allclose(one.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(one.std(0), 1, atol=1e-4)
    silence = spectrograms.normalized(spectrograms.log_mel(np.zeros(4000), 8000))
    np.testing.assert_array_equal(silence, 0)


def test_frames_are_joined_in_order():
    frames = np.arange(1, 11).reshape(5, 2)
    np.testing.assert_array_equal(spectrograms.stacked(frames, 2), [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 0, 0]])
    assert spectrograms.center(0, 1) == pytest.approx(0.0125)
    assert spectrograms.center(2, 2) == pytest.approx(0.0575)  # frames 4 and 5, from 40 to 75 ms


# ---- synthesized speech ----------------------------------------------------------------------------------------------


def pronounced(symbol: str, pitch: float = 100.0, scale: float = 1.0) -> np.ndarray:
    """The middle of a long phoneme, without noise."""
    accent = dict.fromkeys(synthesized_speech.PHONEMES, np.ones(3))
    speaker = synthesized_speech.Speaker("", pitch, scale, 1.0, accent)
    segments = (Segment("", 0, 0.1), Segment(symbol, 0.1, 0.9), Segment("", 0.9, 1.0))
    return synthesized_speech.pronounce(Script(speaker, segments, 100.0, 0))[int(0.2 * RATE) : int(0.8 * RATE)]


def spectrum(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    return np.fft.rfftfreq(len(sound), 1 / RATE), power


@pytest.mark.parametrize(("symbol", "scale"), [("i", 1.0), ("\u0251", 1.0), ("\u025b", 1.2)])
def test_vowels_have_their_formants(symbol, scale):
    """The power near each formant is higher than halfway between two of them."""
    f, power = spectrum(pronounced(symbol, scale=scale))
    formants = [scale * formant for formant in synthesized_speech.PHONEMES[symbol].formants]

    def level(hertz: float) -> float:
        return float(np.log(power[abs(f - hertz) < 75].mean()))

    for one, other in itertools.pairwise(formants):
        assert min(level(one), level(other)) > level((one + other) / 2) + 0.4


@pytest.mark.parametrize("pitch", [90.0, 210.0])
def test_the_voice_has_its_pitch(pitch):
    f, power = spectrum(pronounced("\u0251", pitch=pitch)[4000:5600])  # 100 ms, in which it is almost constant
    harmonics = [power[abs(f - n * pitch) < 0.25 * pitch].sum() for n in (1, 2, 3, 1.5, 2.5, 3.5)]
    assert sum(harmonics[:3]) > 5 * sum(harmonics[3:])


def test_fricatives_are_in_their_bands():
    means = {}
    for symbol in ("s", "\u0283", "\u0254"):
        f, power = spectrum(pronounced(symbol))
        means[symbol] = (f * power).sum() / power.sum()
    assert means["\u0254"] < 1200 < 2500 < means["\u0283"] < 4000 < 5000 < means["s"]


def test_utterances_differ_between_speakers_and_splits_share_none(here):
    data = synthesized_speech.synthesized_speech()
    names = [{u.name.split(",")[0] for u in split} for split in (data.train, data.valid, data.test)]
    assert [len(each) for each in names] == [4, 1, 1]
    assert not names[0] & names[1] | names[0] & names[2] | names[1] & names[2]
    assert data.digest == synthesized_speech.synthesized_speech().digest
    for utterance in data.train:
        assert [s.symbol for s in utterance.segments if s.symbol] == utterance.symbols
        assert utterance.segments[0].start == 0
        assert all(a.end == b.start for a, b in itertools.pairwise(utterance.segments))
        assert not any(a.symbol == b.symbol for a, b in itertools.pairwise(utterance.segments))
        samples, rate = utterance.sound()
        assert len(samples) == round(utterance.segments[-1].end * rate)
        assert np.abs(samples).max() == pytest.approx(0.9)


def test_noise_has_its_level():
    rng = np.random.default_rng(0)
    script = synthesized_speech.draw_script(rng, synthesized_speech.draw_speaker(rng, ""))
    clean, noisy = (synthesized_speech.pronounce(script._replace(snr=snr)).astype(float) for snr in (200.0, 6.0))
    scale = clean @ noisy / (clean @ clean)  # the loudest sample is always 0.9
    noise = noisy - scale * clean
    assert 10 * np.log10(np.mean((scale * clean) ** 2) / np.mean(noise**2)) == pytest.approx(6, abs=0.5)


# ---- the baseline ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", [0.0, 0.7, 3.0])
def test_the_smoothest_path_is_the_best_of_all(cost):
    log_probs = random_outputs(3, steps=6)

    def score(path: tuple[int, ...]) -> float:
        return sum(log_probs[n, c] for n, c in enumerate(path)) - cost * sum(
            a != b for a, b in itertools.pairwise(path)
        )

    best = max(itertools.product(range(3), repeat=6), key=score)
    np.testing.assert_array_equal(aligned_frames.smooth_path(log_probs, cost), best)


def test_steps_have_the_symbols_at_their_places():
    segments = (Segment("", 0, 0.03), Segment("a", 0.03, 0.05), Segment("b", 0.05, 0.08))
    utterance = Utterance("", ["a", "b"], np.zeros((6, 2)), lambda: (np.zeros(1), 1), segments)
    assert aligned_frames.step_symbols(utterance, 1) == ["", "", "a", "a", "b", "b"]  # at 12.5, 22.5, 32.5, ... ms
    assert aligned_frames.step_symbols(utterance, 2) == ["", "a", "b"]
    assert aligned_frames.symbols_on(np.array([0, 1, 1, 2, 0, 2]), ["", "a", "b"]) == ["a", "b", "b"]
    features = np.arange(12.0).reshape(6, 2)
    found = aligned_frames.windows(utterance._replace(features=features), 1)
    padded = np.pad(features, ((3, 3), (0, 0)))
    for step in range(6):
        assert sorted(found[step]) == sorted(padded[step : step + 7].ravel())


# ---- recordings ------------------------------------------------------------------------------------------------------


def write_24_bits(path: str, rate: int, sound: np.ndarray) -> None:
    numbers = np.round(sound * (2**23 - 1)).astype("<i4")
    data = b"".join(number.tobytes()[:3] for number in numbers)
    header = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, rate, 3 * rate, 3, 24)
    Path(path).write_bytes(header + struct.pack("<4sI", b"data", len(data)) + data)


def test_all_formats_hold_the_same_sound(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sound = tone()
    wavfile.write("8.wav", 8000, np.round(128 + 127 * sound).astype(np.uint8))
    wavfile.write("16.wav", 8000, np.round(2**15 * sound).astype(np.int16))
    write_24_bits("24.wav", 8000, sound)
    wavfile.write("32.wav", 8000, np.round(2.0**31 * sound.astype(float)).astype(np.int32))
    wavfile.write("float.wav", 8000, sound)
    wavfile.write("double.wav", 8000, sound.astype(np.float64))
    wavfile.write("stereo.wav", 8000, np.stack([2 * sound, 0 * sound], axis=1))
    for path in Path().glob("*.wav"):
        found, rate = recordings.read_sound(path, 8000)
        assert (found.dtype, rate) == (np.float32, 8000)
        np.testing.assert_allclose(found, sound, atol=0.01 if path.stem == "8" else 1e-4, err_msg=str(path))


def test_all_rates_become_the_lowest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder("sounds", numbered(10))
    for n, rate in enumerate((11025, 16_000, 44_100, 48_000)):
        wavfile.write(f"sounds/{n}.wav", rate, tone(0.5, 440, rate))
    data = recordings.recordings(Path("sounds"), "characters")
    assert data.name == "sounds at 8,000 Hz"
    for utterance in [u for split in (data.train, data.valid, data.test) for u in split]:
        samples, rate = utterance.sound()
        assert (rate, len(samples)) == (8000, 4000)
        assert len(utterance.features) == 48
        if utterance.name[-5] in "0123":
            np.testing.assert_allclose(samples[200:-200], tone()[200:-200], atol=0.01)


def test_speakers_stay_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for speaker in "abcdef":
        write_folder("sounds", numbered(2, f"{speaker}/session/"))
    data = recordings.recordings(Path("sounds"), "characters")
    assert data.speakers == (4, 1, 1)
    speakers = [{Path(u.name).parts[1] for u in split} for split in (data.train, data.valid, data.test)]
    assert [len(each) for each in speakers] == [4, 1, 1]
    assert set.union(*speakers) == set("abcdef")


def test_transcripts_are_beside_the_recordings_or_in_lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [*numbered(4, "beside/"), *numbered(4, "librispeech/1/"), *numbered(4, "list/wavs/")]
    write_folder("sounds", names, None)
    for n in range(4):
        Path(f"sounds/beside/{n}.txt").write_text(f"It\u2019s {n}\u2014\n  caf\u0065\u0301!\n", "utf-8")
    Path("sounds/librispeech/1/1-2.trans.txt").write_text("".join(f"{n} HELLO WORLD {n}\n" for n in range(4)))
    Path("sounds/list/transcripts.txt").write_text("".join(f"wavs/{n}.wav\tYes\n\n" for n in range(4)))
    data = recordings.recordings(Path("sounds"), "characters")
    found = {u.name: "".join(u.symbols) for split in (data.train, data.valid, data.test) for u in split}
    for n in range(4):
        assert found[str(Path(f"sounds/beside/{n}.wav"))] == f"it's {n} caf\u00e9"
        assert found[str(Path(f"sounds/librispeech/1/{n}.wav"))] == f"hello world {n}"
        assert found[str(Path(f"sounds/list/wavs/{n}.wav"))] == "yes"
    tokens = recordings.recordings(Path("sounds"), "tokens")
    assert tokens.vocabulary == data_tokens(tokens)
    assert recordings.symbols_of("HH AH0  l ow1", "", "tokens") == ["HH", "AH0", "l", "ow1"]


def test_lists_may_have_byte_order_marks_and_paths_upwards(tmp_path):
    write_folder(str(tmp_path), numbered(10), None)
    (tmp_path / "lists").mkdir()
    text = "".join(f"../{n}.wav HH{n}\r\n" for n in [*range(9), "absent"])
    (tmp_path / "lists" / "transcripts.txt").write_text("\ufeff../9 HH9\r\n" + text, "utf-8")
    data = recordings.recordings(tmp_path, "tokens")
    found = {Path(u.name).stem: u.symbols for split in (data.train, data.valid, data.test) for u in split}
    assert found == {str(n): [f"HH{n}"] for n in range(10)}
    (tmp_path / "3.txt").write_text("\ufeffAH\n", "utf-8")
    assert read_lines(tmp_path / "3.txt") == ["AH", ""]


def data_tokens(data: utterances.Utterances) -> list[str]:
    return sorted({symbol for utterance in data.train for symbol in utterance.symbols})


def test_symbols_that_training_lacks_have_no_label():
    sound = np.zeros((4, 2), np.float32)
    batch = utterances.as_arrays(
        [
            Utterance("", list("abxa"), sound, lambda: (np.zeros(1), 1)),
            Utterance("", ["x"], sound[:3], lambda: (np.zeros(1), 1)),
        ],
        ["a", "b"],
        2,
    )
    np.testing.assert_array_equal(batch.labels, [[1, 2, 1], [0, 0, 0]])
    np.testing.assert_array_equal(batch.sizes, [3, 0])
    np.testing.assert_array_equal(batch.lengths, [2, 2])
    assert batch.xs.shape == (2, 2, 4)


BAD_FOLDERS = {
    "missing": (None, "missing is not a folder of WAV files"),
    "empty": ({}, r"empty has 0 WAV files \(\*.wav\), but at least 10 are needed"),
    "silent": ({"3.txt": None}, "silent/3.wav has no transcript: write it to 3.txt beside it, or in a line of"),
    "blank": ({"3.txt": b" .\n"}, "blank/3.txt: the transcript has no characters"),
    "latin": ({"3.txt": b"caf\xe9"}, "latin/3.txt is not UTF-8 text: byte 3 is 0xe9"),
    "listed": ({"transcripts.txt": b"3 a\n3.wav b\n"}, "transcripts.txt, line 2: 3.wav has a transcript already, in"),
    "nothing": ({"3.txt": None, "transcripts.txt": b"\n3\n"}, "transcripts.txt, line 2: the transcript has no char"),
    "text": ({"3.wav": b"RIFFs are fine"}, "text/3.wav is not a WAV file that can be read: "),
    "zero": ({"3.wav": b""}, "zero/3.wav is not a WAV file that can be read: "),
    "sphere": ({"3.wav": b"NIST_1A\n   1024\n"}, "3.wav is a NIST SPHERE file, not a WAV file: convert it"),
    "double": ({"transcripts.txt": b"3 a\n"}, r"3.wav has two transcripts, in \S+3.txt and in \S+s.txt, line 1"),
    "nan": ({"3.wav": np.array([0, np.nan] * 1000, np.float32)}, "nan/3.wav has samples that are NaN or infinite"),
    "short": ({"3.wav": tone(0.05)}, "short/3.wav must be 0.1 to 40 seconds long, but it is 0.05 seconds long: cut or"),
    "long": ({"3.txt": b"aabb" * 9}, "long/3.wav has 24 steps of 20 ms, but .* 36 symbols, which need at least 54: "),
    "two": ({f"{name}/1.{end}": None for name in "ab" for end in ("wav", "txt")}, "recordings of 2 speakers, one for"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_bad_folders_are_reported_in_one_line(here, monkeypatch, capsys, name):
    changes, complaint = BAD_FOLDERS[name]
    if name == "two":
        write_folder(name, [*numbered(5, "a/"), *numbered(5, "b/")])
    elif changes is not None:
        Path(name).mkdir()
        write_folder(name, numbered(10) if changes else [])
        for file, content in changes.items():
            if content is None:
                Path(name, file).unlink()
            elif isinstance(content, bytes):
                Path(name, file).write_bytes(content)
            else:
                wavfile.write(Path(name, file), 8000, content)
    assert call(monkeypatch, "--data", name) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
    assert not Path("runs").exists()


def test_a_cut_recording_is_reported(tmp_path):
    path = tmp_path / "cut.wav"
    wavfile.write(path, 8000, tone())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BadInputError, match=r"cut.wav is not a WAV file that can be read: Reached EOF prematurely"):
        recordings.read_wav(path)


@pytest.mark.parametrize("level", [1e4, np.float32(1e30), np.float64(1e300)])
def test_floats_above_one_are_scaled(tmp_path, level):
    wavfile.write(tmp_path / "loud.wav", 8000, level * tone())
    found, _ = recordings.read_sound(tmp_path / "loud.wav", 8000)
    np.testing.assert_allclose(found, tone() / np.abs(tone()).max(), rtol=1e-5, atol=1e-6)


def test_any_file_name_can_be_written_and_drawn(tmp_path):
    name = "caf\udce9 $a_{$"  # not UTF-8, and not a formula
    with figure(tmp_path / "names.png", figsize=(3, 3)) as (drawn, grid):
        grid[0, 0].set(title=name, xscale="log", xlim=(1, 1000))
        drawn.suptitle(name)
    assert (tmp_path / "names.png").read_bytes().startswith(b"\x89PNG")
    assert grid[0, 0].get_title() == r"caf\udce9 $a_{$"
    assert "mathdefault" in grid[0, 0].get_xticklabels()[1].get_text()  # powers of ten are drawn as such
    write_whole(tmp_path / "names.txt", name)
    assert (tmp_path / "names.txt").read_text("utf-8") == r"caf\udce9 $a_{$"


def test_low_rates_are_reported(tmp_path):
    wavfile.write(tmp_path / "low.wav", 2000, tone(rate=2000))
    with pytest.raises(BadInputError, match=r"low.wav has 2,000 samples per second, but at least 4,000 are needed"):
        recordings.read_wav(tmp_path / "low.wav")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--cell", "LSMT"], "no cell named 'LSMT'"),
        (["--units", "tokens"], "--units has no effect without --data"),
        (["--stack", "0"], "--stack must be at least 1"),
        (["--beam", "0"], "--beam must be at least 1"),
        (["--dropout", "1"], "--dropout must be from 0 to below 1"),
        (["--learning-rate", "0"], "--learning-rate must be above 0"),
        (
            ["--stack", "30"],
            r"speaker 1, utterance 1 has \d+ steps of 300 ms, but .* need at least \d+: .*lower --stack",
        ),
        (["--resume"], "there is no run in runs/speech"),
    ],
)
def test_bad_options_are_reported_in_one_line(here, monkeypatch, capsys, options, complaint):
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
    assert not Path("runs").exists()


# ---- networks --------------------------------------------------------------------------------------------------------


def test_the_network_without_recurrence_reads_only_its_window():
    options = speech.Options(hidden_size=4, layers=1, dropout=0.0)
    recurrent, window = speech.make_networks(options, 3)
    xs = np.random.default_rng(0).normal(size=(30, 1, 2)).astype(np.float32)
    other = xs.copy()
    other[15] += 1
    for network, changed in ((recurrent, range(30)), (window, range(10, 21))):
        params = network.layers.init(jax.random.key(0), 2)
        one, two = (network.logits(params, x, jnp.array([30])) for x in (xs, other))
        np.testing.assert_array_equal(np.flatnonzero((one != two).any(axis=(1, 2))), [*changed])


@pytest.mark.slow
def test_padding_does_not_change_the_outputs():
    options = speech.Options(hidden_size=4, layers=1)
    (network, _) = speech.make_networks(options, 3)
    params = network.layers.init(jax.random.key(0), 2)
    xs = np.random.default_rng(0).normal(size=(9, 2, 2)).astype(np.float32)
    batch = utterances.Batch(xs, np.array([9, 6]), np.array([[1, 2], [3, 0]]), np.array([2, 1]))
    outputs = speech.Outputs.of(network, params, batch)
    alone = jax.nn.log_softmax(jaxrnn.unroll(network.layers, params, xs[:6, 1:])[1])[:, 0]
    assert [len(found) for found in outputs.log_probs] == [9, 6]
    np.testing.assert_allclose(outputs.log_probs[1], alone, atol=1e-5)
    losses = [ctc.losses(found[:, None], np.array([len(found)]), labels[None], np.array([len(labels)]))[0]
              for found, labels in zip(outputs.log_probs, (np.array([1, 2]), np.array([3])), strict=True)]  # fmt: skip
    assert outputs.loss == pytest.approx(sum(map(float, losses)) / 3, rel=1e-4)
