"""The gateway's producer: starts when a broker answers, and again after an error that it does not survive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

from workers.errors import Transient
from workers.kafka.clients import async_producer
from workers.kafka.connection import uninterrupted
from workers.kafka.rights import explain
from workers.runtime.rounds import Rounds
from workers.settings import Settings
from workers.web.gateway_metrics import GatewayMetrics

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

LINGER_MS = 2
"""A batch waits this long for records of other requests."""
MAX_RECORD_BYTES = 1_048_576
LOOK_S = 0.5


class Sender(Protocol):
    """Hands records to a broker."""

    async def send(self, topic: str, key: bytes, value: bytes | None) -> Awaitable[object]:
        """Hand a record over and return what is done when the broker has acknowledged it. Raises Transient."""
        ...


class KafkaSender:
    """Sends with aiokafka, records of one key in order."""

    def __init__(self, settings: Settings, metrics: GatewayMetrics) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._dropping: asyncio.Task[None] | None = None
        self._rounds = Rounds("producer", metrics, fatal_passes=True)

    async def run(self) -> None:
        """Keep a producer until the task is cancelled."""
        try:
            while True:
                if self._producer is None:
                    await self._rounds.attempt(self._start)
                await asyncio.sleep(max(LOOK_S, self._rounds.wait_s))
        finally:
            await self._drop()

    async def _start(self) -> None:
        from aiokafka.errors import KafkaError

        producer = async_producer(self._settings, linger_ms=LINGER_MS, max_request_size=MAX_RECORD_BYTES)
        try:
            await uninterrupted(producer.start())
        except KafkaError as error:
            await uninterrupted(producer.stop())
            raise Transient(explain(error, self._settings, "publisher")) from None
        except BaseException:
            await uninterrupted(producer.stop())
            raise
        self._producer = producer

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(Exception):
                await uninterrupted(producer.stop())

    async def send(self, topic: str, key: bytes, value: bytes | None) -> Awaitable[object]:
        """Hand a record over, as `Sender` says."""
        from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

        producer = self._producer
        if producer is None:
            raise Transient(self._rounds.why or "no Kafka broker has answered yet")
        try:
            async with asyncio.timeout(self._settings.gateway.timeout_s):
                sent: Awaitable[object] = await producer.send(topic, key=key, value=value)
                return sent
        except (TimeoutError, KafkaTimeoutError):
            raise Transient(f"Kafka takes no record for {topic} now") from None
        except MessageSizeTooLargeError:
            raise Transient(f"a record for {topic} is larger than a batch may be") from None
        except KafkaError as error:
            if self._producer is producer:  # whatever it is, a new one has no memory of it
                self._dropping = asyncio.create_task(self._drop())  # it may wait for what is on its way; this request does not
            raise Transient(explain(error, self._settings, "publisher")) from None
