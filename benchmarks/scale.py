"""Measure how the state path scales with workers, with shards of a Redis Cluster, and with the numbers of users and items.

Examples:
    python -m benchmarks.scale --only users --repeats 3
    python -m benchmarks.scale --only workers shards --events 200000
    python -m benchmarks.scale --server redis --json

Parts:
* workers: 1, 2 and 4 workers on a full topic of four partitions. shards: one worker on one Valkey, then on a Redis Cluster of three. All
  processes share this machine's cores, so `…_cost_ratio`, processor time per event against one of them, says more than the rate.
* users, items: the cost of an event (processor time of the worker and of Redis, and wall time) with few and with many users or items. Each
  population has its own stack; they take turns. Both are filled first: every user has a history of fifty, every item a number, a row of
  neighbours (a hundred; ten where there are a million items) and a count. The first stretch of events does not count, because rows grow to
  their usual size in it. Everything else is held equal: users come one after another in a random order, each as often as the others, and
  each is read from Redis (`stream.user_cache` is one batch); there is one partition, a batch has at most 4,000 events; items are drawn
  evenly from 10,000 (users) or from a pool of a thousand out of all (items), in events and histories. A stream over few users or items
  would differ in other ways: shorter histories, users twice in a batch, pairs on the same rows.
* users_cached: the same with the default user cache, which holds the few users but not the many.
* spread: items drawn evenly from all of the many. An event then touches more rows, because fewer of a batch's pairs share one. Rows and
  users per event, from Redis's command counts, are printed beside each run.

A ratio is the cost with many over the cost with few, in processor time of worker and Redis together; `…_wall` compares wall time.
Rows of a million users are further from the processor than those of ten thousand, for any client. So before each run the same server reads
and writes back rows of randomly drawn users, and appends nothing to three item rows for each, as an event does (`plain`).
`cost_ratio_users` compares the cost with many to the cost with few plus the extra cost of `plain` with many; `…_raw` is the plain ratio.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import redis

from benchmarks.bench import Bench, Rate
from benchmarks.datasets import Stream, zipf_stream
from benchmarks.figures import benchmark_parser, cpu_seconds, emit, run_benchmark
from recsys.state.item_row import WEIGHT_ONE, pack_header, pack_records
from recsys.state.user_table import UserTable
from tests.builders import batch_of
from tests.histories import apply
from tests.redis_cluster import RedisCluster
from workers.bootstrap import open_store
from workers.kafka.partitioner import partition_for
from workers.local.embedded import Child, EmbeddedStack
from workers.redis.keys import Keys
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.state.port import UserCommit
from workers.stream.adaptive_poll import BEHIND_FACTOR

PARTS = ("workers", "shards", "users", "users_cached", "items", "spread")
WORKERS = (1, 2, 4)
FEW_USERS, MANY_USERS, FEW_ITEMS, MANY_ITEMS = 10_000, 1_000_000, 1_000, 1_000_000
USERS_ITEMS, ITEMS_USERS = 10_000, 100_000
"""Items of the runs that compare users; users of the runs that compare items."""
POOL = 1_000
SHARED_S = 60.0
"""Time for workers to start and to divide the partitions."""
PRELOADED, BATCH, CHUNK = 50, 4_000, 10_000
USERS_NEIGHBOURS, ITEMS_NEIGHBOURS = 100, 10
USER_CACHES = (("users", "", BATCH), ("users_cached", "_cached", 50_000))
"""Part, suffix of its runs' names, `stream.user_cache`; the last is the setting's default."""
PLAIN_USERS, PLAIN_TOGETHER, PLAIN_ROWS = 40_000, 1_000, 3
START_S = 1_600_000_000
TOPIC_ID = "preloaded"


@dataclass(frozen=True, slots=True)
class Population:
    """Numbers of users and items, neighbours of each item, and the pool of item numbers that events and histories draw from."""

    n_users: int
    n_items: int
    pool: range
    neighbours: int

    def draw(self, random: np.random.Generator, shape: Any) -> np.ndarray[Any, Any]:
        """Draw item numbers from the pool."""
        drawn: np.ndarray[Any, Any] = random.integers(self.pool.start, self.pool.stop, shape)
        return drawn

    def stream(self, n_events: int, seed: int) -> Stream:
        """Return events of all users in a random order, repeated; a tenth of a second between events."""
        random = np.random.default_rng(seed)
        order = random.permutation(self.n_users)
        return Stream(
            [f"u{user}" for user in order[np.arange(n_events) % self.n_users].tolist()],
            [f"i{item}" for item in self.draw(random, n_events).tolist()],
            np.full(n_events, 5.0, np.float32),
            START_S + np.arange(n_events) // 10,
            {},
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """A population, and the runs on it: name ▸ user cache."""

    population: Population
    user_caches: dict[str, int]


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of an event: processor milliseconds by process, wall milliseconds, and the rows and users that it touched."""

    cpu_ms: dict[str, float]
    wall_ms: float
    rows: float
    users: float
    plain_ms: float
    """Redis's processor milliseconds to read a user's row, write it back unchanged, and append nothing to PLAIN_ROWS item rows."""

    @property
    def state_ms(self) -> float:
        return self.cpu_ms["worker"] + self.cpu_ms["redis"]


