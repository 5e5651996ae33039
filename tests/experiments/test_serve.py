"""The script serve.py: its options, its model, and how it starts and stops."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import serve

from tests.support.scripts import EXPERIMENTS, call_script, error_line
from tests.support.served import TEXT, make_run

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory with prose.txt and a run in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("serve"))
        make_run("runs/char_lm/1")
        yield Path.cwd()


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def call(monkeypatch, *options: str) -> int:
    """Runs the script in this process and returns its exit code."""
    return call_script(monkeypatch, "serve.py", options, serve.main, serve.Options)


@contextlib.contextmanager
def started(*options: str):
    """Starts the script in a process of its own. Yields the process and the address of the server."""
    command = [sys.executable, "-u", str(EXPERIMENTS / "serve.py"), "--slots", "2", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.fullmatch(r"serving (http://127\.0\.0\.1:\d+/)\n", line):
                yield process, found[1]
                break
        else:
            pytest.fail("".join(lines))
    finally:
        process.kill()
        process.communicate()


def post(url, **wanted):
    """Yields the events of a text."""
    body, headers = json.dumps(wanted).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}generate", body, headers), timeout=60) as response:
        for line in response:
            if line.strip():
                yield json.loads(line.removeprefix(b"data: "))


def status_of(url):
    try:
        return urllib.request.urlopen(f"{url}health", timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code


def text_of(events):
    return "".join(event.get("text", "") for event in events)


def test_serving_until_a_signal(here, monkeypatch, capsys):
    """In this process: the server answers, hands the text in progress over, and ends."""
    found = {}
    address_of = serve.address_of

    def spy(sock):
        found["url"] = address_of(sock)
        return found["url"]

    def use_and_stop():
        while "url" not in found:
            time.sleep(0.01)
        with urllib.request.urlopen(found["url"], timeout=60) as page:
            found["page"] = page.read()
        events = post(found["url"], prompt="the", length=10_000)
        found["events"] = [next(events)]
        os.kill(os.getpid(), signal.SIGTERM)
        found["events"] += events

    monkeypatch.setattr(serve, "address_of", spy)
    thread = threading.Thread(target=use_and_stop, daemon=True)
    thread.start()
    assert call(monkeypatch, "--port", "0", "--slots", "2", "--grace", "0.05") == 0
    thread.join(20)
    assert b"<title>" in found["page"]
    assert found["events"][-1]["end"] == "stop"
    assert set(text_of(found["events"])) <= set(TEXT)
    out = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"model   Stack\(.*\), of runs/char_lm/1", out[0])
    assert out[1:] == [f"serving {found['url']}", "stopping: 1 texts in progress, 0 waiting", "stopped"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_text_survives_its_server(here, number):
    with started("--port", "0", "--grace", "0.1") as (process, url):
        events = post(url, prompt="the", length=9000, seed=1)
        parts = [next(events)]
        process.send_signal(number)
        parts += events
        assert process.wait(20) == 0
        assert "Traceback" not in process.stdout.read()
    assert parts[-1]["end"] == "stop"
    with started("--port", "0") as (_, url):
        rest = text_of(post(url, **{**parts[-1]["next"], "length": 50}))
        length = len(text_of(parts))
        whole = text_of(post(url, prompt="the", length=length + 50, seed=1))
    assert text_of(parts) + rest == whole


@pytest.mark.slow
def test_texts_end_within_the_grace_and_a_second_signal_ends_it(here):
    with started("--port", "0") as (process, url):
        events = post(url, prompt="the", length=500)
        next(events)
        process.send_signal(signal.SIGINT)
        *_, last = events
        assert last["end"] == "length"
        assert process.wait(20) == 0
    with started("--port", "0", "--grace", "1000", "--length-limit", "1000000", "--time-limit", "1000") as (
        process,
        url,
    ):
        events = post(url, prompt="the", length=1_000_000)
        next(events)
        process.send_signal(signal.SIGINT)
        while status_of(url) == 200:  # until the signal has arrived
            time.sleep(0.01)
        assert status_of(url) == 503
        process.send_signal(signal.SIGINT)
        *_, last = events
        assert last["end"] == "stop"
        assert process.wait(20) == 0


@pytest.mark.slow
def test_a_server_that_was_killed_leaves_its_port(here):
    with started("--port", "0") as (process, url):
        events = post(url, length=9000)
        next(events)
        process.kill()
        process.wait()
        assert not any("end" in event for event in events)  # so a client sees that the text is not complete
    port = re.search(r":(\d+)/", url)[1]
    with started("--port", port) as (_, url):
        assert url.endswith(f":{port}/")
        assert len(text_of(post(url, length=5))) == 5


def test_a_port_that_is_taken(here, monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert call(monkeypatch, "--port", str(port)) == 2
        problem = f"cannot listen on 127.0.0.1, port {port}: Address already in use"
        assert error_line(capsys) == f"error: {problem}; choose another --port or --host"


def test_addresses():
    with serve.listen("localhost", 0) as sock:
        assert re.fullmatch(r"http://(127\.0\.0\.1|\[::1\]):\d+/", serve.address_of(sock))


def test_the_model_is_the_best_of_the_run(here):
    model, params, data = serve.load(Path("runs/char_lm/1"))
    assert data.alphabet == "".join(sorted(set(TEXT)))
    assert model.layers[0].hidden_size == 12
    assert [np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)] == [True] * 5


@pytest.mark.parametrize("code", [2, 0])
def test_without_a_run_one_is_made(tmp_path, monkeypatch, capsys, code):
    monkeypatch.chdir(tmp_path)
    commands = []

    def run(command):
        commands.append(command)
        Path("runs/char_lm/1").mkdir(parents=True)
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(serve.subprocess, "run", run)
    if code:
        with pytest.raises(SystemExit, match="2"):
            serve.find_run(None, 0.5, 3)
    else:
        assert serve.find_run(None, 0.5, 3) == serve.find_run(None, 1.0, 0) == Path("runs/char_lm/1")
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
        (["--port", "65536"], "--port must be from 0 to 65535, but it is 65536"),
        (["--host", "no.such.host.invalid"], r"cannot listen on no\.such\.host\.invalid, port 0: .*; choose another"),
        (["--host", "a" * 70], r"cannot listen on a{70}, port 0: .*; choose another"),
        (["--host", "192.0.2.1"], r"cannot listen on 192\.0\.2\.1, port 0: .*; choose another"),
        (["--slots", "0"], "--slots must be at least 1"),
        (["--client-slots", "0"], "--client-slots must be at least 1"),
        (["--waiting", "-1"], "--waiting must be at least 0"),
        (["--prompt-limit", "0"], "--prompt-limit must be at least 1"),
        (["--length-limit", "0"], "--length-limit must be at least 1"),
        (["--time-limit", "0"], "--time-limit must be above 0"),
        (["--grace", "-1"], "--grace must be at least 0"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--minutes", "nan"], "--minutes must be above 0"),
        (["--slots", "many"], "--slots.*'many'"),
    ],
)
def test_bad_input_is_reported_in_one_line(here, monkeypatch, capsys, options, complaint):
    for name in ("other", "foreign"):
        Path(name).mkdir(exist_ok=True)
    Path("foreign/config.json").write_text('{"config": {"depth": 1}, "facts": {}, "notes": {}}')
    port = [] if "--port" in options else ["--port", "0"]
    assert call(monkeypatch, *options, *port) == 2
    line = error_line(capsys)
    assert re.search(complaint, line), line
