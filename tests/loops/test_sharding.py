"""A batch that is sharded over devices stays sharded through the loop; only gradients are summed over devices."""

import subprocess
import sys

import pytest

COMPILER = """
import re
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

jax.config.update("jax_num_cpu_devices", 2)
import jaxrnn
from jaxrnn.loops import Deferred, Newton, Scan

mesh = Mesh(np.array(jax.devices()), ("batch",))
spread, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((None, "batch"), ()))
model = jaxrnn.Stack(jaxrnn.LSTM(8), jaxrnn.GRU(8))
params = model.init(jax.random.key(0), 4)
xs = jax.random.normal(jax.random.key(1), (12, 6, 4))


def loss(params, xs, loop):
    ys = jaxrnn.unroll(model, params, xs, loop=loop)[1]
    return (ys**2).mean(), ys


def collectives(program):
    return set(re.findall(r"(all-gather|all-to-all|collective-permute|all-reduce|reduce-scatter)\\(", program))


for loop in (Scan(), Deferred(), Deferred(block=5), Newton()):
    gradient = jax.jit(jax.grad(lambda p, xs: loss(p, xs, loop), has_aux=True))
    alone, ys_alone = gradient(params, xs)
    args = jax.device_put(params, everywhere), jax.device_put(xs, spread)
    compiled = gradient.lower(*args).compile()
    assert collectives(compiled.as_text()) == {"all-reduce"}, collectives(compiled.as_text())
    forward = jax.jit(lambda p, xs: loss(p, xs, loop)[1]).lower(*args).compile()
    until_all_end = {"all-reduce"} if loop == Newton() else set()  # it iterates until all sequences have ended
    assert collectives(forward.as_text()) == until_all_end, collectives(forward.as_text())
    together, ys = compiled(*args)
    assert ys.sharding.is_equivalent_to(spread, ys.ndim), ys.sharding
    for one, other in zip(jax.tree.leaves((together, ys)), jax.tree.leaves((alone, ys_alone)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
"""


# Each device runs the program on its own part of the batch, and jax.shard_map checks what differs between devices.
SHARD_MAP = r"""
import re
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

jax.config.update("jax_num_cpu_devices", 2)
import jaxrnn
from jaxrnn.loops import Deferred, Newton, Scan

mesh = Mesh(np.array(jax.devices()), ("batch",))
model = jaxrnn.Stack(jaxrnn.LSTM(8), jaxrnn.Bidirectional(jaxrnn.LearnedInitialState(jaxrnn.Elman(8))))
params = model.init(jax.random.key(0), 4)
xs, lengths = jax.random.normal(jax.random.key(1), (12, 6, 4)), jnp.array([12, 0, 3, 7, 12, 1])


def loss(params, xs, lengths, loop):
    return (jaxrnn.unroll(model, params, xs, lengths=lengths, loop=loop)[1] ** 2).mean()


for loop in (Scan(), Deferred(), Deferred(block=5), Newton()):
    alone = jax.grad(loss)(params, xs, lengths, loop)

    def gradient(params, xs, lengths):
        return jax.grad(lambda params: jax.lax.pmean(loss(params, xs, lengths, loop), "batch"))(params)

    axes = PartitionSpec(), PartitionSpec(None, "batch"), PartitionSpec("batch")
    spread = jax.jit(jax.shard_map(gradient, mesh=mesh, in_specs=axes, out_specs=PartitionSpec()))
    compiled = spread.lower(params, xs, lengths).compile()
    assert len(re.findall(r"all-reduce\(", compiled.as_text())) == 1, "one sum of all gradients"
    together = spread(params, xs, lengths)
    for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
"""

# The mesh of jax.make_mesh, whose axes are in the types of arrays.
EXPLICIT = """
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

jax.config.update("jax_num_cpu_devices", 2)
import jaxrnn
from jaxrnn.loops import Deferred, Newton, Scan

model = jaxrnn.Stack(jaxrnn.LSTM(8), jaxrnn.Dropout(0.1), jaxrnn.Bidirectional(jaxrnn.GRU(8)))
params, xs = model.init(jax.random.key(0), 4), jax.random.normal(jax.random.key(1), (12, 6, 4))


@jax.jit
def gradient(params, xs):
    def loss(params):
        state, ys = jaxrnn.unroll(model, params, xs, key=jax.random.key(2), loop=loop)
        return (ys**2).mean(), (state, ys)

    return jax.grad(loss, has_aux=True)(params)


for loop in (Scan(), Deferred(), Newton()):
    jax.clear_caches()
    alone = gradient(params, xs)
    with jax.set_mesh(jax.make_mesh((2,), ("batch",))):
        together = gradient(params, jax.device_put(xs, PartitionSpec(None, "batch")))
        state, ys = together[1]
        assert jax.typeof(ys).sharding.spec == PartitionSpec(None, "batch", None), jax.typeof(ys)
        assert jax.typeof(state[0].h).sharding.spec == PartitionSpec("batch", None), jax.typeof(state[0].h)
    for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)

mesh = jax.make_mesh((2,), ("batch",))
model = jaxrnn.Stack(jaxrnn.Window(2), jaxrnn.LSTM(4), jaxrnn.Dense(4))
params, lengths = model.init(jax.random.key(0), 4), jnp.array([12, 1, 3, 7, 12, 1])
how = {"steps": 5, "stop": lambda x: x[..., 0] > 0.1}
alone = jaxrnn.states_over_time(model, params, xs, lengths=lengths), jaxrnn.generate(model, params, xs, **how)
with jax.set_mesh(mesh):
    xs, lengths = jax.device_put(xs, PartitionSpec(None, "batch")), jax.device_put(lengths, PartitionSpec("batch"))
    states, out = jaxrnn.states_over_time(model, params, xs, lengths=lengths), jaxrnn.generate(model, params, xs, **how)
    for array in (states[0][1].c, out.xs):
        assert jax.typeof(array).sharding.spec == PartitionSpec(None, "batch", None), jax.typeof(array)
for one, other in zip(jax.tree.leaves((states, out)), jax.tree.leaves(alone), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [COMPILER, SHARD_MAP, EXPLICIT], ids=["compiler", "shard_map", "explicit"])
def test_the_batch_stays_spread_over_devices(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
