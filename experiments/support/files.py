"""Reading text files with plain error messages, and writing files that are never half-written."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from support.errors import BadInputError


def read_text(path: Path) -> str:
    """Reads a UTF-8 file as it is, with all its line ends."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from None
    return decode_utf8(content, path)


def decode_utf8(content: bytes, path: Path, position: int = 0) -> str:
    """Decodes a part of a UTF-8 file that begins at a position, which an error message needs."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise BadInputError(f"{path} is not UTF-8 text: byte {position + error.start} is {byte:#04x}") from None


def read_lines(path: Path) -> list[str]:
    """Reads the lines of a UTF-8 file, without a byte order mark. The last is empty if the file ends with a newline."""
    return read_text(path).removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a path to write to, which becomes `path` in one move: if the process dies, the old file is still there.

    Raises:
      OSError: It cannot be written. The error has the name of the file.
    """
    unfinished = path.with_name(f"{path.stem}.unfinished{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise OSError(error.errno or 0, error.strerror or str(error), str(path)) from None


def write_whole(path: Path, text: str) -> None:
    """Writes a file in one move."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files may not be Unicode


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as CSV, in one move."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(columns), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_whole(path, text.getvalue())


def read_table(path: Path, **kinds: Callable[[str], Any]) -> list[dict[str, str]]:
    """Reads the rows of a CSV file; no rows if there is no file.

    Args:
      path: The file.
      kinds: The columns that it must have, and functions that raise a ValueError for an entry that cannot be used.
    """
    if not path.exists():
        return []
    lines = csv.reader(read_lines(path))
    try:
        columns, *rows = [line for line in lines if line]
        table = [dict(zip(columns, row, strict=True)) for row in rows]
        for name, kind in kinds.items():
            for row in table:
                kind(row[name])
    except (ValueError, KeyError, csv.Error):
        columns = ", ".join(kinds)
        raise BadInputError(f"{path} is damaged: it must be a table with the columns {columns}") from None
    return table
