"""Work for several processes, each on a core of its own."""

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


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_workers(work: Callable[[Item], Result], items: Sequence[Item], number: int) -> Generator[Result, None, None]:
    """The results of all items in the order in which they come, by so many workers; one is this process itself.

    Who closes the generator waits for the work that is being done, and for no more.

    Raises:
      concurrent.futures.process.BrokenProcessPool: a worker died.
    """
    if number == 1:
        yield from map(work, items)
        return
    context, waiting = multiprocessing.get_context("spawn"), iter(items)
    numbers = context.Queue()
    for n in range(number):
        numbers.put(n)
    with ProcessPoolExecutor(number, context, _begin, (numbers,)) as pool:
        running = {pool.submit(work, item) for item in islice(waiting, number)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(work, item) for item in islice(waiting, len(done))}
            yield from (future.result() for future in done)


def _begin(numbers: Any) -> None:
    """A worker keeps to its core; Ctrl-C is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "sched_setaffinity"):
        mine = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {mine[numbers.get() % len(mine)]})
