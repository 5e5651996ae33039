"""Flax Linen's own cells in jaxrnn's loop: `flax.linen.RNN` and `Bidirectional` with another inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import flax.errors
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxrnn._adopt import adopt
from jaxrnn._flax import carry_of, check_features, hide_integers, other_direction, run, shown_integers
from jaxrnn.layer import Params, State
from jaxrnn.loops import Deferred, Loop


class FlaxRNN(nn.RNN):
    """See `jaxrnn.linen.RNN`."""

    loop: Loop | None = None

    def __call__(  # type: ignore[override]
        self,
        inputs: Any,
        *,
        initial_carry: State | None = None,
        init_key: Array | None = None,
        seq_lengths: Any = None,
        resets: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        if self.variable_axes or self.variable_carry or self.variable_broadcast != "params":
            raise TypeError("variables of the cell cannot be scanned over in this loop: use flax.linen.RNN")
        inputs = jnp.asarray(inputs)
        time_major = self.time_major if time_major is None else time_major
        axis, step_shape = check_features(self.cell, inputs, time_major)
        if self.is_initializing():  # as Flax does it, for the same parameters
            steps = jax.lax.slice_in_dim(inputs, 0, 1, axis=axis) if inputs.shape[axis] else _one_step(inputs, axis)
            super().__call__(steps, time_major=time_major)
        cell, variables = self.cell.unbind()
        key = jax.random.key(0) if init_key is None else init_key
        if initial_carry is None:
            initial_carry = _initial(cell, variables, key, step_shape)
        features = step_shape[len(step_shape) - cell.num_feature_axes :]
        carry, outputs = run(
            adopt(_Step(cell, inputs.dtype), _First(cell, features), num_feature_axes=cell.num_feature_axes),
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


class Bidirectional(nn.Bidirectional):
    """`flax.linen.Bidirectional` with `resets`, which part the same sequences in both directions."""

    def __call__(  # type: ignore[override]
        self, inputs: Any, *, resets: Any = None, time_major: bool | None = None, **call: Any
    ) -> Any:
        """Runs both over time.

        Args:
          inputs: as `RNN` takes them.
          resets: bool [*batch, time] (with `time_major`, time first), True where a new sequence begins.
          time_major: time is the first axis of inputs, resets and outputs.
          **call: as for `flax.linen.Bidirectional`.

        Returns:
          The merged outputs, or with `return_carry` both last states and the outputs.
        """
        if resets is None:
            return super().__call__(inputs, time_major=time_major, **call)
        time_major = self.time_major if time_major is None else time_major
        return_carry = call.pop("return_carry", None)
        k_forward, k_backward = (None, None) if (key := call.pop("init_key", None)) is None else jax.random.split(key)
        forward, backward = call.pop("initial_carry", None) or (None, None)
        lengths = call.get("seq_lengths")
        both = {"time_major": time_major, "return_carry": True, "seq_lengths": lengths}
        back = other_direction(resets, lengths, time_major)
        run_forward, run_backward = cast("Any", self.forward_rnn), cast("Any", self.backward_rnn)
        forward, ys = run_forward(inputs, initial_carry=forward, init_key=k_forward, resets=resets, **both)
        how = both | {"reverse": True, "keep_order": True}
        backward, ys_back = run_backward(inputs, initial_carry=backward, init_key=k_backward, resets=back, **how)
        outputs = jax.tree.map(self.merge_fn, ys, ys_back)
        return (
            ((forward, backward), outputs) if (self.return_carry if return_carry is None else return_carry) else outputs
        )


@dataclass(frozen=True)
class _Step:
    cell: nn.RNNCellBase
    dtype: Any

    def __call__(self, variables: Params, carry: State, x: Any) -> tuple[State, Any]:
        try:
            return self.cell.apply(variables, carry, shown_integers(x, self.dtype))  # type: ignore[return-value]
        except flax.errors.ModifyScopeVariableError as e:
            raise TypeError(f"{self.cell} changes its variables in the step: use flax.linen.RNN ({e})") from None
        except flax.errors.InvalidRngError as e:
            raise TypeError(f"{self.cell} draws random numbers in the step: use flax.linen.RNN ({e})") from None


@dataclass(frozen=True)
class _First:
    cell: nn.RNNCellBase
    features: tuple[int, ...]

    def __call__(self, variables: Params, batch_shape: tuple[int, ...]) -> State:
        key = jax.random.key(0)
        return carry_of(lambda shape: _initial(self.cell, variables, key, shape), batch_shape, self.features)


def _initial(cell: nn.RNNCellBase, variables: Params, key: Array, shape: tuple[int, ...]) -> State:
    return cell.apply(variables, key, shape, method="initialize_carry")


def _one_step(inputs: Array, axis: int) -> Array:
    return jnp.zeros((*inputs.shape[:axis], 1, *inputs.shape[axis + 1 :]), inputs.dtype)
