"""`Chunked`: runs cells whose state is a matrix, many steps at once."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import jax

from jaxrnn import _check as check
from jaxrnn._matrix_cell import MatrixCell
from jaxrnn._time_axis import from_last_part
from jaxrnn.layer import Cell, Loop, Params, State, Steps, WithStates
from jaxrnn.loops._chunks import run_in_checkpoints

MANY = 512  # steps of a chunk, summed over all sequences, from which on inputs are projected chunk by chunk


@dataclass(frozen=True)
class Chunked(Loop):
    r"""Runs cells that add outer products to a matrix, by matrix products over chunks of steps.

    Step by step, such a cell reads and writes its whole matrix at every step. This loop computes the outputs of a chunk
    from the matrix at its start and from the products of its queries with its keys. The chunks run one after the other,
    and only the matrices between them are saved for the backward pass, which recomputes everything within the chunks.
    With many sequences (batch axes, not those of `vmap`), the inputs are also projected chunk by chunk, and again in
    the backward pass. With few, the products of one chunk would be too small to be fast, so the inputs of all steps are
    projected at once, and saved.

    With the factors of a step, :math:`S_t = \mathrm{diag}(\alpha_t) S_{t-1} + e_t (r_t^\top S_{t-1}) + k_t v_t^\top`, a
    step :math:`i` of the chunk that begins after :math:`S_0` reads

    .. math::
        S_i^\top q_i = S_0^\top (\alpha_{1:i} \odot q_i)
            + \sum_{j \le i} \left( (\alpha_{j+1:i} \odot q_i)^\top k_j \, v_j
            + (\alpha_{j+1:i} \odot q_i)^\top e_j \, u_j \right), \quad u_j = S_{j-1}^\top r_j

    where :math:`\alpha_{j:i}` is the product of the decays from step j to step i. With a delta rule, the vectors
    :math:`u_j` of a chunk are the solution of a triangular system. Products of decays are exponentials of sums of
    logarithms that are at most zero, so decays near 0 and near 1 are accurate, and do not overflow. If a matrix itself
    overflows, what is read from it later is NaN, even where `Scan` gives infinity.

    Example:
      >>> cell = jaxrnn.DeltaNet(8, num_heads=2)
      >>> params, xs = cell.init(jax.random.key(0), 3), jnp.ones((100, 2, 3))
      >>> state, ys = jaxrnn.unroll(cell, params, xs, loop=jaxrnn.loops.Chunked())
      >>> ys.shape
      (100, 2, 8)

    Args:
      chunk: Number of steps of a chunk, rounded up to a power of two; None: 64, or 32 with a delta rule or with a decay
        for each key. Large chunks make large products, but the work within a chunk grows with its square.
      checkpoint_every: None, or the number of steps between the states that are kept for the backward pass, which
        recomputes the steps in between. It need not divide the length.
      axis_name: The mesh axis over which time is sharded, as for `AssociativeScan`, or None. Each device runs its steps
        twice: first to find how they map any matrix, and then from the matrix that it receives.

    References:
      W. Hua et al., "Transformer quality in linear time", 2022, for the chunks; S. Yang et al., "Parallelizing linear
      transformers with the delta rule over sequence length", 2024, for the triangular system.
    """

    _: KW_ONLY
    chunk: int | None = None
    checkpoint_every: int | None = None
    axis_name: str | None = None

    def __post_init__(self) -> None:
        check.positive_or_none(self, "chunk", "checkpoint_every")
        check.name_or_none(self, "axis_name")

    def __call__(self, cell: Cell, params: Params, steps: Steps, state: State) -> tuple[State, Any]:
        if isinstance(cell, WithStates) and isinstance(cell.cell, MatrixCell):
            remedy = "call states_over_time with loop=jaxrnn.loops.Auto()"
            if self.axis_name is not None:
                remedy = "with time sharded, only AssociativeScan does, for linear cells"
            raise TypeError(f"Chunked does not compute the states of all steps of {cell}: {remedy}")
        if not isinstance(cell, MatrixCell):
            remedy = "call unroll with loop=jaxrnn.loops.Auto()"
            if self.axis_name is not None:
                remedy = "of other cells, only a jaxrnn.LinearCell runs with time sharded, with AssociativeScan"
            raise TypeError(
                f"Chunked runs cells that add outer products to a matrix (jaxrnn.MatrixCell), but {cell} is not one: "
                f"{remedy}"
            )
        if not isinstance(steps.length, int):
            raise TypeError(
                "Chunked needs a length that is known, but under jax.export it is symbolic: "
                "call unroll with loop=jaxrnn.loops.Deferred()"
            )
        from jaxrnn._kinds import with_dtypes_of
        from jaxrnn.loops.chunked._parts import start_of_part
        from jaxrnn.loops.chunked._run import prepare, run_all

        update, start = prepare(cell, params, state, steps)
        has_key_decay = update.log_decay is not None and update.log_decay.shape[-1] > 1
        chunk = self.chunk or (64 if update.read is None and not has_key_decay else 32)
        chunk = 1 << (int(chunk) - 1).bit_length()
        sequences = number_of_sequences(cell, params, state)
        block = chunk if isinstance(sequences, int) and sequences * chunk >= MANY else None  # symbolic: None

        every = self.checkpoint_every
        if every is not None and block is not None:
            every = -(-every // block) * block  # so that only the last part has a remainder

        def run_block(run: Any, params: Params, carry: Any, steps: Steps) -> tuple[Any, Any]:
            if block is None or steps.length <= block:
                return run(params, carry, steps)
            return run_in_checkpoints(run, block, params, carry, steps)

        def run_steps(run: Any, params: Params, carry: Any, steps: Steps) -> tuple[Any, Any]:
            return run_in_checkpoints(partial(run_block, run), every, params, carry, steps)

        def run(params: Params, state: State, steps: Steps) -> tuple[State, Any]:
            return run_all(cell, chunk, params, state, steps)

        if self.axis_name is not None and steps.length:
            start = start_of_part(cell, chunk, self.axis_name, run_steps, params, start, steps)
        last, ys = run_steps(run, params, start, steps)
        last = with_dtypes_of(state, last)
        return last if self.axis_name is None else from_last_part(self.axis_name, steps.reverse, last), ys


def number_of_sequences(cell: MatrixCell, params: Params, state: State) -> Any:
    """Returns the product of the batch axes, which is symbolic if one of them is."""
    of_one = jax.eval_shape(lambda params: cell.memory(cell.initial_state(params)).s, params)
    s = cell.memory(state).s
    return math.prod(s.shape[: s.ndim - of_one.ndim])
