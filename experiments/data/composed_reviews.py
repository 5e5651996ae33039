"""Sentences of film reviews composed by a grammar, so that their sentiment is known.

A clause has an opinion word, a noun, and a frame that may negate the word once ("the plot was not dull") or twice
("nobody can say that the plot was not dull"). A sentence has one clause, two that agree, or two that contrast, of which
the main one decides: "the plot was dull, but the acting was wonderful" and "although the plot was dull, the acting was
wonderful" are positive. Filler has no opinion, but may contain negations and "but".

An opinion word occurs with three fifths of the nouns, frames and connectives in training, with another fifth in
validation, and with the last fifth in the test. All words of the test therefore occur in
training, but in other combinations.
"""

from __future__ import annotations

import itertools
import random
from typing import Literal, NamedTuple

Part = Literal["train", "valid", "test"]
Construction = Literal["plain", "negation", "contrast", "both", "neutral"]

PARTS: tuple[Part, ...] = ("train", "train", "train", "valid", "test")
NOUNS = (
    "plot", "acting", "music", "ending", "dialogue", "script", "story", "cast", "pacing", "humor", "photography",
    "scenery", "lighting", "beginning", "sound",
)  # fmt: skip
ADJECTIVES = {  # by value
    1: ("good", "pleasant", "charming", "clever", "fresh", "lively", "funny", "likeable", "graceful", "tender"),
    2: ("wonderful", "brilliant", "superb", "splendid", "excellent"),
    -1: ("bad", "dull", "weak", "clumsy", "silly", "stale", "flat", "dreary", "shallow", "lazy"),
    -2: ("awful", "terrible", "dreadful", "horrible", "appalling"),
}
VERBS = {  # present and past, by value
    1: (("like", "liked"), ("enjoy", "enjoyed"), ("admire", "admired")),
    2: (("love", "loved"), ("adore", "adored")),
    -1: (("dislike", "disliked"), ("resent", "resented"), ("deplore", "deplored")),
    -2: (("hate", "hated"), ("loathe", "loathed")),
}
Frames = dict[int, tuple[tuple[str, int], ...]]  # by number of negations: a template, and how much it intensifies
ADJECTIVE_FRAMES: Frames = {
    0: (
        ("the {noun} was {word}", 0),
        ("the {noun} was very {word}", 1),
        ("i found the {noun} {word}", 0),
        ("the {noun} was rather {word}", -1),
        ("the {noun} seemed {word} to us", 0),
        ("the {noun} was really {word}", 1),
        ("we thought that the {noun} was {word}", 0),
        ("the {noun} turned out to be {word}", 0),
        ("everyone would call the {noun} {word}", 0),
        ("the {noun} was always {word}", 0),
    ),
    1: (
        ("the {noun} was not {word}", 0),
        ("the {noun} was never {word}", 0),
        ("the {noun} was not very {word}", 0),
        ("nobody would call the {noun} {word}", 0),
        ("i do not think that the {noun} was {word}", 0),
        ("the {noun} was hardly {word}", 0),
        ("the {noun} was anything but {word}", 0),
        ("i did not find the {noun} {word}", 0),
        ("the {noun} never seemed {word} to us", 0),
        ("the {noun} was not at all {word}", 0),
    ),
    2: (
        ("nobody can say that the {noun} was not {word}", 0),
        ("i do not think that the {noun} was not {word}", 0),
        ("it is not true that the {noun} was never {word}", 0),
        ("nobody would call the {noun} anything but {word}", 0),
        ("the {noun} was never anything but {word}", 0),
    ),
}
VERB_FRAMES: Frames = {
    0: (
        ("i {past} the {noun}", 0),
        ("we really {past} the {noun}", 1),
        ("everyone {past} the {noun}", 0),
        ("i can say that i {past} the {noun}", 0),
        ("my friends {past} the {noun}", 0),
    ),
    1: (
        ("i did not {word} the {noun}", 0),
        ("we never {past} the {noun}", 0),
        ("nobody {past} the {noun}", 0),
        ("i can not say that i {past} the {noun}", 0),
        ("my friends hardly {past} the {noun}", 0),
    ),
    2: (
        ("nobody can say that i did not {word} the {noun}", 0),
        ("it is not true that we never {past} the {noun}", 0),
        ("i do not think that nobody {past} the {noun}", 0),
        ("i never said that i did not {word} the {noun}", 0),
        ("it is not true that my friends did not {word} the {noun}", 0),
    ),
}
CONTRASTS = (  # the first half ends with the main clause, the second half begins with it
    "{other}, but {main}",
    "although {other}, {main}",
    "{other}, yet {main}",
    "even though {other}, {main}",
    "{other}. still, {main}",
    "{main}, although {other}",
    "{main}, even though {other}",
    "{main}, though {other}",
    "{main}, while {other}",
    "{main}, in spite of the fact that {other}",
)
AGREEMENTS = ("{other}, and {main}", "{other}. {main}", "{other}, and in addition {main}")
NEUTRAL = (
    "the {noun} was neither {good} nor {bad}",
    "the {noun} was sometimes {good} and sometimes {bad}",
    "i can not say whether the {noun} was {good} or {bad}",
    "some call the {noun} {good}, others call it {bad}",
    "there was a {good} and a {bad} side to the {noun}",
)
OPENINGS = (
    "to begin with, {}", "as far as i can tell, {}", "for the record, {}", "to be fair, {}", "all in all, {}",
    "on a second viewing, {}", "as i told my brother, {}", "in my opinion, {}",
)  # fmt: skip
ASIDES = (  # sentences without an opinion
    "we saw it on a rainy evening",
    "it was not our first visit to this cinema",
    "there was nothing but rain that night",
    "i had never been there before",
    "my brother left early, but i did not",
    "nobody had told us how long it was",
    "although it was late, the house was full",
    "we had read the book",
    "they showed no trailers, but there was a break",
    "it was not on the program, though we knew the title",
)


