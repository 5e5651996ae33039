"""Music composed by rules, so that the best possible prediction is known."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np

KEYS, LOWEST = 88, 21  # of a piano, and the MIDI number of the first one
SCALE = (0, 2, 4, 5, 7, 9, 11)
MELODY = [note for note in range(72, 94) if note % 12 in SCALE]
# How often one root follows another, for the degrees I to VI (here 0 to 5): usually 3, sometimes 1.
FOLLOWING = (
    {3: 3, 4: 3, 5: 1},
    {4: 3, 3: 1, 5: 1},
    {5: 3, 3: 1},
    {4: 3, 0: 1, 1: 1},
    {0: 3, 3: 1, 5: 1},
    {1: 3, 4: 3, 2: 1, 3: 1},
)


def compose(rng: np.random.Generator, phrases: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Composes a piece. Returns it, and the probability of each key in every frame given the frames before it.

    A phrase has eight chords of four frames. It begins on I and ends on V, I; otherwise roots follow one another by
    Piston's table. The bass plays the root; three inner voices move as little as possible. On the first frame of a
    chord the melody takes one of its notes, at most a fifth away. On each of the other three frames it either stays or
    moves a step up or down; which of the two is drawn during the first chord and is the same for all others.

    Reference: W. Piston, "Harmony", 1941: the table of usual root progressions.
    """
    frames = 32 * phrases
    roll = np.zeros((frames, KEYS), np.uint8)
    chances = np.zeros((frames, KEYS))
    chord, inner, melody = 0, (55, 60, 64), 76
    moves: dict[int, bool] = {}  # whether the melody moves on a frame of the chord, once that is known
    for frame in range(frames):
        place, beat = divmod(frame % 32, 4)
        options: list[tuple[float, int, int]] = []  # probability, chord, note of the melody
        if beat == 0:
            roots = {6: {4: 1}, 7: {0: 1}}.get(place, FOLLOWING[chord]) if place else {0: 1}
            for root, weight in roots.items():
                near = [note for note in MELODY if abs(note - melody) <= 7 and note % 12 in triad(root)]
                options += [(weight / sum(roots.values()) / len(near), root, note) for note in near]
        else:
            at = MELODY.index(melody)
            p = moves.get(beat, 0.5)
            steps = MELODY[max(0, at - 1) : at] + MELODY[at + 1 : at + 2]
            options = [(1 - p, chord, melody), *[(p / len(steps), chord, note) for note in steps]]
        for p, root, note in options:
            chances[frame, sounding(root, inner, note)] += p
        before = melody
        _, chord, melody = options[rng.choice(len(options), p=[p for p, _, _ in options])]
        roll[frame, sounding(chord, inner, melody)] = 1
        inner = voicing(chord, inner)
        if beat:
            moves.setdefault(beat, melody != before)
    return roll, chances


def triad(root: int) -> list[int]:
    return [SCALE[(root + third) % 7] for third in (0, 2, 4)]


@cache
def voicing(root: int, before: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the close position of a chord with the least movement of voices."""
    notes = [note for note in range(52, 72) if note % 12 in triad(root)]
    close = [chord for chord in combinations(notes, 3) if chord[2] - chord[0] < 12]
    return min(close, key=lambda chord: sum(abs(a - b) for a, b in zip(chord, before, strict=True)))


def sounding(root: int, inner: tuple[int, ...], melody: int) -> np.ndarray:
    """Returns the keys that sound when the inner voices move to a chord."""
    return np.array([36 + SCALE[root], *voicing(root, inner), melody]) - LOWEST
