"""The commit path: what happens to a batch between its records and the offsets that say that it is done.

The steps of a commit, in order. Each begins when the one before it is acknowledged:

1. **Item groups** (`StateWriter.apply_items`): what the batch adds to items, atomic for each group. May be repeated: every group has a
   watermark a partition, and skips what it has.
2. **Users** (`StateWriter.commit_users`): rows, duplicate hashes, the users whose list is deferred, and the watermark, atomic for each
   partition. Happens once: a second commit of the same range meets a watermark that has moved, and is Fenced.
3. **Publish** (`Checkpoint.publish`): dead letters, then lists, acknowledged by all replicas in step. May be repeated: a list replaces
   the user's last one, and a dead letter names its source offset.
4. **Commit** (`Checkpoint.commit`): the next offsets to the consumer group. May be repeated, and may be lost: then what lies between the
   commit and the watermark is read again, changes nothing, and gets its lists again.

Steps 1 and 2 of a batch run while step 3 of the batch before it does. Two batches are never published at once, so a user's lists come out
in order. A batch that follows another within COMMIT_S is committed together with later ones.

After a failure of any step the worker starts over: it owns its partitions again from `min(Kafka commit, user watermark + 1)`, or from the
log's start if there is no commit. A worker that stops, or loses a partition, finishes steps 1 to 4 of the batch in hand first; if that
fails, the partition's next owner starts from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from workers.errors import one_line
from workers.kafka.batch_publisher import ListPublisher, publish_dead_letters
from workers.runtime.metrics import StreamMetrics
from workers.settings import TopicSettings
from workers.stream.outcome import Outcome
from workers.stream.partitions import Partitions
from workers.stream.pipeline import Pipeline
from workers.stream.work_report import WorkReport

log = logging.getLogger(__name__)

COMMIT_S = 0.1
"""Offsets are committed at most this often while batches follow each other: a commit takes broker and worker a millisecond each. After a
kill the lists since then come out again."""
DEFERRED_AT_ONCE = 256
"""Deferred lists made in one go, so that new events wait some 50 ms at most."""


class Checkpoint:
    """Publishes what batches made and commits their offsets, one batch after the other."""

    def __init__(
        self,
        topics: TopicSettings,
        partitions: Partitions,
        metrics: StreamMetrics,
        *,
        consumer: Callable[[], AIOKafkaConsumer],
        producer: Callable[[], AIOKafkaProducer],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topics, self._partitions, self._metrics = topics, partitions, metrics
        self._consumer, self._producer, self._clock = consumer, producer, clock
        self._delivery: asyncio.Task[None] | None = None
        """Publishes the last batch while the next one is being applied."""
        self._committed_s = float("-inf")
        self.must_start_over = False
        """A failure outside the commit path may mean that Redis lost something: start over with the next round."""
        self.report = WorkReport()

    async def deliver(self, outcome: Outcome) -> None:
        """Start to publish a batch that was applied, once the one before it is published. Raises what that one's delivery met."""
        await self.delivered()
        self._partitions.note_deferred(outcome.owing)
        self._delivery = asyncio.create_task(self._deliver(outcome))

    async def _deliver(self, outcome: Outcome) -> None:
        """Publish what a batch made, and commit it unless the last commit was a moment ago."""
        started_s = self._clock()
        await self.publish(outcome)
        self._metrics.note_published(outcome, self._clock() - started_s)
        self._partitions.note_published(outcome.next_offsets)
        if self._clock() - self._committed_s >= COMMIT_S:
            await self.commit()
        self.report.add(outcome)
        self._metrics.add(outcome)

    async def delivered(self) -> None:
        """Wait until the last batch is published. Raises Transient, Fatal, KafkaError."""
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            await delivery

    async def publish(self, outcome: Outcome) -> None:
        """Publish a batch's dead letters, then its lists, and wait until the broker has them. Raises Transient, Fatal."""
        for letter in outcome.dead_letters:
            log.debug("dead letter: %s", letter.reason)
        await publish_dead_letters(self._producer(), self._topics.dead_letters, outcome.dead_letters)
        headers = None if outcome.trace is None else outcome.trace.publishing(key for pairs in outcome.lists.values() for key, _ in pairs)
        await ListPublisher(self._producer(), self._topics.recommendations).publish(outcome.lists, headers)
        if outcome.trace is not None:
            outcome.trace.ended()

    async def commit(self) -> None:
        """Commit what is published. Raises KafkaError."""
        offsets = self._partitions.take_uncommitted()
        if not offsets:
            return
        self._committed_s = self._clock()
        try:
            await self._consumer().commit({TopicPartition(self._topics.events, partition): at for partition, at in offsets.items()})
        except (CommitFailedError, IllegalStateError) as error:
            # Another worker owns them now and starts from the watermark; nothing is lost by a missing commit.
            log.warning("offsets not committed, the group has moved on (%s)", type(error).__name__)

    async def settle(self) -> None:
        """Wait until the last batch is published, and commit. If that fails, start over from what was committed."""
        try:
            await self.delivered()
            await self.commit()
        except Exception as error:
            log.warning("the last batch is not published, it will be again: %s", one_line(error))
            self.start_over()

    def start_over(self) -> None:
        """Own every assigned partition again after a failure, from its commit and watermark on."""
        self.must_start_over = False
        self._partitions.start_over({at.partition for at in self._consumer().assignment()})

    async def publish_deferred(self, pipeline: Pipeline) -> None:
        """Publish some of the lists that were deferred, of one partition: make ▸ publish ▸ settle in Redis. The caller holds a turn.

        Users are settled only if no event has been applied since their list was made; otherwise they get another one.
        """
        waiting = self._partitions.with_deferred_lists
        if not waiting:
            return
        deferred = await pipeline.deferred_lists(waiting[0], DEFERRED_AT_ONCE)
        if deferred is None:
            self._partitions[waiting[0]].has_deferred_lists = False
            return
        await ListPublisher(self._producer(), self._topics.recommendations).publish({waiting[0]: deferred.records})
        await pipeline.settle_deferred(waiting[0], deferred)
        self._metrics.add_lists(len(deferred.records))
