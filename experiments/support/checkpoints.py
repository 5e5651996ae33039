"""Checkpoints of a run."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from support.errors import BadInputError


class Checkpoints:
    """The latest checkpoint and the best one, each complete or absent."""

    def __init__(self, run_dir: Path):
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax logs every step it takes
        keep = AnyPreservationPolicy(
            [LatestN(1), BestN(get_metric_fn=lambda metrics: metrics["loss"], reverse=True, n=1)]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep,
            best_fn=lambda metrics: metrics["loss"],
            best_mode="min",
            enable_async_checkpointing=False,
        )
        self._manager = ocp.CheckpointManager((run_dir / "checkpoints").absolute(), options=options)

    @property
    def step(self) -> int | None:
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        return self._manager.best_step()

    def latest(self, like: Any) -> Any:
        """Returns the latest checkpoint, in the structure of `like`."""
        return self._restore(self.step, like)

    def best(self, like: Any) -> Any:
        """Returns the checkpoint with the lowest loss, in the structure of `like`."""
        return self._restore(self.best_step, like)

    def save(self, step: int, tree: Any, loss: float = math.inf) -> None:
        """Saves a pytree. The checkpoint with the lowest `loss` is the best one."""
        if step != self.step:
            on_host = jax.device_get(tree)  # the run may be resumed, and its model used, on other devices
            self._manager.save(step, args=ocp.args.StandardSave(on_host), metrics={"loss": loss})

    def _restore(self, step: int | None, like: Any) -> Any:
        if step is None:
            raise BadInputError(f"there is no checkpoint in {self._manager.directory}")
        return self._manager.restore(step, args=ocp.args.StandardRestore(like))
