from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers import storage
from workers.errors import Fatal, Transient
from workers.storage import Storage
from workers.trainer.event_columns import columns_of, events_table
from workers.trainer.event_log import EventLog

TOPIC = "0123456789abcdef0123456789abcdef"


def events(offsets: list[int], user: str = "u", hashes: list[int] | None = None) -> pa.Table:
    n = len(offsets)
    return events_table(
        offsets,
        [f"{user}{o % 3}" for o in offsets],
        [f"i{o % 5}" for o in offsets],
        [o % 4 for o in offsets],
        [float(o) for o in offsets],
        [1_700_000_000_000 + o for o in offsets],
        [1_000 + o for o in offsets] if hashes is None else hashes[:n],
    )


def make(folder: Path, segment_events: int = 10) -> EventLog:
    return EventLog(str(folder / "log"), TOPIC, segment_events=segment_events)


def values(log: EventLog) -> list[float]:
    return log.read().values.tolist()


def test_what_is_appended_is_read_in_order_of_offset(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.append(0, 0, 4, events([0, 1, 2, 4]))
    log.append(1, 7, 8, events([7, 8], user="v"))
    log.append(0, 5, 6, events([5, 6]))
    read = make(tmp_path).read()
    assert read.values.tolist() == [0, 1, 2, 4, 5, 6, 7, 8]
    assert [read.user_ids[c] for c in read.user_codes][:3] == ["u0", "u1", "u2"]
    assert [read.item_ids[c] for c in read.item_codes] == [f"i{o % 5}" for o in (0, 1, 2, 4, 5, 6, 7, 8)]
    assert log.next_offsets() == {0: 7, 1: 9}
    assert log.n_events() == 8


def test_an_empty_log_reads_as_no_events(tmp_path: Path) -> None:
    log = make(tmp_path)
    assert len(log.read()) == 0
    assert log.next_offsets() == {}


def test_a_range_of_refused_records_alone_is_covered(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.append(0, 0, 9, events([]))
    assert log.next_offsets() == {0: 10}
    assert len(log.read()) == 0


def test_reading_stops_below_the_offsets_named(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.append(0, 0, 9, events(list(range(10))))
    log.append(1, 0, 9, events(list(range(10, 20)), user="v").slice(0, 0))
    assert log.read({0: 4}).values.tolist() == [0, 1, 2, 3]
    assert len(log.read({1: 10})) == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8)), min_size=1, max_size=12), st.integers(1, 30))
def test_appending_ranges_again_in_any_cut_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, int]], size: int
) -> None:
    log = make(tmp_path_factory.mktemp("log"), size)
    end = 0
    for first, length in cuts:
        start = min(first, end)
        log.append(0, start, start + length, events(list(range(start, start + length + 1))))
        end = max(end, start + length + 1)
        assert log.next_offsets() == {0: end}
    assert values(log) == [float(o) for o in range(end)]


