"""The one place that makes consumers and producers, of aiokafka and of kafka-python.

The clients are imported with the first one that is made: what users embed (`workers.client`) must start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.kafka.connection import (
    aiokafka_consumer_arguments,
    aiokafka_producer_arguments,
    kafka_python_arguments,
    kafka_python_consumer_arguments,
)
from workers.settings import Settings

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


def async_consumer(settings: Settings, *, group_id: str | None = None, **more: Any) -> AIOKafkaConsumer:
    """Return an aiokafka consumer of committed records that commits nothing by itself; it connects with `start`."""
    from aiokafka import AIOKafkaConsumer

    return AIOKafkaConsumer(**(aiokafka_consumer_arguments(settings) | more), group_id=group_id, enable_auto_commit=False)


def bare_consumer(**arguments: Any) -> AIOKafkaConsumer:
    """Return an aiokafka consumer with exactly these arguments and no group. It may read records that are not committed."""
    from aiokafka import AIOKafkaConsumer

    return AIOKafkaConsumer(**arguments, group_id=None, enable_auto_commit=False)


def async_producer(settings: Settings, **more: Any) -> AIOKafkaProducer:
    """Return an aiokafka producer that waits for all replicas; it connects with `start`."""
    from aiokafka import AIOKafkaProducer

    return AIOKafkaProducer(**aiokafka_producer_arguments(settings), **more)


def blocking_consumer(settings: Settings, **more: Any) -> Any:
    """Return a connected kafka-python consumer of committed records, without a group."""
    from kafka import KafkaConsumer

    return KafkaConsumer(**kafka_python_consumer_arguments(settings), **more)


def blocking_producer(settings: Settings, *, delivery_timeout_ms: int, linger_ms: int, **more: Any) -> Any:
    """Return a connected, idempotent kafka-python producer whose records are acknowledged or given up within `delivery_timeout_ms`."""
    from kafka import KafkaProducer

    arguments = kafka_python_arguments(settings)
    # the client wants a request, and the wait for more records before it, to end before its records are given up
    arguments["request_timeout_ms"] = min(arguments["request_timeout_ms"], max(delivery_timeout_ms - linger_ms, 1))
    return KafkaProducer(
        **arguments,
        acks="all",
        enable_idempotence=True,
        delivery_timeout_ms=delivery_timeout_ms,
        max_block_ms=delivery_timeout_ms,
        linger_ms=linger_ms,
        allow_auto_create_topics=False,
        **more,
    )


def blocking_admin(settings: Settings) -> Any:
    """Return a connected kafka-python admin client; `workers.kafka.admin.admin_client` adds our errors."""
    from kafka.admin import KafkaAdminClient

    return KafkaAdminClient(**kafka_python_arguments(settings))
