"""A parent process that runs the training in a child process, and reports in one line why the child ended.

JAX aborts a process when another process of the run dies, or when the processes cannot connect. The abort is in C++,
prints a long log, and Python can neither catch it nor run code before it. Therefore, in a run with several processes,
each trains in a child, and its parent reads the exit status of the child and what its C++ code prints. This module does
not import JAX.
"""

from __future__ import annotations

import io
import mmap
import os
import re
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from support.errors import PROCESS_LOST, fail, set_prefix

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LOG_HEAD = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ (\S+):\d+\] ")  # of a message from C++ code
COORDINATION = re.compile(r"coordination_service|client\.|service\.|distributed")  # files that report lost processes
# Gloo, which connects CPUs, reports each connection in parts, and several threads do so at the same time.
GLOO = re.compile(r"\[Gloo\] Rank| is connected to |peer ranks\.|Expected number of connected peer ranks is :|\d+|\s")
FATAL = "JAX distributed service detected fatal errors"


def supervise(number: int, address: str, processes: int, seconds: int) -> ChildStatus:
    """Forks, and returns in the child. The parent does not return; it exits with the exit code of the child.

    The parent forwards signals, and what C++ code writes to the file descriptors 1 and 2. It replaces messages about
    other processes by one line. Only in the first process of the run, Python prints to standard output.

    Args:
      number: The number of this process in the run.
      address: The address of process 0.
      processes: Number of processes.
      seconds: Time after which the parent ends a child that has not connected to the others.
    """
    set_prefix(f"process {number}: ")
    sys.stdout.flush()
    sys.stderr.flush()
    status = ChildStatus()
    log, into_log = os.pipe()
    alive, keep_alive = os.pipe()
    child = os.fork()
    if child:
        os.close(into_log)
        os.close(alive)
        if number:
            not_connected = (
                f"cannot connect to process 0 at {address} within {seconds} seconds: check the address, that process 0"
                f" is running, and that all processes have --processes {processes} and each its own --process"
            )
        else:
            not_connected = (
                f"not all of {processes} processes have connected to {address} within {seconds} seconds: start the"
                f" others, all with --processes {processes}, and each with its own --process"
            )
        others = [other for other in range(processes) if other != number]
        watch(child, log, status, others, not_connected, seconds)
    os.close(log)
    os.close(keep_alive)
    threading.Thread(target=end_with_parent, args=(alive,), daemon=True).start()
    redirect(into_log, number)
    signal.signal(signal.SIGINT, once(signal.default_int_handler))
    return status


class ChildStatus:
    """The status of the child, in memory that it shares with its parent."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 2)

    @property
    def connected(self) -> bool:
        """Whether the child has connected to the other processes."""
        return bool(self._memory[0])

    @connected.setter
    def connected(self, connected: bool) -> None:
        self._memory[0] = connected

    @property
    def exit_code(self) -> int:
        """The exit code of a child that has printed an error, even if JAX aborts it before it exits; else 0."""
        return self._memory[1]

    @exit_code.setter
    def exit_code(self, code: int) -> None:
        self._memory[1] = code


# --- The child ---


def end_with_parent(alive: int) -> None:
    """Waits until the parent has ended, and then kills this process."""
    os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def redirect(into_log: int, number: int) -> None:
    """Sends the output of C++ code to the parent, and that of Python to the original streams."""
    out, err = os.dup(1), os.dup(2)
    os.dup2(into_log, 1)
    os.dup2(into_log, 2)
    os.close(into_log)
    if number:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out)
    sys.stdout = open(out, "w", errors="replace", encoding=sys.stdout.encoding)  # noqa: SIM115
    stderr = open(err, "w", buffering=1, errors="replace", encoding=sys.stderr.encoding)  # noqa: SIM115
    sys.stderr = PrefixedStream(stderr, f"process {number}: ") if number else stderr


class PrefixedStream(io.TextIOBase):
    """A text stream that begins each line with a prefix. It is not a terminal, so tqdm draws no progress bar on it."""

    def __init__(self, stream: Any, prefix: str):
        self._stream, self._prefix, self._begins = stream, prefix, True

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._stream.encoding

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            new = self._begins and not line.startswith(self._prefix)
            self._stream.write(self._prefix + line if new else line)
            self._begins = line.endswith("\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def once(handler: Any) -> Any:
    """Returns a signal handler that ignores a second signal within half a second.

    A terminal or a scheduler may signal all processes. The child then receives the signal twice: directly, and from its
    parent.
    """
    last = -1.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if before < 0 or last > before + 0.5:
            handler(number, frame)

    return handle


# --- The parent ---


def watch(child: int, log: int, status: ChildStatus, others: list[int], not_connected: str, seconds: int) -> None:
    """Forwards signals and the log of the child, and exits with its exit code, or with one line if it was aborted.

    Args:
      child: The process id of the child.
      log: A file descriptor from which the output of its C++ code is read.
      status: Its status.
      others: The numbers of the other processes of the run.
      not_connected: The error message if the child has not connected to the others.
      seconds: Time that it has for this.
    """
    expired = False

    def expire(number: int, frame: FrameType | None) -> None:
        nonlocal expired
        if not status.connected:
            expired = True
            os.kill(child, signal.SIGKILL)

    for number in SIGNALS:
        signal.signal(number, lambda number, frame: os.kill(child, number))
    signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    withheld = forward_log(log)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(0)
    if code < 0 and status.exit_code:
        sys.exit(status.exit_code)
    if code == PROCESS_LOST or (code == -signal.SIGABRT and FATAL in withheld) or expired:
        twice = re.search(r"(\d+) unexpectedly tried to connect", withheld)
        if twice:
            fail(f"two processes have the number {twice[1]}: give each its own --process", PROCESS_LOST)
        if not status.connected:
            fail(not_connected, PROCESS_LOST)
        fail(f"{describe_lost(withheld, others)}: resume the run from its last checkpoint with --resume", PROCESS_LOST)
    if code < 0:
        sys.stderr.write(withheld)
        if -code in SIGNALS:
            fail(f"stopped by {signal.Signals(-code).name}", 128 - code)
        memory = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
        fail(f"the process was ended by {signal.Signals(-code).name}{memory}", 128 - code)
    sys.exit(code)


def forward_log(log: int) -> str:
    """Prints the output of the child's C++ code until it ends, and returns the lines about lost processes instead."""
    withheld: list[str] = []
    withholds = aborted = False
    with open(log, errors="replace") as lines:
        for line in lines:
            message = LOG_HEAD.match(line)
            if message:
                withholds = bool(COORDINATION.search(message[1]))
                aborted |= line.startswith("F")
            if not GLOO.sub("", line):
                continue
            if aborted or withholds:
                withheld.append(line)
            else:
                sys.stderr.write(line)
    return "".join(withheld)


def describe_lost(log: str, others: list[int]) -> str:
    """Returns which of the other processes have died, according to the messages of JAX."""
    if len(others) == 1:
        return f"process {others[0]} has died"
    silent = re.search(r"stopped sending heartbeats\):\s+((?:\d+\s+)+)", log)
    if silent:
        numbers = silent[1].split()
        return f"process {numbers[0]} has died" if len(numbers) == 1 else f"processes {', '.join(numbers)} have died"
    return "process 0 has died" if "Failed to send RPC to coordination service" in log else "another process has died"