def test_a_hole_is_refused(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.append(0, 0, 4, events([0]))
    with pytest.raises(Fatal, match="hole"):
        log.append(0, 6, 7, events([6]))
    with pytest.raises(Fatal, match="range"):
        log.append(0, 9, 8, events([]))


def test_small_segments_are_merged_up_to_the_bound(tmp_path: Path) -> None:
    log = make(tmp_path, segment_events=10)
    for offset in range(25):
        log.append(0, offset, offset, events([offset]))
    assert [(s.first, s.last) for s in log.segments()] == [(0, 9), (10, 19), (20, 24)]
    assert values(log) == [float(o) for o in range(25)]


def test_a_crash_between_merge_and_removal_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = make(tmp_path)
    log.append(0, 0, 2, events([0, 1, 2]))
    monkeypatch.setattr(Storage, "remove", lambda self, name: None)
    log.append(0, 3, 4, events([3, 4]))
    assert len(log.segments()) == 2
    assert values(log) == [0, 1, 2, 3, 4]
    monkeypatch.undo()
    assert log.verify() == []
    assert len(log.segments()) == 1
    assert values(log) == [0, 1, 2, 3, 4]


def test_a_second_writer_with_other_cuts_doubles_nothing(tmp_path: Path) -> None:
    log = make(tmp_path, segment_events=1)
    log.append(0, 0, 4, events(list(range(5))))
    log.append(0, 5, 9, events(list(range(5, 10))))
    (tmp_path / "other").mkdir()
    other = make(tmp_path / "other", segment_events=1)
    other.append(0, 0, 6, events(list(range(7))))
    source = tmp_path / "other/log/partition=0"
    for path in source.iterdir():
        path.rename(tmp_path / "log/partition=0" / path.name)
    assert values(log) == [float(o) for o in range(10)]


@pytest.mark.parametrize("keep", [0, 3, 100])
def test_a_torn_segment_is_set_aside_and_its_range_read_again(tmp_path: Path, keep: int) -> None:
    log = make(tmp_path, segment_events=3)
    for first in (0, 3, 6):
        log.append(0, first, first + 2, events([first, first + 1, first + 2]))
    middle = tmp_path / "log" / log.segments()[1].name
    middle.write_bytes(middle.read_bytes()[:keep])
    assert 3.0 not in values(log)
    log = make(tmp_path, segment_events=3)
    assert [(s.first, s.last) for s in log.verify()] == [(3, 5)]
    assert log.next_offsets() == {0: 3}
    log.append(0, 3, 8, events(list(range(3, 9))))
    assert log.next_offsets() == {0: 9}
    assert values(log) == [float(o) for o in range(9)]


def test_a_torn_first_segment_is_read_again_from_where_the_log_began(tmp_path: Path) -> None:
    log = make(tmp_path, segment_events=3)
    for first in (5, 8, 11):
        log.append(0, first, first + 2, events([first, first + 1, first + 2]))
    (tmp_path / "log" / log.segments()[0].name).write_bytes(b"PAR1")
    assert [s.first for s in make(tmp_path).verify()] == [5]
    log = make(tmp_path, segment_events=3)
    assert log.next_offsets() == {0: 5} and values(log) == []
    log.append(0, 5, 6, events([5, 6]))
    assert log.next_offsets() == {0: 7}
    log.append(0, 7, 9, events([7, 8, 9]))
    assert log.next_offsets() == {0: 14}
    assert values(log) == [float(o) for o in range(5, 14)]


def test_a_torn_only_segment_is_read_again_from_where_the_log_began(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.append(0, 5, 7, events([5, 6, 7]))
    (tmp_path / "log" / log.segments()[0].name).write_bytes(b"")
    log.verify()
    assert log.next_offsets() == {0: 5}
    log.append(0, 5, 8, events([5, 6, 7, 8]))
    assert values(log) == [5, 6, 7, 8]


def test_what_kafka_has_no_more_is_bridged_and_costs_no_good_segment(tmp_path: Path) -> None:
    log = make(tmp_path, segment_events=3)
    for first in (0, 3, 6):
        log.append(0, first, first + 2, events([first, first + 1, first + 2]))
    (tmp_path / "log" / log.segments()[0].name).write_bytes(b"")
    (tmp_path / "log" / log.segments()[1].name).write_bytes(b"")
    log.verify()
    assert [(s.first, s.last) for s in log.bridge({0: 20, 1: 4})] == [(0, 5), (9, 19)]
    assert log.next_offsets() == {0: 20}
    log.append(0, 20, 20, events([20]))
    assert values(log) == [6, 7, 8, 20]
    assert log.bridge({0: 20, 1: 4}) == []


def test_what_kafka_still_has_is_not_bridged(tmp_path: Path) -> None:
    log = make(tmp_path, segment_events=3)
    for first in (0, 3, 6):
        log.append(0, first, first + 2, events([first, first + 1, first + 2]))
    (tmp_path / "log" / log.segments()[1].name).write_bytes(b"")
    log.verify()
    assert log.bridge({0: 0}) == [] == log.bridge({0: 3})
    assert [(s.first, s.last) for s in log.bridge({0: 5})] == [(3, 4)]
    assert log.next_offsets() == {0: 5}


def test_a_flipped_bit_in_the_columns_is_found(tmp_path: Path) -> None:
    log = make(tmp_path, segment_events=100)
    log.append(0, 0, 49, events(list(range(50))))
    path = tmp_path / "log" / log.segments()[0].name
    content = bytearray(path.read_bytes())
    for at in range(60, len(content) // 2, 31):
        path.write_bytes(bytes(content[:at]) + bytes([content[at] ^ 4]) + bytes(content[at + 1 :]))
        if (reason := log._reason_broken(log.segments()[0])) is None:
            assert values(log) == [float(o) for o in range(50)], f"byte {at}"
        else:
            assert reason


def test_a_segment_that_breaks_before_it_is_merged_is_transient(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.append(0, 0, 1, events([0, 1]))
    (tmp_path / "log" / log.segments()[0].name).write_bytes(b"PAR1")
    with pytest.raises(Transient, match="set aside"):
        log.append(0, 2, 2, events([2]))


def test_files_that_killed_writers_left_are_swept_when_nobody_can_be_writing_them(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.append(0, 0, 0, events([0]))
    old, new = (tmp_path / "log/partition=0" / f".{character * 32}.tmp" for character in "ab")
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    log.verify()
    assert not old.exists() and new.exists()


def test_an_event_sent_twice_counts_once(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.append(0, 0, 6, events([0, 1, 3, 6], hashes=[11, 12, 11, 11]))  # users 0, 1, 0, 0
    assert values(log) == [0, 1]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 2**63, 2**64 - 1])), max_size=40))
def test_of_events_repeated_within_a_window_the_first_stays(sent: list[tuple[int, int]]) -> None:
    table = events_table(
        list(range(len(sent))),
        [f"u{user}" for user, _ in sent],
        ["i"] * len(sent),
        [0] * len(sent),
        [float(place) for place in range(len(sent))],
        [1_700_000_000_000] * len(sent),
        [event_hash for _, event_hash in sent],
    )
    kept = columns_of([0], [table], duplicate_chunk=1_024).values.tolist()
    assert kept == [place for place, event in enumerate(sent) if sent.index(event) == place]


def test_a_topic_made_anew_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(Fatal, match="another topic"):
        EventLog(str(tmp_path / "log"), "f" * 32)
    assert EventLog(str(tmp_path / "log")).next_offsets() == {}


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"layout": 2, "topic_id": "x"}'])
def test_an_unreadable_or_newer_layout_is_refused(tmp_path: Path, content: bytes) -> None:
    make(tmp_path)
    (tmp_path / "log/topic.json").write_bytes(content)
    with pytest.raises(Fatal, match="event log"):
        make(tmp_path)


