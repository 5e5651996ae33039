"""Probabilistic forecasts of many series, several steps ahead, by one network; compared with classic methods.

By default, the series are those in statsmodels: weekly CO2 with its real gaps, monthly sea surface temperatures and
industrial production, 14 quarterly series of the economy, yearly sunspots and the Nile. One network is trained on
windows of all series. It reads the values before an origin, with the calendar, and forecasts the steps after it.

closed-loop: step by step on sampled paths, after D. Salinas et al., "DeepAR: probabilistic forecasting with
autoregressive recurrent networks", 2020.

encoder-decoder: all steps at once, after R. Wen et al., "A multi-horizon quantile recurrent forecaster", 2017.

Missing values are inputs of GRU-D (Z. Che et al., "Recurrent neural networks for multivariate time series with missing
values", 2018). Baselines are the seasonal naive forecast, exponential smoothing and an autoregression, each with its
distribution. The last fifth of each series is for testing, and the 15 % before it for validation. All methods forecast
from the same origins in the test period. They may read all values before an origin, but their parameters and scales are
fitted to earlier periods: those of the networks to the training period, those of the others also to validation data.

MASE is the absolute error of the median, and CRPS the continuous ranked probability score of the distribution. Both are
in units of the mean absolute error of the seasonal naive forecast, one season ahead, in the training period.

--data FILE: a CSV file in UTF-8. If its header is time,series,value, each line has one value of one series. Otherwise,
the first column has the times and each other column is a series. The times of a series must increase in equal steps: a
year, 2024-06, 2024-Q2, or a date or date and time of ISO 8601. Missing values are empty cells, NA or NaN.
"""

from __future__ import annotations

if __name__ == "__main__":
    from support.early import check_command_line

    check_command_line(__file__)  # before the imports below, which take seconds

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from data.forecast_baselines import BASELINES, Forecast, Points, Scores, mean_scores
from data.series import Series, digest, read_series, statsmodels_series
from data.series_windows import Panel, longest_horizon
from jax import Array
from matplotlib.dates import AutoDateLocator
from matplotlib.ticker import MaxNLocator
from models.forecasters import ClosedLoop, EncoderDecoder, Forecaster
from support.cells import count_parameters, make_cell
from support.clock import duration, process_start
from support.command_line import launch
from support.ensemble import Ensemble
from support.errors import BadInputError
from support.files import write_table
from support.options import RunFolder, RunOptions, above, at_least, rate
from support.plots import BLUE, GRAY, GREEN, RED, figure
from support.progress import print_table
from support.run import Run
from support.schedule import warmup_cosine
from support.training import Steps, many_steps, step_keys, training
from tqdm import tqdm

POINTS = 20  # of the distribution that a network outputs
PART = 256  # windows that are forecast at a time
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)  # of the quantiles in forecast.csv


@dataclass(frozen=True)
class Options(RunOptions):
    steps: int | None = 600  # Number of training steps, instead of --minutes
    data: Path | None = None  # A CSV file with one or many series, see above. None: series in statsmodels
    horizon: int | None = None  # Number of steps to forecast. None: the usual one for the time between two values
    period: int | None = None  # Number of steps in a season, 1 if there is none. None: likewise
    model: Literal["closed-loop", "encoder-decoder"] = "closed-loop"  # How to forecast several steps
    cell: str = "GRUD"  # Name of a cell in jaxrnn. GRUD is made for missing values
    hidden_size: int = 48  # Hidden size
    dropout: float = 0.2  # Dropout rate
    members: int = 2  # Number of networks that train side by side; their quantiles are averaged
    context: int = 48  # Number of values that are read before each forecast
    batch: int = 64  # Number of windows in a batch, for each member
    learning_rate: float = 1e-2  # Peak learning rate
    paths: int = 50  # Number of paths that each network samples in the closed loop

    def check_given(self, names: frozenset[str]) -> None:
        super().check_given(names)
        if "paths" in names and self.model != "closed-loop":
            raise BadInputError(f"--paths has no effect with --model {self.model}: only the closed loop samples paths")

    def check(self) -> None:
        super().check()
        at_least(1, hidden_size=self.hidden_size, members=self.members, context=self.context, batch=self.batch)
        at_least(1, **{name: n for name in ("horizon", "period") if (n := getattr(self, name)) is not None})
        at_least(2, paths=self.paths)
        above(0, learning_rate=self.learning_rate)
        rate(dropout=self.dropout)
        if self.data is None and not (self.horizon is None and self.period is None):
            raise BadInputError("--horizon and --period are for --data: the series in statsmodels have their own")


