"""Explains why a layer could not run: which argument does not fit it.

Nothing here runs unless there is an error or a step is traced, so compiled calls do not get slower.
"""

from __future__ import annotations

import contextlib
import dis
import functools
from collections.abc import Callable, Iterator
from numbers import Integral
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._cache import cached

ANY = "*"
REAL = {"params": "real parameters", "xs": "real inputs", "state": "a real state"}
ERRORS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, NotImplementedError)


def check_parameters(layer: Any, params: Any, xs: Any) -> None:
    """Raises an error if the containers of the parameters are not those that the layer's `init` returns.

    Arrays of another shape raise an error only if the layer cannot run with them: see `explained`.
    """
    expected = expected_parameters(layer, _input_size(layer, xs))
    if expected is not None and (problem := _difference(layer, expected, params, "params", shapes=False)):
        raise TypeError(problem)


def as_array(name: str, value: Any) -> Any:
    """Returns a value as an array of numbers or booleans, of JAX or NumPy."""
    if isinstance(value, Array | np.ndarray | np.generic):
        if not _is_numeric(value):
            raise TypeError(f"{name} must be an array of numbers, but its dtype is {value.dtype}: cast it")
        return value
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be an array of numbers, but it is {_describe(value)}: {_first_line(error)}"
        ) from None


def as_arrays(name: str, tree: Any) -> Any:
    """Returns the leaves of a pytree as arrays of JAX."""
    return jax.tree.map(lambda leaf: jnp.asarray(as_array(name, leaf)), tree)


def check_leaves(name: str, tree: Any) -> None:
    """Checks that a pytree of parameters or states holds arrays."""
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, Array | np.ndarray | np.generic | int | float | complex) and not hasattr(
            leaf, "__jax_array__"
        ):
            raise TypeError(f"{name} must be a pytree of arrays, but one leaf is {_describe(leaf)}")
        if not _is_numeric(leaf):
            dtype = np.asarray(leaf).dtype
            raise TypeError(f"{name} must hold arrays of numbers, but the dtype of one is {dtype}: cast it")


def _is_numeric(value: Any) -> bool:
    """Returns whether an array can be one of JAX. NumPy also has arrays of text, of objects and of wider numbers."""
    if not isinstance(value, np.ndarray | np.generic) or value.dtype == bool:
        return True
    is_number = jnp.issubdtype(value.dtype, jnp.number) and value.dtype.kind != "m"  # a timedelta is an integer
    return is_number and value.real.dtype.itemsize <= 8


def check_kind(name: str, x: Array) -> None:
    """Checks that an input holds numbers or symbols."""
    if not jnp.issubdtype(x.dtype, jnp.number):
        raise TypeError(f"{name} must hold numbers or integer symbols, but its dtype is {x.dtype}: cast it")


@contextlib.contextmanager
def refusing_complex(layer: Any, run: Callable[..., Any], params: Any, xs: Any, state: Any) -> Iterator[None]:
    """Replaces an error that complex numbers cause by one that says which argument must be real.

    It tries the call without imaginary parts, for which only shapes are computed.

    Args:
      layer: The layer.
      run: What the context runs, a function of the parameters, the inputs and the state.
      params: The parameters.
      xs: The inputs.
      state: The state before the first step.
    """
    try:
        yield
    except ERRORS as error:
        given = {"params": params, "xs": xs, "state": state}
        for names in (["xs"], ["params"], ["state"], ["xs", "params"]):
            dtypes = [x.dtype for name in names for x in jax.tree.leaves(given[name]) if jnp.iscomplexobj(x)]
            without = given | {name: jax.tree.map(_real, given[name]) for name in names}
            if dtypes and _can_run(run, *without.values()):
                needed = " and ".join(REAL[name] for name in names)
                parts = "jnp.concatenate([xs.real, xs.imag], axis=-1)"
                remedy = f"give the parts of xs as features, {parts}" if "xs" in names else "give the real parts"
                raise _explained(TypeError(f"{layer} needs {needed}, but a dtype is {dtypes[0]}: {remedy}")) from error
        raise


def _real(x: Array) -> Array:
    return x.real if jnp.iscomplexobj(x) else x


def _can_run(run: Callable[..., Any], *args: Any) -> bool:
    try:
        jax.eval_shape(run, *args)
    except ERRORS:
        return False
    return True


@contextlib.contextmanager
def explained(layer: Any, params: Any, xs: Any) -> Iterator[None]:
    """Replaces an error by one that says which argument caused it."""
    try:
        yield
    except ERRORS as error:
        if better := _explain(layer, params, xs, error):
            raise _explained(better) from error
        raise


def _explain(layer: Any, params: Any, xs: Any, error: Exception) -> Exception | None:
    """Returns an error that says which argument caused `error`, or None if all of them look right."""
    if _is_our_own(error):
        return None
    if not isinstance(xs, Array):
        return TypeError(
            f"{layer} cannot read xs, {_describe(xs)} ({_first_line(error)}): most layers take one array "
            "[time, *batch, features]"
        )
    expected = expected_parameters(layer, _input_size(layer, xs))
    problem = None if expected is None else _difference(layer, expected, params, "params", shapes=True)
    if problem is None:
        return None
    return ValueError(f"{problem}: give the parameters that init returned for this layer and this input size")


