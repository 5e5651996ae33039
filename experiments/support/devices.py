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
TIME_BATCH = MEMBERS_BATCH = PartitionSpec(None, AXIS)  # [time, batch, ...], [members, batch, ...]


def make_mesh(which: Devices, batch: int) -> Mesh:
    """One device, or as many of all as a batch can be dealt to evenly. Before JAX is used, a core is one."""
    if which == "all":
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", os.cpu_count())
    most = len(jax.devices()) if which == "all" else 1
    return Mesh(jax.devices()[: max(n for n in range(1, most + 1) if batch % n == 0)], AXIS)


def place(tree: Any, mesh: Mesh, specs: Any) -> Any:
    """A pytree on the mesh, `specs` saying how each part of it is dealt out."""
    return jax.device_put(tree, jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs))
