"""Text generation for many requests at once: no text depends on the others, and the numbers add up."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import char_lm
import jax
import numpy as np
import pytest
import serve
from data import text
from support.options import RunFolder
from support.run import Run

import jaxrnn
from tests.support.scripts import EXPERIMENTS, call_script, error_line

pytestmark = pytest.mark.usefixtures("quick")
TEXT = "the cat sat on a mat\nand saw many small dogs\n" * 50


def make_run(run_dir: str | Path) -> Path:
    """A run of char_lm.py that has learned nothing."""
    path = Path("prose.txt")
    path.write_text(TEXT)
    config = char_lm.Options(data=path.absolute(), hidden_size=12, batch=2, dropout=0.0)
    data = text.Text.of(path)
    run = Run(RunFolder(Path(run_dir)), config, facts={"data": data.digest}, notes={"alphabet": data.alphabet})
    model = char_lm.make_model(config, len(data.alphabet))
    train = char_lm.begin_all(config, model, len(data.alphabet))
    run.record(1, 0.0, train, 3.0, valid_loss=3.0)
    return run.path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory with prose.txt and a run in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("stream"))
        make_run("runs/char_lm/1")
        yield Path.cwd()


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "serve.py", options, serve.main, serve.Options)


unroll = jax.jit(jaxrnn.unroll, static_argnums=0)


def expected(model, params, request: serve.Request, symbols: list[int]) -> list[int]:
    """Returns the characters that one `unroll` over the whole text samples with the request's own random numbers."""
    read = np.concatenate([request.prompt, symbols[:-1]]).astype(np.int32)
    _, logits = unroll(model, params, np.pad(read, (0, 48 - len(read))))  # what comes later changes nothing
    rng = np.random.default_rng(request.seed)
    logits = np.asarray(logits)[len(request.prompt) - 1 : len(read)] / request.temperature
    return [int(np.argmax(row + rng.gumbel(size=len(row)))) for row in logits]


def test_each_text_is_as_if_it_were_alone(here):
    model, params, data = serve.load(Path("runs/char_lm/1"))
    config = serve.Options(slots=3, requests=9, rate=1e6, length=8)
    requests = serve.make_requests(config, data)
    served = serve.serve(model, params, requests, 3)
    assert [writing.request for writing in served.writings] == requests
    for writing in served.writings:
        assert len(writing.symbols) == writing.request.length
        assert writing.symbols == expected(model, params, writing.request, writing.symbols)
    for n in (0, 4, 8):
        (alone,) = serve.serve(model, params, [requests[n]._replace(arrival=0.0)], 1).writings
        assert alone.symbols == served.writings[n].symbols
    assert len({tuple(writing.symbols) for writing in served.writings}) == 9


def test_requests_queue_for_slots(here):
    model, params, data = serve.load(Path("runs/char_lm/1"))
    requests = serve.make_requests(serve.Options(requests=8, rate=1e6, length=6), data)
    one, three = (serve.serve(model, params, requests, slots) for slots in (1, 3))
    lengths = [request.length for request in requests]
    assert len(one.steps) == sum(lengths) - 8  # the first character of each comes from its prompt
    assert max(lengths) - 1 <= -(-(sum(lengths) - 8) // 3) <= len(three.steps) < len(one.steps)
    assert one.waited == sorted(one.waited)  # first come, first served
    for served in (one, three):
        assert 0 < min(served.waited) <= max(served.waited) <= served.seconds
        assert sum(served.steps) <= served.seconds


def test_no_request_is_served_before_its_arrival(here):
    model, params, data = serve.load(Path("runs/char_lm/1"))
    requests = serve.make_requests(serve.Options(requests=2, length=2, prompt=("the",)), data)
    requests = [request._replace(arrival=arrival) for request, arrival in zip(requests, (0.0, 0.3), strict=True)]
    serve.warm_up(model, params, requests, 3)
    served = serve.serve(model, params, requests, 3)
    assert served.seconds >= 0.3
    assert min(served.waited) > 0


def test_warming_up_compiles_all_that_serving_needs(here):
    model, params, data = serve.load(Path("runs/char_lm/1"))
    requests = serve.make_requests(serve.Options(requests=5, rate=1e6, length=3, prompt=("a mat", "on")), data)
    events: list[str] = []

    def listen(event: str, *_, **__) -> None:
        events.append(event)

    def compilations(function, slots: int) -> int:
        events.clear()
        function(model, params, requests, slots)
        return sum("backend_compile" in event for event in events)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        assert compilations(serve.warm_up, 5) > 0  # no other test has five slots
        assert compilations(serve.serve, 5) == 0
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_requests_are_those_of_the_seed(here):
    data = text.Text.of(Path("prose.txt"))
    config = serve.Options(requests=200, rate=50, length=10)
    requests = serve.make_requests(config, data)
    again = serve.make_requests(config, data)
    assert all(str(one) == str(other) for one, other in zip(requests, again, strict=True))
    assert str(serve.make_requests(serve.Options(requests=200, seed=1), data)[0]) != str(requests[0])
    gaps = np.diff([0.0, *(request.arrival for request in requests)])
    assert (gaps > 0).all()
    assert 1 / gaps.mean() == pytest.approx(50, rel=0.25)  # of 200 draws one in a thousand is further off
    assert {request.length for request in requests} == set(range(5, 16))
    assert {text.decode(request.prompt, data.alphabet) for request in requests} <= {*TEXT.splitlines()} | {
        "y small dogs"
    }
    given = serve.make_requests(serve.Options(requests=3, prompt=("the", "a ")), data)
    assert [text.decode(request.prompt, data.alphabet) for request in given] == ["the", "a ", "the"]


def numbers(line: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"(?<![\w.])[\d,]*\.?\d+", line)]


