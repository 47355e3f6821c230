"""Judge what `recsys doctor` measured: topics' settings, clocks, disks, Redis' memory, ports, consumer groups. Figures in, findings out."""

from __future__ import annotations

import shutil
import socket
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from schemas import limits
from workers.kafka.groups import Group
from workers.operations.finding import Finding, State
from workers.settings import MetricsSettings
from workers.state.server_identity import ServerIdentity

DAY_MS = 86_400_000
MIN_EVENTS_RETENTION_MS = 30 * DAY_MS
"""Lost state is rebuilt from the events topic; less than a month of it makes other lists."""
MAX_SKEW_S, MAX_WARNED_SKEW_S = 2.0, 60.0
"""Beyond the first, freshness and rows of what is new are off; beyond the second, events count as coming from the future."""
LOW_DISK_BYTES, FULL_DISK_BYTES = 1_000_000_000, 50_000_000
FULL_MEMORY = 0.9
WORKER_PROTOCOL = "roundrobin"
"""How members of the stream workers' group share partitions: the only way that aiokafka's consumer offers."""
_VALUE_BYTES = {
    "events": limits.EVENT_MAX_BYTES, "items": limits.ITEM_MAX_BYTES, "users": limits.PROFILE_MAX_BYTES,
    "recommendations": limits.RECOMMENDATIONS_MAX_BYTES,
}  # fmt: skip
"""Role of a topic ▸ bytes of the largest value that this project writes or accepts there."""


def topic_keeping(role: str, topic: str, configs: Mapping[str, str]) -> Iterator[Finding]:
    """Judge how long a topic keeps records, and how large they may be; nothing where the broker does not tell."""
    policy, kept_ms = configs.get("cleanup.policy"), configs.get("retention.ms", "")
    if role == "events" and policy is not None and "compact" in policy:
        text = f"topic {topic} has cleanup.policy={policy}: of each user only the newest event is kept, and no state can be rebuilt from it"
        yield Finding("retention", "wrong", text, "set cleanup.policy=delete on it")
    elif role == "events" and kept_ms.isdecimal() and int(kept_ms) < MIN_EVENTS_RETENTION_MS:
        text = f"topic {topic} keeps events for {int(kept_ms) / DAY_MS:,.1f} days: lost state is rebuilt from no more than that"
        yield Finding("retention", "warning", text, f"set retention.ms={365 * DAY_MS} on it")
    if role == "recommendations" and policy is not None and policy != "compact":
        text = f"topic {topic} has cleanup.policy={policy}: lists of users who stay away are deleted with age"
        yield Finding("retention", "warning", text, "set cleanup.policy=compact on it")
    largest = configs.get("max.message.bytes", "")
    if largest.isdecimal() and int(largest) < _VALUE_BYTES.get(role, 0):
        text = f"topic {topic} takes records of {int(largest):,} bytes, and valid ones have up to {_VALUE_BYTES[role]:,}"
        yield Finding("message size", "warning", text, "set max.message.bytes=1048588 on it")


def clock(skew_s: float, whose: str) -> Finding:
    """Judge how far this machine's clock is from a server's; positive: this one is ahead."""
    way = "ahead of" if skew_s > 0 else "behind"
    if abs(skew_s) <= MAX_SKEW_S:
        return Finding("clock", "ok", f"within {MAX_SKEW_S:g} s of {whose}")
    state: State = "wrong" if abs(skew_s) > MAX_WARNED_SKEW_S else "warning"
    text = f"this machine's clock is {abs(skew_s):,.0f} s {way} that of {whose}"
    return Finding("clock", state, text, "let NTP (chrony, systemd-timesyncd) set the clocks of all machines")


