"""Elementwise operations of JAX on vectors of lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxrnn.loops.native._code import ELEMENT, F32, I32, Code

Operation = Callable[..., Any]  # (code, node, *operands) -> vector
OPERATIONS: dict[str, Operation] = {}

TANH_NUMERATOR = (
    *(-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08),
    *(1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03),
)
TANH_DENOMINATOR = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


def operation(*names: str) -> Callable[[Operation], Operation]:
    def register(function: Operation) -> Operation:
        OPERATIONS.update(dict.fromkeys(names, function))
        return function

    return register


def polynomial(c: Code, x: Any, coefficients: tuple[float, ...]) -> Any:
    """Evaluates a polynomial, highest power first."""
    total = c.constant(coefficients[0])
    for a in coefficients[1:]:
        total = c.fma(total, x, c.constant(a))
    return total


@operation("tanh")
def tanh(c: Code, node: Any, x: Any) -> Any:
    """A rational function of the clamped argument. At the bounds it is exactly 1 or -1, so the derivative is 0."""
    x = _clamp(c, x, -7.99881172180175781, 7.99881172180175781)
    x2 = c.b.fmul(x, x)
    numerator = c.b.fmul(x, polynomial(c, x2, TANH_NUMERATOR))
    return c.b.fdiv(numerator, polynomial(c, x2, TANH_DENOMINATOR))


@operation("exp")
def exp(c: Code, node: Any, x: Any) -> Any:
    """Computes 2**n * p(r) with x = n log 2 + r. 2**n is applied as two factors, because it may overflow."""
    p, n = _exp_parts(c, _clamp(c, x, -105.0, 90.0))
    half = c.b.ashr(n, c.constant(1, "int32"))
    return c.b.fmul(c.b.fmul(p, _power_of_two(c, half)), _power_of_two(c, c.b.sub(n, half)))


def _clamp(c: Code, x: Any, low: float, high: float) -> Any:
    """Returns the nearest number in an interval; NaN stays NaN, because it fails both comparisons."""
    x = c.b.select(c.b.fcmp_ordered(">", x, c.constant(high)), c.constant(high), x)
    return c.b.select(c.b.fcmp_ordered("<", x, c.constant(low)), c.constant(low), x)


def _exp_parts(c: Code, x: Any) -> tuple[Any, Any]:
    """Returns p and n with exp(x) = p * 2**n; p is NaN if x is.

    Adding 1.5 * 2**23 rounds x / log 2 to the integer n, because floats of that size are integers. The last bits of the
    sum are n.
    """
    rounding = c.constant(1.5 * 2**23)
    rounded = c.fma(x, c.constant(1.44269504088896341), rounding)
    n = c.b.fsub(rounded, rounding)
    r = c.fma(n, c.constant(-0.693359375), x)
    r = c.fma(n, c.constant(2.12194440e-4), r)
    p = c.fma(polynomial(c, r, EXP), c.b.fmul(r, r), c.b.fadd(r, c.constant(1.0)))
    bits = c.b.sub(c.b.bitcast(rounded, c.vector(I32)), c.b.bitcast(rounding, c.vector(I32)))
    return p, bits


def _power_of_two(c: Code, n: Any) -> Any:
    biased = c.b.shl(c.b.add(n, c.constant(127, "int32")), c.constant(23, "int32"))
    return c.b.bitcast(biased, c.vector(F32))


@operation("logistic")
def logistic(c: Code, node: Any, x: Any) -> Any:
    one = c.constant(1.0)
    p, n = _exp_parts(c, _clamp(c, c.b.fneg(x), -87.0, 88.5))  # at 88.5, 2**n is infinite
    return c.b.fdiv(one, c.fma(p, _power_of_two(c, n), one))


def _is_float(node: Any) -> bool:
    return node.dtype == "float32"


@operation("add", "add_any")
def add(c: Code, node: Any, x: Any, y: Any) -> Any:
    return c.b.fadd(x, y) if _is_float(node) else c.b.add(x, y)


@operation("sub")
def sub(c: Code, node: Any, x: Any, y: Any) -> Any:
    return c.b.fsub(x, y) if _is_float(node) else c.b.sub(x, y)


@operation("mul")
def mul(c: Code, node: Any, x: Any, y: Any) -> Any:
    return c.b.fmul(x, y) if _is_float(node) else c.b.mul(x, y)


@operation("div")
def div(c: Code, node: Any, x: Any, y: Any) -> Any:
    return c.b.fdiv(x, y) if _is_float(node) else _divide(c, node, x, y)[0]


@operation("rem")
def rem(c: Code, node: Any, x: Any, y: Any) -> Any:
    return c.per_lane("fmodf", x, y) if _is_float(node) else _divide(c, node, x, y)[1]


def _divide(c: Code, node: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Returns quotient and remainder of integers, with XLA's results where the processor would raise an exception."""
    zero, one = c.constant(0, node.dtype), c.constant(1, node.dtype)
    by_zero = c.b.icmp_unsigned("==", y, zero)
    if node.dtype != "int32":
        y = c.b.select(by_zero, one, y)
        quotient, remainder = c.b.udiv(x, y), c.b.urem(x, y)
    else:
        by_minus_one = c.b.icmp_unsigned("==", y, c.constant(-1, "int32"))  # overflows for the smallest number
        y = c.b.select(c.b.or_(by_zero, by_minus_one), one, y)
        quotient = c.b.select(by_minus_one, c.b.neg(x), c.b.sdiv(x, y))
        remainder = c.b.select(by_minus_one, zero, c.b.srem(x, y))
    all_ones = c.b.not_(zero)
    return c.b.select(by_zero, all_ones, quotient), c.b.select(by_zero, x, remainder)


