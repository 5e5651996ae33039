"""Errors that end a script with one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

BAD_INPUT = 2
INTERRUPTED = 128 + signal.SIGINT
PIPE_CLOSED = 128 + 13
PROCESS_LOST = 75  # as EX_TEMPFAIL of sysexits.h: another process of the run has died, and the run can be resumed


class BadInputError(Exception):
    """An option or a file cannot be used. The message is one line that says why."""


_prefix = ""  # of what this process prints as an error


def set_prefix(prefix: str) -> None:
    """Sets what each error line begins with, such as the number of a process."""
    global _prefix
    _prefix = prefix


def show_error(message: str, code: int) -> None:
    """Prints one line to stderr. An interrupted run was stopped on request, which is not an error."""
    print(f"{_prefix}{'' if code == INTERRUPTED else 'error: '}{message}", file=sys.stderr, flush=True)


def fail(message: str, code: int) -> NoReturn:
    """Prints one line to stderr and exits."""
    show_error(message, code)
    sys.exit(code)


def end_now(code: int) -> NoReturn:
    """Exits without waiting for the other processes of a run, which Python would do at exit: they are dead or busy."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


STOPPED = "stopped immediately; nothing was saved since the last checkpoint"


def end_on_interrupt() -> None:
    """Makes Ctrl-C end the process at once, as long as there is nothing to save.

    An exception would not always do so: imports of C++ swallow it or turn it into another one.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_interrupted)


def raise_on_interrupt() -> None:
    """Makes Ctrl-C an exception again."""
    if signal.getsignal(signal.SIGINT) is _end_interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_interrupted(number: int, frame: FrameType | None) -> NoReturn:
    show_error(STOPPED, INTERRUPTED)
    end_now(INTERRUPTED)


def end_quietly() -> NoReturn:
    """Exits without a message when the reader of the output has closed it, as `| head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what Python flushes at exit
    sys.exit(PIPE_CLOSED)
