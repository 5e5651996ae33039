"""Numerical functions that cells share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.ops import align, as_features, at_last, complex_dtype, convolution, mod_relu, to_complex
from tests.support.inputs import draw

pytestmark = pytest.mark.usefixtures("x64", "quick")
IMAGE = (4, 3)
SHAPES = {1: (5,), 2: IMAGE, 3: (2, 3, 2)}
over_dimensions = pytest.mark.parametrize("shape", SHAPES.values(), ids=[f"{n}-D" for n in SHAPES])


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.complex128])
def test_mod_relu_has_finite_gradients_at_zero(dtype):
    grads = jax.grad(lambda x, b: jnp.abs(mod_relu(x, b) ** 2).sum(), (0, 1))(jnp.zeros(3, dtype), jnp.ones(3))
    assert all(np.isfinite(grad).all() for grad in grads)


@over_dimensions
def test_a_convolution_is_cross_correlation_with_zeros_around(shape):
    """Of a kernel with a single one, all else zeros, the output is the image moved."""
    x = draw(2, *shape, 1)
    for number in (2, 3):
        for at in range(number):
            w = np.zeros((number, *(1,) * (len(shape) - 1), 1, 1))
            w[at] = 1
            moved, offset = np.zeros_like(x), at - (number - 1) // 2
            for n in range(shape[0]):
                if 0 <= n + offset < shape[0]:
                    moved[:, n] = x[:, n + offset]
            np.testing.assert_array_equal(convolution(x, w), moved)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_the_entry_at_the_last_step_of_an_empty_sequence_is_zero(dtype):
    xs = draw(4, 3, 2)
    expected = xs[[0, 0, 3], range(3)] * np.array([[0], [1], [1]])
    np.testing.assert_array_equal(at_last(xs, np.array([0, 1, 4], dtype)), expected)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.uint64])
def test_features_of_symbols_do_not_wrap_around(dtype):
    """Every value of a small dtype may be a symbol, and a value out of range is never a symbol."""
    symbols = np.array([0, 100, np.iinfo(dtype).max], dtype)
    expected = np.zeros((3, 300))
    expected[[0, 1], [0, 100]] = 1
    expected[2] = np.eye(300)[symbols[2]] if symbols[2] < 300 else np.nan
    features = as_features(jnp.asarray(symbols), 300, jnp.float32)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, expected)
    negative = as_features(jnp.array(-1, jnp.int8), 300, jnp.float32)
    assert np.isnan(negative).all()


@pytest.mark.parametrize(
    ("dtype", "joined"), [("bfloat16", "complex64"), ("float32", "complex64"), ("float64", "complex128")]
)
def test_complex_numbers_have_the_precision_of_their_parts(dtype, joined):
    real, imaginary = jnp.asarray([1.5, -2.0], dtype), jnp.asarray([0.5, 4.0], dtype)
    both = to_complex(real, imaginary)
    assert both.dtype == complex_dtype(dtype) == complex_dtype(joined) == joined
    assert both.tolist() == [1.5 + 0.5j, -2 + 4j]
    assert to_complex(real).tolist() == [1.5, -2]


def test_aligned_parameters_add_up_as_numpy_adds():
    x, w, b = draw(4, 2, 3, 5), draw(3, 5), draw(5)
    aligned = align({"w": w, "b": b, "scale": 2.0}, x)
    assert jax.tree.map(jnp.shape, aligned) == {"w": (1, 1, 3, 5), "b": (1, 1, 1, 5), "scale": ()}
    with jax.numpy_rank_promotion("raise"):
        found = aligned["scale"] * (jnp.asarray(x) * aligned["w"]) + aligned["b"]
    np.testing.assert_allclose(found, 2 * (x * w) + b)
