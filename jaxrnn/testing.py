"""`check_cell`: what every cell must satisfy, for the cells here and for users' own."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
    """Raises AssertionError, saying what does not hold, unless a cell keeps the contract.

    It is a value; its state keeps structure, shape and dtype; unrolling equals calling it step by step; leading
    axes are batches; every parameter has a finite gradient that is not zero; the future does not
    reach the past; jit, vmap, chunked and checkpointed runs agree.

    Args:
      cell: the cell.
      input_size: number of input features, or the shape of one step's input.
      time: number of steps.
      batch: number of sequences.
      rtol: relative tolerance of the comparisons, in the default float dtype.
      frozen: names of the parameters that the cell holds as they are drawn, by `jax.lax.stop_gradient`:
        their gradient must be zero.
    """
    shape = (input_size,) if isinstance(input_size, int) else tuple(input_size)
    params = cell.init(jax.random.key(1), input_size)
    xs = jax.random.normal(jax.random.key(2), (time, batch, *shape))
    state, ys = unroll(cell, params, xs)

    _check_value(cell)
    _check_state(cell, params, xs, state)

    now, outputs, call = cell.initial_state(params, (batch,)), [], jax.jit(lambda *args: cell(*args))
    for x in xs:
        now, y = call(params, now, x)
        outputs.append(y)
    _same(ys, jnp.stack(outputs), "unroll must equal calling the cell step by step", rtol)
    _same(state, now, "the last state must equal that of calling the cell step by step", rtol)

    @jax.jit  # all in one program: compiling is what takes the time
    def run_in_many_ways(params: Any, xs: Any) -> Any:
        one = [unroll(cell, params, xs[:, n])[1] for n in range(batch)]
        two = unroll(cell, params, jnp.stack([xs, xs[::-1]], axis=1))[1]
        mapped = jax.vmap(lambda xs: unroll(cell, params, xs)[1], in_axes=1, out_axes=1)(xs)
        middle, first = unroll(cell, params, xs[: time // 2])
        last = unroll(cell, params, xs[time // 2 :], middle)[1]
        halves = jnp.concatenate([first, last])
        return unroll(cell, params, xs), jnp.stack(one, axis=1), two[:, 0], mapped, halves

    jitted, one, two, mapped, halves = run_in_many_ways(params, xs)
    _same((state, ys), jitted, "jit must not change the result", rtol)
    _same(ys, one, "a batch must equal its sequences one by one: leading axes are batches", rtol)
    _same(ys, two, "two batch axes must equal one: leading axes are batches", rtol)
    _same(ys, mapped, "vmap over sequences must equal a batch", rtol)
    _same(ys, halves, "two halves, the state handed on, must equal the whole", rtol)

    @jax.jit
    def gradients(params: Any, xs: Any) -> Any:
        def loss(params: Any, loop: Any) -> Any:
            return (unroll(cell, params, xs, loop=loop)[1] ** 2).sum()

        def past(xs: Any) -> Any:
            return unroll(cell, params, xs)[1][: time // 2].sum()

        grads, checkpointed = (jax.grad(loss)(params, loop) for loop in (Scan(), Scan(checkpoint_every=4)))
        return grads, checkpointed, jax.grad(past)(xs)

    grads, checkpointed, of_past = jax.tree.map(np.asarray, gradients(params, xs))
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(grad).all(), f"the gradient of params{name} must be finite"
        if jax.tree_util.keystr(path[-1:], simple=True) in frozen:
            assert not grad.any(), f"the gradient of params{name} must be zero: it is said to be frozen"
            continue
        read = not grad.size or (grad != 0).any()
        assert read, f"the gradient of params{name} must not be zero: does the cell read it?"
    _same(grads, checkpointed, "checkpoints must not change the gradient", rtol)
    assert not of_past[time // 2 :].any(), "an output must not depend on later inputs"


def _check_value(cell: Cell) -> None:
    again = pickle.loads(pickle.dumps(cell))
    assert again == cell, "a cell must survive pickling, as an equal value"
    assert hash(again) == hash(cell), "equal cells must have equal hashes"
    assert not any(isinstance(value, jax.Array | np.ndarray) for value in vars(cell).values()), "a cell holds no arrays"


def _check_state(cell: Cell, params: Any, xs: Any, last: Any) -> None:
    def described(state: Any) -> Any:
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)

    batch_shape = xs.shape[1 : xs.ndim - cell.num_feature_axes]
    first = cell.initial_state(params, batch_shape)
    assert described(first) == described(last), f"the state must keep structure, shape, dtype: {first} became {last}"
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(cell.initial_state(params, (), jnp.float16))}
    floats = {dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)}
    assert floats <= {jnp.dtype("float16")}, f"initial_state must heed its dtype, but gave {floats}"
    low = cell.initial_state(params, batch_shape, jnp.bfloat16)
    after, _ = jax.eval_shape(lambda low: cell.run(params, xs, low, None, Plan(Scan(), batch_shape=batch_shape)), low)
    assert described(low) == described(after), "the state must keep its dtype through the loop"


def _same(one: Any, other: Any, message: str, rtol: float) -> None:
    one, other = (jax.tree.map(np.asarray, tree) for tree in (one, other))
    assert jax.tree.structure(one) == jax.tree.structure(other), message
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1e-30, np.abs(b).max(initial=0)), err_msg=message)
