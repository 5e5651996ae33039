"""Sharing the sequences of each batch among devices: several GPUs, or the cores of a CPU."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Literal

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Devices = Literal["one", "all"]
AXIS = "devices"
SHARED = PartitionSpec()  # everyone has a copy
BATCH = PartitionSpec(AXIS)  # [batch, ...], dealt out
TIME_BATCH = PartitionSpec(None, AXIS)  # [time, batch, ...]


def make_mesh(which: Devices, batch: int) -> Mesh:
    """One device, or as many of all as a batch can be dealt to evenly. Before JAX is used, a core is one."""
    if which == "all":
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", os.cpu_count())
    most = len(jax.devices()) if which == "all" else 1
    return Mesh(jax.devices()[: max(n for n in range(1, most + 1) if batch % n == 0)], AXIS)


def place(train: Any, mesh: Mesh) -> Any:
    """A NamedTuple of all that training changes, on its devices: the field `state` dealt out, all else copied."""
    shared, dealt = NamedSharding(mesh, SHARED), NamedSharding(mesh, BATCH)
    where = {name: dealt if name == "state" else shared for name in train._fields}
    return type(train)(**{name: jax.device_put(value, where[name]) for name, value in train._asdict().items()})
