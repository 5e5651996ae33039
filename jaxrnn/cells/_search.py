"""Finding a cell by its name, and suggestions for names that do not exist."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

from jaxrnn.cells._families import FAMILIES

_OTHER_NAMES: dict[str, str] = dict.fromkeys(("rnn", "srn", "vanilla", "simple"), "Elman")
_MOST = 3  # more suggestions would not help


def suggestions(name: str, names: Collection[str]) -> list[str]:
    """Returns names that a misspelled or foreign name probably means, by its letters and by the families of cells."""
    by_lower = {each.lower(): each for each in names}
    given = re.sub(r"\W|_", "", name.lower())
    class_name = re.sub(r"(cell|layer|network|net)+$", "", given)  # of other libraries, such as LSTMCell
    stem = class_name.removesuffix("rnn") or class_name
    for exact in (given, class_name, stem):
        if found := by_lower.get(exact) or _OTHER_NAMES.get(exact):
            return [found]
    ratios = {each: difflib.SequenceMatcher(None, given, lower).ratio() for lower, each in by_lower.items()}
    best = max(ratios.values(), default=0.0)
    close = [each for each in names if ratios[each] > best - 0.03]
    related = [*_containing(stem, names), *_described(stem, names)]
    by_family = len(stem) >= 5 and bool(related)
    found = related if by_family or (best < 0.75 and related) else close if best >= 0.6 else []
    return list(dict.fromkeys(found))[:_MOST]


def question(found: list[str]) -> str:
    """Returns suggestions as a question: "did you mean A, B or C?"."""
    return f"did you mean {' or '.join(filter(None, [', '.join(found[:-1]), found[-1]]))}?"


def _containing(stem: str, names: Collection[str]) -> list[str]:
    return [name for name in names if len(stem) >= 3 and stem in name.lower()]


def _described(stem: str, names: Collection[str]) -> list[str]:
    """Returns the cells with a word in their description or in the title of their family."""
    if len(stem) < 3:
        return []
    word = re.compile(rf"\b{re.escape(stem)}", re.IGNORECASE)
    described = [name for family in FAMILIES for name, purpose in family.purposes.items() if word.search(purpose)]
    families = [name for family in FAMILIES for name in family.purposes if word.search(family.title)]
    return [name for name in dict.fromkeys([*described, *families]) if name in names]
