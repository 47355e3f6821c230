"""The loops of the stream worker: poll ▸ pipeline ▸ publish ▸ commit, through faults and rebalances.

`workers/stream/checkpoint.py` lists the steps of a commit; `workers/stream/ownership.py` says where a worker starts in a partition.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from mode import Service

from workers.errors import one_line
from workers.kafka.clients import async_consumer, async_producer
from workers.kafka.records import Record
from workers.kafka.rights import explain
from workers.runtime.faust_app import OrderlyService
from workers.runtime.group_repair import rejoin_if_ended
from workers.runtime.health import Heartbeat
from workers.runtime.metrics import StreamMetrics
from workers.runtime.rounds import Rounds, patiently
from workers.runtime.status import WorkerStatus
from workers.settings import Settings
from workers.stream.adaptive_poll import Batch, Polling
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.catch_up import CatchUp
from workers.stream.checkpoint import Checkpoint
from workers.stream.events_topic import EventsTopic
from workers.stream.kept_lists import LOOK_S, list_looks
from workers.stream.micro_batch import DecodedBatch
from workers.stream.model_sync import ModelFollower
from workers.stream.ownership import Ownership
from workers.stream.partitions import Partitions
from workers.stream.pipeline import Pipeline
from workers.stream.readiness import Readiness, WaitingLog
from workers.stream.reference_loading import CatalogueLoader
from workers.stream.row_expiry import RowExpiry

log = logging.getLogger(__name__)

PARTITION_FETCH_BYTES = 4 * 1024 * 1024
PRODUCER_BATCH_BYTES = 900_000  # below the broker's default max.message.bytes of 1,048,588
LINGER_MS = 0  # whole batches are handed over; there is nothing to wait for
FOLLOW_S = 0.5
"""How often the catalogue, the models and event time are followed."""
ITEMS_LOOK_S = 0.05
"""How often, at most, a worker whose state has few items asks where the items topic ends: a millisecond."""
READY_S = 0.05
"""How often to check whether first lists of new users can be made."""
COMPACT_S = 0.05
METADATA_MAX_AGE_MS = 30_000
"""A partition count that was changed is noticed within this."""
WATCH_S = 30.0
"""How often a worker checks that the topic still is the one that it follows."""
DISCONNECT_S = 5.0
"""How long consumer and producer may take to disconnect from a broker that does not answer."""


@dataclass(frozen=True, slots=True)
class _Polled:
    """Records by partition, whether the poll returned as many as it may, and their events if they were validated already."""

    batch: Batch
    full: bool
    decoded: DecodedBatch | None


class EventsService(OrderlyService):
    """Consumes the events of the partitions that the group gives to this worker."""

    abstract = False

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        catalogue: CatalogueFollower,
        models: ModelFollower,
        loader: CatalogueLoader,
        readiness: Readiness,
        status: WorkerStatus | None = None,
        **kwargs: Any,
    ) -> None:
        """`status` shows why the worker is not ready."""
        super().__init__(**kwargs)
        self.settings, self.pipeline = settings, pipeline
        self._catalogue, self._models, self._loader, self._readiness = catalogue, models, loader, readiness
        self._waiting_log = WaitingLog()
        self.status = WorkerStatus() if status is None else status
        self.status.block("partitions", "its consumer group has given it no partitions yet")
        self.metrics = StreamMetrics(settings.alarms, self.status, max_lag_records=settings.health.max_lag_records)
        if models is not None:
            models.metrics = self.metrics
        self._consumer: AIOKafkaConsumer | None = None
        self._producer: AIOKafkaProducer | None = None
        self.partitions = Partitions(settings.topics.events)
        self.checkpoint = Checkpoint(
            settings.topics, self.partitions, self.metrics, consumer=lambda: self.consumer, producer=lambda: self.producer
        )
        self.topic = EventsTopic(settings)
        self.ownership = Ownership(
            settings, pipeline, self.partitions, self.checkpoint, self.topic, loader, self.metrics, self.status,
            consumer=lambda: self.consumer,
        )  # fmt: skip
        self._following = self._rounds("catalogue", handles_passing=False)
        self._deferred_rounds = self._rounds("deferred_lists", handles_passing=False)
        self._heartbeat = Heartbeat(settings.health.heartbeat_file, self.status)
        self._connected = asyncio.Event()
        self._followed_s = self._items_looked_s = float("-inf")
        self._catch_up = CatchUp(settings.stream.catch_up_events)
        self._polled_ahead: asyncio.Task[_Polled] | None = None
        """Polls and decodes the next records while a batch is being applied, when the worker is behind."""
        self._polling = Polling(settings.stream)
        self._row_expiry = RowExpiry(settings)
        self._list_looks = list_looks(settings, pipeline, self.partitions, producer=lambda: self.producer)

    async def on_start(self) -> None:
        """Connect, wait for Redis and join the group, unless the worker is asked to end first."""
        try:
            await self._connect()
        except Exception as error:
            if not self.should_stop:
                raise
            log.info("asked to end before it had started (%s)", one_line(error))

    async def _connect(self) -> None:
        await self._patiently(self.pipeline.open)
        async with self.pipeline.state.turn():  # the agents are at work already
            await self._patiently(self._follow_strictly)
        self._producer = async_producer(
            self.settings,
            max_batch_size=PRODUCER_BATCH_BYTES,
            linger_ms=LINGER_MS,
            max_request_size=PRODUCER_BATCH_BYTES + 100_000,
        )
        await self._patiently(self._producer.start)
        self._connected.set()
        self._consumer = async_consumer(
            self.settings,
            group_id=self.settings.stream.group_id,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
        )
        await self._patiently(self._consumer.start)
        self._consumer.subscribe([self.settings.topics.events], listener=self.ownership)

    async def _patiently(self, step: Callable[[], Awaitable[object]]) -> None:
        """Repeat a step until it succeeds or the worker stops. Raises Fatal."""
        await patiently(step, gives_up=lambda error: self.should_stop, rounds=self._rounds("connecting", status=self.status))

    def _rounds(self, service: str, **options: Any) -> Rounds:
        """Supervise the rounds of one service of this worker."""
        return Rounds(service, self.metrics, describe=lambda error: explain(error, self.settings, "stream"), **options)

    async def on_stop(self) -> None:
        """Finish, publish and commit the batch in hand before the group is left, within `stream.stop_timeout_s`.

        What takes longer is abandoned: the partitions' next owner applies it again, which changes nothing.
        """
        try:
            async with asyncio.timeout(self.settings.stream.stop_timeout_s):
                await self.pipeline.state.take_last_turn()
                await self.checkpoint.delivered()
                await self.checkpoint.commit()
        except TimeoutError:
            log.warning("the batch in hand is not finished within stream.stop_timeout_s: it will be applied again")
        except Exception as error:
            log.warning("the last batch is not published, the next owner of its partitions publishes it: %s", one_line(error))
        if self._polled_ahead is not None:
            self._polled_ahead.cancel()
            await asyncio.gather(self._polled_ahead, return_exceptions=True)
        for client in (self._consumer, self._producer):
            if client is not None:
                with contextlib.suppress(TimeoutError, KafkaError):
                    await asyncio.wait_for(client.stop(), DISCONNECT_S)
        self._models.close()
        await self.topic.close()
        await self.pipeline.state.close()

    async def connected(self) -> None:
        """Wait until store and producer are there. Faust gives its agents records before that."""
        await self._connected.wait()

    @property
    def waiting_for(self) -> list[str]:
        """Return the names of what lists wait for (`workers/stream/readiness.py`); empty when this worker can make them."""
        return self._readiness.waiting_for()

    async def ready_for_lists(self) -> None:
        """Wait until lists can be made, or the worker stops."""
        while self.waiting_for and not self.should_stop:
            await self.sleep(READY_S)

    @property
    def _defers_lists(self) -> bool:
        return self._catch_up.is_behind or bool(self.waiting_for)

    @property
    def producer(self) -> AIOKafkaProducer:
        assert self._producer is not None, "started"
        return self._producer

    @property
    def consumer(self) -> AIOKafkaConsumer:
        assert self._consumer is not None, "started"
        return self._consumer

    @Service.task
    async def _consume(self) -> None:
        rounds = self._rounds("events", status=self.status)
        while not self.should_stop:
            if not await self.attempt(rounds, self._owned_round, place=self.partitions.describe_applying):
                rejoin_if_ended(getattr(self._consumer, "_coordinator", None))
                await self.sleep(rounds.wait_s)
                self.checkpoint.start_over()

    async def _owned_round(self) -> None:
        """Own what the group gave, then apply one batch."""
        try:
            if self.checkpoint.must_start_over:
                self.checkpoint.start_over()
            if self.partitions.assigned:
                await self._drop_polled_ahead()
                await self.checkpoint.settle()
                await self.ownership.own(self.partitions.assigned)
            await self._round()
        except IllegalStateError:
            log.info("the group took partitions away during a round")
            self.checkpoint.start_over()

    async def _slept(self, for_s: float) -> bool:
        """Sleep, or return early when the worker stops. Return whether it goes on."""
        await self.sleep(for_s)
        return not self.should_stop

    @Service.task
    async def _compact(self) -> None:
        rounds = self._rounds("compaction", quiet=True)
        while await self._slept(max(COMPACT_S, rounds.wait_s)):
            if not await self.attempt(rounds, self.pipeline.state.compact_once):
                self.checkpoint.must_start_over = True  # it may be the only one to meet a failover

    @Service.task
    async def _expire_rows(self) -> None:
        """Delete expired rows of items, if this worker owns the first partition."""
        rounds, state = self._rounds("sweeping", quiet=True), self.pipeline.state
        while await self._slept(max(self.settings.state.sweep_s, rounds.wait_s)):
            if self.partitions.owns(0):
                await self.attempt(rounds, lambda: self._row_expiry.look(state.store, state.item_cache.newest_s))

    @Service.task
    async def _keep_lists(self) -> None:
        looks = [(self._rounds(name, quiet=True), look) for name, look in self._list_looks.items()]
        while looks and await self._slept(LOOK_S):
            for rounds, look in looks:
                if rounds.due and not self._defers_lists:
                    await self.attempt(rounds, look)

    async def _round(self) -> None:
        polled = await self._next_polled()
        async with self.pipeline.state.turn():
            if time.monotonic() - self._followed_s >= FOLLOW_S:
                await self._follow()
            batch = self.partitions.contiguous(polled.batch, self._seek)
            if self._catch_up.is_due(is_full=polled.full):
                self._look_at_lag()
            if batch:
                expected = self.partitions.next_offsets
                # after the poll: what was polled before the topic was deleted is of the old one
                await self.topic.check_before({partition: expected[partition] for partition in batch})
                if polled.full:
                    self._polled_ahead = asyncio.create_task(self._poll(decode=True))
                self.partitions.begin(batch)
                await self._apply(batch if polled.decoded is None or batch != polled.batch else polled.decoded)
            self.partitions.end()
            self._note_waiting()
            await self._finish_round(is_idle=not batch)
        self._heartbeat.beat()
        if self.checkpoint.report.say():
            gc.collect(1)  # the young ones: thresholds are so high that cycles of finished futures would grow to tens of megabytes

    async def _finish_round(self, *, is_idle: bool) -> None:
        """Commit at once where no batch follows, and make deferred lists."""
        if is_idle:
            await self.checkpoint.delivered()  # it notes offsets from before a gap
            await self.partitions.pass_gaps(self.consumer)
        if is_idle or self._can_make_deferred:
            await self.checkpoint.delivered()
            await self.checkpoint.commit()
        if self._can_make_deferred and self._deferred_rounds.due:
            await self._deferred_rounds.attempt(partial(self.checkpoint.publish_deferred, self.pipeline))

    @property
    def _can_make_deferred(self) -> bool:
        return bool(self.partitions.with_deferred_lists) and not self._defers_lists

    def _seek(self, partition: int, next_offset: int) -> None:
        self.consumer.seek(TopicPartition(self.settings.topics.events, partition), next_offset)

    def _note_waiting(self) -> None:
        """Say what lists wait for, in the log and in the worker's status."""
        missing, failure = self.waiting_for if self.pipeline.ranks else [], self._readiness.failure
        self._waiting_log.look(missing, failure)
        if missing:
            self.status.block("dependencies", f"lists wait for {', '.join(missing)}" + (f" ({failure})" if failure else ""))
        else:
            self.status.clear("dependencies")

    async def _poll(self, *, decode: bool = False) -> _Polled:
        """Return the next records."""
        batch, is_full = await self._polling.poll(self.consumer, makes_lists=self.pipeline.ranks and not self._defers_lists)
        return _Polled(batch, is_full, self.pipeline.decode(batch) if decode and batch else None)

    async def _next_polled(self) -> _Polled:
        """Return what was polled and decoded while the last batch was being applied, or else poll."""
        ahead, self._polled_ahead = self._polled_ahead, None
        return await (self._poll() if ahead is None else ahead)

    async def _drop_polled_ahead(self) -> None:
        """Forget what was polled ahead: the next records are read from where partitions are owned again."""
        ahead, self._polled_ahead = self._polled_ahead, None
        if ahead is not None:
            await asyncio.gather(ahead, return_exceptions=True)

    def _look_at_lag(self) -> None:
        """Defer lists far behind; make them again, and the deferred ones, once nearly all is applied."""
        lag = self.partitions.lag(self.consumer)
        self._catch_up.look(lag)
        n_deferring = len(self.partitions.with_deferred_lists)
        self.metrics.look(lag, catching_up=self._catch_up.is_behind, n_deferring=n_deferring, waiting_for=self.waiting_for)

    @Service.task
    async def _watch_topic(self) -> None:
        rounds = self._rounds("topic_watch", quiet=True)
        while await self._slept(max(WATCH_S, rounds.wait_s)):
            await self.attempt(rounds, self.topic.check)

    @Service.task
    async def _keep_catalogue(self) -> None:
        """Read items, profiles and models to the ends of their topics before lists are made of a state."""
        await self._connected.wait()
        rounds = self._rounds("rereading", quiet=True, fatal_passes=True)  # a missing topic is waited for as a broker is
        while not self.should_stop:
            if await self.attempt(rounds, partial(self._loader.look, self._follow_strictly)):
                self._readiness.note_failure("")
                await self._loader.wait()
            else:
                self._readiness.note_failure(rounds.why)
                await self.sleep(rounds.wait_s)

    async def _follow(self) -> None:
        await self.pipeline.state.check_current()
        if self._consumer is not None:
            self.topic.check_partitions(len(self._consumer.partitions_for_topic(self.settings.topics.events) or ()))
        if self._following.due:
            await self._following.attempt(self._follow_all)
        self._followed_s = time.monotonic()

    async def _follow_strictly(self) -> None:
        """Follow where something depends on it: every failure is raised here."""
        await self.pipeline.state.check_current()
        await self._follow_all()

    async def _follow_all(self) -> None:
        await self.pipeline.state.follow_event_time()
        await self._catalogue.follow()
        if self.pipeline.ranks:
            self.partitions.note_deferred(await self.pipeline.defer_short_lists())
        await self._models.follow()

    async def _apply(self, batch: Mapping[int, Sequence[Record]] | DecodedBatch) -> None:
        """Apply a batch, then start to publish it."""
        if not self._defers_lists and self._catalogue.is_small:
            await self._look_for_items()
        defers_lists = self._defers_lists
        if defers_lists:
            self.partitions.note_deferred(batch.batch if isinstance(batch, DecodedBatch) else batch)
        outcome = await self.pipeline.process(batch, defer_lists=defers_lists)
        self.partitions.note_applied(outcome.next_offsets)
        await self.checkpoint.deliver(outcome)

    async def _look_for_items(self) -> None:
        """Have the items topic read on before a list is made, if the state knows few items and the topic has records that were not read."""
        if time.monotonic() - self._items_looked_s < ITEMS_LOOK_S:
            return
        ends = await self.consumer.end_offsets([TopicPartition(*place) for place in self._loader.item_places])
        self._items_looked_s = time.monotonic()
        if self._loader.lacks({(at.topic, at.partition): end for at, end in ends.items()}):
            self._loader.read_on()
