"""Flax NNX's own cells in jaxrnn's loop: `flax.nnx.RNN` and `Bidirectional` with another inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrnn._adopt import adopt
from jaxrnn._flax import carry_of, check_features, hide_integers, other_direction, run, shown_integers
from jaxrnn.layer import Params, State
from jaxrnn.loops import Deferred, Loop


class FlaxRNN(nnx.RNN):
    """See `jaxrnn.nnx.RNN`."""

    def __init__(self, cell: nnx.RNNCellBase, *, loop: Loop | None = None, state_axes: Any = None, **options: Any):
        if state_axes is not None:
            raise TypeError("a cell's variables cannot be scanned over in this loop: use flax.nnx.RNN")
        super().__init__(cell, **options)
        self.loop = loop

    def __call__(  # type: ignore[override]
        self,
        inputs: Any,
        *,
        initial_carry: State | None = None,
        seq_lengths: Any = None,
        resets: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: Any = None,
    ) -> Any:
        inputs = jnp.asarray(inputs)
        time_major = self.time_major if time_major is None else time_major
        _, step_shape = check_features(self.cell, inputs, time_major)
        if initial_carry is None:
            rngs = self.rngs if rngs is None else rngs
            rngs = rngs.carry.fork() if isinstance(rngs, nnx.Rngs) else rngs
            initial_carry = self.cell.initialize_carry(step_shape, rngs)
        graph, variables = nnx.split(self.cell)
        axes = self.cell.num_feature_axes
        features = step_shape[len(step_shape) - axes :]
        carry, outputs = run(
            adopt(_Step(graph, inputs.dtype), _First(graph, features), num_feature_axes=axes),
            variables,
            hide_integers(inputs),
            initial_carry,
            seq_lengths=seq_lengths,
            resets=resets,
            time_major=time_major,
            reverse=self.reverse if reverse is None else reverse,
            keep_order=self.keep_order if keep_order is None else keep_order,
            key=None,
            loop=Deferred(unroll=self.unroll) if self.loop is None else self.loop,
        )
        return (carry, outputs) if (self.return_carry if return_carry is None else return_carry) else outputs


class Bidirectional(nnx.Bidirectional):
    """`flax.nnx.Bidirectional` with `resets`, which part the same sequences in both directions."""

    def __call__(  # type: ignore[override]
        self, inputs: Any, *, resets: Any = None, time_major: bool | None = None, **call: Any
    ) -> Any:
        """Runs both over time.

        Args:
          inputs: as `RNN` takes them.
          resets: bool [*batch, time] (with `time_major`, time first), True where a new sequence begins.
          time_major: time is the first axis of inputs, resets and outputs.
          **call: as for `flax.nnx.Bidirectional`.

        Returns:
          The merged outputs, or with `return_carry` both last states and the outputs.
        """
        if resets is None:
            return super().__call__(inputs, time_major=time_major, **call)
        time_major = self.time_major if time_major is None else time_major
        return_carry = call.pop("return_carry", None)
        forward, backward = call.pop("initial_carry", None) or (None, None)
        lengths, rngs = call.get("seq_lengths"), call.get("rngs")
        rngs = self.rngs if rngs is None else rngs
        rngs = rngs.carry if isinstance(rngs, nnx.Rngs) else rngs
        both = {"time_major": time_major, "return_carry": True, "seq_lengths": lengths, "rngs": rngs}
        back = other_direction(resets, lengths, time_major)
        run_forward, run_backward = cast("Any", self.forward_rnn), cast("Any", self.backward_rnn)
        forward, ys = run_forward(inputs, initial_carry=forward, resets=resets, **both)
        how = both | {"reverse": True, "keep_order": True}
        backward, ys_back = run_backward(inputs, initial_carry=backward, resets=back, **how)
        outputs = jax.tree.map(self.merge_fn, ys, ys_back)
        return (
            ((forward, backward), outputs) if (self.return_carry if return_carry is None else return_carry) else outputs
        )


@dataclass(frozen=True)
class _Step:
    graph: Any
    dtype: Any

    def __call__(self, variables: Params, carry: State, x: Any) -> tuple[State, Any]:
        before = jax.tree.leaves(variables)  # taken now: the merged module changes variables in their place
        cell = nnx.merge(self.graph, variables)
        result = cell(carry, shown_integers(x, self.dtype))
        graph, after = nnx.split(cell)
        if graph != self.graph or any(a is not b for a, b in zip(jax.tree.leaves(after), before, strict=True)):
            raise TypeError(
                f"{type(cell).__name__} changes its variables or draws random numbers in the step: use flax.nnx.RNN"
            )
        return result


@dataclass(frozen=True)
class _First:
    graph: Any
    features: tuple[int, ...]

    def __call__(self, variables: Params, batch_shape: tuple[int, ...]) -> State:
        cell, rngs = nnx.merge(self.graph, variables), nnx.RngStream(0, tag="carry")
        return carry_of(lambda shape: cell.initialize_carry(shape, rngs), batch_shape, self.features)
