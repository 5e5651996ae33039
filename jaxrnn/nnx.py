"""Flax NNX modules around any jaxrnn layer.

Parameters are `nnx.Param` attributes named after the layer's own: `w_x`, `w_h`, `b` of a cell, `layers_0.w_x`, ...
of a stack. Where the module needs the name itself, a trailing underscore stands behind it (`layer_`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxrnn._flax import cast, check_cell, check_layer, check_size, depends, run
from jaxrnn._names import from_dict, to_dict
from jaxrnn._nnx_cells import Bidirectional, FlaxRNN
from jaxrnn._unroll import step
from jaxrnn.layer import Layer, Params, Plan, State
from jaxrnn.loops import Loop, Scan

__all__ = ["RNN", "Bidirectional", "Cell"]

Rngs = nnx.Rngs | nnx.RngStream | None

_ATTRIBUTES = {
    *("layer", "input_size", "dtype", "param_dtype", "deterministic", "random", "rngs"),
    *("loop", "time_major", "return_carry", "reverse", "keep_order"),
}


class _Module(nnx.Module):
    """A module that holds the parameters of a layer, and a stream of random keys if it needs one."""

    def __init__(
        self, layer: Layer, input_size: Any, dtype: Any, param_dtype: Any, deterministic: bool, rngs: nnx.Rngs
    ):
        check_layer(type(self), layer)
        check_size(type(self), input_size)
        self.layer = layer
        self.input_size = input_size
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.deterministic = deterministic
        self.random = _is_random(layer, input_size)
        has_stream = self.random and ("dropout" in rngs or "default" in rngs)
        self.rngs = rngs.dropout.fork() if has_stream else nnx.data(None)
        for name, value in to_dict(cast(layer.init(rngs.params(), input_size), param_dtype)).items():
            setattr(self, self._attribute(name), _variables(value))

    @property
    def params(self) -> Params:
        """The parameters as `jaxrnn.unroll` takes them."""
        like = jax.eval_shape(lambda: self.layer.init(jax.random.key(0), self.input_size))
        tree = {name: getattr(self, self._attribute(name)) for name in to_dict(like)}
        return jax.tree.map(lambda p: p[...], from_dict(tree, like), is_leaf=lambda p: isinstance(p, nnx.Variable))

    def set_view(self, deterministic: bool | None = None) -> None:
        """For `nnx.view`: whether nothing is random."""
        if deterministic is not None:
            self.deterministic = deterministic

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Rngs = None, carry_init: Any = None) -> State:
        """The state before the first step.

        Args:
          input_shape: shape of one step's input, [*batch, features].
          rngs: random keys for `carry_init`.
          carry_init: None: the layer's initial state; otherwise an initializer of all of its arrays.

        Returns:
          The state, of the dtype of the computation.
        """
        batch_shape = tuple(input_shape[: -self.layer.num_feature_axes])
        state = self.layer.initial_state(cast(self.params, self.dtype), batch_shape)
        if carry_init is None:
            return state
        if rngs is None:
            raise ValueError("carry_init needs random keys: call initialize_carry with rngs as well")
        stream = rngs.carry if isinstance(rngs, nnx.Rngs) else rngs
        return jax.tree.map(lambda leaf: carry_init(stream(), leaf.shape, leaf.dtype), state)

    def _attribute(self, name: str) -> str:
        return f"{name}_" if name in _ATTRIBUTES or hasattr(type(self), name) else name

    def _key(self, deterministic: bool | None, rngs: Rngs) -> Array | None:
        if not self.random or (self.deterministic if deterministic is None else deterministic):
            return None
        if isinstance(rngs, nnx.RngStream) and rngs.tag == "carry":
            rngs = None  # what Flax's Bidirectional gives to its layers is for their initial states
        if (rngs := self.rngs if rngs is None else rngs) is None:
            raise ValueError(
                f"{self.layer} is random in training, so it needs random keys: make the module with "
                "nnx.Rngs(params=0, dropout=1), call it with rngs, or call its eval() first"
            )
        return rngs.dropout() if isinstance(rngs, nnx.Rngs) else rngs()


class Cell(_Module, nnx.RNNCellBase):
    """A jaxrnn cell, or any other causal layer, as a cell for `flax.nnx.RNN`.

    Args:
      layer: the jaxrnn cell.
      input_size: number of input features; for symbols (integer inputs), how many there are.
      dtype: dtype of the computation; None: that of parameters and inputs.
      param_dtype: dtype of the stored parameters; None: as `layer.init` draws them.
      deterministic: nothing is random, as after `eval()`.
      rngs: random keys, 'params' and, for a layer with dropout or the like, 'dropout'.
    """

    def __init__(
        self,
        layer: Layer,
        input_size: Any,
        *,
        dtype: Any = None,
        param_dtype: Any = None,
        deterministic: bool = False,
        rngs: nnx.Rngs,
    ):
        super().__init__(layer, input_size, dtype, param_dtype, deterministic, rngs)
        check_cell(layer)

    def __call__(
        self, carry: State, inputs: Any, *, deterministic: bool | None = None, rngs: Rngs = None
    ) -> tuple[State, Any]:
        """One step.

        Args:
          carry: the state before the step.
          inputs: [*batch, features], or integers [*batch].
          deterministic: overrides the module's.
          rngs: random keys instead of the module's own.

        Returns:
          The state after the step, and the output [*batch, ...].
        """
        params, inputs = cast((self.params, jax.tree.map(jnp.asarray, inputs)), self.dtype)
        return step(self.layer, params, carry, inputs, key=self._key(deterministic, rngs))

    @property
    def num_feature_axes(self) -> int:
        return self.layer.num_feature_axes


class _Either(type(nnx.Module)):
    def __call__(cls, *args: Any, **options: Any) -> Any:
        given = args[0] if args else options.get("cell")
        return FlaxRNN(*args, **options) if isinstance(given, nnx.Module) else super().__call__(*args, **options)


class RNN(_Module, metaclass=_Either):
    """A whole jaxrnn layer (a cell, a stack, both directions, ...) over time, with the call of `flax.nnx.RNN`.

    Or a cell of Flax's, `RNN(nnx.LSTMCell(3, 64, rngs=rngs))`: then it is `flax.nnx.RNN`, with its options, variables
    and results, but in jaxrnn's loop, with `resets`, and with `seq_lengths` as below. A cell that changes its variables
    or draws random numbers in the step is refused.

    Args:
      layer: the jaxrnn layer.
      input_size: number of input features; for symbols (integer inputs), how many there are.
      dtype: dtype of the computation; None: that of parameters and inputs.
      param_dtype: dtype of the stored parameters; None: as `layer.init` draws them.
      loop: how to run (`jaxrnn.loops`); None: the default of `jaxrnn.unroll`.
      time_major, return_carry, reverse, keep_order: defaults for the call.
      deterministic: nothing is random, as after `eval()`.
      rngs: random keys, 'params' and, for a layer with dropout or the like, 'dropout'.
    """

    def __init__(
        self,
        layer: Layer,
        input_size: Any,
        *,
        dtype: Any = None,
        param_dtype: Any = None,
        loop: Loop | None = None,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        deterministic: bool = False,
        rngs: nnx.Rngs,
    ):
        super().__init__(layer, input_size, dtype, param_dtype, deterministic, rngs)
        self.loop = loop
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order

    def __call__(
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
        deterministic: bool | None = None,
        rngs: Rngs = None,
    ) -> Any:
        """Runs the layer over time.

        Args:
          inputs: [*batch, time, features], or integers [*batch, time]; with `time_major`, time first.
          initial_carry: the state to begin from; None: the layer's initial state.
          seq_lengths: integers [*batch] from 0 to time. Past its length a sequence's state is left alone and its
            output is zero.
          resets: bool [*batch, time] (with `time_major`, time first), True where a new sequence begins.
          return_carry: return the last state too.
          time_major: time is the first axis of inputs, resets and outputs.
          reverse: read the last step first.
          keep_order: with `reverse`, align outputs with inputs; without, the first output is that of the step read
            first, as in Flax.
          deterministic: overrides the module's.
          rngs: random keys instead of the module's own.

        Returns:
          The outputs [*batch, time, ...], or with `return_carry` the last state and the outputs.
        """
        params, inputs = cast((self.params, jax.tree.map(jnp.asarray, inputs)), self.dtype)
        carry, outputs = run(
            self.layer,
            params,
            inputs,
            initial_carry,
            seq_lengths=seq_lengths,
            resets=resets,
            time_major=self.time_major if time_major is None else time_major,
            reverse=self.reverse if reverse is None else reverse,
            keep_order=self.keep_order if keep_order is None else keep_order,
            key=self._key(deterministic, rngs),
            loop=self.loop,
        )
        return (carry, outputs) if (self.return_carry if return_carry is None else return_carry) else outputs


def _variables(tree: Any) -> Any:
    return nnx.Dict({k: _variables(v) for k, v in tree.items()}) if isinstance(tree, dict) else nnx.Param(tree)


def _is_random(layer: Layer, input_size: Any) -> bool:
    """Whether the layer's outputs or state depend on its random key: no keys are drawn for one that does not."""
    axes = input_size if isinstance(input_size, tuple) else (input_size,)

    def run(key: Array) -> Any:
        params = layer.init(jax.random.key(0), input_size)
        return layer.run(params, jnp.zeros((1, *axes)), layer.initial_state(params), key, Plan(Scan()))

    return depends(run, jax.random.key(0))
