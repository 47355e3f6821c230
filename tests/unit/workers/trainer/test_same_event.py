"""The state and the trainer's event log count the same events of a log, whatever repeats in it, near or far."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.state.duplicates import DuplicateWindow
from tests.builders import TOPIC_ID, play, records_of, small_settings
from tests.fold import Fact
from workers.kafka.records import Record
from workers.state.event_weights import weight_table
from workers.stream.micro_batch import DecodedBatch, OwnedPartition, admit
from workers.trainer.event_log import EventLog
from workers.trainer.log_tail import LogTail, _Pending

SETTINGS = small_settings()
CHUNK = SETTINGS.state.duplicate_chunk
PARTITIONS = (0, 1)
Log = dict[int, list[Record]]
Counted = set[tuple[int, int]]
"""(partition, offset) of the events that count."""


def counted_by_the_state(log: Log, batch_records: int) -> Counted:
    owned = {partition: OwnedPartition(TOPIC_ID, -1, DuplicateWindow(CHUNK)) for partition in PARTITIONS}
    counted: Counted = set()
    for start in range(0, max(map(len, log.values())), batch_records):
        batch = {partition: records[start : start + batch_records] for partition, records in log.items()}
        admitted = admit(DecodedBatch.of({p: some for p, some in batch.items() if some}, SETTINGS), owned, weight_table(SETTINGS))
        new = admitted.here[admitted.is_new]
        counted |= set(zip(admitted.partitions[new].tolist(), admitted.source_offsets[new].tolist(), strict=True))
    return counted


def counted_by_the_event_log(log: Log, folder: Path, poll_records: int, segment_events: int) -> Counted:
    event_log = EventLog(str(folder), "a" * 32, segment_events=segment_events, duplicate_chunk=CHUNK)
    tail = LogTail(SETTINGS, event_log)
    for partition, records in log.items():
        pending = _Pending(0, 0)
        for start in range(0, len(records), poll_records):
            tail._take(pending, records[start : start + poll_records])
            tail._write(partition, pending)
            pending = _Pending(pending.next_offset, pending.next_offset)
    events = EventLog(str(folder), duplicate_chunk=CHUNK).read()
    return set(zip(events.partitions.tolist(), events.source_offsets.tolist(), strict=True))


def log_of(numbers: list[tuple[int, int]], both: bool) -> Log:
    """Events (user, number); equal ones are repeats, also of another partition if `both` hold the same log. 9 is an unreadable record."""
    facts: list[Fact | None] = [None if number == 9 else play(f"u{user}", f"i{number}", number) for user, number in numbers]
    return {
        partition: [record._replace(partition=partition) for record in records_of(facts if both or partition == 0 else facts[::-1])]
        for partition in PARTITIONS
    }


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=5 * CHUNK),
    st.booleans(),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_state_and_event_log_count_the_same_events(
    tmp_path_factory: object, numbers: list[tuple[int, int]], both: bool, batch_records: int, poll_records: int
) -> None:
    log = log_of(numbers, both)
    folder = tmp_path_factory.mktemp("log")  # type: ignore[attr-defined]
    assert counted_by_the_event_log(log, folder, poll_records, 30) == counted_by_the_state(log, batch_records)


def test_a_repeat_counts_again_after_its_window_and_in_another_partition(tmp_path: Path) -> None:
    filler = [play("u1", "i", 1_000 + number) for number in range(4 * CHUNK)]
    facts = list(filler)
    for at in (3, CHUNK + 2, 2 * CHUNK + 1, 2 * CHUNK + 5):  # new, near, beyond the window of the first, near that one
        facts[at] = play("u0", "i0", 1)
    log = {partition: [record._replace(partition=partition) for record in records_of(facts)] for partition in PARTITIONS}
    counted = counted_by_the_event_log(log, tmp_path, 50, 1_000)
    assert counted == counted_by_the_state(log, 7)
    repeats = {offset for partition, offset in counted if partition == 1 and facts[offset].user_id == "u0"}
    assert repeats == {3, 2 * CHUNK + 1}
    assert {offset for partition, offset in counted if partition == 0} == {offset for partition, offset in counted if partition == 1}
