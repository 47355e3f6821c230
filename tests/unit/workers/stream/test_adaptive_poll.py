"""Polls bring what has come since the last batch, and grow only while the worker is behind and makes no lists."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import ConsumerRecord, TopicPartition

from workers.settings import StreamSettings
from workers.stream.adaptive_poll import BEHIND_FACTOR, MAX_SINCE_MS, SINCE_MS, Polling


class Fetching:
    """A consumer that fetches ahead once: what it holds is answered without a wait, and what comes later takes `in_s` by its own clock.
    To read held records takes `reading_s`."""

    def __init__(self, held: Sequence[int], later: Sequence[int], in_s: float = 0.0, reading_s: float = 0.0) -> None:
        self._held, self._later, self._in_s, self._reading_s = held, later, in_s, reading_s
        self.now_s = 0.0
        self.asked: list[int] = []
        self.waits_ms: list[int] = []

    def clock(self) -> float:
        return self.now_s

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        self.asked.append(max_records)
        self.waits_ms.append(timeout_ms)
        if not self._held:
            waits_s = min(self._in_s, timeout_ms / 1000)
            self.now_s += waits_s
            if self._in_s > waits_s or not timeout_ms:
                return {}
            self._held, self._later = self._later, ()
        self.now_s += self._reading_s
        given, self._held = self._held[:max_records], self._held[max_records:]
        return {TopicPartition("events", 0): [_record(at) for at in given]} if given else {}


def _record(source_offset: int) -> ConsumerRecord:
    return ConsumerRecord("events", 0, source_offset, 7, 0, b"u", b"{}", None, 1, 2, ())


async def polled_offsets(consumer: Fetching, wanted: int = 100) -> list[int]:
    polling = Polling(StreamSettings(batch_max_events=wanted), consumer.clock)
    batch, _ = await polling.poll(consumer, makes_lists=True)  # type: ignore[arg-type]
    return [record.source_offset for records in batch.values() for record in records]


async def test_what_came_while_the_last_batch_was_applied_is_in_the_next_one() -> None:
    assert await polled_offsets(Fetching([3, 4], [5, 6])) == [3, 4, 5, 6]


async def test_what_has_come_since_is_waited_for_however_long_held_records_take_to_read() -> None:
    assert await polled_offsets(Fetching([3, 4], [5, 6], in_s=0.002, reading_s=0.2)) == [3, 4, 5, 6]


async def test_what_a_poll_had_to_wait_for_is_not_held_up_for_more() -> None:
    consumer = Fetching([], [3], in_s=0.005)
    assert await polled_offsets(consumer) == [3]
    assert consumer.waits_ms == [0, StreamSettings().batch_wait_ms]


async def test_newer_records_are_waited_for_a_share_of_the_time_since_the_last_poll_within_bounds() -> None:
    for applied_s, bound_ms in ((0.0, SINCE_MS), (0.1, 25), (10.0, MAX_SINCE_MS)):
        consumer = Fetching([3], [], in_s=10.0)
        polling = Polling(StreamSettings(), consumer.clock)
        consumer.now_s += applied_s
        await polling.poll(consumer, makes_lists=True)  # type: ignore[arg-type]
        assert consumer.waits_ms == [0, bound_ms]


async def test_a_poll_never_brings_more_than_was_wanted() -> None:
    consumer = Fetching([3, 4], [5, 6], in_s=0.001)
    assert await polled_offsets(consumer, wanted=3) == [3, 4, 5]
    assert consumer.asked == [3, 1]
    full = Fetching([3, 4], [5])
    assert await polled_offsets(full, wanted=2) == [3, 4]
    assert full.asked == [2]


async def test_polls_grow_while_they_come_back_full_and_no_lists_are_made_and_shrink_again() -> None:
    consumer = Fetching(range(1_000), ())
    polling = Polling(StreamSettings(batch_max_events=10), consumer.clock)
    for makes_lists in (False, False, False, True, False, False):
        await polling.poll(consumer, makes_lists=makes_lists)  # type: ignore[arg-type]
    assert consumer.asked == [10, 20, 10 * BEHIND_FACTOR, 10, 10, 20]
    consumer.asked.clear()
    consumer._held = ()
    for _ in range(3):
        await polling.poll(consumer, makes_lists=False)  # type: ignore[arg-type]
    assert consumer.asked[::2] == [10 * BEHIND_FACTOR, 10 * BEHIND_FACTOR // 2, 10]
