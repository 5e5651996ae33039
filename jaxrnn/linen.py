"""Flax Linen modules for jaxrnn's layers, and for Flax's own cells in jaxrnn's loops.

The parameters of a layer are nested dicts with the names of the layer's own fields: `w_x`, `w_h`, `b` for a cell,
`layers_0`, `layers_1`, ... for a stack. `to_dict` and `from_dict` convert between these dicts and the parameters
that `jaxrnn.unroll` takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax import Array

from jaxrnn._diagnosis import as_arrays
from jaxrnn._flax.arguments import Option, check_causal, check_layer, check_size, layer_or_cell
from jaxrnn._flax.calls import Options, run
from jaxrnn._flax.cells import run_cell, shape_of_step, time_axis
from jaxrnn._flax.directions import run_both
from jaxrnn._flax.layers import cast, depends, parameters_like
from jaxrnn._flax.linen_cells import LinenCell
from jaxrnn._names import from_dict, to_dict
from jaxrnn._unroll import step
from jaxrnn.layer import Layer, Params, State
from jaxrnn.loops import Loop
from jaxrnn.ops import is_symbols

__all__ = ["RNN", "Bidirectional", "Cell", "from_dict", "to_dict"]


class _LayerModule(nn.Module):
    """A module that holds the parameters of a jaxrnn layer."""

    layer: Any
    input_size: Any = None
    dtype: Any = None
    param_dtype: Any = None

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...]) -> State:
        """Returns the state before the first step.

        Args:
          rng: A random key; ignored, because the initial states of layers are not random.
          input_shape: The shape of one step's input, [*batch, features].

        Returns:
          The state, in the dtype of the computation.
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
                f"the initial state of {self.layer} depends on its parameters, but this module is not bound to any: "
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
        """Returns the shapes and dtypes of the layer's parameters."""
        return parameters_like(self.layer, size, self.param_dtype)

    @nn.nowrap
    def _params(self, inputs: Any) -> Params:
        """Returns the layer's parameters, in the dtype of the computation, and draws them during `init`."""
        size = self._input_size(inputs)
        like = self._like(size)
        names = to_dict(like)
        missing = self.is_mutable_collection("params") and not all(self.has_variable("params", n) for n in names)
        if not missing and "params" in self.variables:
            from_dict(self.variables["params"], like)  # reports a missing parameter by name; Flax only compares shapes
        values = to_dict(self._draw(self.make_rng("params"), size)) if missing else names
        if missing or not all(self.has_variable("params", name) for name in names):
            tree = {name: self.param(name, lambda _, value=value: value) for name, value in values.items()}
        else:  # `param` would trace an initializer for each of them at every call
            tree = {name: nn.meta.unbox(self.get_variable("params", name)) for name in names}
        return cast(from_dict(tree, like), self.dtype)

    @nn.nowrap
    def _input_size(self, inputs: Any) -> Any:
        if self.input_size is not None:
            return self.input_size
        if len(leaves := jax.tree.leaves(inputs)) != 1 or is_symbols(leaves[0]):
            raise ValueError(
                "the number of symbols cannot be inferred from integer inputs: "
                f"pass it, as in {type(self).__name__}(layer, input_size=256)"
            )
        return _size(jnp.shape(leaves[0])[-self.layer.num_feature_axes :])

    @nn.nowrap
    def _key(self) -> Array | None:
        return self.make_rng("dropout") if self.has_rng("dropout") else None