def explaining_init(init: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps the `init` of a layer so that its errors say which argument caused them."""

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return init(self, *args, **kwargs)
        except Exception as error:  # also those of JAX's compiler, such as for negative sizes
            problem = None if _is_explained(error) else _explain_init(self, error, *args, **kwargs)
            if problem is None:
                raise
            raise _explained(problem) from error

    return wrapper


def _explain_init(layer: Any, error: Exception, key: Any = None, input_size: Any = None) -> Exception | None:
    if not is_key(key):
        return TypeError(f"init's key must be one random key, such as jax.random.key(0), but it is {_describe(key)}")
    name = type(layer).__name__
    sizes = input_size if isinstance(input_size, tuple) else (input_size,)
    if not all(isinstance(size, Integral) and not isinstance(size, bool) for size in sizes):
        return TypeError(f"{name}'s input_size must be an integer, but it is {input_size!r}")
    if min(sizes) < 0 or (len(sizes) > 1 and layer.num_feature_axes == 1 and not _is_our_own(error)):
        example = f": write init(key, {sizes[-1]}) for inputs [time, *batch, {sizes[-1]}]" if sizes[-1] > 0 else ""
        return ValueError(
            f"{name}'s input_size must be its number of input features, but it is {input_size!r}{example}"
        )
    return None


def explaining_initial_state(initial_state: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps the `initial_state` of a layer to check that it is given parameters and not only a shape."""

    @functools.wraps(initial_state)
    def wrapper(self: Any, params: Any, batch_shape: Any = (), dtype: Any = None) -> Any:
        if not isinstance(batch_shape, tuple):
            raise TypeError(f"batch_shape must be a tuple such as (32,), but it is {batch_shape!r}")
        if dtype is not None and not _is_floating(dtype):
            raise TypeError(f"dtype must be that of real or complex numbers or None, but it is {dtype!r}")
        leaves = jax.tree.leaves(params)
        if leaves and not any(hasattr(leaf, "dtype") for leaf in leaves):
            raise TypeError(
                f"initial_state's params must be the parameters of {self}, but it is {params!r}: "
                "write initial_state(params, batch_shape)"
            )
        return initial_state(self, params, batch_shape, dtype)

    return wrapper


def _is_floating(dtype: Any) -> bool:
    try:
        return jnp.issubdtype(jnp.dtype(dtype), jnp.inexact)
    except TypeError:
        return False


def is_key(key: Any) -> bool:
    """Returns whether a value is one random key, new-style or raw."""
    return shape_of_keys(key) == ()


def shape_of_keys(key: Any) -> tuple[int, ...] | None:
    """Returns the shape of an array of random keys, new-style or raw; None for any other value."""
    dtype = getattr(key, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return key.shape
    if dtype != np.uint32 or key.ndim == 0:
        return None
    config: Any = jax.config
    return key.shape[:-1] if key.shape[-1:] == _raw_key_shape(config.jax_default_prng_impl) else None


@functools.cache
def _raw_key_shape(impl: Any) -> tuple[int, ...]:
    return jax.eval_shape(lambda: jax.random.PRNGKey(0, impl=impl)).shape


def check_key(key: Any) -> None:
    """Raises an error if a value is neither an array of random keys nor None."""
    if key is not None and shape_of_keys(key) is None:
        found = f"an array {key.dtype}{list(key.shape)}" if hasattr(key, "shape") else _describe(key)
        raise TypeError(f"key must be a random key, such as jax.random.key(0), but it is {found}")


def check_number_of_keys(key: Any, batch_shape: tuple[int, ...]) -> None:
    """Raises an error if a value is not one random key, one for each sequence, or None."""
    if key is not None and (shape := shape_of_keys(key)) not in ((), batch_shape):
        each = f", or keys of the shape [*batch] = {batch_shape}, one for each sequence" if batch_shape else ""
        raise ValueError(f"key must be one random key{each}, but its shape is {shape}")


def _explained(error: Exception) -> Exception:
    error.jaxrnn_explained = True  # type: ignore[attr-defined]  # so that an outer layer does not explain it again
    return error


def _is_explained(error: Exception) -> bool:
    return hasattr(error, "jaxrnn_explained")


@cached
def expected_parameters(layer: Any, input_size: Any) -> Any:
    """Returns the shapes of the parameters that `init` draws, or None if it raises an error.

    For symbols, `input_size` is None. Axes that depend on it are then ANY.
    """

    def drawn(size: Any) -> Any:
        return jax.eval_shape(lambda: layer.init(jax.random.key(0), size))

    try:
        if input_size is not None:
            return jax.tree.map(lambda leaf: SimpleNamespace(shape=leaf.shape), drawn(input_size))
        return jax.tree.map(_common_shape, drawn(2), drawn(3))
    except ERRORS:
        return None


def _common_shape(a: Any, b: Any) -> SimpleNamespace:
    same = len(a.shape) == len(b.shape)
    return SimpleNamespace(
        shape=tuple(n if n == m else ANY for n, m in zip(a.shape, b.shape, strict=True)) if same else ANY
    )


def reads_integers_as_features(layer: Any, params: Any, shape: tuple[int, ...]) -> bool:
    """Returns whether integers of this shape look like features: their last axes have the input size of the parameters.

    There must be at least two axes before these. Otherwise the integers are more likely to be symbols.
    """
    axes = layer.num_feature_axes
    if axes == 0 or len(shape) < 2 + axes or layer.reads_symbols:
        return False

    def fits(size: tuple[int, ...]) -> bool:
        expected = expected_parameters(layer, size[0] if axes == 1 else size)
        return expected is not None and _difference(layer, expected, params, "params", shapes=True) is None

    size = shape[-axes:]
    return fits(size) and not fits((*size[:-1], size[-1] + 1))  # a layer may have no input size


def _input_size(layer: Any, xs: Any) -> Any:
    """Returns the input size of one step of the inputs, or None if they are symbols."""
    x = jax.tree.leaves(xs)[0]
    axes = layer.num_feature_axes
    if jnp.issubdtype(x.dtype, jnp.integer) or axes == 0:
        return None
    return x.shape[-1] if axes == 1 else x.shape[-axes:]


def _difference(layer: Any, expected: Any, params: Any, place: str, *, shapes: bool) -> str | None:
    """Returns the first difference between the parameters and those that were expected, or None."""
    if expected is None:
        return None
    if isinstance(expected, SimpleNamespace):
        if _is_container(params):
            return f"{place} of {layer} must be an array, but it is {_describe(params)}"
        if shapes and not _has_shape(params, expected.shape):
            return f"{place} of {layer} must have the shape {_shape(expected)}, but it has {params.shape}"
        return None
    if hasattr(expected, "_fields"):
        if type(params) is not type(expected):
            return _wrong_container(layer, expected, params, place)
        pairs = [(f"{place}.{name}", getattr(expected, name), getattr(params, name)) for name in expected._fields]
    elif isinstance(expected, tuple | list):
        if type(params) is not type(expected) or len(params) != len(expected):
            return _wrong_container(layer, expected, params, place)
        pairs = [(f"{place}[{i}]", e, p) for i, (e, p) in enumerate(zip(expected, params, strict=True))]
    elif isinstance(expected, dict):
        if not isinstance(params, dict) or set(params) != set(expected):
            return _wrong_container(layer, expected, params, place)
        pairs = [(f"{place}[{name!r}]", expected[name], params[name]) for name in expected]
    else:
        return None  # a container of the user's own
    return next((found for p, e, a in pairs if (found := _difference(layer, e, a, p, shapes=shapes))), None)


def _wrong_container(layer: Any, expected: Any, params: Any, place: str) -> str:
    wanted, given = _describe(expected), _describe(params)
    return f"{place} of {layer} must be {wanted}, but it is {given}{_remedy(expected, params)}"


def _has_shape(value: Any, expected: tuple[Any, ...]) -> bool:
    shape = getattr(value, "shape", expected)
    if expected is ANY or shape == expected:
        return True
    return len(shape) == len(expected) and all(e in (ANY, n) for n, e in zip(shape, expected, strict=True))


def _shape(expected: Any) -> str:
    if expected.shape is ANY:
        return "of its layer"
    comma = "," if len(expected.shape) == 1 else ""
    return f"({', '.join(map(str, expected.shape))}{comma})"


def _is_container(value: Any) -> bool:
    return value is None or isinstance(value, tuple | list | dict | str)


def _describe(value: Any) -> str:
    if hasattr(value, "_fields"):
        return f"{type(value).__name__}({', '.join(value._fields)})"
    if isinstance(value, dict):
        return f"a dict with the keys {', '.join(map(str, value))}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value) if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"


def _remedy(expected: Any, params: Any) -> str:
    """Returns what to write to convert parameters in other containers, such as restored ones."""
    if hasattr(expected, "_fields") and not hasattr(params, "_fields"):
        name = type(expected).__name__
        if not isinstance(params, tuple | list) and hasattr(params, "keys") and set(params) == set(expected._fields):
            return f": write {name}(**params)"
        if isinstance(params, tuple | list) and len(params) == len(expected):
            return f": write {name}(*params)"
    if hasattr(params, "_fields"):
        return ": it belongs to another layer"
    if isinstance(expected, tuple) and isinstance(params, list) and len(params) == len(expected):
        return ": write tuple(params)"
    return ": give the parameters that init returned"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _is_our_own(error: Exception) -> bool:
    """Returns whether a `raise` statement of jaxrnn raised the error, which then already says what is wrong."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if trace is None or not trace.tb_frame.f_globals.get("__name__", "").startswith("jaxrnn."):
        return False
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
