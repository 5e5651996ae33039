"""Time series with equally spaced times: those in statsmodels, or a CSV file; their seasons, parts and calendars."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from statsmodels.datasets import co2, elec_equip, elnino, interest_inflation, macrodata, nile, sunspots
from support.errors import BadInputError
from support.files import read_lines

TESTED, VALIDATED = 0.2, 0.15  # shares of each series
MOST_ORIGINS = 50  # in a period of a series
HORIZONS = {1: 6, 4: 8, 12: 12, 52: 13, 7: 14}  # by the number of steps in a season
DAY = 24 * 60 * 60
MISSING = ("", "na", "nan")
LARGEST = 1e30  # number
CALENDAR = 6  # features
MODULES = (co2, elnino, elec_equip, interest_inflation, macrodata, nile, sunspots)


class Step(NamedTuple):
    """The time between two values: a number of calendar months, or of seconds."""

    months: int
    seconds: int

    @property
    def period(self) -> int:
        """The usual number of steps in a season; 1 if there is none."""
        if self.months:
            return 12 // self.months if 12 % self.months == 0 else 1
        if self.seconds < DAY:
            return DAY // self.seconds if DAY % self.seconds == 0 else 1
        return {DAY: 7, 7 * DAY: 52}.get(self.seconds, 1)

    def __str__(self) -> str:
        names = {12: "year", 3: "quarter", 1: "month"} if self.months else {7 * DAY: "week", DAY: "day", 3600: "hour"}
        number = self.months or self.seconds
        return names.get(number) or (f"{number} months" if self.months else f"{number} seconds")


@dataclass(frozen=True)
class Series:
    """A time series.

    Attributes:
      name: Its name.
      group: The data set whose scores it is part of.
      times: Equally spaced times [time], datetime64[s].
      values: Numbers [time]; NaN where they are missing.
      step: The time between two values.
      period: Number of steps in a season, 1 if there is none.
      horizon: Number of steps to forecast.
    """

    name: str
    group: str
    times: np.ndarray
    values: np.ndarray
    step: Step
    period: int
    horizon: int

    @property
    def valid_begin(self) -> int:
        """The first step of the validation period. All steps before it are for training."""
        return self.test_begin - max(round(VALIDATED * len(self.values)), self.horizon)

    @property
    def test_begin(self) -> int:
        """The first step of the test period."""
        return len(self.values) - max(round(TESTED * len(self.values)), self.horizon)

    @property
    def validated(self) -> np.ndarray:
        """The origins of the validation period."""
        return self._origins(self.valid_begin, self.test_begin)

    @property
    def tested(self) -> np.ndarray:
        """The origins of the test period."""
        return self._origins(self.test_begin, len(self.values))

    def _origins(self, begin: int, end: int) -> np.ndarray:
        """Returns equally spaced steps from which to forecast, such that all forecasts are for steps in a period."""
        last = end - self.horizon
        stride = max(1, self.horizon // 4, -(-(last + 1 - begin) // MOST_ORIGINS))
        return np.arange(last, begin - 1, -stride)[::-1]

    @cached_property
    def center(self) -> float:
        """The mean in the training period."""
        return float(np.nanmean(self.values[: self.valid_begin]))

    @cached_property
    def scale(self) -> float:
        """The mean absolute error of the seasonal naive forecast, one season ahead, in the training period.

        It is NaN if there are no two values to compare.
        """
        seen = self.values[: self.valid_begin]
        errors = np.abs(seen[self.period :] - seen[: -self.period])
        return float(np.nanmean(errors)) if np.isfinite(errors).any() else float("nan")

    @cached_property
    def filled(self) -> np.ndarray:
        """The values; a missing one is that of the season before, else the last one before it; NaN before the first.

        Each depends on earlier values only.
        """
        found = carried(self.values)
        for t in np.flatnonzero(np.isnan(self.values)):
            if t >= self.period and not np.isnan(found[t - self.period]):
                found[t] = found[t - self.period]
        return found

    @cached_property
    def climate(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean over the last season before each step, and the mean deviation of this step of a season from it."""
        sums = np.concatenate([[0.0], np.cumsum(self.filled - self.center)])
        steps = np.arange(len(self.values))
        first = np.maximum(0, steps + 1 - self.period)
        level = (sums[steps + 1] - sums[first]) / (steps + 1 - first) + self.center
        whole = steps >= self.period - 1  # the first season is not yet known before
        usual = np.zeros(len(steps))
        for n in range(self.period):
            counts = np.cumsum(whole[n :: self.period])
            differences = np.where(whole, self.filled - level, 0)[n :: self.period]
            usual[n :: self.period] = np.cumsum(differences) / np.maximum(counts, 1)
        return level, usual

    def seasonal_naive(self, origin: int, horizon: int | None = None) -> np.ndarray:
        """Repeats the last season before an origin."""
        ahead = np.arange(self.horizon if horizon is None else horizon)
        return self.filled[origin + ahead - self.period * (1 + ahead // self.period)]

    def times_until(self, steps: int) -> np.ndarray:
        """Returns `steps` times from the first one on, also after the end of the series."""
        start, number = self.times[0], np.arange(steps)
        if not self.step.months:
            return start + number * np.timedelta64(self.step.seconds, "s")
        month = start.astype("datetime64[M]")
        months = (month + number * self.step.months).astype("datetime64[M]")
        days = (months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")  # in each month
        day = (self.times.astype("datetime64[D]") - self.times.astype("datetime64[M]")).max()
        day = np.minimum(day, days - np.timedelta64(1, "D"))  # the last one may be later than that of a month
        return months.astype("datetime64[s]") + day + (start - start.astype("datetime64[D]"))


def carried(values: np.ndarray) -> np.ndarray:
    """Returns the last value that is not missing, at each step; NaN before the first one."""
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))))
    return values[last]


