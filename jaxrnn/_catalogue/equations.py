"""Writes the LaTeX of the cells' docstrings as plain text, for a terminal."""

from __future__ import annotations

import re
import textwrap
import unicodedata

_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\s+|.", flags=re.DOTALL)
_MARKS = {"hat": "\u0302", "tilde": "\u0303", "bar": "\u0304", "overline": "\u0304", "dot": "\u0307"}
_FUNCTIONS = ("cos", "exp", "log", "max", "min", "sin", "tanh")
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)


def _greek(name: str) -> str:
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    return unicodedata.lookup(f"GREEK {case} LETTER {name.upper().replace('LAMBDA', 'LAMDA')}")


_SYMBOLS = {
    **{name: name for name in _FUNCTIONS},
    **{name: _greek(name) for name in _GREEK.split()},
    "bmod": "mod",
    "cdot": "·",
    "dots": "...",
    "geq": "≥",
    "in": "∈",
    "infty": "∞",
    "ldots": "...",
    "left": "",
    "leftarrow": "←",
    "leq": "≤",
    "odot": "⊙",
    "quad": "  ",
    "right": "",
    "sum": "∑",
    "textstyle": "",
    "to": "→",
    "top": "T",
    "uparrow": "↑",
}
_END_OF_FACTOR = {None, "}", "&", ")", ",", "+", "-", "=", "\\\\", "\\odot", "\\right"}
_ESCAPED = {"{": "{", "}": "}", "*": "*", ",": " ", ";": " ", " ": " ", "!": ""}


def plain_text(text: str) -> str:
    """Writes prose with inline `:math:` as plain text."""
    text = re.sub(r":math:`([^`]*)`", lambda found: plain_math(found[1]), text)
    return text.replace("\\*", "*")


def plain_math(latex: str) -> str:
    """Writes one line of LaTeX as plain text.

    Raises:
      ValueError: The LaTeX has a command that this module does not know.
    """
    reader = _Reader(latex)
    text = reader.read_until(None)
    return unicodedata.normalize("NFC", text.strip())


def plain_lines(latex: str, width: int = 76) -> list[str]:
    """Writes a block of LaTeX as lines of plain text, aligned at its `&`."""
    rows = [_sides(row) for row in _rows(latex)]
    lefts = [_columns(left) for left, _ in rows if left]
    margin = max((size for size in lefts if size <= 24), default=0)
    lines = []
    for left, right in rows:
        start = " " * max(0, margin - _columns(left)) + left if left else ""
        indent = " " * (margin + 3 if margin else 4)
        lines += textwrap.wrap(
            " ".join(part for part in (start, right) if part),
            width,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        )
    return lines


def _rows(latex: str) -> list[str]:
    """Splits LaTeX at the `\\\\` that are not inside a pair of \\begin and \\end."""
    rows, depth = [""], 0
    for token in _TOKEN.findall(latex):
        depth += {"\\begin": 1, "\\end": -1}.get(token, 0)
        if token == "\\\\" and not depth:
            rows.append("")
        else:
            rows[-1] += token
    return rows


def _sides(row: str) -> tuple[str, str]:
    """Splits a row of LaTeX at its first `&` outside \\begin and \\end, and writes both sides as plain text."""
    depth, position = 0, 0
    for token in _TOKEN.findall(row):
        depth += {"\\begin": 1, "\\end": -1}.get(token, 0)
        if token == "&" and not depth:
            return plain_math(row[:position]), plain_math(row[position + 1 :])
        position += len(token)
    return "", plain_math(row)


def _columns(text: str) -> int:
    """Returns how many columns a text takes in a terminal."""
    return sum(not unicodedata.combining(character) for character in text)


class _Reader:
    """Reads LaTeX token by token."""

    def __init__(self, latex: str):
        self.tokens = _TOKEN.findall(latex)
        self.position = 0

    def read_until(self, end: str | None) -> str:
        """Writes everything up to the token `end`, or to the end of the input."""
        text = ""
        while self.position < len(self.tokens):
            if self.tokens[self.position] == end:
                self.position += 1
                return text
            part = self.read_one()
            if not part.strip(" "):  # spaces do not add up
                trailing = len(text) - len(text.rstrip(" "))
                part = part[trailing:]
            text += part
        if end is not None:
            raise ValueError(f"LaTeX without a closing {end}: {''.join(self.tokens)}")
        return text

    def read_one(self) -> str:
        """Writes the next token, or the next group of tokens."""
        token = self.tokens[self.position]
        self.position += 1
        if token.isspace():
            return " "
        if token == "{":
            return self.read_until("}")
        if token == "^":
            return "^" + _grouped(self.read_argument(), "()")
        if token == "_":
            return "_" + _grouped(self.read_argument().replace(" ", ""), "{}")
        if token.startswith("\\"):
            return self.read_command(token[1:])
        return token

    def read_argument(self) -> str:
        while self.tokens[self.position].isspace():
            self.position += 1
        return self.read_one()

    def next_token(self) -> str | None:
        """Returns the next token that is not a space."""
        return next((token for token in self.tokens[self.position :] if not token.isspace()), None)

    def read_command(self, name: str) -> str:
        if name in _MARKS:
            argument = self.read_argument()
            return argument[:1] + _MARKS[name] + argument[1:]
        if name == "frac":
            over, under = self.read_argument(), self.read_argument()
            fraction = f"{_factor(over)} / {_factor(under)}"
            return f"({fraction})" if self.next_token() not in _END_OF_FACTOR else fraction
        if name == "sqrt":
            return f"sqrt({self.read_argument()})"
        if name in ("mathrm", "operatorname", "text"):
            return self.read_argument()
        if name == "mathcal":
            letter = self.read_argument()
            try:
                return unicodedata.lookup(f"MATHEMATICAL SCRIPT CAPITAL {letter}")
            except KeyError:
                return unicodedata.lookup(f"SCRIPT CAPITAL {letter}")
        if name == "begin":
            return self.read_cases(self.read_argument())
        if name in _SYMBOLS:
            return _SYMBOLS[name]
        if name in _ESCAPED:
            return _ESCAPED[name]
        raise ValueError(f"unknown LaTeX command \\{name} in {''.join(self.tokens)}")

    def read_cases(self, environment: str) -> str:
        if environment != "cases":
            raise ValueError(f"unknown LaTeX environment {environment} in {''.join(self.tokens)}")
        end = self.tokens.index("\\end", self.position)
        rows = _rows("".join(self.tokens[self.position : end]))
        self.position = end + 1
        self.read_argument()  # the name of the environment again
        cases = []
        for row in rows:
            value, _, condition = row.partition("&")
            value, condition = plain_math(value), plain_math(condition)
            cases.append(f"{value} {condition}" if condition == "otherwise" else f"{value} if {condition}")
        return "{ " + "; ".join(cases) + " }"


def _grouped(text: str, brackets: str) -> str:
    """Puts brackets around a sub- or superscript that is more than a word or a number."""
    bare = "".join(character for character in text if not unicodedata.combining(character))
    one = bare.removeprefix("-").isalnum() or len(bare) == 1
    return text if one or (bare.startswith("(") and bare.endswith(")")) else brackets[0] + text + brackets[1]


def _factor(text: str) -> str:
    """Puts parentheses around a numerator or denominator that has several terms or factors."""
    depth = 0
    for character in text.strip():
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == " " and not depth:
            return f"({text})"
    return text
