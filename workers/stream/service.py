"""The events topic, drunk in micro-batches: poll ▸ pipeline ▸ publish ▸ commit, through faults and rebalances.

A batch is published while the next one is being applied; never two at once, so that a user's lists come out in order. What is published is
committed, ten times a second at most and whenever there is nothing to do.
Where a worker starts in a partition is `min(Kafka commit, user watermark + 1)`, and at the log's start if there is no commit: what is
behind the watermark changes nothing but gets its lists again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from mode import Service

from workers.errors import Fatal, Transient, one_line
from workers.kafka.batch_publisher import ListPublisher, publish_dead_letters
from workers.kafka.bounded_reading import GAPS, stable_end
from workers.kafka.connection import aiokafka_consumer_arguments, aiokafka_producer_arguments
from workers.kafka.offsets import end_offsets_async
from workers.kafka.records import Record
from workers.kafka.rights import explain
from workers.kafka.topic_identity import TopicWatch, may_be_refilled
from workers.kafka.topics import topic_ids_async, topic_problem
from workers.runtime.faust_app import OrderlyService
from workers.runtime.group_repair import rejoin_if_ended
from workers.runtime.health import Heartbeat
from workers.runtime.metrics import StreamMetrics
from workers.runtime.rounds import Rounds, patiently
from workers.runtime.status import WorkerStatus
from workers.settings import Settings
from workers.stream.adaptive_poll import Batch, Polling
from workers.stream.catalogue_sync import CatalogueFollower, ModelFollower
from workers.stream.micro_batch import DecodedBatch
from workers.stream.pipeline import Outcome, Pipeline
from workers.stream.readiness import Readiness, WaitingLog
from workers.stream.reference_loading import CatalogueLoader
from workers.stream.row_expiry import Sweeper

log = logging.getLogger(__name__)

PARTITION_FETCH_BYTES = 4 * 1024 * 1024
PRODUCER_BATCH_BYTES = 900_000  # below the broker's default max.message.bytes of 1,048,588
LINGER_MS = 0  # whole batches are handed over; there is nothing to wait for
FOLLOW_S = 0.5
ITEMS_LOOK_S = 0.05
"""How often, at most, a worker whose state has few items asks where the items topic ends: a millisecond."""
READY_S = 0.05
"""How often it is asked whether first lists of new users can be made."""
COMPACT_S = 0.05
LOOK_S = 0.25
"""How often the lag is looked at, besides at each full poll: lists are put off from the first one on."""
OWED_AT_ONCE = 256
"""Lists made in one go of those that were put off, so that new events wait some 50 ms at most."""
METADATA_MAX_AGE_MS = 30_000
"""A partition count that was changed is noticed within this."""
WATCH_S = 30.0
"""How often a worker asks whether the topic still is the one that it follows."""
DISCONNECT_S = 5.0
"""How long consumer and producer may take to say good-bye to a broker that does not answer."""
COMMIT_S = 0.1
"""Offsets are committed at most so often while batches follow each other: it takes broker and worker a millisecond each. After a kill the
lists since then come out again."""
REPORT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Polled:
    """Records by partition, whether there were as many as asked for, and their events if they were validated already."""

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
        """`status` hears what is waited for."""
        super().__init__(**kwargs)
        self.settings, self.pipeline = settings, pipeline
        self._catalogue, self._models, self._loader, self._readiness = catalogue, models, loader, readiness
        self._waiting_log = WaitingLog()
        self.status = WorkerStatus() if status is None else status
        self.status.block("partitions", "its consumer group has given it no partitions yet")
        self.metrics = StreamMetrics(settings.alarms, self.status)
        if models is not None:
            models.metrics = self.metrics
        self._consumer: AIOKafkaConsumer | None = None
        self._producer: AIOKafkaProducer | None = None
        self._assigned: set[int] = set()
        """Partitions that the group has given and that are not owned yet."""
        self._owned: set[int] = set()
        self._expected: dict[int, int] = {}
        self._sought: dict[int, int] = {}
        self._following = self._rounds("catalogue", handles_passing=False)
        self._paying = self._rounds("deferred_lists", handles_passing=False)
        self._applying: dict[int, tuple[int, int]] = {}
        """Partition ▸ first and last offset of the batch in hand."""
        self._heartbeat = Heartbeat(settings.health.heartbeat_file, self.status)
        self._connected = asyncio.Event()
        self._followed_s = self._looked_s = self._items_looked_s = float("-inf")
        self._catching_up = self._doubts = self._has_owned = False
        self._owing: set[int] = set()
        self._ahead: asyncio.Task[_Polled] | None = None
        """Polls and decodes the next records while a batch is being applied, when the worker is behind."""
        self._delivery: asyncio.Task[None] | None = None
        """Publishes the last batch while the next one is being applied."""
        self._uncommitted: dict[int, int] = {}
        """Next offsets of what is published."""
        self._committed_s = float("-inf")
        self._polling = Polling(settings.stream)
        self._topic_watch = TopicWatch(settings)
        self._topic_id, self._topic_checked_s = "", float("-inf")
        self._sweeper = Sweeper(settings)
        self._report = _Report()

    # -- life ----------------------------------------------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Connect, wait for Redis, join the group; or leave it when the worker is asked to end meanwhile."""
        try:
            await self._connect()
        except Exception as error:
            if not self.should_stop:
                raise
            log.info("asked to end before it had started (%s)", one_line(error))

    async def _connect(self) -> None:
        await self._patiently(self.pipeline.open)
        async with self.pipeline.lock:  # the agents are at work already
            await self._patiently(self._follow_strictly)
        self._producer = AIOKafkaProducer(
            **aiokafka_producer_arguments(self.settings),
            max_batch_size=PRODUCER_BATCH_BYTES,
            linger_ms=LINGER_MS,
            max_request_size=PRODUCER_BATCH_BYTES + 100_000,
        )
        await self._patiently(self._producer.start)
        self._connected.set()
        self._consumer = AIOKafkaConsumer(
            **aiokafka_consumer_arguments(self.settings),
            group_id=self.settings.stream.group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
        )
        await self._patiently(self._consumer.start)
        self._consumer.subscribe([self.settings.topics.events], listener=_Listener(self))

    async def _patiently(self, step: Callable[[], Awaitable[object]]) -> None:
        """Repeat a step until it succeeds or the worker stops. Raises Fatal."""
        await patiently(step, gives_up=lambda error: self.should_stop, rounds=self._rounds("connecting", status=self.status))

    def _rounds(self, service: str, **options: Any) -> Rounds:
        """Supervise the rounds of one service of this worker."""
        return Rounds(service, self.metrics, describe=lambda error: explain(error, self.settings, "stream"), **options)

    async def on_stop(self) -> None:
        """The batch in hand is finished, published and committed before the group is left, within `stream.stop_timeout_s`.

        What takes longer is abandoned: whoever owns the partitions next applies it again, at no harm.
        """
        try:
            async with asyncio.timeout(self.settings.stream.stop_timeout_s):
                await self.pipeline.lock.acquire()
                await self._delivered()
                await self._commit()
        except TimeoutError:
            log.warning("the batch in hand is not finished within stream.stop_timeout_s: it will be applied again")
        except Exception as error:
            log.warning("the last batch is not published, whoever owns its partitions next does it: %s", one_line(error))
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)
        for client in (self._consumer, self._producer):
            if client is not None:
                with contextlib.suppress(TimeoutError, KafkaError):
                    await asyncio.wait_for(client.stop(), DISCONNECT_S)
        self._models.close()
        await self._topic_watch.close()
        await self.pipeline.store.close()

    async def connected(self) -> None:
        """Wait until store and producer are there. Faust gives its agents records before that."""
        await self._connected.wait()

    @property
    def waiting_for(self) -> list[str]:
        """Names of what lists wait for (`workers/stream/readiness.py`); empty when this worker is ready to make them."""
        return self._readiness.waiting_for()

    async def ready_for_lists(self) -> None:
        """Wait until lists can be made, or the worker stops."""
        while self.waiting_for and not self.should_stop:
            await self.sleep(READY_S)

    @property
    def _defers_lists(self) -> bool:
        return self._catching_up or bool(self.waiting_for)

    @property
    def producer(self) -> AIOKafkaProducer:
        assert self._producer is not None, "started"
        return self._producer

    @property
    def consumer(self) -> AIOKafkaConsumer:
        assert self._consumer is not None, "started"
        return self._consumer

    # -- loops ---------------------------------------------------------------------------------------------------------------------------

    @Service.task
    async def _drink(self) -> None:
        rounds = self._rounds("events", status=self.status)
        while not self.should_stop:
            if not await self.attempt(rounds, self._owned_round, place=self._standing_still):
                rejoin_if_ended(getattr(self._consumer, "_coordinator", None))
                await self.sleep(rounds.wait_s)
                self._look_again()

    async def _owned_round(self) -> None:
        """Own what the group gave, then one batch."""
        try:
            if self._doubts:
                self._look_again()
            if self._assigned:
                await self._drop_ahead()
                await self._settle()
                await self._own(sorted(self._assigned))
            await self._round()
        except IllegalStateError:
            log.info("the group took partitions away meanwhile")
            self._look_again()

    def _standing_still(self) -> str:
        """Where the events stand still while a batch fails."""
        shown = [f"partition {p}, offsets {first} to {last}" for p, (first, last) in sorted(self._applying.items())[:5]]
        return f"not applied: {'; '.join(shown)}{' and more' if len(self._applying) > 5 else ''}" if shown else ""

    async def _slept(self, for_s: float) -> bool:
        """Sleep so long, or until the worker stops; whether it goes on."""
        await self.sleep(for_s)
        return not self.should_stop

    @Service.task
    async def _compact(self) -> None:
        rounds = self._rounds("compaction", quiet=True)
        while await self._slept(max(COMPACT_S, rounds.wait_s)):
            if not await self.attempt(rounds, self._compact_once):
                self._doubts = True  # a failover may have been met here alone

    async def _compact_once(self) -> None:
        mirror = self.pipeline.mirror
        if not (found := await mirror.read_long()):
            return
        bodies = await asyncio.to_thread(mirror.shortened, found)
        async with self.pipeline.lock:  # batches went on meanwhile
            if mirror is self.pipeline.mirror:
                await mirror.replace(found, bodies)

    @Service.task
    async def _sweep(self) -> None:
        """The owner of the first partition deletes rows of items that count no more."""
        rounds = self._rounds("sweeping", quiet=True)
        while await self._slept(max(self.settings.state.sweep_s, rounds.wait_s)):
            if 0 in self._owned:
                await self.attempt(rounds, lambda: self._sweeper.look(self.pipeline.store, self.pipeline.mirror.newest_s))

    async def _round(self) -> None:
        polled = await self._next_polled()
        async with self.pipeline.lock:
            if time.monotonic() - self._followed_s >= FOLLOW_S:
                await self._follow()
            batch = self._contiguous(polled.batch)
            if time.monotonic() - self._looked_s >= LOOK_S or (polled.full and not self._catching_up):
                self._look_at_lag()
            if batch:
                if may_be_refilled((self._expected[partition] for partition in batch), time.monotonic() - self._topic_checked_s):
                    await self._check_topic()  # after the poll: what was polled before the topic was deleted is of the old one
                if polled.full:
                    self._ahead = asyncio.create_task(self._poll(decode=True))
                self._applying = {p: (records[0].source_offset, records[-1].source_offset) for p, records in batch.items()}
                await self._apply(batch if polled.decoded is None or batch != polled.batch else polled.decoded)
            self._applying = {}
            self._note_waiting()
            if not batch:
                await self._delivered()  # it notes offsets from before a gap
                await self._pass_gaps()
            if not batch or (self._owing and not self._defers_lists):
                await self._delivered()
                await self._commit()
            if self._owing and not self._defers_lists and self._paying.due:
                await self._paying.attempt(self._pay_lists)
        self._heartbeat.beat()
        if self._report.say():
            gc.collect(1)  # the young ones: thresholds are so high that cycles of finished futures would grow to tens of megabytes

    def _note_waiting(self) -> None:
        """Say what lists wait for, in the log and in the worker's status."""
        missing, failure = self.waiting_for if self.pipeline.ranks else [], self._readiness.failure
        self._waiting_log.look(missing, failure)
        if missing:
            self.status.block("dependencies", f"lists wait for {', '.join(missing)}" + (f" ({failure})" if failure else ""))
        else:
            self.status.clear("dependencies")

    # -- polling -------------------------------------------------------------------------------------------------------------------------

    async def _poll(self, *, decode: bool = False) -> _Polled:
        """The next records."""
        batch, is_full = await self._polling.poll(self.consumer, makes_lists=self.pipeline.ranks and not self._defers_lists)
        return _Polled(batch, is_full, self.pipeline.decode(batch) if decode and batch else None)

    async def _next_polled(self) -> _Polled:
        """What was polled and decoded while the last batch was being applied, or else a poll."""
        ahead, self._ahead = self._ahead, None
        return await (self._poll() if ahead is None else ahead)

    async def _drop_ahead(self) -> None:
        """Forget what was polled ahead: the next records are read from where partitions are owned again."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await asyncio.gather(ahead, return_exceptions=True)

    async def _pass_gaps(self) -> None:
        """Count the end of a log as applied where it holds no records: markers of transactions, or what was aborted."""
        topic = self.settings.topics.events
        for partition, expected in list(self._expected.items()):
            with contextlib.suppress(IllegalStateError, AssertionError):  # the group has taken it away a moment ago
                at = TopicPartition(topic, partition)
                if stable_end(self.consumer, at) <= expected:
                    continue
                position = await self.consumer.position(at)
                if position > expected and GAPS.start_of((topic, partition), position) <= expected:
                    self._expected[partition] = self._uncommitted[partition] = position

    def _look_at_lag(self) -> None:
        """Far behind, lists are put off; nearly there, they are made again, those that are owed too."""
        self._looked_s = time.monotonic()
        topic, lag = self.settings.topics.events, {}
        for partition, expected in self._expected.items():
            with contextlib.suppress(IllegalStateError, AssertionError):  # the group has taken it away a moment ago
                lag[partition] = max(0, stable_end(self.consumer, TopicPartition(topic, partition)) - expected)
        most, behind = self.settings.stream.catch_up_events, sum(lag.values())
        catching_up = behind > most or (self._catching_up and behind * 10 > most)
        if catching_up != self._catching_up:
            self._catching_up = catching_up
            log.warning("%d events behind: %s", behind, "lists are put off, the state goes on" if catching_up else "lists are made again")
        self.metrics.look(lag, catching_up=catching_up, n_owing=len(self._owing), waiting_for=self.waiting_for)

    async def _pay_lists(self) -> None:
        """Publish some of the lists that were put off, of one partition."""
        partition = next(iter(self._owing))
        if partition not in self._owned:
            self._owing.discard(partition)
            return
        owed = await self.pipeline.owed_lists(partition, OWED_AT_ONCE)
        if owed is None:
            self._owing.discard(partition)
            return
        await ListPublisher(self.producer, self.settings.topics.recommendations).publish({partition: owed.records})
        await self.pipeline.store.settle_lists(partition, owed.made_from, owed.user_ids)
        self.metrics.add_lists(len(owed.records))

    @Service.task
    async def _watch_topic(self) -> None:
        rounds = self._rounds("topic_watch", quiet=True)
        while await self._slept(max(WATCH_S, rounds.wait_s)):
            await self.attempt(rounds, self._check_topic)

    async def _check_topic(self) -> None:
        """Raises Fatal when the topic is another one than this worker follows."""
        if not self._topic_id:
            return
        self._topic_checked_s = time.monotonic()
        found = await self._topic_watch.topic_id()
        if found is not None and found != self._topic_id:
            raise Fatal(
                f"topic {self.settings.topics.events} was deleted and made again: set redis.namespace to a new one, "
                "or run `recsys state rebuild` to make the state from the new topic"
            )

    @Service.task
    async def _keep_catalogue(self) -> None:
        """Items, profiles and models are read to the ends of their topics before lists are made of a state."""
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
        await self.pipeline.check_current()
        if self._consumer is not None:
            self._check_partitions(len(self._consumer.partitions_for_topic(self.settings.topics.events) or ()))
        if self._following.due:
            await self._following.attempt(self._follow_all)
        self._followed_s = time.monotonic()

    async def _follow_strictly(self) -> None:
        """Follow where something depends on it: here no failure is passed over."""
        await self.pipeline.check_current()
        await self._follow_all()

    async def _follow_all(self) -> None:
        await self.pipeline.follow_event_time()
        await self._catalogue.follow()
        if self.pipeline.ranks:
            self._owing |= await self.pipeline.owe_short_lists()
        await self._models.follow()

    async def _apply(self, batch: Mapping[int, Sequence[Record]] | DecodedBatch) -> None:
        if not self._defers_lists and self._catalogue.is_small:
            await self._look_for_items()
        defers_lists = self._defers_lists
        if defers_lists:
            self._owing.update(batch.batch if isinstance(batch, DecodedBatch) else batch)
        outcome = await self.pipeline.process(batch, put_off_lists=defers_lists)
        self._expected.update(outcome.next_offsets)
        await self._delivered()
        self._delivery = asyncio.create_task(self._deliver(outcome))

    async def _look_for_items(self) -> None:
        """The state knows few items: if the topic has records that were not read, they are read before a list is made."""
        if time.monotonic() - self._items_looked_s < ITEMS_LOOK_S:
            return
        ends = await self.consumer.end_offsets([TopicPartition(*place) for place in self._loader.item_places])
        self._items_looked_s = time.monotonic()
        if self._loader.lacks({(at.topic, at.partition): end for at, end in ends.items()}):
            self._loader.read_on()

    async def _deliver(self, outcome: Outcome) -> None:
        """Publish what a batch made, and commit it unless that was done a moment ago."""
        await self._publish(outcome)
        self._uncommitted.update(outcome.next_offsets)
        if time.monotonic() - self._committed_s >= COMMIT_S:
            await self._commit()
        self._report.add(outcome)
        self.metrics.add(outcome)

    async def _commit(self) -> None:
        """Commit what is published. Raises KafkaError."""
        if not self._uncommitted:
            return
        topic, offsets, self._uncommitted = self.settings.topics.events, self._uncommitted, {}
        self._committed_s = time.monotonic()
        try:
            await self.consumer.commit({TopicPartition(topic, partition): at for partition, at in offsets.items()})
        except (CommitFailedError, IllegalStateError) as error:
            # Somebody else owns them now and starts from the watermark; nothing is lost by a missing commit.
            log.warning("offsets not committed, the group has moved on (%s)", type(error).__name__)

    async def _delivered(self) -> None:
        """Wait until the last batch is published. Raises Transient, Fatal, KafkaError."""
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            await delivery

    async def _settle(self) -> None:
        """Wait until the last batch is published, and commit. If that went badly, all is owned anew, from what was committed."""
        try:
            await self._delivered()
            await self._commit()
        except Exception as error:
            log.warning("the last batch is not published, it will be again: %s", one_line(error))
            self._look_again()

    async def _publish(self, outcome: Outcome) -> None:
        topics = self.settings.topics
        for letter in outcome.dead_letters:
            log.debug("dead letter: %s", letter.reason)
        await publish_dead_letters(self.producer, topics.dead_letters, outcome.dead_letters)
        await ListPublisher(self.producer, topics.recommendations).publish(outcome.lists)

    def _contiguous(self, polled: Mapping[int, list[Record]]) -> dict[int, list[Record]]:
        """The polled records of owned partitions that continue where the last batch ended.

        A poll may still hold records from before a seek. A hole that the fetcher has read over, or that stays after seeking back once, is
        the log's own (transactions, retention, compaction)."""
        batch: dict[int, list[Record]] = {}
        for partition, records in polled.items():
            expected = self._expected.get(partition)
            if partition not in self._owned or expected is None:
                continue
            if records[-1].source_offset < expected:
                raise Transient(f"partition {partition}: the log went back: looking at it again")
            kept = records if records[0].source_offset >= expected else [record for record in records if record.source_offset >= expected]
            first = kept[0].source_offset
            is_gap = first > expected and GAPS.start_of((self.settings.topics.events, partition), first) > expected
            if is_gap and self._seek_back(partition, expected):
                continue
            batch[partition] = kept
        return batch

    def _seek_back(self, partition: int, expected: int) -> bool:
        if self._sought.get(partition) == expected:
            return False
        self._sought[partition] = expected
        self.consumer.seek(TopicPartition(self.settings.topics.events, partition), expected)
        return True

    # -- ownership -----------------------------------------------------------------------------------------------------------------------

    def take(self, partitions: Iterable[int]) -> None:
        """The group gives these partitions to this worker. They are owned in the next round: owning takes several round trips, and a
        consumer sends no heartbeats while its listener is at work."""
        self._assigned.update(partitions)
        self.status.clear("partitions")

    async def _own(self, wanted: Sequence[int]) -> None:
        """Own these partitions: read their watermarks and seek.

        Raises: Transient, Fatal, or IllegalStateError when the group took some away.
        """
        topic, consumer = self.settings.topics.events, self.consumer
        ids = await topic_ids_async(self.settings)
        if topic not in ids:
            raise Transient(await asyncio.to_thread(topic_problem, self.settings, topic))
        self._check_partitions(len(consumer.partitions_for_topic(topic) or ()))
        if max(wanted, default=0) >= self.settings.topics.partitions:  # the group's leader heard of a new partition before this consumer
            self._check_partitions(max(wanted) + 1)
        self._topic_id, self._topic_checked_s = ids[topic], time.monotonic()
        places = [TopicPartition(topic, partition) for partition in wanted]
        starts = await consumer.beginning_offsets(places)
        async with self.pipeline.lock:
            first_new = await self.pipeline.assign(wanted, ids[topic])
            self._loader.ask()  # the caches may be of another state now
            await self._check_ends(first_new)
            for at in places:
                committed = await consumer.committed(at)
                if at.partition not in self._assigned:  # taken away while we asked
                    self.pipeline.release([at.partition])
                    continue
                # without a commit nothing says what was published: the lists and dead letters of what is applied are sent again
                start = starts[at] if committed is None else min(committed, first_new[at.partition])
                if committed is not None and committed > first_new[at.partition] and not self._has_owned:
                    self._loader.invalidate()  # the state may be an old backup, items and profiles with it; later that is seen in Redis
                if (expired := starts[at] - first_new[at.partition]) > 0:
                    self.metrics.add_expired(expired)
                    log.error("partition %d: retention deleted %d records before they were applied", at.partition, expired)
                consumer.seek(at, start)
                self._expected[at.partition] = start
                self._sought.pop(at.partition, None)
                self._assigned.discard(at.partition)  # not those passed over: the group may have given them back since
                self._owned.add(at.partition)
                if self.pipeline.ranks:
                    self._owing.add(at.partition)
            self._has_owned = True
        log.info("owns partitions %s", sorted(self._owned))

    async def _check_ends(self, first_new: Mapping[int, int]) -> None:
        """Raises Fatal when a partition ends before what the state has applied."""
        topic = self.settings.topics.events
        told = await self.consumer.end_offsets([TopicPartition(topic, partition) for partition in first_new])
        if all(first_new[at.partition] <= end for at, end in told.items()):
            return
        ends = await end_offsets_async(self.settings, [topic])  # dearer, and right on brokers that tell less than there is
        for partition, at in first_new.items():
            if at > ends[topic, partition]:
                raise Fatal(
                    f"partition {partition} of {topic} ends at {ends[topic, partition]}, before what Redis has applied ({at}): "
                    "the topic lost records or was made again; restore it, or run `recsys state rebuild`, which takes what is left"
                )

    def _check_partitions(self, n_partitions: int) -> None:
        """Raises Fatal when the topic has another number of partitions than the state: its users would be split over two of them."""
        topics = self.settings.topics
        if n_partitions and n_partitions != topics.partitions:
            raise Fatal(
                f"topic {topics.events} has {n_partitions} partitions, topics.partitions is {topics.partitions}: keys go to other "
                "partitions now; copy the log into a new topic with the number you want, and name it in topics.events with a new "
                "redis.namespace"
            )

    async def disown(self, partitions: Iterable[int]) -> None:
        """Finish and deliver the batch in hand, then own these partitions no longer."""
        gone = list(partitions)
        self._assigned.difference_update(gone)
        async with self.pipeline.lock:
            await self._settle()
            self._assigned.difference_update(gone)
            self.pipeline.release(gone)
            self._owned.difference_update(gone)
            for partition in gone:
                self._expected.pop(partition, None)
        if gone:
            log.info("owns partitions %s", sorted(self._owned))

    def _look_again(self) -> None:
        """After a failed round: own everything anew, from the watermarks on."""
        self._doubts = False
        self._owned.clear()
        self._expected.clear()
        self._uncommitted.clear()
        self._applying.clear()
        self._assigned = {at.partition for at in self.consumer.assignment()}


