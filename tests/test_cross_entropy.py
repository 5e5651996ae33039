"""`cross_entropy` against its equation in NumPy and against PyTorch, and under JAX's transformations."""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import _cross_entropy, cross_entropy
from jaxrnn.layers import DenseParams
from tests.support.comparisons import assert_close
from tests.support.inputs import draw

pytestmark = pytest.mark.usefixtures("x64", "quick")
INPUT, SIZE = 3, 7
SHAPES = {"time and batch": (5, 4), "one axis": (11,), "three axes": (2, 3, 4), "none": (), "empty": (0, 4)}


@pytest.fixture
def blocks(monkeypatch):
    """Makes blocks so small that there are several, and the last one is padded."""
    monkeypatch.setattr(_cross_entropy, "ON_CPU", 1)
    monkeypatch.setattr(_cross_entropy, "FEWEST_ROWS", 8)


def arguments(*batch, seed=0):
    rng = np.random.default_rng(seed)
    params = DenseParams(rng.standard_normal((INPUT, SIZE)), rng.standard_normal(SIZE))
    return params, 3 * rng.standard_normal((*batch, INPUT)), rng.integers(0, SIZE, batch)


def reference(params, xs, labels, weights):
    """Returns the loss and its derivatives with respect to params, xs and weights, computed row by row."""
    loss, ct_w, ct_b = 0.0, np.zeros_like(params.w), np.zeros_like(params.b)
    ct_xs, losses = np.zeros_like(xs), np.zeros(labels.shape)
    for n in np.ndindex(labels.shape):
        if weights[n] == 0:
            continue
        y = params.w.T @ xs[n] + params.b
        p = np.exp(y) / np.exp(y).sum()
        losses[n] = -np.log(p[labels[n]])
        loss += weights[n] * losses[n]
        ct = weights[n] * (p - np.eye(SIZE)[labels[n]])
        ct_w += np.outer(xs[n], ct)
        ct_b += ct
        ct_xs[n] = params.w @ ct
    return loss, (DenseParams(ct_w, ct_b), ct_xs, losses)


@pytest.mark.parametrize("batch", SHAPES.values(), ids=SHAPES)
def test_the_mean_and_its_gradient(batch):
    params, xs, labels = arguments(*batch)
    value, grads = jax.value_and_grad(cross_entropy, (0, 1))(params, xs, labels)
    loss, (ct_params, ct_xs, _) = reference(params, xs, labels, np.full(batch, 1 / max(labels.size, 1)))
    assert_close((value, grads), (loss, (ct_params, ct_xs)), rtol=1e-12)
    assert_close(cross_entropy(params, xs, labels), loss, rtol=1e-12)


def test_blocks_add_up(blocks):
    for batch in ((5, 4), (11,)):
        params, xs, labels = arguments(*batch)
        value, grads = jax.value_and_grad(cross_entropy, (0, 1))(params, xs, labels)
        loss, (ct_params, ct_xs, _) = reference(params, xs, labels, np.full(batch, 1 / labels.size))
        assert_close((value, grads), (loss, (ct_params, ct_xs)), rtol=1e-12)
        assert_close(cross_entropy(params, xs, labels), loss, rtol=1e-12)
        assert "scan[" in str(jax.make_jaxpr(cross_entropy)(params, xs, labels))


def test_weights_and_what_they_exclude(blocks):
    params, xs, labels = arguments(5, 4)
    weights = np.random.default_rng(1).standard_normal((5, 4)) * (np.arange(4) < np.arange(1, 6)[:, None] - 1)
    loss, expected = reference(params, xs, labels, weights)
    xs, labels = np.where(weights[..., None] == 0, np.nan, xs), np.where(weights == 0, SIZE, labels)
    value, grads = jax.value_and_grad(cross_entropy, (0, 1, 3))(params, xs, labels, weights)
    assert_close((value, grads), (loss, expected), rtol=1e-12)
    valid = weights != 0
    assert_close(cross_entropy(params, xs, labels, valid), cross_entropy(params, xs, labels, 1.0 * valid))


