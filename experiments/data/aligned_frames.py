"""A baseline for utterances with known alignments: a classifier of single steps, and the smoothest path.

It is trained on the alignments, which the networks do not have.
"""

from __future__ import annotations

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from data.sequence_pairs import error_rate
from data.spectrograms import center, stacked
from data.utterances import Utterance, Utterances

AROUND = 3  # steps on either side that the classifier also reads
COSTS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)  # of a change, in nats; the best on validation data is used


def windows(utterance: Utterance, stack: int) -> np.ndarray:
    """Returns the features of each step and of its neighbors, [steps, features]; zeros outside of the utterance."""
    xs = np.pad(stacked(utterance.features, stack), ((AROUND, AROUND), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(xs, 2 * AROUND + 1, axis=0).reshape(len(xs) - 2 * AROUND, -1)


def step_symbols(utterance: Utterance, stack: int) -> list[str]:
    """Returns the symbol at the middle of each step; an empty one in pauses."""
    steps = -(-len(utterance.features) // stack)
    ends = [segment.end for segment in utterance.segments]
    places = np.searchsorted(ends, [center(step, stack) for step in range(steps)], side="right")
    return [utterance.segments[place].symbol for place in np.minimum(places, len(ends) - 1).tolist()]


def smooth_path(log_probs: np.ndarray, cost: float) -> np.ndarray:
    """Returns the classes [time] with the highest sum of log probabilities [time, classes], minus a cost per change."""
    best = log_probs[0]
    came_from = []
    for now in log_probs[1:]:
        highest = best.argmax()
        stays = best >= best[highest] - cost
        came_from.append(np.where(stays, np.arange(len(best)), highest))
        best = np.maximum(best, best[highest] - cost) + now
    path = [int(best.argmax())]
    for before in came_from[::-1]:
        path.append(int(before[path[-1]]))
    return np.array(path[::-1])


def symbols_on(path: np.ndarray, classes: list[str]) -> list[str]:
    """Returns the symbols of a path of classes: equal neighbors are one symbol, and pauses are none."""
    changes = np.flatnonzero(np.diff(path, prepend=-1))
    return [classes[path[n]] for n in changes if classes[path[n]]]


def aligned_baseline(data: Utterances, stack: int) -> dict[str, list[list[str]]]:
    """Returns the symbols that linear discriminant analysis of single steps finds in the test utterances."""
    known = np.concatenate([step_symbols(utterance, stack) for utterance in data.train])
    analysis = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=1e-3)
    analysis.fit(np.concatenate([windows(utterance, stack) for utterance in data.train]), known)
    classes: list[str] = analysis.classes_.tolist()

    def outputs(log_probs: list[np.ndarray], cost: float) -> list[list[str]]:
        return [symbols_on(smooth_path(found, cost), classes) for found in log_probs]

    def log_probabilities(utterances: list[Utterance]) -> list[np.ndarray]:
        return [analysis.predict_log_proba(windows(utterance, stack)) for utterance in utterances]

    of_valid, wanted = log_probabilities(data.valid), [utterance.symbols for utterance in data.valid]
    cost = min(COSTS, key=lambda cost: error_rate(outputs(of_valid, cost), wanted))
    return {"linear discriminant analysis, true alignments": outputs(log_probabilities(data.test), cost)}
