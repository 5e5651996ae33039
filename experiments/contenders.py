"""What the benchmark compares: the recurrent layers of JAX's libraries and PyTorch's, with weights of ours.

Weights take a library's own form before anything is timed, and gradients are taken with respect to that form.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported

import jax
import jax.numpy as jnp
from jax import Array

import jaxrnn

OURS = "jaxrnn"


class Layer(NamedTuple):
    """A recurrent layer in JAX, its state zero at first."""

    params: Any
    run: Callable[[Any, Array], Any]  # (params, xs) -> outputs of all steps
    batch_major: bool = False  # the library knows no other layout
    reads_symbols: bool = False  # integers, not one-hot vectors


Build = Callable[[Any, Any], Layer]  # from a cell of ours and its parameters


def swap_gates(order: tuple[int, ...], array: Array) -> Array:
    parts = jnp.split(array, len(order), axis=-1)
    return jnp.concatenate([parts[n] for n in order], axis=-1)


# --- ours, and what a user of JAX writes without a library ---


def unrolled(loop: jaxrnn.loops.Loop) -> Build:
    def build(cell: Any, params: Any) -> Layer:
        return Layer(params, lambda params, xs: jaxrnn.unroll(cell, params, xs, loop=loop)[1], reads_symbols=True)

    return build


def textbook(cell: Any, params: Any) -> Layer:
    """The whole step, its input product too, in `lax.scan`."""

    def run(params: Any, xs: Array) -> Array:
        return jax.lax.scan(partial(cell, params), cell.initial_state(params, xs.shape[1:2]), xs)[1]

    return Layer(params, run)


# --- Flax ---


def linen(kind: str, convert: Callable[[Any], Any]) -> Build:
    def build(cell: Any, params: Any) -> Layer:
        from flax import linen as nn

        rnn = nn.RNN(getattr(nn, kind)(cell.hidden_size), time_major=True)
        return Layer({"params": {"cell": convert(params)}}, lambda params, xs: rnn.apply(params, xs))

    return build


def dense(kernel: Array, bias: Array | None = None) -> dict[str, Array]:
    return {"kernel": kernel} if bias is None else {"kernel": kernel, "bias": bias}


def linen_lstm(p: Any) -> Any:
    gates = zip("ifgo", *(jnp.split(leaf, 4, axis=-1) for leaf in p), strict=True)
    return {name: d for n, x, h, b in gates for name, d in ((f"i{n}", dense(x)), (f"h{n}", dense(h, b)))}


def linen_gru(p: Any) -> Any:
    gates = zip("rzn", *(jnp.split(leaf, 3, axis=-1) for leaf in p[:3]), strict=True)
    out = {name: d for n, x, h, b in gates for name, d in ((f"i{n}", dense(x, b)), (f"h{n}", dense(h)))}
    return out | {"hn": dense(out["hn"]["kernel"], p.b_n)}


def linen_elman(p: Any) -> Any:
    return {"i": dense(p.w_x, p.b), "h": dense(p.w_h)}


def nnx(kind: str, bias_in: str) -> Build:
    def build(cell: Any, params: Any) -> Layer:
        from flax import nnx

        inner = getattr(nnx, kind)(params.w_x.shape[0], cell.hidden_size, rngs=nnx.Rngs(0))
        inner.dense_i.kernel.set_value(params.w_x)
        inner.dense_h.kernel.set_value(params.w_h)
        getattr(inner, bias_in).bias.set_value(params.b)
        graph, own, rest = nnx.split(nnx.RNN(inner, time_major=True), nnx.Param, ...)
        return Layer(own, lambda own, xs: nnx.merge(graph, own, rest)(xs, rngs=nnx.Rngs(0)))

    return build


# --- Haiku, Keras, Equinox ---


def haiku(kind: str, convert: Callable[[Any], Any]) -> Build:
    def build(cell: Any, params: Any) -> Layer:
        import haiku as hk

        def forward(xs: Array) -> Any:
            core = getattr(hk, kind)(cell.hidden_size)
            return hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

        return Layer(convert(params), hk.without_apply_rng(hk.transform(forward)).apply)

    return build


def haiku_lstm(p: Any) -> Any:
    """Gates in the order i, g, f, o; one is added to the forget gate at every step."""
    order = partial(swap_gates, (0, 2, 1, 3))
    one = jnp.repeat(jnp.array([0.0, 1.0, 0.0, 0.0]), len(p.b) // 4)
    return {"lstm/linear": {"w": order(jnp.concatenate([p.w_x, p.w_h])), "b": order(p.b - one)}}


def haiku_gru(p: Any) -> Any:
    """Gates in the order z, r, a."""
    order = partial(swap_gates, (1, 0, 2))
    return {"gru": {"w_i": order(p.w_x), "w_h": order(jnp.concatenate([p.w_h, p.w_a], axis=-1)), "b": order(p.b)}}


def haiku_elman(p: Any) -> Any:
    return {"vanilla_rnn/linear": {"w": p.w_x, "b": p.b}, "vanilla_rnn/linear_1": {"w": p.w_h, "b": 0 * p.b}}


def keras(kind: str, convert: Callable[[Any], Any] = tuple, **options: Any) -> Build:
    def build(cell: Any, params: Any) -> Layer:
        import keras

        layer = getattr(keras.layers, kind)(cell.hidden_size, return_sequences=True, **options)
        layer.build((None, None, params.w_x.shape[0]))

        def run(weights: Any, xs: Array) -> Any:
            fixed = [variable.value for variable in layer.non_trainable_variables]
            return layer.stateless_call(list(weights), fixed, xs)[0]

        return Layer(convert(params), run, batch_major=True)

    return build


def keras_gru(p: Any) -> Any:
    """Gates in the order z, r, n; two biases."""
    order = partial(swap_gates, (1, 0, 2))
    return order(p.w_x), order(p.w_h), jnp.stack([order(p.b), jnp.concatenate([0 * p.b[: -len(p.b_n)], p.b_n])])


def keras_reset_before_gru(p: Any) -> Any:
    """Gates in the order z, r, a; its z keeps where ours writes."""

    def order(array: Array) -> Array:
        r, z, a = jnp.split(array, 3, axis=-1)
        return jnp.concatenate([-z, r, a], axis=-1)

    return order(p.w_x), order(jnp.concatenate([p.w_h, p.w_a], axis=-1)), order(p.b)


def equinox(kind: str) -> Build:
    def build(cell: Any, params: Any) -> Layer:
        import equinox as eqx

        inner = getattr(eqx.nn, kind)(params.w_x.shape[0], cell.hidden_size, key=jax.random.key(0))
        names = ("weight_ih", "weight_hh", "bias", "bias_n")[: len(params)]
        values = [leaf.T for leaf in params]
        inner = eqx.tree_at(lambda cell: [getattr(cell, name) for name in names], inner, values)

        def one(inner: Any, xs: Array) -> Array:
            def body(state: Any, x: Array) -> Any:
                state = inner(x, state)
                return state, state[0] if kind == "LSTMCell" else state

            zero = jnp.zeros(cell.hidden_size)
            return jax.lax.scan(body, (zero, zero) if kind == "LSTMCell" else zero, xs)[1]

        return Layer(inner, jax.vmap(one, in_axes=(None, 1), out_axes=1))

    return build


# --- cuDNN, as JAX has it ---


def cudnn(cell: Any, params: Any) -> Layer:
    """The weights stay matrices, as everyone's; making one vector of them is part of a call."""
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


