"""The events service ends in good order whenever it is asked to, and commits nothing that it has not published."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition

from tests.memory_store import MemoryStore
from workers.errors import Fatal, Transient
from workers.kafka import bounded_reading
from workers.kafka.records import Record
from workers.settings import Settings, load_settings
from workers.stream.outcome import Outcome
from workers.stream.pipeline import Pipeline
from workers.stream.service import EventsService, _Polled


class ClosedStore(MemoryStore):
    """A store whose connections are gone."""

    async def open(self, *_: Any) -> None:
        raise Transient("Redis is not reachable")


class Ready:
    """Says that lists wait for what the test wrote down: for nothing."""

    failure = ""

    def __init__(self) -> None:
        self.missing: list[str] = []

    def waiting_for(self) -> list[str]:
        return self.missing


class Catalogue:
    is_small = False


class Loader:
    """Writes down what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.item_places = [("recsys.items", 0)]
        self.read_to = 0

    def ask(self) -> None:
        self.asked.append("look")

    def invalidate(self) -> None:
        self.asked.append("from the start")

    def lacks(self, ends: Mapping[tuple[str, int], int]) -> bool:
        return max(ends.values()) > self.read_to

    def read_on(self) -> None:
        self.asked.append("read on")


def service() -> EventsService:
    nothing: Any = None
    settings = load_settings()
    return EventsService(settings, Pipeline(settings, ClosedStore()), Catalogue(), nothing, Loader(), Ready())  # type: ignore[arg-type]


def own(at: EventsService, *partitions: int) -> None:
    """Own these partitions from their start."""
    at.partitions.take(partitions)
    for partition in partitions:
        at.partitions.own(partition, 0, has_deferred_lists=False)


async def test_a_worker_that_is_asked_to_end_while_it_waits_for_redis_ends_without_an_error() -> None:
    waiting = service()
    waiting._stopped.set()
    await waiting.on_start()
    assert waiting._consumer is None


async def test_a_worker_that_stops_deletes_no_more_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[int] = []
    stopping = service()
    own(stopping, 0)

    async def look(*_: Any) -> int:
        swept.append(1)
        return 0

    monkeypatch.setattr(stopping._row_expiry, "look", look)
    sweeping = asyncio.create_task(stopping._expire_rows.fun(stopping))
    await asyncio.sleep(0)
    stopping._stopped.set()
    await sweeping
    assert not swept


async def test_what_can_never_go_well_is_raised_while_nobody_asks_it_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = service()

    async def gives_up(*_: Any) -> None:
        raise Transient("for good")

    monkeypatch.setattr(waiting, "_patiently", gives_up)
    with pytest.raises(Transient, match="for good"):
        await waiting.on_start()


async def test_lists_are_deferred_while_they_wait_for_something_and_their_partitions_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """X2: nothing is published before what it depends on is loaded."""
    at = Delivering(monkeypatch)
    at.gate.set()
    ready: Any = at.service._readiness
    for missing in (["items"], []):
        ready.missing = missing
        await at.apply(1 if missing else 0, 0)
    assert at.deferred == [True, False] and at.service.partitions.with_deferred_lists == [1]
    await at.service.checkpoint.delivered()


def test_what_lists_wait_for_is_why_a_worker_is_not_ready() -> None:
    waiting = service()
    ready: Any = waiting._readiness
    for name in ("start", "partitions"):
        waiting.status.clear(name)
    ready.missing, ready.failure = ["items", "profiles"], "no right to read"
    waiting._note_waiting()
    assert waiting.status.reasons() == ["lists wait for items, profiles (no right to read)"]
    ready.missing = []
    waiting._note_waiting()
    assert waiting.status.reasons() == []


async def test_a_worker_whose_state_has_no_item_defers_lists_while_the_topic_has_records_that_nobody_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S7: the group of the catalogue's consumer may not read."""
    at = Delivering(monkeypatch)
    at.gate.set()
    loader: Any = at.service._loader
    catalogue: Any = at.service._catalogue
    ready: Any = at.service._readiness
    monkeypatch.setattr(catalogue, "is_small", True)
    monkeypatch.setattr(loader, "read_on", lambda: ready.missing.append("items"))
    loader.read_to = 1
    await at.apply(0, 0)
    loader.read_to, at.service._items_looked_s = 0, float("-inf")
    await at.apply(0, 1)
    assert at.deferred == [False, True] and at.service.waiting_for == ["items"]
    await at.service.checkpoint.delivered()


class Consumer:
    """Writes down what is committed."""

    def __init__(self, log: list[tuple[str, int]]) -> None:
        self._log = log

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._log += [("committed", next_offset) for next_offset in offsets.values()]

    async def end_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 1)

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition("events", 0), TopicPartition("events", 1)}


