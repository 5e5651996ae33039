"""The tasks that the benchmark times, in JAX and in PyTorch, and how they are timed."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import jaxrnn
from benchmark.cases import Case, cell_params
from benchmark.contenders import (
    ANY,
    ASLEEP,
    BUILDS,
    COMPILED,
    MLSTM_KERNELS,
    OWN_BACKWARD,
    TORCH,
    Layer,
    missing,
)

CLIP = 1.0  # largest norm of the character model's gradient
RATE = 1e-3  # learning rate of its optimizer, Adam


class Unavailable(Exception):  # noqa: N818
    """A contender does not run here; the message says why."""


class Task(NamedTuple):
    """One thing to time.

    Attributes:
      call: Does the work and waits for the result.
      results: Turns what `call` returns into arrays that must be the same for all contenders.
      own_clock: For work in another process: makes a call and returns the milliseconds that it took there.
      steps: Number of training steps that a call makes.
      temporary_mib: Returns what the compiled program allocates besides its arguments and results. None for PyTorch.
    """

    call: Callable[[], Any]
    results: Callable[[Any], list[Any]]
    own_clock: Callable[[], float] | None = None
    steps: int = 1
    temporary_mib: Callable[[], float] | None = None

    def milliseconds(self) -> float:
        """Returns the time of one call, or of one of its training steps."""
        if self.own_clock:
            return self.own_clock() / self.steps
        started = time.perf_counter()
        self.call()
        return 1e3 * (time.perf_counter() - started) / self.steps


def matrices_norm(grads: list[Any]) -> Any:
    """Returns the norm of a gradient over all weight matrices, which does not depend on how a library arranges them."""
    squares = [np.square(grad, dtype=np.float64).sum() for grad in grads if grad.ndim == 2 and min(grad.shape) > 2]
    return np.sqrt(sum(squares))


LONG = 100.0  # milliseconds of a call that is so long that the state of caches and threads before it does not matter
TURN = 50.0  # milliseconds of a turn of shorter calls
MOST_CALLS = 20  # per turn


def measure(contenders: dict[str, Task], rounds: int) -> dict[str, list[float]]:
    """Returns the milliseconds of each call of each contender, which take turns.

    Calls shorter than LONG are made several times per turn, after a call that does not count.
    """
    first = {name: task.milliseconds() for name, task in contenders.items()}
    calls = {name: min(MOST_CALLS, max(1, int(TURN / ms))) for name, ms in first.items()}
    samples = {name: [ms] if ms >= LONG else [] for name, ms in first.items()}
    names = list(contenders)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if first[name] < LONG:  # caches and threads are still in the state that the last contender left
                contenders[name].milliseconds()
            elif turn == 0:  # the first call was this turn
                continue
            samples[name] += [contenders[name].milliseconds() for _ in range(calls[name])]
    return samples


# --- JAX ---


def build(contender: str, case: Case) -> list[Layer]:
    builds = BUILDS[contender]
    builder = builds[case.name if case.name in builds else ANY]
    return [builder(case.cell, params) for params in case.params]


def run(layers: Sequence[Layer], params: Sequence[Any], xs: Array, lengths: Array | None = None) -> Array:
    how = {} if lengths is None else {"lengths": lengths}
    for layer, own in zip(layers, params, strict=True):
        xs = layer.run(own, xs, **how)
    return xs


def jax_program(contender: str, case: Case, mode: str) -> tuple[Any, tuple[Any, ...], bool]:
    """Returns a jitted function, its arguments, and whether they are batch-major."""
    layers = build(contender, case)
    xs, weights = case.xs, case.weights
    if layers[0].batch_major:
        xs, weights = xs.swapaxes(0, 1), weights.swapaxes(0, 1)

    def forward(params: Any, xs: Array, weights: Array, lengths: Array | None) -> Array:
        return run(layers, params, xs, lengths)

    def loss(params: Any, xs: Array, weights: Array, lengths: Array | None) -> Array:
        return (run(layers, params, xs, lengths) * weights).sum()

    function = {"forward": forward, "gradient": jax.value_and_grad(loss, argnums=(0, 1))}[mode]
    args = [layer.params for layer in layers], xs, weights, case.lengths
    return jax.jit(function), args, layers[0].batch_major


def jax_layers(contender: str, case: Case, mode: str) -> Task:
    function, args, batch_major = jax_program(contender, case, mode)

    def results(out: Any) -> list[Any]:
        grads, sequence = ([], out) if mode == "forward" else out[1]
        norms = [matrices_norm([np.asarray(leaf) for leaf in jax.tree.leaves(grads)])] if grads else []
        return [np.asarray(sequence.swapaxes(0, 1) if batch_major else sequence, "float32"), *norms]

    def temporary_mib() -> float:
        return function.lower(*args).compile().memory_analysis().temp_size_in_bytes / 2**20

    return Task(lambda: jax.block_until_ready(function(*args)), results, temporary_mib=temporary_mib)


def jax_model(contender: str, case: Case) -> Task:
    layers = build(contender, case)
    num_symbols = case.weights.shape[-1]
    symbols = case.xs.T if layers[0].batch_major else case.xs
    time_axis = 1 if layers[0].batch_major else 0
    xs, targets = (jax.lax.slice_in_dim(symbols, n, n - 1 or None, axis=time_axis) for n in (0, 1))
    optimizer = optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(RATE))

    def loss(params: Any, xs: Array) -> Array:
        inputs = xs if layers[0].reads_symbols else jax.nn.one_hot(xs, num_symbols)
        logits = run(layers, params[0], inputs) @ params[1] + params[2]
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    def update(train: Any, xs: Array) -> tuple[Any, Array]:
        params, adam = train
        value, grads = jax.value_and_grad(loss)(params, xs)
        updates, adam = optimizer.update(grads, adam)
        return (optax.apply_updates(params, updates), adam), value

    compiled = jax.jit(update, donate_argnums=0)
    # Copies, because the update donates its arguments.
    params = jax.tree.map(jnp.copy, ([layer.params for layer in layers], case.weights, jnp.zeros(num_symbols)))
    train = (params, optimizer.init(params))

    def call() -> Array:
        nonlocal train
        train, value = jax.block_until_ready(compiled(train, xs))
        return value

    return Task(call, lambda value: [np.asarray(value)])


# --- PyTorch ---


class Worker:
    """A process that runs PyTorch and times itself."""

    def __init__(self, **settings: str):
        command = [sys.executable, "-P", str(Path(__file__).with_name("torch_worker.py"))]
        self._process: Any = Popen(command, stdin=PIPE, stdout=PIPE, env={**os.environ, **settings})

    def ask(self, *request: Any) -> Any:
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        answer = pickle.load(self._process.stdout)
        if isinstance(answer, Exception):
            raise Unavailable(f"does not run here: {answer}")
        return answer


@cache
def worker(contender: str) -> Worker:
    """Returns the process of a contender. Spinning idle threads are faster unless other programs run."""
    return Worker(**{"OMP_WAIT_POLICY": "passive"} if contender.endswith(ASLEEP) else {})


def torch_task(contender: str, maker: str, gradient: bool = False, **options: Any) -> Task:
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    ask, settings = worker(contender).ask, cast("Any", jax.config)
    ask("make", settings.jax_default_matmul_precision != "highest", device, maker, options)

    def results(arrays: list[Any]) -> list[Any]:
        return [arrays[0], matrices_norm(arrays[1:])] if gradient else arrays

    return Task(lambda: ask("results"), results, lambda: ask("milliseconds"))


def as_array(x: Array) -> Any:
    """Converts an array to NumPy, and bfloat16 to float32, because PyTorch cannot read NumPy's bfloat16."""
    return np.asarray(x.astype("float32") if x.dtype == "bfloat16" else x)


