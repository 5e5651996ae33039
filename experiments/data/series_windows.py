"""Windows of many series as arrays: what a network reads and what it forecasts, relative to the level at the origin."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from data.series import CALENDAR, Series, calendar, carried

SEASONS = 3  # before a step, whose values are read
EXPECTED = SEASONS + 1  # features from earlier seasons: these values, and the usual one
KNOWN = CALENDAR + 2  # features that are known for the future: also the position and the period
POSITION = CALENDAR  # index of the position among them


class Panel(NamedTuple):
    """All series, padded in front to begin at `start` and behind to one length.

    The values are in units of the scale of their series, relative to its mean. Both are those of the training period.
    """

    values: Array  # [series, time]; 0 where missing
    observed: Array  # [series, time]
    last: Array  # [series, time], the last value at each step that is not missing
    filled: Array  # [series, time], the values, and where one is missing that of the season before
    level: Array  # [series, time], the mean of the last season
    usual: Array  # [series, time], the mean difference from it at this step of a season so far
    calendar: Array  # [series, time, CALENDAR], also for the horizon after the end
    period: Array  # [series]
    horizon: Array  # [series]
    start: int  # where the series begin

    @classmethod
    def of(cls, every: list[Series], context: int) -> Panel:
        start = max(context, *(SEASONS * series.period for series in every))
        longest = longest_horizon(every)
        length = start + max(len(series.values) for series in every) + longest
        shape = (len(every), length)
        values, last, filled, level, usual = (np.zeros(shape, np.float32) for _ in range(5))
        observed = np.zeros(shape, bool)
        days = np.zeros((*shape, CALENDAR), np.float32)
        for n, series in enumerate(every):
            here = slice(start, start + len(series.values))
            observed[n, here] = ~np.isnan(series.values)
            normal = [(found - series.center) / series.scale for found in (series.values, carried(series.values))]
            values[n, here] = np.nan_to_num(normal[0])
            last[n, here] = normal[1]
            filled[n, here] = (series.filled - series.center) / series.scale
            level[n, here] = (series.climate[0] - series.center) / series.scale
            usual[n, here] = series.climate[1] / series.scale
            times = series.times_until(len(series.values) + longest)
            days[n, start : start + len(times)] = calendar(times, series.step)
        arrays = values, observed, last, filled, level, usual, days
        period, horizon = (np.array([getattr(series, name) for series in every]) for name in ("period", "horizon"))
        return cls(*map(jnp.asarray, arrays), jnp.asarray(period), jnp.asarray(horizon), start)  # type: ignore

    def windows(self, which: Array, origins: Array, context: int, horizon: int) -> Windows:
        """Cuts out windows: `context` steps before each origin, and `horizon` steps from it on.

        Args:
          which: Numbers of the series, [batch].
          origins: Steps at which the forecasts begin, [batch]. A series begins at step 0.
          context: Number of steps before the origin.
          horizon: Number of steps from the origin on, the longest horizon of a series.
        """
        ahead = jnp.arange(-context, horizon)[:, None]
        period = self.period[which]
        origin = self.start + origins
        time = origin + ahead
        season = origin + ahead - period * jnp.where(ahead < 0, 1, 1 + ahead // period)
        seasons = season[..., None] - period[:, None] * jnp.arange(SEASONS)
        level = self.last[which, origin - 1]
        begun = seasons >= self.start
        expected = self.level[which, jnp.minimum(time, origin) - 1] + self.usual[which, season]
        expected = jnp.concatenate([self.filled[which[:, None], seasons], expected[..., None]], axis=-1)
        begun = jnp.concatenate([begun, begun[..., :1]], axis=-1)
        position = jnp.broadcast_to(ahead / horizon, time.shape)
        periods = jnp.broadcast_to(jnp.log(period) / 4, time.shape)
        known = jnp.concatenate([self.calendar[which, time], jnp.stack([position, periods], axis=-1)], axis=-1)
        errors = self.values[which, time] - self.filled[which, season]
        counts = self.observed[which, time] & begun[..., 0] & (ahead < 0)
        scale = jnp.sum(jnp.abs(errors), axis=0, where=counts) / jnp.maximum(counts.sum(0), 1)
        scale = jnp.where(counts.any(0), jnp.maximum(scale, 0.1), 1.0)
        return Windows(
            values=(self.values[which, time] - level) / scale,
            observed=self.observed[which, time],
            last=jnp.where(time > self.start, self.last[which, time - 1] - level, 0) / scale,
            expected=jnp.where(begun, expected - level[:, None], 0) / scale[:, None],
            begun=begun,
            known=known,
            counts=self.observed[which, time] & (ahead < self.horizon[which]),
            level=level,
            scale=scale,
        )


class Windows(NamedTuple):
    """Windows of some series, relative to the last value before the origin, and in units of the windows' scale."""

    values: Array  # [context + horizon, batch]; any number where missing
    observed: Array  # [context + horizon, batch]
    last: Array  # [context + horizon, batch], the last value before each step
    expected: Array  # [context + horizon, batch, EXPECTED], of the seasons known at the origin, and the usual value
    begun: Array  # [context + horizon, batch, EXPECTED], whether the series had begun then
    known: Array  # [context + horizon, batch, KNOWN]
    counts: Array  # [context + horizon, batch], whether there is a value, and it is in the horizon of its series
    level: Array  # [batch], in the units of the panel
    scale: Array  # [batch], mean change from season to season in the context, in the units of the panel


def longest_horizon(every: list[Series]) -> int:
    return max(series.horizon for series in every)
