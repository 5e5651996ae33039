"""The load test: its clients see what the server does, and a slot that is lost is found."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
import serve_load
from data import text
from support.errors import BadInputError

from tests.support.scripts import call_script, error_line
from tests.support.served import SLOTS, TEXT, make_engine, make_run, run_async, serving

pytestmark = pytest.mark.usefixtures("quick")
DATA = text.Text.from_string("prose", TEXT)


def make_requests(**options):
    return serve_load.make_requests(serve_load.Options(**options), DATA)


def call(monkeypatch, *options: str) -> int:
    return call_script(monkeypatch, "serve_load.py", options, serve_load.main, serve_load.Options)


def test_clients_measure_what_arrives():
    requests = make_requests(requests=10, length=12)

    async def test():
        async with serving(make_engine(waiting=9)) as (url, _):
            return [await serve_load.measure(url, requests, clients) for clients in (5, 1)]

    together, alone = run_async(test())
    for measured in (together, alone):
        assert [len(reading.text) for reading in measured.readings] == [request["length"] for request in requests]
        assert measured.characters == sum(request["length"] for request in requests)
        assert measured.rate == measured.characters / measured.seconds
        assert len(measured.each) == measured.characters - 10
        assert 0 < min(measured.first) <= max(measured.first) <= measured.seconds
        assert min(measured.each) > 0
    assert [reading.text for reading in together.readings] == [reading.text for reading in alone.readings]
    spent = sum(alone.first) + sum(alone.each)  # one by one, it is nearly all of the time
    assert 0.5 * alone.seconds < spent <= alone.seconds


def test_clients_report_a_text_that_is_refused_or_ends_early():
    async def test():
        async with serving(make_engine(seconds=0.2)) as (_, session):
            with pytest.raises(BadInputError, match=r"the server answered with status 400: \{\"error\": \"length must"):
                await serve_load.read(session, {"length": 0})
            with pytest.raises(BadInputError, match=r"a text ended after \d+ characters, without its last event"):
                await serve_load.read(session, {"length": 10_000})

    run_async(test())


def test_clients_that_disconnect_leave_no_slot_taken():
    requests = make_requests(requests=10)

    async def test():
        engine = make_engine(waiting=2, per_client=100)
        async with serving(engine) as (url, session):
            results = await serve_load.disconnect_all(url, requests, 60, 3 * SLOTS, seed=0, seconds=0.05)
            assert await serve_load.slots_taken(url) == 0
            assert sum(results.values()) == 60
            assert {"before an answer", "in a text"} <= set(results) <= {"before an answer", "in a text", "refused"}
            async with session.post("generate", json={"length": 10_000}) as response:
                await response.content.readline()
                assert await serve_load.slots_taken(url, seconds=0.1) == 1

    run_async(test())


def test_clients_that_disconnect_may_find_the_connection_closed():
    async def test():
        async with serving(make_engine(), patience=0.05) as (url, _):  # closes before the clients have gone
            results = await serve_load.disconnect_all(url, make_requests(requests=10), 20, 20, seed=0, seconds=0.5)
            assert sum(results.values()) == 20
            assert await serve_load.slots_taken(url) == 0

    run_async(test())


def test_requests_are_those_of_the_seed():
    requests = make_requests(requests=200, length=10)
    assert requests == make_requests(requests=200, length=10) != make_requests(requests=200, length=10, seed=1)
    assert {request["length"] for request in requests} == set(range(5, 16))
    assert all(0.3 <= request["temperature"] <= 1 for request in requests)
    assert {request["prompt"] for request in requests} <= {*TEXT.splitlines(), "y small dogs"}
    given = make_requests(requests=3, prompt=("the", "a "))
    assert [request["prompt"] for request in given] == ["the", "a ", "the"]


def numbers(line: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"(?<![\w.])[\d,]*\.?\d+", line)]


@pytest.mark.slow
def test_what_is_printed_adds_up(tmp_path, monkeypatch, capsys):
    """A thousand clients disconnect."""
    monkeypatch.chdir(tmp_path)
    make_run("runs/char_lm/1")
    options = ("--clients", "8", "--requests", "24", "--length", "40", "--show", "2")
    assert call(monkeypatch, *options, "--prompt", "the", "a ") == 0  # of the newest run
    out = capsys.readouterr().out
    row = dict(re.findall(r"^  (\S.*?)  +(\S.*)$", out, re.MULTILINE))
    assert row["model"].endswith("of runs/char_lm/1")
    assert re.fullmatch(r"24; \d+ texts are the same in both tests", row["requests"])
    shown = re.findall(r"^temperature (\d\.\d\d), (\d+) characters:\n((?:    \| .*\n)+\n?)", out, re.MULTILINE)
    for (_, length, written), prompt in zip(shown, ("the", "a "), strict=True):
        written = written[:-1].replace("\n    | ", "\n").removeprefix("    | ")
        assert written.startswith(prompt)
        assert len(written) == len(prompt) + int(length)
    rates = []
    for name in ("8 clients", "one by one"):
        characters, seconds, rate = numbers(row[name])
        assert 24 * 20 <= characters <= 24 * 60
        assert rate == pytest.approx(characters / seconds, rel=0.02 + 0.01 / seconds)
        rates.append(rate)
        for what in ("first character", "each further one"):
            p50, p90, p99 = numbers(re.sub(r"p\d\d ", "", row[f"{name}, {what}"]))
            assert 0 < p50 <= p90 <= p99 <= 1000 * seconds + 10
    assert numbers(row["speed-up"])[0] == pytest.approx(rates[0] / rates[1], rel=0.02, abs=0.06)
    counts = dict(
        reversed(found) for found in re.findall(r"(\d+) (before an answer|in a text|refused)", row["disconnected"])
    )
    assert sum(map(int, counts.values())) == 1000
    assert row["disconnected"].startswith("1000 in ")
    assert row["disconnected"].endswith("; no slot lost")
    assert Path("runs/char_lm/1/serve.png").read_bytes().startswith(b"\x89PNG")


def test_the_curves_are_drawn(tmp_path):
    reading = serve_load.Reading("abc", 0.01, [0.001, 0.002])
    measured = {name: serve_load.Measured([reading], 0.02) for name in ("8 clients", "one by one")}
    serve_load.plot(tmp_path / "serve.png", measured)
    assert (tmp_path / "serve.png").read_bytes().startswith(b"\x89PNG")
    assert serve_load.latencies([0.001, 0.002, 0.003]) == "p50 2.00, p90 2.80, p99 2.98 ms"


@pytest.mark.parametrize("lost", [0, 3])
def test_a_lost_slot_ends_the_test(monkeypatch, lost, tmp_path):
    async def nothing(*_):
        return serve_load.Measured([], 1.0)

    class Server:
        async def __aenter__(self):
            return "http://127.0.0.1:1/"

        async def __aexit__(self, *_):
            pass

    async def disconnected(*_):
        return {"in a text": 5}

    async def taken(*_):
        return lost

    monkeypatch.setattr(serve_load, "measure", nothing)
    monkeypatch.setattr(serve_load, "server", lambda *_: Server())
    monkeypatch.setattr(serve_load, "disconnect_all", disconnected)
    monkeypatch.setattr(serve_load, "slots_taken", taken)
    test = serve_load.load_test(tmp_path, [], serve_load.Options(clients=2, disconnects=5))
    if lost:
        with pytest.raises(BadInputError, match="3 slots are lost after clients disconnected"):
            asyncio.run(test)
    else:
        measured, line = asyncio.run(test)
        assert list(measured) == ["2 clients", "one by one"]
        assert re.fullmatch(r"5 in \d+\.\d s \(5 in a text\); no slot lost", line)


@pytest.mark.slow
def test_a_server_that_does_not_start_is_reported(tmp_path):
    async def test():
        async with serve_load.server(tmp_path / "nowhere", 1):
            raise AssertionError

    with pytest.raises(BadInputError, match=r"serve\.py has ended"):
        run_async(test())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--run-dir", "nowhere"], "nowhere holds no run"),
        (["--prompt", ""], "--prompt must not be empty"),
        (["--clients", "0"], "--clients must be at least 1"),
        (["--requests", "0"], "--requests must be at least 1"),
        (["--length", "1"], "--length must be at least 2"),
        (["--disconnects", "-1"], "--disconnects must be at least 0"),
        (["--show", "-1"], "--show must be at least 0"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--minutes", "nan"], "--minutes must be above 0"),
    ],
)
def test_bad_input_is_reported_in_one_line(tmp_path, monkeypatch, capsys, options, complaint):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
