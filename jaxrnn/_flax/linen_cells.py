"""A Linen cell without its variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flax.errors
import jax
from flax import linen as nn
from jax import Array

from jaxrnn._flax.cells import FlaxCell
from jaxrnn.layer import Params, State


@dataclass(frozen=True)
class LinenCell(FlaxCell):
    """See `FlaxCell`.

    Args:
      cell: The unbound cell.
    """

    cell: nn.RNNCellBase

    @property
    def num_feature_axes(self) -> int:  # type: ignore[override]
        return self.cell.num_feature_axes

    def step(self, variables: Params, carry: State, x: Array) -> tuple[State, Any]:
        try:
            return self.cell.apply(variables, carry, x)  # type: ignore[return-value]
        except flax.errors.ModifyScopeVariableError as e:
            raise TypeError(f"{self.cell} changes its variables in the step: use flax.linen.RNN ({e})") from None
        except flax.errors.InvalidRngError as e:
            raise TypeError(f"{self.cell} draws random numbers in the step: use flax.linen.RNN ({e})") from None

    def initial_carry(self, variables: Params, input_shape: tuple[int, ...], key: Array | None = None) -> State:
        """See `FlaxCell`. `key` is passed to Flax's `initialize_carry`; None means `jax.random.key(0)`."""
        key = jax.random.key(0) if key is None else key
        return self.cell.apply(variables, key, input_shape, method="initialize_carry")
