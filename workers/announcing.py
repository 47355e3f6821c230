"""The topic of model announcements: what it says last of each kind, and telling it something new."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas import ModelAction, ModelAnnouncement, Poison, decode_announcement, encode, key_of
from workers.errors import Transient
from workers.kafka import aiokafka_consumer_arguments, aiokafka_producer_arguments, uninterrupted
from workers.model_store import ModelStore, StoreError
from workers.settings import Settings
from workers.topics import end_offsets_async

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 30.0
RECONCILE_ATTEMPTS = 5
"""Looks at the topic after announcing, while others promote at the same moment."""


async def last_announcements(settings: Settings) -> dict[str, ModelAnnouncement]:
    """Kind ▸ the newest announcement on the topic, retired kinds left out. Raises Transient when the broker does not answer in time."""
    return {kind: announcement for kind, announcement in (await _last_said(settings)).items() if announcement is not None}


async def _last_said(settings: Settings) -> dict[str, ModelAnnouncement | None]:
    """The same with None for every kind that a tombstone retired last."""
    topic = settings.topics.models
    ends = {p: end for (_, p), end in (await end_offsets_async(settings, [topic])).items() if end > 0}
    found: dict[str, ModelAnnouncement | None] = {}
    if not ends:
        return found
    consumer = AIOKafkaConsumer(**aiokafka_consumer_arguments(settings), enable_auto_commit=False, auto_offset_reset="earliest")
    places = [TopicPartition(topic, partition) for partition in ends]
    deadline = time.monotonic() + READ_TIMEOUT_S
    try:
        await uninterrupted(consumer.start())
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        while True:
            positions = [await consumer.position(place) >= ends[place.partition] for place in places]
            if all(positions):
                return found
            if time.monotonic() > deadline:
                raise Transient(f"the models topic was not read within {READ_TIMEOUT_S:g} s; look into the broker's log")
            for records in (await consumer.getmany(*places, timeout_ms=500)).values():
                for record in records:
                    _take(found, record)
    except KafkaError as error:
        raise Transient(f"the models topic cannot be read: {type(error).__name__}") from error
    finally:
        await uninterrupted(consumer.stop())


def _take(found: dict[str, ModelAnnouncement | None], record: Any) -> None:
    try:
        announcement = decode_announcement(record.value, record.key)
    except Poison:
        return
    found[record.key.decode() if announcement is None else announcement.kind] = announcement


async def announce(settings: Settings, announcements: Iterable[ModelAnnouncement]) -> None:
    """Send announcements and wait until the broker has them. Raises Transient."""
    producer = AIOKafkaProducer(**aiokafka_producer_arguments(settings))
    try:
        await uninterrupted(producer.start())
        for announcement in announcements:
            await producer.send_and_wait(settings.topics.models, encode(announcement), key=key_of(announcement))
    except KafkaError as error:
        raise Transient(f"the models topic cannot be written: {type(error).__name__}") from error
    finally:
        await uninterrupted(producer.stop())


async def reconcile(settings: Settings, store: ModelStore, kinds: Iterable[str] | None = None) -> list[ModelAnnouncement]:
    """Announce the champion of every kind whose last announcement says something else, until none is left, and answer what was sent.

    This makes a crash between promoting and announcing harmless, and two who announce at once: whoever looks last says what the store
    says. A kind that a tombstone retired stays retired until it is promoted again. A kind that the topic does not know is announced if
    the trainer trains it. A champion without a readable manifest cannot be announced and is left out. Raises Transient.
    """
    sent: list[ModelAnnouncement] = []
    for _ in range(RECONCILE_ATTEMPTS):
        said = await _last_said(settings)
        chosen = store.kinds() if kinds is None else list(kinds)
        missing = []
        for kind in chosen:
            announced = said.get(kind)
            if announced is None and (kind in said or (kinds is None and kind not in settings.trainer.kinds)):
                continue
            try:
                missing += await asyncio.to_thread(_unsaid, store, kind, announced)
            except StoreError as error:
                log.error("model kind %s cannot be announced: %s", kind, error)
        if not missing:
            return sent
        await announce(settings, missing)
        sent += missing
    log.warning("models keep changing while they are announced; the next look goes on")
    return sent


def _unsaid(store: ModelStore, kind: str, announced: ModelAnnouncement | None) -> list[ModelAnnouncement]:
    """The announcement of a kind's champion, unless `announced` names it already."""
    history, champion = store.history(kind), store.champion(kind)
    if champion is None:
        return []
    reference = store.reference(kind, champion)
    serving = None if announced is None else announced.serving
    if serving is not None and (serving.version, serving.manifest_sha256) == (reference.version, reference.manifest_sha256):
        return []
    action = ModelAction.ROLLED_BACK if history[-1].action == "rolled_back" else ModelAction.PROMOTED
    before = history[-2].version if len(history) > 1 else None
    return [store.announcement(kind, champion, action, champion=before, reason=history[-1].reason)]