def test_foreign_files_are_left_alone_and_not_read(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.append(0, 0, 0, events([0]))
    (tmp_path / "log/partition=0/notes.txt").write_text("mine")
    (tmp_path / "log/partition=x").mkdir()
    log.verify()
    assert values(log) == [0]
    assert (tmp_path / "log/partition=0/notes.txt").exists()


def test_a_full_disk_is_transient_and_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = make(tmp_path)
    log.append(0, 0, 1, events([0, 1]))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(Transient, match="disk is full"):
        log.append(0, 2, 3, events([2, 3]))
    monkeypatch.undo()
    assert values(log) == [0, 1]
    assert not list((tmp_path / "log/partition=0").glob(".*"))
    log.append(0, 2, 3, events([2, 3]))
    assert values(log) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["../x", "a/../b", "/etc/x", "a//b", "", "a/.hidden", "a\nb", "a\\b"])
def test_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    store = Storage(str(tmp_path / "s"))
    for act in (lambda: store.write(name, b""), lambda: store.read(name, 1), lambda: store.remove(name), lambda: store.url_of(name)):
        with pytest.raises(Fatal, match="storage name"):
            act()


def test_storage_works_on_an_object_store_url() -> None:
    log = EventLog("memory://log-of-a-test", TOPIC)
    log.append(0, 0, 1, events([0, 1]))
    log.append(0, 2, 2, events([2]))
    assert values(EventLog("memory://log-of-a-test", TOPIC)) == [0, 1, 2]


def test_a_file_larger_than_its_cap_is_not_read(tmp_path: Path) -> None:
    store = Storage(str(tmp_path))
    store.write("a", b"12345")
    with pytest.raises(Fatal, match="5 bytes"):
        store.read("a", 4)


def test_codes_are_dense_for_numpy(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.append(0, 0, 4, events(list(range(5))))
    log.append(1, 0, 4, events(list(range(5)), user="w"))
    read = log.read()
    assert read.user_codes.dtype == np.int32
    assert int(read.user_codes.max()) < len(read.user_ids) == len(set(read.user_ids))
