"""Many texts generated side by side by one character model, as on a server: requests arrive at random times.

The model is that of a run of char_lm.py; if there is none yet, one is trained first, for two minutes. Each request has
its own prompt, length and temperature. It waits for a free slot of a `jaxrnn.Stream`, gets one character per step
there, and then frees the slot. For comparison, the same requests run one after the other in a single slot: the texts
are the same, only the waiting times differ.
"""

from __future__ import annotations

if __name__ == "__main__":
    from support.early import check_command_line

    check_command_line(__file__)  # before the imports below, which take seconds

import os
import shlex
import subprocess
import sys
import textwrap
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import char_lm
import jax
import numpy as np
from data.text import Text, decode, encode, line_end
from support.command_line import launch
from support.errors import BadInputError
from support.options import OptionGroup, Several, above, at_least, numbered_folders
from support.plots import BLUE, RED, figure
from support.progress import print_table
from support.run import Run, saved_options

import jaxrnn


@dataclass(frozen=True)
class Options(OptionGroup):
    run_dir: Path | None = None  # A run of char_lm.py. None: the newest in runs/char_lm
    slots: int = 16  # Number of texts generated side by side
    requests: int = 64  # Number of requests
    rate: float = 100.0  # Mean number of requests that arrive per second
    length: int = 200  # Mean number of characters generated for a request
    prompt: Several[str] = ()  # Prompts, used in turn. Default: beginnings of lines of the validation text
    show: int = 3  # Number of texts to print
    minutes: float = 2.0  # How long char_lm.py trains if it has no run yet
    seed: int = 0  # Random seed

    def check(self) -> None:
        at_least(1, slots=self.slots, requests=self.requests)
        at_least(2, length=self.length)
        at_least(0, show=self.show, seed=self.seed)
        above(0, rate=self.rate, minutes=self.minutes)
        if "" in self.prompt:
            raise BadInputError("--prompt must not be empty: the first character is sampled given the prompt")


# --- Requests, and how they are served ---


class Request(NamedTuple):
    arrival: float  # seconds since the start
    prompt: np.ndarray  # symbols, at least one
    length: int
    temperature: float
    seed: tuple[int, int]


class Writing:
    """A request in progress: the characters generated so far, and how long it waited."""

    def __init__(self, request: Request):
        self.request = request
        self.symbols: list[int] = []
        self.waited = 0.0  # seconds from the arrival to the first character
        self._rng = np.random.default_rng(request.seed)  # not shared, so that other requests do not change the text

    @property
    def done(self) -> bool:
        return len(self.symbols) == self.request.length

    def sample(self, logits: np.ndarray) -> None:
        """Adds the next character, by the Gumbel-max trick."""
        noise = self._rng.gumbel(size=len(logits))
        self.symbols.append(int(np.argmax(logits / max(self.request.temperature, 1e-6) + noise)))


class Served(NamedTuple):
    writings: list[Writing]  # in the order of arrival
    steps: list[float]  # seconds of each step
    seconds: float  # from the first arrival to the last character

    @property
    def waited(self) -> list[float]:
        return [writing.waited for writing in self.writings]

    @property
    def rate(self) -> float:
        """Characters per second."""
        return sum(len(writing.symbols) for writing in self.writings) / self.seconds


def serve(model: jaxrnn.Stack, params: Any, requests: list[Request], slots: int) -> Served:
    """Generates the texts of all requests. Each begins after its arrival, as soon as a slot is free."""
    stream = jaxrnn.Stream(model, params, slots)
    writings = [Writing(request) for request in requests]
    waiting = deque(writings)
    active: dict[int, Writing] = {}
    steps: list[float] = []
    start = time.perf_counter()

    def now() -> float:
        return time.perf_counter() - start

    while waiting or active:
        if not active:
            time.sleep(max(0.0, waiting[0].request.arrival - now()))
        while waiting and stream.free and waiting[0].request.arrival <= now():
            writing = waiting.popleft()
            slot, logits = stream.insert(writing.request.prompt)
            active[slot] = writing
            writing.sample(logits)
            writing.waited = now() - writing.request.arrival
        for slot in [slot for slot, writing in active.items() if writing.done]:
            stream.remove(slot)
            del active[slot]
        if active:
            before = now()
            logits = stream.step({slot: writing.symbols[-1] for slot, writing in active.items()})
            steps.append(now() - before)
            for slot, writing in active.items():
                writing.sample(logits[slot])
    return Served(writings, steps, now() - requests[0].arrival)


def warm_up(model: jaxrnn.Stack, params: Any, requests: list[Request], slots: int) -> None:
    """Compiles all programs that serving needs, so that no request waits for a compilation."""
    stream = jaxrnn.Stream(model, params, slots)
    longest = max(len(request.prompt) for request in requests)
    for power in range((longest - 1).bit_length() + 1):
        slot, _ = stream.insert(np.zeros(2**power, np.int32))
        stream.step({slot: 0})
        stream.remove(slot)


