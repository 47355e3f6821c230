"""Counts requests, lists and records of the gateway, for Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from workers.runtime.metrics import WorkerMetrics
from workers.runtime.status import WorkerStatus

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.04, 0.075, 0.15, 0.3, 1.0, 3.0)


class GatewayMetrics(WorkerMetrics):
    """Counters and gauges of one gateway."""

    def __init__(self, status: WorkerStatus | None = None) -> None:
        super().__init__(status)
        r = self.registry
        self._children: dict[tuple[str, int], tuple[Any, Any]] = {}
        """By route and status, since looking them up costs more than counting."""
        self._requests = Counter("recsys_gateway_requests_total", "Requests, by route and status.", ["route", "status"], registry=r)
        self._seconds = Histogram(
            "recsys_gateway_seconds", "Seconds from a request to its answer, by route.", ["route"], registry=r, buckets=_BUCKETS_S
        )
        self.held_lists = Gauge("recsys_gateway_held_lists", "Published lists that the gateway holds.", registry=r)
        self.held_bytes = Gauge("recsys_gateway_held_bytes", "Memory of the published lists that the gateway holds.", registry=r)
        self.read_records = Counter("recsys_gateway_read_records_total", "Records of lists that the gateway has read.", registry=r)
        self.filtered = Counter("recsys_gateway_filtered_items_total", "Items left out of lists when they were read.", registry=r)
        self.made_batches = Histogram(
            "recsys_gateway_batch_lists", "Lists on request that were made at once.", registry=r, buckets=(1, 2, 4, 8, 16, 32, 64, 128)
        )
        text = "Records that clients posted, by kind: accepted (acknowledged by the broker), refused, failed."
        self.posted = Counter("recsys_gateway_posted_records_total", text, ["kind", "outcome"], registry=r)

    def note_request(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        known = self._children.get((route, status))
        if known is None:
            known = self._children[route, status] = self._requests.labels(route, str(status)), self._seconds.labels(route)
        known[0].inc()
        known[1].observe(seconds)
