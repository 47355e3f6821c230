"""An event in another partition than murmur2 gives its user is refused, alike by all who read the log (C26)."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import TOPIC_ID, opened_pipeline, play, records_of, small_settings, value_of
from tests.fold import Fact, fold, read_state
from tests.memory_store import MemoryStore
from workers.kafka.partitioner import partition_for
from workers.kafka.placement import RESERVED_USER_ID, WRONG_PARTITION
from workers.kafka.records import Record
from workers.operations.reference_fold import HistoryFold
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.micro_batch import DecodedBatch
from workers.stream.reference_topics import Intake
from workers.trainer.event_log import EventLog
from workers.trainer.log_tail import LogTail, _Pending

PARTITIONS = 4
SETTINGS = small_settings(topics={"partitions": PARTITIONS, "wrong_partition": "dead_letter"})


def crc_log(n_events: int, seed: int = 0) -> dict[int, list[Fact | None]]:
    """Events of ten users, half of them by librdkafka's default partitioner."""
    chance = random.Random(seed)
    log: dict[int, list[Fact | None]] = {partition: [] for partition in range(PARTITIONS)}
    for number in range(n_events):
        user = f"u{chance.randrange(10)}".encode()
        partition = chance.choice((zlib.crc32(user) % PARTITIONS, partition_for(user, PARTITIONS)))
        log[partition].append(play(user.decode(), f"i{number % 7}", number))
    return log


def misplaced_in(log: dict[int, list[Fact | None]]) -> set[tuple[int, int]]:
    return {(p, at) for p, facts in log.items() for at, f in enumerate(facts) if f and partition_for(f.user_id.encode(), PARTITIONS) != p}


@given(st.integers(0, 1_000), st.integers(1, 60))
async def test_the_state_is_that_of_the_events_that_lie_where_they_belong(seed: int, n_events: int) -> None:
    log, store = crc_log(n_events, seed), MemoryStore()
    pipeline = await opened_pipeline(store, SETTINGS)
    await pipeline.assign(list(log), TOPIC_ID)
    outcome = await pipeline.process({p: records_of(facts) for p, facts in log.items() if facts})
    letters = {(letter.source_partition, letter.source_offset) for letter in outcome.dead_letters}
    assert letters == misplaced_in(log)
    assert {letter.kind for letter in outcome.dead_letters} <= {WRONG_PARTITION}
    expected = fold(log, SETTINGS)
    assert await read_state(store, SETTINGS, expected) == expected


def test_a_dead_letter_names_both_partitions_and_the_producer_s_setting() -> None:
    wanted = partition_for(b"u1", PARTITIONS)
    lies_in = (wanted + 1) % PARTITIONS
    batch = DecodedBatch.of({lies_in: [Record("events", lies_in, 0, b"u1", value_of(play("u1", "a", 1)))]}, SETTINGS)
    ((position, poison),) = batch.events.poisons
    assert position == 0 and not batch.events.index
    assert f"partition {lies_in}" in poison.reason and f"partition {wanted}" in poison.reason
    assert "partitioner=murmur2_random" in poison.reason and "recsys dlq redrive" in poison.reason


def test_refused_events_leave_every_column_of_the_others() -> None:
    log = crc_log(200, 3)
    batch = DecodedBatch.of({p: records_of(facts) for p, facts in log.items() if facts}, SETTINGS)
    events, records = batch.events, batch.records
    assert len(events) + len(events.poisons) == 200 and [at for at, _ in events.poisons] == sorted(at for at, _ in events.poisons)
    for i, at in enumerate(events.index):
        sent = orjson.loads(records.values[at] or b"")
        assert (events.user_ids[i], events.item_ids[i], events.event_ids[i], events.event_ts_ms[i]) == (
            sent["user_id"],
            sent["item_id"],
            sent["event_id"],
            sent["event_ts_ms"],
        )


def test_trainer_and_verify_refuse_the_same_events(tmp_path: Path) -> None:
    log = crc_log(100, 1)
    wrong = misplaced_in(log)
    for partition, facts in log.items():
        good = [at for at in range(len(facts)) if (partition, at) not in wrong]
        tail = LogTail(SETTINGS, EventLog(str(tmp_path)))
        pending = _Pending(0, 0)
        tail._take(pending, [record._replace(partition=partition) for record in records_of(facts)])
        assert pending.offsets == good and pending.next_offset == len(facts)
        users = sorted({fact.user_id for fact in facts if fact})
        histories = HistoryFold(SETTINGS, users, partition)
        histories.take(records_of(facts))
        assert sum(sum(history.touches) for history in histories.histories.values()) == len(good)


async def test_a_profile_in_another_partition_than_its_user_s_events_is_a_dead_letter() -> None:
    pipeline = await opened_pipeline(MemoryStore(), SETTINGS)
    await pipeline.assign(range(PARTITIONS), TOPIC_ID)
    intake = Intake(SETTINGS, pipeline.state, pipeline.lists, CatalogueFollower(pipeline.state))
    profile, right = orjson.dumps({"user_id": "u1"}), partition_for(b"u1", PARTITIONS)
    for value in (profile, None):
        records = [Record("users", partition, 0, b"u1", value) for partition in range(PARTITIONS)]
        _, letters = await intake.users(records)
        assert {letter.source_partition for letter in letters} == set(range(PARTITIONS)) - {right}
        assert {letter.kind for letter in letters} == {WRONG_PARTITION}


async def test_accepting_another_partitioner_keeps_every_event() -> None:
    accepting = small_settings(topics={"partitions": PARTITIONS, "wrong_partition": "accept"})
    log, store = crc_log(50), MemoryStore()
    pipeline = await opened_pipeline(store, accepting)
    await pipeline.assign(list(log), TOPIC_ID)
    outcome = await pipeline.process({p: records_of(facts) for p, facts in log.items() if facts})
    assert not outcome.dead_letters
    expected = fold(log, accepting)
    assert await read_state(store, accepting, expected) == expected


async def test_events_of_reserved_user_ids_are_refused_alike_while_there_are_lists_of_no_user(tmp_path: Path) -> None:
    """The state of worker, trainer and reference fold has no such user; without such lists nothing is reserved."""
    user = "recsys:default"
    partition = partition_for(user.encode(), PARTITIONS)
    other = next(f"u{number}" for number in range(100) if partition_for(f"u{number}".encode(), PARTITIONS) == partition)
    facts: list[Fact | None] = [play(user, "i1", 0), play(other, "i1", 1), play(user, "i2", 2)]
    for every_s, refused in ((0.0, 0), (5.0, 2)):
        settings = small_settings(topics={"partitions": PARTITIONS, "wrong_partition": "dead_letter"}, lists={"shared_every_s": every_s})
        pipeline = await opened_pipeline(MemoryStore(), settings)
        await pipeline.assign(range(PARTITIONS), TOPIC_ID)
        outcome = await pipeline.process({partition: records_of(facts)})
        assert [letter.kind for letter in outcome.dead_letters] == [RESERVED_USER_ID] * refused
        assert outcome.n_new == 3 - refused
        histories = HistoryFold(settings, [user, other], partition)
        histories.take(records_of(facts))
        assert [sum(histories.histories[name].touches) for name in (user, other)] == ([0, 1] if refused else [2, 1])
        tail, pending = LogTail(settings, EventLog(str(tmp_path / str(every_s)))), _Pending(0, 0)
        tail._take(pending, [record._replace(partition=partition) for record in records_of(facts)])
        assert pending.offsets == ([1] if refused else [0, 1, 2]) and pending.next_offset == 3