class Delivering:
    """A service whose pipeline makes a list of every record, and whose publishing waits for `gate` and fails where the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.service, self.gate = service(), asyncio.Event()
        self.log: list[tuple[str, int]] = []
        self.fails_at = -1
        self.deferred: list[bool] = []
        consumer: Any = Consumer(self.log)
        self.service._consumer = consumer
        own(self.service, 0, 1)
        monkeypatch.setattr(self.service.pipeline, "process", self._process)
        monkeypatch.setattr(self.service.checkpoint, "publish", self._publish)

    async def _process(self, batch: Mapping[int, Sequence[Record]], *, defer_lists: bool) -> Outcome:
        self.deferred.append(defer_lists)
        lists = {p: [(b"u", b"%d" % record.source_offset) for record in records] for p, records in batch.items()}
        return Outcome(lists, [], {p: records[-1].source_offset + 1 for p, records in batch.items()}, 1, 1, 0)

    async def _publish(self, outcome: Outcome) -> None:
        await self.gate.wait()
        for _, record in (pair for pairs in outcome.lists.values() for pair in pairs):
            if int(record or b"0") == self.fails_at:
                raise Transient("Kafka did not take the records")
            self.log.append(("published", int(record or b"0")))

    async def apply(self, partition: int, source_offset: int) -> None:
        await self.service._apply({partition: [Record("events", partition, source_offset, b"u", b"{}")]})


async def test_a_batch_is_published_while_the_next_one_is_applied_and_committed_before_that_one_is_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = Delivering(monkeypatch)
    await at.apply(0, 0)
    second = asyncio.create_task(at.apply(0, 1))
    await asyncio.sleep(0)
    assert not at.log and not second.done()
    at.gate.set()
    await second
    await at.service.checkpoint.settle()
    assert at.log == [("published", 0), ("committed", 1), ("published", 1), ("committed", 2)]


async def test_batches_that_follow_each_other_fast_are_committed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    at = Delivering(monkeypatch)
    at.gate.set()
    for partition, source_offset in ((0, 0), (0, 1), (1, 5), (0, 2)):
        await at.apply(partition, source_offset)
    await at.service.checkpoint.settle()
    assert [what for what in at.log if what[0] == "committed"] == [("committed", 1), ("committed", 3), ("committed", 6)]
    await at.apply(0, 3)
    await at.service.checkpoint.delivered()
    at.service.checkpoint.start_over()
    await at.service.checkpoint.commit()
    assert at.log[-1] == ("published", 3), "after a failed round everything is owned again from the last commit"


async def test_a_batch_that_could_not_be_published_is_not_committed_nor_is_any_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    at = Delivering(monkeypatch)
    at.gate.set()
    at.fails_at = 0
    await at.apply(0, 0)
    with pytest.raises(Transient, match="did not take"):
        await at.apply(0, 1)
    await at.service.checkpoint.settle()
    assert not at.log


async def test_what_could_not_be_published_when_a_partition_is_lost_is_read_again_by_whoever_owns_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = Delivering(monkeypatch)
    at.gate.set()
    at.fails_at = 0
    await at.apply(0, 0)
    await at.service.ownership.disown([1])
    partitions = at.service.partitions
    assert partitions.assigned == [0] and not partitions.owned and not partitions.next_offsets, "owned again from its last commit"
    assert not at.log


async def test_a_partition_is_let_go_only_after_what_its_owner_publishes_has_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    at = Delivering(monkeypatch)
    at.gate.set()
    await at.apply(0, 0)
    partitions = at.service.partitions
    async with partitions.handing_over:
        going = asyncio.create_task(at.service.ownership.disown([1]))
        for _ in range(20):
            await asyncio.sleep(0)
        assert partitions.owns(1) and not going.done()
    await going
    assert not partitions.owns(1) and partitions.owns(0)


class Behind(Consumer):
    """A consumer whose partition 0 ends at an offset."""

    def __init__(self, log: list[tuple[str, int]], end: int) -> None:
        super().__init__(log)
        self._end = end

    def highwater(self, at: TopicPartition) -> int | None:
        return self._end if at.partition == 0 else None

    def last_stable_offset(self, at: TopicPartition) -> int | None:
        return self.highwater(at)

    async def position(self, at: TopicPartition) -> int:
        return self._end


@pytest.mark.parametrize("is_gap", [True, False])
async def test_a_log_that_ends_in_markers_is_committed_to_its_end_after_what_came_before(
    monkeypatch: pytest.MonkeyPatch, is_gap: bool
) -> None:
    """C24: two offsets of markers follow the only record; offsets that may hold records are not passed over."""
    at = Delivering(monkeypatch)
    consumer: Any = Behind(at.log, 3)
    at.service._consumer = consumer
    at.service._followed_s = at.service._catch_up._looked_s = time.monotonic()
    monkeypatch.setattr(bounded_reading.GAPS, "_starts", {(at.service.settings.topics.events, 0): {3: 1 if is_gap else 2}})
    await at.apply(0, 0)
    polled = [_Polled({}, False, None)]

    async def next_polled() -> _Polled:
        at.gate.set()
        return polled.pop()

    monkeypatch.setattr(at.service, "_next_polled", next_polled)
    await at.service._round()
    assert at.log == [("published", 0), ("committed", 1), *([("committed", 3)] if is_gap else [])]


@pytest.mark.parametrize(("end", "full", "defers"), [(100_001, True, True), (100_000, True, False), (100_001, False, False)])
async def test_lists_are_deferred_from_the_first_full_poll_of_a_worker_far_behind(
    monkeypatch: pytest.MonkeyPatch, end: int, full: bool, defers: bool
) -> None:
    at = Delivering(monkeypatch)
    at.gate.set()
    consumer: Any = Behind(at.log, end)
    at.service._consumer = consumer
    at.service._followed_s = at.service._catch_up._looked_s = time.monotonic()  # all was looked at a moment ago
    polled = [_Polled({0: [Record("events", 0, 0, b"u", b"{}")]}, full, None)]

    async def next_polled() -> _Polled:
        return polled.pop()

    async def nothing(*_: Any, **__: Any) -> None:
        pass

    monkeypatch.setattr(at.service, "_next_polled", next_polled)
    monkeypatch.setattr(at.service, "_poll", nothing)
    monkeypatch.setattr(at.service.topic, "check", nothing)
    await at.service._round()
    await at.service.checkpoint.settle()
    assert at.deferred == [defers]


class Regrouping(Consumer):
    """A consumer whose group takes partition 0 away and gives it back while partitions are being owned."""

    def __init__(self, service: EventsService) -> None:
        super().__init__([])
        self._service = service

    def partitions_for_topic(self, _: str) -> set[int]:
        return set()

    async def beginning_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 0)

    async def committed(self, at: TopicPartition) -> int:
        if at.partition == 0:
            self._service.partitions.withdraw([0, 1])
        else:
            self._service.ownership.take([0, 1])
        return 0

    def seek(self, *_: Any) -> None:
        pass


@pytest.fixture
def owning(monkeypatch: pytest.MonkeyPatch) -> EventsService:
    """A service that can own partitions 0 and 1."""
    at = service()
    consumer: Any = Regrouping(at)
    at._consumer = consumer

    async def ids(_: Settings) -> dict[str, str]:
        return {at.settings.topics.events: "id"}

    async def nothing(partitions: Any, *_: Any) -> dict[int, int]:
        return dict.fromkeys(partitions, 0)

    async def no_ends(*_: Any) -> None:
        pass

    monkeypatch.setattr("workers.stream.events_topic.topic_ids_async", ids)
    monkeypatch.setattr(at.pipeline, "assign", nothing)
    monkeypatch.setattr(at.topic, "check_ends", no_ends)
    return at


async def test_a_partition_that_the_group_gives_back_while_others_are_owned_is_owned_next(owning: EventsService) -> None:
    owning.ownership.take([0, 1])
    await owning.ownership.own([0, 1])
    assert (owning.partitions.owned, owning.partitions.assigned) == ([1], [0])


@pytest.mark.parametrize(("committed_offset", "asked"), [(0, ["look"]), (7, ["look", "from the start"])])
async def test_a_worker_that_starts_on_a_state_older_than_the_group_s_commit_reads_items_from_the_start(
    owning: EventsService, monkeypatch: pytest.MonkeyPatch, committed_offset: int, asked: list[str]
) -> None:
    """X2's kind: Redis was restored from an old backup while no worker ran; its items are as old, whatever offsets it holds."""

    async def committed(_: TopicPartition) -> int:
        return committed_offset

    monkeypatch.setattr(owning.consumer, "committed", committed)
    loader: Any = owning._loader
    owning.ownership.take([1])
    await owning.ownership.own([1])
    assert loader.asked == asked
    owning.ownership.take([1])
    await owning.ownership.own([1])
    assert loader.asked == [*asked, "look"], "while a worker runs, the state itself shows that it went back"


