"""Data parallelism: splits each batch, and optionally the parameters, over the devices of all processes.

Devices are GPUs, or the cores of a CPU. Each device computes the loss and the gradient of its part of the batch under
`jax.shard_map`, and one collective per training step averages them. `jit` with sharded arrays would give the same
results, but XLA would insert one all-reduce for every block of a loop with blocks, and the native loop runs only in
programs for a single device. The rest of a step, such as the optimizer, is ordinary code on sharded or copied arrays.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from support.distributed import agree_on_devices
from support.errors import BadInputError
from support.options import Devices

AXIS = "devices"
COPIED = PartitionSpec()  # each device has a copy
BATCH = PartitionSpec(AXIS)  # [batch, ...], split over the devices
TIME_BATCH = PartitionSpec(None, AXIS)  # [time, batch, ...]
WINDOWS = PartitionSpec(None, None, AXIS)  # [steps, time, batch]
SMALL = 1024  # parameter arrays with fewer elements are not split


def make_mesh(which: Devices, batch: int) -> Mesh:
    """Makes a mesh of the devices that share each batch. Their number must divide the batch.

    A single process leaves out devices until their number divides the batch.

    Args:
      which: "one" device of each process, or "all". With "all", each core of a CPU becomes a device; for this, the
        function must be called before JAX uses a device. "auto" means "one" on a CPU where the native loop is
        installed, which divides each batch among the cores at a lower cost, and "all" elsewhere.
      batch: The number of sequences in a batch.

    Raises:
      BadInputError: Several processes have a number of devices that does not divide the batch.
    """
    if which == "auto":
        native = importlib.util.find_spec("llvmlite") is not None
        which = "one" if native and jax.default_backend() == "cpu" else "all"
    if which == "all":
        with contextlib.suppress(RuntimeError):  # JAX is already in use, and its devices cannot change
            jax.config.update("jax_num_cpu_devices", os.cpu_count())
    agree_on_devices()
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if which == "one":
        of_process = {device.process_index: device for device in reversed(devices)}
        devices = [of_process[n] for n in sorted(of_process)]
    if jax.process_count() == 1:
        devices = devices[: max(n for n in range(1, len(devices) + 1) if batch % n == 0)]
    if batch % len(devices):
        have = f"{len(devices)} devices of {jax.process_count()} processes"
        raise BadInputError(f"--batch must be a multiple of the number of devices, but it is {batch} for {have}")
    return Mesh(np.array(devices), AXIS)


def streams_here(mesh: Mesh, batch: int) -> range:
    """Returns the range of the batch that is on the devices of this process."""
    share = batch // mesh.size
    mine = [n for n, device in enumerate(mesh.devices.flat) if device.process_index == jax.process_index()]
    return range(mine[0] * share, (mine[-1] + 1) * share)


def shardings(mesh: Mesh, specs: Any) -> Any:
    """Converts a pytree of `PartitionSpec`s to shardings."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def parameter_specs(tree: Any, mesh: Mesh, split: bool) -> Any:
    """Returns the `PartitionSpec` of each array of some parameters, or of an optimizer's state.

    Args:
      tree: Arrays or their shapes.
      mesh: The devices.
      split: Whether to split arrays over the devices, each along the largest axis that their number divides. Arrays
        of fewer than `SMALL` elements are copied.
    """

    def spec(leaf: Any) -> PartitionSpec:
        axes = [n for n, size in enumerate(leaf.shape) if size % mesh.size == 0]
        if not split or mesh.size == 1 or leaf.size < SMALL or not axes:
            return COPIED
        return PartitionSpec(*[None] * max(axes, key=lambda n: leaf.shape[n]), AXIS)

    return jax.tree.map(spec, tree)


def constrain(tree: Any, mesh: Mesh, split: bool) -> Any:
    """Constrains the sharding of updated parameters, or of an optimizer's state, to `parameter_specs`."""
    if not split:
        return tree
    return jax.lax.with_sharding_constraint(tree, shardings(mesh, parameter_specs(tree, mesh, split)))


