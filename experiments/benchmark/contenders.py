"""What the benchmark compares: recurrent layers of JAX libraries and of PyTorch, all with our weights.

Weights are converted to the format of each library before anything is timed, and gradients are with respect to the
converted weights.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

import jaxrnn
from jaxrnn import convert

OURS = "jaxrnn"


class Layer(NamedTuple):
    """A recurrent layer in JAX, whose initial state is zero."""

    params: Any
    run: Callable[..., Any]  # (params, xs) -> outputs of all steps; in our loops also (params, xs, lengths=lengths)
    batch_major: bool = False  # whether inputs and outputs are [batch, time, ...]
    reads_symbols: bool = False  # whether it reads integers instead of one-hot vectors


Build = Callable[[Any, Any], Layer]  # (a cell of ours, its parameters) -> layer


# --- jaxrnn, and a loop written without a library ---


def unrolled(**how: Any) -> Build:
    """Runs `unroll` with some arguments, such as a loop. It also runs networks and sequences with lengths."""

    def build(cell: Any, params: Any) -> Layer:
        def run(params: Any, xs: Array, **more: Any) -> Array:
            return jaxrnn.unroll(cell, params, xs, **how, **more)[1]

        return Layer(params, run, reads_symbols=True)

    return build


def textbook(cell: Any, params: Any) -> Layer:
    """Runs the whole step, including the product with the input, in `lax.scan`."""

    def run(params: Any, xs: Array) -> Array:
        return jax.lax.scan(partial(cell, params), cell.initial_state(params, xs.shape[1:2]), xs)[1]

    return Layer(params, run)


# --- Flax, with its own loop and with ours ---


def linen(kind: str, rnn: str = "flax.linen") -> Build:
    def build(cell: Any, params: Any) -> Layer:
        from flax import linen as nn

        inner = getattr(nn, kind)(cell.hidden_size)
        run = importlib.import_module(rnn).RNN(inner, time_major=True)
        return Layer({"params": {"cell": convert.to_linen(cell, params)}}, lambda params, xs: run.apply(params, xs))

    return build


def nnx(kind: str, rnn: str = "flax.nnx") -> Build:
    def build(cell: Any, params: Any) -> Layer:
        from flax import nnx

        inner = getattr(nnx, kind)(params.w_x.shape[0], cell.hidden_size, rngs=nnx.Rngs(0))
        nnx.update(inner, convert.to_nnx(cell, params, optimized=True))
        run = importlib.import_module(rnn).RNN(inner, time_major=True)
        graph, own, rest = nnx.split(run, nnx.Param, ...)
        return Layer(own, lambda own, xs: nnx.merge(graph, own, rest)(xs, rngs=nnx.Rngs(0)))

    return build


# --- Haiku, Keras, Equinox; Haiku and Equinox also with our loop ---


def haiku(kind: str) -> Build:
    def build(cell: Any, params: Any) -> Layer:
        import haiku as hk

        def forward(xs: Array) -> Any:
            core = getattr(hk, kind)(cell.hidden_size)
            return hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

        return Layer(convert.to_haiku(cell, params), hk.without_apply_rng(hk.transform(forward)).apply)

    return build


def adopted_haiku(kind: str) -> Build:
    def build(cell: Any, params: Any) -> Layer:
        import haiku as hk

        core = hk.without_apply_rng(hk.transform(lambda x, state: getattr(hk, kind)(cell.hidden_size)(x, state)))
        begin = hk.without_apply_rng(hk.transform(lambda: getattr(hk, kind)(cell.hidden_size).initial_state(None)))

        def first_state(params: Any, batch_shape: tuple[int, ...]) -> Any:
            return jax.tree.map(lambda s: jnp.broadcast_to(s, (*batch_shape, *s.shape)), begin.apply({}))

        adopted = jaxrnn.adopt(lambda params, state, x: core.apply(params, x, state)[::-1], first_state)
        return Layer(convert.to_haiku(cell, params), lambda params, xs: jaxrnn.unroll(adopted, params, xs)[1])

    return build


def keras_layer(cell: Any, params: Any) -> Layer:
    os.environ["KERAS_BACKEND"] = "jax"  # Keras reads it when it is imported
    import keras

    config, weights = convert.to_keras(cell, params)
    layer = keras.layers.deserialize(config)
    layer.build((None, None, params.w_x.shape[0]))

    def run(weights: Any, xs: Array) -> Any:
        fixed = [variable.value for variable in layer.non_trainable_variables]
        return layer.stateless_call(list(weights), fixed, xs)[0]

    return Layer(tuple(map(jnp.asarray, weights)), run, batch_major=True)


def of_equinox(inner: Any, state: Any, x: Array) -> tuple[Any, Array]:
    state = inner(x, state)
    return state, state[0] if isinstance(state, tuple) else state


def zeros(inner: Any, batch_shape: tuple[int, ...]) -> Any:
    """Returns the initial state of an Equinox cell: one array for a GRU, two for an LSTM."""
    import equinox

    zero = jnp.zeros((*batch_shape, inner.hidden_size))
    return zero if isinstance(inner, equinox.nn.GRUCell) else (zero, zero)


def equinox_layer(cell: Any, params: Any) -> Layer:
    def one(inner: Any, xs: Array) -> Array:
        return jax.lax.scan(partial(of_equinox, inner), zeros(inner, ()), xs)[1]

    return Layer(convert.to_equinox(cell, params), jax.vmap(one, in_axes=(None, 1), out_axes=1))


def adopted_equinox(cell: Any, params: Any) -> Layer:
    adopted = jaxrnn.adopt(of_equinox, zeros, batched=False)
    return Layer(convert.to_equinox(cell, params), lambda inner, xs: jaxrnn.unroll(adopted, inner, xs)[1])


# --- cuDNN through jax.experimental.rnn ---


def cudnn(cell: Any, params: Any) -> Layer:
    """Runs cuDNN's LSTM. The weights are matrices, as for all contenders; each call flattens them into one vector."""
    from jax.experimental import rnn

    def run(weights: dict[str, Array], xs: Array) -> Array:
        (batch, _, size), hidden = xs.shape, cell.hidden_size
        flat = jnp.concatenate([weights[name].ravel() for name in ("w_ih", "w_hh", "b_ih", "b_hh")])
        zero, lengths = jnp.zeros((1, batch, hidden)), jnp.full(batch, xs.shape[1], jnp.int32)
        precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
        out: Any = rnn.lstm(xs, zero, zero, flat, lengths, size, hidden, 1, 0.0, False, precision)
        return out[0]

    weights = {"w_ih": params.w_x.T, "w_hh": params.w_h.T, "b_ih": params.b, "b_hh": jnp.zeros_like(params.b)}
    return Layer(weights, run, batch_major=True)


