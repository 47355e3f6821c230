"""Examine an installation for `recsys doctor`: versions, settings, Kafka, topics, Redis, the stored layout. Nothing is changed."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version
from pydantic import ValidationError

from schemas.control import RULES_KEY, PublishedRules
from workers.errors import Fatal, Transient, WorkerError
from workers.operations import fitness
from workers.operations.finding import Finding
from workers.operations.log_findings import examine_codecs, examine_log
from workers.runtime.text import visible
from workers.settings import Settings
from workers.storage import check_url

if TYPE_CHECKING:
    from workers.redis.connection import Link
    from workers.state.port import StateStore

DISTRIBUTION = "recsys-stream"
MIN_REDIS = Version("7")  # functions; Valkey counts from 7.2
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
MAX_LAG = 100_000  # records a group may be behind before it is worth a warning
MIN_TOMBSTONES_MS = 10 * 365 * 86_400_000  # less than this is not for ever
TOMBSTONES_MS = 36_500 * 86_400_000  # what `recsys topics create` sets
MAX_AHEAD_MS = 86_400_000  # how far ahead producers may stamp records; Kafka 4 lets them by an hour, older ones for ever


def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which to mend them. Never raises for what it looks at."""
    findings = [*_versions(), *examine_codecs(settings)]
    findings += examine_now(settings, looks_closer=True)
    findings += _folders(settings)
    findings += _training(settings)
    findings += fitness.metrics_port(settings.metrics)
    return findings


def examine_now(settings: Settings, *, looks_closer: bool = False) -> list[Finding]:
    """All findings about Kafka and Redis; the records of the topics are read only to look closer, which takes seconds."""
    topics, findings = _topics(settings, looks_closer)
    return findings + asyncio.run(_redis(settings, topics))


def _versions() -> Iterator[Finding]:
    python_ok = sys.version_info >= (3, 11)
    yield Finding("python", "ok" if python_ok else "wrong", platform.python_version(), "" if python_ok else "use Python 3.11 or newer")
    try:
        requirements = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        yield Finding("package", "warning", f"{DISTRIBUTION} is not installed", "run `make setup` or `pip install .`")
        return
    missing = []
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue  # of an extra, or of another system
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            missing.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            missing.append(f"{requirement.name} {installed} is not {requirement.specifier}")
    if missing:
        yield Finding("packages", "wrong", ", ".join(missing), "run `make setup` or `pip install .` again")
    else:
        shown = ", ".join(f"{name} {metadata.version(name)}" for name in ("faust-streaming", "aiokafka", "kafka-python", "redis", "torch"))
        yield Finding("packages", "ok", shown)


def _parsed(version: str) -> Version:
    """Return a server's version; 0 for one that is no version."""
    try:
        return Version(version)
    except InvalidVersion:
        return Version("0")


def _topics(settings: Settings, looks_closer: bool) -> tuple[dict[str, str], list[Finding]]:
    """Topic name ▸ id, and the findings about Kafka."""
    from workers.kafka.admin import admin_client
    from workers.kafka.groups import describe_group
    from workers.kafka.offsets import group_lag
    from workers.kafka.topics import describe

    servers = settings.kafka.bootstrap_servers
    try:
        with admin_client(settings) as admin:
            n_brokers = len(admin.describe_cluster()["brokers"])
        findings = [Finding("kafka", "ok", f"{n_brokers} broker{'s' * (n_brokers != 1)} at {servers}")]
        states = describe(settings)
    except WorkerError as error:
        return {}, [_failed("kafka", error)]
    if settings.topics.replication_factor > n_brokers:
        text = f"topics.replication_factor {settings.topics.replication_factor} with {n_brokers} brokers"
        findings.append(Finding("replication", "wrong", text, "lower it or add brokers"))
    for state in states:
        if state.problem is None:
            findings.append(Finding(f"topic {state.spec.role}", "ok", f"{state.spec.name}, {state.partitions} partitions"))
        else:
            what, _, remedy = state.problem.partition(": ")
            findings.append(Finding(f"topic {state.spec.role}", "wrong", what, remedy))
    if any(state.spec.role == "events" and state.partitions is not None for state in states):
        findings += _event_clock(settings)
    findings += _keeping(settings, {state.spec.role: state.spec.name for state in states if state.partitions is not None})
    if all(state.partitions is not None for state in states):
        findings += _removals(settings)
    if all(state.problem is None for state in states):
        try:
            lag = sum(group_lag(settings, settings.stream.group_id, settings.topics.events).values())
            group = describe_group(settings, settings.stream.group_id)
        except WorkerError as error:
            findings.append(_failed("lag", error))
        else:
            text = f"group {settings.stream.group_id} is {lag:,} events behind"
            late = lag > MAX_LAG
            findings.append(Finding("lag", "warning" if late else "ok", text, "start more stream workers" if late else ""))
            findings += fitness.group(group, settings.stream.group_id, settings.topics.partitions, lag)
            findings += _log(settings) if looks_closer else []
    return {state.spec.name: state.topic_id for state in states if state.topic_id is not None}, findings


