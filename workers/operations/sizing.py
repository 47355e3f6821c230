"""Estimates what a load needs, from figures that the benchmarks printed: cores, memory of Redis, partitions, disk of Kafka, and a price.

`python -m workers.operations.sizing --events 5000 --users 10000000 --items 500000` prints one estimate, `--table` the table of
docs/kubernetes.md. Prices are the caller's own: `--core-month`, `--redis-gb-month`, `--disk-gb-month`, `--worker-gb-month`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from schemas.decoding import encode
from schemas.examples import EVENT, RECOMMENDATIONS

LINE_EVENTS_PER_S = 2 * 2_236
"""Events a second of the whole line, lists included, on LINE_CORES: twice the load at half of the maximum, the slowest of three runs of
`benchmarks.freshness` (docs/performance.md)."""
LINE_CORES = 2
"""Broker, Redis, one worker and the load ran on these."""
STATE_EVENTS_PER_S = 74_446
"""Events a second without lists on the same cores (`benchmarks.ingest`)."""
LIST_RATES = ((3_706, 11_686.0), (1_000_000, 3_116 / 2))
"""Items of a catalogue, and lists a second of one thread with all sources (`benchmarks.lists`)."""
BYTES_PER_USER = 562
"""Redis, for a history of 100 and an embedding of 64 (`benchmarks.state`); shorter histories take less."""
ITEM_BYTES, NEIGHBOUR_BYTES = 598, 8
"""Redis, for an item: 1,169 bytes with 71.3 neighbours of 8 bytes each (`benchmarks.state --users 100000`)."""
NEIGHBOURS = 1_000
"""Neighbours that an item has on average: assumed. `state.max_neighbours` bounds those of one epoch."""
BYTES_PER_ITEM = ITEM_BYTES + NEIGHBOURS * NEIGHBOUR_BYTES
HEADROOM = 1.5
"""Redis needs room for fragmentation, the buffers of clients and a fork."""
WORKER_GB = 2.0
"""A stream worker beside its caches of items."""
WORKER_BYTES_PER_ITEM = 5_854
"""What a worker holds for each item, at most: 1,170,726,912 bytes for 200,000 items, of which that benchmark holds several engines
(`benchmarks.lists --items 200000 --repeats 1`)."""
GROWTH = 4
"""Partitions are fixed for the life of the state, so there are more than cores today."""
NODE_GB = 16
"""A Redis node that one core keeps busy and a restart fills in minutes."""
RECORD_BYTES = 70
"""What Kafka adds to a record in a small batch, about."""
EVENT_BYTES = len(encode(EVENT)) + RECORD_BYTES
"""The schema's example of an event, uncompressed."""
LIST_BYTES = len(encode(RECOMMENDATIONS)) * 20 // len(RECOMMENDATIONS.items) + RECORD_BYTES
"""A list of 20 items like those of the example. The topic is compacted: one a user stays, and about as much waits to be removed."""
GB = 1e9