class Cell(_LayerModule, nn.RNNCellBase):
    """A jaxrnn cell, or any other causal layer, as a cell for `flax.linen.RNN`.

    `RNN` is faster, because it sees the whole sequence. `Cell` is for code that needs a Flax cell.

    Layers with dropout are random only if `apply` receives a 'dropout' rng. `flax.linen.RNN` passes that rng to its
    cell only with `split_rngs={"params": False, "dropout": True}`.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jaxrnn.linen
      >>> from flax import linen as nn
      >>> rnn = nn.RNN(jaxrnn.linen.Cell(jaxrnn.GRU(64)))
      >>> xs = jnp.ones((32, 20, 8))  # [batch, time, features]
      >>> ys, variables = rnn.init_with_output(jax.random.key(0), xs)
      >>> ys.shape
      (32, 20, 64)

    Args:
      layer: The jaxrnn cell.
      input_size: Number of input features. None infers it from the inputs; symbols (integer inputs) require a number.
      dtype: Dtype of the computation. None means the joint dtype of the parameters and inputs.
      param_dtype: Dtype of the stored parameters. None means the dtype that `layer.init` returns.
    """

    layer: Layer

    def __post_init__(self) -> None:
        check_layer(type(self), self.layer)
        check_causal(type(self), self.layer)
        if self.input_size is not None:
            check_size(type(self), self.input_size)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: State, inputs: Any) -> tuple[State, Any]:
        """Runs one step.

        Args:
          carry: The state before the step.
          inputs: [*batch, features], or integers [*batch].

        Returns:
          The state after the step, and the output [*batch, ...].
        """
        inputs = as_arrays("inputs", inputs)
        params = self._params(inputs)
        return step(self.layer, params, carry, cast(inputs, self.dtype), key=self._key())

    @property
    def num_feature_axes(self) -> int:
        return self.layer.num_feature_axes


_FLAX_OPTIONS = {  # options for Flax cells only, with the defaults of flax.linen.RNN
    "unroll": 1,
    "variable_axes": FrozenDict(),
    "variable_broadcast": "params",
    "variable_carry": False,
    "split_rngs": FrozenDict({"params": False}),
}


