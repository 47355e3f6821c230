"""One look at a running installation for `recsys status`: workers, lag, freshness, models, lists, dead letters, Redis, and what is wrong.

Each part is asked for by itself: a server that is down leaves the others' figures there. Nothing is changed.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.decoding import decode_announcement, decode_recommendations
from schemas.errors import Poison
from workers.errors import WorkerError
from workers.kafka.admin import admin_client
from workers.kafka.groups import describe_group
from workers.kafka.offsets import committed_offsets, end_offsets, start_offsets
from workers.kafka.records import BlockingRangeReader, Place
from workers.kafka.rights import on_topics
from workers.operations.dead_letters import Choice, count_letters
from workers.operations.doctor import examine_now
from workers.operations.finding import Finding
from workers.settings import Settings

SAMPLED_LISTS = 40
"""Newest lists whose delay is measured, over all partitions."""
RECENT_S = 3_600.0
"""Dead letters of this time are counted."""


@dataclass
class Status:
    """Holds what was seen; None and empty mean that it could not be asked for."""

    brokers: int | None = None
    workers: int | None = None
    lag: dict[int, int] = field(default_factory=dict)
    """Partition of the events topic ▸ events that are not applied."""
    newest_list_age_s: float | None = None
    freshness_ms: dict[str, float] = field(default_factory=dict)
    """p50 and p95 of the time from an event's record to the list that it caused, of the newest lists."""
    lists: int | None = None
    dead_letters: int | None = None
    recent_dead_letters: dict[str, int] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    """Kind ▸ version that serves."""
    items: int | None = None
    redis: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)


def look(settings: Settings) -> Status:
    """Ask every part. Never raises for what it looks at."""
    found = Status()
    found.problems = [finding for finding in examine_now(settings) if finding.state != "ok"]
    names = {finding.name for finding in found.problems}
    if "kafka" not in names:
        for part in (_group, _lists, _letters):
            _try(found, part, settings)
    if "redis" not in names:
        _try(found, lambda chosen, status: asyncio.run(_state(chosen, status)), settings)
    return found


def _try(found: Status, part: Callable[[Settings, Status], None], settings: Settings) -> None:
    try:
        part(settings, found)
    except WorkerError as error:
        text, _, remedy = str(error).rpartition(": ")
        known = {finding.text for finding in found.problems}
        if (text or remedy) not in known:
            found.problems.append(Finding("status", "warning", text or remedy, remedy if text else "try again"))


def _group(settings: Settings, found: Status) -> None:
    topic, group_id = settings.topics.events, settings.stream.group_id
    with admin_client(settings) as admin:
        found.brokers = len(admin.describe_cluster()["brokers"])
    found.workers = describe_group(settings, group_id).n_members
    committed, ends, starts = committed_offsets(settings, group_id, topic), end_offsets(settings, [topic]), start_offsets(settings, [topic])
    found.lag = {partition: end - max(committed.get(partition, 0), starts[name, partition]) for (name, partition), end in ends.items()}


def _lists(settings: Settings, found: Status) -> None:
    topic = settings.topics.recommendations
    ends, starts = end_offsets(settings, [topic]), start_offsets(settings, [topic])
    found.lists = sum(end - starts[place] for place, end in ends.items())
    each = max(1, SAMPLED_LISTS // max(1, len(ends)))
    delays: list[float] = []
    with BlockingRangeReader(settings, needs=on_topics("Read", topic)) as reader:
        newest_ms = 0
        for place, end in ends.items():
            for made, made_ms in _newest(reader, place, max(starts[place], end - each), end):
                newest_ms = max(newest_ms, made_ms)
                source = (settings.topics.events, made.trigger.partition)
                at = made.trigger.source_offset
                caused = next(iter(reader.between(source, at, at + 1)), None) if made.trigger.event_id is not None else None
                if caused:
                    delays.append(made_ms - caused.source_timestamp_ms)
    if newest_ms:
        found.newest_list_age_s = max(0.0, time.time() - newest_ms / 1000)
    if delays:
        delays.sort()
        found.freshness_ms = {"p50": statistics.median(delays), "p95": delays[min(len(delays) - 1, int(0.95 * len(delays)))]}


def _newest(reader: BlockingRangeReader, place: Place, first: int, end: int) -> list[tuple[Any, int]]:
    found = []
    for record in reader.between(place, first, end):
        try:
            made = decode_recommendations(record.value, record.key)
        except Poison:
            continue
        if made is not None:
            found.append((made, record.source_timestamp_ms))
    return found


def _letters(settings: Settings, found: Status) -> None:
    topic = settings.topics.dead_letters
    ends, starts = end_offsets(settings, [topic]), start_offsets(settings, [topic])
    found.dead_letters = sum(end - starts[place] for place, end in ends.items())
    if found.dead_letters:
        recent = count_letters(settings, Choice(since_ms=int((time.time() - RECENT_S) * 1000)))
        by_kind: Counter[str] = Counter()
        for (kind, _), n in recent.items():
            by_kind[kind] += n
        found.recent_dead_letters = dict(by_kind.most_common())
        if by_kind:
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in by_kind.most_common(3))
            text = f"records were refused within the last hour: {kinds}"
            remedy = "`recsys dlq list` says why; `recsys dlq redrive` sends them again"
            found.problems.append(Finding("dead letters", "warning", text, remedy))


async def _state(settings: Settings, found: Status) -> None:
    from workers.bootstrap import open_store

    store = open_store(settings)
    try:
        for server in await store.server_identity():
            name = f"{server.server} {server.version}"
            found.redis.append({"server": name, "used_mb": server.used_memory_bytes / 1e6, "max_mb": server.maxmemory_bytes / 1e6})
        await store.open_read_only()
        found.items = await store.n_items()
        for kind, announcement in sorted((await store.serving()).items()):
            found.models[kind] = _version(kind, announcement)
    finally:
        await store.close()


def _version(kind: str, announcement: bytes) -> str:
    try:
        made = decode_announcement(announcement, kind.encode())
    except Poison:
        return "unreadable"
    return "none" if made is None or made.serving is None else made.serving.version


def figures(found: Status) -> Mapping[str, Any]:
    """Return everything for JSON."""
    from dataclasses import asdict

    return asdict(found) | {"total_lag": sum(found.lag.values()) if found.lag else None}
