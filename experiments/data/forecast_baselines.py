"""Forecasts of classic methods, and scores of forecasts.

The methods are the seasonal naive forecast, exponential smoothing and autoregression, both of statsmodels. They are
fitted once, to all values before the test period. At each origin, they know the values before it.

References: R. Hyndman, A. Koehler, "Another look at measures of forecast accuracy", 2006 (MASE); T. Gneiting, A.
Raftery, "Strictly proper scoring rules, prediction, and estimation", 2007 (CRPS); R. Hyndman et al., "A state space
framework for automatic forecasting using exponential smoothing methods", 2002.
"""

from __future__ import annotations

import warnings
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm
from statsmodels.tsa.ar_model import ar_select_order
from statsmodels.tsa.arima_process import arma2ma
from statsmodels.tsa.exponential_smoothing.ets import ETSModel

from data.series import Series

PATHS = 500  # that exponential smoothing simulates from each origin


class Normal(NamedTuple):
    """Normal distributions as forecasts."""

    mean: np.ndarray  # [origins, horizon]
    deviation: np.ndarray  # [origins, horizon]

    @property
    def median(self) -> np.ndarray:
        return self.mean

    def quantile(self, level: float) -> np.ndarray:
        return self.mean + norm.ppf(level) * self.deviation

    def crps(self, values: np.ndarray) -> np.ndarray:
        """Returns the continuous ranked probability score of values [origins, horizon]."""
        errors = values - self.mean
        certain = self.deviation == 0
        z = errors / np.where(certain, 1, self.deviation)
        return np.where(
            certain, np.abs(errors), self.deviation * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - np.pi**-0.5)
        )


class Points(NamedTuple):
    """Equally likely values as forecasts, for instance simulated ones."""

    points: np.ndarray  # [origins, horizon, points]

    @property
    def median(self) -> np.ndarray:
        return np.median(self.points, axis=-1)

    def quantile(self, level: float) -> np.ndarray:
        return np.quantile(self.points, level, axis=-1, method="hazen")  # point k of n is the quantile (k - 1/2) / n

    def crps(self, values: np.ndarray) -> np.ndarray:
        """Returns the continuous ranked probability score of values [origins, horizon].

        It is E|X - y| - E|X - X'| / 2 for independent X and X', each one of the points, and equal to twice the mean
        quantile loss of the sorted points.
        """
        points = np.sort(self.points, axis=-1)
        levels = (np.arange(points.shape[-1]) + 0.5) / points.shape[-1]
        errors = values[..., None] - points
        return 2 * np.maximum(levels * errors, (levels - 1) * errors).mean(-1)


Forecast = Normal | Points


def targets(series: Series, origins: np.ndarray) -> np.ndarray:
    """Returns the values to forecast, [origins, horizon]."""
    return series.values[origins[:, None] + np.arange(series.horizon)]


def seasonal_naive(series: Series, origins: np.ndarray) -> Normal:
    """Repeats the last season.

    The deviation is the root mean square of its errors before the test period, one season ahead, times the square root
    of the number of seasons ahead, as in a random walk.
    """
    seen = series.values[: series.test_begin]
    deviation = np.sqrt(np.nanmean((seen[series.period :] - seen[: -series.period]) ** 2))
    seasons = 1 + np.arange(series.horizon) // series.period
    mean = np.stack([series.seasonal_naive(origin) for origin in origins])
    return Normal(mean, np.broadcast_to(deviation * np.sqrt(seasons), mean.shape))