async def preload(settings: Settings, population: Population, client: Any) -> None:
    """Number the items and write their rows and counts; write the users' histories."""
    store = open_store(settings)
    await store.open(layout_of(settings))
    for first in range(0, population.n_items, CHUNK):
        await store.item_numbers([f"i{number}" for number in range(first, min(first + CHUNK, population.n_items))])
    _preload_items(settings, population, client)
    random = np.random.default_rng(0)
    partitions = settings.topics.partitions
    for first in range(0, population.n_users, CHUNK):
        names = [f"u{user}" for user in range(first, min(first + CHUNK, population.n_users))]
        by_partition: dict[int, dict[str, bytes]] = {}
        for name, row in zip(names, _histories(population, names, random), strict=True):
            by_partition.setdefault(partition_for(name.encode(), partitions), {})[name] = row
        await store.commit_users([UserCommit(partition, TOPIC_ID, -1, -1, rows) for partition, rows in by_partition.items()])
    await store.close()


def _histories(population: Population, names: list[str], random: np.random.Generator) -> list[bytes]:
    table = UserTable(100, 0, capacity=len(names))
    table.load(dict.fromkeys(names))
    slots = np.array([table.slot(name) for name in names])
    shape = (len(names), PRELOADED)
    times_s = START_S - 86_400 * 30 + np.cumsum(random.integers(1, 40_000, shape), axis=1)
    items = population.draw(random, shape).astype(np.uint32)
    apply(table, batch_of(slots, [PRELOADED] * len(names), items.ravel(), times_s.ravel(), np.full(items.size, 32)))
    return table.pack(slots.tolist())


