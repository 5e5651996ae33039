"""The metrics of a server, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

STEP_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
FIRST_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one server. Each has its own registry, so that several servers can be in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        common = {"namespace": "jaxrnn", "registry": self._registry}
        self.requests = Counter("requests", "HTTP requests by status", ["status"], **common)
        self.texts = Counter("texts", "Texts that took a slot, by the reason for their end", ["end"], **common)
        self.characters = Counter("characters", "Characters generated", **common)
        self.slots = Gauge("slots", "Number of slots", **common)
        self.slots_taken = Gauge("slots_taken", "Slots that hold a text", **common)
        self.waiting = Gauge("waiting", "Requests that wait for a slot", **common)
        self.step_seconds = Histogram("step_seconds", "Time of a step of all slots", buckets=STEP_SECONDS, **common)
        self.first_character_seconds = Histogram(
            "first_character_seconds", "Time from a request to its first character", buckets=FIRST_SECONDS, **common
        )

    def text(self) -> bytes:
        """Returns all metrics in Prometheus's text format."""
        return generate_latest(self._registry)
