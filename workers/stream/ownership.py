"""Owns the partitions that the consumer group gives to this worker, and lets go of those that it takes away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from workers.runtime.metrics import StreamMetrics
from workers.runtime.status import WorkerStatus
from workers.settings import Settings
from workers.stream.checkpoint import Checkpoint
from workers.stream.events_topic import EventsTopic
from workers.stream.partitions import Partitions
from workers.stream.pipeline import Pipeline
from workers.stream.reference_loading import CatalogueLoader

log = logging.getLogger(__name__)

LAG_S = 5.0
"""Seconds that the broker has to say how many records wait."""


class Ownership(ConsumerRebalanceListener):
    """Takes a partition from its watermark on, and delivers its last batch before it goes.

    A worker starts in a partition at `min(Kafka commit, user watermark + 1)`, and at the log's start if there is no commit: what lies
    before the watermark changes nothing but gets its lists again.
    """

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        partitions: Partitions,
        checkpoint: Checkpoint,
        topic: EventsTopic,
        loader: CatalogueLoader,
        metrics: StreamMetrics,
        status: WorkerStatus,
        *,
        consumer: Callable[[], AIOKafkaConsumer],
    ) -> None:
        self._settings, self._pipeline, self._partitions, self._checkpoint = settings, pipeline, partitions, checkpoint
        self._topic, self._loader, self._metrics, self._status, self._consumer = topic, loader, metrics, status, consumer
        self._has_owned = False

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self.disown([at.partition for at in revoked])

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.take([at.partition for at in assigned])

    def take(self, partitions: Sequence[int]) -> None:
        """Note that the group gives these partitions to this worker. They are owned in the next round: owning takes several round trips,
        and a consumer sends no heartbeats while its listener is at work."""
        self._partitions.take(partitions)
        self._status.clear("partitions")

    async def own(self, wanted: Sequence[int]) -> None:
        """Own these partitions: read their watermarks and seek.

        Raises: Transient, Fatal, or IllegalStateError when the group took some away.
        """
        topic, consumer = self._settings.topics.events, self._consumer()
        topic_id = await self._topic.identify()
        self._topic.check_partitions(len(consumer.partitions_for_topic(topic) or ()))
        if max(wanted, default=0) >= self._settings.topics.partitions:  # the group's leader saw a new partition before this consumer
            self._topic.check_partitions(max(wanted) + 1)
        places = [TopicPartition(topic, partition) for partition in wanted]
        starts = await consumer.beginning_offsets(places)
        async with self._pipeline.state.turn():
            first_new = await self._pipeline.assign(wanted, topic_id)
            self._loader.ask()  # the caches may mirror another state now
            await self._topic.check_ends(consumer, first_new)
            for at in places:
                committed = await consumer.committed(at)
                if not self._is_assigned(at.partition):  # taken away since
                    self._pipeline.release([at.partition])
                    continue
                self._begin(at, starts[at], committed, first_new[at.partition])
            self._has_owned = True
        log.info("owns partitions %s", self._partitions.owned)

    async def show_waiting(self) -> None:
        """Show how many records wait, by the group's commits, while no partition can be owned: without Redis nothing else says so."""
        places = [TopicPartition(self._settings.topics.events, partition) for partition in self._partitions.assigned]
        if not places or self._partitions.owned:
            return
        with contextlib.suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(LAG_S):
                consumer = self._consumer()
                starts, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
                commits = {at: await consumer.committed(at) for at in places}
            if not self._partitions.owned:
                self._metrics.note_lag({at.partition: ends[at] - (commits[at] or starts[at]) for at in places})

    def _is_assigned(self, partition: int) -> bool:
        return partition in self._partitions and self._partitions[partition].is_assigned

    def _begin(self, at: TopicPartition, log_start: int, committed: int | None, first_new: int) -> None:
        """Seek to where the partition is to be read from, and own it."""
        # without a commit nothing says what was published: the lists and dead letters of what is applied are sent again
        start = log_start if committed is None else min(committed, first_new)
        if committed is not None and committed > first_new and not self._has_owned:
            self._loader.invalidate()  # the state may be an old backup, items and profiles with it; later that is seen in Redis
        if (expired := log_start - first_new) > 0:
            self._metrics.add_expired(expired)
            log.error("partition %d: retention deleted %d records before they were applied", at.partition, expired)
        self._consumer().seek(at, start)
        self._partitions.own(at.partition, start, has_deferred_lists=self._pipeline.ranks)

    async def disown(self, gone: Sequence[int]) -> None:
        """Finish and deliver the batch in hand, then own these partitions no longer."""
        self._partitions.withdraw(gone)
        async with self._partitions.handing_over, self._pipeline.state.turn():
            await self._checkpoint.settle()
            self._pipeline.release(gone)
            self._partitions.disown(gone)
        if gone:
            log.info("owns partitions %s", self._partitions.owned)