def _keeping(settings: Settings, topics: Mapping[str, str]) -> Iterator[Finding]:
    """Judge how long the topics keep records, and how large they may be."""
    from workers.kafka.topics import topic_configs

    for role in ("events", "items", "users", "recommendations"):
        if role not in topics:
            continue
        try:
            yield from fitness.topic_keeping(role, topics[role], topic_configs(settings, topics[role]))
        except WorkerError:
            return  # the event clock says so


def _log(settings: Settings) -> Iterator[Finding]:
    """Examine the records of the topics, and the groups that do not move."""
    try:
        yield from examine_log(settings)
    except WorkerError as error:
        yield _failed("records", error)


def _event_clock(settings: Settings) -> Iterator[Finding]:
    """Whose clock stamps the records of the events topic, which event times are judged against."""
    from workers.kafka.topics import topic_configs

    try:
        configs = topic_configs(settings, settings.topics.events)
    except WorkerError as error:
        failed = _failed("event clock", error)
        yield Finding(failed.name, "warning", failed.text, failed.remedy)
        return
    yield from event_clock(settings.topics.events, configs)


def event_clock(topic: str, configs: Mapping[str, str]) -> Iterator[Finding]:
    """Judge the clock of the events topic by its settings; nothing where the broker does not return them."""
    kind = configs.get("message.timestamp.type")
    if kind == "LogAppendTime":
        yield Finding("event clock", "ok", "the broker stamps events")
    elif kind is not None:
        ahead_ms = configs.get("message.timestamp.after.max.ms", "")
        if ahead_ms.isdecimal() and int(ahead_ms) <= MAX_AHEAD_MS:
            yield Finding("event clock", "ok", f"producers stamp events, at most {int(ahead_ms) / 1000:,.0f} s ahead")
        else:
            text = f"producers stamp the records of {topic} ({kind}): one with a wrong clock moves event time for all"
            remedy = "set message.timestamp.type=LogAppendTime on it, or message.timestamp.after.max.ms to at most a day"
            yield Finding("event clock", "warning", text, remedy)


def _removals(settings: Settings) -> Iterator[Finding]:
    """Judge whether removals stay on the compacted topics long enough."""
    from workers.kafka.topics import topic_configs

    topics = settings.topics
    found: list[Finding] = []
    try:
        for topic in (topics.items, topics.users, topics.models):
            found += removals(topic, topic_configs(settings, topic))
    except WorkerError as error:
        failed = _failed("removals", error)
        yield Finding(failed.name, "warning", failed.text, failed.remedy)
        return
    yield from found or [Finding("removals", "ok", "tombstones are kept")]


def removals(topic: str, configs: Mapping[str, str]) -> Iterator[Finding]:
    """Warn where compaction deletes tombstones soon, or records that still count are deleted; nothing where the broker does not tell."""
    policy, kept_ms = configs.get("cleanup.policy"), configs.get("delete.retention.ms", "")
    if policy is not None and policy != "compact":
        text = f"topic {topic} has cleanup.policy={policy}: records that still count are deleted with age"
        yield Finding("removals", "warning", text, "set cleanup.policy=compact on it")
    elif kept_ms.isdecimal() and int(kept_ms) < MIN_TOMBSTONES_MS:
        text = f"topic {topic} keeps tombstones for {int(kept_ms) / 3_600_000:,.0f} h: what one removed may come back after that"
        yield Finding("removals", "warning", text, f"set delete.retention.ms={TOMBSTONES_MS} on it, or remove with available=false")


async def _redis(settings: Settings, topics: dict[str, str]) -> list[Finding]:
    from workers.bootstrap import open_link, open_store
    from workers.redis.keys import Keys, generation_namespace
    from workers.state.layout import compare_layouts, layout_of

    store = open_store(settings)
    link = open_link(settings)
    try:
        findings = []
        findings += await _clock(link)
        is_local = urlsplit(settings.redis.url.get_secret_value()).hostname in LOCAL_HOSTS
        for server, info in zip(await store.server_identity(), await link.on_primaries("INFO"), strict=True):
            recent = _parsed(server.version) >= MIN_REDIS
            text = f"{server.server} {server.version} {server.role}, {server.used_memory_bytes / 1e6:,.0f} MB"
            findings.append(Finding("redis", "ok" if recent else "wrong", text, "" if recent else "use Redis 7 or Valkey"))
            findings += fitness.redis_server(server, info, is_local=is_local)
            loaded = link.library.name in server.libraries
            text = f"library {link.library.name} is {'' if loaded else 'not '}loaded"
            findings.append(Finding("functions", "ok", text if loaded else f"{text} yet: the first worker loads it"))
        generation = await store.active_generation()
        key = Keys(generation_namespace(settings.redis.namespace, generation)).layout
        stored = await link.one(key, "GET", key)
        lost = list(_lost_state(settings)) if stored is None and topics else []
        if lost:
            findings += lost
        elif stored is None:
            findings.append(Finding("state", "ok", f"namespace {settings.redis.namespace} is empty: the first worker lays it out"))
        else:
            compare_layouts(stored, layout_of(settings))
            await store.open_read_only()  # of the active generation; it writes nothing
            findings.append(Finding("state", "ok", f"namespace {settings.redis.namespace} fits the settings"))
            findings += await _watermarks(settings, store, topics)
            from workers.operations.content_findings import examine_content  # it brings compiled functions

            findings += await examine_content(store)
            findings += await _rules(settings, store)
    except WorkerError as error:
        return [*findings, _failed("redis", error)]
    finally:
        await link.close()
        await store.close()
    return findings