@pytest.mark.parametrize("label", [-1, SIZE, 255])
def test_a_label_out_of_range_gives_nan(label):
    params, xs, labels = arguments(4)
    labels = labels.astype(np.uint8 if label == 255 else int)
    labels[2] = label
    value, grads = jax.value_and_grad(cross_entropy, (0, 1))(params, xs, labels)
    assert np.isnan(value)
    assert np.isnan(grads[0].w).all()
    assert np.isfinite(grads[1]).all(axis=-1).tolist() == [True, True, False, True]


def test_large_outputs_do_not_overflow():
    params, xs, labels = arguments(6)
    params = DenseParams(0 * params.w, np.array([1e3, 0, -1e3, 0, 0, 0, 0]))
    assert_close(
        jax.value_and_grad(cross_entropy)(params, xs, 0 * labels), (0.0, DenseParams(*(0 * p for p in params)))
    )
    assert_close(cross_entropy(params, xs, 0 * labels + 2), 2e3)


def test_a_bias_of_minus_infinity_excludes_a_label():
    params, xs, labels = arguments(6)
    excluded = params._replace(b=np.append(params.b[:-1], -np.inf))
    without = DenseParams(params.w[:, :-1], params.b[:-1])
    one, other = (jax.value_and_grad(cross_entropy, (0, 1))(p, xs, labels % (SIZE - 1)) for p in (excluded, without))
    assert_close((one[0], one[1][0].w[:, :-1], one[1][1]), (other[0], other[1][0].w, other[1][1]))
    assert not one[1][0].w[:, -1].any()


def plain(params, xs, labels, weights):
    log_p = jax.nn.log_softmax(xs @ params.w + params.b)
    return -(weights * jnp.take_along_axis(log_p, labels[..., None], -1)[..., 0]).sum()


def test_all_derivatives_are_those_of_the_plain_formula(blocks):
    params, xs, labels = arguments(5, 2)
    weights = np.full(labels.shape, 0.3)
    ours, theirs = (lambda p, x, w, f=f: f(p, x, labels, w) for f in (cross_entropy, plain))
    args = params, xs, weights
    for which in (jax.hessian, partial(jax.jacrev, argnums=0), jax.jacfwd, lambda f: jax.jacrev(jax.grad(f, 1), 0)):
        assert_close(jax.jit(which(ours))(*args), jax.jit(which(theirs))(*args), rtol=1e-9)
    assert_close(*(jax.grad(jax.checkpoint(f), (0, 1, 2))(*args) for f in (ours, theirs)), rtol=1e-11)


def test_vmap(blocks):
    models = [arguments(5, 2, seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *models)
    run = jax.value_and_grad(cross_entropy, (0, 1))
    alone = [run(*model) for model in models]
    assert_close(jax.vmap(run)(*stacked), jax.tree.map(lambda *leaves: np.stack(leaves), *alone), rtol=1e-12)
    shared = jax.vmap(run, (None, 0, 0))(models[0][0], *stacked[1:])
    assert_close(shared[0][1], cross_entropy(models[0][0], *models[1][1:]), rtol=1e-12)


def test_half_precision_is_summed_in_single_precision(blocks):
    params, xs, labels = arguments(40, 4)
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), (params, xs))
    value, grads = jax.value_and_grad(cross_entropy, (0, 1))(*half, labels)
    expected = jax.value_and_grad(cross_entropy, (0, 1))(*jax.tree.map(lambda x: x.astype(float), half), labels)
    assert value.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(jnp.bfloat16)}
    assert_close(value, expected[0], rtol=1e-5)
    for one, other in zip(jax.tree.leaves(grads), jax.tree.leaves(expected[1]), strict=True):
        np.testing.assert_allclose(one.astype(float), other, rtol=0.02, atol=0.01 * np.abs(other).max())
    assert cross_entropy(half[0], xs, labels).dtype == jnp.float64


def test_it_is_the_loss_of_a_dense_layer():
    """The gradient also reaches the layers before it."""
    model = jaxrnn.Stack(jaxrnn.GRU(4), jaxrnn.Dense(SIZE))
    params, xs, labels = model.init(jax.random.key(0), INPUT), draw(5, 2, INPUT), arguments(5, 2)[2]

    def loss(params):
        _, hs = jaxrnn.unroll(model.layers[0], params[0], xs)
        return cross_entropy(params[1], hs, labels)

    def of_logits(params):
        log_p = jax.nn.log_softmax(jaxrnn.unroll(model, params, xs)[1])
        return -jnp.take_along_axis(log_p, labels[..., None], -1).mean()

    one, other = (jax.value_and_grad(f)(params) for f in (loss, of_logits))
    assert_close(one, other, rtol=1e-6)


