"""Each elementwise operation and reduction of `Native` equals that of XLA, also for extreme values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

pytest.importorskip("llvmlite")

from jaxrnn.loops.native._elementwise import OPERATIONS
from jaxrnn.loops.native._nodes import REDUCTIONS
from jaxrnn.loops.native._scan import UnsupportedError, native_scan, scan_of_zeros

MOST = 2**31 - 1
FLOATS = np.array(
    [
        *(0, -0.0, 1e-20, -1e-20, 0.3, -0.3, 0.5, -0.5, 1, -1, 1.5, -1.5, 2.5, -2.5, 3, -3, 7.95, -7.95, 9, -9),
        *(20, -20, 88, -88, 89, -89, -104, 3e9, -3e9, 1e10, -1e10, 8388609, 1e38, -1e38, np.inf, -np.inf, np.nan),
    ],
    np.float32,
)
OTHERS = np.roll(FLOATS, 5)
INTEGERS = np.resize(np.array([0, 1, -1, 2, -3, 7, 100, MOST, -MOST, -MOST - 1], np.int32), FLOATS.size)
OTHER_INTEGERS = np.resize(np.array([3, 0, -1, 1, -2, 5, MOST], np.int32), FLOATS.size)

OF_FLOATS = {
    "abs": lax.abs,
    "acos": lax.acos,
    "acosh": lax.acosh,
    "asin": lax.asin,
    "asinh": lax.asinh,
    "atan": lax.atan,
    "atanh": lax.atanh,
    "cbrt": lax.cbrt,
    "ceil": lax.ceil,
    "copy": jnp.copy,
    "erf": lax.erf,
    "erfc": lax.erfc,
    "exp": lax.exp,
    "exp2": lax.exp2,
    "expm1": lax.expm1,
    "floor": lax.floor,
    "integer_pow": lambda x: lax.integer_pow(x, 5),
    "integer_pow-2": lambda x: lax.integer_pow(x, -2),
    "is_finite": lax.is_finite,
    "log": lax.log,
    "log1p": lax.log1p,
    "logistic": lax.logistic,
    "neg": lax.neg,
    "one_minus_square": lambda x: 1 - x * x,
    "round away from zero": lax.round,
    "round to even": lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN),
    "rsqrt": lax.rsqrt,
    "sign": lax.sign,
    "sqrt": lax.sqrt,
    "square": lax.square,
    "stop_gradient": lax.stop_gradient,
    "tanh": lax.tanh,
    "derivative of tanh": jax.vmap(jax.grad(lax.tanh)),
    "gelu": jax.nn.gelu,
    "to int32": lambda x: x.astype(jnp.int32),
    "to uint32": lambda x: x.astype(jnp.uint32),
    "to bool": lambda x: x.astype(bool),
    "reduce_precision of nothing": lambda x: lax.reduce_precision(x, 8, 23),
}
OF_SMALL_FLOATS = {  # of the first arguments, because libraries reduce large angles in different ways
    "cos": lax.cos,
    "cosh": lax.cosh,
    "sin": lax.sin,
    "sinh": lax.sinh,
    "tan": lax.tan,
}
OF_TWO_FLOATS = {
    "add": lax.add,
    "atan2": lax.atan2,
    "clamp": lambda x, y: lax.clamp(-1.0, x, y),
    "div": lax.div,
    "eq": lax.eq,
    "ge": lax.ge,
    "gt": lax.gt,
    "le": lax.le,
    "lt": lax.lt,
    "max": lax.max,
    "min": lax.min,
    "mul": lax.mul,
    "ne": lax.ne,
    "pow": lax.pow,
    "rem": lax.rem,
    "select_n": lambda x, y: jnp.where(x < y, x, y),
    "sub": lax.sub,
}
OF_INTEGERS = {
    "abs": lambda x, y: lax.abs(x),
    "and": lax.bitwise_and,
    "clamp": lambda x, y: lax.clamp(-2, x, y),
    "div": lax.div,
    "ge": lax.ge,
    "integer_pow": lambda x, y: lax.integer_pow(x, 3),
    "lt": lax.lt,
    "max": lax.max,
    "min": lax.min,
    "mul": lax.mul,
    "not": lambda x, y: lax.bitwise_not(x),
    "or": lax.bitwise_or,
    "rem": lax.rem,
    "select_n of two": lambda x, y: lax.select_n(x, x, y),
    "select_n of four": lambda x, y: lax.select_n(x, x, y, x + y, x - y),
    "sign": lambda x, y: lax.sign(x),
    "to bool": lambda x, y: x.astype(bool),
    "to float32": lambda x, y: x.astype(jnp.float32),
    "xor": lax.bitwise_xor,
}
OF_UNSIGNED = {
    **{name: OF_INTEGERS[name] for name in ("and", "div", "ge", "lt", "max", "min", "not", "rem", "sign")},
    "clamp": lambda x, y: lax.clamp(jnp.uint32(2), x, y),
}
OF_BOOLEANS = {
    **{name: OF_INTEGERS[name] for name in ("and", "ge", "lt", "max", "min", "not", "or", "to float32", "xor")},
    "select_n": lambda x, y: lax.select_n(x, y, ~x),
}


def reductions(names):
    return {name: lambda x, name=name: getattr(lax, name)(x, (0,)).reshape(1) for name in names}


ARITHMETIC, BITWISE = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod"), ("reduce_and", "reduce_or")
TABLE = [
    (OF_FLOATS, (FLOATS,)),
    (OF_SMALL_FLOATS, (FLOATS[:22],)),
    (OF_TWO_FLOATS, (FLOATS, OTHERS)),
    ({"pow of an integer": lax.pow}, (FLOATS, OTHER_INTEGERS)),
    (OF_INTEGERS, (INTEGERS, OTHER_INTEGERS)),
    (OF_UNSIGNED, (INTEGERS.astype(np.uint32), OTHER_INTEGERS.astype(np.uint32))),
    (OF_BOOLEANS, (INTEGERS > 0, OTHER_INTEGERS > 0)),
    (reductions(ARITHMETIC), (FLOATS[4:14],)),
    (reductions(("reduce_max", "reduce_min")), (FLOATS,)),
    (reductions(("reduce_max", "reduce_min")), (np.full(11, -np.inf, np.float32),)),
    (reductions((*ARITHMETIC, *BITWISE)), (INTEGERS,)),
    (reductions(("reduce_sum", "reduce_max", "reduce_min")), (np.full(11, 5, np.uint32),)),
    (reductions(("reduce_max", "reduce_min")), (np.full(11, 2**31 + 5, np.uint32),)),
    (reductions(BITWISE), (np.full(11, -2, np.int32),)),
    (reductions((*BITWISE, "reduce_max", "reduce_min")), (INTEGERS > 0,)),
]


def all_results(*groups):
    """Returns the results of all functions of `TABLE`."""
    results = []
    for (functions, _), args in zip(TABLE, groups, strict=True):
        results += [function(*args) for function in functions.values()]
    return results


def test_equals_xla():
    groups = [args for _, args in TABLE]
    leaves, tree = jax.tree.flatten(groups)

    def body(shared, state, x):
        return [], all_results(*tree.unflatten(x)), []

    rows = [jnp.asarray(x)[None, None] for x in leaves]
    _, found, _ = jax.jit(lambda xs: native_scan(body, [], [], xs, batch_shape=(1,), time=1, reverse=False))(rows)
    expected = jax.jit(all_results)(*groups)
    names = [name for functions, _ in TABLE for name in functions]
    for name, x, y in zip(names, found, expected, strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x[0, 0], y, rtol=2e-6, atol=1e-37, err_msg=name)


def test_the_table_has_all_operations():
    found = {e.primitive.name for e in jax.make_jaxpr(all_results)(*(args for _, args in TABLE)).eqns}
    # The tracer of a cell writes `one_minus_square`; the others exist only within derivatives and compiled programs.
    elsewhere = {"one_minus_square", "add_any", "copy_p", "optimization_barrier"}
    assert OPERATIONS.keys() | set(REDUCTIONS) <= found | elsewhere


@pytest.mark.parametrize("bits", [(5, 23), (8, 7)])
def test_refuses_to_round_to_fewer_bits(bits):
    def body(shared, state, x):
        return [], [lax.reduce_precision(x[0], *bits)], []

    with pytest.raises(UnsupportedError, match="reduce_precision"):
        scan_of_zeros(body, [], [], [jnp.ones((1, 1, 3))], batch_shape=(1,), time=1, reverse=False)
