"""The server's routes: every wrong request gets one line of JSON, and clients that misbehave cost no slot."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import gzip
import json
import re
import socket

import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving.engine import READ_AHEAD
from serving.requests import BAD_STATE, BadRequestError, digest_of
from serving.web import Site, client_of

from tests.support.served import (
    ALPHABET,
    MODEL,
    PARAMS,
    SLOTS,
    TEXT,
    all_of,
    draw_params,
    make_engine,
    make_rules,
    request,
    run_async,
    running,
    serving,
    until,
)

pytestmark = pytest.mark.usefixtures("quick")
ENDLESS = {"prompt": "the", "length": 10_000}


async def events_of(response):
    """Yields the events of a response."""
    async for line in response.content:
        if line.strip():
            yield json.loads(line.removeprefix(b"data: "))


async def read(session, **wanted):
    """Returns a text, and the event that ends it."""
    async with session.post("generate", json=wanted) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        *pieces, last = [event async for event in events_of(response)]
    return "".join(piece["text"] for piece in pieces), last


async def error_of(response):
    """Returns the message of an error, which is one line of JSON."""
    assert response.content_type == "application/json"
    body = await response.text()
    assert "\n" not in body
    assert "Traceback" not in body
    (message,) = json.loads(body).values()
    return message


async def sent_raw(url, data):
    """Sends bytes, and returns a reader and a writer of the connection."""
    host, port = re.match(r"http://(.*):(\d+)/", url).groups()
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    return reader, writer


def raw(body, *headers):
    """Returns a request as bytes."""
    lines = ["POST /generate HTTP/1.1", "Host: test", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


# --- Texts ---


def test_a_text_arrives_and_is_continued():
    async def test():
        async with serving(make_engine()) as (_, session):
            whole, last = await read(session, prompt="the cat", length=30, seed=7, temperature=0.9)
            first, rest = await read(session, prompt="the cat", length=10, seed=7, temperature=0.9)
            assert last["end"] == rest["end"] == "length"
            assert rest["next"]["prompt"] == first[-1]
            second, _ = await read(session, **rest["next"])
            third, _ = await read(session, **{**rest["next"], "length": 20})
            assert (len(whole), len(first), len(second)) == (30, 10, 10)
            assert first + third == whole
            assert third.startswith(second)
            assert set(whole) <= set(ALPHABET)
        async with running(make_engine()) as engine:  # the text is that of the engine
            symbols = await all_of(engine.submit(request("the cat", 30, seed=7, temperature=0.9)))
            assert "".join(ALPHABET[symbol] for symbol in symbols) == whole

    run_async(test())


def test_without_options_a_line_begins():
    async def test():
        async with serving(make_engine()) as (_, session):
            text, last = await read(session)
            assert len(text) == 200
            wanted = last["next"]
            assert (wanted["length"], wanted["temperature"], wanted["position"]) == (200, 0.8, 200)
            again, _ = await read(session, prompt="\n", seed=wanted["seed"])
            assert again == text
            assert (await read(session))[0] != text  # another seed

    run_async(test())


def test_characters_arrive_while_the_text_is_generated():
    async def test():
        engine = make_engine()
        async with serving(engine) as (_, session), session.post("generate", json=ENDLESS) as response:
            async for event in events_of(response):
                assert event["text"]
                assert engine.taken == 1
                break
            response.close()
            await until(lambda: engine.taken == 0)

    run_async(test())


def test_several_clients_at_once():
    async def test():
        async with serving(make_engine(waiting=20)) as (_, session):
            wanted = [{"prompt": TEXT[n : 2 * n + 1], "length": 20, "seed": n} for n in range(12)]
            together = await asyncio.gather(*(read(session, **each) for each in wanted))
            for each, (text, _) in list(zip(wanted, together, strict=True))[::4]:
                assert (await read(session, **each))[0] == text

    run_async(test())


def test_a_server_that_stops_hands_texts_over():
    async def test():
        engine, wanted = make_engine(), {"prompt": "the", "length": 9000, "seed": 5}
        async with serving(engine) as (_, session), session.post("generate", json=wanted) as response:
            events = events_of(response)
            parts = [(await anext(events))["text"]]
            engine.stop()
            async with session.get("health") as health:
                assert (health.status, (await health.json())["status"]) == (503, "stopping")
            async with session.post("generate", json={}) as refused:
                assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
                assert await error_of(refused) == "the server is stopping"
            engine.stop(hand_over=True)
            *more, last = [event async for event in events]
            parts += [event["text"] for event in more]
        assert last["end"] == "stop"
        assert last["next"]["length"] == 9000 - len("".join(parts))
        async with serving(make_engine()) as (_, session):
            length = len("".join(parts)) + 20
            whole, _ = await read(session, **{**wanted, "length": length})
            rest, _ = await read(session, **{**last["next"], "length": 20})
            assert "".join(parts) + rest == whole

    run_async(test())


# --- Wrong requests ---

WRONG = {  # a body, and the answer
    "no JSON": (b"prompt=the", 400, "the body must be JSON: Expecting value: line 1 column 1"),
    "empty": (b"", 400, "the body must be JSON: Expecting value"),
    "no UTF-8": (b'{"prompt": "\xff"}', 400, "the body must be UTF-8, but byte 12 is 0xff"),
    "UTF-16": ('{"prompt": "the"}'.encode("utf-16"), 400, "the body must be UTF-8, but byte 0 is 0xff"),
    "no object": (b'["the"]', 400, r'the body must be a JSON object, but it is \["the"\]'),
    "NaN": (b'{"temperature": NaN}', 400, "the body must be JSON, which has no NaN"),
    "infinity": (b'{"temperature": -Infinity}', 400, "the body must be JSON, which has no -Infinity"),
    "a number that overflows": (b'{"temperature": 1e999}', 400, "temperature must be a number from 0 to 10, but"),
    "a long number": (b'{"seed": %s}' % (b"9" * 5000), 400, "the body must be JSON, without extreme numbers"),
    "a large number": (b'{"temperature": %s}' % (b"9" * 400), 400, r"temperature must be .*, but it is 9{37}\.\.\."),
    "deep": (b"[" * 20_000, 400, "the body must be JSON, without extreme numbers and nesting"),
    "a field twice": (b'{"seed": 1, "seed": 2}', 400, "the body must not have a field twice"),
    "unknown": ({"path": "/etc/passwd"}, 400, 'unknown field "path"; the fields are prompt, length, temperature, seed'),
    "a long name": ({"a" * 5000: 1}, 400, r'unknown field "a{36}\.\.\.; the fields'),
    "no string": ({"prompt": ["the"]}, 400, r'prompt must be a string, but it is \["the"\]'),
    "an unknown character": ({"prompt": "the 😀"}, 400, "the training text lacks: '😀'$"),
    "half a character": (b'{"prompt": "\\ud83d"}', 400, r"the training text lacks: '\\ud83d'$"),
    "many of them": (
        {"prompt": "".join(map(chr, range(1000, 1100)))},
        400,
        r"the training text lacks: ('.', ){10}\.\.\.",
    ),
    "a long prompt": ({"prompt": "a" * 2001}, 400, "prompt must have at most 2000 characters, but has 2001"),
    "length 0": ({"length": 0}, 400, "length must be an integer from 1 to 10000, but it is 0"),
    "a negative length": ({"length": -1}, 400, "length must be an integer from 1 to 10000, but it is -1"),
    "a huge length": ({"length": 10**9}, 400, "length must be an integer from 1 to 10000, but it is 1000000000"),
    "a length as a float": ({"length": 5.0}, 400, r"length must be an integer .*, but it is 5\.0"),
    "a length as a string": ({"length": "5"}, 400, 'length must be an integer .*, but it is "5"'),
    "no length": ({"length": None}, 400, "length must be an integer .*, but it is null"),
    "a truth": ({"length": True}, 400, "length must be an integer .*, but it is true"),
    "hot": ({"temperature": 10.5}, 400, r"temperature must be a number from 0 to 10, but it is 10\.5"),
    "cold": ({"temperature": -0.1}, 400, r"temperature must be a number from 0 to 10, but it is -0\.1"),
    "a negative seed": ({"seed": -1}, 400, "seed must be an integer from 0 to 4294967295, but it is -1"),
    "a large position": ({"position": 2**40}, 400, "position must be an integer from 0 to 2147483648, but it is"),
    "no state": ({"state": 5, "prompt": "a"}, 400, "state must be a string, but it is 5"),
    "a state without a prompt": ({"state": "STATE"}, 400, "prompt must not be empty if there is a state"),
    "a state that is not base64": ({"state": "é", "prompt": "a"}, 400, BAD_STATE),
    "a state with blanks": ({"state": "QUJD QUJD", "prompt": "a"}, 400, BAD_STATE),
    "a foreign state": ({"state": base64.b64encode(b"x" * 900).decode(), "prompt": "a"}, 400, BAD_STATE),
    "a damaged state": ({"state": "DAMAGED", "prompt": "a"}, 400, BAD_STATE),
    "a path as a state": ({"state": "../../etc/passwd", "prompt": "a"}, 400, BAD_STATE),
    "too large": (b" " * 10**6, 413, r"the request must have at most \d{5} bytes"),
}


def test_wrong_requests_get_one_line():
    """In one server, because starting one takes longer than a request."""

    async def test():
        engine = make_engine()
        async with serving(engine) as (_, session):
            _, last = await read(session, prompt="a", length=1)
            state = last["next"]["state"]
            damaged = state[:-8] + ("AAAA" if state[-8:-4] != "AAAA" else "BBBB") + state[-4:]
            headers = {"Content-Type": "application/json"}
            for name, (wanted, status, message) in WRONG.items():
                if isinstance(wanted, dict):
                    wanted = json.dumps(wanted).replace("STATE", state).replace("DAMAGED", damaged).encode()
                async with session.post("generate", data=wanted, headers=headers) as response:
                    assert response.status == status, name
                    assert re.search(message, await error_of(response)), name
            assert engine.taken == 0
            text, _ = await read(session, prompt="a", length=3)
            assert len(text) == 3

    run_async(test())


def test_wrong_routes_get_one_line():
    async def test():
        async with serving(make_engine()) as (url, session):
            for method, path, status, message in (
                ("GET", "nothing", 404, "there is no such page; try /, /generate, /health or /metrics"),
                ("GET", "../../etc/passwd", 404, "there is no such page"),
                ("GET", "generate", 405, "/generate accepts POST, not GET"),
                ("POST", "health", 405, "/health accepts GET,HEAD, not POST"),
                ("OPTIONS", "generate", 405, "/generate accepts POST, not OPTIONS"),  # so other sites cannot send JSON
            ):
                async with session.request(method, path) as response:
                    assert response.status == status
                    assert message in await error_of(response)
                    assert "Access-Control-Allow-Origin" not in response.headers
                    assert status != 405 or response.headers["Allow"] == re.search("accepts (.*),", message)[1]
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            async with session.post("generate", data=gzip.compress(b"{}"), headers=headers) as response:
                assert response.status == 400  # nothing is decompressed, so nothing grows
                assert await error_of(response) == "the body must be UTF-8, but byte 1 is 0x8b"
            for data in (b"{}", {"prompt": "the"}):  # not JSON, according to their headers
                async with session.post("generate", data=data) as response:
                    assert response.status == 415
                    assert "must have the header Content-Type: application/json" in await error_of(response)
            for data in (
                b"NONSENSE\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
                b"\x16\x03\x01\r\n\r\n",
            ):
                reader, writer = await sent_raw(url, data)
                answer = await reader.read()  # until the server closes the connection
                assert answer.startswith(b"HTTP/1.0 400")
                assert b"Traceback" not in answer
                writer.close()

    run_async(test())


def test_an_error_of_the_server_does_not_leave_it(monkeypatch, capsys):
    async def test():
        engine = make_engine()
        async with serving(engine) as (_, session):
            monkeypatch.setattr(engine, "submit", lambda *_: 1 / 0)
            async with session.post("generate", json={}) as response:
                assert response.status == 500
                assert await error_of(response) == "an error in the server"

    run_async(test())
    assert "ZeroDivisionError" in capsys.readouterr().err  # for whoever runs it


def test_an_engine_that_fails_ends_texts_with_a_line(monkeypatch):
    async def test():
        async with serving(make_engine()) as (_, session), session.post("generate", json=ENDLESS) as response:
            events = events_of(response)
            await anext(events)
            monkeypatch.setattr("serving.engine.sample", lambda *_: 1 / 0)
            *_, last = [event async for event in events]
            assert last == {"error": "the server failed"}

    with pytest.raises(ZeroDivisionError):
        run_async(test())


# --- Too many requests ---


def test_full_slots_are_told_with_retry_after():
    async def test():
        engine = make_engine(waiting=1, per_client=SLOTS + 1)
        async with serving(engine) as (_, session):
            busy = [asyncio.create_task(read(session, **ENDLESS)) for _ in range(SLOTS)]
            await until(lambda: engine.taken == SLOTS)
            waiting = asyncio.create_task(read(session, length=2))
            await until(lambda: engine.waiting == 1)
            async with session.post("generate", json={}) as response:
                assert (response.status, response.headers["Retry-After"]) == (429, "1")
                assert "you have 4 texts in progress" in await error_of(response)
            engine.per_client = None
            async with session.post("generate", json={}) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "1")
                assert "all 3 slots are taken" in await error_of(response)
            busy[0].cancel()  # a client goes
            assert len((await waiting)[0]) == 2
            for task in busy:
                task.cancel()
            await until(lambda: engine.taken == 0)

    run_async(test())


def test_many_connections_share_few_slots():
    async def test():
        engine = make_engine(waiting=2)
        async with serving(engine) as (_, session):

            async def status(n):
                async with session.post("generate", json={"length": 10, "seed": n}) as response:
                    await response.read()
                    return response.status

            statuses = await asyncio.gather(*map(status, range(100)))
            assert set(statuses) == {200, 503}
            assert statuses.count(200) >= SLOTS + 2
            assert len((await read(session, length=5))[0]) == 5

    run_async(test())


def test_addresses_of_clients():
    assert client_of("192.0.2.7") == client_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert client_of("2001:db8:1:2:3:4:5:6") == client_of("2001:db8:1:2::9") != client_of("2001:db8:1:3::9")
    assert client_of("fe80::1%eth0") == client_of("fe80::2%eth0")
    assert client_of("") == client_of(None) == ""


# --- Clients that misbehave ---


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"", b""),
        (b"POST /generate HTTP/1.1\r\nHost: te", b""),
        (raw(b"x" * 50)[:-20], b"HTTP/1.1 408 Request Timeout"),
    ],
)
def test_a_client_that_is_too_slow_loses_its_connection(data, answer):
    async def test():
        async with serving(make_engine(), patience=0.3) as (url, _):
            reader, writer = await sent_raw(url, data)
            async with asyncio.timeout(10):
                found = await reader.read()
            assert found.partition(b"\r\n")[0] == answer
            writer.close()

    run_async(test())


@pytest.mark.parametrize(("per_client", "most"), [(None, 40), (2, 20)])
def test_too_many_connections_are_closed(monkeypatch, per_client, most):
    monkeypatch.setattr("serving.web.CONNECTIONS", 40)

    async def test():
        engine = make_engine(per_client=per_client)
        async with serving(engine) as (url, session):
            opened = [await sent_raw(url, b"") for _ in range(most)]
            reader, writer = await sent_raw(url, b"")
            head, body = (await reader.read()).split(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert f"Content-Length: {len(body)}".encode() in head
            assert json.loads(body) == {"error": "too many connections"}
            writer.close()
            for _, writer in opened[:2]:
                writer.close()
            await asyncio.sleep(0.1)  # until the server has seen it
            assert len((await read(session, length=5))[0]) == 5
            for _, writer in opened:
                writer.close()

    run_async(test())


def test_clients_that_go_at_any_moment_free_their_slots():
    async def test():
        engine = make_engine(waiting=2)
        message = raw(json.dumps(ENDLESS).encode())
        async with serving(engine) as (url, session):
            for n, reset in ((1, False), (60, True), (len(message), False), (len(message), True)):
                _, writer = await sent_raw(url, message[:n])
                if n == len(message):
                    await until(lambda: engine.taken == 1)
                if reset:
                    linger = bytes([1, 0, 0, 0, 0, 0, 0, 0])
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                await until(lambda: engine.taken == 0)
            _, writer = await sent_raw(url, message)
            await until(lambda: engine.taken == 1)
            writer.write_eof()  # a socket that is closed in one direction is closed
            await until(lambda: engine.taken == 0)
            assert len((await read(session, length=5))[0]) == 5

    run_async(test())


def test_a_client_that_goes_while_it_waits_leaves_the_queue():
    async def test():
        engine = make_engine(waiting=1)
        message = raw(json.dumps(ENDLESS).encode())
        async with serving(engine) as (url, _):
            opened = [await sent_raw(url, message) for _ in range(SLOTS)]
            await until(lambda: engine.taken == SLOTS)
            _, writer = await sent_raw(url, message)
            await until(lambda: engine.waiting == 1)
            writer.transport.abort()
            await until(lambda: engine.waiting == 0)
            assert engine.taken == SLOTS
            for _, writer in opened:
                writer.transport.abort()
            await until(lambda: engine.taken == 0)

    run_async(test())


def test_a_client_that_never_reads_is_cut_off(monkeypatch):
    """Its text pauses, so that little piles up, and the connection is closed after the time limit."""
    events = Site._events

    async def large_events(site, text):
        async for event in events(site, text):
            yield event | {"padding": "." * 20_000}

    async def test():
        engine = make_engine(seconds=2.0)
        async with serving(engine, patience=0.3) as (url, session):
            host, port = re.match(r"http://(.*):(\d+)/", url).groups()
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.connect((host, int(port)))
                sock.sendall(raw(json.dumps({"length": 10_000}).encode()))
                await until(lambda: engine.taken == 1)
                (text,) = engine._active
                await until(lambda: text.full)
                assert len(await read(session, length=50)) == 2  # others are not affected
                assert READ_AHEAD <= text.generated < READ_AHEAD + 100
                await until(lambda: engine.taken == 0)
                assert text.end == "time"
                value = engine.metrics._registry.get_sample_value
                await until(lambda: value("jaxrnn_requests_total", {"status": "200"}) == 2)  # the handler has ended
                sock.setblocking(False)
                received = b""
                with contextlib.suppress(ConnectionResetError):
                    while data := await asyncio.get_running_loop().sock_recv(sock, 2**20):
                        received += data
                assert b'"text"' in received
                assert b'"end"' not in received

    monkeypatch.setattr(Site, "_events", large_events)
    run_async(test())


# --- Metrics, health, the page ---


def test_metrics_and_health():
    async def test():
        async with serving(make_engine(per_client=9)) as (_, session):
            await asyncio.gather(read(session, length=3), read(session, length=4))
            async with session.post("generate", json={"length": 0}) as response:
                assert response.status == 400
            async with session.get("metrics") as response:
                assert response.headers["Content-Type"].startswith("text/plain; version=")
                families = {f.name: f for f in text_string_to_metric_families(await response.text())}
            async with session.get("health") as response:
                health = await response.json()
        requests = {s.labels["status"]: s.value for s in families["jaxrnn_requests"].samples if "total" in s.name}
        assert requests == {"200": 2, "400": 1}
        assert families["jaxrnn_characters"].samples[0].value == 7
        assert families["jaxrnn_step_seconds"].type == families["jaxrnn_first_character_seconds"].type == "histogram"
        assert families["jaxrnn_slots"].samples[0].value == SLOTS
        assert families["jaxrnn_slots_taken"].samples[0].value == families["jaxrnn_waiting"].samples[0].value == 0
        limits = {"prompt": 2000, "length": 10_000, "temperature": 10.0, "seconds": 60.0, "texts_per_client": 9}
        counts = {"slots": SLOTS, "slots_taken": 0, "waiting": 0}
        assert health == {"status": "ok", "model": "a model", **counts, "limits": limits}

    run_async(test())


def test_the_page_needs_nothing_else():
    async def test():
        async with serving(make_engine()) as (_, session), session.get("") as response:
            assert (response.status, response.content_type, response.charset) == (200, "text/html", "utf-8")
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            page = await response.text()
        assert not re.findall(r"https?://|@import|\bsrc=", page)
        assert re.findall(r"href=\"(.*?)\"", page) == ["data:,"]
        assert "innerHTML" not in page

    run_async(test())


def test_a_state_is_that_of_a_model():
    """Also of a model that differs only in its parameters."""
    engine = make_engine()
    slot, _ = engine._stream.insert()
    rules = make_rules(engine)
    body = json.dumps(rules.describe(request(state=engine._stream.evict(slot)))).encode()
    assert rules.parse(body).state is not None
    for digest in (digest_of(MODEL, draw_params(1), ALPHABET), digest_of(MODEL, PARAMS, ALPHABET[::-1])):
        with pytest.raises(BadRequestError, match=BAD_STATE):
            dataclasses.replace(rules, digest=digest).parse(body)


def test_a_request_has_room_for_the_longest_prompt_and_a_state():
    engine = make_engine()
    slot, _ = engine._stream.insert()
    wanted = request(state=engine._stream.evict(slot))
    rules = make_rules(engine, longest_prompt=100)
    body = json.dumps(rules.describe(wanted) | {"prompt": "\U0001f600" * 100}).encode()
    assert len(body) <= rules.max_bytes < len(body) + 1100
    parsed = rules.parse(json.dumps(rules.describe(wanted)).encode())
    assert rules.describe(parsed) == rules.describe(wanted)
