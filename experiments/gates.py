"""What the units of a character LSTM keep track of: strings, comments, brackets, indentation.

The model is that of char_lm.py, on Python source: it is trained here, or taken from a run of char_lm.py by --resume
--run-dir. It learns from characters only; the labels are those of Python's own tokenizer. The score of a unit for a
label says how well a threshold on tanh(c), or on a gate, predicts whether the next character is inside. Units are
chosen on training text and scored on held-out text, beside those of the network before training. gates.html shows the
text, colored by the best unit of each label.

A. Karpathy, J. Johnson, L. Fei-Fei, "Visualizing and understanding recurrent networks", 2015.
"""

from __future__ import annotations

if __name__ == "__main__":
    from support.early import check_command_line

    check_command_line(__file__)  # before the imports below, which take seconds

import html
import itertools
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import char_lm
import jax
import jax.numpy as jnp
import numpy as np
from data.source_labels import labels_of
from data.text import Text, decode
from jax import Array
from scipy.stats import rankdata
from support.clock import process_start
from support.command_line import launch
from support.ensemble import Ensemble, best_member
from support.errors import BadInputError
from support.options import OptionGroup, RunFolder, at_least
from support.progress import print_table

import jaxrnn

SIGNALS = ("tanh(c)", "input gate", "forget gate", "output gate")
LONGEST = 30_000  # characters of the training text, and of the held-out text, on which units are chosen and scored
STYLE = "body{max-width:60em;margin:2em auto;font-family:sans-serif}pre{line-height:1.5}.t{border-bottom:1px solid}"
SCORES = "2 AUC - 1 of a threshold; for the indentation, which is a number, Spearman's correlation."


@dataclass(frozen=True)
class Page(OptionGroup):
    excerpt: int = 1500  # Number of characters to show for each label

    def check(self) -> None:
        at_least(1, excerpt=self.excerpt)


@partial(jax.jit, static_argnames="cell")
def signals_of(cell: jaxrnn.LSTM, params: Any, symbols: Array) -> Array:
    """Returns the cell states and gates after each character, [time, signals, units]."""

    states, _ = jaxrnn.states_over_time(cell, params, symbols)
    first = cell.initial_state(params)
    before = jax.tree.map(lambda s0, s: jnp.concatenate([s0[None], s[:-1]]), first, states)
    gates = cell.gates(params, before, cell.project(params, symbols))
    return jnp.stack([jnp.tanh(states.c), gates.i, gates.f, gates.o], axis=1)


