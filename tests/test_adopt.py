"""`adopt` against `jax.lax.scan` over the step as it is: of Flax, Haiku, Equinox, and written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import adopt, loops
from tests.support.comparisons import assert_close
from tests.support.inputs import draw
from tests.support.tiers import slow, slow_but

pytestmark = pytest.mark.usefixtures("x64", "quick")
TIME, BATCH, INPUT, HIDDEN = 6, 3, 5, 4
KEY = jax.random.key(0)
XS = draw(TIME, BATCH, INPUT)


def weights(*shape, seed=0):
    return jnp.asarray(0.5 * draw(*shape, seed=seed))


def zeros(params, batch_shape):
    return jnp.zeros((*batch_shape, HIDDEN))


def of_linen(name):
    nn = pytest.importorskip("flax.linen")
    cell = getattr(nn, name)(HIDDEN, param_dtype=jnp.float64)

    def first(params, batch_shape):
        return cell.initialize_carry(KEY, (*batch_shape, INPUT))

    params = cell.init(KEY, first(None, (BATCH,)), XS[0])
    return cell.apply, first, jax.tree.map(lambda w: w + 0.3, params), True


def of_nnx(name):
    nnx = pytest.importorskip("flax.nnx")
    cell = getattr(nnx, name)(INPUT, HIDDEN, dtype=jnp.float64, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    graph, params = nnx.split(cell)

    def step(params, state, x):
        return nnx.merge(graph, params)(state, x)

    def first(params, batch_shape):
        return cell.initialize_carry((*batch_shape, INPUT), nnx.Rngs(0))

    return step, first, params, True


def of_haiku(name):
    hk = pytest.importorskip("haiku")
    step = hk.without_apply_rng(hk.transform(lambda x, state: getattr(hk, name)(HIDDEN)(x, state)))
    begin = hk.without_apply_rng(hk.transform(lambda: getattr(hk, name)(HIDDEN).initial_state(None)))

    def first(params, batch_shape):
        state = begin.apply({})
        return jax.tree.map(lambda s: jnp.broadcast_to(s, (*batch_shape, HIDDEN)).astype(jnp.float64), state)

    params = step.init(KEY, XS[0], first(None, (BATCH,)))
    params = jax.tree.map(lambda w: w.astype(jnp.float64) + 0.3, params)
    return lambda params, state, x: step.apply(params, x, state)[::-1], first, params, True


def of_equinox(name):
    eqx = pytest.importorskip("equinox")
    cell = getattr(eqx.nn, name)(INPUT, HIDDEN, key=KEY, dtype=jnp.float64)
    if name == "GRUCell":
        return lambda cell, h, x: (cell(x, h),) * 2, zeros, cell, False

    def step(cell, state, x):
        state = cell(x, state)
        return state, state[0]

    return step, lambda params, batch_shape: (zeros(params, batch_shape),) * 2, cell, False


def layer_norm_peephole_lstm():
    """Input and state side by side, a norm inside, peepholes, products that can be one, and an output layer."""
    w, p, v = weights(INPUT + HIDDEN, 4 * HIDDEN), weights(3, HIDDEN, seed=1), weights(HIDDEN, 2, seed=2)

    def norm(a):
        return (a - a.mean(-1, keepdims=True)) / jnp.sqrt(a.var(-1, keepdims=True) + 1e-5)

    def step(params, state, x):
        h, c = state["h"], state["c"]
        i, f, g, o = jnp.split(norm(jnp.concatenate([h, x], -1) @ params["w"]), 4, -1)
        c = jax.nn.sigmoid(f + 1 + params["p"][0] * c) * c + jax.nn.sigmoid(i + params["p"][1] * c) * jnp.tanh(g)
        h = jax.nn.sigmoid(o + params["p"][2] * c) * jnp.tanh(norm(c))
        return {"h": h, "c": c}, (h @ params["v"], {"x": x.sum(-1)})

    def first(params, batch_shape):
        return {"h": zeros(params, batch_shape), "c": zeros(params, batch_shape)}

    return step, first, {"w": w, "p": p, "v": v}, True


def output_before_update():
    """An output that no state after the step tells."""

    def step(params, state, x):
        gate = jax.nn.sigmoid(jnp.concatenate([x, state, x], -1) @ params["w"])
        return gate * state + jnp.tanh(x @ params["u"]), (gate * state) @ params["v"]

    params = {"w": weights(2 * INPUT + HIDDEN, HIDDEN), "u": weights(INPUT, HIDDEN), "v": weights(HIDDEN, HIDDEN)}
    return step, zeros, params, True


STEPS = {
    **{f"linen {n}": (of_linen, n) for n in ("LSTMCell", "OptimizedLSTMCell", "GRUCell", "MGUCell", "SimpleCell")},
    **{f"nnx {n}": (of_nnx, n) for n in ("LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell")},
    **{f"haiku {n}": (of_haiku, n) for n in ("LSTM", "GRU", "VanillaRNN")},
    **{f"equinox {n}": (of_equinox, n) for n in ("LSTMCell", "GRUCell")},
    "layer norm": (layer_norm_peephole_lstm,),
    "output before": (output_before_update,),
}


def scanned(step, batched):
    def run(params, state, xs):
        return jax.lax.scan(lambda s, x: (step if batched else jax.vmap(step, (None, 0, 0)))(params, s, x), state, xs)

    return run


def value_and_gradients(run, params, state, xs):
    def loss(params, state, xs):
        out = run(params, state, xs)
        terms = [
            (jnp.sin(leaf) * jnp.arange(1, leaf.size + 1).reshape(leaf.shape)).sum() for leaf in jax.tree.leaves(out)
        ]
        return sum(terms), out

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(params, state, xs)


@pytest.mark.parametrize("name", slow_but(STEPS, ["linen GRUCell", "nnx LSTMCell", "layer norm"]))
def test_equals_scan(name):
    make, *arguments = STEPS[name]
    step, first, params, batched = make(*arguments)
    cell = adopt(step, first, batched=batched)
    state = jax.tree.map(lambda s: s + draw(*s.shape), first(params, (BATCH,)))
    expected = value_and_gradients(scanned(step, batched), params, state, XS)
    for loop in (loops.Scan(), loops.Deferred(checkpoint_every=4)):
        found = value_and_gradients(
            lambda p, s, xs, loop=loop: jaxrnn.unroll(cell, p, xs, s, loop=loop), params, state, XS
        )
        assert_close(found, expected, rtol=1e-9)


MATRIX, TABLE, PAIR = draw(HIDDEN, HIDDEN), draw(INPUT + HIDDEN + 2, HIDDEN), np.array([[1.0, 2.0]])


def pair(s):
    return jnp.broadcast_to(PAIR, (s.shape[0], 2))


SUMS = {  # of steps `(w, s, x) -> (tanh(sum), s)`, with constants in their closures
    "product": lambda w, s, x: s @ MATRIX + x @ TABLE[:INPUT],
    "products": lambda w, s, x: s @ jnp.asarray(MATRIX) + s @ w[:HIDDEN],
    "einsum": lambda w, s, x: jnp.einsum("bi,ji->bj", s, MATRIX) + x @ w[:INPUT],
    "joined": lambda w, s, x: jnp.concatenate([x, s, pair(s)], -1) @ w,
    "joined without the input": lambda w, s, x: jnp.concatenate([pair(s), s], -1) @ w[INPUT:],
    "joined, times a constant": lambda w, s, x: jnp.concatenate([x, pair(s), s], -1) @ TABLE + w[0],
    "lookup": lambda w, s, x: jnp.asarray(TABLE)[(s[:, 0] > 0).astype(int)] + s * w[0],
    "branch": lambda w, s, x: jax.lax.cond(w[0, 0] > 0, lambda: s @ MATRIX, lambda: -s @ MATRIX),
    "of the state": lambda w, s, x: s @ w[:HIDDEN],
    "of the input": lambda w, s, x: x @ w[:INPUT],
    "of parameters": lambda w, s, x: jnp.broadcast_to(w[0], s.shape),
    "of nothing": lambda w, s, x: jnp.broadcast_to(MATRIX[0], s.shape),
}
CONSTANTS = {  # step, initial state, batched
    **{name: (lambda w, s, x, f=f: (jnp.tanh(f(w, s, x)), s), zeros, True) for name, f in SUMS.items()},
    "column": (lambda w, s, x: (jnp.tanh(MATRIX @ s + w[:INPUT].T @ x), 2.0), zeros, False),
    "joined column": (lambda w, s, x: (jnp.tanh(w.T @ jnp.concatenate([x, s, PAIR[0]])), s), zeros, False),
    "no output": (lambda w, s, x: (jnp.tanh(s @ MATRIX + w[0]), None), zeros, True),
    "constant output": (lambda w, s, x: (s * w[0], pair(s)), zeros, True),
    "no state": (lambda w, s, x: ((), jnp.tanh(x @ w[:INPUT] @ MATRIX)), lambda w, batch_shape: (), True),
    "neither": (lambda w, s, x: ((), pair(x) * w[0, 0]), lambda w, batch_shape: (), True),
}


@pytest.mark.parametrize(
    "loop", slow_but([loops.Scan(checkpoint_every=4), loops.Deferred(), loops.Deferred(block=4)], [loops.Deferred()])
)
def test_constants_and_steps_that_ignore_something(loop):
    def of_all(run):  # in one program
        return lambda params, state, xs: {
            name: run(*case)(params[name], state[name], xs[name]) for name, case in CONSTANTS.items()
        }

    def unrolled(step, first, batched):
        return lambda w, s, xs: jaxrnn.unroll(adopt(step, first, batched=batched), w, xs, s, loop=loop)

    params = dict.fromkeys(CONSTANTS, weights(INPUT + HIDDEN + 2, HIDDEN))
    xs = dict.fromkeys(CONSTANTS, jnp.asarray(XS))
    state = {
        name: jax.tree.map(lambda s: s + draw(*s.shape), first(None, (BATCH,)))
        for name, (_, first, _) in CONSTANTS.items()
    }
    expected = value_and_gradients(of_all(lambda step, first, batched: scanned(step, batched)), params, state, xs)
    assert_close(value_and_gradients(of_all(unrolled), params, state, xs), expected, rtol=1e-9)


class Clock(jaxrnn.Cell):
    """Ignores its input."""

    def init(self, key, input_size):
        return jnp.ones(())

    def initial_state(self, params, batch_shape=(), dtype=None):
        return jnp.zeros((*batch_shape, 1), dtype)

    def project(self, params, x, key=None):
        return None

    def step(self, params, state, z):
        return state + params

    def readout(self, params, state, z):
        return state


@pytest.mark.parametrize("loop", [loops.Scan(), slow(loops.Deferred()), loops.Deferred(block=2, checkpoint_every=4)])
def test_a_cell_may_ignore_its_input(loop):
    resets = np.arange(TIME * BATCH).reshape(TIME, BATCH) == 10  # of the second sequence, at step 3
    lengths = np.array([TIME, TIME, 2])

    def last(params):
        return jaxrnn.unroll(Clock(), params, XS, lengths=lengths, resets=resets, key=KEY, loop=loop)[0][:, 0]

    expected = np.array([TIME, 3, 2])
    assert_close(last(jnp.ones(())), expected)
    assert_close(jax.jacrev(last)(jnp.ones(())), expected)


def scans(jaxpr):
    """The bodies of all loops of a program, as they are written."""
    for eqn in jaxpr.eqns:
        inner = [value for value in eqn.params.values() if hasattr(value, "jaxpr")]
        yield from [str(each) for each in inner] if eqn.primitive.name == "scan" else ()
        yield from (body for each in inner for body in scans(each.jaxpr))


def in_the_loop(step, params):
    """How many products the body of the loop over time has."""
    run = jax.make_jaxpr(lambda p, xs: jaxrnn.unroll(adopt(step, zeros), p, xs))(params, XS)
    (body,) = scans(run.jaxpr)
    return body.count("dot_general[")


def test_what_needs_no_state_is_not_in_the_loop():
    params = {"w": weights(INPUT + HIDDEN, HIDDEN), "u": weights(HIDDEN, HIDDEN), "v": weights(HIDDEN, 2)}

    def joined(p, h, x):
        h = jnp.tanh(jnp.concatenate([x, h], -1) @ p["w"])
        return h, h @ p["v"]  # the output is made after the loop

    def apart(p, h, x):
        w = p["w"] @ p["u"]  # of parameters alone
        h = jnp.tanh(x @ w[:INPUT] + h @ w[INPUT:] + h @ p["u"])
        return h, h

    assert in_the_loop(joined, params) == 1
    assert in_the_loop(apart, params) == 1  # of the state, with both


@pytest.mark.parametrize(
    "options", [slow({"reverse": True}), {"lengths": np.array([6, 0, 2])}, slow({"resets": draw(TIME, BATCH) > 0.5})]
)
def test_in_the_whole_of_unroll(options):
    """Against the same equation as a cell of ours."""
    ours = jaxrnn.Elman(HIDDEN)
    params = ours.init(KEY, INPUT)

    def step(p, h, x):
        h = jnp.tanh(x @ p.w_x + h @ p.w_h + p.b)
        return h, h

    cell = adopt(step, zeros, ours.init)
    xs = XS.copy()
    if "lengths" in options:
        xs[2:, 2] = np.nan
    expected = value_and_gradients(lambda p, s, xs: jaxrnn.unroll(ours, p, xs, **options)[1], params, None, xs)
    assert_close(
        value_and_gradients(lambda p, s, xs: jaxrnn.unroll(cell, p, xs, **options)[1], params, None, xs), expected
    )
    layer = jaxrnn.Stack(
        cell, jaxrnn.Zoneout(cell, rate=0.3), jaxrnn.Bidirectional(cell, backward=jaxrnn.RecurrentDropout(cell, 0.5))
    )
    wanted = jaxrnn.Stack(
        ours, jaxrnn.Zoneout(ours, rate=0.3), jaxrnn.Bidirectional(ours, backward=jaxrnn.RecurrentDropout(ours, 0.5))
    )
    params = wanted.init(KEY, INPUT)
    assert_close(layer.init(KEY, INPUT), params)
    for key in (None, KEY):
        expected = jaxrnn.unroll(wanted, params, xs, key=key, **options)[1]
        assert_close(jaxrnn.unroll(layer, params, xs, key=key, **options)[1], expected)


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_any_batch_axes(batch):
    step, first, params, _ = layer_norm_peephole_lstm()
    xs = draw(TIME, *batch, INPUT)
    flat = xs.reshape(TIME, -1, INPUT)
    expected = scanned(step, True)(params, first(params, flat.shape[1:2]), flat)
    expected = (
        jax.tree.map(lambda a: a.reshape(*batch, *a.shape[1:]), expected[0]),
        jax.tree.map(lambda a: a.reshape(TIME, *batch, *a.shape[2:]), expected[1]),
    )
    assert_close(jaxrnn.unroll(adopt(step, first), params, xs), expected)


def test_no_steps():
    step, first, params, _ = output_before_update()
    state, ys = jaxrnn.unroll(adopt(step, first), params, XS[:0])
    assert ys.shape == (0, BATCH, HIDDEN)
    assert_close(state, first(params, (BATCH,)))


def test_control_flow_random_keys_and_effects(capfd):
    def step(params, state, x):
        keys, h = state
        keys, drawn = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        noise = jax.vmap(lambda key: jax.random.normal(key, (HIDDEN,)))(drawn)
        jax.debug.print("a step")
        h = jax.lax.fori_loop(0, 3, lambda _, h: jnp.tanh(h @ params), h + noise)
        h = jnp.where(jax.lax.cond(x.sum() > 1e9, lambda: 1.0, lambda: 0.0) > 0, h, h + x[:, :HIDDEN])
        return (keys, h), h

    def first(params, batch_shape):
        count = int(np.prod(batch_shape))
        return jax.random.split(KEY, count).reshape(batch_shape), zeros(params, batch_shape)

    params, state = weights(HIDDEN, HIDDEN), first(None, (BATCH,))
    (_, h), expected = scanned(step, True)(params, state, XS)
    for loop in (loops.Scan(), loops.Deferred()):
        (_, last), ys = jaxrnn.unroll(adopt(step, first), params, XS, state, loop=loop)
        assert_close((last, ys), (h, expected))
    jax.effects_barrier()
    assert capfd.readouterr().out.count("a step") >= 2 * TIME

    def loss(run):
        return jax.grad(lambda p: (run(p)[1] ** 2).sum())(params)

    found = loss(lambda p: jaxrnn.unroll(adopt(step, first), p, XS, state))
    assert_close(found, loss(lambda p: scanned(step, True)(p, state, XS)))


def test_a_value():
    step, first, params, _ = layer_norm_peephole_lstm()
    assert adopt(step, first) == adopt(step, first)
    assert hash(adopt(step, first)) == hash(adopt(step, first))
    run = jax.jit(jaxrnn.unroll, static_argnums=0)
    for _ in range(2):
        run(adopt(step, first), params, XS)
    assert run._cache_size() == 1


def test_errors():
    step, first, params, _ = output_before_update()
    with pytest.raises(TypeError, match="cannot draw parameters: call adopt with init"):
        adopt(step, first).init(KEY, INPUT)
    with pytest.raises(
        TypeError, match="must depend only on its input and the state after the step if a wrapper changes this state"
    ):
        jaxrnn.unroll(jaxrnn.Zoneout(adopt(step, first)), params, XS)
    with pytest.raises(TypeError, match=r"must return \(state, y\), but it returned PyTreeDef"):
        jaxrnn.unroll(adopt(lambda p, s, x: s, zeros), params, XS)
    with pytest.raises(TypeError, match="must have the structure of the one it took"):
        jaxrnn.unroll(adopt(lambda p, s, x: ((s, s), s), zeros), params, XS)
    with pytest.raises(ValueError, match=r"must keep its shapes, but \(1, 4\) became \(1, 2\)"):
        jaxrnn.unroll(adopt(lambda p, s, x: (s[:, :2], s), zeros), params, XS)
    with pytest.raises(ValueError, match="must begin with the batch shape"):
        jaxrnn.unroll(adopt(step, lambda p, b: jnp.zeros(HIDDEN)), params, XS)
    with pytest.raises(ValueError, match=r"must begin with the batch axis, .* has the shape \(4,\) for a batch of one"):
        jaxrnn.unroll(adopt(lambda p, s, x: (s, s.mean(0)), zeros), params, XS)
    with pytest.raises(TypeError, match=r"not among its arguments, .*: pass them as a part of params"):
        jax.jit(lambda w: jaxrnn.unroll(adopt(lambda p, s, x: (s * w, s), zeros), params, XS))(2.0)