def test_what_is_printed_adds_up(here, monkeypatch, capsys):
    options = ("--slots", "3", "--requests", "10", "--rate", "1000", "--length", "8", "--show", "2")
    assert call(monkeypatch, *options, "--prompt", "the", "a ") == 0  # of the newest run
    out = capsys.readouterr().out
    row = dict(re.findall(r"^  (\S.*?)  +(\S.*)$", out, re.MULTILINE))
    assert row["model"].endswith("of runs/char_lm/1")
    assert re.fullmatch(r"10 in 0\.0\d s; 10 texts are the same both ways", row["requests"])
    shown = re.findall(r"^temperature (\d\.\d\d), (\d+) characters:\n((?:    \| .*\n)+\n?)", out, re.MULTILINE)
    assert [temperature for temperature, _, _ in shown] != ["0.30"] * 2
    for (_, length, written), prompt in zip(shown, ("the", "a "), strict=True):
        written = written[:-1].replace("\n    | ", "\n").removeprefix("    | ")
        assert written.startswith(prompt)
        assert len(written) == len(prompt) + int(length)
    rates = []
    for name in ("3 slots", "one by one"):
        characters, seconds, rate = numbers(row[name])
        assert 10 * 4 <= characters <= 10 * 12
        assert rate == pytest.approx(characters / seconds, rel=0.02 + 0.01 / seconds)
        rates.append(rate)
        for what in ("one step", "first character"):
            p50, p90, p99 = numbers(row[f"{name}, {what}"].replace("p50 ", "").replace("p90 ", "").replace("p99 ", ""))
            assert 0 < p50 <= p90 <= p99 <= 1000 * seconds + 10
    assert numbers(row["speed-up"])[0] == pytest.approx(rates[0] / rates[1], rel=0.02, abs=0.06)
    assert Path("runs/char_lm/1/stream.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("code", [2, pytest.param(0, marks=pytest.mark.slow)])
def test_without_a_run_one_is_made(tmp_path, monkeypatch, capsys, code):
    monkeypatch.chdir(tmp_path)
    commands = []

    def run(command):
        commands.append(command)
        if not code:
            make_run("runs/char_lm/1")
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(serve.subprocess, "run", run)
    assert call(monkeypatch, "--requests", "2", "--length", "2", "--minutes", "0.5", "--seed", "3") == code
    (command,) = commands
    assert Path(command[1]).resolve() == EXPERIMENTS / "char_lm.py"
    assert command[2:] == ["--minutes", "0.5", "--seed", "3"]
    assert "there is no run of char_lm.py yet; now running: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--run-dir", "nowhere"], "nowhere holds no run"),
        (["--run-dir", "other"], "other holds no run"),
        (["--run-dir", "foreign"], "was made by another version of this script"),
        (["--prompt", "the €"], "that the training text lacks: '€'"),
        (["--prompt", ""], "--prompt must not be empty"),
        (["--slots", "0"], "--slots must be at least 1"),
        (["--requests", "0"], "--requests must be at least 1"),
        (["--rate", "0"], "--rate must be above 0"),
        (["--length", "1"], "--length must be at least 2"),
        (["--show", "-1"], "--show must be at least 0"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--minutes", "nan"], "--minutes must be above 0"),
        (["--slots", "many"], "--slots.*'many'"),
    ],
)
def test_bad_input_is_reported_in_one_line(here, monkeypatch, capsys, options, complaint):
    for name in ("other", "foreign"):
        Path(name).mkdir(exist_ok=True)
    Path("foreign/config.json").write_text('{"config": {"depth": 1}, "facts": {}, "notes": {}}')
    assert call(monkeypatch, *options) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
