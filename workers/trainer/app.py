"""The trainer: one leader tails the events into the log, trains from it in a child process, and announces what the gate decided.

Faust elects the leader (the owner of its internal one-partition topic). Followers wait. A leader that is deposed without noticing does no
harm: segments and champions are decided by files that are written whole, appending a range twice changes nothing, and a promotion counts
only if the champion is still the one that the challenger was judged against.

Three services run side by side, and none ends another: keeping the log, training, and announcing. A round of one that fails is tried again
with growing waits; only what no retry can mend, such as the log of another topic, ends the trainer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import faust
from mode import Service

from recsys.models.registry import PROFILE_MODELS
from workers.errors import Fatal, Transient
from workers.kafka.access_watch import AccessWatch
from workers.kafka.connection import faust_arguments
from workers.kafka.offsets import end_offsets_async
from workers.kafka.rights import explain
from workers.kafka.topics import topic_ids_async, topic_problem
from workers.models.announcements import announce, reconcile, trained_kinds
from workers.models.checkpoint_header import unfinished
from workers.models.manifest import StoreError
from workers.models.store import ModelStore
from workers.runtime.faust_app import OrderlyService, WorkerApp, in_group
from workers.runtime.health import Heartbeat
from workers.runtime.metrics import TrainerMetrics
from workers.runtime.rounds import Rounds
from workers.runtime.status import WorkerStatus
from workers.settings import Settings
from workers.storage import NotOurFile
from workers.trainer.decisions import announcements_of
from workers.trainer.event_log import EventLog
from workers.trainer.job import TrainingFailed, TrainingProcess
from workers.trainer.log_tail import LogTail
from workers.trainer.progress import TrainingProgress
from workers.trainer.settling import KindResult

log = logging.getLogger(__name__)

FOLLOWER_POLL_S = 0.5
"""How often a follower looks whether it leads by now."""
RECONCILE_S = 15.0
"""How often a leader compares the models topic with the store: a command that promotes may die before it announces that, and
others may write to the topic."""
ANNOUNCE_WAITS_S = (0.5, 60.0)
"""First and longest wait after announcing failed."""
TRAINING_WAITS_S = (10.0, 900.0)
"""First and longest wait after a round of training failed: each one reads the whole log."""


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
        topic_allow_declare=settings.kafka.security_protocol == "PLAINTEXT",  # else made before: Faust ends where it may not
    )
    app.service(TrainerService(app, settings, status, beacon=app.beacon, loop=app.loop))
    app.service(AccessWatch(app, settings, "trainer", status, beacon=app.beacon, loop=app.loop))
    return app


class Schedule:
    """When to train: enough events in all, and since the last round either `every_events` more or any more after `every_s`."""

    def __init__(self, settings: Settings, n_trained: int, now_s: float) -> None:
        self._settings = settings.trainer
        self.n_trained, self._last_s = n_trained, now_s
        self._again = False

    def due(self, n_events: int, now_s: float) -> bool:
        """Return whether a round should start, with `n_events` in the log at monotonic time `now_s`."""
        if self._again:
            return True
        if n_events < self._settings.min_events or n_events <= self.n_trained:
            return False
        if self.n_trained == 0:
            return True
        return n_events - self.n_trained >= self._settings.every_events or now_s - self._last_s >= self._settings.every_s

    def started(self, n_events: int, now_s: float) -> None:
        """A round starts."""
        self.n_trained, self._last_s, self._again = n_events, now_s, False

    def failed(self) -> None:
        """The last round failed: another one is due without new events."""
        self._again = True


class TrainerService(OrderlyService):
    """Leads or waits, until the app stops."""

    def __init__(self, app: faust.App, settings: Settings, status: WorkerStatus | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.app, self.settings = app, settings
        self.status = WorkerStatus() if status is None else status
        self.metrics = TrainerMetrics(self.status)
        self.metrics.expect(trained_kinds(settings))
        self._heartbeat = Heartbeat(settings.health.heartbeat_file, self.status)
        self._round_started_s = time.monotonic()
        self.rounds = 0
        """Rounds of training that have ended."""
        self._unannounced: list[KindResult] = []
        self._leading = self._rounds("trainer", status=self.status)
        self._announcing = self._rounds("announcing", first_s=ANNOUNCE_WAITS_S[0], longest_s=ANNOUNCE_WAITS_S[1], fatal_passes=True)
        self._training = self._rounds("training", first_s=TRAINING_WAITS_S[0], longest_s=TRAINING_WAITS_S[1], fatal_passes=True)

    def _rounds(self, service: str, **options: Any) -> Rounds:
        """Supervise the rounds of one service of this trainer."""
        return Rounds(service, self.metrics, describe=lambda error: explain(error, self.settings, "trainer"), **options)

    def leads(self) -> bool:
        """Return whether this process is the leader now."""
        try:
            return not self.should_stop and bool(self.app.is_leader())
        except Exception:  # before Faust's consumer runs there is nobody to ask
            return False

    @Service.task
    async def _run(self) -> None:
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
                if not await self._leading.attempt(self._term):
                    await self.sleep(self._leading.wait_s)
            except Fatal as error:
                log.error("trainer: %s", error)
                await self.crash(error)
                return

    async def _term(self) -> None:
        """Lead until another trainer does. What lies in the place of a file of ours is waited for: somebody has to remove it."""
        try:
            await self._lead()
        except NotOurFile as error:
            raise Transient(str(error)) from error

    async def _lead(self) -> None:
        """One term as leader."""
        topic_id = (await topic_ids_async(self.settings)).get(self.settings.topics.events)
        if topic_id is None:
            raise Transient(await asyncio.to_thread(topic_problem, self.settings, self.settings.topics.events))
        trainer = self.settings.trainer
        event_log = await asyncio.to_thread(EventLog, trainer.log_url, topic_id, segment_events=trainer.segment_events)
        store = await asyncio.to_thread(ModelStore, trainer.model_url)
        await asyncio.to_thread(event_log.verify)
        await self._announcing.attempt(partial(self._announce, store))
        events = self.settings.topics.events
        ends = {partition: end for (_, partition), end in (await end_offsets_async(self.settings, [events])).items()}
        tail = LogTail(self.settings, event_log)
        process = TrainingProcess(self.settings, self._note_progress)
        try:
            await tail.start()
            log.info("trainer leads; %d events in the log", tail.n_events)
            reconciled_s = time.monotonic()
            by_history = tuple(kind for kind in trainer.kinds if kind not in PROFILE_MODELS)  # others may never have a champion
            n_trained = await asyncio.to_thread(_n_trained, store, by_history, ends)
            schedule = Schedule(self.settings, n_trained, time.monotonic())
            stopped = await asyncio.to_thread(lambda: unfinished(store, trainer.kinds)) if trainer.checkpoint_s else []
            if stopped:  # a round left its checkpoint
                schedule.failed()
            while self.leads():
                await tail.poll()
                self._leading.succeeded()
                self._heartbeat.beat()
                self.metrics.log_events.set(tail.n_events)
                self.metrics.note_lag(tail.lag(), self.settings.health.max_lag_records)
                await self._train(process, tail, schedule)
                if self._announcing.due and (self._unannounced or time.monotonic() - reconciled_s >= RECONCILE_S):
                    await self._announcing.attempt(partial(self._announce, store, is_training=process.running))
                    reconciled_s = time.monotonic()
        finally:
            await process.stop()
            await tail.stop()

    async def _train(self, process: TrainingProcess, tail: LogTail, schedule: Schedule) -> None:
        """Take the results of a round that has ended, or start one that is due."""
        if process.running:
            if process.done and not await self._training.attempt(partial(self._finish, process)):
                schedule.failed()
        elif self._training.due and schedule.due(tail.n_events, time.monotonic()):
            await tail.flush()
            self._round_started_s = time.monotonic()
            schedule.started(tail.n_events, self._round_started_s)
            try:
                await process.start(tail.next_offsets)
            except Exception as error:
                self._training.failed(error)
                schedule.failed()

    def _note_progress(self, at: TrainingProgress) -> None:
        pace = {"per_s": at.examples_per_s, "remaining_s": at.remaining_s}
        self.metrics.note_training(at.kind, done=at.epochs_done, left=at.epochs_left, loss=at.loss, **pace)

    async def _finish(self, process: TrainingProcess) -> None:
        """Log and count what a round decided, and note what has to be announced, refusals too. Raises TrainingFailed."""
        self.rounds += 1
        self.metrics.note_round(time.monotonic() - self._round_started_s)
        results = await process.results()
        for result in results:
            self.metrics.note_result(result.kind, result.action, result.figures, result.train_s)
            level = logging.WARNING if result.action == "failed" else logging.INFO
            log.log(level, "%s", result)
        self._unannounced += [result for result in results if result.version is not None]
        if failed := [result.kind for result in results if result.action == "failed"]:
            raise TrainingFailed(f"no decision on {', '.join(failed)}; the lines before say why")

    async def _announce(self, store: ModelStore, *, is_training: bool = False) -> None:
        """Announce decisions that nobody has heard of yet, then whatever the models topic lacks.

        While a round `is_training`, its decisions are not announced before it has ended. Raises Transient, and forgets nothing.
        """
        if announcements := await asyncio.to_thread(announcements_of, store, self._unannounced):
            await announce(self.settings, announcements)
        self._unannounced.clear()
        for correction in await reconcile(self.settings, store, contradictions_only=is_training):
            if correction.contradicted is None:
                log.info("announced again: %s", correction)
            else:
                self.metrics.restored.inc()
                log.warning("the models topic contradicts the model store (%s); restored: %s", correction.contradicted, correction)


def _n_trained(store: ModelStore, kinds: tuple[str, ...], ends: Mapping[int, int]) -> int:
    """Events that the newest champion's round had read; 0 unless every kind has a champion with a readable manifest.

    One that has read beyond the topic's `ends` (by partition) is from a topic before this one, and counts as none.
    """
    reached: list[Mapping[int, int]] = []
    for kind in kinds:
        try:
            if (champion := store.champion(kind)) is None:
                return 0
            reached.append(store.manifest(kind, champion)[0].trained_on.next_offsets)
        except StoreError as error:
            log.warning("trainer: %s; every kind is trained again", error)
            return 0
    reached = [offsets for offsets in reached if all(offset <= ends.get(partition, 0) for partition, offset in offsets.items())]
    return max((sum(offsets.values()) for offsets in reached), default=0)
