"""Several models of one kind, with different seeds or learning rates, that train side by side as one program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

SHARED = ("step",)  # fields of a training state that all models share


@dataclass(frozen=True)
class Ensemble:
    """Models that train side by side. It turns functions of one model into functions of all models.

    Arrays of an ensemble have an axis of models in front. An ensemble of one model has no such axis, and runs exactly
    the program of that model.
    """

    size: int

    def map(self, function: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
        """Maps a function over the models, like `jax.vmap`."""
        return function if self.size == 1 else jax.vmap(function, in_axes, out_axes)

    def begin(self, begin: Callable[..., Any], *each: Any) -> Any:
        """Returns the training state of all models, given arrays with one argument of `begin` per model."""
        like = jax.eval_shape(begin, *(values[0] for values in each))
        return self.map(begin, out_axes=axes_of(like))(*map(self.each, each))

    def update(self, update: Callable[..., Any], key_axis: int | None = 0) -> Callable[..., Any]:
        """Returns the training step of all models, given that of one: (train, data, key, progress) -> (train, loss).

        Args:
          update: The training step of one model.
          key_axis: 0 if there is a key for each model, None if all use the same.
        """
        if self.size == 1:
            return update

        def of_all(train: Any, data: Any, keys: Any, progress: Any) -> tuple[Any, Array]:
            axes = axes_of(train)
            return jax.vmap(update, (axes, None, key_axis, None), (axes, 0))(train, data, keys, progress)

        return of_all

    def specs(self, specs: Any) -> Any:
        """Returns how the training state of all models is split over devices, given the `PartitionSpec`s of one."""
        if self.size == 1:
            return specs
        return type(specs)(
            *(
                part if name in SHARED else jax.tree.map(lambda spec: PartitionSpec(None, *spec), part)
                for name, part in zip(specs._fields, specs, strict=True)
            )
        )

    def keys(self, keys: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Converts a function that returns an array of one key per model at a step to the form that `map` expects."""
        return lambda step: self.each(keys(step))

    def each(self, values: Any) -> Any:
        """Converts an array with one entry per model to the form that functions made by `map` expect."""
        return values[0] if self.size == 1 else values

    def member(self, tree: Any, n: int) -> Any:
        """Returns the arrays of model number `n`."""
        return tree if self.size == 1 else jax.tree.map(lambda leaf: leaf[n], tree)

    def stacked(self, tree: Any) -> Any:
        """Returns arrays with an axis of models, also for an ensemble of one."""
        return jax.tree.map(lambda leaf: leaf[None], tree) if self.size == 1 else tree


def axes_of(train: Any) -> Any:
    """Returns where the axis of models is in each field of a training state, a NamedTuple."""
    return type(train)(*(None if name in SHARED else 0 for name in train._fields))


def mean_of_finite(losses: Array) -> Array:
    """Returns the mean over the models that still learn; NaN if none does."""
    return jnp.nanmean(jnp.where(jnp.isfinite(losses), losses, jnp.nan))


class Losses:
    """Losses of all models at one time. A loss that is not finite counts as infinite."""

    def __init__(self, losses: Any):
        self.all = np.nan_to_num(np.atleast_1d(losses), nan=np.inf).tolist()
        self.mean = float(np.mean(self.all))
        self.lowest = min(self.all)
        self.best = int(np.argmin(self.all))

    @property
    def columns(self) -> dict[str, float]:
        """Columns of metrics.csv."""
        members = {f"member_{n}": loss for n, loss in enumerate(self.all)}
        return {"valid_loss": self.mean} | ({} if len(self.all) == 1 else members)

    def __str__(self) -> str:
        spread = f", from {self.lowest:z.3f} to {max(self.all):z.3f}"
        return f"{self.mean:z.3f}{spread if len(self.all) > 1 else ''}"


def best_member(row: dict[str, float]) -> int:
    """Returns the number of the model with the lowest loss in a row of metrics.csv."""
    losses = [row[name] for name in row if name.startswith("member_")]
    return int(np.argmin(losses)) if losses else 0
