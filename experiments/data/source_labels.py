"""Labels for each character of Python source: strings, comments, brackets, indentation."""

from __future__ import annotations

import io
import tokenize

import numpy as np


def labels_of(source: str) -> dict[str, np.ndarray]:
    """Returns whether the text after each character is in a string, a comment or brackets, and how far it is indented.

    The labels end at the last character that the tokenizer can read.
    """
    lines = io.StringIO(source).readlines()
    starts = np.concatenate([[0], np.cumsum([len(line) for line in lines])])
    changes = {name: np.zeros(len(source) + 1, np.int32) for name in ("string", "comment", "brackets", "indentation")}
    end = 0
    try:
        for token in tokenize.generate_tokens(iter([*lines, ""]).__next__):
            first, end = (int(starts[min(row - 1, len(lines))]) + column for row, column in (token.start, token.end))
            kind = tokenize.tok_name[token.type]
            if kind == "ERRORTOKEN":  # up to Python 3.11, what cannot be read is a token too
                break
            if kind in ("STRING", "COMMENT"):  # after the last quote, the string is over
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
