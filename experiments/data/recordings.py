"""Recordings with transcripts: WAV files of any rate and format, text beside them or in lists, speakers in folders."""

from __future__ import annotations

import math
import re
import unicodedata
import warnings
from collections import defaultdict
from functools import partial
from os.path import normpath
from pathlib import Path

import numpy as np
import scipy.signal
from scipy.io import wavfile
from support.errors import BadInputError
from support.files import read_lines

from data.fields import fields
from data.utterances import Utterance, Utterances

RATE = 16_000  # samples per second, at most: speech has little above 8 kHz
LEAST_RATE = 4_000
LEAST_SECONDS, MOST_SECONDS = 0.1, 40.0
LEAST = 10  # recordings
LISTS = ("transcripts.txt", "*.trans.txt")


def recordings(folder: Path, units: str) -> Utterances:
    """Reads a folder of WAV files with transcripts, in the formats that speech.py documents.

    All recordings are resampled to one rate: the lowest of all, but at most RATE. If some are in subfolders, each of
    these is a speaker, and the speakers are divided among the splits; otherwise the recordings are. A tenth is for
    validation, and a fifth for testing.

    Args:
      folder: The folder.
      units: What a symbol is, "characters" or "tokens".
    """
    if not folder.is_dir():
        raise BadInputError(f"{folder} is not a folder of WAV files")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".wav" and path.is_file())
    if len(paths) < LEAST:
        raise BadInputError(f"{folder} has {len(paths)} WAV files (*.wav), but at least {LEAST} are needed")
    symbols = {path: symbols_of(text, place, units) for path, (text, place) in transcripts(folder, paths).items()}
    rate = min(RATE, *(read_wav(path)[0] for path in paths))

    in_folders = any(path.parent != folder for path in paths)
    groups: defaultdict[str, list[Path]] = defaultdict(list)  # of recordings that stay in one split
    for path in paths:
        *around, name = path.relative_to(folder).parts
        groups[(around[0] if around else "") if in_folders else name].append(path)
    if len(groups) < 3:
        raise BadInputError(
            f"{folder} has recordings of {len(groups)} speakers, one for each subfolder, but at least 3 are needed: to"
            " split the recordings at random instead, put them into one folder without subfolders"
        )
    names = sorted(groups)
    order = [names[n] for n in np.random.default_rng(0).permutation(len(names))]
    num_valid, num_test = max(1, len(names) // 10), max(1, len(names) // 5)
    parts = order[num_valid + num_test :], order[:num_valid], order[num_valid : num_valid + num_test]

    def read(path: Path) -> Utterance:
        return Utterance.of(str(path), symbols[path], partial(read_sound, path, rate))

    train, valid, test = ([read(path) for name in sorted(part) for path in groups[name]] for part in parts)
    speakers = (len(parts[0]), num_valid, num_test) if in_folders else (0, 0, 0)
    return Utterances(f"{folder} at {rate:,} Hz", speakers, train, valid, test)


def transcripts(folder: Path, paths: list[Path]) -> dict[Path, tuple[str, str]]:
    """Returns the text of each recording, and where it is written."""
    listed: dict[str, tuple[str, str]] = {}  # by the path of a recording without its suffix
    for path in sorted(path for pattern in LISTS for path in folder.rglob(pattern)):
        for number, line in enumerate(read_lines(path), 1):
            if not (parts := fields(line)):
                continue
            place = f"{path}, line {number}"
            recording = normpath(path.parent / re.sub(r"\.wav$", "", parts[0], flags=re.IGNORECASE))
            if recording in listed:
                raise BadInputError(
                    f"{place}: {parts[0]} has a transcript already, in {listed[recording][1]}: remove one"
                )
            listed[recording] = " ".join(parts[1:]), place
    found = {}
    for path in paths:
        beside = path.with_suffix(".txt")
        in_list = listed.get(normpath(path.with_suffix("")))
        has_own = beside.exists() and beside.name != LISTS[0]
        if in_list and has_own:
            raise BadInputError(f"{path} has two transcripts, in {beside} and in {in_list[1]}: remove one")
        if in_list:
            found[path] = in_list
        elif has_own:
            found[path] = " ".join(read_lines(beside)), str(beside)
        else:
            raise BadInputError(
                f"{path} has no transcript: write it to {beside.name} beside it, or in a line of {LISTS[0]}"
            )
    return found


def symbols_of(text: str, place: str, units: str) -> list[str]:
    """Returns the symbols of a transcript: its parts between blanks, or its characters in a plain form.

    Characters are letters, in lower case, digits, apostrophes and blanks. A blank replaces every other character.
    """
    text = unicodedata.normalize("NFC", text).replace("\u2019", "'")
    if units == "characters":
        plain = "".join(c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in text.lower())
        symbols = list(" ".join(fields(plain)))
    else:
        symbols = fields(text)
    if not symbols:
        raise BadInputError(f"{place}: the transcript has no {units}")
    return symbols


def read_wav(path: Path) -> tuple[int, np.ndarray]:
    """Reads the rate and the samples of a WAV file, [samples] or [samples, channels], in the numbers of the file."""
    try:
        with path.open("rb") as file:
            if file.read(7) == b"NIST_1A":
                raise BadInputError(f"{path} is a NIST SPHERE file, not a WAV file: convert it, for example with SoX")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=wavfile.WavFileWarning)  # of chunks that are not sound
            warnings.filterwarnings("error", message="Reached EOF", category=wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except BadInputError:
        raise
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:  # of many kinds, because scipy does not check what it reads
        what = (str(error) or type(error).__name__).splitlines()[0]
        raise BadInputError(f"{path} is not a WAV file that can be read: {what}") from None
    seconds = len(samples) / max(rate, 1)
    if rate < LEAST_RATE:
        raise BadInputError(f"{path} has {rate:,} samples per second, but at least {LEAST_RATE:,} are needed")
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise BadInputError(
            f"{path} must be {LEAST_SECONDS} to {MOST_SECONDS:.0f} seconds long, but it is {seconds:.2f} seconds long:"
            " cut or remove it"
        )
    return rate, samples


def read_sound(path: Path, rate: int) -> tuple[np.ndarray, int]:
    """Returns the samples of a WAV file from -1 to 1, the mean of its channels, resampled to a rate; and this rate."""
    before, samples = read_wav(path)
    kind = samples.dtype
    if not np.isfinite(samples).all():
        raise BadInputError(f"{path} has samples that are NaN or infinite: repair or remove it")
    if kind == np.uint8:
        sound = (samples.astype(np.float32) - 128) / 128
    elif np.issubdtype(kind, np.integer):
        sound = samples.astype(np.float32) / 2.0 ** (8 * kind.itemsize - 1)
    else:  # some programs write floats in the range of integers
        sound = (samples / max(1, np.abs(samples).max())).astype(np.float32)
    if sound.ndim > 1:
        sound = sound.mean(1)
    if before != rate:
        common = math.gcd(before, rate)
        sound = scipy.signal.resample_poly(sound, rate // common, before // common)
    return sound.astype(np.float32), rate
