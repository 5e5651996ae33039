"""Modules of PyTorch under weight normalization, weight drop and pruning: the weights with which they run."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Stack
from jaxrnn.convert import from_torch
from tests.support.comparisons import assert_close
from tests.support.inputs import draw

pytestmark = pytest.mark.usefixtures("x64", "quick")
INPUT, HIDDEN = 3, 4


def plain_weights(layers=1, suffixes=("",), gates=4, dtype=np.float64):
    rng = np.random.default_rng(0)
    shapes = {}
    for n in range(layers):
        for suffix in suffixes:
            shapes[f"weight_ih_l{n}{suffix}"] = (gates * HIDDEN, len(suffixes) * HIDDEN if n else INPUT)
            shapes[f"weight_hh_l{n}{suffix}"] = (gates * HIDDEN, HIDDEN)
            shapes[f"bias_ih_l{n}{suffix}"] = shapes[f"bias_hh_l{n}{suffix}"] = (gates * HIDDEN,)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def normalized(v, g, dim):
    """The definition: w = g v / |v|, with one norm for each entry of the axis `dim`, or one for all."""
    if dim is None:
        return g * v / np.linalg.norm(v)
    rows = [g.take(n, dim) * v.take(n, dim) / np.linalg.norm(v.take(n, dim)) for n in range(v.shape[dim])]
    return np.stack(rows, dim)


def magnitude(v, dim):
    shape = () if dim is None else tuple(size if axis == dim else 1 for axis, size in enumerate(v.shape))
    return np.random.default_rng(1).standard_normal(shape).astype(v.dtype)


def assert_converts_to(state_dict, plain, rtol=1e-12, **how):
    found, expected = from_torch(state_dict, **how), from_torch(plain)
    assert found[0] == expected[0]
    assert_close(found[1], expected[1], rtol=rtol)


@pytest.mark.parametrize("names", ["{0}_g {0}_v", "parametrizations.{0}.original0 parametrizations.{0}.original1"])
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm(names, dim):
    plain = plain_weights(2, ("", "_reverse"))
    given, expected = {}, {}
    for name, w in plain.items():
        if "weight" in name:
            g = magnitude(w, dim)
            for key, array in zip(names.format(name).split(), (g, w), strict=True):
                given["rnn." + key] = array
            expected[name] = normalized(w, g, dim)
        else:
            given["rnn." + name] = expected[name] = w
    assert_converts_to(given | {"head.weight": np.zeros(2)}, expected, prefix="rnn.")


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_weight_norm_keeps_the_dtype(dtype):
    plain = plain_weights(dtype=dtype)
    w = plain["weight_hh_l0"]
    given = {name: array for name, array in plain.items() if name != "weight_hh_l0"}
    _, params = from_torch(given | {"weight_hh_l0_v": w, "weight_hh_l0_g": 3 * np.ones((4 * HIDDEN, 1), dtype)})
    assert params.w_h.dtype == dtype
    exact = w.astype(float)
    exact = 3 * exact / np.sqrt((exact**2).sum(1, keepdims=True))
    np.testing.assert_allclose(params.w_h.T.astype(float), exact, rtol=2.0**-8 if dtype != np.float32 else 1e-6)


def test_weight_norm_of_zero_is_nan():
    plain = plain_weights()
    zero = {"weight_hh_l0_v": np.zeros((4 * HIDDEN, HIDDEN)), "weight_hh_l0_g": np.ones((4 * HIDDEN, 1))}
    _, params = from_torch({name: w for name, w in plain.items() if name != "weight_hh_l0"} | zero)
    assert np.isnan(params.w_h).all()


@pytest.mark.parametrize("beside", [True, False])  # whether the raw weight is beside its module or within it
@pytest.mark.parametrize("stale", [True, False])  # whether the module also has the weight as it was last dropped
@pytest.mark.parametrize("prefix", ["rnns.0.", "rnns.0.module."])
def test_weight_drop(beside, stale, prefix):
    plain = plain_weights()
    given = {f"rnns.0.module.{name}": w for name, w in plain.items() if name != "weight_hh_l0"}
    given["rnns.0." + ("" if beside else "module.") + "weight_hh_l0_raw"] = plain["weight_hh_l0"]
    if stale:
        given["rnns.0.module.weight_hh_l0"] = 0 * plain["weight_hh_l0"]
    assert_converts_to(given | {"decoder.bias": np.zeros(2)}, plain, prefix=prefix)


def test_a_wrapper_may_be_in_the_names():
    plain = plain_weights()
    assert_converts_to({f"module.{name}": w for name, w in plain.items()}, plain)
    assert_converts_to({f"module.{name}": w for name, w in plain.items()}, plain, prefix="module.")


def test_pruning():
    plain = plain_weights()
    mask = (np.arange(4 * HIDDEN * HIDDEN) % 2.0).reshape(4 * HIDDEN, HIDDEN)
    given = {name: w for name, w in plain.items() if name != "weight_hh_l0"}
    given |= {"weight_hh_l0_orig": plain["weight_hh_l0"], "weight_hh_l0_mask": mask}
    assert_converts_to(given, plain | {"weight_hh_l0": mask * plain["weight_hh_l0"]}, rtol=0)


def without_weight(**others):
    return from_torch({name: w for name, w in plain_weights().items() if name != "weight_hh_l0"} | others)


MATRIX = np.ones((4 * HIDDEN, HIDDEN))
ERRORS = {
    "spectral norm": (
        r"weight drop or pruning, but it holds \['weight_hh_l0_u'\]: .* or torch\.nn\.utils\.remove_spectral_norm",
        lambda: without_weight(weight_hh_l0_orig=MATRIX, weight_hh_l0_u=MATRIX[:, 0], weight_hh_l0_v=MATRIX[0]),
    ),
    "another parametrization": (
        r"but it holds \['parametrizations\.weight_hh_l0\.original'\]: call torch\.nn\.utils\.parametrize",
        lambda: without_weight(**{"parametrizations.weight_hh_l0.original": MATRIX}),
    ),
    "half of a norm": (
        r"state_dict must hold weight_hh_l0, or weight_hh_l0_g and weight_hh_l0_v .* but it holds g$",
        lambda: without_weight(weight_hh_l0_g=MATRIX[:, :1]),
    ),
    "both": (
        "but it holds g, plain, v$",
        lambda: without_weight(weight_hh_l0_g=MATRIX[:, :1], weight_hh_l0_v=MATRIX, weight_hh_l0=MATRIX),
    ),
    "shapes of a norm": (
        r"weight_hh_l0_g must have one size 1 or that of weight_hh_l0_v per axis, but it is \(3, 1\) beside \(16, 4\)$",
        lambda: without_weight(weight_hh_l0_g=MATRIX[:3, :1], weight_hh_l0_v=MATRIX),
    ),
    "the prefix of a norm": (
        r"the prefixes of recurrent weights are \['rnn\.'\]$",
        lambda: from_torch({"rnn.weight_hh_l0_g": 0, "rnn.parametrizations.weight_ih_l0.original0": 0, "fc.w": 0}),
    ),
    "two modules": (
        r"the prefixes of recurrent weights are \['', 'decoder\.'\]$",
        lambda: without_weight(**{"decoder.weight_hh_l0": MATRIX}),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    message, call = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()


# ---- against PyTorch -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("dim", [0, None])
def test_same_outputs_as_pytorch_under_weight_norm(new, dim):
    torch = pytest.importorskip("torch")
    weight_norm = torch.nn.utils.parametrizations.weight_norm if new else torch.nn.utils.weight_norm
    module = torch.nn.LSTM(INPUT, HIDDEN, num_layers=2, bidirectional=True).double()
    for name in [name for name, _ in module.named_parameters() if "weight" in name]:
        weight_norm(module, name, dim=dim)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)  # so that no magnitude is the norm of its weight
    layer, params = from_torch(module.state_dict())
    assert layer == Stack(Bidirectional(LSTM(HIDDEN)), Bidirectional(LSTM(HIDDEN)))
    xs = draw(4, 2, INPUT)
    assert_close(jaxrnn.unroll(layer, params, xs)[1], module(torch.tensor(xs))[0].detach().numpy(), rtol=1e-11)


def test_same_weights_as_pytorch_under_pruning():
    torch = pytest.importorskip("torch")
    prune = __import__("torch.nn.utils.prune", fromlist=["prune"])
    module = torch.nn.GRU(INPUT, HIDDEN).double()
    prune.l1_unstructured(module, "weight_ih_l0", 0.5)
    layer, params = from_torch(module.state_dict())
    assert layer == GRU(HIDDEN)
    assert (np.asarray(params.w_x) == 0).sum() == params.w_x.size // 2
    np.testing.assert_array_equal(params.w_x.T, module.weight_ih_l0.detach())
