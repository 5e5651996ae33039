"""Load test of serve.py on this machine: many clients at once, one request after the other, and disconnections.

It starts the server with the model of a run of char_lm.py. Many clients request texts at the same time; then the same
texts are requested one by one from a server with a single slot. Finally, clients disconnect at random moments, some of
them in the middle of a request, and the test fails unless all slots are free afterwards.
"""

from __future__ import annotations

if __name__ == "__main__":
    from support.early import check_command_line

    check_command_line(__file__)  # before the imports below, which take seconds

import asyncio
import contextlib
import json
import re
import socket
import struct
import sys
import textwrap
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import serve
from data.text import Text, decode, line_end
from support.command_line import launch
from support.errors import BadInputError
from support.options import OptionGroup, Several, above, at_least
from support.plots import BLUE, RED, figure
from support.progress import print_table


@dataclass(frozen=True)
class Options(OptionGroup):
    run_dir: Path | None = None  # A run of char_lm.py. None: the newest in runs/char_lm
    clients: int = 64  # Number of simultaneous clients, and of slots
    requests: int = 128  # Number of requests
    length: int = 200  # Mean number of characters generated for a request
    prompt: Several[str] = ()  # Prompts, used in turn. Default: beginnings of lines of the validation text
    disconnects: int = 1000  # Number of clients that disconnect before their text ends
    show: int = 3  # Number of texts to print
    minutes: float = 2.0  # Training time of char_lm.py in minutes, if it has no run yet
    seed: int = 0  # Random seed

    def check(self) -> None:
        at_least(1, clients=self.clients, requests=self.requests)
        at_least(2, length=self.length)
        at_least(0, disconnects=self.disconnects, show=self.show, seed=self.seed)
        above(0, minutes=self.minutes)
        if "" in self.prompt:
            raise BadInputError("--prompt must not be empty")


