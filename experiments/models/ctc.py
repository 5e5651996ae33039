"""Connectionist temporal classification: a loss and decoders for labels without alignments.

At each step a network outputs a label or the blank, number 0. A path is one output per step; its labels are those
that remain when equal neighbors are merged and blanks are removed. The probability of labels is that of all their
paths. A. Graves et al., "Connectionist temporal classification: labelling unsegmented sequence data with recurrent
neural networks", 2006; the search is that of A. Hannun et al., "First-pass large vocabulary continuous speech
recognition using bi-directional recurrent DNNs", 2014.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

BLANK = 0
Labels = tuple[int, ...]


def losses(logits: Array, lengths: Array, labels: Array, sizes: Array) -> Array:
    """Returns -log p of the labels of each sequence, [batch], in nats.

    Args:
      logits: Logits of the blank and the labels [time, batch, 1 + labels].
      lengths: Numbers of steps [batch]. There must be a step for each label, and one between equal neighbors.
      labels: Labels from 1 [batch, longest].
      sizes: Numbers of labels [batch].
    """
    padding = jnp.arange(len(logits)) >= lengths[:, None]
    no_label = jnp.arange(labels.shape[1]) >= sizes[:, None]
    return optax.ctc_loss(logits.swapaxes(0, 1), 1.0 * padding, labels, 1.0 * no_label, blank_id=BLANK)


def collapse(path: Iterable[int]) -> Labels:
    """Returns the labels of a path: merges equal neighbors, and removes blanks."""
    return tuple(int(label) for label, _ in itertools.groupby(path) if label != BLANK)


def greedy(log_probs: np.ndarray) -> Labels:
    """Returns the labels of the most probable path, given log probabilities [time, 1 + labels]."""
    return collapse(log_probs.argmax(-1))


def beam_search(
    log_probs: np.ndarray, width: int, bigram: np.ndarray | None = None, least: float = 1e-4
) -> tuple[Labels, float]:
    """Returns the labels with the most probable paths together, and their score.

    The search goes through the steps, and keeps the labels whose paths so far are the most probable together. If it
    keeps enough, the result is exact.

    Args:
      log_probs: Log probabilities [time, 1 + labels].
      width: Number of label sequences that are kept.
      bigram: A term of the score for each label (columns) after the one before (rows; 0 at the beginning). None: the
        score is the log probability of the labels.
      least: Labels with a smaller probability at a step are not begun at this step.
    """
    factors = None if bigram is None else np.exp(bigram)
    beams: dict[Labels, tuple[float, float]] = {(): (1.0, 0.0)}  # paths with and without a blank at the end
    scale = 0.0  # log of what these are divided by, so that they do not underflow
    for p in np.exp(np.asarray(log_probs, np.float64)):
        candidates = [label for label in np.flatnonzero(p >= least).tolist() if label != BLANK]
        blank = float(p[BLANK])
        with_blank: defaultdict[Labels, float] = defaultdict(float)
        without: defaultdict[Labels, float] = defaultdict(float)
        for labels, (ends_blank, ends_label) in beams.items():
            last = labels[-1] if labels else BLANK
            both = ends_blank + ends_label
            with_blank[labels] += both * blank
            if labels:
                without[labels] += ends_label * float(p[last])  # the label goes on
            for label in candidates:
                before = ends_blank if label == last else both  # equal labels have a blank between them
                factor = 1.0 if factors is None else float(factors[last, label])
                without[(*labels, label)] += before * float(p[label]) * factor
        found = {labels: (with_blank[labels], without[labels]) for labels in with_blank.keys() | without.keys()}
        kept = sorted(found, key=lambda labels: (-sum(found[labels]), labels))[:width]
        total = sum(found[kept[0]])
        scale += math.log(total)
        beams = {labels: (found[labels][0] / total, found[labels][1] / total) for labels in kept}
    best = next(iter(beams))
    return best, scale + math.log(sum(beams[best]))


def bigram_of(transcripts: Iterable[Sequence[int]], num_labels: int) -> np.ndarray:
    """Returns how much more frequent a label is after another one than elsewhere, [1 + labels, 1 + labels].

    These are log p(label | label before) - log p(label), since a network knows already how frequent each label is. Row
    0 is the beginning. Half an occurrence is added to each count, so that nothing is impossible.
    """
    counts = np.full((1 + num_labels, 1 + num_labels), 0.5)
    for labels in transcripts:
        for before, label in itertools.pairwise([BLANK, *labels]):
            counts[before, label] += 1
    counts[:, BLANK] = 0
    conditional = counts / counts.sum(1, keepdims=True)
    overall = counts.sum(0) / counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(overall > 0, np.log(conditional) - np.log(overall), 0.0)