class Review(NamedTuple):
    text: str
    value: int  # from -2, very negative, to 2, very positive
    construction: Construction


class Opinion(NamedTuple):
    """An adjective or a verb with a value."""

    word: str
    past: str
    value: int
    rank: int  # among the words of its kind and sign


class Clause(NamedTuple):
    text: str
    value: int
    noun: str
    opinion: Opinion


def opinions(forms: dict[int, tuple]) -> dict[int, list[Opinion]]:
    """Returns the opinion words by their sign."""
    found: dict[int, list[Opinion]] = {1: [], -1: []}
    for value, words in forms.items():
        same = found[1 if value > 0 else -1]
        for word in words:
            present, past = word if isinstance(word, tuple) else (word, word)
            same.append(Opinion(present, past, value, len(same)))
    return found


KINDS = ((opinions(ADJECTIVES), ADJECTIVE_FRAMES), (opinions(VERBS), VERB_FRAMES))


def part_of(opinion: Opinion, rank: int) -> Part:
    """Returns the part of the data in which a word occurs with the noun, frame or connective of this rank."""
    return PARTS[(opinion.rank + rank) % len(PARTS)]


def allowed(opinion: Opinion, among: tuple, part: Part) -> list:
    return [one for rank, one in enumerate(among) if part_of(opinion, rank) == part]


def clause(rng: random.Random, part: Part, side: int, negated: bool, without: str = "") -> Clause:
    """Draws a clause whose value has the sign `side`, with another noun than `without`."""
    words, frames = rng.choices(KINDS, (3, 1))[0]
    negations = rng.choice((1, 1, 2)) if negated else 0
    opinion = rng.choice(words[side * (-1) ** negations])
    template, intensity = rng.choice(allowed(opinion, frames[negations], part))
    noun = rng.choice([noun for noun in allowed(opinion, NOUNS, part) if noun != without])
    strength = 1 if negated else min(2, max(1, abs(opinion.value) + intensity))
    return Clause(template.format(noun=noun, word=opinion.word, past=opinion.past), side * strength, noun, opinion)


def compose(rng: random.Random, part: Part, construction: Construction, side: int) -> Review:
    """Composes a sentence of a construction, whose value has the sign `side`."""
    if construction == "neutral":
        adjectives, _ = KINDS[0]
        good, bad = (rng.choice(adjectives[one]) for one in (1, -1))
        template = rng.choice(allowed(good, NEUTRAL, part))
        noun = rng.choice(allowed(bad, NOUNS, part))
        return Review(decorated(rng, template.format(noun=noun, good=good.word, bad=bad.word)), 0, construction)

    contrast = construction in ("contrast", "both")
    negations = (False, False)  # of the main clause and of the other one
    if construction in ("negation", "both"):
        negations = rng.choice(((True, False), (False, True), (True, True)))
    if not contrast and rng.random() < 0.5:
        main = clause(rng, part, side, any(negations))
        return Review(decorated(rng, main.text), main.value, construction)
    main = clause(rng, part, side, negations[0])
    other = clause(rng, part, -side if contrast else side, negations[1], without=main.noun)
    joined = rng.choice(allowed(main.opinion, CONTRASTS, part) if contrast else AGREEMENTS)
    text = joined.format(main=main.text, other=other.text)
    value = side if contrast else max(main.value, other.value, key=abs)
    return Review(decorated(rng, text), value, construction)


def decorated(rng: random.Random, text: str) -> str:
    """Returns a text as a sentence, half of the time with filler around it."""
    if rng.random() < 0.25:
        text = rng.choice(OPENINGS).format(text)
    if rng.random() < 0.33:
        text = "{}. {}".format(*rng.sample((text, rng.choice(ASIDES)), 2))
    return f"{text}."


def reviews(rng: random.Random, part: Part, number: int, neutral: bool) -> list[Review]:
    """Composes sentences, the same number of each construction and of either sign."""
    constructions: tuple[Construction, ...] = ("plain", "negation", "contrast", "both")
    wanted = itertools.product((*constructions, "neutral") if neutral else constructions, (1, -1))
    return [compose(rng, part, *one) for one in itertools.islice(itertools.cycle(wanted), number)]
