"""One round of training on request, beside a running trainer or without one.

Both may write to the event log and the model store at once: a range of events that is in the log already is left out, versions are numbered
one by one, and a promotion counts only if the champion is still the one that the challenger was compared with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from workers.errors import Transient
from workers.kafka.offsets import end_offsets_async
from workers.kafka.topics import topic_ids_async, topic_problem
from workers.models.announcements import announce
from workers.models.store import ModelStore
from workers.settings import Settings
from workers.trainer.decisions import announcements_of
from workers.trainer.event_log import EventLog
from workers.trainer.job import TrainingProcess
from workers.trainer.log_tail import LogTail
from workers.trainer.settling import KindResult

log = logging.getLogger(__name__)


async def train_now(settings: Settings, kinds: Sequence[str]) -> list[KindResult]:
    """Bring the event log up to date, train these kinds once in a child process, and announce what the gate decided.

    Raises TrainingFailed, Transient, Fatal.
    """
    trainer = settings.trainer.model_copy(update={"kinds": tuple(kinds)})
    settings = settings.model_copy(update={"trainer": trainer})
    next_offsets = await _caught_up(settings)
    process = TrainingProcess(settings)
    try:
        await process.start(next_offsets)
        results = await process.results()
    finally:
        await process.stop()
    store = await asyncio.to_thread(ModelStore, trainer.model_url)
    retired = [result.kind for result in results if result.action == "retired"]
    announcements = await asyncio.to_thread(announcements_of, store, results)
    if announcements or retired:
        await announce(settings, announcements, retired=retired)
    return results


async def _caught_up(settings: Settings) -> dict[int, int]:
    """Write to the event log what it lacks of the topic; return where it ends by partition. Raises Transient, Fatal."""
    events = settings.topics.events
    topic_id = (await topic_ids_async(settings)).get(events)
    if topic_id is None:
        raise Transient(await asyncio.to_thread(topic_problem, settings, events))
    event_log = await asyncio.to_thread(EventLog, settings.trainer.log_url, topic_id, segment_events=settings.trainer.segment_events)
    ends = await end_offsets_async(settings, [events])
    tail = LogTail(settings, event_log)
    try:
        await tail.start()
        await tail.catch_up(ends)
        log.info("%d events in the log", tail.n_events)
        return tail.next_offsets
    finally:
        await tail.stop()