ANY = ""  # any cell of jaxrnn
DEFERRED, SCAN, NATIVE = "jaxrnn Deferred", "jaxrnn Scan", "jaxrnn Native"
ASSOCIATIVE = "jaxrnn AssociativeScan"
NEWTON, NEWTON_DIAGONAL = "jaxrnn Newton", "jaxrnn Newton, diagonal"
PARALLEL = {  # loops that run steps at once, for the suite parallel
    NEWTON: jaxrnn.loops.Newton(),
    NEWTON_DIAGONAL: jaxrnn.loops.Newton(jacobian=jaxrnn.loops.DiagonalJacobian()),
}
UNROLLED = {
    f"{name}, unroll {steps}": (loop, steps)
    for name, loop in ((SCAN, jaxrnn.loops.Scan), (DEFERRED, jaxrnn.loops.Deferred))
    for steps in (2, 4, 8, 16, 32)
}
BUILDS: dict[str, dict[str, Build]] = {
    OURS: {ANY: unrolled()},  # the default loop
    DEFERRED: {ANY: unrolled(loop=jaxrnn.loops.Deferred())},
    SCAN: {ANY: unrolled(loop=jaxrnn.loops.Scan())},
    NATIVE: {ANY: unrolled(loop=jaxrnn.loops.Native())},
    ASSOCIATIVE: dict.fromkeys(("MinGRU", "LRU"), unrolled(loop=jaxrnn.loops.AssociativeScan())),
    **{name: {ANY: unrolled(loop=loop)} for name, loop in PARALLEL.items()},
    **{name: {ANY: unrolled(loop=loop(unroll=steps))} for name, (loop, steps) in UNROLLED.items()},
    "lax.scan": {ANY: textbook},
    "flax linen": {"LSTM": linen("LSTMCell"), "GRU": linen("GRUCell"), "Elman": linen("SimpleCell")},
    "flax linen, our loop": {
        "LSTM": linen("LSTMCell", "jaxrnn.linen"),
        "GRU": linen("GRUCell", "jaxrnn.linen"),
        "Elman": linen("SimpleCell", "jaxrnn.linen"),
    },
    "flax linen, optimized": {"LSTM": linen("OptimizedLSTMCell")},
    "flax linen, optimized, our loop": {"LSTM": linen("OptimizedLSTMCell", "jaxrnn.linen")},
    "flax nnx": {"LSTM": nnx("OptimizedLSTMCell"), "GRU": nnx("GRUCell"), "Elman": nnx("SimpleCell")},
    "flax nnx, our loop": {
        "LSTM": nnx("OptimizedLSTMCell", "jaxrnn.nnx"),
        "GRU": nnx("GRUCell", "jaxrnn.nnx"),
        "Elman": nnx("SimpleCell", "jaxrnn.nnx"),
    },
    "haiku": {"LSTM": haiku("LSTM"), "ResetBeforeGRU": haiku("GRU"), "ReluElman": haiku("VanillaRNN")},
    "haiku, our loop": {
        "LSTM": adopted_haiku("LSTM"),
        "ResetBeforeGRU": adopted_haiku("GRU"),
        "ReluElman": adopted_haiku("VanillaRNN"),
    },
    "keras": dict.fromkeys(("LSTM", "GRU", "ResetBeforeGRU", "Elman", "ReluElman"), keras_layer),
    "equinox": {"LSTM": equinox_layer, "GRU": equinox_layer},
    "equinox, our loop": {"LSTM": adopted_equinox, "GRU": adopted_equinox},
    "jax.experimental.rnn": {"LSTM": cudnn},
}
NEEDS = {
    "mlstm-kernels": "mlstm_kernels",
    "flax": "flax",
    "haiku": "haiku",
    "keras": "keras",
    "equinox": "equinox",
    "torch": "torch",
}
ASLEEP = ", threads asleep"  # ends the names of contenders in PyTorch whose idle threads sleep instead of spinning
TORCH, SLEEPING, COMPILED = "torch", f"torch{ASLEEP}", "torch.compile"
# The chunkwise form of mlstm-kernels, in PyTorch, with PyTorch's backward pass and with its own.
OWN_BACKWARD = ("mlstm-kernels, own backward", f"mlstm-kernels, own backward{ASLEEP}")
MLSTM_KERNELS = ("mlstm-kernels", f"mlstm-kernels{ASLEEP}", *OWN_BACKWARD)
NAMES = [*BUILDS, TORCH, SLEEPING, COMPILED, *MLSTM_KERNELS]
LOOPS = (OURS, DEFERRED, SCAN, NATIVE)
PEERS = ("lax.scan", "flax linen", "flax linen, optimized", "flax nnx", "haiku", "keras", "equinox")
CUDNN = "jax.experimental.rnn"
LAYERS = [  # the last of those left out compiles whole models
    name for name in NAMES if name not in (*UNROLLED, *PARALLEL, *MLSTM_KERNELS, COMPILED)
]
FEW = (*LOOPS, "flax linen", TORCH, SLEEPING)  # for the suites scaling and memory
TORCH_CELLS = ("LSTM", "GRU", "Elman", "ReluElman")


def knows(name: str, cell: str) -> bool:
    """Returns whether a contender has a cell."""
    if name in MLSTM_KERNELS:
        return cell == "MLSTM"
    return cell in TORCH_CELLS if name.startswith(TORCH) else bool({cell, ANY} & BUILDS[name].keys())


def unfit(name: str, precision: str) -> str | None:
    """Returns why a contender does not run on this machine or in this precision, or None if it does."""
    if name == NATIVE and jax.default_backend() != "cpu":
        return "needs a CPU"
    if name != CUDNN:
        return None
    if jax.default_backend() != "gpu":
        return "needs an NVIDIA GPU"
    return "has no bfloat16" if precision == "bfloat16" else None


def missing(name: str) -> str | None:
    """Returns the package that a contender needs but that is not installed, or None."""
    package = "llvmlite" if name == NATIVE else NEEDS.get(name.replace(".", " ").replace(",", " ").split()[0])
    return package if package and importlib.util.find_spec(package) is None else None
