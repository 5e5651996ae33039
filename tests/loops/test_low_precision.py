"""Values of low precision: the time is linear in the length, and gradients are sums in float32."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.loops import Deferred, Scan
from tests.support.inputs import INPUT, draw, draw_params

TIME, BATCH = 1000, 2
LOOPS = {"scan": Scan(), "deferred": Deferred(), "blocks": Deferred(block=300)}


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def loss(params, xs, cell, loop):
    return (jaxrnn.unroll(cell, params, xs, loop=loop)[1].astype(jnp.float32) ** 2).mean()


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_no_stacked_array_is_converted_in_the_loop(loop, dtype):
    cell = jaxrnn.LSTM(4)
    params, xs = cast(draw_params(cell), dtype), cast(draw(TIME, BATCH, INPUT), dtype)
    for function in (loss, jax.grad(loss, argnums=(0, 1))):
        program = jax.jit(function, static_argnums=(2, 3)).lower(params, xs, cell, loop).compile().as_text()
        assert "while(" in program
        for inside in texts_of_loops(program):
            lengths = "1000|3,300" if "while(" in inside else "1000|3,300|300"  # a loop over blocks makes whole blocks
            assert not re.findall(rf"= (?:bf16|f16)\[(?:{lengths}),", inside)


def texts_of_loops(program):
    """The bodies of all loops, each with the computations that it calls."""
    texts = {text.split()[0].lstrip("%"): text for text in program.split("\n\n") if text.strip().endswith("}")}
    for body in set(re.findall(r"body=%?([\w.\-]+)", program)):
        names = {body}
        while (
            more := {n for name in names for n in re.findall(r"(?:calls|to_apply)=%?([\w.\-]+)", texts[name])} - names
        ):
            names |= more
        yield "\n".join(texts[name] for name in names)


@pytest.mark.parametrize(
    "cell", [jaxrnn.LSTM(4), pytest.param(jaxrnn.PeepholeLSTM(4), marks=pytest.mark.slow)], ids=str
)
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_gradients_of_long_sequences_are_near_those_in_float32(loop, cell):
    params, xs = cast(draw_params(cell), jnp.bfloat16), cast(draw(TIME, BATCH, INPUT), jnp.bfloat16)
    found = jax.jit(jax.grad(loss), static_argnums=(2, 3))(params, xs, cell, loop)
    wide = cast(params, jnp.float32), cast(xs, jnp.float32)
    expected = jax.jit(jax.grad(loss), static_argnums=(2, 3))(*wide, cell, Scan())
    few_roundings = 8 * 2.0**-8  # of values of 8 bits; without sums in float32 the error grows with the length
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == jnp.bfloat16
        assert np.abs(one.astype(jnp.float32) - other).max() < few_roundings * np.abs(other).max()
