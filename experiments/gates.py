"""What the units of a character LSTM keep track of: strings, comments, brackets, indentation.

The model is that of char_lm.py, on Python source: it is trained here, or taken from a run that char_lm.py made, by
--resume --run-dir. Nobody tells it what a string is; Python's own tokenizer tells us. For each
label and each unit: how well does a threshold on tanh(c), or on a gate, say whether the next character stands inside?
The units are chosen on text from training and scored on text that was held out, beside those of the network as it
was before training. gates.html shows the text, coloured by the best unit of each label.

A. Karpathy, J. Johnson, L. Fei-Fei, "Visualizing and understanding recurrent networks", 2015.
"""

from __future__ import annotations

import html
import io
import itertools
import tokenize
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import char_lm  # first: its clock starts the run's
import common
import ensemble
import jax
import jax.numpy as jnp
import numpy as np
from common import BadInputError
from jax import Array
from scipy.stats import rankdata
from text import Text, decode

import jaxrnn

SIGNALS = ("tanh(c)", "input gate", "forget gate", "output gate")
LONGEST = 30_000  # characters of training, and of what was held out, on which units are chosen and scored
STYLE = "body{max-width:60em;margin:2em auto;font-family:sans-serif}pre{line-height:1.5}.t{border-bottom:1px solid}"
SCORES = "2 AUC - 1 of a threshold; of the indentation, which is a number, Spearman's correlation."


@dataclass(frozen=True)
class Config(char_lm.Config):
    excerpt: int = 1500  # Characters shown for each label

    of_the_call: ClassVar[tuple[str, ...]] = (*char_lm.Config.of_the_call, "excerpt")

    def check(self) -> None:
        super().check()
        common.at_least(1, excerpt=self.excerpt)
        if self.cell != "LSTM":
            raise BadInputError(f"--cell must be LSTM, whose gates these are, but it is {self.cell}")


def labels_of(source: str) -> dict[str, np.ndarray]:
    """What holds after each character, up to the last that the tokenizer can read."""
    lines = io.StringIO(source).readlines()
    starts = np.concatenate([[0], np.cumsum([len(line) for line in lines])])
    changes = {name: np.zeros(len(source) + 1, np.int32) for name in ("string", "comment", "brackets", "indentation")}
    end = 0
    try:
        for token in tokenize.generate_tokens(iter([*lines, ""]).__next__):
            first, end = (int(starts[min(row - 1, len(lines))]) + column for row, column in (token.start, token.end))
            kind = tokenize.tok_name[token.type]
            if kind == "ERRORTOKEN":  # up to Python 3.11 what cannot be read is a token too
                break
            if kind in ("STRING", "COMMENT"):  # a string's last quote is no longer inside
                changes[kind.lower()][[first, end - (kind == "STRING")]] += (1, -1)
            elif kind.endswith("STRING_START"):  # from Python 3.12 on, an f-string is several tokens
                changes["string"][first] += 1
            elif kind.endswith("STRING_END"):
                changes["string"][end - 1] -= 1
            elif token.string and token.string in "([{)]}":
                changes["brackets"][first] += 1 if token.string in "([{" else -1
            elif kind in ("INDENT", "DEDENT"):
                changes["indentation"][end] += 1 if kind == "INDENT" else -1
    except (tokenize.TokenError, SyntaxError):
        pass  # the text may end in the middle of a statement
    depths = {name: np.cumsum(change)[: min(end, len(source))] for name, change in changes.items()}
    return {name: depth if name == "indentation" else (depth > 0).astype(int) for name, depth in depths.items()}


@partial(jax.jit, static_argnames="cell")
def signals_of(cell: jaxrnn.LSTM, params: Any, symbols: Array) -> Array:
    """The memories and gates after each character [time, signals, units]."""

    def one(state: Any, x: Array) -> tuple[Any, Array]:
        z = cell.project(params, x)
        i, f, _, o = jnp.split(z + state.h @ params.w_h, 4, axis=-1)
        state = cell.step(params, state, z)
        return state, jnp.stack([jnp.tanh(state.c), *map(jax.nn.sigmoid, (i, f, o))])

    return jax.lax.scan(one, cell.initial_state(params), symbols)[1]


def strengths(signals: np.ndarray, label: np.ndarray) -> np.ndarray:
    """How well each signal [time, n] tells a label, from -1 to 1; the sign says which way.

    For a yes or no it is 2 AUC - 1, for numbers Spearman's correlation.
    """
    ranks = rankdata(signals, axis=0)
    if label.max() > 1:
        by_rank = rankdata(label)
        covariance = (ranks - ranks.mean(0)).T @ (by_rank - by_rank.mean()) / len(label)
        return covariance / np.maximum(ranks.std(0) * by_rank.std(), 1e-9)
    positive = label.sum()
    auc = (ranks[label == 1].mean(0) - (positive + 1) / 2) / (len(label) - positive)
    return 2 * auc - 1


class Finding(NamedTuple):
    """The signal that tells a label best, chosen on text from training."""

    label: str
    name: str  # of the signal
    score: float  # on held-out text
    untrained: float  # the same of the best signal before training
    values: np.ndarray  # [time], on held-out text, from -1 to 1, high where the label is
    truth: np.ndarray