def calendar(times: np.ndarray, step: Step) -> np.ndarray:
    """Returns the hour, the day of the week and the time of the year as points on circles, [time, CALENDAR].

    A circle is left out (its features are zero) if one step of the series is a whole turn or more.
    """
    seconds = (times - times.astype("datetime64[D]")).astype(float)
    days = times.astype("datetime64[D]").astype(int)
    year = times.astype("datetime64[Y]")
    of_year = (times - year.astype("datetime64[s]")).astype(float)
    length = ((year + 1).astype("datetime64[s]") - year.astype("datetime64[s]")).astype(float)
    turns = (seconds / DAY, (days + 3) % 7 / 7, of_year / length)  # day 0 was a Thursday
    shown = (not step.months and step.seconds < DAY, not step.months and step.seconds < 7 * DAY, step.months < 12)
    circles = [
        (on * np.cos(2 * np.pi * turn), on * np.sin(2 * np.pi * turn)) for turn, on in zip(turns, shown, strict=True)
    ]
    return np.stack([feature for circle in circles for feature in circle], axis=-1)


# --- Data sets ---


def digest(every: list[Series]) -> str:
    found = hashlib.sha256()
    for series in every:
        found.update(f"{series.name} {series.group} {series.step} {series.period} {series.horizon}".encode())
        found.update(series.times.tobytes() + series.values.tobytes())
    return found.hexdigest()


def statsmodels_series() -> list[Series]:
    """Loads series that are part of statsmodels, without a download.

    CO2 at Mauna Loa (C. Keeling, T. Whorf), the surface temperature of the Pacific in the region of El Niño (NOAA), the
    production of electrical equipment in the EU (Eurostat), macroeconomic series of the US (FRED) and West Germany (H.
    Lütkepohl), the Nile at Aswan, and sunspots.
    """
    weekly, sea, equipment, german, us, flow, spots = (table(module) for module in MODULES)
    month, quarter, year = (Step(months, 0) for months in (1, 3, 12))
    economy = "economy, quarterly"
    return [
        named("CO2 in ppm", "CO2, weekly", "1958-03-29", Step(0, 7 * DAY), weekly["co2"]),
        named("sea surface, °C", "El Niño, monthly", "1950-01-01", month, sea.iloc[:, 1:].to_numpy().ravel()),
        named("equipment, index", "industry, monthly", "1995-01-01", month, equipment.iloc[:, 0]),
        *(named(f"US {name}", economy, "1959-01-01", quarter, us[name]) for name in us.columns[2:]),
        named("German inflation", economy, "1972-04-01", quarter, german["Dp"]),
        named("German interest", economy, "1972-04-01", quarter, german["R"]),
        named("flow, 10⁸ m³", "Nile, yearly", "1871-01-01", year, flow["volume"]),
        named("sunspots", "sunspots, yearly", "1700-01-01", year, spots["SUNACTIVITY"]),
    ]