def make_model(options: Options, horizon: int) -> Forecaster:
    cell = make_cell(options.cell, options.hidden_size)
    if options.model == "closed-loop":
        return ClosedLoop(cell, options.context, horizon, POINTS, options.dropout)
    return EncoderDecoder(
        cell, make_cell("GRU", options.hidden_size), options.context, horizon, POINTS, options.dropout
    )


class Train(NamedTuple):
    """Everything that training changes."""

    step: Array
    params: Any
    adam: Any


optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.99), optax.add_decayed_weights(0.3))


def begin(model: Forecaster, key: Array) -> Train:
    params = model.init(key)
    return Train(jnp.int32(0), params, optimizer.init(params))


class Drawn(NamedTuple):
    """The training windows. A series is drawn in proportion to the square root of the number of its windows."""

    panel: Panel
    first: Array  # [series], the first origin
    last: Array  # [series], the last one: the horizon ends with the training period
    log_weight: Array  # [series]

    @classmethod
    def of(cls, panel: Panel, every: list[Series]) -> Drawn:
        first = np.array([series.period + 1 for series in every])
        last = np.array([series.valid_begin - series.horizon for series in every])
        return jax.device_put(cls(panel, first, last, np.log(last - first + 1) / 2))  # type: ignore


def update(
    options: Options, model: Forecaster, train: Train, data: Drawn, key: Array, progress: Array
) -> tuple[Train, Array]:
    """Runs one training step, on random windows of random series."""
    k_series, k_origin, k_dropout = jax.random.split(key, 3)
    which = jax.random.categorical(k_series, data.log_weight, shape=(options.batch,))
    origins = jax.random.randint(k_origin, which.shape, data.first[which], data.last[which] + 1)
    windows = data.panel.windows(which, origins, model.context, model.horizon)

    def loss_fn(params: Any) -> Array:
        losses, counts = model.losses(params, windows, k_dropout)
        return jnp.sum(losses, where=counts) / jnp.maximum(counts.sum(), 1)  # all may be missing

    loss, gradient = jax.value_and_grad(loss_fn)(train.params)
    direction, adam = optimizer.update(gradient, train.adam, train.params)
    learning_rate = options.learning_rate * warmup_cosine(train.step, progress)
    params = optax.apply_updates(train.params, optax.tree.scale(-learning_rate, direction))
    return Train(train.step + 1, params, adam), loss


@partial(jax.jit, static_argnums=(0, 1))
def begin_all(options: Options, model: Forecaster) -> Train:
    keys = jax.random.split(jax.random.key(options.seed), options.members)
    return Ensemble(options.members).begin(partial(begin, model), keys)


def make_steps(options: Options, model: Forecaster) -> Steps:
    """Returns a compiled function that makes many training steps of all members, each on a batch of its own."""
    ensemble = Ensemble(options.members)
    keys = step_keys(options.seed)
    update_all = ensemble.update(partial(update, options, model))
    member_keys = ensemble.keys(lambda step: jax.random.split(keys(step), options.members))
    return many_steps(update_all, member_keys, ensemble.size)


@partial(jax.jit, static_argnums=(0, 1, 2))
def quantiles(
    model: Forecaster, members: int, paths: int, params: Any, panel: Panel, which: Array, origins: Array, key: Array
) -> Array:
    """Returns points [batch, horizon, points] in the units of the panel: the mean of the members' quantiles."""
    ensemble = Ensemble(members)
    windows = panel.windows(which, origins, model.context, model.horizon)
    forecast = ensemble.map(lambda params, key: model.forecast(params, windows, key, paths))
    points = ensemble.stacked(forecast(params, ensemble.each(jax.random.split(key, members)))).mean(0)
    return (points * windows.scale[:, None] + windows.level[:, None]).swapaxes(0, 1)


def forecast_all(
    options: Options, model: Forecaster, params: Any, panel: Panel, every: list[Series], origins: list[np.ndarray]
) -> list[Points]:
    """Forecasts each series from its origins."""
    number = list(map(len, origins))
    which, origin = np.repeat(np.arange(len(every)), number), np.concatenate(origins)
    key = jax.random.key(options.seed)
    found = []
    for n, begin in enumerate(range(0, len(origin), PART)):
        part = np.arange(begin, begin + PART) % len(origin)  # the last part is filled up, so that all have one shape
        k_part = jax.random.fold_in(key, n)
        points = quantiles(model, options.members, options.paths, params, panel, which[part], origin[part], k_part)
        found.append(np.asarray(points, float))
    split = np.split(np.concatenate(found)[: len(origin)], np.cumsum(number)[:-1])
    return [
        Points(points[:, : series.horizon] * series.scale + series.center)
        for series, points in zip(every, split, strict=True)
    ]