def gathered(tree: Any, mesh: Mesh) -> Any:
    """Copies all arrays to each device. All processes must call it."""
    copied = NamedSharding(mesh, COPIED)
    if all(leaf.sharding.is_equivalent_to(copied, leaf.ndim) for leaf in jax.tree.leaves(tree)):
        return tree
    return jax.jit(lambda tree: tree, out_shardings=copied)(tree)


def varying(tree: Any) -> Any:
    """Marks arrays in `jax.shard_map` as different on each device, so that JAX does not sum gradients over devices."""
    return jax.tree.map(
        lambda x: x if AXIS in jax.typeof(x).manual_axis_type.varying else jax.lax.pcast(x, AXIS, to="varying"), tree
    )


def value_and_grad(loss: Callable[..., tuple[Array, Any]], mesh: Mesh, split: bool = False) -> Callable[..., Any]:
    """Returns `jax.value_and_grad(loss, has_aux=True)`, where each device computes its part of the batch.

    Each sequence of the batch has its own random key, which depends on the key of the step and the number of the
    sequence. Random numbers therefore do not depend on the number of devices.

    Args:
      loss: (params, window [time, batch], state [batch, ...], keys [batch]) -> (mean loss over the batch, state).
      mesh: The devices.
      split: Whether the parameters are split; see `parameter_specs`. If so, they are gathered before the loss, and
        their gradients are scattered.

    Returns:
      (params, window, state, key) -> ((loss, state), gradient).
    """

    def run(params: Any, window: Array, state: Any, key: Array) -> Any:
        specs = parameter_specs(params, mesh, split)

        def gather(param: Array, spec: PartitionSpec) -> Array:
            if spec == COPIED:
                return varying(param)
            return jax.lax.all_gather(param, AXIS, axis=spec.index(AXIS), tiled=True)

        def scatter(gradient: Array, spec: PartitionSpec) -> Array:
            return jax.lax.psum_scatter(gradient, AXIS, scatter_dimension=spec.index(AXIS), tiled=True) / mesh.size

        def on_device(params: Any, window: Array, state: Any, key: Array) -> Any:
            share = window.shape[1]
            numbers = jax.lax.axis_index(AXIS) * share + jnp.arange(share)
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
            whole = jax.tree.map(gather, params, specs)
            (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(whole, window, state, keys)
            leaves, structure = jax.tree.flatten(gradient)
            kept = jax.tree.leaves(specs)
            value, means = jax.lax.pmean((value, [g for g, s in zip(leaves, kept, strict=True) if s == COPIED]), AXIS)
            copied = iter(means)
            parts = [next(copied) if s == COPIED else scatter(g, s) for g, s in zip(leaves, kept, strict=True)]
            return (value, state), jax.tree.unflatten(structure, parts)

        return jax.shard_map(
            on_device,
            mesh=mesh,
            in_specs=(specs, TIME_BATCH, BATCH, COPIED),
            out_specs=((COPIED, BATCH), specs),
        )(params, window, state, key)

    return run


def sum_over_streams(losses: Callable[..., Array], mesh: Mesh, streams: int) -> Callable[..., Array]:
    """Divides the streams in which a text is read among the devices, and sums their losses.

    Args:
      losses: (params, numbers of streams, *data) -> sum of their losses. It must ignore numbers from `streams` on.
      mesh: The devices.
      streams: Number of streams.

    Returns:
      (params, *data) -> sum of the losses of all streams.
    """
    share = -(-streams // mesh.size)

    def on_device(params: Any, *data: Any) -> Array:
        numbers = jax.lax.axis_index(AXIS) * share + jnp.arange(share)
        return jax.lax.psum(losses(varying(params), numbers, *data), AXIS)

    def run(params: Any, *data: Any) -> Array:
        return jax.shard_map(on_device, mesh=mesh, in_specs=COPIED, out_specs=COPIED)(params, *data)

    return run
