"""Flax Linen modules around any jaxrnn layer.

Parameters are nested dicts named after the layer's own: `w_x`, `w_h`, `b` of a cell, `layers_0`, ... of a stack.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxrnn._flax import cast, check_cell, check_layer, check_size, depends, run
from jaxrnn._linen_cells import Bidirectional, FlaxRNN
from jaxrnn._names import from_dict, to_dict
from jaxrnn._unroll import step
from jaxrnn.layer import Layer, Params, State
from jaxrnn.loops import Loop
from jaxrnn.ops import is_symbols

__all__ = ["RNN", "Bidirectional", "Cell", "from_dict", "to_dict"]


class _Module(nn.Module):
    """A module that holds the parameters of a layer."""

    layer: Layer
    input_size: Any = None
    dtype: Any = None
    param_dtype: Any = None

    def __post_init__(self) -> None:
        check_layer(type(self), self.layer)
        if self.input_size is not None:
            check_size(type(self), self.input_size)
        super().__post_init__()

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...]) -> State:
        """The state before the first step.

        Args:
          rng: for Flax's sake; initial states are not random.
          input_shape: shape of one step's input, [*batch, features].

        Returns:
          The state, of the dtype of the computation.
        """
        features = self.layer.num_feature_axes
        batch_shape = tuple(input_shape[:-features])
        size = _size(input_shape[-features:]) if self.input_size is None else self.input_size
        like = self._like(size)

        def state(params: Params) -> State:
            return self.layer.initial_state(cast(params, self.dtype), batch_shape)

        if not depends(state, like):
            return state(_zeros(like))
        if self.scope is None:
            raise ValueError(
                f"the initial state of {self.layer} is made of its parameters, but this module is not bound to any: "
                "call module.apply(variables, rng, input_shape, method='initialize_carry')"
            )
        if self.is_mutable_collection("params") and not self.has_variable("params", next(iter(to_dict(like)))):
            for name, value in to_dict(self._draw(self.make_rng("params"), size)).items():
                self.put_variable("params", name, value)
        return state(from_dict(self.variables.get("params", {}), like))

    @nn.nowrap
    def _draw(self, key: Array, size: Any) -> Params:
        return cast(self.layer.init(key, size), self.param_dtype)

    @nn.nowrap
    def _like(self, size: Any) -> Params:
        return jax.eval_shape(lambda: self._draw(jax.random.key(0), size))

    @nn.nowrap
    def _params(self, inputs: Any) -> Params:
        """The layer's parameters, in the dtype of the computation; drawn if this is `init`."""
        size = self._input_size(inputs)
        like = self._like(size)
        names = to_dict(like)
        missing = self.is_mutable_collection("params") and not all(self.has_variable("params", n) for n in names)
        if not missing and "params" in self.variables:
            from_dict(self.variables["params"], like)  # says what is missing, where Flax compares shapes alone
        values = to_dict(self._draw(self.make_rng("params"), size)) if missing else names
        # Flax reads only the shapes of initial values where the parameters are there
        start = (lambda value: value) if missing else _zeros
        tree = {name: self.param(name, lambda _, value=value: start(value)) for name, value in values.items()}
        return cast(from_dict(tree, like), self.dtype)

    @nn.nowrap
    def _input_size(self, inputs: Any) -> Any:
        if self.input_size is not None:
            return self.input_size
        if len(leaves := jax.tree.leaves(inputs)) != 1 or is_symbols(leaves[0]):
            raise ValueError(
                "the number of symbols cannot be seen from inputs of integers: "
                f"give it, as in {type(self).__name__}(layer, input_size=256)"
            )
        return _size(jnp.shape(leaves[0])[-self.layer.num_feature_axes :])

    @nn.nowrap
    def _key(self) -> Array | None:
        return self.make_rng("dropout") if self.has_rng("dropout") else None


