"""The topic of model announcements: its newest record of each kind, and correcting it.

The model store decides which version serves; the topic only spreads that. Where the topic differs, the store's version is announced
again: a crash between promoting and announcing leaves the topic behind, and others may write to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from aiokafka.errors import KafkaError

from recsys.catalogue.item_vectors import ItemVectors
from schemas import ModelAction, ModelAnnouncement, Poison, decode_announcement, encode, key_of
from schemas.decoding import decode_key
from workers.errors import Transient
from workers.kafka.clients import async_producer
from workers.kafka.connection import uninterrupted
from workers.kafka.offsets import end_offsets_async
from workers.kafka.records import RangeReader, Record
from workers.kafka.rights import explain
from workers.models.manifest import StoreError
from workers.models.store import ModelStore
from workers.settings import Settings

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 30.0
RECONCILE_ATTEMPTS = 5
"""Checks of the topic after announcing, while others promote at the same moment."""


async def newest_announcements(settings: Settings) -> dict[str, ModelAnnouncement | None]:
    """Return kind ▸ its newest announcement on the topic; None where that is a tombstone. Raises Transient."""
    topic = settings.topics.models
    ends = {place: end for place, end in (await end_offsets_async(settings, [topic])).items() if end > 0}
    found: dict[str, ModelAnnouncement | None] = {}
    if not ends:
        return found
    # a topic of one line a kind: a reader that is silent for this long will not end
    async with RangeReader(settings, dict.fromkeys(ends, 0), role="trainer", silence_s=READ_TIMEOUT_S) as reader:
        async for polled in reader.until(ends):
            for record in chain.from_iterable(polled.values()):
                _take(found, record)
    return found


def _take(found: dict[str, ModelAnnouncement | None], record: Record) -> None:
    try:
        announcement = decode_announcement(record.value, record.key)
        found[decode_key(record.key)] = announcement
    except Poison:
        return


async def announce(settings: Settings, announcements: Iterable[ModelAnnouncement], *, retired: Iterable[str] = ()) -> None:
    """Send announcements, and tombstones of retired kinds, and wait until the broker has them. Raises Transient."""
    producer = async_producer(settings)
    try:
        await uninterrupted(producer.start())
        for announcement in announcements:
            await producer.send_and_wait(settings.topics.models, encode(announcement), key=key_of(announcement))
        for kind in retired:
            await producer.send_and_wait(settings.topics.models, None, key=kind.encode())
    except KafkaError as error:
        raise Transient(f"the models topic cannot be written: {explain(error, settings, 'trainer')}") from error
    finally:
        await uninterrupted(producer.stop())


@dataclass(frozen=True, slots=True)
class Correction:
    """An announcement, or a tombstone (None), that the topic lacks for a kind.

    `contradicted` says what the topic had instead, if neither the trainer nor a command wrote it; None if the topic only lagged behind.
    """

    kind: str
    announcement: ModelAnnouncement | None
    contradicted: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} is retired" if self.announcement is None else self.announcement.version


async def reconcile(settings: Settings, store: ModelStore, *, contradictions_only: bool = False) -> list[Correction]:
    """Announce the store's version of every kind for which the topic differs, until none is left; return what was sent.

    This makes a crash between promoting and announcing harmless, and two processes that announce at once: the last one to check
    announces what the store has. It also undoes tombstones and announcements that the store contradicts. A kind that the topic does not
    know is announced if the trainer trains it. A champion without a readable manifest cannot be announced and is left out.
    `contradictions_only` leaves what only lags behind: another process is about to announce it. Raises Transient.
    """
    sent: list[Correction] = []
    for _ in range(RECONCILE_ATTEMPTS):
        said = await newest_announcements(settings)
        missing = await asyncio.to_thread(_corrections, store, said, trained_kinds(settings))
        if contradictions_only:
            missing = [correction for correction in missing if correction.contradicted is not None]
        if not missing:
            return sent
        announcements = [correction.announcement for correction in missing if correction.announcement is not None]
        await announce(settings, announcements, retired=[c.kind for c in missing if c.announcement is None])
        sent += missing
    log.warning("models keep changing while they are announced; the next look goes on")
    return sent


def trained_kinds(settings: Settings) -> tuple[str, ...]:
    """Return the kinds that the trainer makes: models, the recipe, and the vectors of texts where a language model is set."""
    return (*settings.trainer.kinds, *([ItemVectors.kind] if settings.content.text_model is not None else []))


def _corrections(store: ModelStore, said: Mapping[str, ModelAnnouncement | None], trained: Iterable[str]) -> list[Correction]:
    """Return what the topic lacks, given its newest records (`said`). A kind that is not `trained` counts only if it has one."""
    found = []
    for kind in store.kinds():
        if kind in said or kind in trained:
            try:
                found.append(_correction(store, kind, kind in said, said.get(kind)))
            except StoreError as error:
                log.error("model kind %s cannot be announced: %s", kind, error)
    return [correction for correction in found if correction is not None]


def _correction(store: ModelStore, kind: str, is_known: bool, announced: ModelAnnouncement | None) -> Correction | None:
    """Return the correction for a kind, if the topic is wrong. `announced` is its newest record, None a tombstone if `is_known`."""
    history, champion = store.history(kind), store.champion(kind)
    serving = None if announced is None else announced.serving
    if champion is None:
        if serving is None or (not history and serving.version not in store.versions(kind)):
            return None  # nothing serves, or what was announced is of another store
        overtaken = bool(history) and announced is not None and announced.announced_ts_ms <= history[-1].at_ts_ms
        return Correction(kind, None, None if overtaken else f"{serving.version} was announced, and the store lets nothing serve")
    reference = store.reference(kind, champion)
    contradicted: str | None = None
    if serving is not None:
        if (serving.version, serving.manifest_sha256) == (reference.version, reference.manifest_sha256):
            return None
        if serving.version == champion:
            contradicted = f"{serving.version} was announced with another manifest than the store has"
        elif all(entry.version != serving.version for entry in history):
            contradicted = f"{serving.version} was announced, and the store never promoted it"
    elif is_known and announced is None and all(entry.action != "retired" for entry in history[-2:]):
        contradicted = "a tombstone was written, and nobody ran `recsys models retire`"
    action = ModelAction.ROLLED_BACK if history[-1].action == "rolled_back" else ModelAction.PROMOTED
    before = history[-2].version if len(history) > 1 else None
    return Correction(kind, store.announcement(kind, champion, action, champion=before, reason=history[-1].reason), contradicted)