def _preload_items(settings: Settings, population: Population, client: Any) -> None:
    """Write item rows as a worker would have left them, directly, so that the groups' watermarks stay."""
    keys, groups, n_items = Keys(settings.redis.namespace), settings.state.item_groups, population.n_items
    epoch = START_S // layout_of(settings).epoch_s
    random = np.random.default_rng(1)
    for group in range(groups):
        numbers = np.arange(group, n_items, groups)
        counts = pack_records(numbers, np.full(len(numbers), WEIGHT_ONE))
        client.set(keys.rows(group, [("pop", "all", 0)])[0], pack_header(group, len(counts)) + counts)
        for first in range(0, len(numbers), CHUNK):
            some = numbers[first : first + CHUNK]
            near = np.cumsum(random.integers(1, n_items // population.neighbours, (len(some), population.neighbours)), axis=1)
            body = pack_records(near.ravel(), np.full(near.size, WEIGHT_ONE))
            size = 8 * population.neighbours
            row_keys = keys.rows(group, [("c", epoch, number) for number in some.tolist()])
            client.mset({key: pack_header(1, size) + body[i * size : (i + 1) * size] for i, key in enumerate(row_keys)})


class PopulatedStack:
    """A stack filled with a population, which measures the cost of an event stretch by stretch of the stream."""

    def __init__(self, stack: EmbeddedStack, folder: Path, run: Comparison, n_events: int, n_stretches: int) -> None:
        self._run, self._n_events, self._done = run, n_events, 0
        self._bench = Bench(stack, run.population.stream(n_events * n_stretches, seed=2), folder, partitions=1)
        self._settings, self._sections = self._bench.settings(publish_lists=False, batch_max_events=BATCH // BEHIND_FACTOR)
        asyncio.run(preload(self._settings, run.population, self._bench.redis))

    def costs(self) -> dict[str, Cost]:
        """Measure the cost of an event in each run, one after another."""
        return {name: self._cost(user_cache) for name, user_cache in self._run.user_caches.items()}

    def _cost(self, user_cache: int) -> Cost:
        bench, n_events, done = self._bench, self._n_events, self._done
        self._done += n_events
        asyncio.run(_publish_stretch(bench, self._settings, done, self._done))
        plain_ms = self._plain_ms(seed=done)
        before = _calls(bench.redis)
        worker = bench.start_worker({**self._sections, "stream": {**self._sections["stream"], "user_cache": user_cache}})
        try:
            rate = bench.watch(lambda: bench.applied(self._settings) - done, n_events, lambda: 0, [worker.process])
        finally:
            bench.stack.stop_workers()
        calls = {command: count - before[command] for command, count in _calls(bench.redis).items()}
        return Cost(rate.cpu_ms_per_event(), 1000 / rate.events_per_s, calls["append"] / n_events, calls["set"] / n_events, plain_ms)

    def _plain_ms(self, seed: int) -> float:
        """Touch as many rows as events do without changing any; return Redis's processor milliseconds per user."""
        server, client, keys = self._bench.stack.valkey, self._bench.redis, Keys(self._settings.redis.namespace)
        assert server is not None
        random, groups = np.random.default_rng(seed), self._settings.state.item_groups
        drawn = random.integers(0, self._run.population.n_users, PLAIN_USERS)
        epoch = START_S // layout_of(self._settings).epoch_s
        began = cpu_seconds(server.process.pid)
        for first in range(0, PLAIN_USERS, PLAIN_TOGETHER):
            together = keys.users(0, [f"u{user}" for user in drawn[first : first + PLAIN_TOGETHER].tolist()])
            client.mset(dict(zip(together, client.mget(together), strict=True)))  # type: ignore[arg-type]
            touched = client.pipeline(transaction=False)
            for number in self._run.population.draw(random, PLAIN_TOGETHER * PLAIN_ROWS).tolist():
                touched.append(keys.rows(number % groups, [("c", epoch, number)])[0], b"")
            touched.execute()
        return 1000 * (cpu_seconds(server.process.pid) - began) / PLAIN_USERS


def run_costs(
    folder: Path, runs: Sequence[Comparison], n_events: int, repeats: int, redis_server: Path | None = None
) -> dict[str, list[Cost]]:
    """Return the cost of an event by run. The stacks take turns, so that a busy minute of the machine affects all of them."""
    found: dict[str, list[Cost]] = {}
    with ExitStack() as held:
        stacks: list[PopulatedStack] = []
        for number, run in enumerate(runs):
            stack = held.enter_context(EmbeddedStack(folder / f"stack-{number}", redis_server=redis_server))
            stacks.append(PopulatedStack(stack, folder, run, n_events, (1 + repeats) * len(run.user_caches)))
            stacks[-1].costs()
        for _ in range(repeats):
            for populated in stacks:
                for name, cost in populated.costs().items():
                    found.setdefault(name, []).append(cost)
    return found


async def _publish_stretch(bench: Bench, settings: Settings, first: int, last: int) -> None:
    whole, bench.stream = bench.stream, _cut(bench.stream, first, last)
    ids = iter(range(first, last))
    make = bench.event_record
    bench.event_record = lambda i, at_ms, event_id=None: make(i, at_ms, str(next(ids)))  # type: ignore[method-assign]
    try:
        await bench.publish(settings, np.arange(last - first), catalogue=False)
    finally:
        bench.stream, bench.event_record = whole, make  # type: ignore[method-assign]


def _cut(stream: Stream, first: int, last: int) -> Stream:
    return Stream(
        stream.users[first:last], stream.items[first:last], stream.ratings[first:last], stream.times_s[first:last], stream.content
    )


def _calls(client: Any) -> dict[str, int]:
    """Return how often the server ran each command, inside functions too."""
    stats = client.info("commandstats")
    return {name: int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("append", "set")}


class ClusterBench(Bench):
    """A bench on a Redis Cluster."""

    def __init__(self, stack: EmbeddedStack, cluster: RedisCluster, stream: Stream, folder: Path) -> None:
        super().__init__(stack, stream, folder)
        self.cluster = cluster
        self.cluster_client = redis.RedisCluster.from_url(cluster.url)

    def settings(self, more: Any = None, **stream: Any) -> tuple[Settings, dict[str, Any]]:
        of_cluster = {"url": self.cluster.url, "cluster": True, **(more or {}).get("redis", {})}
        return super().settings({**(more or {}), "redis": of_cluster}, **stream)

    def applied(self, settings: Settings) -> int:
        keys = [f"{{{settings.redis.namespace}:p{p}}}:wm" for p in range(self.partitions)]
        found = (self.cluster_client.get(key) for key in keys)
        return sum(int(value.rsplit(b":", 1)[1]) + 1 for value in found if isinstance(value, bytes))

    def servers(self) -> list[Child]:
        return [node.child for node in self.cluster.nodes]

    def _cpu(self, processes: Iterable[Any]) -> dict[str, float]:
        used = super()._cpu(processes)
        return used | {"redis": sum(cpu_seconds(child.process.pid) for child in self.servers())}


def servers_of(bench: Bench) -> list[Child]:
    """Return the Redis servers of a bench."""
    if isinstance(bench, ClusterBench):
        return bench.servers()
    return [bench.stack.valkey] if bench.stack.valkey is not None else []


def run_state(bench: Bench, n_events: int, workers: int) -> Rate:
    """Measure the state path: Redis is paused while the topic is filled, after the workers have divided the partitions."""
    settings, sections = bench.settings({"redis": {"timeout_s": 2 * SHARED_S}}, publish_lists=False)
    children = [bench.start_worker(sections) for _ in range(workers)]
    try:
        _wait_until_shared(children, bench.partitions)
        for server in servers_of(bench):
            server.process.send_signal(signal.SIGSTOP)
        try:
            asyncio.run(bench.publish(settings, np.arange(n_events), catalogue=False))
        finally:
            for server in servers_of(bench):
                server.process.send_signal(signal.SIGCONT)
        before, started = bench._cpu([child.process for child in children]), time.monotonic()
        rate = bench.watch(lambda: bench.applied(settings), n_events, lambda: 0, [child.process for child in children])
        used = bench._cpu([child.process for child in children])
        return replace(rate, events=n_events, seconds=time.monotonic() - started, cpu_s={name: used[name] - before[name] for name in used})
    finally:
        bench.stack.stop_workers()


def _wait_until_shared(children: list[Child], partitions: int) -> None:
    """Wait until every worker has logged its share of the partitions."""
    deadline = time.monotonic() + SHARED_S
    while True:
        owned = [_owned(child) for child in children]
        if sorted(partition for share in owned for partition in share) == list(range(partitions)) and all(owned):
            return
        if time.monotonic() > deadline or not all(child.running for child in children):
            raise RuntimeError(f"the workers do not share the partitions: {owned}")
        time.sleep(0.1)


def _owned(child: Child) -> list[int]:
    said = re.findall(r"owns partitions \[([\d, ]*)\]", child.log.read_text("utf-8", "replace"))
    return [int(partition) for partition in said[-1].split(",") if partition.strip()] if said else []


def run_workers(stack: EmbeddedStack, folder: Path, stream: Stream, repeats: int) -> dict[str, list[Rate]]:
    """Measure 1, 2 and 4 workers in turns."""
    bench = Bench(stack, stream, folder)
    found: dict[str, list[Rate]] = {f"workers_{workers}": [] for workers in WORKERS}
    for _ in range(repeats):
        for workers in WORKERS:
            found[f"workers_{workers}"].append(run_state(bench, len(stream), workers))
            bench.redis.flushdb()
    return found


def run_shards(stack: EmbeddedStack, folder: Path, stream: Stream, repeats: int) -> dict[str, list[Rate]]:
    """Measure one Valkey and a cluster of three in turns."""
    found: dict[str, list[Rate]] = {"shards_1": [], "shards_3": []}
    with RedisCluster(folder / "cluster", node_timeout_ms=60_000) as cluster:
        for _ in range(repeats):
            found["shards_1"].append(run_state(Bench(stack, stream, folder), len(stream), 1))
            found["shards_3"].append(run_state(ClusterBench(stack, cluster, stream, folder), len(stream), 1))
    return found


def comparisons(only: Sequence[str]) -> list[Comparison]:
    """Return the comparisons of these parts."""
    everything, some = range(USERS_ITEMS), range(MANY_ITEMS // 2, MANY_ITEMS // 2 + POOL)
    chosen = []
    user_caches = {suffix: user_cache for part, suffix, user_cache in USER_CACHES if part in only}
    for n_users, name in ((FEW_USERS, "users_few"), (MANY_USERS, "users_many")) if user_caches else ():
        population = Population(n_users, USERS_ITEMS, everything, USERS_NEIGHBOURS)
        chosen.append(Comparison(population, {f"{name}{suffix}": user_cache for suffix, user_cache in user_caches.items()}))
    if "items" in only or "spread" in only:
        chosen.append(Comparison(Population(ITEMS_USERS, FEW_ITEMS, range(FEW_ITEMS), ITEMS_NEIGHBOURS), {"items_few": BATCH}))
    if "items" in only:
        chosen.append(Comparison(Population(ITEMS_USERS, MANY_ITEMS, some, ITEMS_NEIGHBOURS), {"items_many": BATCH}))
    if "spread" in only:
        chosen.append(Comparison(Population(ITEMS_USERS, MANY_ITEMS, range(MANY_ITEMS), ITEMS_NEIGHBOURS), {"items_many_spread": BATCH}))
    return chosen


def middle_of(costs: list[Cost], value: Callable[[Cost], float]) -> float:
    """Return the median of a figure over the repeats."""
    return statistics.median(value(cost) for cost in costs)


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=f"run only these: {', '.join(PARTS)}")
    parser.add_argument("--events", type=int, default=100_000, help="events of a run with workers or shards (default: 100,000)")
    parser.add_argument("--cost-events", type=int, default=40_000, help="events of a run with few or many (default: 40,000)")
    parser.add_argument("--repeats", type=int, default=1, help="repeats of each run; the median counts (default: 1)")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey", help="the embedded Valkey, or redis-server on the PATH")
    arguments = parser.parse_args()
    redis_server = shutil.which("redis-server") if arguments.server == "redis" else None
    if arguments.server == "redis" and redis_server is None:
        parser.error("--server redis: there is no redis-server on the PATH")
    server = None if redis_server is None else Path(redis_server)
    rates: dict[str, list[Rate]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stream = zipf_stream(arguments.events, seed=0, n_users=20_000, n_items=10_000)
        if {"workers", "shards"} & set(arguments.only):
            with EmbeddedStack(folder / "stack", redis_server=server) as stack:
                if "workers" in arguments.only:
                    rates |= run_workers(stack, folder, stream, arguments.repeats)
                if "shards" in arguments.only:
                    rates |= run_shards(stack, folder, stream, arguments.repeats)
        costs = run_costs(folder, comparisons(arguments.only), arguments.cost_events, arguments.repeats, server)
    figures, rows = _figures(rates, costs)
    emit(
        "scale",
        f"state path, {arguments.server}",
        ("run", "events/s", "processor ms per event: worker, redis, broker", "rows per event", "users per event"),
        rows,
        {
            "few_users": FEW_USERS,
            "many_users": MANY_USERS,
            "few_items": FEW_ITEMS,
            "many_items": MANY_ITEMS,
            "n_events": arguments.events,
            "cost_events": arguments.cost_events,
            "seed": 0,
            "repeats": arguments.repeats,
            **figures,
        },
        as_json=arguments.json,
    )
    return 0


def _figures(rates: dict[str, list[Rate]], costs: dict[str, list[Cost]]) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Return figures by key, and the table's rows."""
    figures: dict[str, Any] = {}
    rows: list[tuple[str, ...]] = []
    for name, found in rates.items():
        per_s = [rate.events_per_s for rate in found]
        cpu = {
            process: round(statistics.median(r.cpu_ms_per_event()[process] for r in found), 4) for process in found[0].cpu_ms_per_event()
        }
        figures |= {f"{name}_events_per_s": round(statistics.median(per_s)), f"{name}_events_per_s_low": round(min(per_s))}
        figures |= {f"{name}_events_per_s_high": round(max(per_s)), f"{name}_cpu_ms_per_event": cpu}
        rows.append((name, f"{statistics.median(per_s):,.0f}", ", ".join(f"{used:.4f}" for used in cpu.values()), "", ""))
    for name, of_run in costs.items():
        cpu = {process: round(middle_of(of_run, lambda c, p=process: c.cpu_ms[p]), 4) for process in of_run[0].cpu_ms}  # type: ignore[misc]
        touched = (round(middle_of(of_run, lambda c: c.rows), 2), round(middle_of(of_run, lambda c: c.users), 2))
        wall_ms = round(middle_of(of_run, lambda c: c.wall_ms), 4)
        figures |= {f"{name}_cpu_ms_per_event": cpu, f"{name}_wall_ms_per_event": wall_ms}
        figures |= {f"{name}_rows_per_event": touched[0], f"{name}_users_per_event": touched[1]}
        figures[f"{name}_state_ms_low"], figures[f"{name}_state_ms_high"] = (
            round(pick(c.state_ms for c in of_run), 4) for pick in (min, max)
        )
        rows.append((name, f"{1000 / wall_ms:,.0f}", ", ".join(f"{used:.4f}" for used in cpu.values()), *map(str, touched)))
    ratios = {
        "cost_ratio_users": ("users_many", "users_few"),
        "cost_ratio_users_cached": ("users_many_cached", "users_few_cached"),
        "cost_ratio_items": ("items_many", "items_few"),
        "cost_ratio_items_spread": ("items_many_spread", "items_few"),
    }
    for ratio, (many, few) in ratios.items():
        if many in costs and few in costs:
            among_many, among_few = (middle_of(costs[name], lambda c: c.state_ms) for name in (many, few))
            if ratio == "cost_ratio_users":
                plain = {name: round(middle_of(costs[name], lambda c: c.plain_ms), 5) for name in (many, few)}
                figures |= {f"{name}_plain_ms_per_user": used for name, used in plain.items()}
                figures[f"{ratio}_raw"] = round(among_many / among_few, 3)
                rows.append(("plain, per user", "", f"many {plain[many]:.5f}, few {plain[few]:.5f}", "", ""))
                among_few += middle_of(costs[many], lambda c: c.users) * max(plain[many] - plain[few], 0)
            figures[ratio] = round(among_many / among_few, 3)
            figures[f"{ratio}_wall"] = round(middle_of(costs[many], lambda c: c.wall_ms) / middle_of(costs[few], lambda c: c.wall_ms), 3)
            rows.append((ratio, f"{figures[ratio]:.3f}", f"by time {figures[f'{ratio}_wall']:.3f}", "", ""))
    for ratio, (more, one) in {"workers_2_ratio": ("workers_2", "workers_1"), "workers_4_ratio": ("workers_4", "workers_1"),
                               "shards_3_ratio": ("shards_3", "shards_1")}.items():  # fmt: skip
        if more in rates and one in rates:
            figures[ratio] = round(figures[f"{more}_events_per_s"] / figures[f"{one}_events_per_s"], 3)
            spent = [figures[f"{name}_cpu_ms_per_event"]["worker"] + figures[f"{name}_cpu_ms_per_event"]["redis"] for name in (more, one)]
            figures[f"{ratio.removesuffix('_ratio')}_cost_ratio"] = round(spent[0] / spent[1], 3)
    return figures, rows


if __name__ == "__main__":
    run_benchmark(main)