class _Listener(ConsumerRebalanceListener):
    def __init__(self, service: EventsService) -> None:
        self._service = service

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._service.disown(at.partition for at in revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._service.take(at.partition for at in assigned)


class _Report:
    """A line every ten seconds of work: rates, and where the time went."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start the next ten seconds."""
        self._since_s = time.monotonic()
        self._records = self._new = self._lists = self._dead = 0
        self._seconds: dict[str, float] = {}

    def add(self, outcome: Outcome) -> None:
        self._records += outcome.n_records
        self._new += outcome.n_new
        self._lists += outcome.n_lists
        self._dead += len(outcome.dead_letters)
        for step, seconds in outcome.seconds.items():
            self._seconds[step] = self._seconds.get(step, 0.0) + seconds

    def say(self) -> bool:
        """Whether ten seconds were over."""
        elapsed_s = time.monotonic() - self._since_s
        if elapsed_s < REPORT_S:
            return False
        if self._records:
            steps = " ".join(f"{step}={seconds / elapsed_s:.0%}" for step, seconds in self._seconds.items())
            log.info(
                "%.0f records/s, %.0f interactions/s, %.0f lists/s, %d dead letters; time: %s",
                self._records / elapsed_s,
                self._new / elapsed_s,
                self._lists / elapsed_s,
                self._dead,
                steps,
            )
        self.clear()
        return True