def exponential_smoothing(series: Series, origins: np.ndarray, seed: int = 0) -> Points:
    """Simulates the exponential smoothing model with the lowest AICc of those below, from each origin.

    Additive models have no trend, a trend or a damped trend. For positive series there are also models with a
    multiplicative error, a trend or damped trend, and a multiplicative season. Missing values are filled. The initial
    state is found heuristically: estimating it takes several times as long and did not lower the AICc.
    """
    known = series.filled / series.scale  # the optimizer needs numbers that are not small
    seasons = [None, "add"] if series.period > 1 else [None]
    kinds = list(product(["add"], [(None, False), ("add", False), ("add", True)], seasons))
    if known.min() > 0:
        multiplied = ["mul"] if series.period > 1 else [None]
        kinds += list(product(["mul"], [("add", False), ("add", True)], multiplied))
    best: Any = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged, for instance; then another model is chosen
        for error, (trend, damped), season in kinds:
            how: Any = {"error": error, "trend": trend, "damped_trend": damped, "seasonal": season}
            how |= {"seasonal_periods": series.period if season else None, "initialization_method": "heuristic"}
            fitted: Any = ETSModel(known[: series.test_begin], **how).fit(disp=False)
            if best is None or fitted.aicc < best[0].aicc:  # not if it is NaN
                best = fitted, how
        fitted, how = best
        smoothed: Any = ETSModel(known, **how).smooth(fitted.params)
        noise = fitted.scale**0.5 * np.random.default_rng(seed).standard_normal((len(origins), series.horizon, PATHS))
        paths = [
            smoothed.simulate(series.horizon, anchor=int(origin) - 1, repetitions=PATHS, random_errors=each)
            for origin, each in zip(origins, noise, strict=True)
        ]
    return Points(series.scale * np.stack([np.asarray(path).reshape(series.horizon, PATHS) for path in paths]))


def autoregression(series: Series, origins: np.ndarray) -> Normal:
    """Forecasts with an autoregression. The number of lags, and whether there is a trend, have the lowest BIC.

    It has a constant for each step of a season. Missing values are filled.
    """
    known = series.filled
    seen = known[: series.test_begin]
    longest = min(series.period + 1 if series.period > 1 else 10, 13, len(seen) // 4)
    how: Any = {"ic": "bic", "seasonal": series.period > 1, "period": series.period if series.period > 1 else None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a singular matrix: a line fits several lags equally well
        fits: Any = [ar_select_order(seen, longest, trend=trend, **how).model.fit() for trend in ("c", "ct")]
    fitted = min(fits, key=lambda fit: fit.bic)
    extended = fitted.apply(known)
    mean = [extended.predict(o, o + series.horizon - 1, dynamic=True) for o in map(int, origins)]
    lags = fitted.model.ar_lags or []
    polynomial = np.zeros(1 + max(lags, default=0))
    polynomial[[0, *lags]] = [1.0, *(-fitted.params[len(fitted.params) - len(lags) :])]
    response: Any = arma2ma(polynomial, np.ones(1), lags=series.horizon)
    deviation = np.sqrt(fitted.sigma2 * np.cumsum(response**2))
    return Normal(np.stack(mean), np.broadcast_to(deviation, (len(mean), series.horizon)))


BASELINES = {
    "seasonal naive": seasonal_naive,
    "exponential smoothing": exponential_smoothing,
    "autoregression": autoregression,
}


class Scores(NamedTuple):
    """Scores for each step of a horizon, [horizon]: means over the origins whose target is not missing; NaN without."""

    mase: np.ndarray  # absolute errors of the medians, divided by the scale of the series
    crps: np.ndarray  # continuous ranked probability scores, likewise
    inside: np.ndarray  # shares of the targets from the quantile 0.1 to the quantile 0.9

    @classmethod
    def of(cls, series: Series, origins: np.ndarray, forecast: Forecast) -> Scores:
        values = targets(series, origins)
        errors = np.abs(values - forecast.median) / series.scale
        crps = forecast.crps(values) / series.scale
        inside = (forecast.quantile(0.1) <= values) & (values <= forecast.quantile(0.9))
        return cls(*(mean(found, ~np.isnan(values)) for found in (errors, crps, inside)))


def mean(numbers: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Returns the mean over the first axis of numbers that count; NaN if there is none."""
    with np.errstate(invalid="ignore"):
        return np.where(where, numbers, 0).sum(0) / where.sum(0)


def mean_scores(every: list[Scores]) -> Scores:
    """Returns the mean over several series."""
    return Scores(*(mean(np.stack(each), np.isfinite(each)) for each in zip(*every, strict=True)))
