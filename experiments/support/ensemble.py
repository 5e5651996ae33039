"""Several models of one kind trained at once, as one compiled program: of several seeds, or learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Config(common.Config):
    learning_rate: tuple[float, ...] = (1e-3,)  # Its highest value; of several, each trains models of its own
    seeds: int = 1  # Models that are trained at once, of as many seeds

    def check(self) -> None:
        super().check()
        common.at_least(1, seeds=self.seeds, learning_rate=len(self.learning_rate))
        for rate in self.learning_rate:
            common.above(0, learning_rate=rate)

    @property
    def members(self) -> list[tuple[int, float]]:
        """Seed and learning rate of each model."""
        return [(self.seed + n, rate) for n in range(self.seeds) for rate in self.learning_rate]

    @property
    def alone(self) -> bool:
        """Whether there is one model, whose arrays then have no axis of models."""
        return len(self.members) == 1

    def begin(self, make: Callable[[Any, Any], Any]) -> Any:
        """What `make(seed, learning_rate)` makes, for each model."""
        seeds, rates = map(jnp.array, zip(*self.members, strict=True))
        return make(seeds[0], rates[0]) if self.alone else jax.vmap(make)(seeds, rates)

    def each(self, function: Callable[..., Any], *in_axes: int | None) -> Callable[..., Any]:
        """A function of one model as one of all."""
        return function if self.alone else jax.vmap(function, in_axes)

    def member(self, tree: Any, n: int) -> Any:
        return tree if self.alone else jax.tree.map(lambda leaf: leaf[n], tree)

    def best(self, run: common.Run, like: Any) -> Any:
        """The parameters of the best model in the best checkpoint; `like`: what is trained, in shapes and dtypes."""
        train, _ = run.checkpoints.best((like, 0.0))
        return self.member(train.members.params, best_member(run.best))

    def summary(self, run: common.Run, beside: str) -> dict[str, str]:
        """What a run of language models has come to, beside others; for several, a line for each as well."""
        last, of_all = run.rows[-1], "" if self.alone else ", means of all models"
        bits = f"{last['valid_loss']:.3f} nats per character, {last['valid_loss'] / math.log(2):.3f} bits"
        lines = {"validation": f"{bits}; best {run.best['valid_loss']:.3f} nats{of_all}", "beside": beside}
        for n, (seed, rate) in enumerate([] if self.alone else self.members):
            lines[f"model {n}"] = f"seed {seed}, learning rate {rate:g}: validation {last.get(f'member_{n}', 0.0):.3f}"
        lines["training"] = f"{last['train_loss']:.3f} at the end, after {last['step']:,.0f} updates"
        lines["time"] = f"{common.span(last['seconds'])}, {last['chars_per_second']:,.0f} characters per second"
        return lines


class Losses:
    """The losses of all models at one time; one that is not finite is infinite."""

    def __init__(self, losses: Any):
        self.all = np.nan_to_num(np.atleast_1d(losses), nan=np.inf).tolist()
        self.mean, self.least, self.best = float(np.mean(self.all)), min(self.all), int(np.argmin(self.all))

    @property
    def columns(self) -> dict[str, float]:
        """For metrics.csv."""
        members = {f"member_{n}": loss for n, loss in enumerate(self.all)}
        return {"valid_loss": self.mean} | ({} if len(self.all) == 1 else members)

    def __str__(self) -> str:
        spread = f", from {self.least:.3f} to {max(self.all):.3f}"
        return f"{self.mean:.3f}{spread if len(self.all) > 1 else ''}"


def best_member(row: dict[str, float]) -> int:
    """The number of the model with the lowest loss in a row of metrics.csv."""
    losses = [row[name] for name in row if name.startswith("member_")]
    return int(np.argmin(losses)) if losses else 0