async def _clock(link: Link) -> list[Finding]:
    """Compare this machine's clock with that of Redis; nothing where this user may not ask for it (+time), which nobody else needs."""
    asked_s = fitness.now_s()
    try:
        server_s, micros = (await link.on_primaries("TIME"))[0]
    except Transient:
        return []
    return [fitness.clock(fitness.measured_skew_s(int(server_s) + int(micros) / 1e6, asked_s, fitness.now_s()), "Redis")]


def _lost_state(settings: Settings) -> Iterator[Finding]:
    from workers.kafka.offsets import committed_offsets, start_offsets

    topic = settings.topics.events
    try:
        starts = {partition: offset for (_, partition), offset in start_offsets(settings, [topic]).items()}
        committed = committed_offsets(settings, settings.stream.group_id, topic)
    except WorkerError:
        return
    namespace = settings.redis.namespace
    yield from fitness.lost_state(namespace, (max(0, offset - starts.get(partition, 0)) for partition, offset in committed.items()))


async def _rules(settings: Settings, store: StateStore) -> list[Finding]:
    """Say which published rules workers follow."""
    if not settings.lists.rules_topic:
        return []
    stored = (await store.control()).get(RULES_KEY.decode())
    if not stored:
        return [Finding("rules", "ok", "none are published: workers follow those of lists.rules")]
    try:
        published = PublishedRules.model_validate_json(stored)
    except ValidationError:
        return [Finding("rules", "wrong", "the stored rules cannot be read by this version", "publish them again")]
    by = f" by {visible(published.published_by)}" if published.published_by else ""
    return [Finding("rules", "ok", f"version {published.version}{by}, {len(published.rules)} rules besides those of lists.rules")]


async def _watermarks(settings: Settings, store: StateStore, topics: dict[str, str]) -> list[Finding]:
    from workers.kafka.offsets import end_offsets_async

    name = settings.topics.events
    if name not in topics:
        return []
    marks = {p: mark for p, mark in (await store.watermarks(range(settings.topics.partitions))).items() if mark is not None}
    recreated = sorted(p for p, mark in marks.items() if mark.topic_id != topics[name])
    if recreated:
        text = f"topic {name} is another one than the state was made from (partitions {recreated})"
        return [Finding("watermarks", "wrong", text, "use an empty redis.namespace, or the topic that the state belongs to")]
    ends = await end_offsets_async(settings, [name])
    beyond = sorted(p for p, mark in marks.items() if mark.last_applied_offset >= ends.get((name, p), 0))
    if beyond:
        text = f"state is ahead of the log in partitions {beyond}: the log lost records"
        return [Finding("watermarks", "wrong", text, "restore the log, or use an empty redis.namespace")]
    return [Finding("watermarks", "ok", f"{len(marks)} of {settings.topics.partitions} partitions have state")]


def _folders(settings: Settings) -> Iterator[Finding]:
    for name, url in (("event log", settings.trainer.log_url), ("model store", settings.trainer.model_url)):
        if "://" in url and not url.startswith("file://"):
            try:
                check_url(url)
            except Fatal as error:
                yield _failed(name, error)
            else:
                yield Finding(name, "ok", "remote; checked by the trainer")
            continue
        path = Path(url.removeprefix("file://"))
        existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        yield from _writable(name, path, existing)
        yield from fitness.disk(name, existing)


def _training(settings: Settings) -> Iterator[Finding]:
    """Say whether the trainer would take its settings; those that nobody changed need no look."""
    if not settings.trainer.model_fields_set & {"kinds", "options"} and settings.content.text_model is None:
        return
    from workers.trainer.training_settings import check_training  # it brings the models

    try:
        check_training(settings)
    except WorkerError as error:
        yield _failed("training", error)


def _writable(name: str, path: Path, existing: Path) -> Iterator[Finding]:
    if existing.is_dir() and os.access(existing, os.W_OK):
        yield Finding(name, "ok", f"{path}{'' if existing == path else ' (made by the trainer)'}")
    else:
        yield Finding(name, "warning", f"{existing} cannot be written by this user", "change its owner or the trainer's setting")


def _failed(name: str, error: WorkerError) -> Finding:
    text, separator, remedy = str(error).rpartition(": ")
    if not separator:
        text, remedy = str(error), "correct the settings" if isinstance(error, Fatal) else "try again"
    return Finding(name, "wrong", text, remedy)
