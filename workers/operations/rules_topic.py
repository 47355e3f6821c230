"""Reads and writes the control topic: the set of rules that workers follow besides those of their settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from recsys.lists.registry import Registry
from schemas.control import RULES_KEY, PublishedRule, PublishedRules
from schemas.decoding import encode
from schemas.errors import Poison
from workers.errors import Fatal, SettingsError, Transient
from workers.kafka.clients import async_producer
from workers.kafka.connection import uninterrupted
from workers.kafka.offsets import end_offsets, start_offsets
from workers.kafka.records import BlockingRangeReader, Record
from workers.kafka.rights import explain, on_topics
from workers.kafka.topics import topic_problem
from workers.lists.topic_rules import decode_published, with_published
from workers.plugins import load_plugins
from workers.rule_settings import RuleSettings
from workers.settings import Settings


@dataclass(frozen=True, slots=True)
class TopicRules:
    """The newest set of rules on the topic that can be followed, None for none; `newest_version` of all that are there, also of refused
    ones; and why the newest record is refused, empty if it is not."""

    published: PublishedRules | None
    newest_version: int = 0
    refused: str = ""


def read_rules_topic(settings: Settings) -> TopicRules:
    """Return what the control topic holds. Raises SettingsError where it is off, Fatal where it is missing, Transient."""
    _check_on(settings)
    topic = settings.topics.control
    place, ends = (topic, 0), end_offsets(settings, [topic])
    if place not in ends:
        raise Fatal(topic_problem(settings, topic))
    start = start_offsets(settings, [topic])[place]
    if ends[place] <= start:
        return TopicRules(None)
    with BlockingRangeReader(settings, needs=on_topics("Read", topic)) as reader:
        return folded(settings, reader.between(place, start, ends[place]), load_plugins())


def folded(settings: Settings, records: Iterable[Record], registry: Registry) -> TopicRules:
    """Return what workers make of the records of the topic, in order."""
    found = TopicRules(None)
    for record in records:
        published = None
        try:
            published = decode_published(record.value, record.key)
            with_published(settings.lists, published, registry)
        except Poison as poison:
            newest = found.newest_version if published is None else max(found.newest_version, published.version)
            found = TopicRules(found.published, newest, f"offset {record.source_offset}: {poison.reason}")
        else:
            found = TopicRules(published, found.newest_version if published is None else max(found.newest_version, published.version))
    return found


async def publish_rules(
    settings: Settings, rules: Iterable[RuleSettings], before: TopicRules, *, published_by: str, note: str, now_ms: int
) -> PublishedRules:
    """Publish a set of rules in place of the one before, and wait until the broker has it. Returns it.

    Raises: SettingsError where workers would refuse it or the topic is off, Transient.
    """
    _check_on(settings)
    published = PublishedRules(
        version=before.newest_version + 1,
        published_ts_ms=now_ms,
        published_by=published_by,
        note=note,
        rules=tuple(PublishedRule.model_validate(rule.model_dump()) for rule in rules),
    )
    value = encode(published)
    try:
        with_published(settings.lists, decode_published(value, RULES_KEY), load_plugins())
    except Poison as poison:
        raise SettingsError(poison.reason) from None
    producer = async_producer(settings)
    try:
        await uninterrupted(producer.start())
        await producer.send_and_wait(settings.topics.control, value, key=RULES_KEY, partition=0)
    except KafkaError as error:
        raise Transient(f"topic {settings.topics.control} cannot be written: {explain(error, settings, 'operator')}") from error
    finally:
        await uninterrupted(producer.stop())
    return published


def _check_on(settings: Settings) -> None:
    if not settings.lists.rules_topic:
        remedy = "set it to true for the workers and for this command, and run `recsys topics create`"
        raise SettingsError(f"setting lists.rules_topic: it is off, so workers follow no topic of rules: {remedy}")
