"""A model of what training on many devices costs, and where more devices stop helping.

Each device has all parameters and a part of the batch, as in `support/devices.py`. A training step computes gradients,
then averages them by one all-reduce, which cannot begin before they are complete:

    seconds = compute + all-reduce
    compute = 6 * parameters * tokens / (devices * FLOP/s)
    all-reduce = 2 (n - 1) / n * bytes / bandwidth + 2 (n - 1) * latency

Each parameter of a recurrent network takes part in one multiplication and one addition per token, and in twice as many
in the gradient. The all-reduce is a ring of n devices: in each of 2 (n - 1) steps, each device sends one of n parts of
the gradients to the next device. Training waits while a checkpoint is written, and a failure of any device loses the
work since the last checkpoint. The least time is lost if checkpoints are sqrt(2 * seconds to write * seconds between
failures) apart (Young, "A first order approximation to the optimum checkpoint interval", 1974).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

FLOP = 6  # per parameter and token: 2 for the outputs, 4 for the gradient
GRADIENT = 4  # bytes per parameter
CHECKPOINT = 12  # bytes per parameter, with the two moments of Adam
MOST = 10**7  # devices


class Link(NamedTuple):
    """What connects each device to the next one in the ring.

    Attributes:
      bandwidth: Bytes per second in one direction.
      latency: Seconds until a message arrives.
    """

    bandwidth: float
    latency: float


@dataclass(frozen=True)
class Hardware:
    """Devices in nodes, and the constants of the model.

    Attributes:
      flops: FLOP per second of a device in training.
      per_node: Number of devices in a node.
      node: The link within a node.
      network: The link between nodes.
      disk: Bytes per second of a checkpoint. The first process writes it.
      failure: Seconds between failures of one device.
      cores: Number of devices that can compute at the same time: for the cores of a CPU, how many there are.
      beside: How much longer a device computes if others compute at the same time.
    """

    flops: float
    per_node: int
    node: Link
    network: Link
    disk: float
    failure: float = math.inf
    cores: float = math.inf
    beside: float = 1.0

    def compute(self, parameters: float, tokens: float, devices: int) -> float:
        """Returns the seconds in which the devices compute the gradients for all tokens of a batch."""
        seconds = FLOP * parameters * tokens / (self.flops * min(devices, self.cores))
        return seconds * (self.beside if devices > 1 else 1.0)

    def all_reduce(self, size: float, devices: int) -> float:
        """Returns the seconds of an all-reduce of `size` bytes, whose ring passes each node once."""
        nodes = -(-devices // self.per_node)
        bandwidth = (self.network if nodes > 1 else self.node).bandwidth
        hops = (devices - nodes) * self.node.latency + (nodes - 1) * self.network.latency
        return 2 * (devices - 1) / devices * size / bandwidth + 2 * hops

    def update(self, parameters: float, tokens: float, devices: int) -> float:
        """Returns the seconds of a training step."""
        return self.compute(parameters, tokens, devices) + self.all_reduce(GRADIENT * parameters, devices)

    def interval(self, parameters: float, devices: int) -> float:
        """Returns the seconds between checkpoints that lose the least time."""
        return math.sqrt(2 * self.writing(parameters) * self.failure / devices)

    def writing(self, parameters: float) -> float:
        """Returns the seconds in which a checkpoint is written."""
        return CHECKPOINT * parameters / self.disk

    def lost(self, parameters: float, devices: int) -> float:
        """Returns how many seconds are lost to checkpoints and failures in each second of training."""
        return math.sqrt(2 * self.writing(parameters) * devices / self.failure)

    def useful(self, parameters: float, tokens: float, devices: int) -> float:
        """Returns the fraction of the time of a run in which its devices compute."""
        compute, update = self.compute(parameters, tokens, devices), self.update(parameters, tokens, devices)
        return compute / update / (1 + self.lost(parameters, devices))

    def most_devices(self, parameters: float, tokens: float, fraction: float = 0.5) -> int:
        """Returns how many devices, each with `tokens` of a batch, still compute for a fraction of the time."""
        low, high = 1, MOST
        if self.useful(parameters, tokens * high, high) >= fraction:
            return high
        while high - low > 1:
            middle = (low + high) // 2
            enough = self.useful(parameters, tokens * middle, middle) >= fraction
            low, high = (middle, high) if enough else (low, middle)
        return low

    def fastest(self, parameters: float, sequences: int, length: int) -> int:
        """Returns how many devices are the fastest for a batch of fixed size, which their number must divide."""

        def seconds(devices: int) -> float:
            return self.update(parameters, sequences * length, devices) * (1 + self.lost(parameters, devices))

        return min((n for n in range(1, sequences + 1) if sequences % n == 0), key=seconds)


def fit_link(devices: int, small: tuple[float, float], large: tuple[float, float]) -> Link:
    """Returns the link that explains the seconds of two all-reduces. Each is (bytes, seconds)."""
    seconds_per_byte = (large[1] - small[1]) / (large[0] - small[0])
    ways = 2 * (devices - 1)
    # Noise can hide the bandwidth of a fast link.
    bandwidth = ways / devices / seconds_per_byte if seconds_per_byte > 0 else math.inf
    return Link(bandwidth, small[1] / ways - small[0] / devices / bandwidth)


# Eight NVIDIA H100 SXM in each node. Sources:
#   flops: 40 % of 495 TFLOP/s, those of dense products in TF32 ("NVIDIA H100 Tensor Core GPU" data sheet, which gives
#     twice as many for sparse ones). 38 to 43 % were reached in bfloat16 by "The Llama 3 Herd of Models", 2024, section
#     3.3.2. A recurrent network reaches less at small sizes.
#   node: NVLink, 900 GB/s in both directions together (data sheet). Latency: that of a ring in NCCL's own model of its
#     speed (src/graph/tuning.cc, protocol "Simple").
#   network: 400 Gbit/s for each GPU ("The Llama 3 Herd of Models", section 3.3.1). Latency: as above.
#   disk: An assumption, one process that writes to a fast disk.
#   failure: 419 unexpected interruptions of 16,384 GPUs in 54 days ("The Llama 3 Herd of Models", section 3.3.4).
H100 = Hardware(
    flops=0.4 * 495e12,
    per_node=8,
    node=Link(450e9, 3.4e-6),
    network=Link(50e9, 14e-6),
    disk=2e9,
    failure=16_384 * 54 * 86_400 / 419,
)
