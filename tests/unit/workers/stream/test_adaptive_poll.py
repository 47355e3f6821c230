"""Polls bring what has come since the last batch, and grow only while the worker is behind and makes no lists."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import ConsumerRecord, TopicPartition

from workers.settings import StreamSettings
from workers.stream.adaptive_poll import AT_ONCE_S, BEHIND_FACTOR, Polling


class Fetching:
    """A consumer that fetches ahead once: what it holds is answered at once, then what comes `in_s` later by its own clock."""

    def __init__(self, held: Sequence[int], later: Sequence[int], in_s: float = 0.0) -> None:
        self._held, self._later, self._in_s = held, later, in_s
        self._now_s = 0.0
        self.asked: list[int] = []

    def clock(self) -> float:
        return self._now_s

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        self.asked.append(max_records)
        if not self._held:
            self._now_s += self._in_s
            self._held, self._later = self._later, ()
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


async def test_what_a_poll_had_to_wait_for_is_not_held_up_for_more() -> None:
    consumer = Fetching([], [3], in_s=10 * AT_ONCE_S)
    assert await polled_offsets(consumer) == [3]
    assert len(consumer.asked) == 1


async def test_a_poll_never_brings_more_than_was_wanted() -> None:
    consumer = Fetching([3, 4], [5, 6])
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
    assert consumer.asked == [10 * BEHIND_FACTOR, 10 * BEHIND_FACTOR // 2, 10]
