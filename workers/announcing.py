"""The topic of model announcements: what it says last of each kind, and telling it something new."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas import ModelAction, ModelAnnouncement, Poison, decode_announcement, encode, key_of
from workers.errors import Transient
from workers.kafka import aiokafka_arguments, aiokafka_producer_arguments
from workers.model_store import ModelStore
from workers.settings import Settings
from workers.topics import end_offsets_async

READ_TIMEOUT_S = 30.0


async def last_announcements(settings: Settings) -> dict[str, ModelAnnouncement]:
    """Kind ▸ the newest announcement on the topic. Raises Transient when the broker does not answer in time."""
    topic = settings.topics.models
    ends = {p: end for (_, p), end in (await end_offsets_async(settings, [topic])).items() if end > 0}
    found: dict[str, ModelAnnouncement] = {}
    if not ends:
        return found
    consumer = AIOKafkaConsumer(**aiokafka_arguments(settings), enable_auto_commit=False, auto_offset_reset="earliest")
    places = [TopicPartition(topic, partition) for partition in ends]
    deadline = time.monotonic() + READ_TIMEOUT_S
    try:
        await consumer.start()
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
        await consumer.stop()


def _take(found: dict[str, ModelAnnouncement], record: Any) -> None:
    try:
        announcement = decode_announcement(record.value, record.key)
    except Poison:
        return
    if announcement is None:
        found.pop(record.key.decode(), None)
    else:
        found[announcement.kind] = announcement


async def announce(settings: Settings, announcements: Iterable[ModelAnnouncement]) -> None:
    """Send announcements and wait until the broker has them. Raises Transient."""
    producer = AIOKafkaProducer(**aiokafka_producer_arguments(settings))
    try:
        await producer.start()
        for announcement in announcements:
            await producer.send_and_wait(settings.topics.models, encode(announcement), key=key_of(announcement))
    except KafkaError as error:
        raise Transient(f"the models topic cannot be written: {type(error).__name__}") from error
    finally:
        await producer.stop()


async def reconcile(settings: Settings, store: ModelStore, kinds: Iterable[str] | None = None) -> list[ModelAnnouncement]:
    """Announce the champion of every kind whose last announcement says something else, and answer what was sent.

    This makes a crash between promoting and announcing harmless: whoever leads next says what the store says.
    """
    last = await last_announcements(settings)
    missing = []
    for kind in store.kinds() if kinds is None else kinds:
        history = await asyncio.to_thread(store.history, kind)
        champion = store.champion(kind)
        if champion is None:
            continue
        reference = store.reference(kind, champion)
        said = last[kind].serving if kind in last else None
        if said is not None and (said.version, said.manifest_sha256) == (reference.version, reference.manifest_sha256):
            continue
        action = ModelAction.ROLLED_BACK if history[-1].action == "rolled_back" else ModelAction.PROMOTED
        before = history[-2].version if len(history) > 1 else None
        missing.append(store.announcement(kind, champion, action, champion=before, reason=history[-1].reason))
    if missing:
        await announce(settings, missing)
    return missing
