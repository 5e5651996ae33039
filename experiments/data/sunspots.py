"""The yearly sunspots as a benchmark, and the linear autoregression that has to be beaten.

WDC-SILSO, Royal Observatory of Belgium, Brussels: yearly mean numbers 1700-2008 as they were before the revision of
2015, public domain. A. Weigend, B. Huberman, D. Rumelhart, "Predicting the future: a connectionist approach", 1990,
has the parts and the score.
"""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from common import BadInputError

FIRST, LAST_OF_TRAINING, LAST = 1700, 1920, 1955
YEARS = np.arange(FIRST, LAST + 1)
VARIANCE = 1535  # by which the literature divides
WARM_UP = 12  # years at the beginning that are read only


def read_numbers(path: Path | None) -> np.ndarray:
    """The number of each of `YEARS`, from a CSV file; None: the one beside this."""
    path = path or Path(__file__).with_suffix(".csv")
    try:
        rows = list(csv.reader(path.read_text().splitlines()))
        numbers = {int(float(year)): float(number) for year, number, *_ in rows[1:]}
        found = np.array([numbers[year] for year in YEARS.tolist()])
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # a UnicodeDecodeError too
        raise BadInputError(f"{path} must have a line of names, then year,sunspots in each line: {error}") from None
    except KeyError as error:
        raise BadInputError(f"{path} must have each year from {FIRST} to {LAST}, but {error} is missing") from None
    if not np.isfinite(found).all():
        raise BadInputError(f"{path} must have numbers that are finite")
    return found


def blocks(number: int) -> np.ndarray:
    """Parts the training years in so many blocks: 0, 1 and so on; other years are -1."""
    block = np.full(len(YEARS), -1)
    learnt = np.flatnonzero((YEARS >= FIRST + WARM_UP) & (YEARS <= LAST_OF_TRAINING))
    block[learnt] = np.arange(len(learnt)) * number // len(learnt)
    return block


def autoregression(numbers: np.ndarray, order: int, fitted: np.ndarray) -> np.ndarray:
    """What a linear function of the `order` years before says of each year, NaN of the first ones.

    Its coefficients are those of least squares on the years where `fitted`.
    """
    before = [numbers[order - lag : len(numbers) - lag] for lag in range(1, order + 1)]
    inputs, outputs = np.stack([*before, np.ones(len(numbers) - order)], axis=1), numbers[order:]
    coefficients = np.linalg.lstsq(inputs[fitted[order:]], outputs[fitted[order:]], rcond=None)[0]
    return np.concatenate([np.full(order, np.nan), inputs @ coefficients])


def arv(predicted: np.ndarray, numbers: np.ndarray, where: np.ndarray) -> float:
    """The average relative variance of some years: the mean of the squared errors in units of the numbers' variance."""
    return float(np.mean((predicted - numbers)[where] ** 2) / VARIANCE)


def plot(path: Path, numbers: np.ndarray, of_networks: np.ndarray, linear: np.ndarray, title: str) -> None:
    """The predictions of the last years against the data."""
    figure, ax = plt.subplots(figsize=(9, 4.2), layout="constrained")
    shown = YEARS >= 1880
    ax.axvspan(LAST_OF_TRAINING + 0.5, YEARS[-1] + 0.5, color="#9aa5b1", alpha=0.15, linewidth=0, label="test years")
    ax.plot(YEARS[shown], numbers[shown], "o", color="#222222", markersize=4, label="sunspots")
    low, high = np.percentile(of_networks[:, shown], (5, 95), axis=0)
    ax.fill_between(YEARS[shown], low, high, color="#1f5fa8", alpha=0.25, linewidth=0, label="nine of ten networks")
    ax.plot(YEARS[shown], of_networks.mean(0)[shown], color="#1f5fa8", linewidth=1.8, label="their mean")
    ax.plot(YEARS[shown], linear[shown], color="#c1440e", linestyle="--", linewidth=1.3, label="autoregression")
    ax.set(xlabel="year", ylabel="sunspots, predicted from the years before", title=title)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, ncols=2)
    figure.savefig(path, dpi=160)
    plt.close(figure)
