"""The suite `devices`: the model against numbers computed by hand, and small measurements."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from benchmark import devices, suites
from benchmark.clusters import H100, Hardware, Link, fit_link
from benchmark.devices import APART, FOUR, ONE, TWO, Measured
from support.collectives import collectives
from support.errors import BadInputError

HARDWARE = Hardware(1e12, 4, Link(1e11, 1e-6), Link(1e10, 1e-5), 1e9, failure=1e6)


# --- The model ---


def test_compute():
    """6 FLOP for each of 1e6 parameters and 1000 tokens, at 1e12 FLOP/s."""
    assert HARDWARE.compute(1e6, 1000, 1) == pytest.approx(6e-3)
    assert HARDWARE.compute(1e6, 1000, 2) == pytest.approx(3e-3)
    crowded = dataclasses.replace(HARDWARE, cores=2, beside=1.5)
    assert [crowded.compute(1e6, 1000, n) for n in (1, 2, 4)] == pytest.approx([6e-3, 4.5e-3, 4.5e-3])


def test_all_reduce():
    """Within a node, and over two nodes, whose ring has two hops between them on each way round."""
    assert HARDWARE.all_reduce(1e8, 1) == 0
    assert HARDWARE.all_reduce(1e8, 4) == pytest.approx(1.5e-3 + 6e-6)
    assert HARDWARE.all_reduce(1e8, 8) == pytest.approx(17.5e-3 + 12e-6 + 20e-6)
    assert HARDWARE.update(1e6, 1000, 4) == pytest.approx(1.5e-3 + 0.75 * 2 * 4e6 / 1e11 + 6e-6)


@pytest.mark.parametrize("number", [2, 3, 5])
def test_all_reduce_is_that_of_a_ring(number):
    """The messages of a ring, sent one step after another, sum the arrays of all devices in the time of the model."""
    parts = np.random.default_rng(0).normal(size=(number, number, 10))  # [device, part, numbers]
    total, seconds = parts.sum(0), 0.0
    link = Link(1e6, 1e-3)
    for step in range(2 * (number - 1)):
        sent = [(n - step) % number for n in range(number)]  # the part that each device sends
        messages = [parts[n, sent[n]].copy() for n in range(number)]
        for n in range(number):
            after = (n + 1) % number
            adds = step < number - 1
            parts[after, sent[n]] = messages[n] + adds * parts[after, sent[n]]
        seconds += link.latency + messages[0].nbytes / link.bandwidth
    np.testing.assert_allclose(parts, np.broadcast_to(total, parts.shape), rtol=1e-12)
    hardware = dataclasses.replace(HARDWARE, per_node=number, node=link)
    assert hardware.all_reduce(number * 10 * 8, number) == pytest.approx(seconds)


def test_checkpoints_lose_the_least_time():
    """The interval is the minimum of the time that is lost to writing, and to work of half an interval per failure."""
    writing, failure = 0.012, 1e6 / 4  # 12 bytes for each of 1e6 parameters, four devices
    assert HARDWARE.writing(1e6) == pytest.approx(writing)
    intervals = np.geomspace(1, 1e4, 100_001)
    lost = writing / intervals + intervals / 2 / failure
    assert HARDWARE.interval(1e6, 4) == pytest.approx(intervals[lost.argmin()], rel=1e-3)
    assert HARDWARE.lost(1e6, 4) == pytest.approx(lost.min(), rel=1e-6)
    assert HARDWARE.useful(1e6, 1000, 4) == pytest.approx(1.5 / 1.566 / (1 + lost.min()))


@pytest.mark.parametrize("tokens", [100, 1000, 3000])
def test_most_devices(tokens):
    computing = [HARDWARE.useful(1e6, n * tokens, n) >= 0.5 for n in range(1, 10_000)]
    assert HARDWARE.most_devices(1e6, tokens) == computing.index(False)


def test_devices_without_limit():
    free = Hardware(1e12, 4, Link(math.inf, 0.0), Link(math.inf, 0.0), math.inf)
    assert free.most_devices(1e6, 1000) == 10**7
    assert free.fastest(1e6, 24, 10) == 24


def test_the_fastest_number_of_devices():
    """C / n + 2 (n - 1) / n * b / B + 2 (n - 1) * L is lowest at sqrt((C - 2 b / B) / (2 L))."""
    bandwidth, latency, wanted = 1e9, 1e-3, 10
    compute = 2 * latency * wanted**2 + 2 * 4e6 / bandwidth
    link = Link(bandwidth, latency)
    hardware = Hardware(6 * 1e6 * 100 / compute, 1, link, link, 1e9)
    assert hardware.fastest(1e6, 100, 1) == wanted
    assert hardware.fastest(1e6, 100, 4) == 20  # of the divisors of 100, the nearest to 20.3


def test_a_link_is_found_from_two_all_reduces():
    link = fit_link(3, small=(4, 4 * 5e-5 + 4 / 3 * 4 / 2e9), large=(10**6, 4 * 5e-5 + 4 / 3 * 1e6 / 2e9))
    assert link == pytest.approx((2e9, 5e-5))
    assert fit_link(2, small=(4, 2e-6), large=(10**6, 1e-6)) == (math.inf, 1e-6)


def test_computed_tables():
    """Two of the lines, computed by hand from the data sheets."""
    steps, ends = devices.cluster_tables(H100, "H100")
    assert len(steps.lines) == 9
    group, name, texts = steps.lines[3]
    assert (group, name, texts[:2]) == ("100 M parameters", "8 devices", ["24.82", "1.60"])
    share = 6e9 * 64 * 128 / 198e12  # seconds
    ring = 2 * 9999 / 10_000 * 4e9 / 50e9 + 2 * (1250 * 7 * 3.4e-6 + 1249 * 14e-6)
    failures = 16_384 * 54 * 24 * 3600 / 419 / 10_000
    lost = math.sqrt(2 * 6 / failures)
    texts = [f"{1e3 * share:.2f}", f"{1e3 * ring:.2f}", f"{math.sqrt(12 * failures):.0f} s", f"{lost:.1%}"]
    assert steps.lines[8] == (
        "1 B parameters",
        "10,000 devices",
        [*texts, f"{share / (share + ring) / (1 + lost):.1%}"],
    )
    assert [name for _, name, _ in ends.lines] == ["1 M parameters", "100 M parameters", "1 B parameters"]


# --- This machine ---


def measured(layout, update, small, large):
    number = 0 if layout == ONE else 1_000_004
    facts = {"devices": layout.all_devices, "parameters": 250_000, "collectives": [["all-reduce", number]]}
    return Measured(layout, facts, update, small, large)


MEASURED = [
    measured(ONE, [29.0, 33.0, 30.0], [0.0], [0.0]),
    measured(TWO, [24.0, 20.0, 19.0], [0.2, 0.4, 0.1], [1.3, 1.2, 1.1]),
    measured(FOUR, [21.0], [0.8], [3.0]),
    measured(APART, [27.0], [1.0, 1.5, 0.5], [11.0]),
]


def test_constants_of_this_machine():
    """1000 tokens: 1.5 GFLOP in 30 ms alone, and in 20 ms, of which 1.2 are not computing, on two devices."""
    here = devices.fit(MEASURED, 1000, 1e8, cores=2)
    assert here.flops == pytest.approx(1.5e9 / 30e-3)
    assert here.beside == pytest.approx(18.8 / 15)
    assert here.node == pytest.approx((1e6 / 1e-3, 0.1e-3), rel=1e-4)
    assert here.network == pytest.approx((1e6 / 10e-3, 0.5e-3), rel=1e-3)
    one, two, four, apart = (devices.predict(here, each, 1000) for each in MEASURED)
    assert one == pytest.approx({"update": 30.0, "all-reduce": 0.0})
    assert two == pytest.approx({"update": 20.0, "all-reduce": 1.2})
    assert four == pytest.approx({"update": 18.8 + 1.5 + 0.6, "all-reduce": 2.1}, rel=1e-4)
    assert apart == pytest.approx({"update": 18.8 + 11.0, "all-reduce": 11.0})
    table = devices.measured_table("title", MEASURED, here, 1000)
    assert [texts for _, _, texts in table.lines] == [
        ["30.00", "30.00 (fitted)", "", "", ""],
        ["20.00", "20.00 (fitted)", "1.20", "1.20 (fitted)", "1 of 1,000,004 bytes"],
        ["21.00", "20.90 (-0%)", "3.00", "2.10 (-30%)", "1 of 1,000,004 bytes"],
        ["27.00", "29.80 (+10%)", "11.00", "11.00 (fitted)", "1 of 1,000,004 bytes"],
    ]
    assert [line[:2] for line in table.lines[2:]] == [("1 process", "4 devices"), ("2 processes", "1 device each")]


def test_collectives_are_read_from_a_program():
    program = """
      %all-reduce.1 = (f32[3,4]{1,0}, f32[]) all-reduce(%a, /*index=1*/%b), replica_groups={{0,1}}
      %gather = bf16[8,2]{1,0} all-gather-start(%c), dimensions={0}
      %done = bf16[8,2]{1,0} all-gather-done(%gather)
      %sum = pred[5]{0} add(%d, %e)
    """
    assert collectives(program) == [("all-reduce", 52), ("all-gather", 32)]


def test_batches_must_be_divisible_by_the_devices():
    with pytest.raises(BadInputError, match="--suite devices needs batches that are multiples of 4, not 6"):
        suites.Options(suite=("devices",), sizes=("6x5x8",)).check()


def test_a_process_that_ends_is_an_error(tmp_path):
    with (tmp_path / "log").open("w") as log:
        group = devices.Group(ONE, {"process": "none"}, log)
        try:
            for ask in (group.answers, lambda: group.milliseconds("update")):
                with pytest.raises(
                    BadInputError, match=r"a process of --suite devices has ended: its error is in .*log"
                ):
                    ask()
        finally:
            group.end()
    assert "Error" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_the_suite_measures_devices_and_processes(tmp_path, capsys):
    suites.main(suites.Options(tmp_path / "run", suite=("devices",), quick=True, rounds=1))
    made = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    (found,) = made["found"]
    assert [layout["facts"]["devices"] for layout in found["layouts"]] == [1, 2, 4, 2]
    for layout in found["layouts"]:
        size = 4 * layout["facts"]["parameters"] + 4  # the loss, too
        assert layout["facts"]["collectives"] == [["all-reduce", size]]
        for samples in (layout["update"], layout["small"], layout["large"]):
            assert len(samples) == 1
            assert samples[0] > 0
    assert "devices, LSTM, B = 4, T = 5, H = 8, measured here" in capsys.readouterr().out
    assert "| 2 processes | 1 device each |" in (tmp_path / "run" / "table.md").read_text()
    assert (tmp_path / "run" / "devices_LSTM_4x5x8.png").stat().st_size > 10_000
