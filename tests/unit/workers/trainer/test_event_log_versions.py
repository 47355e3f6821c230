"""The event log keeps all that an event says, and reads segments of every schema version."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import EVENT_TYPES, Event, encode, key_of, limits
from tests.builders import small_settings
from workers.errors import Fatal
from workers.kafka.records import Record
from workers.settings import WeightSettings
from workers.trainer import event_log as event_log_module
from workers.trainer import log_tail
from workers.trainer.event_columns import CONTEXT_MAX_BYTES, SCHEMA, context_json, events_table, segment_bytes
from workers.trainer.event_log import EventLog
from workers.trainer.log_tail import LogTail, _Pending
from workers.trainer.training_columns import TrainingColumns

TOPIC = "0123456789abcdef0123456789abcdef"
TIME_MS = 1_700_000_000_000
VERSION_KEY = b"recsys.event_log.schema_version"
CODED = pa.dictionary(pa.int32(), pa.string())
VERSION_1 = pa.schema(
    [
        ("source_offset", pa.int64()),
        ("user_id", CODED),
        ("item_id", CODED),
        ("type", pa.int8()),
        ("value", pa.float64()),
        ("event_ts_ms", pa.int64()),
        ("event_hash", pa.uint64()),
    ]
)
"""The columns as the first version wrote them: a copy, so that a change of the program cannot change it."""


def write_version_1(folder: Path, first: int, last: int) -> Path:
    """Write a segment as the first version of the program did."""
    offsets = list(range(first, last + 1))
    table = pa.Table.from_arrays(
        [
            pa.array(offsets, pa.int64()),
            pa.array([f"u{o % 3}" for o in offsets]).dictionary_encode(),
            pa.array([f"i{o}" for o in offsets]).dictionary_encode(),
            pa.array([0] * len(offsets), pa.int8()),
            pa.array([float(o) for o in offsets], pa.float64()),
            pa.array([TIME_MS] * len(offsets), pa.int64()),
            pa.array(offsets, pa.uint64()),
        ],
        schema=VERSION_1,
    )
    path = folder / f"log/partition=0/{first:020d}-{last:020d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", use_dictionary=["user_id", "item_id"], write_page_checksum=True)
    return path


def table_of(first: int, last: int, **surroundings: Any) -> pa.Table:
    offsets = list(range(first, last + 1))
    n = len(offsets)
    return events_table(
        offsets, ["u"] * n, [f"i{o}" for o in offsets], [0] * n, [float(o) for o in offsets], [TIME_MS] * n, offsets, **surroundings
    )


def surrounded(first: int, last: int) -> pa.Table:
    offsets = range(first, last + 1)
    return table_of(
        first,
        last,
        list_ids=[f"l{o}" for o in offsets],
        positions=[o + 1 for o in offsets],
        sessions=[f"s{o // 2}" for o in offsets],
        contexts=[context_json({"page": o}) for o in offsets],
    )


def make(folder: Path, segment_events: int = 10) -> EventLog:
    return EventLog(str(folder / "log"), TOPIC, segment_events=segment_events)


def with_metadata(path: Path, metadata: dict[bytes, bytes]) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(metadata), path, write_page_checksum=True)


def found(log: EventLog) -> list[tuple[float, str | None, int, str | None, str | None]]:
    """Value, list, position, visit and context of every event."""
    read = log.read(surroundings=True)
    around = read.surroundings
    assert around is not None
    lists, sessions = ([ids[c] if c >= 0 else None for c in codes.tolist()] for ids, codes in
                       ((around.list_ids, around.list_codes), (around.sessions, around.session_codes)))  # fmt: skip
    return list(zip(read.values.tolist(), lists, around.positions.tolist(), sessions, around.contexts, strict=True))


def test_a_log_of_both_versions_reads_as_one(tmp_path: Path) -> None:
    make(tmp_path)
    write_version_1(tmp_path, 0, 2)
    log = make(tmp_path, segment_events=1)
    log.append(0, 3, 4, surrounded(3, 4))
    log.append(0, 5, 5, table_of(5, 5))
    assert log.verify() == []
    assert log.n_events() == 6
    assert log.read().values.tolist() == [0, 1, 2, 3, 4, 5]
    assert log.read().surroundings is None
    nothing = (None, 0, None, None)
    assert found(log) == [
        *((float(o), *nothing) for o in range(3)),
        (3, "l3", 4, "s1", '{"page":3}'),
        (4, "l4", 5, "s2", '{"page":4}'),
        (5, *nothing),
    ]


def test_a_log_of_version_1_alone_has_no_surroundings(tmp_path: Path) -> None:
    make(tmp_path)
    write_version_1(tmp_path, 0, 1)
    assert found(make(tmp_path)) == [(0, None, 0, None, None), (1, None, 0, None, None)]
    assert [make(tmp_path).read().user_ids[c] for c in make(tmp_path).read().user_codes] == ["u0", "u1"]


def test_a_segment_of_version_1_merges_with_what_follows(tmp_path: Path) -> None:
    make(tmp_path)
    write_version_1(tmp_path, 0, 2)
    log = make(tmp_path)
    log.append(0, 3, 4, surrounded(3, 4))
    [segment] = log.segments()
    assert pq.read_metadata(tmp_path / "log" / segment.name).metadata[VERSION_KEY] == b"2"
    assert [row[1] for row in found(log)] == [None, None, None, "l3", "l4"]


@pytest.mark.parametrize("act", ["read", "verify", "append"])
def test_a_segment_of_a_newer_program_stops_with_one_line_and_is_not_moved(tmp_path: Path, act: str) -> None:
    log = make(tmp_path)
    path = tmp_path / "log" / log.append(0, 0, 1, table_of(0, 1)).name
    with_metadata(path, {VERSION_KEY: b"3"})
    before = path.read_bytes()
    acts = {"read": log.read, "verify": log.verify, "append": lambda: log.append(0, 2, 2, table_of(2, 2))}
    with pytest.raises(Fatal) as caught:
        acts[act]()
    assert str(caught.value) == (
        "event log: segment partition=0/00000000000000000000-00000000000000000001.parquet has schema version 3, this version reads 1 to 2; "
        "run the version that wrote it, or move trainer.log_url away"
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize("stated", [b"two", b"", b"0", b"-2", b"2.0", b"\xff", b"9" * 400])
def test_a_damaged_version_is_named_and_the_segment_read_again(tmp_path: Path, stated: bytes, caplog: pytest.LogCaptureFixture) -> None:
    log = make(tmp_path)
    with_metadata(tmp_path / "log" / log.append(0, 0, 1, table_of(0, 1)).name, {VERSION_KEY: stated})
    with caplog.at_level(logging.WARNING):
        assert [segment.first for segment in log.verify()] == [0]
    [line] = [record.getMessage() for record in caplog.records]
    assert line.endswith("is set aside: ArrowInvalid: its schema version is no number")
    log.append(0, 0, 1, table_of(0, 1))
    assert log.read().values.tolist() == [0, 1]


def test_a_segment_that_states_version_2_without_its_columns_is_set_aside(tmp_path: Path) -> None:
    make(tmp_path)
    with_metadata(write_version_1(tmp_path, 0, 1), {VERSION_KEY: b"2"})
    log = make(tmp_path)
    assert [segment.first for segment in log.verify()] == [0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"positions": [0]},
        {"positions": [limits.MAX_POSITION + 1]},
        {"list_ids": [""]},
        {"sessions": ["x" * 129]},
        {"contexts": ["x" * (CONTEXT_MAX_BYTES + 1)]},
    ],
)
def test_a_segment_with_what_no_event_may_say_is_set_aside(tmp_path: Path, wrong: dict[str, Any]) -> None:
    make(tmp_path)
    path = tmp_path / "log/partition=0" / f"{0:020d}-{0:020d}.parquet"
    path.parent.mkdir()
    path.write_bytes(segment_bytes(table_of(0, 0, **wrong)))
    assert [segment.first for segment in make(tmp_path).verify()] == [0]


def test_long_contexts_end_a_segment_before_its_events_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log_module, "MERGED_MAX_BYTES", 20_000)
    log = make(tmp_path, segment_events=1_000)
    for first in (0, 10, 20):
        contexts = [context_json({"query": "".join(chr(0x4E00 + (o * 7919 + c * 104729) % 20_000) for c in range(256))})
                    for o in range(first, first + 10)]  # fmt: skip
        log.append(0, first, first + 9, table_of(first, first + 9, contexts=contexts))
    assert len(log.segments()) > 1
    assert len(log.read()) == 30
    monkeypatch.setattr(log_tail, "PENDING_MAX_CHARS", 1_000)
    pending = _Pending(0, 0)
    pending.n_context_chars = 999
    assert not pending.is_full(10)
    pending.n_context_chars += 1
    assert pending.is_full(10)


# The whole way: what a producer sends ▸ LogTail ▸ segment ▸ what is read

ids = st.sampled_from(["a", "b", "ü", "x" * 128])
kept_events = st.builds(
    Event,
    event_id=st.uuids().map(str),
    user_id=st.sampled_from(["u1", "u2"]),
    item_id=ids,
    type=st.sampled_from(EVENT_TYPES),
    value=st.floats(-5, 5),
    event_ts_ms=st.integers(TIME_MS, TIME_MS + 10**9),
    list_id=st.none() | ids,
    position=st.none() | st.integers(1, limits.MAX_POSITION),
    session=st.none() | ids,
    context=st.dictionaries(
        st.text("abé", min_size=1, max_size=3), st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | ids, max_size=3
    ),
)


def records_of(sent: list[Event]) -> list[Record]:
    return [
        Record(topic="recsys.events", partition=0, source_offset=o, source_timestamp_ms=-1, key=key_of(event), value=encode(event))
        for o, event in enumerate(sent)
    ]


@settings(max_examples=30, deadline=None)
@given(sent=st.lists(kept_events, min_size=1, max_size=12), cut=st.integers(1, 12))
def test_the_log_keeps_all_that_events_say(tmp_path_factory: pytest.TempPathFactory, sent: list[Event], cut: int) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = make(folder)
    tail = LogTail(small_settings(), log)
    records = records_of(sent)
    for start in range(0, len(records), cut):
        pending = _Pending(start, start)
        tail._take(pending, records[start : start + cut])
        tail._write(0, pending)
    read = make(folder).read(surroundings=True)
    assert [EVENT_TYPES[code] for code in read.types.tolist()] == [event.type for event in sent]
    around = found(make(folder))
    assert [row[1:4] for row in around] == [(event.list_id, event.position or 0, event.session) for event in sent]
    assert [json.loads(row[4] or "{}") for row in around] == [event.context for event in sent]
    assert all(row[4] is None or list(json.loads(row[4])) == sorted(json.loads(row[4])) for row in around)


def test_surroundings_stay_with_their_events_where_repeats_fall_out(tmp_path: Path) -> None:
    log = make(tmp_path)
    table = surrounded(0, 4)
    hashes = pa.array([1, 2, 1, 3, 2], pa.uint64())
    log.append(0, 0, 4, table.set_column(SCHEMA.get_field_index("event_hash"), SCHEMA.field("event_hash"), hashes))
    assert [row[:2] for row in found(log)] == [(0, "l0"), (1, "l1"), (3, "l3")]


def test_impressions_are_kept_and_no_training_sees_them(tmp_path: Path) -> None:
    log = make(tmp_path)
    log.append(0, 0, 4, surrounded(0, 4))
    assert len(log.read()) == 5
    assert len(TrainingColumns.of(log.read(), WeightSettings())) == 0


def test_a_file_states_its_version(tmp_path: Path) -> None:
    log = make(tmp_path)
    segment = log.append(0, 0, 1, table_of(0, 1))
    schema = pq.read_schema(io.BytesIO((tmp_path / "log" / segment.name).read_bytes()))
    assert schema.metadata[VERSION_KEY] == b"2"
    assert schema.names == [*VERSION_1.names, "list_id", "position", "session", "context"]
