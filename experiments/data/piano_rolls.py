"""Polyphonic music as piano rolls: reading, simple predictions, layouts for a network, writing MIDI."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import mido
import numpy as np
import scipy.io
from jax import Array
from support.errors import BadInputError

from data.composed_music import KEYS, LOWEST, compose


@dataclass(frozen=True)
class Music:
    """Pieces in three splits, as piano rolls [frames, 88] of zeros and ones.

    `floor` is the test loss of a predictor that knows the rules of composed music; for other music it is unknown.
    """

    name: str
    train: list[np.ndarray]
    valid: list[np.ndarray]
    test: list[np.ndarray]
    floor: float | None = None

    @staticmethod
    def of(path: Path | None) -> Music:
        """Reads a MATLAB file with `traindata`, `validdata` and `testdata`; None: composes music."""
        if path is None:
            rng = np.random.default_rng(0)
            composed = [compose(rng) for _ in range(300)]
            rolls = [roll for roll, _ in composed]
            floor = nats([p[1:] for _, p in composed[250:]], [roll[1:] for roll in rolls[250:]])
            return Music("music composed by rules", rolls[:200], rolls[200:250], rolls[250:], floor)
        try:
            sets = scipy.io.loadmat(str(path), appendmat=False)
            splits = [[np.asarray(roll) for roll in sets[f"{name}data"].ravel()] for name in ("train", "valid", "test")]
        except OSError as error:
            raise BadInputError(f"cannot read {path}: {error.strerror or error}") from None
        except KeyError as error:
            raise BadInputError(f"{path} has no {error}: it needs traindata, validdata and testdata") from None
        except Exception:  # of many kinds, because scipy does not check what it reads
            raise BadInputError(f"{path} is not a MATLAB file of a version up to 7.2") from None
        for roll in (roll for split in splits for roll in split):
            if roll.ndim != 2 or roll.shape[1] != KEYS or not np.isin(roll, (0, 1)).all():
                raise BadInputError(f"{path} must hold pieces [frames, {KEYS}] of zeros and ones")
        train, valid, test = ([roll.astype(np.uint8) for roll in split if len(roll) > 1] for split in splits)
        if not (train and valid and test):
            raise BadInputError(f"{path} has a split without any piece of two frames")
        return Music(path.name, train, valid, test)

    @property
    def digest(self) -> str:
        return hashlib.sha256(b"".join(roll.tobytes() for roll in self.train + self.valid + self.test)).hexdigest()

    def __str__(self) -> str:
        sizes = [f"{len(split)} pieces ({sum(map(len, split)):,})" for split in (self.train, self.valid, self.test)]
        return f"{self.name}: {', '.join(sizes)} for training, validation, test; sha256 {self.digest[:12]}"


def nats(chances: list[np.ndarray], rolls: list[np.ndarray]) -> float:
    """Returns the loss of given probabilities: binary cross-entropies, summed over keys and averaged over frames."""
    p, on = np.concatenate(chances), np.concatenate(rolls)
    return float(-np.log(np.where(on, p, 1 - p)).sum(-1).mean())


def baselines(music: Music) -> dict[str, float]:
    """Returns test losses of two baselines: the frequency of each key, and its frequency given the frame before."""
    now = np.concatenate([roll[:-1] for roll in music.train])
    after = np.concatenate([roll[1:] for roll in music.train])

    def frequency(among: np.ndarray) -> np.ndarray:  # that of Krichevsky and Trofimov: no key is impossible
        return ((among & (after == 1)).sum(0) + 0.5) / (among.sum(0) + 1)

    always, after_off, after_on = (frequency(among) for among in (now >= 0, now == 0, now == 1))
    targets = [roll[1:] for roll in music.test]
    markov = [np.where(roll[:-1], after_on, after_off) for roll in music.test]
    return {
        "independent keys": nats([np.broadcast_to(always, roll.shape) for roll in targets], targets),
        "Markov chain of each key": nats(markov, targets),
    }


class Chunks(NamedTuple):
    """Parts of pieces for training, padded at the end."""

    frames: Array  # [chunks, 1 + sequence_length, 88]
    lengths: Array  # [chunks], numbers of frames to predict

    @staticmethod
    def of(pieces: list[np.ndarray], longest: int) -> Chunks:
        parts = [piece[start : start + longest + 1] for piece in pieces for start in range(0, len(piece) - 1, longest)]
        frames = np.zeros((len(parts), 1 + longest, KEYS), np.uint8)
        for row, part in zip(frames, parts, strict=True):
            row[: len(part)] = part
        return Chunks(jnp.asarray(frames), jnp.array([len(part) - 1 for part in parts]))


class Streams(NamedTuple):
    """Whole pieces for evaluation, one after the other in several streams."""

    frames: Array  # [time, streams, 88]
    begins: Array  # [time, streams], whether a piece, or the padding, begins
    counts: Array  # [time - 1, streams], whether the next frame is predicted

    @staticmethod
    def of(pieces: list[np.ndarray]) -> Streams:
        number = -(-sum(map(len, pieces)) // max(map(len, pieces)))
        streams: list[list[np.ndarray]] = [[] for _ in range(number)]
        for piece in sorted(pieces, key=len, reverse=True):
            min(streams, key=lambda stream: sum(map(len, stream))).append(piece)
        time = max(sum(map(len, stream)) for stream in streams)
        frames = np.zeros((time, number, KEYS), np.uint8)
        begins = np.zeros((time, number), bool)
        ends = np.array([sum(map(len, stream)) for stream in streams])
        for n, stream in enumerate(streams):
            frames[: ends[n], n] = np.concatenate(stream)
            begins[np.cumsum([0, *map(len, stream[:-1])]), n] = True
        counts = ~begins[1:] & (np.arange(1, time)[:, None] < ends)
        return Streams(jnp.asarray(frames), jnp.asarray(begins), jnp.asarray(counts))


def write_midi(path: Path, roll: np.ndarray, frames_per_second: int = 4) -> None:
    """Writes a piano roll as MIDI. A key that is on in consecutive frames is held."""
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000)])
    framed = np.pad(roll.astype(int), ((1, 1), (0, 0)))
    ticks = 480 // frames_per_second
    waiting = 0
    for change in np.diff(framed, axis=0):
        for key in np.argsort(change, kind="stable"):  # ends before beginnings
            if change[key]:
                kind = "note_on" if change[key] > 0 else "note_off"
                track.append(mido.Message(kind, note=int(key) + LOWEST, velocity=64, time=waiting))
                waiting = 0
        waiting += ticks
    mido.MidiFile(tracks=[track]).save(path)
