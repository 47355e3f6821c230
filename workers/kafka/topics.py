"""The topics of the system: names, partitions, retention and ids; creates and checks them.

Administration goes through kafka-python, in the calling thread; the `…_async` forms run it in a worker thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.errors import Fatal, Transient
from workers.kafka.admin import admin_client
from workers.kafka.rights import denial, lacking, on_topics, related_topics
from workers.settings import KafkaSettings, Settings

DAY_MS = 86_400_000
EVENTS_RETENTION_MS = 365 * DAY_MS  # the log is the source of truth: a replay must find it
DEAD_LETTER_RETENTION_MS = 30 * DAY_MS
TOMBSTONE_RETENTION_MS = 36_500 * DAY_MS
"""Compaction keeps tombstones for a hundred years, since nothing else says that an item was removed. Not for longer: the broker adds this
to the clock in 64 bits."""
SEGMENT_MS = 7 * DAY_MS  # a compacted topic is cleaned only in closed segments
EVENTS_CONFIGS = {
    "cleanup.policy": "delete",
    "retention.ms": str(EVENTS_RETENTION_MS),
    # Event times are judged against the record's timestamp. The broker's clock, since a producer's wrong clock would move both.
    "message.timestamp.type": "LogAppendTime",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """Required form of one topic. `exact`: the partition count may not differ, because several topics are partitioned by the same keys."""

    role: str
    name: str
    partitions: int
    exact: bool
    configs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicState:
    """Actual form of one topic; `partitions` is None if it does not exist."""

    spec: TopicSpec
    partitions: int | None
    topic_id: str | None
    denied: str = ""
    """The reason why nothing is known of it, if this principal may not describe it."""

    @property
    def problem(self) -> str | None:
        """Return one line that says what is wrong and what to do; None if nothing is."""
        spec = self.spec
        if self.denied:
            return self.denied
        if self.partitions is None:
            return f"topic {spec.name} ({spec.role}) is missing: run `recsys topics create`"
        if spec.exact and self.partitions != spec.partitions:
            return (
                f"topic {spec.name} ({spec.role}) has {self.partitions} partitions, topics.partitions is {spec.partitions}: "
                f"set topics.partitions = {self.partitions} in an empty namespace, or name another topic"
            )
        return None


def _compacted(**more: str) -> dict[str, str]:
    return {"cleanup.policy": "compact", "segment.ms": str(SEGMENT_MS), **more}


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """Return the required form of the topics: of the control topic only with `lists.rules_topic`, of lists of items only of those that are
    published. Events, users and recommendations share keys, so they have equally many partitions."""
    topics, kept = settings.topics, {"delete.retention.ms": str(TOMBSTONE_RETENTION_MS)}
    related = related_topics(settings)
    return [
        TopicSpec("events", topics.events, topics.partitions, True, dict(EVENTS_CONFIGS)),
        TopicSpec("items", topics.items, topics.partitions, False, _compacted(**kept)),
        TopicSpec("users", topics.users, topics.partitions, True, _compacted(**kept)),
        TopicSpec("recommendations", topics.recommendations, topics.partitions, True, _compacted(**{"min.cleanable.dirty.ratio": "0.3"})),
        TopicSpec("models", topics.models, 1, True, _compacted(**kept)),
        *([TopicSpec("control", topics.control, 1, True, _compacted(**kept))] if settings.lists.rules_topic else []),
        TopicSpec(
            "dead_letters", topics.dead_letters, 1, False, {"cleanup.policy": "delete", "retention.ms": str(DEAD_LETTER_RETENTION_MS)}
        ),
        *(TopicSpec(role, name, topics.partitions, True, _compacted()) for role, name in related.items()),
    ]


def describe(settings: Settings) -> list[TopicState]:
    """Return the actual form of each topic of the settings; create nothing."""
    with admin_client(settings) as admin:
        return _describe(admin, topic_specs(settings), settings.kafka)


def _describe(admin: Any, specs: Sequence[TopicSpec], kafka: KafkaSettings) -> list[TopicState]:
    # all topics, not by name: a broker that creates topics on first sight must not create ours with its own partition count
    existing = set(admin.list_topics())
    names = [spec.name for spec in specs if spec.name in existing]
    found = {topic["name"]: topic for topic in (admin.describe_topics(names) if names else []) if topic.get("error_code", 0) == 0}
    hidden = denied_topics(admin, [spec.name for spec in specs if spec.name not in existing], kafka)
    states = []
    for spec in specs:
        topic = found.get(spec.name)
        if topic is None:
            states.append(TopicState(spec, None, None, hidden.get(spec.name, "")))
        else:
            states.append(TopicState(spec, len(topic["partitions"]), _topic_id(topic, admin)))
    return states


def denied_topics(admin: Any, names: Sequence[str], kafka: KafkaSettings) -> dict[str, str]:
    """Return topic ▸ the line that says that this principal may not describe it. A broker lists neither such a topic nor a missing one."""
    if not names or kafka.security_protocol == "PLAINTEXT":  # no principal: there are no rights to lack
        return {}
    return {right.name: denial(kafka, [right]) for right in lacking(admin, on_topics("Describe", *names))}


def topic_problem(settings: Settings, topic: str) -> str:
    """Return why a topic that should be there was not listed: it is missing, or this principal may not describe it."""
    with admin_client(settings) as admin:
        if (denied := denied_topics(admin, [topic], settings.kafka).get(topic)) is not None:
            return denied
        if topic_id_of(admin, topic) is not None:  # made, or granted, since it was asked for
            return f"topic {topic} was not listed a moment ago: try again"
        return f"topic {topic} is missing: run `recsys topics create`"


def topic_id_of(admin: Any, name: str) -> str | None:
    """Return the id of one topic, over an open client; None if there is no such topic."""
    found = [topic for topic in admin.describe_topics([name]) if topic.get("error_code", 0) == 0]
    return _topic_id(found[0], admin) if found else None


def _topic_id(topic: dict[str, Any], admin: Any) -> str:
    raw = topic.get("topic_id")
    hexadecimal = str(raw or "").replace("-", "")
    if hexadecimal.strip("0"):
        return hexadecimal
    # Before Kafka 2.8 a topic has no id. Name and cluster are then all there is: a recreated topic goes unnoticed until its end is below
    # a watermark.
    cluster = admin.describe_cluster().get("cluster_id") or "-"
    return f"{cluster}/{topic['name']}"


def provision(settings: Settings, *, timeout_s: float = 30.0) -> list[TopicState]:
    """Create the topics that are missing, wait until every partition has a leader, check the others. Safe to run by several at once.

    Raises: Fatal naming the first difference (partition count, replication factor impossible), Transient when no broker answers.
    """
    from kafka import errors

    specs, deadline = topic_specs(settings), time.monotonic() + timeout_s
    with admin_client(settings) as admin:
        states = _describe(admin, specs, settings.kafka)
        missing = [state.spec for state in states if state.partitions is None]
        for spec in missing:
            try:
                admin.create_topics(
                    {
                        spec.name: {
                            "num_partitions": spec.partitions,
                            "replication_factor": settings.topics.replication_factor,
                            "configs": dict(spec.configs),
                        }
                    }
                )
                log.info("created topic %s with %d partitions", spec.name, spec.partitions)
            except errors.TopicAlreadyExistsError:
                pass  # another process was faster; the check below compares its topic
            except errors.InvalidReplicationFactorError:
                raise Fatal(
                    f"topic {spec.name}: the cluster has fewer brokers than topics.replication_factor "
                    f"{settings.topics.replication_factor}: lower it or add brokers"
                ) from None
            except errors.AuthorizationError:
                raise Transient(denial(settings.kafka, on_topics("Create", spec.name))) from None
            except errors.BrokerResponseError as error:
                raise Fatal(f"topic {spec.name} ({spec.role}) cannot be created: {type(error).__name__}") from None
        admin.wait_for_topics([spec.name for spec in specs], timeout_ms=int(timeout_s * 1000))
        states = _describe(admin, specs, settings.kafka)
        while any(state.partitions is None and not state.denied for state in states) and time.monotonic() < deadline:
            time.sleep(0.1)  # another broker answers, which has not heard of them yet
            states = _describe(admin, specs, settings.kafka)
    for state in states:
        if state.problem is not None:
            raise Fatal(state.problem)
    return states


def topic_configs(settings: Settings, topic: str) -> dict[str, str]:
    """Return the settings of one topic as the broker reports them, its defaults included; empty where it reports none.

    Raises: Transient when no broker answers, Fatal when this principal may not read them.
    """
    from kafka.admin import ConfigResource, ConfigResourceType

    with admin_client(settings, *on_topics("DescribeConfigs", topic)) as admin:
        # all of them: Tansu 0.6 hangs up when it is asked for settings by name
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
    configs = found.get("topic", {}).get(topic, {})
    return {name: str(config["value"]) for name, config in configs.items() if config.get("value") is not None}


def topic_ids(settings: Settings) -> dict[str, str]:
    """Return topic name ▸ id (32 hex digits of the topic's UUID; cluster and name where the broker has no ids). Only topics that exist."""
    return {state.spec.name: state.topic_id for state in describe(settings) if state.topic_id is not None}


async def topic_ids_async(settings: Settings) -> dict[str, str]:
    """Run `topic_ids` in a thread."""
    return await asyncio.to_thread(topic_ids, settings)