def strengths(signals: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Returns how well each signal [time, n] predicts a label, from -1 to 1; the sign is that of the correlation.

    For binary labels it is 2 AUC - 1, for numbers Spearman's correlation.
    """
    ranks = rankdata(signals, axis=0)
    if label.max() > 1:
        label_ranks = rankdata(label)
        covariance = (ranks - ranks.mean(0)).T @ (label_ranks - label_ranks.mean()) / len(label)
        return covariance / np.maximum(ranks.std(0) * label_ranks.std(), 1e-9)
    positive = label.sum()
    auc = (ranks[label == 1].mean(0) - (positive + 1) / 2) / (len(label) - positive)
    return 2 * auc - 1


class Finding(NamedTuple):
    """The signal that predicts a label best, chosen on training text."""

    label: str
    name: str  # of the signal
    score: float  # on held-out text
    untrained: float  # the score of the best signal before training
    values: np.ndarray  # [time], on held-out text, from -1 to 1, high where the label is
    truth: np.ndarray


def excerpt_of(text: Text, labels: dict[str, np.ndarray]) -> tuple[slice, int]:
    """Returns the examined part of the text, with as many training characters as held-out ones, and their number."""
    size = min(LONGEST, text.num_train, min(map(len, labels.values())) - text.num_train)
    return slice(text.num_train - size, text.num_train + size), size


def find(cell: jaxrnn.LSTM, trained: Any, untrained: Any, text: Text, labels: dict[str, np.ndarray]) -> list[Finding]:
    """Finds the best signal for each label, in the trained network and in the untrained one."""
    part, size = excerpt_of(text, labels)

    def best_signal(signals: np.ndarray, truth: np.ndarray) -> tuple[int, float, np.ndarray, float]:
        """Returns the signal's number, its sign, its values on held-out text, and its score there."""
        strength = strengths(signals[:size:3], truth[:size:3])
        best = int(np.abs(strength).argmax())
        sign = float(np.sign(strength[best]))
        values = signals[size:, best] * sign
        return best, sign, values, float(strengths(values[:, None], truth[size:])[0])

    after, before = (
        np.asarray(signals_of(cell, params, text.symbols[part])).reshape(2 * size, -1)
        for params in (trained, untrained)
    )
    findings = []
    for label, whole in labels.items():
        truth = whole[part]
        best, sign, values, score = best_signal(after, truth)
        kind, unit = divmod(best, cell.hidden_size)
        if kind > 0:  # gates are from 0 to 1
            values = 2 * values - sign
        name = f"{SIGNALS[kind]} of unit {unit}"
        findings.append(Finding(label, name, score, best_signal(before, truth)[-1], values, truth[size:]))
    return findings


def make_page(findings: list[Finding], characters: str, length: int, title: str) -> str:
    """Returns an HTML page of held-out text, red where the signal is high and blue where it is low."""
    shades = [(f"rgba(193,68,14,{s / 8:.2f})" if s > 0 else f"rgba(31,95,168,{-s / 8:.2f})") for s in range(-5, 6)]
    styles = "".join(f".s{n}{{background:{shade}}}" for n, shade in enumerate(shades))
    parts = []
    for finding in findings:
        # The excerpt is where the label changes most often.
        changes = np.concatenate([[0], np.cumsum(np.abs(np.diff(finding.truth)) > 0)])
        start = int(np.argmax(changes[length:] - changes[:-length])) if len(changes) > length else 0
        start = characters.rfind("\n", 0, start) + 1
        shade = np.rint(5 * finding.values[start : start + length]).astype(int) + 5
        inside = finding.truth[start : start + length] > 0
        spans = ""
        place = start
        for (n, underlined), run in itertools.groupby(zip(shade, inside, strict=True)):
            number = len(list(run))
            piece = html.escape(characters[place : place + number])
            spans += f'<span class="s{n}{" t" if underlined else ""}">{piece}</span>'
            place += number
        heading = f"{finding.label}: {finding.name}, {finding.score:.3f}; before training {finding.untrained:.3f}"
        parts.append(f"<h2>{html.escape(heading)}</h2>\n<pre>{spans}</pre>")
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}{styles}</style>'
    legend = "Red: the signal is high; blue: low; underlined: inside, by the tokenizer. Scores: " + SCORES
    return f"<!doctype html><html>{head}<h1>{html.escape(title)}</h1><p>{legend}</p>{''.join(parts)}</html>\n"


def tracked_labels(text: Text) -> dict[str, np.ndarray]:
    """Returns the labels of the text that take several values, in the training part and in the held-out part."""
    labels = labels_of(decode(np.asarray(text.symbols), text.alphabet))
    readable = len(labels["string"])
    if readable < (text.num_train + len(text.symbols)) / 2:
        raise BadInputError(f"{text.name} is not Python source: the tokenizer stops after {readable:,} characters")
    part, size = excerpt_of(text, labels)
    values = {name: set(label[part][:size]) & set(label[part][size:]) for name, label in labels.items()}
    tracked = {name: label for name, label in labels.items() if len(values[name]) > 1}
    if not tracked:
        raise BadInputError(f"{text.name} has no {', '.join(values)}: there is nothing to track")
    return tracked


def main(options: char_lm.Options, folder: RunFolder, sampling: char_lm.Sampling, page: Page) -> None:
    if options.cell != "LSTM":
        raise BadInputError(f"--cell must be LSTM, because its gates are examined, but it is {options.cell}")
    if sampling.sample is not None:
        return char_lm.print_sample(options, folder, sampling, sampling.sample)
    text = Text.of(options.data)
    labels = tracked_labels(text)
    run = char_lm.train_model(options, folder, sampling)
    untrained = char_lm.begin_all(options, char_lm.make_model(options, len(text.alphabet)), len(text.alphabet))
    trained = char_lm.best_params(options, run, jax.eval_shape(lambda: untrained))
    before = Ensemble(len(options.members)).member(untrained.params, best_member(run.best))
    findings = find(jaxrnn.LSTM(options.hidden_size), trained[0], before[0], text, labels)
    held_out = decode(text.symbols[text.num_train :], text.alphabet)
    title = f"What an LSTM of {options.hidden_size} units knows about {text.name}"
    path = run.path / "gates.html"
    path.write_text(make_page(findings, held_out, page.excerpt, title), encoding="utf-8")
    print(f"units   {SCORES}")
    print_table(
        **{f.label: f"{f.score:.3f} by the {f.name}; before training the best was {f.untrained:.3f}" for f in findings},
        page=str(path),
    )


if __name__ == "__main__":
    launch(main, char_lm.Options, RunFolder, char_lm.Sampling, Page, started=process_start())