async def test_a_partition_that_only_the_groups_leader_knows_of_is_refused_before_it_is_owned(owning: EventsService) -> None:
    beyond = owning.settings.topics.partitions
    owning.ownership.take([1, beyond])
    with pytest.raises(Fatal, match=f"has {beyond + 1} partitions, topics.partitions is {beyond}: .* copy the log into a new topic"):
        await owning.ownership.own([1, beyond])
    assert not owning.partitions.owned


async def test_what_waits_is_shown_by_the_groups_commits_while_no_partition_can_be_owned(
    owning: EventsService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ends(places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 100)

    async def committed(at: TopicPartition) -> int | None:
        return {0: 40, 1: None}[at.partition]

    async def starts(places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 10)

    for name, answer in (("end_offsets", ends), ("committed", committed), ("beginning_offsets", starts)):
        monkeypatch.setattr(owning.consumer, name, answer, raising=False)

    def shown() -> dict[str, float]:
        return {sample.labels["partition"]: sample.value for sample in next(iter(owning.metrics._lag.collect())).samples}

    await owning.ownership.show_waiting()
    assert shown() == {}
    owning.ownership.take([0, 1])
    await owning.ownership.show_waiting()
    assert shown() == {"0": 60, "1": 90}
    own(owning, 0, 1)
    owning.metrics.note_lag({0: 3, 1: 0})
    await owning.ownership.show_waiting()
    assert shown() == {"0": 3, "1": 0}, "a worker that owns partitions knows better"