@dataclass(frozen=True, slots=True)
class Load:
    """A load: events a second at the peak and the ratio of the peak to the mean, users, items, and how it is run."""

    events_per_s: float
    users: int
    items: int
    peak_to_mean: float = 3.0
    utilisation: float = 0.5
    retention_days: float = 30.0
    replicas: int = 3


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of one core, one GB of memory and one GB of disk, a month, in any currency."""

    core_month: float = 0.0
    redis_gb_month: float = 0.0
    worker_gb_month: float = 0.0
    disk_gb_month: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """The needs of a load. `cores` are of the whole line, of which `workers` are stream workers with a core each."""

    cores: int
    workers: int
    partitions: int
    redis_gb: float
    worker_gb: float
    kafka_gb: float

    def price(self, prices: Prices) -> float:
        """Return cores, memory and disk times their prices, a month."""
        return (
            self.cores * prices.core_month
            + self.redis_gb * prices.redis_gb_month
            + self.workers * self.worker_gb * prices.worker_gb_month
            + self.kafka_gb * prices.disk_gb_month
        )


def list_rate(items: int) -> float:
    """Return lists a second of one thread, on the line through both measurements where both axes are logarithms.

    Smaller catalogues than the smaller one count as that; larger ones than the larger one are an extrapolation.
    """
    (few, fast), (many, slow) = LIST_RATES
    slope = math.log(slow / fast) / math.log(many / few)
    return float(fast * (max(items, few) / few) ** slope)


def estimate(load: Load) -> Estimate:
    """Return what a load needs at its peak, with the cores used to `utilisation`."""
    few_items = LIST_RATES[0][0]
    core_s_per_event = LINE_CORES / LINE_EVENTS_PER_S + 1 / list_rate(load.items) - 1 / list_rate(few_items)
    cores = math.ceil(load.events_per_s * core_s_per_event / load.utilisation)
    # of the whole line's time, a worker's part is at least what its state and its lists take; the rest is Kafka's, Redis' and the network's
    worker_s = LINE_CORES / STATE_EVENTS_PER_S + 1 / list_rate(load.items)
    workers = max(1, math.ceil(load.events_per_s * max(worker_s, core_s_per_event / 2) / load.utilisation))
    partitions = max(8, 2 ** math.ceil(math.log2(workers * GROWTH)))
    kafka = load.events_per_s / load.peak_to_mean * 86_400 * load.retention_days * EVENT_BYTES + load.users * LIST_BYTES * 2
    return Estimate(
        cores=max(2, cores),
        workers=workers,
        partitions=partitions,
        redis_gb=round(HEADROOM * (load.users * BYTES_PER_USER + load.items * BYTES_PER_ITEM) / GB, 1),
        worker_gb=round(WORKER_GB + load.items * WORKER_BYTES_PER_ITEM / GB, 1),
        kafka_gb=round(kafka * load.replicas / GB),
    )


TABLE = (
    Load(100, 100_000, 10_000),
    Load(500, 1_000_000, 50_000),
    Load(2_000, 5_000_000, 200_000),
    Load(5_000, 10_000_000, 500_000),
    Load(20_000, 50_000_000, 1_000_000),
    Load(50_000, 100_000_000, 1_000_000),
)


def table() -> str:
    """Return the table of docs/kubernetes.md."""
    lines = [
        "| events/s at the peak | users | items | cores | of them stream workers | partitions | Redis GB | GB a worker | Kafka GB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for load in TABLE:
        of_it = estimate(load)
        lines.append(
            f"| {load.events_per_s:,.0f} | {load.users:,} | {load.items:,} | {of_it.cores:,} | {of_it.workers:,} | {of_it.partitions:,} "
            f"| {of_it.redis_gb:,} | {of_it.worker_gb:,} | {of_it.kafka_gb:,} |"
        )
    return "\n".join(lines) + "\n"


def steps(load: Load) -> str:
    """Return the arithmetic of an estimate, a line for each step."""
    of_it, mean_per_s = estimate(load), load.events_per_s / load.peak_to_mean
    day = mean_per_s * 86_400
    lines = [
        f"mean:          {load.events_per_s:,.0f} / {load.peak_to_mean:g} = {mean_per_s:,.0f} events/s, {day / 1e6:,.0f} million a day",
        f"events topic:  {day / 1e6:,.0f} million * {EVENT_BYTES} bytes = {day * EVENT_BYTES / GB:,.0f} GB a day, before copies",
        f"lists topic:   {load.users:,} users * {LIST_BYTES:,} bytes * 2 = {load.users * LIST_BYTES * 2 / GB:,.0f} GB, before copies",
        f"lists:         {load.events_per_s:,.0f} / {list_rate(load.items):,.0f} a second and thread = "
        f"{load.events_per_s / list_rate(load.items):,.1f} cores in full use",
        f"state:         {load.events_per_s:,.0f} / {STATE_EVENTS_PER_S:,} on {LINE_CORES} cores = "
        f"{load.events_per_s * LINE_CORES / STATE_EVENTS_PER_S:,.1f} cores in full use",
        f"whole line:    {of_it.cores:,} cores at {load.utilisation:.0%} use, {of_it.workers:,} of them stream workers",
        f"partitions:    {of_it.workers:,} workers * {GROWTH}, up to a power of two = {of_it.partitions:,}",
        f"users:         {load.users:,} * {BYTES_PER_USER} bytes = {load.users * BYTES_PER_USER / GB:,.1f} GB",
        f"items:         {load.items:,} * {BYTES_PER_ITEM:,} bytes = {load.items * BYTES_PER_ITEM / GB:,.1f} GB",
        f"Redis:         * {HEADROOM} = {of_it.redis_gb:,} GB: {math.ceil(of_it.redis_gb / NODE_GB):,} primaries of {NODE_GB} GB, and a "
        "replica each",
        f"a worker:      {of_it.worker_gb:,} GB; {load.users / of_it.workers / 1e6:,.1f} million users",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Print an estimate as JSON, or the table."""
    defaults = Load(1.0, 1, 1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print the table of docs/kubernetes.md")
    parser.add_argument("--steps", action="store_true", help="print the arithmetic instead of JSON")
    parser.add_argument("--events", type=float, default=1_000.0, help="events a second at the peak (1000)")
    parser.add_argument("--users", type=int, default=1_000_000, help="users that the state knows (1000000)")
    parser.add_argument("--items", type=int, default=100_000, help="items of the catalogue (100000)")
    parser.add_argument("--peak", type=float, default=defaults.peak_to_mean, help="peak by mean of events a second (3)")
    parser.add_argument("--utilisation", type=float, default=defaults.utilisation, help="share of the cores that the peak may use (0.5)")
    parser.add_argument("--retention-days", type=float, default=defaults.retention_days, help="days that Kafka keeps events (30)")
    parser.add_argument("--replicas", type=int, default=defaults.replicas, help="copies of each Kafka record (3)")
    for option in ("--core-month", "--redis-gb-month", "--worker-gb-month", "--disk-gb-month"):
        parser.add_argument(option, type=float, default=0.0, help="your price, a month")
    given = parser.parse_args(arguments)
    if given.table:
        print(table(), end="")
        return 0
    wrong = [name for name in ("events", "users", "items", "peak", "utilisation", "replicas") if getattr(given, name) <= 0]
    if wrong or given.utilisation > 1:
        parser.error(f"--{(wrong or ['utilisation'])[0]}: give a number above 0{'' if wrong else ' and at most 1'}")
    load = Load(given.events, given.users, given.items, given.peak, given.utilisation, given.retention_days, given.replicas)
    if given.steps:
        print(steps(load), end="")
        return 0
    found = estimate(load)
    prices = Prices(given.core_month, given.redis_gb_month, given.worker_gb_month, given.disk_gb_month)
    print(json.dumps({**asdict(load), **asdict(found), "price_a_month": round(found.price(prices), 2)}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
