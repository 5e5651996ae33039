"""Flax NNX modules for jaxrnn's layers, and for Flax's own cells in jaxrnn's loops.

The parameters of a layer are `nnx.Param` attributes with the names of the layer's own fields: `w_x`, `w_h`, `b` for a
cell, `layers_0.w_x`, ... for a stack. If the module itself uses a name, the parameter has a trailing underscore
(`layer_`).
"""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx
from jax import Array

from jaxrnn._diagnosis import as_arrays
from jaxrnn._flax.arguments import Option, check_causal, check_layer, check_size, layer_or_cell
from jaxrnn._flax.calls import Options, run
from jaxrnn._flax.cells import run_cell, shape_of_step, time_axis
from jaxrnn._flax.directions import run_both
from jaxrnn._flax.layers import cast, is_random, parameters_like
from jaxrnn._flax.nnx_cells import NnxCell
from jaxrnn._names import from_dict, to_dict
from jaxrnn._unroll import step
from jaxrnn.layer import Layer, Params, State
from jaxrnn.loops import Loop

__all__ = ["RNN", "Bidirectional", "Cell"]

Rngs = nnx.Rngs | nnx.RngStream | None

_ATTRIBUTES = {  # names that a parameter may not have, because the module itself uses them
    *("layer", "input_size", "dtype", "param_dtype", "deterministic", "random", "rngs"),
    *("loop", "time_major", "return_carry", "reverse", "keep_order"),
}


class _LayerModule(nnx.Module):
    """A module that holds the parameters of a jaxrnn layer, and a stream of random keys if the layer needs one."""

    def _hold(
        self, layer: Layer, input_size: Any, dtype: Any, param_dtype: Any, deterministic: bool, rngs: Any
    ) -> None:
        """Sets the attributes and draws the parameters."""
        check_size(type(self), input_size)
        if not isinstance(rngs, nnx.Rngs):
            raise TypeError(f"{type(self).__name__} draws parameters, so rngs must be an nnx.Rngs, but it is {rngs!r}")
        self.layer = layer
        self.input_size = input_size
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.deterministic = deterministic
        self.random = is_random(layer, input_size)
        has_stream = self.random and ("dropout" in rngs or "default" in rngs)
        self.rngs = rngs.dropout.fork() if has_stream else nnx.data(None)
        for name, value in to_dict(cast(layer.init(rngs.params(), input_size), param_dtype)).items():
            setattr(self, self._attribute(name), _variables(value))

    @property
    def params(self) -> Params:
        """The layer's parameters, in the form that `jaxrnn.unroll` takes."""
        if self.layer is None:
            raise AttributeError(
                "only a module with a jaxrnn layer has params: for the variables of a Flax cell, call nnx.state"
            )
        like = parameters_like(self.layer, self.input_size)
        tree = {name: getattr(self, self._attribute(name)) for name in to_dict(like)}
        return jax.tree.map(lambda p: p[...], from_dict(tree, like), is_leaf=lambda p: isinstance(p, nnx.Variable))

    def set_view(self, deterministic: bool | None = None) -> None:
        """Sets `deterministic` in a view of the module; called by `nnx.view`."""
        if deterministic is not None and self.layer is not None:
            self.deterministic = deterministic

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Rngs = None, carry_init: Any = None) -> State:
        """Returns the state before the first step.

        Args:
          input_shape: The shape of one step's input, [*batch, features].
          rngs: Random keys for `carry_init`.
          carry_init: An initializer for all arrays of the state. None means the layer's initial state.

        Returns:
          The state, in the dtype of the computation.
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
            rngs = None  # Flax's Bidirectional passes this stream for the initial states of its layers
        if (rngs := self.rngs if rngs is None else rngs) is None:
            raise ValueError(
                f"{self.layer} is random in training, so it needs random keys: create the module with "
                "nnx.Rngs(params=0, dropout=1), call it with rngs, or call its eval() first"
            )
        return rngs.dropout() if isinstance(rngs, nnx.Rngs) else rngs()


class Cell(_LayerModule, nnx.RNNCellBase):
    """A jaxrnn cell, or any other causal layer, as a cell for `flax.nnx.RNN`.

    `RNN` is faster, because it sees the whole sequence. `Cell` is for code that needs a Flax cell.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxrnn.nnx
      >>> from flax import nnx
      >>> rnn = nnx.RNN(jaxrnn.nnx.Cell(jaxrnn.GRU(64), 8, rngs=nnx.Rngs(0)))
      >>> rnn(jnp.ones((32, 20, 8))).shape  # [batch, time, features]
      (32, 20, 64)

    Args:
      layer: The jaxrnn cell.
      input_size: Number of input features; for symbols (integer inputs), the number of symbols.
      dtype: Dtype of the computation. None means the joint dtype of the parameters and inputs.
      param_dtype: Dtype of the stored parameters. None means the dtype that `layer.init` returns.
      deterministic: If True, nothing is random, as after `eval()`.
      rngs: Random keys: 'params', and also 'dropout' for a layer that is random, such as dropout.
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
        check_layer(type(self), layer)
        check_causal(type(self), layer)
        self._hold(layer, input_size, dtype, param_dtype, deterministic, rngs)

    def __call__(
        self, carry: State, inputs: Any, *, deterministic: bool | None = None, rngs: Rngs = None
    ) -> tuple[State, Any]:
        """Runs one step.

        Args:
          carry: The state before the step.
          inputs: [*batch, features], or integers [*batch].
          deterministic: Overrides the module's attribute.
          rngs: Random keys to use instead of the module's own.

        Returns:
          The state after the step, and the output [*batch, ...].
        """
        params, inputs = cast((self.params, as_arrays("inputs", inputs)), self.dtype)
        return step(self.layer, params, carry, inputs, key=self._key(deterministic, rngs))

    @property
    def num_feature_axes(self) -> int:
        return self.layer.num_feature_axes


