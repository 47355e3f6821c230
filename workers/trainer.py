"""The trainer: one leader tails the events into the log, trains from it in a child process, and announces what the gate decided.

Faust elects the leader (the owner of its internal one-partition topic). Followers wait. A leader that is deposed without noticing does no
harm: segments and champions are decided by files that are written whole, appending a range twice changes nothing, and a promotion counts
only if the champion is still the one that the challenger was judged against.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

import faust
from aiokafka.errors import KafkaError
from mode import Service

from schemas import ModelAction, ModelAnnouncement
from workers.access_watch import AccessWatch
from workers.announcing import announce, reconcile
from workers.backoff import Backoff
from workers.errors import Fatal, Transient
from workers.event_log import EventLog
from workers.faust_app import OrderlyService, WorkerApp, in_group
from workers.health import Heartbeat
from workers.kafka import faust_arguments
from workers.metrics import TrainerMetrics
from workers.model_store import ModelStore, StoreError
from workers.rights import explain
from workers.settings import Settings
from workers.status import WorkerStatus
from workers.tailing import LogTail
from workers.topics import end_offsets_async, topic_ids_async
from workers.training import KindResult
from workers.training_process import TrainingProcess

log = logging.getLogger(__name__)

FOLLOWER_POLL_S = 0.5
"""How often a follower looks whether it leads by now."""
RECONCILE_S = 60.0
"""How often a leader looks whether the models topic says what the store says: whoever promotes by hand may die before announcing it."""


def build_trainer(settings: Settings, status: WorkerStatus | None = None) -> faust.App:
    """The trainer of these settings, ready to run. Nothing is connected yet. `status` hears what it waits for."""
    status = WorkerStatus() if status is None else status
    app = WorkerApp(
        settings.trainer.app_id,
        **faust_arguments(settings),
        store="memory://",
        web_enabled=False,
        web_bind="127.0.0.1",
        web_host="127.0.0.1",
        topic_disable_leader=False,
    )
    app.service(TrainerService(app, settings, status, beacon=app.beacon, loop=app.loop))
    app.service(AccessWatch(app, settings, "trainer", status, beacon=app.beacon, loop=app.loop))
    return app


class Schedule:
    """When to train: enough events in all, and since the last round either `every_events` more or any more after `every_s`."""

    def __init__(self, settings: Settings, n_trained: int, now_s: float) -> None:
        self._settings = settings.trainer
        self.n_trained, self._last_s = n_trained, now_s

    def due(self, n_events: int, now_s: float) -> bool:
        """Whether a round should start, with `n_events` in the log at monotonic time `now_s`."""
        if n_events < self._settings.min_events or n_events <= self.n_trained:
            return False
        if self.n_trained == 0:
            return True
        return n_events - self.n_trained >= self._settings.every_events or now_s - self._last_s >= self._settings.every_s

    def started(self, n_events: int, now_s: float) -> None:
        self.n_trained, self._last_s = n_events, now_s


class TrainerService(OrderlyService):
    """Leads or waits, until the app stops."""

    def __init__(self, app: faust.App, settings: Settings, status: WorkerStatus | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.app, self.settings = app, settings
        self.status = WorkerStatus() if status is None else status
        self.metrics = TrainerMetrics(self.status)
        self._heartbeat = Heartbeat(settings.health.heartbeat_file, self.status)
        self.rounds = 0
        """Rounds of training that have ended."""
        self._unannounced: list[KindResult] = []

    def leads(self) -> bool:
        """Whether this process is the leader now."""
        try:
            return not self.should_stop and bool(self.app.is_leader())
        except Exception:  # before Faust's consumer runs there is nobody to ask
            return False

    @Service.task
    async def _run(self) -> None:
        backoff = Backoff()
        while not self.should_stop:
            leads = self.leads()
            self.metrics.leads.set(leads)
            if not leads:
                if in_group(self.app):
                    self._heartbeat.beat()
                else:
                    self.status.block("start", f"it has not joined the consumer group {self.settings.trainer.app_id} yet")
                await self.sleep(FOLLOWER_POLL_S)
                continue
            try:
                await self._lead()
                backoff.reset()
            except (Transient, KafkaError, OSError) as error:
                text = explain(error, self.settings, "trainer")
                self.status.block("round", text)
                if backoff.is_news(text):
                    log.warning("trainer: %s; trying again", text)
                await self.sleep(backoff.next_s())
            except Fatal as error:
                log.error("trainer: %s", error)
                await self.crash(error)
                return

    async def _lead(self) -> None:
        """One term as leader."""
        topic_id = (await topic_ids_async(self.settings)).get(self.settings.topics.events)
        if topic_id is None:
            raise Transient("the events topic is not there yet; `recsys topics create` makes it")
        trainer = self.settings.trainer
        event_log = await asyncio.to_thread(EventLog, trainer.log_url, topic_id, segment_events=trainer.segment_events)
        store = await asyncio.to_thread(ModelStore, trainer.model_url)
        await asyncio.to_thread(event_log.verify)
        await self._announce(store)
        events = self.settings.topics.events
        ends = {partition: end for (_, partition), end in (await end_offsets_async(self.settings, [events])).items()}
        tail = LogTail(self.settings, event_log)
        process = TrainingProcess(self.settings)
        try:
            await tail.start()
            log.info("trainer leads; %d events in the log", tail.n_events)
            reconciled_s = time.monotonic()
            n_trained = await asyncio.to_thread(_n_trained, store, trainer.kinds, ends)
            schedule = Schedule(self.settings, n_trained, time.monotonic())
            while self.leads():
                await tail.poll()
                self._heartbeat.beat()
                self.metrics.log_events.set(tail.n_events)
                if process.running:
                    if process.done:
                        await self._finish(process, store)
                        reconciled_s = time.monotonic()
                elif schedule.due(tail.n_events, time.monotonic()):
                    await tail.flush()
                    schedule.started(tail.n_events, time.monotonic())
                    await process.start(tail.next_offsets)
                if time.monotonic() - reconciled_s >= RECONCILE_S:
                    await self._announce(store)
                    reconciled_s = time.monotonic()
        finally:
            await process.stop()
            await tail.stop()

    async def _finish(self, process: TrainingProcess, store: ModelStore) -> None:
        """Announce what a round decided, refusals too. Where the broker is away, the next term begins with it."""
        results = await process.results()
        self.rounds += 1
        self.metrics.rounds.inc()
        for result in results:
            self.metrics.results.labels(result.kind, result.action).inc()
            level = logging.WARNING if result.action == "failed" else logging.INFO
            log.log(level, "%s %s: %s (%s)", result.kind, result.version or "", result.action, result.reason)
        self._unannounced += [result for result in results if result.version is not None and result.action in ("promoted", "refused")]
        await self._announce(store)

    async def _announce(self, store: ModelStore) -> None:
        """Announce decisions that nobody has been told yet, then whatever the models topic lacks. Raises Transient, and forgets nothing."""
        made = [await asyncio.to_thread(_announcement, store, result) for result in self._unannounced]
        if announcements := [announcement for announcement in made if announcement is not None]:
            await announce(self.settings, announcements)
        self._unannounced.clear()
        for announcement in await reconcile(self.settings, store):
            log.info("announced again: %s", announcement.version)


def _announcement(store: ModelStore, result: KindResult) -> ModelAnnouncement | None:
    """What the world is told of a decision; None if it has been overtaken: another version serves by now, or this one was removed."""
    assert result.version is not None
    try:
        champion = store.champion(result.kind)
        if result.action == "refused":
            return store.announcement(result.kind, result.version, ModelAction.REFUSED, champion=champion, reason=result.reason)
        if champion != result.version:
            return None
        return store.announcement(result.kind, result.version, ModelAction.PROMOTED, champion=result.champion, reason=result.reason)
    except StoreError as error:
        log.error("%s cannot be announced: %s", result.version, error)
        return None


def _n_trained(store: ModelStore, kinds: tuple[str, ...], ends: Mapping[int, int]) -> int:
    """Events that the newest champion's round had read; 0 unless every kind has a champion with a readable manifest.

    One that has read beyond the topic's `ends` (by partition) is from a topic before this one, and counts as none.
    """
    reached: list[Mapping[int, int]] = []
    for kind in kinds:
        champion = store.champion(kind)
        if champion is None:
            return 0
        try:
            reached.append(store.manifest(kind, champion)[0].trained_on.next_offsets)
        except StoreError as error:
            log.error("trainer: %s", error)
            return 0
    reached = [offsets for offsets in reached if all(offset <= ends.get(partition, 0) for partition, offset in offsets.items())]
    return max((sum(offsets.values()) for offsets in reached), default=0)
