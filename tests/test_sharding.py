"""A batch that is spread over devices stays so through the loop; only gradients are summed over them."""

import subprocess
import sys

PROGRAM = """
import re
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

jax.config.update("jax_num_cpu_devices", 2)
import jaxrnn
from jaxrnn.loops import Deferred, Scan

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


for loop in (Scan(), Deferred(), Deferred(block=5)):
    gradient = jax.jit(jax.grad(lambda p, xs: loss(p, xs, loop), has_aux=True))
    alone, ys_alone = gradient(params, xs)
    args = jax.device_put(params, everywhere), jax.device_put(xs, spread)
    compiled = gradient.lower(*args).compile()
    assert collectives(compiled.as_text()) == {"all-reduce"}, collectives(compiled.as_text())
    forward = jax.jit(lambda p, xs: loss(p, xs, loop)[1]).lower(*args).compile()
    assert not collectives(forward.as_text()), collectives(forward.as_text())
    together, ys = compiled(*args)
    assert ys.sharding.is_equivalent_to(spread, ys.ndim), ys.sharding
    for one, other in zip(jax.tree.leaves((together, ys)), jax.tree.leaves((alone, ys_alone)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
"""


def test_the_batch_stays_spread_over_devices():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