def make_requests(options: Options, text: Text) -> list[dict[str, Any]]:
    """Returns requests as JSON objects, each with its own prompt, length, temperature and seed."""
    rng = np.random.default_rng(options.seed)
    lines = decode(text.symbols[text.num_train :], text.alphabet).splitlines()
    prompts = options.prompt or tuple(line[:32] for line in lines if line.strip()) or (line_end(text.alphabet),)
    requests = []
    for n in range(options.requests):
        prompt = prompts[n % len(prompts) if options.prompt else rng.integers(len(prompts))]
        length = int(rng.integers(max(2, options.length // 2), options.length * 3 // 2 + 1))
        temperature = round(rng.uniform(0.3, 1.0), 3)
        requests.append({"prompt": prompt, "length": length, "temperature": temperature, "seed": n})
    return requests


# --- A server in a process of its own ---


@contextlib.asynccontextmanager
async def server(run_dir: Path, slots: int) -> AsyncIterator[str]:
    """Starts serve.py with a free port, and yields its address."""
    options = ["--run-dir", str(run_dir), "--port", "0", "--slots", str(slots), "--client-slots", str(2 * slots)]
    options += ["--waiting", str(slots), "--grace", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, serve.__file__, *options, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        lines = []
        while line := (await process.stdout.readline()).decode():
            lines.append(line)
            if found := re.match(r"serving (http\S+)", line):
                yield found[1]
                break
        else:
            raise BadInputError(f"serve.py has ended: {' '.join(lines)}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


# --- Clients that read ---


@dataclass
class Reading:
    """A text as a client has received it."""

    text: str = ""
    first: float = 0.0  # seconds until the first character
    each: list[float] = field(default_factory=list)  # seconds between each further character and the one before


@dataclass
class Measured:
    """The texts and times that clients have measured."""

    readings: list[Reading]  # in the order of the requests
    seconds: float

    @property
    def characters(self) -> int:
        return sum(len(reading.text) for reading in self.readings)

    @property
    def rate(self) -> float:
        """Characters per second, of all clients together."""
        return self.characters / self.seconds

    @property
    def first(self) -> list[float]:
        return [reading.first for reading in self.readings]

    @property
    def each(self) -> list[float]:
        return [seconds for reading in self.readings for seconds in reading.each]


async def read(session: aiohttp.ClientSession, request: dict[str, Any]) -> Reading:
    """Sends a request, and reads its text to the end."""
    reading, begun = Reading(), time.perf_counter()
    last, end = begun, None
    async with session.post("generate", json=request) as response:
        if response.status != 200:
            raise BadInputError(f"the server answered with status {response.status}: {await response.text()}")
        async for line in response.content:
            if not line.startswith(b"data: "):
                continue
            event, now = json.loads(line.removeprefix(b"data: ")), time.perf_counter()
            end = event.get("end")
            if characters := event.get("text", ""):
                # The time since the last characters is divided among those that arrive together.
                if reading.text:
                    reading.each += [(now - last) / len(characters)] * len(characters)
                else:
                    reading.first = now - begun
                reading.text += characters
                last = now
    if end != "length":
        raise BadInputError(f"a text ended after {len(reading.text)} characters, without its last event")
    return reading


async def measure(url: str, requests: list[dict[str, Any]], clients: int) -> Measured:
    """Measures all requests with a number of simultaneous clients. Each sends one request after the other."""
    readings: dict[int, Reading] = {}
    waiting = deque(enumerate(requests))

    async def client(session: aiohttp.ClientSession) -> None:
        while waiting:
            n, request = waiting.popleft()
            readings[n] = await read(session, request)

    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
        begun = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(clients)))
        seconds = time.perf_counter() - begun
    return Measured([readings[n] for n in range(len(requests))], seconds)


# --- Clients that disconnect ---


async def disconnect(host: str, port: int, request: dict[str, Any], seconds: float, rng: np.random.Generator) -> str:
    """Connects, sends a request or a part of it, and disconnects after some seconds. Returns at what point it did."""
    body = json.dumps(request).encode()
    head = "POST /generate HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
    message = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    if rng.random() < 0.2:
        message = message[: rng.integers(len(message))]  # disconnects before the request is complete
    reader, writer = await asyncio.open_connection(host, port)
    received = b""
    try:
        writer.write(message)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while data := await reader.read(4096):
                    received += data
    except ConnectionError:
        pass
    if rng.random() < 0.5:  # with a reset, like a process that is killed, instead of an ordinary end
        linger = struct.pack("ii", 1, 0)
        with contextlib.suppress(OSError):  # the server has closed the connection first
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
    if not received:
        return "before an answer"
    return "in a text" if received.startswith(b"HTTP/1.1 200") else "refused"


async def disconnect_all(
    url: str, requests: list[dict[str, Any]], number: int, at_once: int, seed: int, seconds: float = 0.3
) -> dict[str, int]:
    """Makes clients disconnect after a mean time of some seconds. Counts the results of `disconnect`."""
    rng = np.random.default_rng(seed)
    found = re.match(r"http://(.*):(\d+)/", url)
    assert found
    host, port = found[1].strip("[]"), int(found[2])
    results: dict[str, int] = {}
    numbers = iter(range(number))

    async def client() -> None:
        for n in numbers:
            request = {**requests[n % len(requests)], "length": 5000}
            result = await disconnect(host, port, request, rng.exponential(seconds), rng)
            results[result] = results.get(result, 0) + 1

    await asyncio.gather(*(client() for _ in range(at_once)))
    return results


async def slots_taken(url: str, seconds: float = 5.0) -> int:
    """Waits some seconds for all slots to be free. Returns the number of texts that are still in a slot or waiting."""
    until = time.perf_counter() + seconds
    async with aiohttp.ClientSession(url) as session:
        while True:
            async with session.get("health") as response:
                health = await response.json()
            taken = health["slots_taken"] + health["waiting"]
            if not taken or time.perf_counter() > until:
                return taken
            await asyncio.sleep(0.05)


# --- Results ---


def plot(path: Path, measured: dict[str, Measured]) -> None:
    """Plots the distributions of the time to the first character and of the time between characters."""
    with figure(path, columns=2, figsize=(9, 4), sharey=True) as (drawn, grid):
        left, right = grid[0]
        for (name, each), color in zip(measured.items(), (BLUE, RED), strict=True):
            left.ecdf(1000 * np.asarray(each.first), color=color, label=name)
            right.ecdf(1000 * np.asarray(each.each), color=color, label=name)
        left.set(xscale="log", xlabel="milliseconds to the first character", ylabel="share of requests within")
        right.set(xscale="log", xlabel="milliseconds per character", ylabel="share of characters within")
        drawn.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2)


def latencies(seconds: list[float]) -> str:
    percentiles = (50, 90, 99)
    values = 1000 * np.percentile(seconds, percentiles)
    return ", ".join(f"p{p} {value:,.2f}" for p, value in zip(percentiles, values, strict=True)) + " ms"


async def load_test(run_dir: Path, requests: list[dict[str, Any]], options: Options) -> tuple[dict[str, Measured], str]:
    """Runs the load test. Returns the measurements, and a line about the clients that disconnected."""
    measured, disconnected = {}, "none"
    for name, clients in {f"{options.clients} clients": options.clients, "one by one": 1}.items():
        async with server(run_dir, clients) as url:
            await measure(url, requests[: 2 * clients], clients)  # warms up
            measured[name] = await measure(url, requests, clients)
            if clients == options.clients and options.disconnects:
                begun = time.perf_counter()
                results = await disconnect_all(url, requests, options.disconnects, 3 * clients, options.seed)
                seconds = time.perf_counter() - begun
                if taken := await slots_taken(url):
                    raise BadInputError(f"{taken} slots are lost after clients disconnected")
                await measure(url, requests[:clients], clients)  # checks that every slot works
                shares = ", ".join(f"{count} {result}" for result, count in sorted(results.items()))
                disconnected = f"{options.disconnects} in {seconds:.1f} s ({shares}); no slot lost"
    return measured, disconnected


def main(options: Options) -> None:
    run_dir = serve.find_run(options.run_dir, options.minutes, options.seed)
    model, _, text = serve.load(run_dir)
    requests = make_requests(options, text)
    measured, disconnected = asyncio.run(load_test(run_dir, requests, options))
    together, alone = measured.values()
    for request, reading in list(zip(requests, together.readings, strict=True))[: options.show]:
        print(f"temperature {request['temperature']:.2f}, {request['length']} characters:")
        print(textwrap.indent(request["prompt"] + reading.text, "    | ", lambda line: True))
    same = sum(one.text == other.text for one, other in zip(together.readings, alone.readings, strict=True))
    rows = {
        "model": f"{model}, of {run_dir}",
        "requests": f"{len(requests)}; {same} texts are the same in both tests",
    }
    for name, each in measured.items():
        rows[name] = f"{each.characters:,} characters in {each.seconds:.2f} s, {each.rate:,.0f} per second"
        rows[f"{name}, first character"] = latencies(each.first)
        rows[f"{name}, each further one"] = latencies(each.each)
    picture = run_dir / "serve.png"
    plot(picture, measured)
    rows["speed-up"] = f"{together.rate / alone.rate:.1f} times as many characters per second as one by one"
    rows["disconnected"] = disconnected
    rows["curves"] = str(picture)
    print_table(**rows)


if __name__ == "__main__":
    launch(main, Options)