class Cell(_Module, nn.RNNCellBase):
    """A jaxrnn cell, or any other causal layer, as a cell for `flax.linen.RNN`.

    Without a 'dropout' rng nothing is random. `flax.linen.RNN` hides it from its cell unless it is told
    `split_rngs={"params": False, "dropout": True}`.

    Args:
      layer: the jaxrnn cell.
      input_size: number of input features; None: that of the inputs. Symbols (integer inputs) need it.
      dtype: dtype of the computation; None: that of parameters and inputs.
      param_dtype: dtype of the stored parameters; None: as `layer.init` draws them.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cell(self.layer)

    @nn.compact
    def __call__(self, carry: State, inputs: Any) -> tuple[State, Any]:
        """One step.

        Args:
          carry: the state before the step.
          inputs: [*batch, features], or integers [*batch].

        Returns:
          The state after the step, and the output [*batch, ...].
        """
        inputs = jax.tree.map(jnp.asarray, inputs)
        params = self._params(inputs)
        return step(self.layer, params, carry, cast(inputs, self.dtype), key=self._key())

    @property
    def num_feature_axes(self) -> int:
        return self.layer.num_feature_axes


class _Either(type(nn.Module)):
    def __call__(cls, *args: Any, **options: Any) -> Any:
        given = args[0] if args else options.get("cell")
        return FlaxRNN(*args, **options) if isinstance(given, nn.Module) else super().__call__(*args, **options)


class RNN(_Module, metaclass=_Either):
    """A whole jaxrnn layer (a cell, a stack, both directions, ...) over time, with the call of `flax.linen.RNN`.

    Or a cell of Flax's, `RNN(nn.LSTMCell(64))`: then it is `flax.linen.RNN`, with its options, parameters and
    results, but in jaxrnn's loop, with `resets`, and with `seq_lengths` as below. A cell that changes its variables or
    draws random numbers in the step is refused.

    Dropout and the like are random where a 'dropout' rng is given to `apply`, and only there.

    Args:
      layer: the jaxrnn layer.
      input_size: number of input features; None: that of the inputs. Symbols (integer inputs) need it.
      dtype: dtype of the computation; None: that of parameters and inputs.
      param_dtype: dtype of the stored parameters; None: as `layer.init` draws them.
      loop: how to run (`jaxrnn.loops`); None: the default of `jaxrnn.unroll`.
      time_major, return_carry, reverse, keep_order: defaults for the call.
    """

    loop: Loop | None = None
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False

    @nn.compact
    def __call__(
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
        """Runs the layer over time.

        Args:
          inputs: [*batch, time, features], or integers [*batch, time]; with `time_major`, time first.
          initial_carry: the state to begin from; None: the layer's initial state.
          init_key: for Flax's sake; initial states are not random.
          seq_lengths: integers [*batch] from 0 to time. Past its length a sequence's state is left alone and its
            output is zero.
          resets: bool [*batch, time] (with `time_major`, time first), True where a new sequence begins.
          return_carry: return the last state too.
          time_major: time is the first axis of inputs, resets and outputs.
          reverse: read the last step first.
          keep_order: with `reverse`, align outputs with inputs; without, the first output is that of the step read
            first, as in Flax.

        Returns:
          The outputs [*batch, time, ...], or with `return_carry` the last state and the outputs.
        """
        inputs = jax.tree.map(jnp.asarray, inputs)
        params = self._params(inputs)
        carry, outputs = run(
            self.layer,
            params,
            cast(inputs, self.dtype),
            initial_carry,
            seq_lengths=seq_lengths,
            resets=resets,
            time_major=self.time_major if time_major is None else time_major,
            reverse=self.reverse if reverse is None else reverse,
            keep_order=self.keep_order if keep_order is None else keep_order,
            key=self._key(),
            loop=self.loop,
        )
        return (carry, outputs) if (self.return_carry if return_carry is None else return_carry) else outputs


def _size(axes: tuple[int, ...]) -> Any:
    return axes[0] if len(axes) == 1 else tuple(axes)


def _zeros(like: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