class RNN(_LayerModule):
    """Runs a jaxrnn layer or a Flax cell over time, and is called like `flax.nnx.RNN`.

    With a jaxrnn layer (a cell, a stack, both directions, ...), the module holds the layer's parameters.

    With a Flax cell, as in `RNN(nnx.LSTMCell(3, 64, rngs=rngs))`, the module has the options, variables and results of
    `flax.nnx.RNN`, but it uses jaxrnn's loops, accepts `resets` and `mask`, and treats `seq_lengths` as described
    below. A cell that changes its variables or draws random numbers in the step raises an error.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxrnn.nnx
      >>> from flax import nnx
      >>> xs = jnp.ones((32, 20, 8))  # [batch, time, features]
      >>> layer = jaxrnn.Stack(jaxrnn.LSTM(64), jaxrnn.Dropout(0.2), jaxrnn.LSTM(64))
      >>> rnn = jaxrnn.nnx.RNN(layer, 8, rngs=nnx.Rngs(params=0, dropout=1))
      >>> rnn.layers_0.w_x.shape
      (8, 256)
      >>> rnn(xs, seq_lengths=jnp.full(32, 15)).shape
      (32, 20, 64)
      >>> rnn = jaxrnn.nnx.RNN(nnx.LSTMCell(8, 64, rngs=nnx.Rngs(0)), return_carry=True)
      >>> carry, ys = rnn(xs)
      >>> ys.shape
      (32, 20, 64)

    Args:
      layer: The jaxrnn layer, or a Flax cell, which then becomes the attribute `cell`.
      input_size: Number of input features; for symbols (integer inputs), the number of symbols. Not for Flax cells.
      dtype: Dtype of the computation. None means the joint dtype of the parameters and inputs. Not for Flax cells.
      param_dtype: Dtype of the stored parameters. None means the dtype that `layer.init` returns. Not for Flax cells.
      loop: How to run over time (`jaxrnn.loops`). None means the default of `jaxrnn.unroll`, or for a Flax cell
        with an `unroll` other than 1, `Deferred(unroll=unroll)`.
      time_major: Default of the call's `time_major`.
      return_carry: Default of the call's `return_carry`.
      reverse: Default of the call's `reverse`.
      keep_order: Default of the call's `keep_order`.
      deterministic: If True, nothing is random, as after `eval()`. Not for Flax cells.
      rngs: Random keys: 'params', and also 'dropout' for a layer that is random, such as dropout. For a Flax cell, as
        for `flax.nnx.RNN`: random keys 'carry', or a boolean that says whether to create them.
      cell: A Flax cell, instead of `layer`.
      unroll: Number of steps in one iteration of the loop. Only for Flax cells.
      state_axes: Must be None: variables cannot be scanned over. Only for Flax cells.
      broadcast_rngs: As for `flax.nnx.RNN`; it has no effect, because a step draws no random numbers. Only for Flax
        cells.
    """

    def __init__(
        self,
        layer: Any = None,
        input_size: Any = None,
        *,
        dtype: Any = None,
        param_dtype: Any = None,
        loop: Loop | None = None,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        deterministic: bool = False,
        rngs: Any = None,
        cell: Any = None,
        unroll: int = 1,
        state_axes: Any = None,
        broadcast_rngs: Any = None,
    ):
        layer, cell = layer_or_cell(
            type(self),
            layer,
            cell,
            flavor="nnx",
            module_type=nnx.Module,
            for_layers={
                "input_size": Option(input_size),
                "dtype": Option(dtype),
                "param_dtype": Option(param_dtype),
                "deterministic": Option(deterministic, False),
            },
            for_cells={
                "unroll": Option(unroll, 1),
                "state_axes": Option(state_axes),
                "broadcast_rngs": Option(broadcast_rngs),
            },
            unsupported=("state_axes",),
        )
        self.loop = loop
        self.time_major = time_major
        self.return_carry = return_carry
        self.reverse = reverse
        self.keep_order = keep_order
        if layer is not None:
            self._hold(layer, input_size, dtype, param_dtype, deterministic, rngs)
        else:
            self.layer = None
            self.cell = cell
            self.unroll = unroll
            self.broadcast_rngs = broadcast_rngs
            self.rngs = nnx.data(nnx.RNN(cell, rngs=True if rngs is None else rngs).rngs)

    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: State | None = None,
        seq_lengths: Any = None,
        resets: Any = None,
        mask: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        deterministic: bool | None = None,
        rngs: Rngs = None,
    ) -> Any:
        """Runs over time.

        Args:
          inputs: [*batch, time, features], or integers [*batch, time]. With `time_major`, time is the first axis.
          initial_carry: The state before the first step. None means the initial state of the layer or cell.
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
          deterministic: Overrides the module's attribute. Not for Flax cells.
          rngs: Random keys to use instead of the module's own.

        Returns:
          The outputs [*batch, time, ...], or with `return_carry` the last state and the outputs.
        """
        options = Options.of(
            self, return_carry=return_carry, time_major=time_major, reverse=reverse, keep_order=keep_order
        )
        if self.layer is not None:
            params, inputs = cast((self.params, as_arrays("inputs", inputs)), self.dtype)
            return run(
                self.layer,
                params,
                inputs,
                initial_carry,
                options,
                seq_lengths=seq_lengths,
                resets=resets,
                mask=mask,
                key=self._key(deterministic, rngs),
                loop=self.loop,
            )
        if deterministic is not None:
            raise TypeError("deterministic is an option for jaxrnn layers, but RNN wraps a Flax cell")
        inputs = as_arrays("inputs", inputs)
        axis = time_axis(self.cell, inputs, options)
        if initial_carry is None:
            rngs = self.rngs if rngs is None else rngs
            initial_carry = self.initialize_carry(
                shape_of_step(inputs, axis), rngs.carry.fork() if isinstance(rngs, nnx.Rngs) else rngs
            )
        graph, variables = nnx.split(self.cell)
        return run_cell(
            NnxCell(graph, self.cell.num_feature_axes),
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

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Rngs = None, carry_init: Any = None) -> State:
        """Returns the state before the first step.

        Args:
          input_shape: The shape of one step's input, [*batch, features].
          rngs: Random keys for `carry_init`, or for the initial carry of a Flax cell.
          carry_init: An initializer for all arrays of the state. None means the initial state of the layer or cell.

        Returns:
          The state, in the dtype of the computation.
        """
        if self.layer is not None:
            return super().initialize_carry(input_shape, rngs, carry_init)
        how = {} if carry_init is None else {"carry_init": carry_init}
        return self.cell.initialize_carry(input_shape, rngs, **how)


