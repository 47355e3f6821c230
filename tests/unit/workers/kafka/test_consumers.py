"""Every consumer reads committed records only, within bounds (C24, S1)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import consumer as consumer_module
from aiokafka.consumer import fetcher as fetcher_module
from faust.transport.drivers import aiokafka as driver
from kafka.consumer.fetcher import Fetcher

import workers
from workers.kafka.bounded_kafka_python import BoundedPartitionRecords as BoundedForCommands
from workers.kafka.bounded_reading import BoundedFetcher, BoundedFetchResult, BoundedPartitionRecords
from workers.kafka.clients import async_consumer
from workers.kafka.connection import aiokafka_consumer_arguments, kafka_python_consumer_arguments
from workers.kafka.records import RangeReader
from workers.runtime.faust_app import WorkerApp, _Consumer, _ConsumerThread, _Transport
from workers.settings import load_settings


async def test_only_one_module_makes_consumers_that_may_read_other_records() -> None:
    """`tests/unit/test_house.py` holds that nobody else constructs a client."""
    callers = [path.name for path in Path(workers.__file__).parent.rglob("*.py") if "bare_consumer(" in path.read_text("utf-8")]
    assert sorted(callers) == ["clients.py", "records.py"]
    made = async_consumer(load_settings())
    made._closed = True
    assert made._isolation_level == "read_committed"


async def test_a_range_reader_reads_committed_records_unless_it_gets_other_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the journal gives others: it copies the embedded broker's topics, which know no transactions, as they are."""
    made: list[dict[str, Any]] = []

    def refuse(**arguments: Any) -> None:
        made.append(arguments)
        raise RuntimeError

    monkeypatch.setattr("aiokafka.AIOKafkaConsumer", refuse)
    with pytest.raises(RuntimeError):
        await RangeReader(load_settings(), {("t", 0): 0}).__aenter__()
    assert (made[0]["isolation_level"], made[0]["auto_offset_reset"]) == ("read_committed", "earliest")
    callers = [path for path in Path(workers.__file__).parent.rglob("*.py") if "arguments=arguments" in path.read_text("utf-8")]
    assert [path.name for path in callers] == ["topic_keeping.py"]


def test_consumers_arguments_ask_for_committed_records_and_bound_what_is_read() -> None:
    settings = load_settings()
    assert aiokafka_consumer_arguments(settings)["isolation_level"] == "read_committed"
    assert kafka_python_consumer_arguments(settings)["isolation_level"] == "read_committed"
    assert consumer_module.Fetcher is BoundedFetcher
    assert (fetcher_module.FetchResult, fetcher_module.PartitionRecords) == (BoundedFetchResult, BoundedPartitionRecords)
    assert Fetcher.PartitionRecords is BoundedForCommands


async def test_faust_s_consumer_reads_committed_records_only(monkeypatch: pytest.MonkeyPatch) -> None:
    made = AIOKafkaConsumer()
    assert made._isolation_level == "read_uncommitted", "the name that aiokafka has for it"
    made._closed = True
    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_create_worker_consumer", lambda self, transport: made)
    thread: Any = _ConsumerThread.__new__(_ConsumerThread)
    assert thread._create_worker_consumer(SimpleNamespace())._isolation_level == "read_committed"
    assert _Transport.Consumer is _Consumer and _Consumer._new_consumer_thread is not driver.Consumer._new_consumer_thread
    assert WorkerApp._new_transport.__qualname__.startswith("WorkerApp")
