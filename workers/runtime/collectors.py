"""Collectors that prometheus_client lacks: a histogram that takes a whole batch at once, and families that are read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Samples = Iterable[tuple[Sequence[str], float]]
"""Values of labels, and the number."""


class BatchHistogram(Collector):
    """A histogram of values that come by the batch: one search and one addition for all, where a call for each would cost a microsecond."""

    def __init__(self, name: str, text: str, edges: Sequence[float], registry: CollectorRegistry, label: str | None = None) -> None:
        """`edges` are upper bounds of the buckets, ascending. With a `label` there is a histogram for each of its values."""
        self._name, self._text, self._label = name, text, label
        self._labelnames = () if label is None else (label,)
        self._edges = np.array(edges, np.float64)
        self._bounds = [*map(str, self._edges.tolist()), "+Inf"]
        self._held: dict[str, tuple[NDArray[np.int64], list[float]]] = {}
        registry.register(self)

    def observe(self, values: ArrayLike, of: str = "") -> None:
        """Count these values, (n,) or one, for a value of the label."""
        found = np.atleast_1d(np.asarray(values, np.float64))
        if of not in self._held:
            self._held[of] = np.zeros(len(self._edges) + 1, np.int64), [0.0]
        counts, total = self._held[of]
        counts += np.bincount(np.searchsorted(self._edges, found), minlength=len(counts))
        total[0] += float(found.sum())

    def collect(self) -> Iterable[Metric]:
        """Return the family, as Prometheus wants it: each bucket holds all below its bound."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labelnames)
        for of, (counts, total) in list(self._held.items()):
            below = np.cumsum(counts).astype(float).tolist()
            family.add_metric([of] if self._label else [], list(zip(self._bounds, below, strict=True)), total[0])
        yield family


class ReadWhenAsked(Collector):
    """A counter or a gauge whose numbers are kept elsewhere and read when somebody asks for the metrics."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], read: Callable[[], Samples], registry: CollectorRegistry, *, counts: bool = False
    ) -> None:
        """`counts`: the numbers only grow, and the name gets `_total`."""
        self._family = CounterMetricFamily if counts else GaugeMetricFamily
        self._name, self._text, self._labelnames, self._read = name, text, tuple(labels), read
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Return the family with the numbers of now."""
        family = self._family(self._name, self._text, labels=self._labelnames)
        for labels, value in self._read():
            family.add_metric(labels, value)
        yield family


@dataclass(frozen=True, slots=True)
class Family:
    """A metric as a registry has it: its name without `_total`, its type, the names of its labels, and what it says."""

    name: str
    type: str
    labels: tuple[str, ...]
    text: str

    @property
    def samples(self) -> tuple[str, ...]:
        """Return the names of its series, as expressions name them."""
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(self.type, ("",))
        return tuple(f"{self.name}{ending}" for ending in endings)


def families(registry: CollectorRegistry) -> list[Family]:
    """Return the metrics of a registry, those without a value too, by name."""
    found = []
    for collector in list(registry._collector_to_names):
        labels = tuple(getattr(collector, "_labelnames", ()))
        found += [Family(metric.name, metric.type, labels, metric.documentation) for metric in collector.collect()]
    return sorted(found, key=lambda family: family.name)