class Bidirectional(nnx.Bidirectional):
    """`flax.nnx.Bidirectional` that also accepts `resets` and `mask`, which mean the same in both directions.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxrnn.nnx
      >>> from flax import nnx
      >>> forward = jaxrnn.nnx.RNN(nnx.GRUCell(8, 64, rngs=nnx.Rngs(0)))
      >>> backward = jaxrnn.nnx.RNN(jaxrnn.LSTM(64), 8, rngs=nnx.Rngs(1))
      >>> both = jaxrnn.nnx.Bidirectional(forward, backward)
      >>> resets = jnp.arange(20) == 10  # two sequences of ten steps in each row
      >>> both(jnp.ones((32, 20, 8)), resets=jnp.tile(resets, (32, 1))).shape
      (32, 20, 128)

    Args:
      forward_rnn: The `RNN` that reads the first step first.
      backward_rnn: The `RNN` that reads the last step first.
      merge_fn: Merges an output of `forward_rnn` with one of `backward_rnn`. The default concatenates them.
      time_major: Default of the call's `time_major`.
      return_carry: Default of the call's `return_carry`.
      rngs: Random keys 'carry' for the initial carries of Flax cells, or a boolean that says whether to create them.
    """

    def __call__(  # type: ignore[override]
        self,
        inputs: Any,
        *,
        initial_carry: tuple[State, State] | None = None,
        rngs: Rngs = None,
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
          rngs: Random keys to use instead of the module's own.
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
                rngs=rngs,
                seq_lengths=seq_lengths,
                return_carry=return_carry,
                time_major=time_major,
            )
        rngs = self.rngs if rngs is None else rngs
        keys = {"rngs": rngs.carry if isinstance(rngs, nnx.Rngs) else rngs}
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
            keys=(keys, keys),
        )


def _variables(tree: Any) -> Any:
    return nnx.Dict({k: _variables(v) for k, v in tree.items()}) if isinstance(tree, dict) else nnx.Param(tree)
