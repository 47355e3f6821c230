"""Histograms of batches count as prometheus_client's own do, and what is kept elsewhere is read when somebody asks."""

from __future__ import annotations

import numpy as np
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from workers.runtime.collectors import BatchHistogram, ReadWhenAsked


def samples(registry: CollectorRegistry) -> set[str]:
    return {line for line in generate_latest(registry).decode().splitlines() if line and "_created" not in line}


def test_a_batch_is_counted_as_one_value_after_another() -> None:
    edges = (0.1, 1.0, 10.0)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    batch = BatchHistogram("h", "Text.", edges, ours, "of")
    single = Histogram("h", "Text.", ["of"], registry=theirs, buckets=edges)
    for of, values in (("a", [0.05, 0.1, 0.5]), ("b", [1.0, 10.5]), ("a", [99.0])):
        batch.observe(np.array(values), of)
        for value in values:
            single.labels(of).observe(value)
    batch.observe([], "a")
    assert samples(ours) == samples(theirs)


def test_numbers_kept_elsewhere_are_those_of_the_moment() -> None:
    registry, held = CollectorRegistry(), {"x": 1}
    ReadWhenAsked("seen", "Text.", ["of"], lambda: [([of], n) for of, n in held.items()], registry, counts=True)
    held["x"] = 7
    assert registry.get_sample_value("seen_total", {"of": "x"}) == 7
