"""An HTTP server that continues texts with a character model, for many clients with one batched step.

The model is that of a run of char_lm.py. If there is none yet, one is trained for two minutes first. Each text takes a
slot of a `jaxrnn.Stream` and is sent to its client character by character. Open the printed address in a browser, or
send a request: curl -N -H "Content-Type: application/json" -d '{"prompt": "def "}' http://127.0.0.1:8000/generate

After Ctrl-C, the texts in progress have --grace seconds to finish. Then they end, each with an event that contains the
request that continues it, on this server or on another one with the same model.
"""

from __future__ import annotations

if __name__ == "__main__":
    from support.early import check_command_line

    check_command_line(__file__)  # before the imports below, which take seconds

import asyncio
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import char_lm
import jax
from data.text import Text
from serving.engine import Engine
from serving.requests import Rules, digest_of
from serving.web import Site, listening
from support.command_line import launch
from support.errors import BadInputError
from support.options import OptionGroup, above, at_least, numbered_folders
from support.run import Run, saved_options

import jaxrnn


@dataclass(frozen=True)
class Options(OptionGroup):
    run_dir: Path | None = None  # A run of char_lm.py. None: the newest in runs/char_lm
    host: str = "127.0.0.1"  # Address to listen on. 0.0.0.0: all addresses of this machine
    port: int = 8000  # Port to listen on. 0: a free port
    slots: int = 16  # Largest number of texts that are generated at the same time
    waiting: int = 16  # Largest number of requests that wait for a slot
    client_slots: int = 4  # Largest number of texts that one client (IP address) has in progress
    prompt_limit: int = 2000  # Largest number of characters in a prompt
    length_limit: int = 10_000  # Largest number of characters generated for a request
    time_limit: float = 60.0  # Time limit of a request in seconds, including the wait for a slot
    grace: float = 10.0  # Seconds that texts in progress have to finish after Ctrl-C or SIGTERM
    minutes: float = 2.0  # Training time of char_lm.py in minutes, if it has no run yet
    seed: int = 0  # Random seed of that training

    def check(self) -> None:
        at_least(1, slots=self.slots, client_slots=self.client_slots)
        at_least(1, prompt_limit=self.prompt_limit, length_limit=self.length_limit)
        at_least(0, waiting=self.waiting, grace=self.grace, seed=self.seed)
        above(0, time_limit=self.time_limit, minutes=self.minutes)
        if not 0 <= self.port < 65536:
            raise BadInputError(f"--port must be from 0 to 65535, but it is {self.port}")


# --- The model: a run of char_lm.py ---


def find_run(run_dir: Path | None, minutes: float, seed: int) -> Path:
    """Returns `run_dir`, or the newest run of char_lm.py. If there is none, trains one first."""
    if run_dir is not None:
        return run_dir
    folder = Path("runs", "char_lm")
    if not numbered_folders(folder):
        script = os.path.relpath(Path(__file__).with_name("char_lm.py"))
        command = [sys.executable, script, "--minutes", str(minutes), "--seed", str(seed)]
        print(f"there is no run of char_lm.py yet; now running: {shlex.join(command)}", flush=True)
        if code := subprocess.run(command).returncode:
            sys.exit(code)  # char_lm.py has printed why
    return numbered_folders(folder)[-1]


def load(run_dir: Path) -> tuple[jaxrnn.Stack, Any, Text]:
    """Returns the model of a run of char_lm.py, its best parameters, and its text."""
    options = saved_options(char_lm.Options, run_dir)
    text = Text.of(options.data)
    run = Run.open(run_dir, facts={"data": text.digest})
    model = char_lm.make_model(options, len(text.alphabet))
    like = jax.eval_shape(lambda: char_lm.begin_all(options, model, len(text.alphabet)))
    return model, char_lm.best_params(options, run, like), text


# --- The server ---


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket. Clients that connect before the model is loaded wait."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # allows the port of a server that was killed
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024
        )  # limits what is sent to a client that does not read
        sock.bind(address)
        sock.listen()
    except (OSError, UnicodeError) as error:  # UnicodeError: not a host name
        why = getattr(error, "strerror", None) or error
        raise BadInputError(f"cannot listen on {host}, port {port}: {why}; choose another --port or --host") from None
    return sock


def address_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


async def serve(site: Site, sock: socket.socket, grace: float) -> None:
    """Serves until SIGINT or SIGTERM. A second one ends the texts in progress immediately."""
    engine, loop = site.engine, asyncio.get_running_loop()

    def stop() -> None:
        print(f"stopping: {engine.taken} texts in progress, {engine.waiting} waiting", flush=True)
        if not engine.stopping:
            loop.call_later(grace, engine.stop, True)
        engine.stop(hand_over=engine.stopping)

    with contextlib.suppress(NotImplementedError):  # on Windows, Ctrl-C ends the process
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
    generating = asyncio.create_task(engine.run())
    async with listening(site, sock):
        print(f"serving {address_of(sock)}", flush=True)
        await generating
    print("stopped", flush=True)


def main(options: Options) -> None:
    sock = listen(options.host, options.port)  # before the work, because the port may be taken
    run_dir = find_run(options.run_dir, options.minutes, options.seed)
    model, params, text = load(run_dir)
    engine = Engine(
        model,
        params,
        options.slots,
        waiting=options.waiting,
        per_client=options.client_slots,
        seconds=options.time_limit,
    )
    digest = digest_of(model, params, text.alphabet)
    rules = Rules(text.alphabet, digest, engine.state_bytes, options.prompt_limit, options.length_limit)
    engine.warm_up()
    print(f"model   {model}, of {run_dir}")
    asyncio.run(serve(Site(engine, rules, f"{model}, of {run_dir}"), sock, options.grace))


if __name__ == "__main__":
    launch(main, Options)
