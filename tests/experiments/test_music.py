"""Polyphonic music: what the networks learn, its data and baselines, how pieces are laid out."""

from __future__ import annotations

import dataclasses
import math
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import mido
import music
import numpy as np
import pytest
import scipy.io as scipy_io
from data import composed_music, piano_rolls
from data.piano_rolls import KEYS, Chunks, Music, Streams
from support.ensemble import Ensemble
from support.options import RunFolder

import jaxrnn
from tests.support.scripts import call_script, error_line, read_metrics, stop_after

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "music.py", options, music.main, music.Options, RunFolder)


def save(path: str, **splits: list[np.ndarray]) -> None:
    cells = {}
    for name, pieces in splits.items():
        cells[f"{name}data"] = np.empty((1, len(pieces)), object)
        for n, piece in enumerate(pieces):
            cells[f"{name}data"][0, n] = piece
    scipy_io.savemat(path, cells)


def random_pieces(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.random((length, KEYS)) < 0.05).astype(np.uint8) for length in lengths]


def scales(number: int, seed: int) -> list[np.ndarray]:
    """Returns pieces that repeatedly go up the keys 40 to 47, each from its own start: easy to predict by counting."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(8, size=number)
    return [np.eye(KEYS, dtype=np.uint8)[40 + (start + np.arange(rng.integers(20, 60))) % 8] for start in starts]


def test_it_runs(here, monkeypatch, capsys):
    save("scales.mat", train=scales(9, 0), valid=scales(3, 1), test=scales(3, 2))
    options = ("--data", "scales.mat", "--hidden-size", "4", "--seeds", "2", "--steps", "3", "--compose", "8")
    assert call(monkeypatch, *options, "--sequence-length", "8", "--batch", "4", "--run-dir", "run") == 0
    out = capsys.readouterr().out
    loss, low, high = map(float, re.search(r"test +(\S+) nats per frame; 2 seeds from (\S+) to (\S+)\n", out).groups())
    assert low <= loss <= high
    names = ("curves.png", "piano_rolls.png", "composed.mid", "real.mid", "config.json")
    assert all(Path("run", name).stat().st_size for name in names)


def test_plateaus_are_counted():
    assert music.plateaus([], 2) == 0
    assert music.plateaus([3.0, 2.0, 2.0, 1.0, 1.5, 0.5], 2) == 0  # never twice in a row
    assert music.plateaus([3.0, 3.0, 3.1, 2.9, 2.9, 2.9, 3.0, 3.0], 2) == 3  # an equal loss has not fallen
    assert music.plateaus([1.0, math.nan, 2.0], 2) == 1


def test_it_ends_when_the_validation_loss_no_longer_falls(here, monkeypatch, capsys):
    """With random music and a high learning rate, the loss falls only at first. The result is the best network."""
    save("noise.mat", train=random_pieces(20), valid=random_pieces(9, 12)[1:], test=random_pieces(9))
    options = ("--data", "noise.mat", "--hidden-size", "4", "--seeds", "1", "--steps", "600", "--compose", "1")
    options += ("--sequence-length", "19", "--batch", "2", "--learning-rate", "0.1", "--patience", "1")
    assert call(monkeypatch, *options, "--run-dir", "run") == 0
    out = capsys.readouterr().out
    rows = [(float(row["step"]), float(row["valid_loss"])) for row in read_metrics("run")]
    losses = [loss for _, loss in rows]
    assert rows[-1][0] < 600
    assert music.plateaus(losses, 1) == 3
    assert music.plateaus(losses[:-1], 1) == 2
    best = min(rows, key=lambda row: row[1])
    assert re.search(rf"validation +{best[1]:.3f}, the best, after step {best[0]:.0f}\n", out)
    assert "learning rate cut 2 times" in out
    assert call(monkeypatch, "--resume", "--run-dir", "run") == 0  # it has ended: nothing more is trained
    assert len(read_metrics("run")) == len(rows)


@pytest.mark.slow
def test_it_learns_composes_and_resumes(here, monkeypatch, capsys):
    save("scales.mat", train=scales(30, 0), valid=scales(5, 1), test=scales(5, 2))
    options = ("--data", "scales.mat", "--cell", "LSTM", "--hidden-size", "32", "--seeds", "2", "--steps", "300")
    options += ("--weight-noise", "0.01", "--sequence-length", "30", "--dropout", "0", "--learning-rate", "0.03")
    options += ("--patience", "60")
    assert call(monkeypatch, *options, "--run-dir", "whole") == 0
    out = capsys.readouterr().out
    loss, low, high = map(float, re.search(r"test +(\S+) nats per frame; 2 seeds from (\S+) to (\S+)\n", out).groups())
    assert low <= loss <= high
    independent = float(re.search(r"independent keys (\S+),", out)[1])
    markov = float(re.search(r"Markov chain of each key (\S+)\n", out)[1])
    assert markov < independent
    assert loss < 0.3 * markov
    assert len(read_metrics("whole")) == 60
    assert float(read_metrics("whole")[-1]["valid_loss"]) < 0.3 * markov
    names = ("curves.png", "piano_rolls.png", "composed.mid", "real.mid", "config.json")
    assert all(Path("whole", name).stat().st_size for name in names)

    # Stopped half-way and resumed, it ends in the same parameters.
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 150)
        assert call(monkeypatch, *options, "--run-dir", "halves") == 130
    assert call(monkeypatch, "--run-dir", "halves", "--resume") == 0
    assert [row["valid_loss"] for row in read_metrics("halves")] == [row["valid_loss"] for row in read_metrics("whole")]


@pytest.mark.slow
def test_networks_side_by_side_are_those_alone():
    chunks = Chunks.of(random_pieces(12, 30, 7), 10)

    def trained(seeds: int) -> music.Train:
        config = music.Options(hidden_size=5, seeds=seeds, batch=4)
        model = music.make_model(config)
        return music.make_steps(config, model)(music.begin_all(config, model), (chunks, 1.0), 5, (0.0, 0.1))[0]

    alone, beside = trained(1), trained(3)
    assert jax.tree.leaves(beside.params)[0].shape[0] == 3
    for one, three in zip(jax.tree.leaves(alone.params), jax.tree.leaves(beside.params), strict=True):
        np.testing.assert_allclose(one, three[0], rtol=1e-4, atol=1e-6)
        assert not three.any() or not np.allclose(three[0], three[1])


@pytest.mark.slow
def test_the_loss_of_streams_is_that_of_each_piece_alone():
    pieces = random_pieces(9, 2, 31, 14, 5, 8)
    config = music.Options(hidden_size=6, seeds=2, cell="LSTM")
    model = music.make_model(config)
    params = music.begin_all(config, model).params
    streams = Streams.of(pieces)
    assert streams.frames.shape[1] == 3
    for n, loss in enumerate(music.evaluate(config, model, params, streams)):
        total = 0.0
        for piece in pieces:
            _, logits = jaxrnn.unroll(model, jax.tree.map(lambda leaf, n=n: leaf[n], params), piece[:-1].astype(float))
            p = 1 / (1 + np.exp(-np.asarray(logits, float)))
            total -= sum(math.log(q if on else 1 - q) for q, on in zip(p.ravel(), piece[1:].ravel(), strict=True))
        assert loss == pytest.approx(total / sum(len(piece) - 1 for piece in pieces), rel=1e-4)


def test_chunks_hold_every_frame_to_predict_once():
    pieces = random_pieces(12, 30, 7, 11, 2)
    chunks = Chunks.of(pieces, 10)
    targets = [frames[1 : n + 1] for frames, n in zip(chunks.frames, chunks.lengths, strict=True)]
    np.testing.assert_array_equal(np.concatenate(targets), np.concatenate([piece[1:] for piece in pieces]))
    assert all(not frames[n + 1 :].any() for frames, n in zip(chunks.frames, chunks.lengths, strict=True))


@pytest.mark.slow
def test_baselines_are_those_of_slow_ones():
    train, test = random_pieces(40, 25), random_pieces(9, 6)
    found = piano_rolls.baselines(Music("", train, test, test))

    def loss(*frequencies: tuple[float, float]) -> float:
        """With (on, all) of each key after it was off and after it was on."""
        total, frames = 0.0, 0
        for piece in test:
            frames += len(piece) - 1
            for key in range(KEYS):
                for before, now in zip(piece[:-1, key], piece[1:, key], strict=True):
                    on, of = frequencies[key][before]
                    total -= math.log((on if now else of - on) + 0.5) - math.log(of + 1)
        return total / frames

    pairs = [[(a, b) for piece in train for a, b in zip(piece[:-1, k], piece[1:, k], strict=True)] for k in range(KEYS)]
    counted = [[(sum(b for a, b in p if a == s), sum(a == s for a, _ in p)) for s in (0, 1)] for p in pairs]
    assert found["Markov chain of each key"] == pytest.approx(loss(*counted))
    together = [(tuple(map(sum, zip(*c, strict=True))),) * 2 for c in counted]
    assert found["independent keys"] == pytest.approx(loss(*together))


@pytest.mark.slow
def test_composed_music_keeps_its_rules_and_its_chances_are_right():
    rng = np.random.default_rng(0)
    pieces = [composed_music.compose(rng, phrases=2) for _ in range(200)]
    rolls, chances = (np.array(both) for both in zip(*pieces, strict=True))
    assert rolls.shape == chances.shape == (200, 64, KEYS)
    assert (rolls.sum(-1) == 5).all()
    np.testing.assert_allclose(chances.sum(-1), 5)
    assert not rolls[chances < 1e-9].any()
    assert rolls[chances > 1 - 1e-9].all()
    # Chances are right on the average: of keys given a chance of a half, half sound.
    for low in (0.05, 0.2, 0.35, 0.45):
        among = (chances > low) & (chances < low + 0.15)
        deviation = (chances[among] * (1 - chances[among])).sum() ** 0.5
        assert abs(rolls[among].sum() - chances[among].sum()) < 4 * deviation
    bass = rolls[:, :, : 48 - piano_rolls.LOWEST].argmax(-1) + piano_rolls.LOWEST
    assert (bass[:, [0, 28, 32, 60]] == 36).all()  # I begins and ends the phrases
    assert (bass[:, [24, 56]] == 43).all()  # V comes before the end
    melody = KEYS - 1 - rolls[:, :, ::-1].argmax(-1)
    moves = np.diff(melody).reshape(200, -1)[:, [*range(63)]] != 0
    for beat in (0, 1, 2):  # the rhythm of the first chord is that of all others
        assert (moves[:, beat::4] == moves[:, beat : beat + 1]).all()
    assert 0.3 < moves[:, :3].mean() < 0.7


def test_midi_is_what_was_written(here):
    roll = random_pieces(20)[0]
    roll[3:9, 40] = 1
    piano_rolls.write_midi(Path("roll.mid"), roll)
    (track,) = mido.MidiFile("roll.mid").tracks
    back, tick, on = np.zeros_like(roll), 0, np.zeros(KEYS, np.uint8)
    for message in track:
        back[tick // 120 : (tick + message.time) // 120] = on
        tick += message.time
        if not message.is_meta:
            on[message.note - 21] = message.type == "note_on"
    np.testing.assert_array_equal(back, roll)


@pytest.mark.parametrize(
    ("cell", "parameters"),
    [
        ("GRU", 22_812),
        *(
            pytest.param(cell, number, marks=pytest.mark.slow)
            for cell, number in (("Elman", 27_788), ("LSTM", 21_256), ("PeepholeLSTM", None))
        ),
    ],
)
def test_every_cell_has_a_size(cell, parameters):
    config = music.Options(cell=cell, seeds=2)
    model = music.make_model(config)
    train = jax.eval_shape(lambda: music.begin_all(config, model))
    if parameters:
        assert sum(leaf.size for leaf in jax.tree.leaves(train.params)) == 2 * parameters
    chunks = Chunks(jax.ShapeDtypeStruct((6, 9, KEYS), np.uint8), jax.ShapeDtypeStruct((6,), np.int32))
    data = chunks, jax.ShapeDtypeStruct((), np.float32)
    update = Ensemble(2).update(partial(music.update, config, model))
    keys = jax.random.split(jax.random.key(0), 2)
    after, loss = jax.eval_shape(update, train, data, keys, jnp.float32(0.1))
    assert jax.tree.structure(after) == jax.tree.structure(train)
    assert loss.shape == (2,)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", "missing.mat"], "missing.mat: No such file"),
        (["--data", "."], "cannot read .*: Is a directory"),
        (["--data", "text.mat"], "text.mat is not a MATLAB file"),
        (["--data", "empty.mat"], "empty.mat is not a MATLAB file"),
        (["--data", "unsplit.mat"], "unsplit.mat has no 'validdata'"),
        (["--data", "narrow.mat"], r"narrow.mat must hold pieces \[frames, 88\] of zeros and ones"),
        (["--data", "loud.mat"], r"loud.mat must hold pieces \[frames, 88\] of zeros and ones"),
        (["--data", "short.mat"], "short.mat has a split without any piece of two frames"),
        (["--cell", "Lsmt"], "no cell named 'Lsmt'"),
        (["--hidden-size", "0"], "--hidden-size must be at least 1"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--patience", "0"], "--patience must be at least 1"),
        (["--sequence-length", "0"], "--sequence-length must be at least 1"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--compose", "0"], "--compose must be at least 1"),
        (["--weight-noise", "-1"], "--weight-noise must be at least 0"),
        (["--learning-rate", "0"], "--learning-rate must be above 0"),
        (["--dropout", "1"], "--dropout must be from 0 to below 1"),
    ],
)
def test_bad_input_is_reported_in_one_line(here, monkeypatch, capsys, options, complaint):
    Path("text.mat").write_text("not a matrix\n" * 20)
    Path("empty.mat").touch()
    save("unsplit.mat", train=random_pieces(5))
    save("narrow.mat", train=[np.zeros((5, 87))], valid=random_pieces(5), test=random_pieces(5))
    save("loud.mat", train=[np.full((5, KEYS), 2)], valid=random_pieces(5), test=random_pieces(5))
    save("short.mat", train=random_pieces(5), valid=random_pieces(1), test=random_pieces(5))
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
    assert not Path("runs").exists()


@pytest.mark.slow
def test_composing_continues_the_prompt():
    config = dataclasses.replace(music.Options(), cell="Elman", hidden_size=4, seeds=1)
    model = music.make_model(config)
    params = music.begin_all(config, model).params
    only_one = jnp.where(jnp.arange(KEYS) == 40, 99.0, -99.0)
    certain = (*params[:-1], params[-1]._replace(w=0 * params[-1].w, b=only_one))
    frames = music.compose(model, certain, np.zeros((3, KEYS), np.uint8), 7, jax.random.key(0))
    np.testing.assert_array_equal(frames, np.tile(np.arange(KEYS) == 40, (7, 1)))