@operation("neg")
def neg(c: Code, node: Any, x: Any) -> Any:
    return c.b.fneg(x) if _is_float(node) else c.b.neg(x)


@operation("max")
def largest(c: Code, node: Any, x: Any, y: Any) -> Any:
    if _is_float(node):
        return c.intrinsic("maximum", x, y)  # NaN propagates
    return c.b.select(_compare_integers(c, node.dtype)(">", x, y), x, y)


@operation("min")
def smallest(c: Code, node: Any, x: Any, y: Any) -> Any:
    if _is_float(node):
        return c.intrinsic("minimum", x, y)
    return c.b.select(_compare_integers(c, node.dtype)("<", x, y), x, y)


def _compare_integers(c: Code, dtype: str) -> Callable[[str, Any, Any], Any]:
    return c.b.icmp_signed if dtype == "int32" else c.b.icmp_unsigned


@operation("square")
def square(c: Code, node: Any, x: Any) -> Any:
    return mul(c, node, x, x)


@operation("one_minus_square")
def one_minus_square(c: Code, node: Any, x: Any) -> Any:
    return c.b.fsub(c.constant(1.0), c.b.fmul(x, x))


@operation("integer_pow")
def integer_pow(c: Code, node: Any, x: Any) -> Any:
    power = node.params["y"]
    result, base, n = c.constant(1, node.dtype), x, abs(power)
    while n:
        if n % 2:
            result = mul(c, node, result, base)
        base, n = mul(c, node, base, base), n // 2
    return result if power >= 0 else c.b.fdiv(c.constant(1.0), result)


@operation("sqrt")
def sqrt(c: Code, node: Any, x: Any) -> Any:
    return c.intrinsic("sqrt", x)


@operation("rsqrt")
def rsqrt(c: Code, node: Any, x: Any) -> Any:
    return c.b.fdiv(c.constant(1.0), c.intrinsic("sqrt", x))


@operation("abs")
def absolute(c: Code, node: Any, x: Any) -> Any:
    if _is_float(node):
        return c.intrinsic("fabs", x)
    return c.b.select(c.b.icmp_signed("<", x, c.constant(0, "int32")), c.b.neg(x), x)


@operation("sign")
def sign(c: Code, node: Any, x: Any) -> Any:
    zero = c.constant(0, node.dtype)
    if not _is_float(node):
        one = c.constant(1, node.dtype)
        compare = _compare_integers(c, node.dtype)
        negative = c.b.select(compare("<", x, zero), c.b.neg(one), zero)
        return c.b.select(compare(">", x, zero), one, negative)
    signed = c.intrinsic("copysign", c.constant(1.0), x)
    return c.b.select(c.b.fcmp_unordered("une", x, zero), c.b.select(c.b.fcmp_unordered("uno", x, x), x, signed), x)


