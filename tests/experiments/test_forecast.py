"""Forecasts: scores against their definitions, baselines against statsmodels, no look into the future, bad files."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import forecast
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data import forecast_baselines as baselines
from data.series import Series, Step, calendar, read_series, statsmodels_series
from data.series_windows import Panel
from models.forecasters import crps
from scipy.integrate import quad
from support.errors import BadInputError
from support.options import RunFolder

import jaxrnn
from tests.support.scripts import call_script, error_line, read_metrics, stop_after
from tests.support.tiers import slow_but

pytestmark = pytest.mark.usefixtures("quick")
SMALL = ("--hidden-size", "4", "--members", "1", "--context", "8", "--batch", "4")
DAY = Step(0, 24 * 60 * 60)


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "forecast.py", options, forecast.main, forecast.Options, RunFolder)


def waves(number: int, seed: int = 0) -> np.ndarray:
    """Returns values with a season of 7 and a slow random walk."""
    noise = np.random.default_rng(seed).standard_normal(number)
    return 50 + 5 * np.sin(2 * np.pi * np.arange(number) / 7) + 0.3 * np.cumsum(noise)


def cycles(number: int, seed: int = 0) -> np.ndarray:
    """Returns the sum of a season of 7, a cycle of 40 and some noise."""
    turns = np.arange(number)[:, None] / [7, 40] + [0, seed / 5]
    return 50 + 5 * np.sin(2 * np.pi * turns).sum(1) + 0.2 * np.random.default_rng(seed).standard_normal(number)


def write_wide(
    path: str, number: int = 100, missing: tuple[int, ...] = (5, 6, 20), names: str = "ab", values=waves
) -> None:
    times = np.datetime64("2024-01-01") + np.arange(number)
    columns = [values(number, seed).astype(str) for seed in range(len(names))]
    columns[0][list(missing)] = ""
    rows = zip(times, *columns, strict=True)
    Path(path).write_text(f"time,{','.join(names)}\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))


def series_of(values: np.ndarray, period: int = 7, horizon: int = 4) -> Series:
    times = np.datetime64("2024-01-01", "s") + np.arange(len(values)) * np.timedelta64(1, "D")
    return Series("a", "days", times, np.asarray(values, float), DAY, period, horizon)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with a file of two daily series, to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(forecast, "PART", 16)
    write_wide("days.csv")
    return tmp_path


@pytest.mark.parametrize("model", slow_but(["encoder-decoder", "closed-loop"], ["encoder-decoder"]))
def test_it_runs(here, monkeypatch, capsys, model):
    options = ("--data", "days.csv", "--horizon", "4", "--model", model, "--steps", "3", "--run-dir", "run")
    assert call(monkeypatch, *SMALL, *options) == 0
    out = capsys.readouterr().out
    assert "2 series with 200 values, 3 missing" in out
    table = re.findall(r"^  days +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +[+-]\d+% against", out, re.MULTILINE)
    rows = list(csv.DictReader(Path("run/scores.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == 4 * ["1", "2", "3", "4"]
    for score, numbers in zip(("mase", "crps"), table, strict=True):
        means = np.reshape([float(row[score]) for row in rows], (4, 4)).mean(1)
        np.testing.assert_allclose(np.array(numbers, float), means, atol=6e-4)
    future = list(csv.DictReader(Path("run/forecast.csv").read_text().splitlines()))
    assert [row["time"] for row in future] == 2 * ["2024-04-10", "2024-04-11", "2024-04-12", "2024-04-13"]
    for row in future:
        found = [float(row[name]) for name in row if name.startswith("quantile")]
        assert found == sorted(found)
    for picture in ("fans", "horizons", "curves"):
        assert Path(f"run/{picture}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_stopped_and_resumed_run_ends_like_a_whole_one(here, monkeypatch, capsys):
    options = (*SMALL, "--members", "2", "--data", "days.csv", "--horizon", "4", "--steps", "6")
    assert call(monkeypatch, *options, "--run-dir", "whole") == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3)
        assert call(monkeypatch, *options, "--run-dir", "run") == 130
    assert call(monkeypatch, "--resume", "--run-dir", "run") == 0
    for name in ("scores.csv", "forecast.csv"):
        assert Path("run", name).read_text() == Path("whole", name).read_text()
    assert [row["valid_loss"] for row in read_metrics("run")][-1] == read_metrics("whole")[-1]["valid_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["encoder-decoder", "closed-loop"])
def test_it_learns_a_season_and_a_cycle(here, monkeypatch, capsys, model):
    write_wide("long.csv", 400, names="abc", values=cycles)
    options = ("--hidden-size", "16", "--members", "1", "--context", "14", "--batch", "32")
    assert call(monkeypatch, *options, "--data", "long.csv", "--horizon", "7", "--model", model, "--steps", "250") == 0
    out = capsys.readouterr().out
    mase, crps_ = re.findall(r"^  long +([\d.]+) +([\d.]+) ", out, re.MULTILINE)
    assert float(mase[0]) < 0.5 * float(mase[1])
    assert float(crps_[0]) < 0.5 * float(crps_[1])


# --- Scores ---


def crps_by_definition(distribution, value: float, breaks: list[float]) -> float:
    """The integral of (F(x) - [x >= value])^2."""
    edges = np.unique([*breaks, value])
    edges = [edges[0] - 30, *edges, edges[-1] + 30]
    parts = pairwise(edges)
    return sum(quad(lambda x: (distribution(x) - (x >= value)) ** 2, a, b, limit=200)[0] for a, b in parts)


@pytest.mark.parametrize("value", [-3.0, 0.4, 7.0])
def test_crps_of_points_is_that_of_the_definition(value):
    points = np.random.default_rng(1).normal(1, 2, 9)
    expected = crps_by_definition(lambda x: np.mean(points <= x), value, list(points))
    found = baselines.Points(points[None, None]).crps(np.array([[value]]))
    np.testing.assert_allclose(found, [[expected]], rtol=1e-7)
    energy = np.abs(points - value).mean() - np.abs(points[:, None] - points).mean() / 2
    np.testing.assert_allclose(found, [[energy]], rtol=1e-12)
    np.testing.assert_allclose(crps(jnp.sort(jnp.asarray(points)), jnp.asarray(value)), expected, rtol=1e-5)


@pytest.mark.parametrize("value", [-3.0, 0.4, 7.0])
def test_crps_of_a_normal_distribution_is_that_of_the_definition(value):
    normal = baselines.Normal(np.array([[1.0]]), np.array([[2.0]]))
    expected = crps_by_definition(lambda x: baselines.norm.cdf(x, 1, 2), value, [1.0])
    np.testing.assert_allclose(normal.crps(np.array([[value]])), [[expected]], rtol=1e-7)
    many = baselines.Points(baselines.norm.ppf((np.arange(4000) + 0.5) / 4000, 1, 2)[None, None])
    np.testing.assert_allclose(many.crps(np.array([[value]])), [[expected]], rtol=1e-3)
    np.testing.assert_allclose(normal.quantile(0.9), many.quantile(0.9), rtol=1e-3)


def test_scores_by_hand():
    values = np.array([1.0, 2, 3, 5, 4, np.nan, 8, 1, 2, 4, 7, 3])
    series = replace(series_of(values, period=2, horizon=2), values=values)
    assert (series.valid_begin, series.test_begin) == (8, 10)
    differences = [2, 3, 1, 4]  # 3-1, 5-2, 4-3, 8-4: the others have a missing value, or 1 and 5 - nan
    assert series.scale == pytest.approx(np.mean(differences))
    origins = np.array([4, 8])
    forecast_ = baselines.Normal(np.array([[5.0, 1.0], [2.0, 2.0]]), np.full((2, 2), 0.5))
    scores = baselines.Scores.of(series, origins, forecast_)
    np.testing.assert_allclose(scores.mase, [np.mean([1, 0]) / 2.5, 2 / 2.5])  # the value at 5 is missing
    np.testing.assert_allclose(scores.inside, [0.5, 0])
    both = baselines.mean_scores([scores, scores._replace(mase=np.array([np.nan, 0.2]))])
    np.testing.assert_allclose(both.mase, [scores.mase[0], (scores.mase[1] + 0.2) / 2])


# --- Baselines ---


def test_the_seasonal_naive_forecast_repeats_the_last_known_season():
    values = np.array([10.0, 20, 30, 11, np.nan, 31, 12, 22, np.nan, 13, 23, 33, 14, 24, 34])
    series = series_of(values, period=3, horizon=5)
    np.testing.assert_array_equal(series.filled[[4, 8]], [20, 31])
    np.testing.assert_array_equal(series.seasonal_naive(9), [12, 22, 31, 12, 22])
    np.testing.assert_array_equal(series.seasonal_naive(5), [30, 11, 20, 30, 11])


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_no_baseline_knows_what_comes_after_an_origin(name):
    values = waves(100)
    values[[30, 31, 85]] = np.nan
    method = baselines.BASELINES[name]
    origins = series_of(values).tested
    changed = values.copy()
    changed[origins[1] :] += 100 * np.arange(1, 1 + len(values) - origins[1])
    before, after = (method(series_of(v), origins) for v in (values, changed))
    for found, other in zip(before, after, strict=True):
        np.testing.assert_allclose(found[:2], other[:2], rtol=1e-9)
    assert not np.allclose(before.median[2:], after.median[2:])


def test_exponential_smoothing_continues_the_fitted_model(monkeypatch):
    """Without noise, its paths are the forecast of statsmodels after the training values."""
    series = series_of(waves(150))
    monkeypatch.setattr(baselines.np.random, "default_rng", lambda *seed: NoNoise())
    with pytest.MonkeyPatch.context() as patch:
        fits = []
        fit = baselines.ETSModel.fit
        patch.setattr(baselines.ETSModel, "fit", lambda *a, **k: fits.append(fit(*a, **k)) or fits[-1])
        found = baselines.exponential_smoothing(series, np.array([series.test_begin]))
    best = min(fits, key=lambda each: each.aicc)
    expected = series.scale * best.forecast(series.horizon)
    np.testing.assert_allclose(found.points[0], np.repeat(expected[:, None], baselines.PATHS, 1), rtol=1e-9)


class NoNoise:
    def standard_normal(self, shape):
        return np.zeros(shape)


def test_the_autoregression_has_the_distribution_of_statsmodels():
    series = series_of(waves(150))
    found = baselines.autoregression(series, np.array([series.test_begin]))
    fits = [
        baselines.ar_select_order(
            series.values[: series.test_begin], 8, ic="bic", trend=trend, seasonal=True, period=7
        ).model.fit()
        for trend in ("c", "ct")
    ]
    best = min(fits, key=lambda fit: fit.bic)
    predicted = best.get_prediction(series.test_begin, series.test_begin + 3)
    np.testing.assert_allclose(found.mean[0], predicted.predicted_mean, rtol=1e-7)
    np.testing.assert_allclose(found.deviation[0], predicted.se_mean, rtol=1e-7)


@pytest.mark.parametrize(("period", "horizon"), [(1, 1), (3, 1), (2, 2)])
def test_baselines_can_be_fitted_to_the_shortest_series(here, period, horizon):
    def read(number: int) -> Series:
        Path("short.csv").write_text("\n".join(lines_of(number)))
        return read_series(Path("short.csv"), horizon, period)[0]

    with pytest.raises(BadInputError, match="'a' has 9 values, but forecasts of") as error:
        read(9)
    series = read(int(re.search(r"need (\d+)", str(error.value))[1]))
    for method in baselines.BASELINES.values():
        scores = baselines.Scores.of(series, series.tested, method(series, series.tested))
        assert np.isfinite(scores.crps).all()


@pytest.mark.filterwarnings("error")
def test_perfect_baselines_are_compared(capsys):
    """A line, which several autoregressions fit without an error, and a certain forecast."""
    series = series_of(np.arange(100.0))
    found = baselines.autoregression(series, series.tested)
    np.testing.assert_allclose(found.mean, baselines.targets(series, series.tested), rtol=1e-9)
    certain = baselines.Normal(np.array([[3.0, 3.0]]), np.zeros((1, 2)))
    np.testing.assert_array_equal(certain.crps(np.array([[3.0, 5.0]])), [[0, 2]])
    zero, one = (baselines.Scores(*np.full((3, 4), n)) for n in (0.0, 1.0))
    forecast.print_scores({"network": {"days": one}, "perfect": {"days": zero}})
    assert capsys.readouterr().out.count("+1.000 against perfect") == 2


# --- Networks ---


def test_the_usual_season_by_hand():
    values = np.array([1.0, 5, 3, 2, 7, 3, 3, 6, 6])
    level, usual = series_of(values, period=3, horizon=1).climate
    means = [1, 3, 3, 10 / 3, 4, 4, 13 / 3, 4, 5]
    np.testing.assert_allclose(level, means)
    differences = values - means
    assert usual[:2].tolist() == [0, 0]  # the first season has not ended
    expected = [differences[2], differences[3], differences[4], differences[[2, 5]].mean()]
    np.testing.assert_allclose(usual[2:6], expected)
    np.testing.assert_allclose(usual[8], differences[[2, 5, 8]].mean())


def networks():
    for kind in ("encoder-decoder", "closed-loop"):
        options = forecast.Options(cell="Elman", hidden_size=5, context=9, dropout=0.5, model=kind)
        model = forecast.make_model(options, 4)
        yield model, model.init(jax.random.key(0))


def windows_at(panel: Panel, origins: list[int], context: int):
    """Windows of the first series, with four steps ahead."""
    cut = jax.jit(lambda panel, which, origins: panel.windows(which, origins, context, 4))
    return cut(panel, jnp.zeros(len(origins), int), jnp.asarray(origins))


def points_at(model, params, series: Series, origins: list[int]) -> np.ndarray:
    """Sorted points [origins, horizon, points] in units of the panel."""
    panel = Panel.of([series], model.context)
    which = jnp.zeros(len(origins), int)
    key = jax.random.key(3)
    return np.asarray(forecast.quantiles(model, 1, 6, params, panel, which, jnp.asarray(origins), key))


@pytest.mark.parametrize("number", [0, 1])
def test_no_network_knows_what_comes_after_an_origin(number):
    model, params = list(networks())[number]
    values = waves(100)
    values[[30, 31, 66]] = np.nan
    changed = values.copy()
    changed[70:] = 1000 + np.arange(30)
    assert series_of(values).valid_begin < 70
    before, after = (points_at(model, params, series_of(v), [8, 70, 75]) for v in (values, changed))
    np.testing.assert_array_equal(before[:2], after[:2])
    assert not np.allclose(before[2], after[2])


def test_training_windows_and_scales_end_with_the_training_period():
    series = series_of(waves(100))
    drawn = forecast.Drawn.of(Panel.of([series], 9), [series])
    assert int(drawn.last[0]) + series.horizon == series.valid_begin == 65
    changed = series.values.copy()
    changed[65:] = -7
    other = series_of(changed)
    assert (other.scale, other.center) == (series.scale, series.center)


def test_windows_hold_what_they_say():
    values = waves(60)
    values[[20, 33]] = np.nan
    series = series_of(values, period=3, horizon=4)
    panel = Panel.of([series], 5)
    w = windows_at(panel, [30, 4], 5)

    def back(number, n):
        return (np.asarray(number) * w.scale[n] + w.level[n]) * series.scale + series.center

    np.testing.assert_allclose(back(w.values[:, 0], 0)[w.observed[:, 0]], np.delete(values[25:34], 8), rtol=1e-5)
    np.testing.assert_allclose(back(w.last[:5, 0], 0), values[24:29], rtol=1e-5)
    first = [*values[22:27], values[27], values[28], values[29], values[27]]
    np.testing.assert_allclose(back(w.expected[:, 0, 0], 0), first, rtol=1e-5)
    np.testing.assert_allclose(back(w.expected[5:, 0, 1], 0), values[[24, 25, 26, 24]], rtol=1e-5)
    level, usual = series.climate
    found = [level[26] + usual[24], level[29] + usual[27], level[29] + usual[28]]
    np.testing.assert_allclose(back(w.expected[[2, 5, 6], 0, 3], 0), found, rtol=1e-5)
    assert back(0, 0) == pytest.approx(values[29], rel=1e-5)
    assert float(w.scale[0]) * series.scale == pytest.approx(np.abs(values[25:30] - values[22:27]).mean(), rel=1e-4)
    np.testing.assert_array_equal(w.observed[:, 1], [False] + 8 * [True])  # step -1 is before the series
    assert w.begun[:, 1, 0].tolist() == 4 * [False] + 5 * [True]
    assert w.begun[:, 1, 1].tolist() == [*7 * [False], True, False]
    np.testing.assert_array_equal(w.counts[:, 0], 8 * [True] + [False])


def test_the_closed_loop_reads_what_it_forecasts():
    """With one point, the path is certain; and if it comes true, each step is the forecast from the step before."""
    options = forecast.Options(cell="Elman", hidden_size=5, context=9, model="closed-loop")
    model = replace(forecast.make_model(options, 4), points=1)
    params = model.init(jax.random.key(0))
    series = series_of(waves(100))
    panel = Panel.of([series], 9)
    w = windows_at(panel, [50, 60], 9)
    path = jax.jit(partial(model.forecast, paths=3))(params, w, jax.random.key(0))
    np.testing.assert_array_equal(path, np.repeat(path[..., :1], 3, -1))
    true = jnp.concatenate([w.values[:9], path[..., 0]])
    came = w._replace(values=true, last=jnp.concatenate([w.last[:1], true[:-1]]))
    xs = model.inputs(came)
    _, ys = jax.jit(partial(jaxrnn.unroll, model.layer))(params, xs)
    np.testing.assert_allclose((xs[..., 0] + ys[..., 0])[9:], path[..., 0], rtol=1e-4, atol=1e-5)


# --- Data ---


def test_the_series_of_statsmodels():
    every = {series.name: series for series in statsmodels_series()}
    assert len(every) == 19
    co2 = every["CO2 in ppm"]
    assert np.isnan(co2.values).sum() == 59
    assert (co2.values[0], str(co2.times[-1]), co2.period) == (316.1, "2001-12-29T00:00:00", 52)
    assert every["flow, 10⁸ m³"].values[:2].tolist() == [1120, 1160]
    for name, last in (("sunspots", "2008-01"), ("US realgdp", "2009-07"), ("German interest", "1998-10")):
        assert str(every[name].times[-1]).startswith(last)
    for series in every.values():
        assert series.scale > 0
        np.testing.assert_array_equal(series.times_until(len(series.times)), series.times)
        origins = np.concatenate([series.validated, series.tested])
        assert 0 < len(series.tested) <= 50
        assert origins[0] >= series.valid_begin
        assert series.validated[-1] + series.horizon == series.test_begin
        assert series.tested[-1] + series.horizon == len(series.values)


def test_wide_and_long_files_are_the_same_series(here):
    rows = list(csv.DictReader(Path("days.csv").read_text().splitlines()))
    lines = ["Time,Series,Value"] + [f"{row['time']},{name},{row[name] or 'NA'}" for row in rows for name in "ab"]
    Path("days long.csv").write_text("\ufeff" + "\r\n".join(lines))
    wide, long = read_series(Path("days.csv")), read_series(Path("days long.csv"))
    assert [series.name for series in wide] == ["a", "b"]
    for series, other in zip(wide, long, strict=True):
        np.testing.assert_array_equal(series.values, other.values)
        np.testing.assert_array_equal(series.times, other.times)
        assert (series.period, series.horizon) == (7, 14)
    assert np.flatnonzero(np.isnan(wide[0].values)).tolist() == [5, 6, 20]
    np.testing.assert_array_equal(wide[1].values, waves(100, 1))


@pytest.mark.parametrize(
    ("times", "step", "period", "after"),
    [
        ([str(1900 + n) for n in range(40)], Step(12, 0), 1, "1940-01-01T00:00:00"),
        ([f"{2000 + n // 4}-Q{1 + n % 4}" for n in range(60)], Step(3, 0), 4, "2015-01-01T00:00:00"),
        ([f"{2000 + n // 12}-{1 + n % 12:02}" for n in range(100)], Step(1, 0), 12, "2008-05-01T00:00:00"),
        (
            [str(m.astype("M8[D]") - 1) for m in np.arange("2000-02", "2009-02", dtype="M8[M]")],
            Step(1, 0),
            12,
            "2009-01-31T00:00:00",
        ),
        ([f"2024-01-{1 + n // 24:02} {n % 24:02}:00" for n in range(200)], Step(0, 3600), 24, "2024-01-09T08:00:00"),
        (
            [f"2024-01-{1 + n // 24:02}T{n % 24:02}:00+01:00" for n in range(200)],
            Step(0, 3600),
            24,
            "2024-01-09T07:00:00",
        ),
        (
            [f"{2000 + n // 12}-{1 + n % 12:02}-01T00:00+01:00" for n in range(100)],
            Step(1, 0),
            12,
            "2008-04-30T23:00:00",
        ),
    ],
    ids=["years", "quarters", "months", "ends of months", "hours", "a time zone", "months in a time zone"],
)
def test_times_and_their_steps(here, times, step, period, after):
    Path("times.csv").write_text("t,x\n" + "".join(f"{t},{v}\n" for t, v in zip(times, waves(len(times)), strict=True)))
    (series,) = read_series(Path("times.csv"), horizon=5)
    assert (series.step, series.period) == (step, period)
    found = series.times_until(len(times) + 1)
    np.testing.assert_array_equal(found[:-1], series.times)
    assert str(found[-1]) == after


def test_the_calendar():
    times = np.array(["2024-01-01T06:00", "2024-07-06T18:00"], "datetime64[s]")  # a Monday and a Saturday
    hour, weekday, year = np.split(calendar(times, Step(0, 3600)), 3, axis=1)
    np.testing.assert_allclose(hour, [[0, 1], [0, -1]], atol=1e-12)
    angle = 2 * np.pi * np.array([0, 5]) / 7
    np.testing.assert_allclose(weekday, np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-12)
    np.testing.assert_allclose(year[0], [1, 0], atol=0.01)
    np.testing.assert_allclose(year[1], [-1, 0], atol=0.1)
    zeros = {Step(0, 24 * 3600): 2, Step(0, 7 * 24 * 3600): 4, Step(1, 0): 4, Step(12, 0): 6}
    for step, number in zeros.items():
        found = calendar(times, step)
        assert not found[:, :number].any()
        assert found[:, number:].any(0).all()


def test_empty_cells_at_the_ends_are_left_out(here):
    write_wide("ends.csv", 100, missing=(0, 1, 50, 99))
    first, second = read_series(Path("ends.csv"), horizon=4)
    assert (len(first.values), len(second.values)) == (97, 100)
    assert str(first.times[0]) == "2024-01-03T00:00:00"


def lines_of(number: int = 90) -> list[str]:
    return ["time,a", *(f"{np.datetime64('2024-01-01') + n},{n % 7 + n % 5}" for n in range(number))]


BAD = {
    "empty": ([], "must have a header and a line for each time, but it has 0 lines"),
    "header": (["time,a"], "must have a header and a line for each time, but it has 1 lines"),
    "one row": (lines_of()[:2], "'a' has one line, but a series has many"),
    "names": ([s.replace("time,a", "2024-01-01,3") for s in lines_of()], "line 1: the first line must have the names"),
    "semicolons": ([s.replace(",", ";") for s in lines_of()], "line 1: the header must be time,series,value, or"),
    "two": ([s.replace(",a", ",a,a") for s in lines_of()], "line 1: each series must have its own name, but 'a'"),
    "cells": ([*lines_of(), "2024-12-01,3,4"], "line 92: must have 2 cells, like the header, not 3"),
    "word": ([*lines_of(), "2024-12-01,many"], "line 92: 'many' is not a number"),
    "infinite": ([*lines_of(), "2024-12-01,inf"], "line 92: 'inf' is not a number below 1e+30"),
    "seconds": ([*lines_of(), "2024-12-01T00:00:00.5,3"], "line 92: the time must be a whole number of seconds"),
    "first year": ([*lines_of(), "0001-01-01T00:00+01:00,3"], "line 92: the time must be a year, 2024-06"),
    "day": ([*lines_of(), "1.12.2024,3"], "line 92: the time must be a year, 2024-06"),
    "twice": ([*lines_of(), lines_of()[-1]], "line 92: 2024-03-30T00:00:00 is there twice, in 'a'"),
    "back": ([*lines_of(), "2024-01-01,3"], "line 92: 2024-01-01T00:00:00 comes after 2024-03-30T00:00:00, but times"),
    "gap": ([*lines_of(), "2024-04-02,3"], "but the step between times is one day: write a line with an empty cell"),
    "short": (
        lines_of(40),
        "'a' has 40 values, but forecasts of 14 steps need 91: give a smaller --horizon or --period",
    ),
    "missing": ([re.sub(r",\d+$", ",", s) for s in lines_of()], "all values of 'a' are missing"),
    "constant": ([re.sub(r",\d+$", ",1", s) for s in lines_of(99)], "'a' does not change from season to season in"),
    "no series": (["time,series,value", "2024-01-01,,3"], "line 2: must have the name of a series in the second cell"),
    "mixed": (
        [
            "time,series,value",
            *(f"{s},{n}" for n in "ab" for s in ()),
            *(s.replace(",", ",a,") for s in lines_of(99)[1:]),
        ]
        + [f"{1900 + n},b,{n % 3}" for n in range(50)],
        "all series must have the same time between two values, but they have 'a' day, 'b' year",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_reported_in_one_line(here, monkeypatch, capsys, name):
    lines, complaint = BAD[name]
    Path("bad.csv").write_text("\n".join(lines))
    assert call(monkeypatch, "--data", "bad.csv") == 2
    line = error_line(capsys)
    assert "bad.csv" in line
    assert complaint in line
    assert not Path("runs").exists()


def test_gaps_in_a_whole_period_are_reported(here, monkeypatch, capsys):
    lines = lines_of(100)
    lines[66:81] = [re.sub(r",\d+$", ",", line) for line in lines[66:81]]
    Path("bad.csv").write_text("\n".join(lines))
    assert call(monkeypatch, "--data", "bad.csv", "--horizon", "14") == 2
    assert "the validation period, are missing" in error_line(capsys)
    lines = [line if n % 2 else re.sub(r",\d+$", ",", line) for n, line in enumerate(lines_of(100))]
    Path("bad.csv").write_text("\n".join(lines))
    assert call(monkeypatch, "--data", "bad.csv") == 2
    assert "'a' has too many missing values in its first 64 values" in error_line(capsys)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", "missing.csv"], "missing.csv: No such file"),
        (["--data", "."], "Is a directory"),
        (["--data", "bytes.csv"], "bytes.csv is not UTF-8 text: byte 0 is 0xff"),
        (["--horizon", "3"], "--horizon and --period are for --data"),
        (["--model", "encoder-decoder", "--paths", "9"], "--paths has no effect with --model encoder-decoder"),
        (["--data", "days.csv", "--horizon", "0"], "--horizon must be at least 1"),
        (["--data", "days.csv", "--period", "-1"], "--period must be at least 1"),
        (["--cell", "LSMT"], "no cell named 'LSMT'"),
        (["--model", "transformer"], "transformer"),
        (["--paths", "1"], "--paths must be at least 2"),
        (["--members", "0"], "--members must be at least 1"),
        (["--context", "0"], "--context must be at least 1"),
        (["--dropout", "1"], "--dropout must be from 0 to below 1"),
        (["--learning-rate", "0"], "--learning-rate must be above 0"),
        (["--resume"], "there is no run in runs/forecast"),
    ],
)
def test_bad_input_is_reported_in_one_line(here, monkeypatch, capsys, options, complaint):
    Path("bytes.csv").write_bytes(b"\xff\xfe1\x00")
    assert call(monkeypatch, *options) == 2
    assert complaint in error_line(capsys)
    assert not Path("runs").exists()
