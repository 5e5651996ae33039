"""Two RNNs over the same sequences, one in each direction, with resets or a mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxrnn._flax.calls import Options


def run_both(
    forward_rnn: Callable[..., Any],
    backward_rnn: Callable[..., Any],
    inputs: Any,
    initial_carry: Any,
    options: Options,
    *,
    seq_lengths: Any,
    resets: Any,
    mask: Any,
    merge: Callable[[Any, Any], Any],
    keys: tuple[dict[str, Any], dict[str, Any]],
) -> Any:
    """Runs two modules like Flax's `Bidirectional`, but with resets or a mask.

    Args:
      forward_rnn: The module that reads the first step first.
      backward_rnn: The module that reads the last step first.
      inputs: The inputs of both modules.
      initial_carry: Two carries, or None.
      options: The options of the call; only `time_major` and `return_carry` are used.
      seq_lengths: Integers [*batch].
      resets: Booleans [*batch, time], or time first with `options.time_major`.
      mask: Booleans [*batch, time], or time first with `options.time_major`.
      merge: A function that merges an output of the forward module with one of the backward module.
      keys: For each module, the keyword arguments that hold random keys; they differ between Linen and NNX.
    """
    forward, backward = (None, None) if initial_carry is None else initial_carry
    both = {
        "seq_lengths": seq_lengths,
        "resets": resets,
        "mask": mask,
        "time_major": options.time_major,
        "return_carry": True,
    }
    forward, ys_forward = forward_rnn(inputs, initial_carry=forward, reverse=False, **both, **keys[0])
    backward, ys_backward = backward_rnn(
        inputs, initial_carry=backward, reverse=True, keep_order=True, **both, **keys[1]
    )
    return options.result((forward, backward), jax.tree.map(merge, ys_forward, ys_backward))
