"""Reading text files with plain error messages, and writing files that are never half-written."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from support.errors import BadInputError


def read_text(path: Path) -> str:
    """Reads a UTF-8 file as it is, with all its line ends."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise BadInputError(f"{path} is not UTF-8 text: byte {error.start} is {byte:#04x}") from None
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from None


def read_lines(path: Path) -> list[str]:
    """Reads the lines of a UTF-8 file. The last element is empty if the file ends with a newline."""
    return read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def write_whole(path: Path, text: str) -> None:
    """Writes a file in one move: if the process dies, the old file is still there."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text)
    os.replace(unfinished, path)


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as CSV, in one move."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(columns), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_whole(path, text.getvalue())


def read_table(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a CSV file; no rows if there is no file."""
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
