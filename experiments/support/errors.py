"""Errors that end a script with one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

BAD_INPUT = 2
INTERRUPTED = 128 + signal.SIGINT
PIPE_CLOSED = 128 + 13


class BadInputError(Exception):
    """An option or a file cannot be used. The message is one line that says why."""


def fail(message: str, code: int) -> NoReturn:
    """Prints one line to stderr and exits. An interrupted run was stopped on request, which is not an error."""
    print(message if code == INTERRUPTED else f"error: {message}", file=sys.stderr)
    sys.exit(code)


def end_quietly() -> NoReturn:
    """Exits without a message when the reader of the output has closed it, as `| head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what Python flushes at exit
    sys.exit(PIPE_CLOSED)