ANY = ""  # cell: whatever the benchmark is asked for
BUILDS: dict[str, dict[str, Build]] = {
    OURS: {ANY: unrolled(jaxrnn.loops.Deferred())},
    "jaxrnn Scan": {ANY: unrolled(jaxrnn.loops.Scan())},
    "lax.scan": {ANY: textbook},
    "flax linen": {
        "LSTM": linen("LSTMCell", linen_lstm),
        "GRU": linen("GRUCell", linen_gru),
        "Elman": linen("SimpleCell", linen_elman),
    },
    "flax linen, optimized": {"LSTM": linen("OptimizedLSTMCell", linen_lstm)},
    "flax nnx": {
        "LSTM": nnx("OptimizedLSTMCell", "dense_h"),
        "GRU": nnx("GRUCell", "dense_i"),
        "Elman": nnx("SimpleCell", "dense_i"),
    },
    "haiku": {
        "LSTM": haiku("LSTM", haiku_lstm),
        "ResetBeforeGRU": haiku("GRU", haiku_gru),
        "ReluElman": haiku("VanillaRNN", haiku_elman),
    },
    "keras": {
        "LSTM": keras("LSTM"),
        "GRU": keras("GRU", keras_gru),
        "ResetBeforeGRU": keras("GRU", keras_reset_before_gru, reset_after=False),
        "Elman": keras("SimpleRNN"),
        "ReluElman": keras("SimpleRNN", activation="relu"),
    },
    "equinox": {"LSTM": equinox("LSTMCell"), "GRU": equinox("GRUCell")},
    "jax.experimental.rnn": {"LSTM": cudnn},
}
NEEDS = {"flax": "flax", "haiku": "haiku", "keras": "keras", "equinox": "equinox", "torch": "torch"}
SLEEPING = "torch, threads asleep"
NAMES = [*BUILDS, "torch", SLEEPING, "torch.compile"]
TORCH = ("LSTM", "GRU", "Elman", "ReluElman")


def knows(name: str, cell: str) -> bool:
    """Whether a contender has such a cell."""
    return cell in TORCH if name.startswith("torch") else bool({cell, ANY} & BUILDS[name].keys())


def unfit(name: str, precision: str) -> str | None:
    """Why a contender does not run on this machine, or in this precision."""
    if name != "jax.experimental.rnn":
        return None
    if jax.default_backend() != "gpu":
        return "needs an NVIDIA GPU"
    return "knows no bfloat16" if precision == "bfloat16" else None


def missing(name: str) -> str | None:
    """The package that a contender needs, if it is not installed."""
    package = NEEDS.get(name.replace(".", " ").replace(",", " ").split()[0])
    return package if package and importlib.util.find_spec(package) is None else None
