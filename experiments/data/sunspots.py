"""The yearly sunspot numbers as a benchmark, and the linear autoregression to beat.

Data: WDC-SILSO, Royal Observatory of Belgium, Brussels, yearly mean numbers 1700-2008 before the revision of 2015,
public domain. The split and the score are those of A. Weigend, B. Huberman, D. Rumelhart, "Predicting the future: a
connectionist approach", 1990.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from support.errors import BadInputError

FIRST, LAST_OF_TRAINING, LAST = 1700, 1920, 1955
YEARS = np.arange(FIRST, LAST + 1)
VARIANCE = 1535  # of the numbers, as the literature uses it
WARM_UP = 12  # years at the beginning that are read but not predicted


def read_numbers(path: Path | None) -> np.ndarray:
    """Reads the number of each of `YEARS` from a CSV file; None: the file beside this module."""
    path = path or Path(__file__).with_suffix(".csv")
    try:
        rows = list(csv.reader(path.read_text().splitlines()))
        numbers = {int(float(year)): float(number) for year, number, *_ in rows[1:]}
        found = np.array([numbers[year] for year in YEARS.tolist()])
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # a UnicodeDecodeError too
        raise BadInputError(f"{path} must have a header, then year,sunspots in each line: {error}") from None
    except KeyError as error:
        raise BadInputError(f"{path} must have each year from {FIRST} to {LAST}, but {error} is missing") from None
    if not np.isfinite(found).all():
        raise BadInputError(f"{path} must have finite numbers")
    return found


def blocks(number: int) -> np.ndarray:
    """Divides the training years into blocks 0, 1, ...; other years are -1."""
    block = np.full(len(YEARS), -1)
    learned = np.flatnonzero((YEARS >= FIRST + WARM_UP) & (YEARS <= LAST_OF_TRAINING))
    block[learned] = np.arange(len(learned)) * number // len(learned)
    return block


def autoregression(numbers: np.ndarray, order: int, fitted: np.ndarray) -> np.ndarray:
    """Predicts each year by a linear function of the `order` years before it; NaN for the first ones.

    The coefficients are those of least squares on the years where `fitted` is True.
    """
    before = [numbers[order - lag : len(numbers) - lag] for lag in range(1, order + 1)]
    inputs = np.stack([*before, np.ones(len(numbers) - order)], axis=1)
    outputs = numbers[order:]
    coefficients = np.linalg.lstsq(inputs[fitted[order:]], outputs[fitted[order:]], rcond=None)[0]
    return np.concatenate([np.full(order, np.nan), inputs @ coefficients])


def arv(predicted: np.ndarray, numbers: np.ndarray, where: np.ndarray) -> float:
    """Returns the average relative variance of some years: the mean squared error divided by `VARIANCE`."""
    return float(np.mean((predicted - numbers)[where] ** 2) / VARIANCE)