def table(module: Any) -> Any:
    """Loads a data set of statsmodels as a data frame."""
    return module.load_pandas().data


def named(name: str, group: str, start: str, step: Step, values: Any) -> Series:
    """Makes a series from its first time."""
    numbers = np.asarray(values, float)
    one = Series(name, group, np.array([start], "datetime64[s]"), numbers, step, step.period, HORIZONS[step.period])
    return replace(one, times=one.times_until(len(numbers)))


def read_series(path: Path, horizon: int | None = None, period: int | None = None) -> list[Series]:
    """Reads one or many series from a CSV file in UTF-8, all with the same time between two values.

    If the header is time,series,value, each line has one value of one series. Otherwise the first column has the times,
    and each other column is a series. In a series, times must increase in equal steps. A time is a year, 2024-06,
    2024-Q2, or a date or date and time of ISO 8601. Missing values are empty cells, NA or NaN.

    Args:
      path: The file.
      horizon: Number of steps to forecast. None: the usual one for the time between two values.
      period: Number of steps in a season, 1 if there is none. None: likewise.
    """
    columns: dict[str, list[tuple[int, np.datetime64, float]]] = {}  # for each series, lines, times and values
    for line, time, name, value in cells(path):
        columns.setdefault(name, []).append((line, time, value))
    found = [one_series(path, name, rows, horizon, period) for name, rows in columns.items()]
    if len({series.step for series in found}) > 1:
        steps = ", ".join(f"{series.name!r} {series.step}" for series in found[:8])
        raise BadInputError(f"{path}: all series must have the same time between two values, but they have {steps}")
    return found


def cells(path: Path) -> Iterator[tuple[int, np.datetime64, str, float]]:
    """Yields the line, the time, the series and the value of each cell of a CSV file."""
    reader = csv.reader(read_lines(path))
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise BadInputError(f"{path}, line {reader.line_num}: not a line of a CSV file: {error}") from None
    if len(rows) < 2:
        raise BadInputError(f"{path} must have a header and a line for each time, but it has {len(rows)} lines")
    (_, header), *rows = rows
    long = [name.lower() for name in header] == ["time", "series", "value"]
    if len(header) < 2:
        form = "time,series,value, or a name for the times and for each series, separated by commas"
        raise BadInputError(f"{path}, line 1: the header must be {form}, but it is {','.join(header)!r}")
    names = header[1:]
    for name in names:
        if names.count(name) > 1 or not name:
            raise BadInputError(f"{path}, line 1: each series must have its own name, but {name!r} is not")
    if all(is_value(name) for name in names):
        raise BadInputError(f"{path}, line 1: the first line must have the names of the series, but it has numbers")
    for line, row in rows:
        if len(row) != len(header):
            raise BadInputError(f"{path}, line {line}: must have {len(header)} cells, like the header, not {len(row)}")
        time = read_time(path, line, row[0])
        if long and not row[1]:
            raise BadInputError(f"{path}, line {line}: must have the name of a series in the second cell")
        for name, cell in [(row[1], row[2])] if long else zip(names, row[1:], strict=True):
            if not is_value(cell):
                raise BadInputError(
                    f"{path}, line {line}: {cell!r} is not a number below {LARGEST:g}: leave it empty if missing"
                )
            yield line, time, name, float("nan") if cell.lower() in MISSING else float(cell)


def is_value(cell: str) -> bool:
    """Returns whether a cell is a number of usual size or missing."""
    try:
        return cell.lower() in MISSING or abs(float(cell)) < LARGEST
    except ValueError:
        return False


