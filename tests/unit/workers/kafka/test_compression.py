"""Batches are unpacked within a budget, by every codec, for both clients (C02, S1)."""

from __future__ import annotations

import gzip

import aiokafka.codec
import kafka.codec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.kafka import compression
from workers.kafka.bounded_kafka_python import install as install_kafka_python
from workers.kafka.compression import CODECS, BatchTooLarge, CodecMissing, DamagedData, compress, decompress
from workers.settings import KafkaSettings

MIB = 1024 * 1024


@pytest.mark.parametrize("codec", CODECS)
@given(payload=st.binary(max_size=2_000), times=st.integers(1, 50))
def test_what_is_packed_is_unpacked_the_same(codec: str, payload: bytes, times: int) -> None:
    payload *= times
    assert decompress(codec, compress(codec, payload), 200_000) == payload


@pytest.mark.parametrize("codec", CODECS)
def test_the_budget_is_a_bound_to_the_byte(codec: str) -> None:
    packed = compress(codec, b"A" * MIB)
    assert len(decompress(codec, packed, MIB)) == MIB
    with pytest.raises(BatchTooLarge):
        decompress(codec, packed, MIB - 1)


@pytest.mark.parametrize("codec", CODECS)
def test_damaged_bytes_are_named_as_such(codec: str) -> None:
    packed = compress(codec, bytes(range(256)) * 20)
    for spoilt in (b"", packed[: len(packed) // 2], packed[:-3], b"?" + packed):
        with pytest.raises(DamagedData):
            decompress(codec, spoilt, MIB)


def test_members_of_gzip_share_one_budget() -> None:
    packed = gzip.compress(b"A" * 1000) * 3
    assert decompress("gzip", packed, 3000) == b"A" * 3000
    with pytest.raises(BatchTooLarge):
        decompress("gzip", packed, 2999)


def test_plain_snappy_is_read_too() -> None:
    packed = aiokafka.codec.snappy_encode(b"abc" * 100, xerial_compatible=False)
    assert decompress("snappy", packed, MIB) == b"abc" * 100


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_codec_that_is_not_installed_is_named_with_its_remedy(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = compress(codec, b"abc")
    monkeypatch.setattr(compression, "cramjam", None)
    with pytest.raises(CodecMissing, match=f"{codec} .*pip install cramjam"):
        decompress(codec, packed, MIB)


@pytest.mark.parametrize("codec", CODECS)
def test_kafka_python_reads_and_writes_every_codec(codec: str) -> None:
    from kafka.record import MemoryRecords, MemoryRecordsBuilder

    install_kafka_python(KafkaSettings())
    assert getattr(kafka.codec, f"has_{codec}")()
    builder = MemoryRecordsBuilder(magic=2, compression_type=CODECS.index(codec) + 1, batch_size=100_000)
    for number in range(100):
        builder.append(timestamp=number, key=b"k", value=b"v" * number, headers=[])
    builder.close()
    records = list(MemoryRecords(builder.buffer()).next_batch())
    assert [record.value for record in records] == [b"v" * number for number in range(100)]
