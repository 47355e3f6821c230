"""Users who are erased leave the trainer's event log: segments, and records that are not in a segment yet."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.builders import erase, play, records_of, small_settings
from tests.fold import Fact
from workers.errors import Transient
from workers.trainer.event_log import EventLog
from workers.trainer.log_tail import LogTail, _Pending

SETTINGS = small_settings()
FACTS = [play(f"u{n % 3}", f"i{n}", n) for n in range(12)]


def written(folder: Path, facts: list[Fact | None], cut: int, segment_events: int = 4) -> EventLog:
    """Return the log of a partition that was copied in pieces of `cut` records."""
    log = EventLog(str(folder), "a" * 32, segment_events=segment_events)
    tail, pending = LogTail(SETTINGS, log), _Pending(0, 0)
    records = records_of(facts)
    for start in range(0, len(records), cut):
        tail._take(pending, records[start : start + cut])
        tail._write(0, pending)
        pending = _Pending(pending.next_offset, pending.next_offset)
    return log


def held(log: EventLog) -> list[tuple[str, int]]:
    events = log.read()
    return [(events.user_ids[code], at) for code, at in zip(events.user_codes.tolist(), events.source_offsets.tolist(), strict=True)]


@pytest.mark.parametrize("cut", [1, 3, 5, 99])
def test_events_before_the_erasure_are_gone_and_those_after_it_stay(tmp_path: Path, cut: int) -> None:
    log = written(tmp_path, [*FACTS, erase("u1", 12), play("u1", "i9", 13), play("u2", "i9", 14)], cut)
    expected = [(f"u{n % 3}", n) for n in range(12) if n % 3 != 1] + [("u1", 13), ("u2", 14)]
    assert held(log) == expected and log.next_offsets() == {0: 15}
    assert EventLog(str(tmp_path)).verify() == [], "what is left of a segment is a good one"


def test_no_id_of_the_user_stays_in_a_file(tmp_path: Path) -> None:
    log = written(tmp_path, [*FACTS, erase("u1", 12)], 3)
    for segment in log.segments():
        table = pq.read_table(io.BytesIO((tmp_path / segment.name).read_bytes()), read_dictionary=["user_id", "item_id"])
        for name in ("user_id", "item_id"):
            values = {value for chunk in table.column(name).chunks for value in chunk.dictionary.to_pylist()}
            assert not values & {"u1", "i1", "i4", "i7", "i10"}, segment


def test_other_partitions_keep_a_user_of_the_same_name(tmp_path: Path) -> None:
    log = written(tmp_path, FACTS, 4)
    assert log.erase(1, {"u1": 99}) == 0 and log.erase(0, {}) == 0 and log.erase(0, {"nobody": 99}) == 0
    assert log.erase(0, {"u1": 5}) == 2 and log.erase(0, {"u1": 5}) == 0, "once is enough"
    assert ("u1", 4) not in held(log) and ("u1", 7) in held(log)


def test_a_crash_before_the_erasure_is_covered_erases_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = [*FACTS, erase("u1", 12), play("u0", "i1", 13)]

    def full(*_: object) -> None:
        raise Transient("the disk is full")

    log = written(tmp_path, facts[:12], 4)
    with monkeypatch.context() as patch:
        patch.setattr(EventLog, "append", full)
        with pytest.raises(Transient):
            _goes_on(log, facts)
    assert log.next_offsets() == {0: 12}, "what says that the user is erased is read again"
    _goes_on(log, facts)
    assert "u1" not in {user_id for user_id, _ in held(log)} and log.next_offsets() == {0: 14}


def _goes_on(log: EventLog, facts: list[Fact | None]) -> None:
    """Copy what the log lacks."""
    tail, first = LogTail(SETTINGS, log), log.next_offsets()[0]
    pending = _Pending(first, first)
    tail._take(pending, records_of(facts)[first:])
    tail._write(0, pending)
