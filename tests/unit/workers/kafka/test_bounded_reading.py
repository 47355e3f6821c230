"""aiokafka reads within bounds, and passes over no record silently (C02, C24, S1, S2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aiokafka.consumer import fetcher as fetcher_module
from aiokafka.record import MemoryRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from schemas.dead_letters import make_dead_letter
from schemas.decoding import decode_events, decode_item
from schemas.errors import Poison
from schemas.unreadable import Unreadable
from workers.errors import Fatal
from workers.kafka import bounded_reading, compression
from workers.kafka.bounded_reading import GAPS, MAX_VALUE_BYTES, POLL_BYTES, RULES, BoundedFetchResult, BoundedPartitionRecords, install
from workers.kafka.compression import CODECS
from workers.settings import KafkaSettings, load_settings

Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]
CRC_AT = 17
ATTRIBUTES_AT = 21
CODEC = {name: number for number, name in compression.NAMES.items()}


@pytest.fixture(autouse=True)
def _rules(monkeypatch: pytest.MonkeyPatch) -> None:
    install(load_settings(kafka={"max_batch_bytes": 1024 * 1024}, topics={"events": "strict"}))
    monkeypatch.setattr(bounded_reading, "_failures", {})


def batch_of(records: Sequence[Record], first: int = 0, codec: str = "none", transactional: bool = False) -> bytes:
    """A batch as a producer sends it, at an offset as a broker notes it."""
    producer = (7, 0, 0) if transactional else (-1, -1, -1)
    builder = DefaultRecordBatchBuilder(2, CODEC[codec], int(transactional), *producer, 1 << 30)
    for number, (key, value, headers) in enumerate(records):
        assert builder.append(number, 1_000 + number, key, value, headers) is not None
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, first)
    return bytes(built)


def values(*found: bytes) -> list[Record]:
    return [(b"u", value, []) for value in found]


def reader(fetched: bytes, topic: str = "t", position: int = 0, **options: Any) -> BoundedPartitionRecords:
    place = TopicPartition(topic, 0)
    aborted, isolation = options.get("aborted"), fetcher_module.READ_COMMITTED
    return BoundedPartitionRecords(place, MemoryRecords(fetched), aborted, position, None, None, True, isolation)


def resealed(batch: bytearray) -> bytes:
    """The same with the checksum of what is in it now."""
    from aiokafka.record.util import calc_crc32c

    struct.pack_into(">I", batch, CRC_AT, calc_crc32c(bytes(batch[ATTRIBUTES_AT:])))
    return bytes(batch)


@pytest.mark.parametrize("codec", ["none", *CODECS])
def test_every_codec_is_read(codec: str) -> None:
    sent = [b"v" * n for n in range(100)]
    found = list(reader(batch_of(values(*sent), 5, codec), position=7))
    assert [(record.offset, record.key, record.value, record.timestamp) for record in found] == [
        (5 + n, b"u", sent[n], 1_000 + n) for n in range(2, 100)
    ]


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_beyond_the_budget_is_one_dead_letter_and_the_next_one_is_read(codec: str) -> None:
    """S1: values of `A` in one small batch that expand beyond the budget."""
    bomb = batch_of(values(*[b"A" * 500_000] * 5), 10, codec)
    assert len(bomb) < 400_000
    found = list(reader(bomb + batch_of(values(b"good"), 15), position=10))
    assert [record.offset for record in found] == [14, 15]
    assert found[1].value == b"good"
    value = found[0].value
    assert isinstance(value, Unreadable) and value.poison.kind == "batch_too_large"
    decoded = decode_events([(found[0].key, value)], record_ts_ms=[-1], future_skew_ms=0)
    letter = make_dead_letter(
        decoded.poisons[0][1],
        source_topic="t",
        source_partition=0,
        source_offset=14,
        source_timestamp_ms=-1,
        key=None,
        value=value,
        dead_letter_ts_ms=1_763_200_000_000,
    )
    assert (letter.source_offset, letter.source_last_offset, letter.kind) == (10, 14, "batch_too_large")
    assert "offsets 10 to 14" in letter.reason and "kafka.max_batch_bytes" in letter.reason
    with pytest.raises(Poison, match="offsets 10 to 14"):
        decode_item(value, found[0].key)


def test_a_record_with_headers_without_end_is_refused_before_they_are_unpacked() -> None:
    bomb = batch_of([(b"u", b"v", [("", None)] * 50_000)], 0, "gzip")
    (found,) = reader(bomb)
    assert found.value.poison.kind == "batch_too_large" and "50000 headers" in found.value.poison.reason


def test_headers_are_handed_out_and_count_towards_the_budget() -> None:
    headers = [("trace", b"abc"), ("empty", None)]
    read = reader(batch_of([(b"u", b"v", headers), (b"u", b"v", [])]))
    assert [list(record.headers) for record in read] == [headers, []]
    assert read.n_bytes == 2 * (bounded_reading.RECORD_BYTES + 2) + 2 * bounded_reading.HEADER_BYTES + len("traceabcempty")


def test_headers_that_are_no_text_cost_their_batch_only() -> None:
    spoilt = bytearray(batch_of([(b"u", b"v", [("hh", b"x")])]))
    spoilt = spoilt.replace(b"hh", b"\xff\xfe")
    found = list(reader(resealed(spoilt) + batch_of(values(b"good"), 1)))
    assert [record.value for record in found][-1] == b"good"
    assert len(found) == 2


def test_a_large_value_leaves_its_hash_and_its_neighbours() -> None:
    import hashlib

    RULES.max_batch_bytes = 32 * 1024 * 1024
    large = b"A" * (MAX_VALUE_BYTES + 1)
    found = list(reader(batch_of([(b"u", b"a", []), (b"u", large, []), (large, b"b", []), (b"u", b"c", [])], 0, "zstd")))
    assert [record.offset for record in found] == [0, 1, 2, 3]
    assert [record.value for record in found] == [b"a", b"", b"", b"c"]
    assert found[1].value.payload_sha256 == hashlib.sha256(large).hexdigest()
    assert [found[n].value.poison.field for n in (1, 2)] == ["record", "key"]


def test_damage_on_the_wire_is_fetched_again_and_on_the_disk_stops_events_and_passes_over_others() -> None:
    damaged = bytearray(batch_of(values(b"aaaa", b"bbbb"), 3))
    damaged[-3] ^= 1
    for topic in ("strict", "items"):
        for _ in range(bounded_reading.CHECKSUM_TRIES - 1):
            with pytest.raises(bounded_reading._FetchAgain):
                next(reader(bytes(damaged), topic, 3))
    with pytest.raises(Fatal, match=r"topic strict, partition 0, batch at offset 3 .*checksum.*restore.*kafka\.damaged_batches"):
        next(reader(bytes(damaged), "strict", 3))
    (found,) = reader(bytes(damaged), "items", 3)
    assert (found.offset, found.value.poison.kind) == (4, "damaged_batch")
    RULES.passes_damage = True
    (found,) = reader(bytes(damaged), "strict", 3)
    assert (found.offset, found.value.poison.kind) == (4, "damaged_batch")


def test_a_missing_codec_stops_events_with_one_line_and_is_a_dead_letter_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """C02 and S2 as they were: no codec is installed."""
    packed = batch_of(values(b"a"), 0, "zstd")
    monkeypatch.setattr(compression, "cramjam", None)
    with pytest.raises(Fatal, match=r"topic strict, partition 0, batch at offset 0 is compressed with zstd: .*pip install cramjam"):
        list(reader(packed, "strict"))
    (found,) = reader(packed, "items")
    assert found.value.poison.kind == "unsupported_codec" and "pip install cramjam" in found.value.poison.reason


@pytest.mark.parametrize("spoil", ["codec", "magic", "bytes", "count"])
def test_what_no_parser_knows_is_a_dead_letter_of_its_batch(spoil: str) -> None:
    batch = bytearray(batch_of(values(b"a" * 50, b"b" * 50), 8, "gzip" if spoil == "bytes" else "none"))
    if spoil == "codec":
        batch[ATTRIBUTES_AT + 1] |= 6
    elif spoil == "magic":
        batch[16] = 3
    elif spoil == "bytes":
        batch[61:] = b"?" * (len(batch) - 61)
    else:
        batch[61] = 0x7F
    found = list(reader(resealed(batch) + batch_of(values(b"good"), 10), "strict", 8))
    assert [record.offset for record in found] == [9, 10] and found[1].value == b"good"
    assert found[0].value.poison.kind in ("unreadable_batch", "unsupported_codec")


def test_aborted_records_are_no_records_and_the_gap_is_known() -> None:
    """C24: a gap that the log itself has is told from records that were lost on the way."""
    aborted = batch_of(values(b"x", b"y"), 4, "zstd", transactional=True)
    found = list(reader(batch_of(values(b"a"), 3) + aborted + batch_of(values(b"b"), 6), "gaps", 3, aborted=[(7, 4)]))
    assert [(record.offset, record.value) for record in found] == [(3, b"a"), (6, b"b")]
    assert GAPS.start_of(("gaps", 0), 6) == 4
    trailing = reader(batch_of(values(b"c"), 7) + batch_of(values(b"z"), 8, transactional=True), "gaps", 7, aborted=[(7, 8)])
    assert [record.offset for record in trailing] == [7]
    assert trailing.next_fetch_offset == 9 and GAPS.start_of(("gaps", 0), 9) == 8
    assert [record.offset for record in reader(batch_of(values(b"d"), 12), "gaps", 9)] == [12]
    assert GAPS.start_of(("gaps", 0), 12) == 8, "a gap that goes on over two fetches is one"


class _State:
    paused, position = False, 0

    def consumed_to(self, position: int) -> None:
        self.position = position


class _Assignment:
    active = True

    def __init__(self) -> None:
        self.state = _State()

    def state_value(self, tp: TopicPartition) -> _State:
        return self.state


def fetched(records: BoundedPartitionRecords) -> BoundedFetchResult:
    return BoundedFetchResult(TopicPartition("t", 0), assignment=_Assignment(), partition_records=records, backoff=0)


@pytest.fixture
def _fresh_budget() -> Iterator[None]:
    token = bounded_reading._budget.set(None)
    yield
    bounded_reading._budget.reset(token)


@pytest.mark.usefixtures("_fresh_budget")
def test_one_poll_hands_out_no_more_than_its_budget_over_all_partitions() -> None:
    RULES.max_batch_bytes = 2 * POLL_BYTES
    value = b"A" * (MAX_VALUE_BYTES - 1)
    n_records = POLL_BYTES // MAX_VALUE_BYTES + 8
    partitions = [fetched(reader(batch_of(values(*[value] * n_records), 0, "zstd"))) for _ in range(2)]
    found = []
    while any(partition.has_more() for partition in partitions):
        bounded_reading._budget.set(bounded_reading._Budget())
        polled = [record for partition in partitions for record in partition.getall(16_000)]
        assert 0 < sum(len(record.value) for record in polled) <= POLL_BYTES + len(value)
        found += polled
    assert len(found) == 2 * n_records


@pytest.mark.usefixtures("_fresh_budget")
def test_records_before_a_bad_batch_are_handed_out_before_it_stops_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = batch_of(values(b"a", b"b")) + batch_of(values(b"c"), 2, "zstd")
    monkeypatch.setattr(compression, "cramjam", None)
    result = fetched(reader(packed, "strict"))
    assert [record.value for record in result.getall()] == [b"a", b"b"]
    assert not result.has_more() and result._assignment.state.position == 2
    result = fetched(reader(packed, "strict", 2))
    result._assignment.state.position = 2
    with pytest.raises(Fatal):
        result.getall()


def test_sixteen_thousand_events_in_one_batch_pass() -> None:
    RULES.max_batch_bytes = KafkaSettings().max_batch_bytes
    event = b'{"event_id":"%032d","user_id":"u%d","item_id":"i%d","type":"play","event_ts_ms":1763200000000,"list_id":"%032d"}'
    sent = [(b"u%d" % n, event % (n, n, n % 97, n), []) for n in range(16_000)]
    assert [record.offset for record in reader(batch_of(sent, 0, "zstd"))] == list(range(16_000))