def make_requests(options: Options, text: Text) -> list[Request]:
    rng = np.random.default_rng(options.seed)
    lines = decode(text.symbols[text.num_train :], text.alphabet).splitlines()
    prompts = options.prompt or tuple(line[:32] for line in lines if line.strip()) or (line_end(text.alphabet),)
    symbols = [encode(prompt, text.alphabet) for prompt in prompts]
    arrivals = np.cumsum(rng.exponential(1 / options.rate, options.requests))
    requests = []
    for n, arrival in enumerate(arrivals.tolist()):
        prompt = symbols[n % len(symbols) if options.prompt else rng.integers(len(symbols))]
        length = int(rng.integers(max(2, options.length // 2), options.length * 3 // 2 + 1))
        requests.append(Request(arrival, prompt, length, rng.uniform(0.3, 1.0), (options.seed, n)))
    return requests


# --- The model: a run of char_lm.py ---


def find_run(options: Options) -> Path:
    """Returns the run of char_lm.py that has the model. If there is none, calls char_lm.py first."""
    if options.run_dir is not None:
        return options.run_dir
    folder = Path("runs", "char_lm")
    if not numbered_folders(folder):
        script = os.path.relpath(Path(__file__).with_name("char_lm.py"))
        command = [sys.executable, script, "--minutes", str(options.minutes), "--seed", str(options.seed)]
        print(f"there is no run of char_lm.py yet; now running: {shlex.join(command)}", flush=True)
        if code := subprocess.run(command).returncode:
            sys.exit(code)  # char_lm.py has printed why
    return numbered_folders(folder)[-1]


def load(run_dir: Path) -> tuple[jaxrnn.Stack, Any, Text]:
    """Returns the best model of a run of char_lm.py, and its text."""
    options = saved_options(char_lm.Options, run_dir)
    text = Text.of(options.data)
    run = Run.open(run_dir, facts={"data": text.digest})
    model = char_lm.make_model(options, len(text.alphabet))
    like = jax.eval_shape(lambda: char_lm.begin_all(options, model, len(text.alphabet)))
    return model, char_lm.best_params(options, run, like), text


# --- Results ---


def plot(path: Path, served: dict[str, Served]) -> None:
    """Draws the distributions of the time per step and of the time to the first character."""
    with figure(path, columns=2, figsize=(9, 4), sharey=True) as (drawn, grid):
        left, right = grid[0]
        for (name, each), color in zip(served.items(), (BLUE, RED), strict=True):
            left.ecdf(1000 * np.asarray(each.steps), color=color, label=name)
            right.ecdf(1000 * np.asarray(each.waited), color=color, label=name)
        left.set(xscale="log", xlabel="milliseconds per step", ylabel="share of steps within")
        right.set(xscale="log", xlabel="milliseconds to the first character", ylabel="share of requests within")
        drawn.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2)


def latencies(seconds: list[float]) -> str:
    percentiles = (50, 90, 99)
    values = 1000 * np.percentile(seconds, percentiles)
    return ", ".join(f"p{p} {value:,.2f}" for p, value in zip(percentiles, values, strict=True)) + " ms"


def main(options: Options) -> None:
    run_dir = find_run(options)
    model, params, text = load(run_dir)
    requests = make_requests(options, text)
    served = {}
    for name, slots in {f"{options.slots} slots": options.slots, "one by one": 1}.items():
        warm_up(model, params, requests, slots)
        served[name] = serve(model, params, requests, slots)
    together, alone = served.values()
    for writing in together.writings[: options.show]:
        request = writing.request
        print(f"temperature {request.temperature:.2f}, {request.length} characters:")
        written = decode(np.concatenate([request.prompt, writing.symbols]), text.alphabet)
        print(textwrap.indent(written, "    | ", lambda line: True))
    same = sum(one.symbols == other.symbols for one, other in zip(together.writings, alone.writings, strict=True))
    rows = {
        "model": f"{model}, of {run_dir}",
        "requests": f"{len(requests)} in {requests[-1].arrival:.2f} s; {same} texts are the same both ways",
    }
    for name, each in served.items():
        number = sum(len(writing.symbols) for writing in each.writings)
        rows[name] = f"{number:,} characters in {each.seconds:.2f} s, {each.rate:,.0f} per second"
        rows[f"{name}, one step"] = latencies(each.steps)
        rows[f"{name}, first character"] = latencies(each.waited)
    picture = run_dir / "stream.png"
    plot(picture, served)
    rows["speed-up"] = f"{together.rate / alone.rate:.1f} times as many characters per second as one by one"
    rows["curves"] = str(picture)
    print_table(**rows)


if __name__ == "__main__":
    launch(main, Options)
