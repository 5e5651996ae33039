"""Log-mel spectrograms: how strong each band of frequencies is over time, as speech recognition reads sound.

The mel scale is that of D. O'Shaughnessy, "Speech Communication", 1987: mel = 2595 log10(1 + Hz / 700).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.fft
import scipy.sparse

BANDS = 40
WINDOW_SECONDS, HOP_SECONDS = 0.025, 0.010  # of a frame, and between frames
LOWEST = 60.0  # Hz
FLOOR = 1e-10  # added to the power, so that silence is finite


def log_mel(samples: np.ndarray, rate: int) -> np.ndarray:
    """Returns the log power in bands of the mel scale, [frames, BANDS].

    Args:
      samples: Samples from -1 to 1.
      rate: Samples per second.
    """
    window, hop = round(WINDOW_SECONDS * rate), round(HOP_SECONDS * rate)
    if len(samples) < window:
        return np.zeros((0, BANDS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    hann = np.square(np.sin(np.pi * np.arange(window) / window), dtype=np.float32)
    size = fft_size(rate)
    power = np.square(np.abs(np.asarray(scipy.fft.rfft(frames * hann, size)))) / size
    return np.log(power @ mel_filters(rate) + FLOOR).astype(np.float32)


def fft_size(rate: int) -> int:
    """Returns the power of two that a window is padded to. Even the lowest bands have several frequencies."""
    return 2 ** int(np.ceil(np.log2(2 * WINDOW_SECONDS * rate)))


@cache
def mel_filters(rate: int) -> scipy.sparse.csr_array:
    """Returns the weight of each frequency in each band, [frequencies, BANDS]: triangles from center to center.

    Most weights are zero, and the product with a small sparse matrix is faster than one by many threads.
    """
    frequencies = scipy.fft.rfftfreq(fft_size(rate), 1 / rate)
    edges = band_edges(rate)
    rising = (frequencies[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies[:, None]) / (edges[2:] - edges[1:-1])
    return scipy.sparse.csr_array(np.maximum(0, np.minimum(rising, falling)).astype(np.float32))


def band_edges(rate: int) -> np.ndarray:
    """Returns BANDS + 2 frequencies with equal distances in mel. The center of band n is number n + 1."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (LOWEST, rate / 2))
    mels = np.linspace(low, high, BANDS + 2)
    return 700 * (10 ** (mels / 2595) - 1)


def normalized(features: np.ndarray) -> np.ndarray:
    """Gives each band mean 0 and standard deviation 1 over the frames, which removes the level and the microphone."""
    deviation = features.std(0)
    return (features - features.mean(0)) / np.where(deviation > 1e-5, deviation, 1)


def stacked(features: np.ndarray, number: int) -> np.ndarray:
    """Joins each `number` consecutive frames into one step. The last step is filled with zeros."""
    steps = -(-len(features) // number)
    filled = np.pad(features, ((0, steps * number - len(features)), (0, 0)))
    return filled.reshape(steps, number * features.shape[1])


def center(step: float, number: int) -> float:
    """Returns the time in seconds of the middle of a step that joins `number` frames."""
    return (step * number + (number - 1) / 2) * HOP_SECONDS + WINDOW_SECONDS / 2