@operation("floor", "ceil")
def floor(c: Code, node: Any, x: Any) -> Any:
    return c.intrinsic(node.primitive, x)


@operation("round")
def round_(c: Code, node: Any, x: Any) -> Any:
    return c.intrinsic("round" if int(node.params["rounding_method"]) == 0 else "roundeven", x)


@operation("is_finite")
def is_finite(c: Code, node: Any, x: Any) -> Any:
    return c.b.fcmp_ordered("<", c.intrinsic("fabs", x), c.constant(float("inf")))


@operation("eq", "ne", "lt", "le", "gt", "ge")
def compare(c: Code, node: Any, x: Any, y: Any) -> Any:
    sign = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}[node.primitive]
    dtype = node.args[0].dtype
    if dtype == "float32":
        return c.b.fcmp_unordered(sign, x, y) if sign == "!=" else c.b.fcmp_ordered(sign, x, y)
    return _compare_integers(c, dtype)(sign, x, y)


@operation("and")
def and_(c: Code, node: Any, x: Any, y: Any) -> Any:
    return c.b.and_(x, y)


@operation("or")
def or_(c: Code, node: Any, x: Any, y: Any) -> Any:
    return c.b.or_(x, y)


@operation("xor")
def xor(c: Code, node: Any, x: Any, y: Any) -> Any:
    return c.b.xor(x, y)


@operation("not")
def not_(c: Code, node: Any, x: Any) -> Any:
    return c.b.not_(x)


@operation("select_n")
def select_n(c: Code, node: Any, which: Any, *cases: Any) -> Any:
    """Selects by a boolean or, among any number of cases, by an integer; one out of range selects the nearest case."""
    dtype = node.args[0].dtype
    if dtype == "bool" and len(cases) == 2:
        return c.b.select(which, cases[1], cases[0])
    result = cases[0]
    for n, case in enumerate(cases[1:], 1):
        result = c.b.select(_compare_integers(c, dtype)(">=", which, c.constant(n, dtype)), case, result)
    return result


@operation("clamp")
def clamp(c: Code, node: Any, low: Any, x: Any, high: Any) -> Any:
    return smallest(c, node, largest(c, node, x, low), high)


@operation("convert_element_type")
def convert(c: Code, node: Any, x: Any) -> Any:
    source, target = node.args[0].dtype, node.dtype
    kind = c.vector(ELEMENT[target])
    if source == target or {source, target} == {"int32", "uint32"}:
        return x
    if target == "bool":
        zero = c.constant(0, source)
        return c.b.fcmp_unordered("!=", x, zero) if source == "float32" else c.b.icmp_unsigned("!=", x, zero)
    if target == "float32":
        return c.b.sitofp(x, kind) if source == "int32" else c.b.uitofp(x, kind)
    if source == "bool":
        return c.b.zext(x, kind)
    # As in XLA, a number out of range gives the nearest integer, and NaN gives 0.
    return c.converted("fptosi.sat" if target == "int32" else "fptoui.sat", x, kind)


# `jax.checkpoint` adds a `reduce_precision` that changes nothing. `build` refuses all others.
@operation("copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision")
def copy(c: Code, node: Any, x: Any) -> Any:
    return x


@operation("pow")
def power(c: Code, node: Any, x: Any, y: Any) -> Any:
    dtype = node.args[1].dtype
    if dtype != "float32":
        to_float = c.b.sitofp if dtype == "int32" else c.b.uitofp
        y = to_float(y, c.vector(F32))
    return c.per_lane("powf", x, y)


def _of_the_c_library(name: str) -> Operation:
    return lambda c, node, *operands: c.per_lane(name, *operands)


for primitive, name in {
    "log": "logf",
    "log1p": "log1pf",
    "expm1": "expm1f",
    "sin": "sinf",
    "cos": "cosf",
    "tan": "tanf",
    "erf": "erff",
    "erfc": "erfcf",
    "atan2": "atan2f",
    "asinh": "asinhf",
    "acosh": "acoshf",
    "atanh": "atanhf",
    "sinh": "sinhf",
    "cosh": "coshf",
    "asin": "asinf",
    "acos": "acosf",
    "atan": "atanf",
    "exp2": "exp2f",
    "cbrt": "cbrtf",
}.items():
    OPERATIONS[primitive] = _of_the_c_library(name)
