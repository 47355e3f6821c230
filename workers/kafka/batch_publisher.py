"""Sending lists and dead letters: whole Kafka batches, a partition at a time.

`AIOKafkaProducer.send` costs as much a record as making the list does; its batch interface a third of that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.dead_letters import DeadLetter
from schemas.decoding import encode, key_of
from workers.errors import Fatal, Transient
from workers.kafka.partitioner import partition_for

Headers = Mapping[bytes, Sequence[tuple[str, bytes]]]
"""Key of a record ▸ its headers."""


class ListPublisher:
    """Publishes keyed records to given partitions of one topic and waits until the broker has them all."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic

    async def publish(self, records: Mapping[int, Sequence[tuple[bytes, bytes | None]]], headers: Headers | None = None) -> None:
        """Send (key, value) records to their partitions, in order within a partition; those of some keys with `headers`.

        Raises: Transient when the broker did not take all of them (sending again is harmless: lists are idempotent by key),
        Fatal when one record alone is larger than a batch may be.
        """
        try:
            sent = []
            for partition, pairs in records.items():
                sent.extend(await self._submit(partition, pairs, headers or {}))
            await asyncio.gather(*sent)
        except KafkaError as error:
            raise Transient(f"Kafka did not take the records for {self._topic} ({type(error).__name__})") from error

    async def _submit(
        self, partition: int, pairs: Sequence[tuple[bytes, bytes | None]], headers: Headers
    ) -> list[asyncio.Future[object]]:
        sent = []
        batch = self._producer.create_batch()
        for key, value in pairs:
            its_headers = list(headers.get(key, ())) if headers else []
            if batch.append(key=key, value=value, timestamp=None, headers=its_headers) is None:
                if not batch.record_count():
                    raise Fatal(f"a record of {len(value or b'')} bytes for {self._topic} is larger than a batch: lower lists.size")
                sent.append(await self._producer.send_batch(batch, self._topic, partition=partition))
                batch = self._producer.create_batch()
                if batch.append(key=key, value=value, timestamp=None, headers=its_headers) is None:
                    raise Fatal(f"a record of {len(value or b'')} bytes for {self._topic} is larger than a batch: lower lists.size")
        if batch.record_count():
            sent.append(await self._producer.send_batch(batch, self._topic, partition=partition))
        return sent


async def publish_dead_letters(producer: AIOKafkaProducer, topic: str, letters: Sequence[DeadLetter]) -> None:
    """Send dead letters in batches, each to the partition of its key, and wait until the broker has them all. Raises Transient.

    The topic may have any number of partitions; the producer asks the broker for it once and remembers it.
    """
    if not letters:
        return
    try:
        n_partitions = len(await producer.partitions_for(topic))
    except KafkaError as error:
        raise Transient(f"Kafka does not know topic {topic} ({type(error).__name__}): run `recsys topics create`") from error
    records: dict[int, list[tuple[bytes, bytes | None]]] = {}
    for letter in letters:
        key = key_of(letter)
        records.setdefault(partition_for(key, n_partitions), []).append((key, encode(letter)))
    await ListPublisher(producer, topic).publish(records)