def stretch_of(text: Text, labels: dict[str, np.ndarray]) -> tuple[slice, int]:
    """The text that is looked at: as many characters from training as from what was held out; and how many."""
    size = min(LONGEST, text.num_train, min(map(len, labels.values())) - text.num_train)
    return slice(text.num_train - size, text.num_train + size), size


def find(cell: jaxrnn.LSTM, networks: list[Any], text: Text, labels: dict[str, np.ndarray]) -> list[Finding]:
    """For each label the best signal of the first network, and the score of that of the second."""
    stretch, size = stretch_of(text, labels)
    read = [np.asarray(signals_of(cell, p, text.symbols[stretch])).reshape(2 * size, -1) for p in networks]
    findings = []
    for label, truth in ((label, truth[stretch]) for label, truth in labels.items()):
        chosen = [strengths(signals[:size:3], truth[:size:3]) for signals in read]
        best = [int(np.abs(strength).argmax()) for strength in chosen]
        signs = [np.sign(strength[b]) for strength, b in zip(chosen, best, strict=True)]
        held_out = [signals[size:, b] * sign for signals, b, sign in zip(read, best, signs, strict=True)]
        score, before = (float(strengths(values[:, None], truth[size:])[0]) for values in held_out)
        kind, unit = divmod(best[0], cell.hidden_size)
        values = held_out[0] if kind == 0 else 2 * held_out[0] - signs[0]  # gates are from 0 to 1
        findings.append(Finding(label, f"{SIGNALS[kind]} of unit {unit}", score, before, values, truth[size:]))
    return findings


def page(findings: list[Finding], characters: str, length: int, title: str) -> str:
    """An HTML page of held-out text, red where the signal is high and blue where it is low."""
    shades = [(f"rgba(193,68,14,{s / 8:.2f})" if s > 0 else f"rgba(31,95,168,{-s / 8:.2f})") for s in range(-5, 6)]
    styles = "".join(f".s{n}{{background:{shade}}}" for n, shade in enumerate(shades))
    parts = []
    for finding in findings:
        # Where the label changes most often there is most to see.
        changes = np.concatenate([[0], np.cumsum(np.abs(np.diff(finding.truth)) > 0)])
        start = int(np.argmax(changes[length:] - changes[:-length])) if len(changes) > length else 0
        start = characters.rfind("\n", 0, start) + 1
        shade = np.rint(5 * finding.values[start : start + length]).astype(int) + 5
        inside = finding.truth[start : start + length] > 0
        spans, place = "", start
        for (n, underlined), run in itertools.groupby(zip(shade, inside, strict=True)):
            piece = characters[place : place + (number := len(list(run)))]
            spans += f'<span class="s{n}{" t" if underlined else ""}">{html.escape(piece)}</span>'
            place += number
        heading = f"{finding.label}: {finding.name}, {finding.score:.3f}; before training {finding.untrained:.3f}"
        parts.append(f"<h2>{html.escape(heading)}</h2>\n<pre>{spans}</pre>")
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}{styles}</style>'
    legend = "Red: the signal is high; blue: low; underlined: inside, as the tokenizer says. Scores: " + SCORES
    return f"<!doctype html><html>{head}<h1>{html.escape(title)}</h1><p>{legend}</p>{''.join(parts)}</html>\n"


def main(config: Config) -> None:
    if config.sample is not None:
        return char_lm.write_sample(config, config.sample)
    text = Text.of(config.data)
    labels = labels_of(decode(text.symbols, text.alphabet))
    if len(labels["string"]) < text.num_train + len(text.symbols) // 20:
        raise BadInputError(f"{text.name} is not Python source: the tokenizer stops after {len(labels['string']):,}")
    stretch, size = stretch_of(text, labels)
    told = {name: set(label[stretch][:size]) & set(label[stretch][size:]) for name, label in labels.items()}
    labels = {name: label for name, label in labels.items() if len(told[name]) > 1}
    if not labels:
        raise BadInputError(f"{text.name} has no {', '.join(told)}: there is nothing to track")
    char_lm.train_model(config)
    path = common.existing_run_dir(config)
    run = common.Run(replace(config, resume=True, run_dir=path), facts={"data": text.digest})
    model = char_lm.make_model(config, len(text.alphabet))
    untrained = char_lm.begin(config, model, len(text.alphabet))
    trained = config.best(run, jax.eval_shape(lambda: untrained))
    before = config.member(untrained.members.params, ensemble.best_member(run.best))
    findings = find(jaxrnn.LSTM(config.hidden_size), [trained[0], before[0]], text, labels)
    held_out = decode(text.symbols[text.num_train :], text.alphabet)
    title = f"What an LSTM of {config.hidden_size} units knows of {text.name}"
    (path / "gates.html").write_text(page(findings, held_out, config.excerpt, title), encoding="utf-8")
    print(f"units   {SCORES}")
    common.print_table(
        **{f.label: f"{f.score:.3f} by the {f.name}; before training the best was {f.untrained:.3f}" for f in findings},
        page=str(path / "gates.html"),
    )


if __name__ == "__main__":
    common.run(main, Config)
