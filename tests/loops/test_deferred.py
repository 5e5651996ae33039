"""`Deferred`: its derivatives, and that the gradients of weights stay out of the loop."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

import jaxrnn
from jaxrnn.loops import Deferred, Scan
from jaxrnn.loops._prefetch import prefetching_scan
from tests.support.comparisons import assert_close
from tests.support.inputs import INPUT, draw, draw_params

pytestmark = pytest.mark.usefixtures("x64", "quick")
CELL = jaxrnn.PeepholeLSTM(4)
TIME, BATCH = 6, 3


def loss(params, xs, loop=Deferred(), cell=CELL, key=None):
    return (jaxrnn.unroll(cell, params, xs, loop=loop, key=key)[1] ** 2).sum()


@pytest.mark.parametrize("key", [None, jax.random.key(0)], ids=["no key", "key"])
def test_vmap_over_seeds(key):
    params = [draw_params(CELL, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    xs = draw(TIME, BATCH, INPUT)
    cell = jaxrnn.Zoneout(CELL, rate=0.5)
    together = jax.vmap(jax.grad(partial(loss, cell=cell, key=key)), in_axes=(0, None))(stacked, xs)
    alone = [jax.grad(loss)(p, xs, Scan(), cell, key) for p in params]
    assert_close(together, jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone), rtol=1e-9)


@pytest.mark.slow
def test_second_derivatives():
    cell = jaxrnn.GRU(2)
    params, xs = draw_params(cell), draw(3, 1, INPUT)
    for twice in (lambda f: jax.jacrev(jax.grad(f)), jax.hessian):
        one, other = (twice(lambda p, loop=loop: loss(p, xs, loop, cell))(params) for loop in (Deferred(), Scan()))
        assert_close(one, other, rtol=1e-9)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_forward_mode_names_scan(wrap):
    params, xs = draw_params(CELL), draw(TIME, BATCH, INPUT)
    with pytest.raises(TypeError, match=r"no forward-mode derivative: call unroll with loop=jaxrnn\.loops\.Scan\(\)"):
        wrap(lambda p: jax.jvp(lambda p: loss(p, xs), (p,), (p,)))(params)
    with pytest.raises(TypeError, match=r"no forward-mode derivative: call unroll with loop=jaxrnn\.loops\.Scan\(\)"):
        wrap(jax.jacfwd(lambda p: loss(p, xs, Deferred(block=4))))(params)
    _, tangent = jax.jvp(lambda p: loss(p, xs, Scan()), (params,), (params,))
    products = jax.tree.map(lambda g, p: (g * p).sum(), jax.grad(loss)(params, xs), params)
    assert_close(tangent, sum(jax.tree.leaves(products)), rtol=1e-9)


SOLVES = re.compile(r"\b(lu|triangular_solve)\b")


def scans(jaxpr):
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "scan":
            yield eqn
        for value in eqn.params.values():
            if isinstance(value, ClosedJaxpr | Jaxpr):
                yield from scans(getattr(value, "jaxpr", value))


@pytest.mark.parametrize("cell", [jaxrnn.LSTM(4), jaxrnn.GRU(4), jaxrnn.ResetBeforeGRU(4)], ids=str)
def test_no_weight_gradient_is_carried_and_no_product_is_repeated(cell):
    params, xs = draw_params(cell), draw(TIME, 2 * BATCH, INPUT)
    number = {}
    for loop in (Deferred(), Scan()):
        found = list(scans(jax.make_jaxpr(jax.grad(lambda p, loop=loop: loss(p, xs, loop, cell)))(params).jaxpr))
        bodies = [str(eqn.params["jaxpr"]) for eqn in found]
        number[loop] = sum(body.count("= dot_general[") for body in bodies)
        carried = {var.aval.shape for eqn in found for var in eqn.outvars}  # what is stacked has more axes
        weights = {leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 2}
        assert bool(carried & weights) == isinstance(loop, Scan)
    products = 2 if isinstance(cell, jaxrnn.ResetBeforeGRU) else 1
    assert number == {Deferred(): 2 * products, Scan(): 3 * products}


@pytest.mark.parametrize("cell", [jaxrnn.GRU(4), jaxrnn.Zoneout(jaxrnn.GRU(4), rate=0.5)], ids=str)
def test_with_a_key_the_gradient_of_an_input_weight_is_one_product(cell):
    """Steps have keys of their own, and are projected by `jax.vmap`: not one product per step, summed."""
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)

    def products(key):
        run = jax.grad(lambda p: jaxrnn.unroll(cell, p, xs, key=key)[1].sum())
        return sorted(re.findall(r"(\[[\d,]*\]) = dot_general", str(jax.make_jaxpr(run)(params))))

    assert f"[{INPUT},12]" in products(None)
    assert products(jax.random.key(0)) == products(None)


@pytest.mark.parametrize("cell", [jaxrnn.ScoRNN(4), jaxrnn.ExpRNN(4)], ids=lambda cell: type(cell).__name__)
def test_what_parameters_alone_make_is_made_outside_the_loop(cell):
    """An orthogonal matrix is found by solving equations: once, not at every step."""
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    solved = {}
    for loop in (Deferred(), Scan()):
        jaxpr = jax.make_jaxpr(jax.grad(lambda p, loop=loop: loss(p, xs, loop, cell)))(params)
        inside = "".join(str(eqn.params["jaxpr"]) for eqn in scans(jaxpr.jaxpr))
        assert SOLVES.search(str(jaxpr))
        solved[loop] = bool(SOLVES.search(inside))
    assert solved == {Deferred(): False, Scan(): True}


@pytest.mark.parametrize(
    ("cell", "kept"), [(jaxrnn.Elman(4), 4), (jaxrnn.LSTM(4), 16), (jaxrnn.GRU(4), 16), (jaxrnn.ResetBeforeGRU(4), 12)]
)
def test_sums_are_kept_instead_of_their_terms(cell, kept):
    """Beside the states: of an LSTM one array for all gates, of a GRU r, z and the two parts of n."""
    params, xs = draw_params(cell), draw(TIME, BATCH, INPUT)
    _, pull = jax.vjp(lambda p: jaxrnn.unroll(cell, p, xs)[1], params)
    sizes = sum(leaf.size for leaf in jax.tree.leaves(pull) if leaf.shape[:2] == (TIME, BATCH))
    states = 4 * (len(jax.tree.leaves(cell.initial_state(params))))
    assert sizes == TIME * BATCH * (kept + states + INPUT)


@pytest.mark.parametrize("length", [0, 1, 2, 5])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("unroll", [1, 3])
def test_prefetching_scan_is_a_scan(length, reverse, unroll):
    xs = {"a": draw(length, 3), "none": None, "n": jnp.arange(length)}

    def body(carry, x):
        carry = jnp.sin(carry + x["a"]) * (1 + x["n"])
        return carry, (carry, x["n"])

    ours, theirs = (
        loop(body, jnp.ones(3), xs, length, reverse=reverse, unroll=unroll) for loop in (prefetching_scan, jax.lax.scan)
    )
    assert_close(ours, theirs, rtol=1e-12)


def test_checkpoints_and_blocks_bound_the_memory_of_long_sequences():
    """At a length at which keeping all would take more than what the inputs and outputs themselves take."""
    cell, time, batch = jaxrnn.LSTM(256), 4096, 8
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), 64))
    symbols = jax.ShapeDtypeStruct((time, batch), jnp.int32)

    def temporaries(loop):
        gradient = jax.jit(jax.grad(lambda params, xs: loss(params, xs, loop, cell)))
        return gradient.lower(params, symbols).compile().memory_analysis().temp_size_in_bytes

    outputs = time * batch * 256 * 8  # float64
    kept = temporaries(Deferred())
    assert kept < temporaries(Scan()) / 2
    assert temporaries(Deferred(checkpoint_every=256)) < 2.3 * outputs < kept


@pytest.mark.slow
def test_exports_for_any_time_and_batch():
    """Symbolic sizes cannot be compared with numbers."""
    layer = jaxrnn.Stack(jaxrnn.Bidirectional(jaxrnn.GRU(4)), jaxrnn.LSTM(3))
    params = layer.init(jax.random.key(0), INPUT)
    run = jax.jit(lambda xs, lengths: jaxrnn.unroll(layer, params, xs, lengths=lengths)[1])
    time, batch = jax.export.symbolic_shape("time, batch")
    shapes = jax.ShapeDtypeStruct((time, batch, INPUT), "float64"), jax.ShapeDtypeStruct((batch,), "int64")

    def squares(which, xs, lengths):
        return (which(xs, lengths) ** 2).sum()

    artifact = jax.export.deserialize(jax.export.export(run)(*shapes).serialize(vjp_order=1))
    for size in ((5, 2), (1, 1)):
        xs, lengths = draw(*size, INPUT), np.arange(1, size[1] + 1)
        assert_close(artifact.call(xs, lengths), run(xs, lengths))
        one, other = (jax.grad(squares, 1)(which, xs, lengths) for which in (artifact.call, run))
        assert_close(one, other)
