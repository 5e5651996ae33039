"""`check_cell`: checks the contract that every cell must satisfy, including your own cells."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn._check import did_you_mean, is_integer, is_number
from jaxrnn._unroll import unroll
from jaxrnn.layer import Cell, Plan
from jaxrnn.loops import Scan


def check_cell(
    cell: Cell,
    input_size: Any = 3,
    *,
    time: int = 6,
    batch: int = 2,
    rtol: float = 1e-4,
    frozen: Collection[str] = (),
) -> None:
    """Checks that a cell satisfies the contract of `jaxrnn.Cell`.

    The cell is a value: it can be pickled, compared and hashed, and holds no arrays. Its state keeps its structure,
    shapes and dtypes. Unrolling it equals calling it step by step. Leading axes are batch axes. Every parameter has a
    finite gradient that is not zero. No output depends on later inputs. Runs under `jit`, under `vmap`, in two parts
    and with checkpoints give the same results. With a random key, equal keys give equal results, even if the steps run
    in chunks, and a cell that is random draws from its key.

    Example:
      >>> jaxrnn.testing.check_cell(jaxrnn.GRU(4), input_size=3)

    Args:
      cell: The cell.
      input_size: Number of input features, or the shape of one step's input.
      time: Number of steps.
      batch: Number of sequences.
      rtol: Relative tolerance of the comparisons, which are made in the default float dtype.
      frozen: Names of the parameters that the cell keeps at their initial values, by `jax.lax.stop_gradient`. Their
        gradients must be zero.

    Raises:
      AssertionError: The cell breaks the contract; the message says how.
      TypeError: An argument has the wrong type.
      ValueError: An argument has the wrong value.
    """
    _check_arguments(cell, time=time, batch=batch, rtol=rtol)
    shape = (input_size,) if isinstance(input_size, int) else tuple(input_size)
    params = cell.init(jax.random.key(1), input_size)
    _check_frozen(frozen, params)
    xs = jax.random.normal(jax.random.key(2), (time, batch, *shape))
    state, ys = unroll(cell, params, xs, loop=Scan())  # other loops may trace the step without a batch

    _check_value(cell)
    _check_state(cell, params, xs, state)

    without_jit = cell.run(params, xs, cell.initial_state(params, (batch,)), None, Plan(Scan(), batch_shape=(batch,)))
    _assert_equal((state, ys), without_jit, "jit must not change the result", rtol)

    state_now, outputs = cell.initial_state(params, (batch,)), []
    call = jax.jit(lambda *args: cell(*args))
    for x in xs:
        state_now, y = call(params, state_now, x)
        outputs.append(y)
    _assert_equal(ys, jnp.stack(outputs), "unroll must equal calling the cell step by step", rtol)
    _assert_equal(state, state_now, "the last state must equal that of calling the cell step by step", rtol)

    @jax.jit  # a single program for all of them, because most of the time is compilation
    def run_in_many_ways(params: Any, xs: Any) -> Any:
        one_by_one = [unroll(cell, params, xs[:, n], loop=Scan())[1] for n in range(batch)]
        two_axes = unroll(cell, params, jnp.stack([xs, xs[::-1]], axis=1), loop=Scan())[1]
        mapped = jax.vmap(lambda xs: unroll(cell, params, xs)[1], in_axes=1, out_axes=1)(xs)
        middle, first = unroll(cell, params, xs[: time // 2])
        last = unroll(cell, params, xs[time // 2 :], middle)[1]
        halves = jnp.concatenate([first, last])
        return jnp.stack(one_by_one, axis=1), two_axes[:, 0], mapped, halves

    one_by_one, two_axes, mapped, halves = run_in_many_ways(params, xs)
    _assert_equal(ys, one_by_one, "a batch must equal its sequences one by one: leading axes are batch axes", rtol)
    _assert_equal(ys, two_axes, "two batch axes must equal one: leading axes are batch axes", rtol)
    _assert_equal(ys, mapped, "vmap over sequences must equal a batch", rtol)
    _assert_equal(ys, halves, "two halves, with the state passed on, must equal the whole", rtol)

    @jax.jit
    def gradients(params: Any, xs: Any) -> Any:
        def loss(params: Any, loop: Any) -> Any:
            return (unroll(cell, params, xs, loop=loop)[1] ** 2).sum()

        def past(xs: Any) -> Any:
            return unroll(cell, params, xs)[1][: time // 2].sum()

        grads, checkpointed = (jax.grad(loss)(params, loop) for loop in (Scan(), Scan(checkpoint_every=4)))
        return grads, checkpointed, jax.grad(past)(xs)

    grads, checkpointed, grads_of_past = jax.tree.map(np.asarray, gradients(params, xs))
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(grad).all(), f"the gradient of params{name} must be finite"
        if _last_name(path) in frozen:
            assert not grad.any(), f"the gradient of params{name} must be zero, because frozen names it"
            continue
        not_zero = not grad.size or (grad != 0).any()
        assert not_zero, f"the gradient of params{name} must not be zero: does the cell read it?"
    _assert_equal(grads, checkpointed, "checkpoints must not change the gradient", rtol)
    assert not grads_of_past[time // 2 :].any(), "an output must not depend on later inputs"
    _check_keys(cell, params, xs, (state, ys), rtol)


def _check_arguments(cell: Any, *, time: Any, batch: Any, rtol: Any) -> None:
    if not isinstance(cell, Cell):
        raise TypeError(f"cell must be a jaxrnn cell, but it is {cell!r}{did_you_mean(cell)}")
    for name, value in (("time", time), ("batch", batch)):
        if not is_integer(value):
            raise TypeError(f"{name} must be a positive integer, but it is {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be a positive integer, but it is {value!r}")
    if not is_number(rtol):
        raise TypeError(f"rtol must be a number of at least 0, but it is {rtol!r}")
    if not rtol >= 0:
        raise ValueError(f"rtol must be a number of at least 0, but it is {rtol!r}")


def _check_frozen(frozen: Any, params: Any) -> None:
    if isinstance(frozen, str) or not isinstance(frozen, Collection):
        raise TypeError(f"frozen must be a tuple of names, but it is {frozen!r}")
    names = {_last_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    if unknown := set(frozen) - names:
        raise ValueError(f"frozen must name parameters, {sorted(names)}, but it names {sorted(unknown)}")


def _last_name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path[-1:], simple=True)


def _check_value(cell: Cell) -> None:
    try:
        again = pickle.loads(pickle.dumps(cell))
    except Exception as error:
        raise AssertionError(
            f"a cell must be picklable: define its class and its functions at the top level of a module ({error})"
        ) from error
    assert again == cell, "a cell must be equal to what is unpickled from it"
    assert hash(again) == hash(cell), "equal cells must have equal hashes"
    arrays = [name for name, value in vars(cell).items() if isinstance(value, jax.Array | np.ndarray)]
    assert not arrays, f"a cell must hold no arrays, but its fields {', '.join(arrays)} do: make them parameters"


def _check_state(cell: Cell, params: Any, xs: Any, last: Any) -> None:
    def described(state: Any) -> Any:
        """Returns the shape and the dtype of each array."""
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)

    batch_shape = xs.shape[1 : xs.ndim - cell.num_feature_axes]
    first = cell.initial_state(params, batch_shape)
    kept = described(first) == described(last)
    assert kept, f"the state must keep its structure, shapes and dtypes, but {first} became {last}"
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(cell.initial_state(params, (), jnp.float16))}
    floats = {dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)}
    assert floats <= {jnp.dtype("float16")}, f"initial_state must use its dtype, float16 here, but used {floats}"
    low = cell.initial_state(params, batch_shape, jnp.bfloat16)
    after, _ = jax.eval_shape(lambda low: cell.run(params, xs, low, None, Plan(Scan(), batch_shape=batch_shape)), low)
    assert described(low) == described(after), "the state must keep its dtype through the loop"


def _check_keys(cell: Cell, params: Any, xs: Any, without_key: Any, rtol: float) -> None:
    def run(key: Any, loop: Any = Scan()) -> Any:
        batch_shape = xs.shape[1 : xs.ndim - cell.num_feature_axes]
        plan = Plan(loop, batch_shape=batch_shape)  # `unroll` would trace equal calls once
        return cell.run(params, xs, cell.initial_state(params, batch_shape), key, plan)

    key = jax.random.key(3)
    one, same, chunks = jax.jit(lambda key: (run(key), run(key), run(key, Scan(checkpoint_every=2))))(key)
    _assert_equal(one, same, "equal keys must give equal results: is everything random drawn from the key?", rtol)
    _assert_equal(one, chunks, "with a key, a run in chunks of steps must equal the whole", rtol)
    try:
        jax.eval_shape(jax.vmap(run, out_axes=None), key[None])
    except ValueError:  # the results depend on the key
        return
    _assert_equal(one, without_key, "a cell that is random must draw from its key", rtol)


def _assert_equal(one: Any, other: Any, message: str, rtol: float) -> None:
    """Asserts that two pytrees are equal up to a tolerance that is relative to the largest entry of each array."""
    one, other = (jax.tree.map(np.asarray, tree) for tree in (one, other))
    assert jax.tree.structure(one) == jax.tree.structure(other), message
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1e-30, np.abs(b).max(initial=0)), err_msg=message)