class RNN(_LayerModule):
    """Runs a jaxrnn layer or a Flax cell over time, and is called like `flax.linen.RNN`.

    With a jaxrnn layer (a cell, a stack, both directions, ...), the module holds the layer's parameters. Layers with
    dropout are random only if `apply` receives a 'dropout' rng.

    With a Flax cell, as in `RNN(nn.LSTMCell(64))`, the module has the options, variables and results of
    `flax.linen.RNN`, but it uses jaxrnn's loops, accepts `resets` and `mask`, and treats `seq_lengths` as described
    below. A cell that changes its variables or draws random numbers in the step raises an error.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jaxrnn.linen
      >>> from flax import linen as nn
      >>> xs = jnp.ones((32, 20, 8))  # [batch, time, features]
      >>> rnn = jaxrnn.linen.RNN(jaxrnn.Stack(jaxrnn.LSTM(64), jaxrnn.LSTM(64)))
      >>> ys, variables = rnn.init_with_output(jax.random.key(0), xs, seq_lengths=jnp.full(32, 15))
      >>> ys.shape
      (32, 20, 64)
      >>> list(variables["params"])
      ['layers_0', 'layers_1']
      >>> rnn = jaxrnn.linen.RNN(nn.GRUCell(64), return_carry=True)
      >>> (carry, ys), variables = rnn.init_with_output(jax.random.key(0), xs)
      >>> carry.shape
      (32, 64)

    Args:
      layer: The jaxrnn layer, or a Flax cell, which then becomes the attribute `cell`.
      input_size: Number of input features. None infers it from the inputs; symbols (integer inputs) require a number.
        Not for Flax cells.
      dtype: Dtype of the computation. None means the joint dtype of the parameters and inputs. Not for Flax cells.
      param_dtype: Dtype of the stored parameters. None means the dtype that `layer.init` returns. Not for Flax cells.
      loop: How to run over time (`jaxrnn.loops`). None means the default of `jaxrnn.unroll`, or for a Flax cell
        with an `unroll` other than 1, `Deferred(unroll=unroll)`.
      time_major: Default of the call's `time_major`.
      return_carry: Default of the call's `return_carry`.
      reverse: Default of the call's `reverse`.
      keep_order: Default of the call's `keep_order`.
      cell: A Flax cell, instead of `layer`.
      unroll: Number of steps in one iteration of the loop. Only for Flax cells.
      variable_axes: Must be empty: variables cannot be scanned over. Only for Flax cells.
      variable_broadcast: Must be 'params'. Only for Flax cells.
      variable_carry: Must be False. Only for Flax cells.
      split_rngs: As for `flax.linen.RNN`, when the parameters are drawn. Only for Flax cells.
    """

    layer: Any = None
    loop: Loop | None = None
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    cell: Any = None
    unroll: int = _FLAX_OPTIONS["unroll"]
    variable_axes: Mapping[Any, Any] = _FLAX_OPTIONS["variable_axes"]
    variable_broadcast: Any = _FLAX_OPTIONS["variable_broadcast"]
    variable_carry: Any = _FLAX_OPTIONS["variable_carry"]
    split_rngs: Mapping[Any, bool] = _FLAX_OPTIONS["split_rngs"]

    def __post_init__(self) -> None:
        # Flax names a cell's variables after the attribute that holds it, which is `cell` in flax.linen.RNN.
        self.layer, self.cell = layer_or_cell(
            type(self),
            self.layer,
            self.cell,
            flavor="linen",
            module_type=nn.Module,
            for_layers={name: Option(getattr(self, name)) for name in ("input_size", "dtype", "param_dtype")},
            for_cells={name: Option(getattr(self, name), default) for name, default in _FLAX_OPTIONS.items()},
            unsupported=("variable_axes", "variable_broadcast", "variable_carry"),
        )
        if self.input_size is not None:
            check_size(type(self), self.input_size)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: State | None = None,
        init_key: Array | None = None,
        seq_lengths: Any = None,
        resets: Any = None,
        mask: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """Runs over time.

        Args:
          inputs: [*batch, time, features], or integers [*batch, time]. With `time_major`, time is the first axis.
          initial_carry: The state before the first step. None means the initial state of the layer or cell.
          init_key: Random key for the initial carry of a Flax cell. The initial states of layers are not random.
          seq_lengths: Integers [*batch] from 0 to time. Past its length, a sequence's state stays unchanged and
            its output is zero.
          resets: Booleans [*batch, time] (with `time_major`, time first). True where a new sequence begins in time,
            in both directions.
          mask: Booleans [*batch, time] (with `time_major`, time first). True where a step is present, as for
            `jaxrnn.unroll`.
          return_carry: Whether to return the last state too.
          time_major: Whether time is the first axis of inputs, resets and outputs.
          reverse: Whether to read the last step first.
          keep_order: With `reverse`, whether outputs are aligned with inputs. If False, the first output belongs to
            the step that is read first, as in Flax.

        Returns:
          The outputs [*batch, time, ...], or with `return_carry` the last state and the outputs.
        """
        options = Options.of(
            self, return_carry=return_carry, time_major=time_major, reverse=reverse, keep_order=keep_order
        )
        if self.cell is None:
            inputs = as_arrays("inputs", inputs)
            params = self._params(inputs)
            return run(
                self.layer,
                params,
                cast(inputs, self.dtype),
                initial_carry,
                options,
                seq_lengths=seq_lengths,
                resets=resets,
                mask=mask,
                key=self._key(),
                loop=self.loop,
            )
        inputs = as_arrays("inputs", inputs)
        axis = time_axis(self.cell, inputs, options)
        if self.is_initializing():
            self._draw_cell(inputs, axis)
        unbound, variables = self.cell.unbind()
        cell = LinenCell(unbound)
        if initial_carry is None:
            initial_carry = cell.initial_carry(variables, shape_of_step(inputs, axis), init_key)
        return run_cell(
            cell,
            variables,
            inputs,
            initial_carry,
            options,
            seq_lengths=seq_lengths,
            resets=resets,
            mask=mask,
            loop=self.loop,
            unroll=self.unroll,
        )

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...]) -> State:
        """Returns the state before the first step.

        Args:
          rng: A random key, for the initial carry of a Flax cell. The initial states of layers are not random.
          input_shape: The shape of one step's input, [*batch, features].

        Returns:
          The state, in the dtype of the computation.
        """
        if self.cell is None:
            return super().initialize_carry(rng, input_shape)
        return self.cell.initialize_carry(rng, input_shape)

    @nn.nowrap
    def _draw_cell(self, inputs: Array, axis: int) -> None:
        """Draws the variables of a Flax cell in a scan over one step, so that they equal those of `flax.linen.RNN`."""
        shape = shape_of_step(inputs, axis)
        if inputs.shape[axis]:
            x = jax.lax.slice_in_dim(inputs, 0, 1, axis=axis)
        else:
            x = jnp.expand_dims(jnp.zeros(shape, inputs.dtype), axis)
        carry = self.cell.initialize_carry(jax.random.key(0), shape)
        scan = nn.scan(
            lambda cell, carry, x: cell(carry, x),
            in_axes=axis,
            out_axes=axis,
            variable_broadcast="params",
            split_rngs=self.split_rngs,
        )
        scan(self.cell, carry, x)


