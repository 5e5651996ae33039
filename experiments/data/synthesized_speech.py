"""Sounds like speech, by source and filter, so that each phoneme and its place are known.

Pulses at the speaker's pitch pass through resonators at the formants (vowels, nasals, l), noise through a band
(fricatives, and the bursts of stops after their silent closures). The formants glide from phoneme to phoneme. Speakers
differ in pitch, in pace, in the length of the vocal tract, which scales all formants, and in their vowels. Noise of
varying level and color is added.

The vowels are those of men in G. Peterson, H. Barney, "Control methods used in a study of the vowels", 1952; synthesis
by formants is that of D. Klatt, "Software for a cascade/parallel formant synthesizer", 1980, much simplified.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.fft

from data.utterances import Segment, Utterance, Utterances

RATE = 16_000  # samples per second
WINDOW, HOP, FFT = 256, 128, 768  # samples: of the pieces that are filtered, between them, and with their echo
BANDWIDTHS = (60.0, 90.0, 150.0, 250.0, 300.0)  # of the formants, in Hz
HIGH_FORMANTS = (3500.0, 4500.0)  # above the three that phonemes determine
GLIDE = 0.35  # share of a phoneme at either end in which the formants move
DECLINATION = 0.2  # fall of the pitch in an utterance, relative to its mean


class Phoneme(NamedTuple):
    """How a phoneme sounds.

    Attributes:
      seconds: Its mean duration.
      formants: The lowest three formants of a man, or the places from which a consonant's neighbors glide, in Hz.
      voice: Amplitude of the voice.
      noise: Amplitude of the noise.
      band: Center and width of the noise, in Hz.
      closure: The share of the duration that is silent, before the rest.
    """

    seconds: float
    formants: tuple[float, float, float]
    voice: float = 0.0
    noise: float = 0.0
    band: tuple[float, float] = (4000.0, 4000.0)
    closure: float = 0.0


VOWELS = {
    "i": Phoneme(0.10, (270, 2290, 3010), voice=0.8),
    "ɪ": Phoneme(0.07, (390, 1990, 2550), voice=0.9),  # noqa: RUF001
    "ɛ": Phoneme(0.09, (530, 1840, 2480), voice=1.0),
    "æ": Phoneme(0.11, (660, 1720, 2410), voice=1.0),
    "ɑ": Phoneme(0.11, (730, 1090, 2440), voice=1.0),  # noqa: RUF001
    "ɔ": Phoneme(0.10, (570, 840, 2410), voice=1.0),
    "ʊ": Phoneme(0.07, (440, 1020, 2240), voice=0.9),
    "u": Phoneme(0.10, (300, 870, 2240), voice=0.8),
}
CONSONANTS = {
    "m": Phoneme(0.07, (250, 900, 2200), voice=0.3),
    "n": Phoneme(0.07, (250, 1600, 2600), voice=0.3),
    "l": Phoneme(0.07, (360, 1100, 2800), voice=0.5),
    "s": Phoneme(0.10, (320, 1500, 2600), noise=0.25, band=(6000, 2500)),
    "ʃ": Phoneme(0.10, (320, 1800, 2500), noise=0.3, band=(3200, 1800)),
    "f": Phoneme(0.09, (340, 1000, 2200), noise=0.1, band=(4000, 7000)),
    "z": Phoneme(0.08, (300, 1500, 2600), voice=0.25, noise=0.15, band=(6000, 2500)),
    "p": Phoneme(0.09, (350, 800, 2100), noise=0.3, band=(900, 1000), closure=0.7),
    "t": Phoneme(0.09, (350, 1800, 2700), noise=0.35, band=(4800, 2500), closure=0.7),
    "k": Phoneme(0.09, (350, 2000, 2300), noise=0.35, band=(2000, 900), closure=0.6),
}
PHONEMES = VOWELS | CONSONANTS
SPEAKERS = (80, 10, 20)  # to train, validate and test
EACH = 20  # utterances of a speaker
NOISE = (5.0, 25.0)  # lowest and highest level of the speech above the noise in dB
CODA = ("m", "n", "l", "s", "t")  # consonants that may end a syllable


class Speaker(NamedTuple):
    """What distinguishes a speaker.

    Attributes:
      name: Its name.
      pitch: Mean pitch in Hz.
      scale: Factor of all formants, which are higher in a shorter vocal tract.
      pace: Factor of all durations.
      accent: Factors of the formants of each phoneme.
    """

    name: str
    pitch: float
    scale: float
    pace: float
    accent: dict[str, np.ndarray]


class Script(NamedTuple):
    """What is pronounced, by whom, and how loud the noise is.

    Attributes:
      speaker: The speaker.
      segments: Phonemes and pauses, without gaps, from second 0 to the end.
      snr: Level of the speech above the noise in dB.
      seed: Random seed of the sound.
    """

    speaker: Speaker
    segments: tuple[Segment, ...]
    snr: float
    seed: int

    @property
    def symbols(self) -> list[str]:
        return [segment.symbol for segment in self.segments if segment.symbol]


def draw_speaker(rng: np.random.Generator, name: str) -> Speaker:
    """Draws a speaker with a low voice and a long vocal tract, or with a high voice and a short one."""
    low = rng.random() < 0.5
    pitch = rng.uniform(85, 145) if low else rng.uniform(160, 250)
    scale = rng.uniform(0.9, 1.04) if low else rng.uniform(1.04, 1.22)
    accent = {symbol: np.exp(rng.normal(0, 0.04, 3)) for symbol in PHONEMES}
    return Speaker(name, float(pitch), float(scale), float(rng.uniform(0.8, 1.25)), accent)


def synthesized_speech() -> Utterances:
    """Draws utterances of many speakers, and synthesizes them. No speaker is in two splits."""
    rng = np.random.default_rng(0)
    speakers = [draw_speaker(rng, f"speaker {n}") for n in range(1, 1 + sum(SPEAKERS))]
    scripts = [
        (f"{speaker.name}, utterance {n}", draw_script(rng, speaker))
        for speaker in speakers
        for n in range(1, 1 + EACH)
    ]

    def utterance(named: tuple[str, Script]) -> Utterance:
        name, script = named
        return Utterance.of(name, script.symbols, partial(sound_of, script), script.segments)

    with ThreadPoolExecutor() as threads:
        found = list(threads.map(utterance, scripts))
    first, second = EACH * SPEAKERS[0], EACH * (SPEAKERS[0] + SPEAKERS[1])
    return Utterances("synthesized speech", SPEAKERS, found[:first], found[first:second], found[second:])


def draw_script(rng: np.random.Generator, speaker: Speaker) -> Script:
    """Draws two to four words of one or two random syllables, with pauses between some of them."""
    symbols = [""]
    for word in range(rng.integers(2, 5)):
        if word and rng.random() < 0.5:
            symbols.append("")
        for _ in range(rng.integers(1, 3)):
            symbols += draw_syllable(rng, symbols[-1])
    segments, now = [], 0.0
    for symbol in [*symbols, ""]:
        mean = PHONEMES[symbol].seconds * speaker.pace if symbol else 0.1
        end = now + max(0.04, mean * rng.lognormal(0, 0.2))
        segments.append(Segment(symbol, float(now), float(end)))
        now = end
    return Script(speaker, tuple(segments), float(rng.uniform(*NOISE)), int(rng.integers(2**31)))


def draw_syllable(rng: np.random.Generator, before: str) -> list[str]:
    """Draws a vowel, often with a consonant before it, and sometimes with one after it.

    The first phoneme differs from the one before the syllable, because the boundary between two equal phonemes is
    inaudible.
    """
    while True:
        onset = [str(rng.choice([*CONSONANTS]))] if rng.random() < 0.85 else []
        coda = [str(rng.choice(CODA))] if rng.random() < 0.3 else []
        syllable = [*onset, str(rng.choice([*VOWELS])), *coda]
        if syllable[0] != before:
            return syllable


class Part(NamedTuple):
    """A stretch of sound from a given second on, with one amplitude of voice and noise and one band of noise."""

    start: float
    voice: float = 0.0
    noise: float = 0.0
    band: tuple[float, float] = (4000.0, 4000.0)


def parts_of(script: Script) -> list[Part]:
    """Returns the stretches of sound of an utterance: a stop has a silent one and a burst."""
    parts = []
    for symbol, start, end in script.segments:
        phoneme = PHONEMES.get(symbol)
        if phoneme is None or phoneme.closure:
            parts.append(Part(start))
        if phoneme is not None:
            start += phoneme.closure * (end - start)
            parts.append(Part(start, phoneme.voice, phoneme.noise, phoneme.band))
    return parts


def formant_tracks(script: Script, seconds: np.ndarray) -> np.ndarray:
    """Returns all formants at some times, [times, formants]: constant within a phoneme, gliding between two."""
    times, targets = [], []
    for symbol, start, end in script.segments:
        if symbol:
            middle = GLIDE * (end - start)
            times += [start + middle, end - middle]
            targets += 2 * [[*(script.speaker.accent[symbol] * PHONEMES[symbol].formants), *HIGH_FORMANTS]]
    columns = np.array(targets).T * script.speaker.scale
    return np.stack([np.interp(seconds, times, column) for column in columns], axis=-1)


def sound_of(script: Script) -> tuple[np.ndarray, int]:
    return pronounce(script), RATE


def pronounce(script: Script) -> np.ndarray:
    """Returns the sound of an utterance: samples from -1 to 1, float32."""
    rng = np.random.default_rng(script.seed)
    total = round(script.segments[-1].end * RATE)
    seconds = np.arange(total) / RATE
    parts = parts_of(script)
    starts = np.array([part.start for part in parts])

    def at(times: np.ndarray, values: list[Any]) -> np.ndarray:
        """Returns a value for each time, given one for each part."""
        return np.array(values)[np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)]

    smooth = np.hanning(RATE // 100)  # amplitudes change within 10 ms
    voiced, noisy = (
        np.convolve(at(seconds, levels), smooth / smooth.sum(), mode="same")
        for levels in ([part.voice for part in parts], [part.noise for part in parts])
    )
    knots = np.arange(0, seconds[-1] + 0.1, 0.1)
    wander = np.interp(seconds, knots, rng.normal(0, 0.03, len(knots)))
    pitch = script.speaker.pitch * (1 + DECLINATION * (0.5 - seconds / seconds[-1]) + wander)
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0) * np.sqrt(RATE / pitch)

    centers = np.arange(-WINDOW // 2, total + WINDOW // 2, HOP) / RATE  # of the pieces that are filtered
    speech = filtered(pulses * voiced, resonances(formant_tracks(script, centers)))
    bands = at(centers, [part.band for part in parts]) * np.sqrt(script.speaker.scale)
    speech += filtered(rng.normal(0, 1, total) * noisy, band_passes(bands))
    level = np.sqrt((speech**2).mean()) * 10 ** (-script.snr / 20)
    sound = speech + level * colored_noise(rng, total)
    return (0.9 * sound / np.abs(sound).max()).astype(np.float32)


def frequencies() -> np.ndarray:
    return scipy.fft.rfftfreq(FFT, 1 / RATE).astype(np.float32)


def resonances(formants: np.ndarray) -> np.ndarray:
    """Returns the response [times, frequencies] of resonators in series, after a source that falls by 6 dB/octave."""
    f = frequencies()
    squares = np.square(formants, dtype=np.float32).T[..., None]
    inverse = 1 + np.complex64(1j) * f / 300
    for square, bandwidth in zip(squares, BANDWIDTHS, strict=True):
        inverse = inverse * (1 + np.complex64(1j) * f * (bandwidth / square) - f**2 / square)
    return 1 / inverse


def band_passes(bands: np.ndarray) -> np.ndarray:
    """Returns the response [times, frequencies] of bands, given their centers and widths [times, 2]."""
    center, width = bands.astype(np.float32).T[..., None]
    return 1 / np.sqrt(1 + np.square(np.square(2 * (frequencies() - center) / width)))


def filtered(source: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Filters a source with a response that changes over time [times, frequencies], in overlapping pieces."""
    padded = np.pad(source.astype(np.float32), (WINDOW, WINDOW + FFT))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: len(response)]
    hann = np.square(np.sin(np.pi * np.arange(WINDOW) / WINDOW), dtype=np.float32)  # adds up to 1 in steps of HOP
    pieces = np.asarray(scipy.fft.irfft(scipy.fft.rfft(pieces * hann, FFT) * response, FFT))
    sound = np.zeros(len(padded) + FFT, np.float32)
    for n, piece in enumerate(pieces):
        sound[n * HOP : n * HOP + FFT] += piece
    return sound[WINDOW : WINDOW + len(source)]


def colored_noise(rng: np.random.Generator, number: int) -> np.ndarray:
    """Returns noise of variance 1 whose spectrum falls by 0 to 6 dB per octave."""
    total = scipy.fft.next_fast_len(number, real=True)
    spectrum = np.asarray(scipy.fft.rfft(rng.normal(0, 1, total)))
    spectrum *= np.maximum(np.arange(len(spectrum)), len(spectrum) / 100) ** -rng.uniform(0, 1)
    noise = np.asarray(scipy.fft.irfft(spectrum, total))[:number]
    return noise / noise.std()