def read_time(path: Path, line: int, cell: str) -> np.datetime64:
    """Reads a time; one with a time zone is converted to UTC."""
    iso = re.sub(r"^(\d{4})-?Q([1-4])$", lambda m: f"{m[1]}-{3 * int(m[2]) - 2:02}", cell, flags=re.IGNORECASE)
    iso = iso + {4: "-01-01", 7: "-01"}.get(len(iso), "")
    try:
        time = datetime.fromisoformat(iso)
        time = time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
    except (ValueError, OverflowError):  # the latter next to the years 1 and 9999
        form = "a year, 2024-06, 2024-Q2, or a date or date and time such as 2024-06-30 or 2024-06-30 23:00"
        raise BadInputError(f"{path}, line {line}: the time must be {form}, but it is {cell!r}") from None
    if time.microsecond:
        raise BadInputError(f"{path}, line {line}: the time must be a whole number of seconds, but it is {cell!r}")
    return np.datetime64(time, "s")


def one_series(
    path: Path, name: str, rows: list[tuple[int, np.datetime64, float]], horizon: int | None, period: int | None
) -> Series:
    """Makes a series of its lines, without missing values at its beginning and its end."""
    lines, times, values = (np.array(column) for column in zip(*rows, strict=True))
    step = step_between(path, name, lines, times)
    observed = np.flatnonzero(~np.isnan(values))
    if not len(observed):
        raise BadInputError(f"{path}: all values of {name!r} are missing")
    whole = slice(observed[0], observed[-1] + 1)
    period = step.period if period is None else period
    horizon = HORIZONS.get(period, period) if horizon is None else horizon
    series = Series(name, path.stem, times[whole], values[whole], step, period, horizon)
    least = max(5 * horizon + 3 * period, 14 + period + horizon)  # exponential smoothing needs 10 and a season
    if len(series.values) < least:
        few = f"has {len(series.values)} values, but forecasts of {horizon} steps need {least}"
        raise BadInputError(f"{path}: {name!r} {few}: give a smaller --horizon or --period, or longer series")
    validated = series.values[series.validated[:, None] + np.arange(horizon)]
    if np.isnan(validated).all():
        begin, end = series.times[[series.valid_begin, series.test_begin]]
        raise BadInputError(f"{path}: all values of {name!r} from {begin} to {end}, the validation period, are missing")
    if not series.scale > 0:
        what = "does not change from season to season" if series.scale == 0 else "has too many missing values"
        raise BadInputError(f"{path}: {name!r} {what} in its first {series.valid_begin} values, the training period")
    return series


def step_between(path: Path, name: str, lines: np.ndarray, times: np.ndarray) -> Step:
    """Returns the time between two values, which must be the same for all."""
    if len(times) < 2:
        raise BadInputError(f"{path}: {name!r} has one line, but a series has many")
    gaps = np.diff(times).astype(int)
    for n in np.flatnonzero(gaps <= 0)[:1]:
        what = "is there twice" if not gaps[n] else f"comes after {times[n]}, but times must increase"
        raise BadInputError(f"{path}, line {lines[n + 1]}: {times[n + 1]} {what}, in {name!r}")
    months = np.diff(times.astype("datetime64[M]").astype(int))
    days = times.astype("datetime64[D]").astype(int) - times.astype("datetime64[M]").astype("datetime64[D]").astype(int)
    step = Step(0, int(gaps.min()))
    if months.min() > 0 and gaps.min() >= 28 * DAY and (np.ptp(days) == 0 or days.min() >= 27):
        step = Step(int(months.min()), 0)
    for n in np.flatnonzero(months != step.months if step.months else gaps != step.seconds)[:1]:
        expected = f"the step between times is one {step}" if str(step)[0].isalpha() else f"times are {step} apart"
        what = f"{times[n + 1]} comes after {times[n]}, but {expected}: write a line with an empty cell for each"
        raise BadInputError(f"{path}, line {lines[n + 1]}: {what} missing time, in {name!r}")
    return step
