"""Many texts written side by side by one character model, as a server would: requests come when they come.

The model is that of a run of char_lm.py; if there is none yet, one is trained first, for two minutes. Each request
has a prompt, a length and a temperature of its own. It waits for a free slot of a `jaxrnn.Stream`, is written there a
character at a step, and makes room for the next. Beside it the same requests one after the other, in a single slot:
the texts are the same, the waiting is not.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import char_lm
import common
import jax
import matplotlib.pyplot as plt
import numpy as np
from common import BadInputError
from serving import Request, Served, serve, warm_up
from text import Text, decode, encode, line_end

import jaxrnn

COLOURS = ("#1f5fa8", "#c1440e")


@dataclass(frozen=True)
class Config:
    run_dir: Path | None = None  # A run of char_lm.py; None: the newest in runs/char_lm
    slots: int = 16  # Texts written side by side
    requests: int = 64  # How many there are
    rate: float = 100.0  # Requests that come in a second, on average, at random times
    length: int = 200  # Characters written for a request, on average
    prompt: tuple[str, ...] = ()  # What texts begin with, in turn; none: beginnings of lines the model has not seen
    show: int = 3  # Texts printed
    minutes: float = 2.0  # How long char_lm.py trains if it has no run yet
    seed: int = 0  # Of everything random

    continues = False  # as a training run would

    def check(self) -> None:
        common.at_least(1, slots=self.slots, requests=self.requests)
        common.at_least(2, length=self.length)
        common.at_least(0, show=self.show, seed=self.seed)
        common.above(0, rate=self.rate, minutes=self.minutes)
        if "" in self.prompt:
            raise BadInputError("--prompt must not be empty: the first character is drawn from what goes before it")


def make_requests(config: Config, text: Text) -> list[Request]:
    rng = np.random.default_rng(config.seed)
    lines = decode(text.symbols[text.num_train :], text.alphabet).splitlines()
    prompts = config.prompt or tuple(line[:32] for line in lines if line.strip()) or (line_end(text.alphabet),)
    symbols = [encode(prompt, text.alphabet) for prompt in prompts]
    arrivals = np.cumsum(rng.exponential(1 / config.rate, config.requests))
    requests = []
    for n, arrival in enumerate(arrivals.tolist()):
        prompt = symbols[n % len(symbols) if config.prompt else rng.integers(len(symbols))]
        length = int(rng.integers(max(2, config.length // 2), config.length * 3 // 2 + 1))
        requests.append(Request(arrival, prompt, length, rng.uniform(0.3, 1.0), (config.seed, n)))
    return requests


def run_of_char_lm(config: Config) -> Path:
    """The run whose model writes; if there is none to take, it is made."""
    if config.run_dir is not None:
        return config.run_dir
    if not (runs := common.numbered(Path("runs", "char_lm"))):
        script = os.path.relpath(cast("str", char_lm.__file__))
        command = [sys.executable, script, "--minutes", str(config.minutes), "--seed", str(config.seed)]
        print(f"there is no run of char_lm.py yet; now running: {shlex.join(command)}", flush=True)
        if code := subprocess.run(command).returncode:
            sys.exit(code)  # it has said why
        runs = common.numbered(Path("runs", "char_lm"))
    return runs[-1]


def load(run_dir: Path) -> tuple[jaxrnn.Stack, Any, Text]:
    """The best model of a run of char_lm.py, and its text."""
    config = common.saved_config(char_lm.Config, run_dir)
    text = Text.of(config.data)
    run = common.Run(replace(config, resume=True), facts={"data": text.digest})
    model = char_lm.make_model(config, len(text.alphabet))
    like = jax.eval_shape(lambda: char_lm.begin(config, model, len(text.alphabet)))
    return model, config.best(run, like), text


def plot(path: Path, served: dict[str, Served]) -> None:
    """How many steps, and how many requests' first characters, took no longer than so much."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for (name, each), colour in zip(served.items(), COLOURS, strict=True):
        for axis, seconds in zip(axes, (each.steps, each.waited), strict=True):
            axis.ecdf(1000 * np.asarray(seconds), color=colour, label=name)
    for axis, what, whose in zip(axes, ("a step", "a request's first character"), ("steps", "requests"), strict=True):
        axis.set(xscale="log", xlabel=f"milliseconds for {what}", ylabel=f"share of {whose} within")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def latencies(seconds: list[float]) -> str:
    percentiles = (50, 90, 99)
    values = 1000 * np.percentile(seconds, percentiles)
    return ", ".join(f"p{p} {value:,.2f}" for p, value in zip(percentiles, values, strict=True)) + " ms"


def main(config: Config) -> None:
    run_dir = run_of_char_lm(config)
    model, params, text = load(run_dir)
    requests = make_requests(config, text)
    served = {}
    for name, slots in {f"{config.slots} slots": config.slots, "one by one": 1}.items():
        warm_up(model, params, requests, slots)
        served[name] = serve(model, params, requests, slots)
    together, alone = served.values()
    for writing in together.writings[: config.show]:
        request = writing.request
        print(f"temperature {request.temperature:.2f}, {request.length} characters:")
        written = decode(np.concatenate([request.prompt, writing.symbols]), text.alphabet)
        print(textwrap.indent(written, "    | ", lambda line: True))
    same = sum(one.symbols == other.symbols for one, other in zip(together.writings, alone.writings, strict=True))
    rows = {
        "model": f"{model}, of {run_dir}",
        "requests": f"{len(requests)} in {requests[-1].arrival:.2f} s; {same} written the same in both ways",
    }
    for name, each in served.items():
        number = sum(len(writing.symbols) for writing in each.writings)
        rows[name] = f"{number:,} characters in {each.seconds:.2f} s, {each.rate:,.0f} a second"
        rows[f"{name}, one step"] = latencies(each.steps)
        rows[f"{name}, first character"] = latencies(each.waited)
    plot(run_dir / "stream.png", served)
    rows["slots pay"] = f"{together.rate / alone.rate:.1f} times as many characters a second"
    rows["curves"] = str(run_dir / "stream.png")
    common.print_table(**rows)


if __name__ == "__main__":
    common.run(main, cast("Any", Config))
