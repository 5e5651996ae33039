"""One process of a training run of `char_lm.py` that the suite `devices` times.

Its argument is a JSON object: the arguments of `Training`, and the coordinator's port. It first writes what it runs to
stdout, then answers requests on stdin, one JSON value per line: see `Training.answer`.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

SYMBOLS = 96  # as many as a text in ASCII has
CHARACTERS = 100_000  # of the text, which is random


def bind(first: int, number: int) -> None:
    """Binds this process to as many cores as it has devices, or to all cores if there are fewer."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[n % len(cores)] for n in range(first, first + number)})


class Training:
    """Training steps of the character model, and all-reduces alone.

    Args:
      options: Options of `char_lm.py`.
      updates: Number of training steps in a call.
      repeats: Number of all-reduces in a call.
    """

    def __init__(self, options: dict[str, Any], updates: int, repeats: int):
        import char_lm
        import jax
        from data.text import Text
        from support.collectives import collectives
        from support.devices import make_mesh
        from support.feeding import Feed

        chosen = char_lm.Options(**options, devices="all")
        characters = random.Random(0).choices([chr(n) for n in range(32, 32 + SYMBOLS)], k=CHARACTERS)
        text = Text.from_string("random characters", "".join(characters))
        self.mesh = make_mesh("all", chosen.batch)
        model = char_lm.make_model(chosen, SYMBOLS)
        self._train = char_lm.begin_on(self.mesh, chosen, model, SYMBOLS)
        windows = Feed(char_lm.streams_of(chosen, text).cut, self.mesh, chosen.batch)(0, 1)
        self._step = (windows, updates, (0.0, 0.01))
        steps: Any = char_lm.make_steps(chosen, model, self.mesh)
        self._compiled = steps.lower(self._train, *self._step).compile()
        self._updates, self._repeats = updates, repeats
        self._wait = jax.block_until_ready
        self._made: dict[int, Callable[[], None]] = {}  # by the size of the array
        self.facts = {
            "devices": self.mesh.size,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(self._train.params)),
            "collectives": collectives(self._compiled.as_text()),
        }

    def update(self) -> None:
        self._train, _ = self._wait(self._compiled(self._train, *self._step))

    def answer(self, request: Any) -> float:
        """Returns the milliseconds of one of many training steps for "update", of many all-reduces for a size."""
        call, number = self.update, self._updates
        if request != "update":
            if request not in self._made:
                self._made[request] = self._make_all_reduce(request)
            call, number = self._made[request], self._repeats
        started = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - started) / number

    def _make_all_reduce(self, size: int) -> Callable[[], None]:
        """Returns a function that averages an array of `size` bytes over the devices, `repeats` times."""
        import jax
        import jax.numpy as jnp
        from support.devices import AXIS, BATCH, shardings, varying

        shape = (self.mesh.size, size // 4)
        values = jax.jit(partial(jnp.ones, shape), out_shardings=shardings(self.mesh, BATCH))()

        def on_device(values: Any) -> Any:
            return jax.lax.fori_loop(0, self._repeats, lambda _, xs: varying(jax.lax.pmean(xs, AXIS)), values)

        program: Any = jax.jit(jax.shard_map(on_device, mesh=self.mesh, in_specs=BATCH, out_specs=BATCH))
        compiled = program.lower(values).compile()
        return lambda: self._wait(compiled(values))


def serve(answers: Any) -> None:
    how = json.loads(sys.argv[1])
    process, processes, devices, port = (how.pop(name) for name in ("process", "processes", "devices", "port"))
    bind(process * devices, devices)
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    if processes > 1:
        jax.distributed.initialize(f"localhost:{port}", processes, process)
    jax.devices()  # from now on their number cannot change
    training = Training(**how)
    print(json.dumps(training.facts), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(training.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # so that imports are those of the scripts
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # prints must not mix with the answers
        serve(answers)
