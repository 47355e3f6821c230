"""Refuses an events topic that is not the one that the state follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

from workers.errors import Fatal, Transient
from workers.kafka.offsets import end_offsets_async
from workers.kafka.topic_identity import TopicWatch, may_be_refilled
from workers.kafka.topics import topic_ids_async, topic_problem
from workers.settings import Settings


class EventsTopic:
    """The identity of the events topic: its id, its number of partitions, and where its partitions end."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._topics = settings, settings.topics
        self._watch = TopicWatch(settings)
        self._id, self._checked_s = "", float("-inf")

    async def identify(self) -> str:
        """Read the id of the topic, against which it is checked from now on. Raises Transient when there is no such topic."""
        ids = await topic_ids_async(self._settings)
        if self._topics.events not in ids:
            raise Transient(await asyncio.to_thread(topic_problem, self._settings, self._topics.events))
        self._id, self._checked_s = ids[self._topics.events], time.monotonic()
        return self._id

    async def check(self) -> None:
        """Raise Fatal when the topic is another one than was identified."""
        if not self._id:
            return
        self._checked_s = time.monotonic()
        found = await self._watch.topic_id()
        if found is not None and found != self._id:
            raise Fatal(
                f"topic {self._topics.events} was deleted and made again: set redis.namespace to a new one, "
                "or run `recsys state rebuild` to make the state from the new topic"
            )

    async def check_before(self, next_offsets: Mapping[int, int]) -> None:
        """Check the topic where another one of its name may have records at these offsets since the last check."""
        if may_be_refilled(next_offsets.values(), time.monotonic() - self._checked_s):
            await self.check()

    def check_partitions(self, n_partitions: int) -> None:
        """Raise Fatal when the topic has another number of partitions than the state: its users would be split over two of them."""
        if n_partitions and n_partitions != self._topics.partitions:
            raise Fatal(
                f"topic {self._topics.events} has {n_partitions} partitions, topics.partitions is {self._topics.partitions}: keys go to "
                "other partitions now; copy the log into a new topic with the number you want, and name it in topics.events with a new "
                "redis.namespace"
            )

    async def check_ends(self, consumer: AIOKafkaConsumer, next_offsets: Mapping[int, int]) -> None:
        """Raise Fatal when a partition ends before what the state has applied."""
        topic = self._topics.events
        reported = await consumer.end_offsets([TopicPartition(topic, partition) for partition in next_offsets])
        if all(next_offsets[at.partition] <= end for at, end in reported.items()):
            return
        ends = await end_offsets_async(self._settings, [topic])  # dearer, and right on brokers that report less than there is
        for partition, at in next_offsets.items():
            if at > ends[topic, partition]:
                raise Fatal(
                    f"partition {partition} of {topic} ends at {ends[topic, partition]}, before what Redis has applied ({at}): "
                    "the topic lost records or was made again; restore it, or run `recsys state rebuild`, which takes what is left"
                )

    async def close(self) -> None:
        """Disconnect."""
        await self._watch.close()
