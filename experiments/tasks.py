"""The work that the benchmark times, for contenders in JAX and in PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import Case
from contenders import ANY, BUILDS, Layer
from jax import Array

CLIP, RATE = 1.0, 1e-3  # of the language model's update: global norm, and Adam's rate


class Unavailable(Exception):  # noqa: N818
    """A contender does not run here; the message says why."""


class Task(NamedTuple):
    """One thing to time. `call` returns when it is done; `results` makes arrays that are the same for everyone."""

    call: Callable[[], Any]
    results: Callable[[Any], list[Any]]


def matrices_norm(grads: list[Any]) -> Any:
    """The norm of a gradient over all weight matrices, however a library cuts and orders them."""
    squares = [np.square(grad, dtype=np.float64).sum() for grad in grads if grad.ndim == 2 and min(grad.shape) > 2]
    return np.sqrt(sum(squares))


def measure(contenders: dict[str, Task], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each call. Short calls are made several times a turn."""

    def milliseconds(task: Task) -> float:
        started = time.perf_counter()
        task.call()
        return 1e3 * (time.perf_counter() - started)

    calls = {name: min(20, max(1, int(50 / milliseconds(task)))) for name, task in contenders.items()}
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            contenders[name].call()
            samples[name] += [milliseconds(contenders[name]) for _ in range(calls[name])]
    return samples


# --- JAX ---


def build(contender: str, case: Case) -> list[Layer]:
    builds = BUILDS[contender]
    builder = builds[case.name if case.name in builds else ANY]
    return [builder(case.cell, params) for params in case.params]


def run(layers: Sequence[Layer], params: Sequence[Any], xs: Array) -> Array:
    for layer, own in zip(layers, params, strict=True):
        xs = layer.run(own, xs)
    return xs


def jax_program(contender: str, case: Case, mode: str) -> tuple[Any, tuple[Any, ...], bool]:
    """A function to compile, its arguments, and whether they are batch-major."""
    layers = build(contender, case)
    xs, weights = case.xs, case.weights
    if layers[0].batch_major:
        xs, weights = xs.swapaxes(0, 1), weights.swapaxes(0, 1)

    def loss(params: Any, xs: Array) -> Array:
        return (run(layers, params, xs) * weights).sum()

    function = {
        "forward": lambda params, xs: run(layers, params, xs),
        "gradient": jax.value_and_grad(loss, argnums=(0, 1)),
    }
    return jax.jit(function[mode]), ([layer.params for layer in layers], xs), layers[0].batch_major


def jax_layers(contender: str, case: Case, mode: str) -> Task:
    function, args, batch_major = jax_program(contender, case, mode)

    def results(out: Any) -> list[Any]:
        grads, sequence = ([], out) if mode == "forward" else out[1]
        norms = [matrices_norm([np.asarray(leaf) for leaf in jax.tree.leaves(grads)])] if grads else []
        return [np.asarray(sequence.swapaxes(0, 1) if batch_major else sequence), *norms]

    return Task(lambda: jax.block_until_ready(function(*args)), results)


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
    # Copies, because the update takes its arguments' memory.
    params = jax.tree.map(jnp.copy, ([layer.params for layer in layers], case.weights, jnp.zeros(num_symbols)))
    train = (params, optimizer.init(params))

    def call() -> Array:
        nonlocal train
        train, value = jax.block_until_ready(compiled(train, xs))
        return value

    return Task(call, lambda value: [np.asarray(value)])


# --- PyTorch ---


def torch_device() -> Any:
    import torch

    return torch.device("cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu")


def torch_wait() -> None:
    import torch

    if torch_device().type == "cuda":
        torch.cuda.synchronize()


def to_torch(array: Any) -> Any:
    import torch

    return torch.tensor(np.asarray(array), device=torch_device())


def torch_rnn(case: Case) -> Any:
    from torch import nn

    kinds = {"LSTM": nn.LSTM, "GRU": nn.GRU, "Elman": nn.RNN, "ReluElman": nn.RNN}
    options = {"nonlinearity": "relu"} if case.name == "ReluElman" else {}
    size, hidden = case.params[0].w_x.shape[0], case.cell.hidden_size
    module = kinds[case.name](size, hidden, len(case.params), **options).to(torch_device())
    for n, p in enumerate(case.params):
        b_h = jnp.concatenate([0 * p.b[:-hidden], p.b_n]) if case.name == "GRU" else 0 * p.b
        for name, value in {"weight_ih": p.w_x.T, "weight_hh": p.w_h.T, "bias_ih": p.b, "bias_hh": b_h}.items():
            getattr(module, f"{name}_l{n}").data.copy_(to_torch(value))
    return module


def torch_layers(case: Case, mode: str) -> Task:
    import torch

    module, xs, weights = torch_rnn(case), to_torch(case.xs), to_torch(case.weights)

    def forward() -> Any:
        with torch.inference_mode():
            ys, _ = module(xs)
        torch_wait()
        return ys

    def gradient() -> Any:
        ys, _ = module(xs)
        grads = torch.autograd.grad((ys * weights).sum(), [xs, *module.parameters()])
        torch_wait()
        return grads

    def results(out: Any) -> list[Any]:
        if mode == "forward":
            return [out.cpu().numpy()]
        dx, *grads = (grad.cpu().numpy() for grad in out)
        return [dx, matrices_norm(grads)]

    xs.requires_grad_(mode == "gradient")
    return Task(forward if mode == "forward" else gradient, results)


def torch_model(case: Case, compiled: bool) -> Task:
    import torch
    from torch.nn import functional

    module = torch_rnn(case)
    head = torch.nn.Linear(case.weights.shape[0], case.weights.shape[1]).to(torch_device())
    head.weight.data.copy_(to_torch(case.weights.T))
    head.bias.data.zero_()
    symbols = to_torch(case.xs).long()
    xs, targets = symbols[:-1], symbols[1:]
    parameters = [*module.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, RATE, fused=True)

    def loss() -> Any:
        ys, _ = module(functional.one_hot(xs, head.out_features).float())
        return functional.cross_entropy(head(ys).flatten(0, 1), targets.flatten())

    if compiled:
        loss = torch.compile(loss)
        try:
            loss().backward()
        except Exception as error:  # no compiler, or a part that cannot be compiled
            raise Unavailable(f"does not run here: {str(error).strip().splitlines()[0]}") from error

    def call() -> Any:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        torch_wait()
        return value

    return Task(call, lambda value: [value.detach().cpu().numpy()])


def layers(contender: str, case: Case, mode: str) -> Task:
    return torch_layers(case, mode) if contender == "torch" else jax_layers(contender, case, mode)


def model(contender: str, case: Case) -> Task:
    is_torch = contender.startswith("torch")
    return torch_model(case, contender == "torch.compile") if is_torch else jax_model(contender, case)


def products(size: int) -> dict[str, Task]:
    """One large product of float32 matrices, of either library: what the machine can do."""
    a = jax.random.normal(jax.random.key(0), (size, size))
    multiply = jax.jit(jnp.matmul)
    tasks = {"jax": Task(lambda: multiply(a, a).block_until_ready(), lambda out: [np.asarray(out)])}
    try:
        b = to_torch(a)
    except ImportError:
        return tasks

    def call() -> Any:
        out = b @ b
        torch_wait()
        return out

    return tasks | {"torch": Task(call, lambda out: [out.cpu().numpy()])}