def group_scores(every: list[Series], origins: list[np.ndarray], forecasts: Sequence[Forecast]) -> dict[str, Scores]:
    """Returns the scores of each data set, means over its series."""
    found: dict[str, list[Scores]] = {}
    for series, origin, forecast in zip(every, origins, forecasts, strict=True):
        found.setdefault(series.group, []).append(Scores.of(series, origin, forecast))
    return {name: mean_scores(scores) for name, scores in found.items()}


def overall(scores: dict[str, Scores]) -> dict[str, float]:
    """Returns the mean over the data sets of each score, over all steps of the horizon."""
    return {name: float(np.mean([np.nanmean(getattr(s, name)) for s in scores.values()])) for name in Scores._fields}


# --- Results ---


def print_scores(scores: dict[str, dict[str, Scores]]) -> None:
    """Prints MASE and CRPS of each method on each data set, and how the network compares with the best other one."""
    network, *others = scores
    for name in ("mase", "crps"):
        rows = {
            group: [float(np.nanmean(getattr(scores[method][group], name))) for method in scores]
            for group in scores[network]
        }
        if len(rows) > 1:
            rows["mean"] = np.mean(list(rows.values()), axis=0).tolist()
        width = max(map(len, rows))
        print(f"  {name.upper():<{width}}  {'  '.join(scores)}")
        for group, (found, *rest) in rows.items():
            numbers = "  ".join(f"{n:{len(method)}.3f}" for n, method in zip((found, *rest), scores, strict=True))
            best = int(np.argmin(rest))
            change = f"{found / rest[best] - 1:+.0%}" if rest[best] >= 5e-4 else f"{found - rest[best]:+.3f}"
            print(f"  {group:<{width}}  {numbers}   {change} against {others[best]}")


def write_scores(path: Path, scores: dict[str, dict[str, Scores]]) -> None:
    """Writes the scores of each method for each step ahead."""
    rows = [
        {"data": group, "method": method, "step": step + 1}
        | {name: f"{values[step]:.6g}" for name, values in found._asdict().items()}
        for method, groups in scores.items()
        for group, found in groups.items()
        for step in range(len(found.mase))
    ]
    write_table(path, rows[0], rows)


def write_forecasts(path: Path, every: list[Series], forecasts: list[Points]) -> None:
    """Writes quantiles of the values after the end of each series."""
    rows = []
    for series, forecast in zip(every, forecasts, strict=True):
        times = series.times_until(len(series.values) + series.horizon)[len(series.values) :]
        unit = "D" if all(times == times.astype("datetime64[D]")) else "s"
        table = {f"quantile {level}": forecast.quantile(level)[0] for level in LEVELS}
        rows += [
            {"time": np.datetime_as_string(time, unit), "series": series.name}
            | {name: f"{values[n]:.8g}" for name, values in table.items()}
            for n, time in enumerate(times)
        ]
    write_table(path, rows[0], rows)


def plot_fans(path: Path, shown: list[tuple[Series, Points, Forecast]], method: str) -> None:
    """Draws the forecasts of some series from the last origin of the test period, beside the true values."""
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    with figure(path, rows=rows, columns=columns, figsize=(6 * columns, 2.8 * rows + 0.6)) as (drawn, grid):
        for axes, (series, forecast, other) in zip(grid.flat, shown, strict=False):
            origin = int(series.tested[-1])
            begin = max(0, origin - max(2 * series.period, 4 * series.horizon))
            ahead = slice(origin, origin + series.horizon)
            times = series.times[ahead]
            marker = "" if series.horizon > 1 else "o"
            axes.plot(series.times[begin:], series.values[begin:], ".-", color="#222222", linewidth=1, label="values")
            for low, high, alpha in ((0.05, 0.95, 0.18), (0.25, 0.75, 0.3)):
                band = forecast.quantile(low)[-1], forecast.quantile(high)[-1]
                label = f"{high - low:.0%} of the network's distribution"
                axes.fill_between(
                    times, *band, color=BLUE, alpha=alpha, linewidth=0 if len(times) > 1 else 6, label=label
                )
            axes.plot(times, forecast.median[-1], color=BLUE, marker=marker, label="its median")
            axes.plot(times, other.median[-1], "--", color=RED, linewidth=1.3, marker=marker, label=method)
            axes.set(title=series.group, ylabel=series.name)
            axes.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=5))
        for axes in grid.flat[len(shown) :]:
            axes.remove()
        drawn.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5 if columns > 1 else 2)


