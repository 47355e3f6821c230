"""A publisher that closes hands back, in the order of sending, what the broker refused and what it has not answered yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

from workers.client import EventPublisher, PublishError


class Sent:
    """What the producer returns for a record."""

    def add_callback(self, acknowledge: Callable[[Any], None]) -> None:
        self.acknowledge = acknowledge

    def add_errback(self, fail: Callable[[BaseException], None]) -> None:
        self.fail = fail


class BusyProducer:
    """A producer whose flush ends before all records are answered."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []

    def send(self, topic: str, **record: Any) -> Sent:
        self.sent.append(Sent())
        return self.sent[-1]

    def flush(self, timeout_s: float) -> None:
        raise KafkaTimeoutError

    def close(self, timeout: float) -> None:
        pass


def test_close_hands_back_in_the_order_of_sending_what_failed_and_what_is_not_answered_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = BusyProducer()
    monkeypatch.setattr(EventPublisher, "_connect", lambda self: producer)
    publisher = EventPublisher()
    events = [publisher.publish(user_id="u", item_id=f"i{n}", type="view") for n in range(5)]
    producer.sent[0].acknowledge(None)
    for n in (3, 1):  # batches fail in any order
        producer.sent[n].fail(KafkaTimeoutError())
    with pytest.raises(PublishError) as late:
        publisher.close()
    assert late.value.undelivered == events[1:]


def test_a_flush_hands_back_in_the_order_of_sending_and_each_record_once(monkeypatch: pytest.MonkeyPatch) -> None:
    producer = BusyProducer()
    monkeypatch.setattr(EventPublisher, "_connect", lambda self: producer)
    publisher = EventPublisher()
    events = [publisher.publish(user_id="u", item_id=f"i{n}", type="view") for n in range(2)]
    for n in (1, 0):
        producer.sent[n].fail(KafkaTimeoutError())
    with pytest.raises(PublishError) as late:
        publisher.flush()
    assert late.value.undelivered == events
    publisher.close()