def test_the_outputs_of_a_large_vocabulary_are_never_stored():
    time, batch, size = 512, 8, 20_000
    params = DenseParams(jax.ShapeDtypeStruct((4, size), "float32"), jax.ShapeDtypeStruct((size,), "float32"))
    xs, labels = jax.ShapeDtypeStruct((time, batch, 4), "float32"), jax.ShapeDtypeStruct((time, batch), "int32")
    compiled = jax.jit(jax.grad(cross_entropy)).lower(params, xs, labels).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < time * batch * size * 4 / 5


@pytest.mark.slow
def test_equals_torch():
    torch = pytest.importorskip("torch")
    params, xs, labels = arguments(5, 4)
    value, grads = jax.value_and_grad(cross_entropy, (0, 1))(params, xs, labels)
    w, b, x = (torch.tensor(leaf, requires_grad=True) for leaf in (params.w, params.b, xs))
    loss = torch.nn.functional.cross_entropy((x @ w + b).reshape(-1, SIZE), torch.tensor(labels).reshape(-1))
    loss.backward()
    assert_close((value, grads), (loss.item(), (DenseParams(w.grad.numpy(), b.grad.numpy()), x.grad.numpy())))


SHARDED = """
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

jax.config.update("jax_num_cpu_devices", 2)
import jaxrnn
from jaxrnn import _cross_entropy
from jaxrnn.layers import DenseParams

keys = jax.random.split(jax.random.key(0), 3)
params = DenseParams(jax.random.normal(keys[0], (3, 7)), jnp.ones(7))
xs, labels = jax.random.normal(keys[1], (9, 4, 3)), jax.random.randint(keys[2], (9, 4), 0, 7)
grad = jax.value_and_grad(jaxrnn.cross_entropy, (0, 1))


def on_device(params, xs, labels):
    value, (g, gx) = jax.value_and_grad(lambda *a: jax.lax.pmean(jaxrnn.cross_entropy(*a), "batch"), (0, 1))(
        params, xs, labels
    )
    return value, (g, gx)


for most, fewest in ((2**20, 8), (1, 8)):
    _cross_entropy.ON_CPU, _cross_entropy.FEWEST_ROWS = most, fewest
    jax.clear_caches()
    expected = grad(params, xs, labels)
    results = {}
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((2,), ("batch",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            args = (
                jax.device_put(params, NamedSharding(mesh, P())),
                jax.device_put(xs, NamedSharding(mesh, P(None, "batch"))),
                jax.device_put(labels, NamedSharding(mesh, P(None, "batch"))),
            )
            results[kind] = jax.jit(grad)(*args)
            if kind == AxisType.Auto:
                program = jax.jit(grad).lower(*args).compile().as_text()
                assert "all-gather(" not in program and "all-to-all(" not in program, program
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
    specs = (P(), P(None, "batch"), P(None, "batch"))
    run = jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=(P(), (P(), P(None, "batch"))))
    results["shard_map"] = jax.jit(run)(params, xs, labels)
    for name, result in results.items():
        for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-5, atol=1e-6, err_msg=str(name))
"""


@pytest.mark.slow
def test_a_sharded_batch():
    subprocess.run([sys.executable, "-c", SHARDED], check=True, timeout=300)


@pytest.mark.slow
def test_exports_for_any_time_and_batch():
    params, xs, labels = arguments(5, 4)
    time, batch = jax.export.symbolic_shape("time, batch")
    shapes = jax.ShapeDtypeStruct((time, batch, INPUT), "float64"), jax.ShapeDtypeStruct((time, batch), "int64")
    exported = jax.export.export(jax.jit(partial(cross_entropy, params)))(*shapes)
    artifact = jax.export.deserialize(exported.serialize(vjp_order=1))
    run = partial(cross_entropy, params)
    assert_close(*(jax.value_and_grad(f)(xs, labels) for f in (artifact.call, run)), rtol=1e-12)
