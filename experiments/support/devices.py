"""Splitting each batch over several devices: GPUs, or the cores of a CPU."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from support.options import Devices

AXIS = "devices"
COPIED = PartitionSpec()  # each device has all of it
BATCH = PartitionSpec(AXIS)  # [batch, ...], split over the devices
TIME_BATCH = PartitionSpec(None, AXIS)  # [time, batch, ...], or [models, batch, ...]


def make_mesh(which: Devices, batch: int) -> Mesh:
    """Makes a mesh of one device, or of as many as divide the batch evenly. Each core of a CPU becomes a device.

    To make cores devices, it must be called before JAX is used. With "auto", a CPU remains one device if the native
    loop is installed, because that loop divides each batch among the cores at a lower cost.
    """
    if which == "auto":
        native = importlib.util.find_spec("llvmlite") is not None
        which = "one" if native and jax.default_backend() == "cpu" else "all"
    if which == "all":
        with contextlib.suppress(RuntimeError):  # JAX is already in use, and its devices cannot change
            jax.config.update("jax_num_cpu_devices", os.cpu_count())
    most = len(jax.devices()) if which == "all" else 1
    return Mesh(jax.devices()[: max(n for n in range(1, most + 1) if batch % n == 0)], AXIS)


def place(tree: Any, mesh: Mesh, specs: Any) -> Any:
    """Puts a pytree on the mesh. `specs` is a prefix of it that says how each part is split."""
    return jax.device_put(tree, jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs))


def value_and_grad(loss: Callable[..., tuple[Array, Any]], mesh: Mesh) -> Callable[..., Any]:
    """Does the same as `jax.value_and_grad(loss, has_aux=True)`, with each device computing its part of the batch.

    Args:
      loss: (params, window [time, batch], state [batch, ...], key) -> (mean loss over the batch, state).
      mesh: The devices. Each has a key of its own; losses are averaged and gradients summed over them.
    """

    def on_device(params: Any, window: Array, state: Any, key: Array) -> tuple[Array, Any]:
        value, state = loss(params, window, state, jax.random.fold_in(key, jax.lax.axis_index(AXIS)))
        return jax.lax.pmean(value, AXIS), state

    return jax.shard_map(
        jax.value_and_grad(on_device, has_aux=True),
        mesh=mesh,
        in_specs=(COPIED, TIME_BATCH, BATCH, COPIED),
        out_specs=((COPIED, BATCH), COPIED),
    )