def as_arrays(case: Case) -> dict[str, Any]:
    return {
        "name": case.name,
        "dtype": str(case.weights.dtype),
        "params": [{name: as_array(leaf) for name, leaf in p._asdict().items()} for p in cell_params(case)],
        "bidirectional": isinstance(case.cell, jaxrnn.Stack) and isinstance(case.cell.layers[0], jaxrnn.Bidirectional),
        **{name: as_array(x) for name, x in (("xs", case.xs), ("weights", case.weights))},
        "lengths": None if case.lengths is None else np.asarray(case.lengths),
    }


def layers(contender: str, case: Case, mode: str) -> Task:
    if contender in MLSTM_KERNELS:
        how = {"heads": case.cell.num_heads, "own_backward": contender in OWN_BACKWARD}
        return torch_task(contender, "mlstm", mode == "gradient", case=as_arrays(case), mode=mode, **how)
    if contender.startswith(TORCH):
        return torch_task(contender, "layers", mode == "gradient", case=as_arrays(case), mode=mode)
    return jax_layers(contender, case, mode)


def model(contender: str, case: Case) -> Task:
    if contender.startswith(TORCH):
        compiled = contender == COMPILED
        return torch_task(contender, "model", case=as_arrays(case), clip=CLIP, rate=RATE, compiled=compiled)
    return jax_model(contender, case)


def products(size: int, dtype: str) -> dict[str, Task]:
    """Returns one large matrix product in each library. Its speed is the bound that rows are compared with."""
    a = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
    multiply = jax.jit(jnp.matmul)
    tasks = {"jax": Task(lambda: multiply(a, a).block_until_ready(), lambda out: [as_array(out)])}
    with contextlib.suppress(Unavailable):  # reported for the first layer
        if not missing(TORCH):
            tasks[TORCH] = torch_task(TORCH, "product", a=as_array(a), dtype=dtype)
    return tasks
