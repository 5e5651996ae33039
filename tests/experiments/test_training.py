"""The training loop that experiments share: many steps in one call, models side by side, the clock, option checks."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import options
from support.clock import Clock, duration, process_start
from support.ensemble import Ensemble
from support.errors import BadInputError
from support.schedule import cosine, warmup_cosine
from support.training import many_steps, step_keys


class Train(NamedTuple):
    step: Any
    params: Any


def begin(start) -> Train:
    return Train(jnp.int32(0), {"w": start * jnp.ones(3)})


def update(train: Train, data, key, progress) -> tuple[Train, Any]:
    """Adds noise, the data and the progress. The loss is the first parameter."""
    w = train.params["w"] + jax.random.normal(key, (3,)) + data + progress
    return Train(train.step + 1, {"w": w}), w[0]


def expected(start: float, keys, data: float, steps: int) -> tuple[np.ndarray, float]:
    w, losses = start * np.ones(3), []
    for n in range(steps):
        w = w + np.asarray(jax.random.normal(keys(n), (3,))) + data + n / 10
        losses.append(w[0])
    return w, float(np.mean(losses))


def test_many_steps_are_as_many_single_ones():
    keys = step_keys(7)
    w, loss = expected(1.0, keys, 0.5, 4)
    train, mean = many_steps(update, keys)(begin(1.0), 0.5, 4, (0.0, 0.1))
    np.testing.assert_allclose(train.params["w"], w, rtol=1e-5)
    assert mean == pytest.approx(loss, rel=1e-5)
    assert train.step == 4
    one, _ = many_steps(update, keys)(begin(1.0), 0.5, 1, (0.0, 0.1))
    rest, _ = many_steps(update, keys)(one, 0.5, 3, (0.0, 0.1))
    np.testing.assert_array_equal(rest.params["w"], train.params["w"])


def test_the_loss_is_nan_if_parameters_are_not_finite():
    def last_bad(train: Train, data, key, progress):
        return Train(train.step + 1, {"w": train.params["w"] / 0.0}), jnp.float32(1)

    assert np.isnan(many_steps(last_bad, step_keys(0))(begin(1.0), None, 1, (0.0, 0.1))[1])


@pytest.mark.parametrize("size", [1, 3])
def test_models_side_by_side_are_those_alone(size):
    ensemble = Ensemble(size)
    starts = jnp.arange(1.0, 1.0 + size)

    def keys(step):
        return jax.random.split(jax.random.fold_in(jax.random.key(3), step), size)

    train = ensemble.begin(begin, starts)
    assert train.step.shape == ()
    steps = many_steps(ensemble.update(update), ensemble.keys(keys), size, mean=ensemble.stacked)
    train, losses = steps(train, 0.5, 4, (0.0, 0.1))
    assert losses.shape == (size,)
    for n in range(size):
        w, loss = expected(float(starts[n]), lambda step, n=n: keys(step)[n], 0.5, 4)
        np.testing.assert_allclose(ensemble.member(train.params, n)["w"], w, rtol=1e-5)
        assert losses[n] == pytest.approx(loss, rel=1e-5)


def test_schedules():
    np.testing.assert_allclose([cosine(p) for p in (0, 0.5, 1, 2)], [1, 0.5, 0, 0], atol=1e-6)
    np.testing.assert_allclose([warmup_cosine(s, 0) for s in (0, 49, 99, 500)], [0.01, 0.5, 1, 1], rtol=1e-6)
    assert warmup_cosine(9, 0.5, warmup=20) == pytest.approx(0.25)


def test_a_clock_of_steps_makes_just_these_and_has_a_stage_in_each_part():
    clock, stages = Clock(25, 1.0, time.perf_counter(), stages=10), []
    while clock.progress < 1:
        clock.made(clock.steps_to_make(), 0.01)
        if clock.due:
            stages.append(clock.step)
    assert clock.step == 25
    assert len(stages) == 10
    assert stages[-1] == 25


def test_a_clock_of_minutes_counts_from_the_start_it_is_given():
    clock = Clock(None, 1.0, time.perf_counter() - 30)
    assert clock.progress == pytest.approx(0.5, abs=0.05)
    assert clock.seconds_left == pytest.approx(30, abs=3)
    resumed = Clock(None, 1.0, time.perf_counter(), step=5, seconds=45)
    assert resumed.progress == pytest.approx(0.75, abs=0.05)


def test_the_start_of_the_process_is_before_now_and_after_boot():
    assert 0 < time.perf_counter() - process_start() < 24 * 3600
    assert abs(process_start() - process_start()) < 0.1


def test_durations():
    assert [duration(s) for s in (5.4, 65, 7384, math.inf)] == ["0:05", "1:05", "2:03:04", "?"]


@pytest.mark.parametrize(
    ("check", "complaint"),
    [
        (lambda: options.at_least(1, hidden_size=0), "--hidden-size must be at least 1, but it is 0"),
        (lambda: options.above(0, minutes=math.inf), "--minutes must be above 0 and finite, but it is inf"),
        (lambda: options.rate(dropout=1.0), "--dropout must be from 0 to below 1, but it is 1.0"),
    ],
)
def test_checks(check, complaint):
    with pytest.raises(BadInputError, match=complaint):
        check()
