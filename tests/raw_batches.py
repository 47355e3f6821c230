"""Record batches built byte by byte, larger and stranger than any client builds them, and sent unchanged."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import cramjam
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c, encode_varint

from workers.kafka.compression import CODECS
from workers.kafka.connection import aiokafka_producer_arguments
from workers.settings import Settings

MEGABYTE = 1_000_000
Records = Iterable[tuple[bytes | None, bytes | None, int]]
"""Key, value, number of empty headers."""


def _varint(number: int) -> bytes:
    written = bytearray()
    encode_varint(number, written.append)
    return bytes(written)


def _encoded(records: Records) -> Iterator[bytes]:
    """Encode records in Kafka's format 2."""
    for number, (key, value, n_headers) in enumerate(records):
        body = b"\0" + _varint(0) + _varint(number)
        body += _varint(-1) if key is None else _varint(len(key)) + key
        body += _varint(-1) if value is None else _varint(len(value)) + value
        body += _varint(n_headers) + b"\0\x01" * n_headers
        yield _varint(len(body)) + body


def _packed(codec: str, parts: Iterable[bytes]) -> bytes:
    """Compress as a stream, so that this process stays small."""
    if codec == "gzip":
        squeeze = zlib.compressobj(9, wbits=31)
        return b"".join(map(squeeze.compress, parts)) + squeeze.flush()
    if codec == "snappy":
        packed = bytearray(b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1))
        for part in parts:
            block = bytes(cramjam.snappy.compress_raw(part))
            packed += struct.pack(">i", len(block)) + block
        return bytes(packed)
    options: dict[str, Any] = {"level": 9, "content_checksum": False, "block_linked": False} if codec == "lz4" else {"level": 3}
    compressor = getattr(cramjam, codec).Compressor(**options)
    for part in parts:
        compressor.compress(part)
    return bytes(compressor.finish())


def raw_batch(codec: str, records: Records) -> tuple[bytes, int]:
    """Return a batch and the number of bytes of its unpacked records."""
    n_records = n_bytes = 0

    def counted() -> Iterator[bytes]:
        nonlocal n_records, n_bytes
        for part in _encoded(records):
            n_records, n_bytes = n_records + 1, n_bytes + len(part)
            yield part

    joined = (b"".join(some) for some in _chunks(counted()))
    packed = _packed(codec, joined)
    now_ms = int(time.time() * 1000)
    number = CODECS.index(codec) + 1
    tail = struct.pack(">hiqqqhii", number, n_records - 1, now_ms, now_ms, -1, -1, -1, n_records) + packed
    head = struct.pack(">qiibI", 0, len(tail) + 9, -1, 2, calc_crc32c(tail))
    return head + tail, n_bytes


def _chunks(parts: Iterator[bytes], n: int = 10_000) -> Iterator[list[bytes]]:
    held: list[bytes] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if len(held) >= n or size > MEGABYTE:
            yield held
            held, size = [], 0
    if held:
        yield held


class RawBatch(BatchBuilder):  # type: ignore[misc]
    """A batch whose bytes are sent unchanged."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(len(raw), 0)
        self._raw = bytearray(raw)
        self.close()

    def _build(self) -> bytearray:
        return self._raw

    def size(self) -> int:
        return len(self._raw)

    def record_count(self) -> int:
        return 1


async def send_raw(settings: Settings, topic: str, partition: int, raw: bytes, times: int = 1) -> int:
    """Send a batch `times` times and wait for the broker; return the first offset of the last one."""
    arguments = aiokafka_producer_arguments(settings) | {"enable_idempotence": False}
    producer = AIOKafkaProducer(**arguments, max_request_size=2 * MEGABYTE)
    await producer.start()
    try:
        for _ in range(times):
            sent = await (await producer.send_batch(RawBatch(raw), topic, partition=partition))
    finally:
        await producer.stop()
    return int(sent.offset)
