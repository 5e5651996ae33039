"""A small training script for several processes, whose result can be computed by hand.

The parameters move by the learning rate at every step, and so does a state that is split over all devices. Environment
variables: DEVICES is the number of devices of each process, DATA is the name of the data, VERSION is the version of
jaxrnn, PAUSE is a time in seconds that each call of the training loop takes, STAGES is the number of stages, and FAILS
is what fails: the "input", or at the end of the first stage the "disk" or the "script".
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2] / "experiments")]

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from support.clock import process_start
from support.command_line import launch
from support.distributed import agree_on_devices
from support.errors import BadInputError
from support.options import Cluster, RunFolder, RunOptions
from support.run import Run
from support.schedule import cosine
from support.training import many_steps, step_keys, training

import jaxrnn

jaxrnn.__version__ = os.environ.get("VERSION", jaxrnn.__version__)


@dataclass(frozen=True)
class Options(RunOptions):
    size: int = 8  # Number of parameters
    split: bool = False  # Whether the parameters are split over the devices, too


class Train(NamedTuple):
    step: Any
    params: Any
    state: Any  # [size], split over all devices


def begin(options: Options) -> Train:
    return Train(jnp.int32(0), jnp.arange(1.0 * options.size), jnp.zeros(options.size))


def update(train: Train, data: None, key: Any, progress: Any) -> tuple[Train, Any]:
    params = train.params + cosine(progress)
    state = train.state + params
    return Train(train.step + 1, params, state), 1 / (1 + jnp.abs(state).sum())  # a sum over all devices


def main(options: Options, folder: RunFolder) -> None:
    if os.environ.get("FAILS") == "input":
        raise BadInputError("cannot read the data")
    jax.config.update("jax_num_cpu_devices", int(os.environ.get("DEVICES", "1")))
    agree_on_devices()
    mesh = Mesh(jax.devices(), "devices")
    copied, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("devices"))
    kept = Train(copied, split if options.split else copied, split)
    train = jax.jit(partial(begin, options), out_shardings=kept)()
    run = Run(folder, options, facts={"data": os.environ.get("DATA", "none")})
    if folder.resume:
        restored = multihost_utils.process_allgather(run.checkpoints.latest((train, 0.0)), tiled=True)
        print(f"restored {[leaf.tolist() for leaf in restored[0]]}")
    print(f"run {run.path}, {mesh.size} devices", flush=True)
    compiled = many_steps(update, step_keys(options.seed))

    def steps(*arguments: Any) -> Any:
        time.sleep(float(os.environ.get("PAUSE", "0")))
        return compiled(*arguments)

    def is_full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for stage in training(run, train, steps, None, options.limit, stages=int(os.environ.get("STAGES", "10"))):
        if os.environ.get("FAILS") == "disk":
            shutil.copyfile = is_full
        if os.environ.get("FAILS") == "script":
            raise KeyError("a name")
        stage.record(1 / (1 + stage.step), valid_loss=1.0)
        stage.say("recorded")
    print(f"ended after step {run.last['step']:g}")


if __name__ == "__main__":
    launch(main, Options, RunFolder, Cluster, started=process_start())
