"""Runs layers with time sharded over four devices, and compares them with the unsharded run.

Its argument is a JSON list of cases, arguments of `check`. It prints the cases that fail, and then exits with an error.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

sys.path.insert(0, str(Path(__file__).parents[2]))

DEVICES, TIME, BATCH = 4, 12, 4
LENGTHS = [np.full(BATCH, TIME), np.array([12, 0, 7, 3])]


def check(
    layer: str,
    loop: str,
    *,
    inputs: Any = 3,
    reverse: bool = False,
    marks: bool = True,
    key: bool = False,
    nan: bool = False,
    gradient: bool = True,
    check_vma: bool = True,
    grad_inside: bool = True,
    split_batch: bool = False,
    all_states: bool = False,
) -> None:
    """Compares values and gradients.

    Args:
      layer: An expression for the layer, of names in jaxrnn and of `cases` in tests.support.cases.
      loop: Such an expression for the loop that shards time.
      inputs: The input size.
      reverse: Whether the last step is read first.
      marks: Whether to run with lengths and resets, for all combinations of full and other lengths, of no resets and
        some.
      key: Whether to run with a random key.
      nan: Whether one step is NaN, after which there is a reset. Outputs that may be NaN are not used.
      gradient: Whether to compare gradients, too.
      check_vma: An argument of `jax.shard_map`.
      grad_inside: Whether to differentiate inside `jax.shard_map`, and not the function that it returns.
      split_batch: Whether to shard the batch, too.
      all_states: Whether to compare the states after all steps.
    """
    import jaxrnn
    from jaxrnn import loops
    from tests.support.cases import cell_cases, variants
    from tests.support.comparisons import assert_close
    from tests.support.inputs import draw, draw_params, draw_state

    names = {**vars(jaxrnn), **vars(loops), "cases": cell_cases() | variants()}
    the_layer, sharded_loop = (eval(text, names) for text in (layer, loop))
    inputs = tuple(inputs) if isinstance(inputs, list) else inputs
    params = draw_params(the_layer, input_size=inputs)
    args = params, draw(TIME, BATCH, *np.atleast_1d(inputs)), draw_state(the_layer, params, (BATCH,))
    resets = draw(TIME, BATCH) > 0.7
    weights = np.cos(np.arange(TIME * BATCH)).reshape(TIME, BATCH)
    if nan:
        first, last = (8, 7) if reverse else (5, 6)  # the step that is NaN, and the last one before the reset
        args[1][first, 1] = np.nan
        resets[:, 1] = np.arange(TIME) == 7
        weights[[first, last], 1] = 0

    def loss(args, lengths, resets, weights, loop):
        how = {"lengths": lengths, "resets": resets, "reverse": reverse, "loop": loop}
        how["key"] = jax.random.key(0) if key else None
        run = jaxrnn.states_over_time if all_states else jaxrnn.unroll
        state, ys = run(the_layer, *args, **how)
        of_ys = (jaxrnn.ops.where(weights != 0, ys, 0) ** 2).sum(range(2, ys.ndim))
        of_state = sum((leaf**3).sum().real for leaf in jax.tree.leaves(state))
        return (weights * of_ys).sum(), of_state, (state, ys)

    def with_gradient(function):
        return jax.value_and_grad(function, has_aux=True) if gradient else function

    def alone(args, lengths, resets, weights):
        of_ys, of_state, results = loss(args, lengths, resets, weights, loops.Scan())
        return of_ys + of_state, results

    axes = ("time", "batch")
    shape = (DEVICES // 2, 2) if split_batch else (DEVICES, 1)
    mesh = Mesh(np.array(jax.devices()).reshape(shape), axes)
    everywhere, batch, time = PartitionSpec(), PartitionSpec("batch"), PartitionSpec("time", "batch")
    of_args = everywhere, time, batch
    of_states = time if all_states else batch

    def on_device(args, lengths, resets, weights):
        def mean(args):
            of_ys, of_state, results = loss(args, lengths, resets, weights, sharded_loop)
            of_state = jax.lax.psum(of_state, axes if all_states else "batch")
            return jax.lax.psum(of_ys, axes) + of_state, results

        return (with_gradient(mean) if grad_inside else mean)(args)

    of_marks = (batch, time) if marks else (None, None)
    results = everywhere, (of_states, time)
    spread = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(of_args, *of_marks, time),
        out_specs=(results, of_args) if grad_inside and gradient else results,
        check_vma=check_vma,
    )
    found = jax.jit(spread if grad_inside else with_gradient(spread))
    expected = jax.jit(with_gradient(alone))
    for lengths in LENGTHS if marks else [None]:
        for some in (resets & False, resets) if marks and not nan else [resets if marks else None]:
            one, other = (run(args, lengths, some, weights) for run in (found, expected))
            assert_close(one, other, rtol=1e-9)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", DEVICES)
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    failed = 0
    for case in json.loads(sys.argv[1]):
        try:
            check(**case)
        except Exception:
            failed += 1
            print(case, traceback.format_exc(), sep="\n", file=sys.stderr)
    sys.exit(f"{failed} cases failed" if failed else 0)
