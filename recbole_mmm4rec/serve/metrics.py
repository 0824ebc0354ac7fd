"""What the service counts and times, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counters of one service; none is the process's own.

    Args:
        waiting: how many requests wait for the model.
        items: how many items the shop has.
    """

    def __init__(self, waiting: Callable[[], int], items: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter(
            "mmm4rec_requests", "Answers by path and status.", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "mmm4rec_seconds",
            "Seconds from a request's headers to the end of its answer.",
            ("path",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.batches = Histogram(
            "mmm4rec_batch", "Requests that were answered together.", buckets=BATCHES, registry=self._registry
        )
        self.changes = Counter(
            "mmm4rec_changes", "Changes to another model folder.", ("result",), registry=self._registry
        )
        for result in ("done", "failed"):
            self.changes.labels(result)
        Gauge("mmm4rec_waiting", "Requests that wait for the model.", registry=self._registry).set_function(waiting)
        Gauge("mmm4rec_items", "Items of the shop.", registry=self._registry).set_function(items)
        # labels() takes a lock and builds a key; these are asked for with each request
        self._counted: dict[tuple[str, int], Counter] = {}
        self._timed: dict[str, Histogram] = {}

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer.

        Args:
            path: one of the service's own, so that a stranger cannot make names.
            status: of HTTP.
            seconds: that it took.
        """
        counter = self._counted.get((path, status))
        if counter is None:
            counter = self._counted[path, status] = self._answers.labels(path, str(status))
            self._timed.setdefault(path, self._seconds.labels(path))
        counter.inc()
        self._timed[path].observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