def redis_server(server: ServerIdentity, info: Mapping[str, Any], *, is_local: bool) -> Iterator[Finding]:
    """Judge one Redis: whether it is a primary, has memory left, and keeps its data over a restart."""
    if server.role != "master":
        text = f"{server.server} is a {server.role}: it refuses writes"
        yield Finding("redis role", "wrong", text, "name the primary in redis.url, or its cluster")
    if server.maxmemory_bytes and server.maxmemory_policy != "noeviction":
        text = f"maxmemory-policy {server.maxmemory_policy} would drop state silently"
        yield Finding("redis memory", "wrong", text, "set it to noeviction")
    if server.maxmemory_bytes and server.used_memory_bytes > FULL_MEMORY * server.maxmemory_bytes:
        share = server.used_memory_bytes / server.maxmemory_bytes
        text = f"{share:.0%} of maxmemory ({server.maxmemory_bytes / 1e6:,.0f} MB) are used: when it is full, workers stand still"
        yield Finding("redis memory", "warning", text, "raise maxmemory, or lower state.history_length")
    if str(info.get("aof_enabled", "1")) == "0" and not is_local:
        text = "no append-only file: a restart loses the state, and workers make it again from the log, which takes time"
        yield Finding("redis persistence", "warning", text, "set appendonly yes")
    if str(info.get("aof_last_write_status", "ok")) != "ok" or str(info.get("rdb_last_bgsave_status", "ok")) != "ok":
        yield Finding("redis persistence", "wrong", "Redis cannot write its files, and may refuse writes", "free its disk, see its log")


def disk(name: str, path: Path, free_bytes: int | None = None) -> Iterator[Finding]:
    """Judge the room on the disk of a folder. `free_bytes` is measured unless given."""
    free = shutil.disk_usage(path).free if free_bytes is None else free_bytes
    if free < LOW_DISK_BYTES:
        text = f"{free / 1e6:,.0f} MB are free on the disk of {path}"
        yield Finding(f"{name} disk", "wrong" if free < FULL_DISK_BYTES else "warning", text, "free the disk, or name another folder")


def metrics_port(settings: MetricsSettings) -> Iterator[Finding]:
    """Say whether another program has the port of a worker's metrics. A worker of this machine may have it: it answers /live."""
    if not settings.port:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server of the worker does
        try:
            probe.bind((settings.host, settings.port))
            yield Finding("metrics port", "ok", f"{settings.host}:{settings.port} is free")
            return
        except OSError as error:
            reason = error.strerror or type(error).__name__
    if _answers_live(settings):
        yield Finding("metrics port", "ok", f"a worker answers at {settings.host}:{settings.port}")
    else:
        text = f"{settings.host}:{settings.port} cannot be opened ({reason}), and no worker answers there"
        yield Finding("metrics port", "wrong", text, "set metrics.port to another one, or 0; see who has it with `ss -ltnp`")


def _answers_live(settings: MetricsSettings) -> bool:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    try:
        with urllib.request.urlopen(f"http://{host}:{settings.port}/live", timeout=2) as answer:
            return "json" in (answer.headers.get("content-type") or "") or answer.status == 200
    except OSError as error:
        return getattr(error, "code", 0) == 503  # alive, and says that it is not well
    except ValueError:
        return False


def group(found: Group, group_id: str, n_partitions: int, lag: int) -> Iterator[Finding]:
    """Judge the group of the stream workers: who is in it, and how many."""
    members = found.n_members
    if members and found.protocol and found.protocol.lower() != WORKER_PROTOCOL:
        text = f"group {group_id} has {members} members of another program (protocol {found.protocol}): they take partitions away"
        yield Finding("workers", "wrong", text, "give that program a group of its own, or set stream.group_id for all workers")
    elif not members:
        text = f"no stream worker runs, and {lag:,} events wait" if lag else "no stream worker runs"
        yield Finding("workers", "warning", text, "start one: recsys worker stream")
    elif members > n_partitions:
        text = f"{members} stream workers for {n_partitions} partitions: {members - n_partitions} have nothing to do"
        yield Finding("workers", "warning", text, "stop those that are too many")
    else:
        yield Finding("workers", "ok", f"{members} stream workers run")


def lost_state(namespace: str, committed: Iterable[int]) -> Iterator[Finding]:
    """Say that state is gone which the workers' commits say was there."""
    n_events = sum(committed)
    if n_events:
        text = f"namespace {namespace} is empty, and workers have read {n_events:,} events: the state is lost, or elsewhere"
        yield Finding("state", "wrong", text, "correct redis.url and redis.namespace; if it is lost, workers make it again when they start")


def measured_skew_s(server_s: float, asked_s: float, answered_s: float) -> float:
    """Return how far this clock is ahead of a server's that answered between two looks at this one; 0 where the answer took longer."""
    middle_s, half_s = (asked_s + answered_s) / 2, (answered_s - asked_s) / 2
    skew_s = middle_s - server_s
    return skew_s if abs(skew_s) > half_s else 0.0


def now_s() -> float:
    """Return this machine's time."""
    return time.time()