def plot_horizons(path: Path, scores: dict[str, dict[str, Scores]]) -> None:
    """Draws the CRPS of each method against the number of steps ahead."""
    groups = list(next(iter(scores.values())))
    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    with figure(path, rows=rows, columns=columns, figsize=(max(5, 4 * columns), 2.8 * rows + 0.6)) as (drawn, grid):
        for axes, group in zip(grid.flat, groups, strict=False):
            curves = {method: of_groups[group].crps for method, of_groups in scores.items()}
            horizon = max(len(values) for values in curves.values())
            marker = "" if horizon > 1 else "o"
            for style, color, (method, values) in zip(
                ("-", ":", "--", "-."), (BLUE, GRAY, RED, GREEN), curves.items(), strict=True
            ):
                axes.plot(np.arange(1, len(values) + 1), values, style, color=color, marker=marker, label=method)
            axes.set(title=group, xlabel="steps ahead", ylabel="CRPS", ylim=(0, None))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if horizon == 1:
                axes.set_xlim(0.5, 1.5)
        for axes in grid.flat[len(groups) :]:
            axes.remove()
        drawn.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4 if columns > 1 else 2)


def main(options: Options, folder: RunFolder) -> None:
    every = statsmodels_series() if options.data is None else read_series(options.data, options.horizon, options.period)
    groups = {series.group: series for series in reversed(every)}
    panel = Panel.of(every, options.context)
    model = make_model(options, longest_horizon(every))
    train = begin_all(options, model)
    like = jax.eval_shape(lambda: (train, 0.0))
    run = Run(folder, options, facts={"data": digest(every)})
    missing = sum(int(np.isnan(series.values).sum()) for series in every)
    total = sum(len(series.values) for series in every)
    print(f"data    {len(every)} series with {total:,} values, {missing:,} missing; sha256 {digest(every)[:12]}")
    for series in reversed(groups.values()):
        print(
            f"        {series.group}: {series.horizon} steps ahead, {len(series.tested)} times; season {series.period}"
        )
    print(f"model   {options.members} x {model}, {count_parameters(train.params) // options.members:,} parameters")
    print(f"run     {run.path}", flush=True)

    def forecasts_of(params: Any, origins: list[np.ndarray]) -> list[Points]:
        return forecast_all(options, model, params, panel, every, origins)

    data = Drawn.of(panel, every)
    validated, tested = [series.validated for series in every], [series.tested for series in every]
    steps = make_steps(options, model)
    for stage in training(run, train, steps, data, options.limit, items=(options.batch * options.members, "windows")):
        found = overall(group_scores(every, validated, forecasts_of(stage.train.params, validated)))
        stage.record(found["crps"], valid_loss=found["crps"], valid_mase=found["mase"])
        stage.say(f"validation CRPS {found['crps']:.3f}, MASE {found['mase']:.3f}")

    best, _ = jax.device_put(run.checkpoints.best(like))
    forecasts = forecasts_of(best.params, tested)
    quiet = not sys.stderr.isatty()
    others = {
        name: [method(*each) for each in tqdm([*zip(every, tested, strict=True)], name, leave=False, disable=quiet)]
        for name, method in BASELINES.items()
    }
    scores = {options.model: group_scores(every, tested, forecasts)}
    scores |= {name: group_scores(every, tested, found) for name, found in others.items()}
    what = "one step ahead" if options.model == "closed-loop" else "in units of the windows"
    run.plot({}, "CRPS", f"{options.cell}, {options.model}; the training loss is {what}")
    write_scores(run.path / "scores.csv", scores)
    ends = [np.array([len(series.values)]) for series in every]
    write_forecasts(run.path / "forecast.csv", every, forecasts_of(best.params, ends))
    best_other = min(others, key=lambda name: overall(scores[name])["crps"])
    numbers = (
        [every.index(series) for series in reversed(groups.values())] if len(groups) > 1 else range(min(6, len(every)))
    )
    shown = [(every[n], forecasts[n], others[best_other][n]) for n in numbers]
    plot_fans(run.path / "fans.png", shown, best_other)
    plot_horizons(run.path / "horizons.png", scores)
    print(f"Test period, at training step {best.step:,}, the best in validation; lower is better:")
    print_scores(scores)
    inside = ", ".join(f"{name} {overall(each)['inside']:.0%}" for name, each in scores.items())
    print_table(
        intervals=f"of 80 % contain: {inside}",
        time=f"{duration(run.last['seconds'])}, {run.last['step']:,.0f} steps",
        scores=f"{run.path / 'scores.csv'} for each step ahead, drawn in {run.path / 'horizons.png'}",
        forecasts=f"{run.path / 'forecast.csv'}, after the end of each series",
        plot=str(run.path / "fans.png"),
    )


if __name__ == "__main__":
    launch(main, Options, RunFolder, started=process_start())
