"""Reads what workers answer at `/metrics`, and makes figures of two looks at them."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from workers.runtime.redaction import redact

TIMEOUT_S = 1.0
MOST_BYTES = 4 << 20
MOST_WORKERS = 256
FRESHNESS = "recsys_freshness_seconds"


@dataclass(slots=True)
class Look:
    """Totals of one worker at one time; `freshness` counts events by the upper bound of their bucket in seconds."""

    records: float = 0.0
    lists: float = 0.0
    dead_letters: float = 0.0
    freshness: dict[float, float] = field(default_factory=dict)
    live: dict[str, list[float]] = field(default_factory=dict)
    """Versions of models ▸ interactions, hits of lists, hits of popularity."""
    lag: dict[int, int] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)
    is_ready: bool = False
    is_stream: bool = False


def parsed(text: str) -> Look:
    """Return what a worker's metrics say."""
    from prometheus_client.parser import text_string_to_metric_families

    look = Look()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            _take(look, sample.name, sample.labels, sample.value)
    return look


def _take(look: Look, name: str, labels: Mapping[str, str], value: float) -> None:
    live = {"recsys_live_events_total": 0, "recsys_live_hits_total": 1, "recsys_live_popular_hits_total": 2}
    if name == "recsys_records_total":
        look.records, look.is_stream = value, True
    elif name == "recsys_lists_total":
        look.lists = value
    elif name == "recsys_dead_letters_total":
        look.dead_letters += value
    elif name == f"{FRESHNESS}_bucket":
        if labels.get("since") == "event":
            look.freshness[float(labels["le"])] = value
    elif name in live:
        look.live.setdefault(labels["model"], [0.0, 0.0, 0.0])[live[name]] += value
    elif name == "recsys_lag_records":
        look.lag[int(labels["partition"])] = int(value)
    elif name == "recsys_alarm" and value:
        look.alarms.append(labels["name"])
    elif name == "recsys_serving_model_info" and value:
        look.models[labels["kind"]] = labels["version"]
    elif name == "recsys_ready":
        look.is_ready = bool(value)


async def look_at(urls: Sequence[str]) -> dict[str, Look | None]:
    """Return worker ▸ what it says; None for one that does not answer. A name that stands for several workers is asked at each address."""
    found = await asyncio.gather(*(asyncio.to_thread(addresses, url) for url in urls))
    workers = list(dict.fromkeys(address for some in found for address in some))[:MOST_WORKERS]
    return dict(zip(workers, await asyncio.gather(*(asyncio.to_thread(_fetched, url) for url in workers)), strict=True))


def addresses(url: str) -> list[str]:
    """Return a URL for each address of a name that has several, as replicas of a service of Compose or Kubernetes; else the URL itself.

    A certificate is for a name, so https stays as it is.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        return [url]
    try:
        known = socket.getaddrinfo(parts.hostname, parts.port or 80, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return [url]
    hosts = sorted({str(address[0]) for *_, address in known})
    return [url] if len(hosts) < 2 else [f"http://{host}:{parts.port or 80}" for host in hosts]


def _fetched(url: str) -> Look | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy of the environment is for other hosts
    try:
        with opener.open(f"{url}/metrics", timeout=TIMEOUT_S) as answer:
            return parsed(answer.read(MOST_BYTES).decode("utf-8", "replace"))
    except (OSError, urllib.error.URLError, ValueError, KeyError):
        return None


def quantile_s(counts: Mapping[float, float], share: float) -> float | None:
    """Return a quantile of a histogram of cumulative counts, linear within a bucket; None without observations."""
    bounds = sorted(counts)
    if not bounds or counts[bounds[-1]] <= 0:
        return None
    wanted, before, low = share * counts[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if counts[bound] >= wanted and counts[bound] > before:
            high = low if bound == float("inf") else bound
            return low + (high - low) * (wanted - before) / (counts[bound] - before)
        before, low = counts[bound], bound
    return low


def shown_address(url: str) -> str:
    """Return a worker's address as pages show it."""
    return redact(url.partition("://")[2])
