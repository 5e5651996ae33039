"""Several processes that train one model: they connect, compare their settings, and end together.

The training itself uses `jax.distributed`, arrays that are split over the devices of all processes, and collectives.
All other messages between the processes go through the key-value store of JAX's coordination service, which can be used
before any device is.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import platform
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils

import jaxrnn
from support.errors import BAD_INPUT, BadInputError, end_now, show_error
from support.options import Cluster
from support.supervisor import ChildStatus, supervise

HEARTBEAT_TIMEOUT = 20  # seconds without a heartbeat after which a process counts as dead
MESSAGE_TIMEOUT = 600  # seconds to wait for a message of another process, while it is alive
END_TIMEOUT = 10  # seconds to wait for the other processes before ending

Value = TypeVar("Value")


@dataclass(frozen=True)
class Topology:
    """The processes of a run, and which of them this one is.

    Attributes:
      coordinator: Address of process 0, to which all connect.
      processes: Number of processes.
      process: Number of this process.
      local_devices: Devices that this process uses. None means all devices of the machine.
    """

    coordinator: str
    processes: int
    process: int
    local_devices: list[int] | None


def distributed_state() -> Any:
    """Returns the internal state of `jax.distributed`, which Orbax reads, too.

    `jax.process_index` and `jax.process_count` would initialize the devices before their number is set, and the
    key-value store has no public function.
    """
    from jax._src.distributed import global_state

    return global_state


def number_of_processes() -> int:
    return distributed_state().num_processes


def is_first() -> bool:
    """Returns whether this is the process that prints, plots and writes metrics."""
    return distributed_state().process_id == 0


def gather_numbers(mine: tuple[float, ...]) -> list[tuple[float, ...]]:
    """Returns the numbers that each process passes, without rounding. All processes must call it."""
    if number_of_processes() == 1:
        return [mine]
    bits = multihost_utils.process_allgather(np.array(mine, np.float64).view(np.uint32))  # JAX would round float64
    return [tuple(row.tolist()) for row in np.asarray(bits).view(np.float64)]


# --- Connecting ---


def join(cluster: Cluster) -> None:
    """Connects this process to the other processes of its run, if there are any.

    Call it before JAX uses a device. With several processes, it returns in a child process; see `supervisor`.

    Raises:
      BadInputError: The processes differ in their number or in their versions, or they cannot be found.
    """
    topology = find_topology(cluster)
    if topology is None or topology.processes == 1:
        return
    if not hasattr(os, "fork"):
        raise BadInputError("several processes cannot train together on this system: use Linux or macOS")
    address, processes, number = topology.coordinator, topology.processes, topology.process
    status = supervise(number, address, processes, cluster.connect_seconds)
    if number == 0:
        check_port(address)
    jax.config.update("jax_enable_preemption_service", False)  # it would handle SIGTERM itself
    jax.distributed.initialize(
        address,
        processes,
        number,
        local_device_ids=topology.local_devices,
        cluster_detection_method="deactivate",
        initialization_timeout=cluster.connect_seconds + 60,  # the parent ends this process earlier
        heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
        shutdown_timeout_seconds=MESSAGE_TIMEOUT,
    )
    status.connected = True
    _status.append(status)
    threading.Thread(target=end_after_others, daemon=True).start()
    # The number of connected processes is that of process 0, even if another one was started with a different number.
    if number == 0:
        distributed_state().client.key_value_set("processes", str(processes))
    connected = int(distributed_state().client.blocking_key_value_get("processes", 1000 * MESSAGE_TIMEOUT))
    agree("numbers of processes", {"--processes": processes}, connected)
    versions = {"jax": jax.__version__, "jaxrnn": jaxrnn.__version__, "python": platform.python_version()}
    agree("versions", versions)


def find_topology(cluster: Cluster) -> Topology | None:
    """Returns the topology from the command line or from a cluster such as SLURM. None means a single process."""
    if cluster.coordinator is not None and cluster.processes is not None and cluster.process is not None:
        return Topology(cluster.coordinator, cluster.processes, cluster.process, None)
    # `jax.distributed.initialize()` detects clusters, too, but JAX has no public function that does only that.
    from jax._src.clusters import ClusterEnv

    address = os.environ.get("JAX_COORDINATOR_ADDRESS")  # as `initialize` reads it
    try:
        address, processes, number, local_devices = ClusterEnv.auto_detect_unset_distributed_params(
            address, None, None, None, None, cluster.connect_seconds
        )
    except Exception as error:  # of various kinds
        reason = " ".join(str(error).split())
        raise BadInputError(
            f"cannot find the other processes of this cluster ({reason}): name them with --coordinator, --process and"
            " --processes, or train alone with --coordinator localhost:1 --process 0 --processes 1"
        ) from None
    if address is None or processes is None or number is None:
        return None
    return Topology(address, processes, number, None if local_devices is None else list(local_devices))


def check_port(address: str) -> None:
    """Checks that no other program listens on the port of process 0. JAX would share it without an error."""
    port = int(address.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if both else socket.AF_INET
        socket.create_server(("", port), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise BadInputError(
            f"process 0 cannot listen on port {port} ({reason}): another program, or another process 0, uses it; choose"
            " another port for --coordinator"
        ) from None


# --- Comparing ---


_rounds = itertools.count(1)  # numbers the exchanges, in all processes alike


def exchange(value: Value, processes: int | None = None) -> list[Value]:
    """Returns the values that all processes pass, in their order. All processes must call it.

    Args:
      value: The value of this process, which must be serializable as JSON.
      processes: Number of processes. None means the number with which this process was started.

    Raises:
      BadInputError: Another process has ended with an error. The message contains that error.
    """
    processes = processes or number_of_processes()
    if processes == 1:
        return [value]
    name = f"exchange/{next(_rounds)}"
    post(name, {"value": value})
    wait = distributed_state().client.blocking_key_value_get
    answers = [json.loads(wait(f"{name}/{n}", 1000 * MESSAGE_TIMEOUT)) for n in range(processes)]
    for n, answer in enumerate(answers):
        if "error" in answer:
            raise BadInputError(f"process {n} has ended: {answer['error']}")
    return [answer["value"] for answer in answers]


def post(name: str, value: Any) -> None:
    """Writes a value of this process to the key-value store."""
    distributed_state().client.key_value_set(f"{name}/{distributed_state().process_id}", json.dumps(value))


def in_first(function: Callable[[], Value]) -> Value:
    """Calls a function in the first process only, and returns its result in all. It must be serializable as JSON."""
    return cast("Value", exchange(function() if is_first() else None)[0])


def agree(what: str, values: dict[str, Any], processes: int | None = None) -> None:
    """Checks that all processes pass the same values. All processes must call it.

    Args:
      what: The kind of the values, in the plural, for the message.
      values: The values of this process, by name.
      processes: See `exchange`.

    Raises:
      BadInputError: They differ. All processes raise the same error.
    """
    everyone = exchange({name: str(value) for name, value in values.items()}, processes)
    different = []
    for name in sorted({name for each in everyone for name in each}):
        found = [each.get(name, "absent") for each in everyone]
        other = next((n for n, value in enumerate(found) if value != found[0]), None)
        if other is not None:
            different.append(f"{name} is {found[0]} in process 0 and {found[other]} in process {other}")
    if different:
        raise BadInputError(f"the processes of this run have different {what}: {'; '.join(different)}")


def agree_on_devices() -> None:
    """Checks that all processes have the same number and kind of devices. Call it before arrays are placed on them."""
    if number_of_processes() > 1:
        devices = jax.local_devices()
        agree("devices", {"number of devices": len(devices), "kind of device": devices[0].device_kind})


# --- Ending ---


_ending = threading.Event()  # set as soon as this process ends by itself
_status: list[ChildStatus] = []  # shared with the parent process, if there is one


def announce_end(message: str, code: int) -> bool:
    """Sends the other processes the error with which this one ends, and waits some seconds for them to end, too.

    Args:
      message: The error message that has been printed.
      code: The exit code.

    Returns:
      Whether all processes are ending.
    """
    _ending.set()
    if number_of_processes() == 1:
        return True
    for status in _status:
        status.exit_code = code
    with contextlib.suppress(Exception):  # the others end anyway
        post("ended", message)
        post(f"exchange/{next(_rounds)}", {"error": message})
        return wait_for_all(END_TIMEOUT)
    return False


def error_of_others() -> str | None:
    """Finds out, after an exception, whether another process has caused it by ending.

    Returns:
      The error message of that process; empty if the process has died. None if all processes are alive.
    """
    _ending.set()
    try:
        if message := announced_error():
            return message
        wait_for_all(HEARTBEAT_TIMEOUT + END_TIMEOUT)
    except Exception:  # of various kinds: a process is dead
        time.sleep(END_TIMEOUT)  # until JAX aborts this process with a message that names the dead one
        return ""
    return None


def end_after_others() -> None:
    """Ends this process when another one has announced its end, even if this one is waiting for it in a collective."""
    message = None
    while message is None:
        time.sleep(2)
        try:
            message = announced_error()
        except Exception:  # of various kinds: the coordination service has ended, and JAX aborts this process
            return
    if not _ending.wait(4):  # the main thread has not noticed
        show_error(message, BAD_INPUT)
        end_now(BAD_INPUT)


def announced_error() -> str | None:
    """Returns the error message of another process that has announced its end, or None."""
    for name, message in distributed_state().client.key_value_dir_get("ended/"):
        return f"process {name.rpartition('/')[2]} has ended: {json.loads(message)}"
    return None


def wait_for_all(seconds: int) -> bool:
    """Waits until all processes call it. Returns whether they do so in time. Raises an error if one is dead."""
    try:
        distributed_state().client.wait_at_barrier("ending", 1000 * seconds)
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        return False
    return True