class Bidirectional(nn.Bidirectional):
    """`flax.linen.Bidirectional` that also accepts `resets` and `mask`, which mean the same in both directions.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import jaxrnn.linen
      >>> from flax import linen as nn
      >>> both = jaxrnn.linen.Bidirectional(jaxrnn.linen.RNN(nn.GRUCell(64)), jaxrnn.linen.RNN(jaxrnn.LSTM(64)))
      >>> resets = jnp.arange(20) == 10  # two sequences of ten steps in each row
      >>> xs, resets = jnp.ones((32, 20, 8)), jnp.tile(resets, (32, 1))
      >>> ys, variables = both.init_with_output(jax.random.key(0), xs, resets=resets)
      >>> ys.shape
      (32, 20, 128)

    Args:
      forward_rnn: The `RNN` that reads the first step first.
      backward_rnn: The `RNN` that reads the last step first.
      merge_fn: Merges an output of `forward_rnn` with one of `backward_rnn`. The default concatenates them.
      time_major: Default of the call's `time_major`.
      return_carry: Default of the call's `return_carry`.
    """

    def __call__(  # type: ignore[override]
        self,
        inputs: Any,
        *,
        initial_carry: tuple[State, State] | None = None,
        init_key: Array | None = None,
        seq_lengths: Any = None,
        resets: Any = None,
        mask: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """Runs both modules over time.

        Args:
          inputs: As for `RNN`.
          initial_carry: The two states before the first steps. None means the initial states of the modules.
          init_key: Random key for the initial carries of Flax cells.
          seq_lengths: Integers [*batch] from 0 to time.
          resets: Booleans [*batch, time] (with `time_major`, time first). True where a new sequence begins in time,
            in both directions.
          mask: Booleans [*batch, time] (with `time_major`, time first). True where a step is present, as for
            `jaxrnn.unroll`.
          return_carry: Whether to return both last states too.
          time_major: Whether time is the first axis of inputs, resets and outputs.
          reverse: Ignored, as in Flax.
          keep_order: Ignored, as in Flax.

        Returns:
          The merged outputs, or with `return_carry` both last states and the merged outputs.
        """
        if resets is None and mask is None:
            return super().__call__(
                inputs,
                initial_carry=initial_carry,
                init_key=init_key,
                seq_lengths=seq_lengths,
                return_carry=return_carry,
                time_major=time_major,
            )
        keys = (None, None) if init_key is None else jax.random.split(init_key)
        return run_both(
            self.forward_rnn,
            self.backward_rnn,
            inputs,
            initial_carry,
            Options.of(self, return_carry=return_carry, time_major=time_major),
            seq_lengths=seq_lengths,
            resets=resets,
            mask=mask,
            merge=self.merge_fn,
            keys=({"init_key": keys[0]}, {"init_key": keys[1]}),
        )


def _size(axes: tuple[int, ...]) -> Any:
    """Returns the input size that has these feature axes."""
    return axes[0] if len(axes) == 1 else tuple(axes)


def _zeros(like: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
