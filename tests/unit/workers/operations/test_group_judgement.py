"""Who is in the stream workers' group: workers, or another program."""

from __future__ import annotations

import inspect

import pytest
from aiokafka import AIOKafkaConsumer

from workers.kafka.groups import Group
from workers.operations import fitness


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Group(2, "roundrobin"), ["ok"]),
        (Group(2, ""), ["ok"]),
        (Group(2, "range"), ["wrong"]),
        (Group(0, ""), ["warning"]),
        (Group(9, "roundrobin"), ["warning"]),
    ],
)
def test_workers_are_told_from_another_program(found: Group, says: list[str]) -> None:
    assert [finding.state for finding in fitness.group(found, "recsys-stream", 8, 0)] == says


def test_the_protocol_of_workers_is_that_of_the_consumer_they_use() -> None:
    (assignor,) = inspect.signature(AIOKafkaConsumer.__init__).parameters["partition_assignment_strategy"].default
    assert assignor.name == fitness.WORKER_PROTOCOL
