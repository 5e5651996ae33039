"""Runs work in several processes, each on its own core."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(work: Callable[[Item], Result], items: Sequence[Item], number: int) -> Generator[Result, None, None]:
    """Yields the results of all items as they arrive, computed by `number` processes, or by this one for 1.

    Closing the generator waits for the items in progress and starts no others.

    Raises:
      concurrent.futures.process.BrokenProcessPool: A process died.
    """
    if number == 1:
        yield from map(work, items)
        return
    context = multiprocessing.get_context("spawn")
    waiting = iter(items)
    numbers = context.Queue()
    for n in range(number):
        numbers.put(n)
    with ProcessPoolExecutor(number, context, begin_worker, (numbers,)) as pool:
        running = {pool.submit(work, item) for item in islice(waiting, number)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(work, item) for item in islice(waiting, len(done))}
            yield from (future.result() for future in done)


def begin_worker(numbers: Any) -> None:
    """Binds a worker to its core, and leaves Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "sched_setaffinity"):
        mine = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {mine[numbers.get() % len(mine)]})
