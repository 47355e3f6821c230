"""Decompression of record batches within a budget of bytes, the same for aiokafka and kafka-python.

A batch of 1 MB may expand to a gigabyte. Every codec here stops at the budget, so that a batch takes no more memory than that, whatever its
producer put into it. Codecs besides gzip come from `cramjam`, which both clients then share.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

CODECS: Final = ("gzip", "snappy", "lz4", "zstd")
NAMES: Final[Mapping[int, str]] = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
"""Codec by its number in the attributes of a batch."""
FIRST_GUESS: Final = 16
"""A batch is first given this many times its compressed size; one that needs more is given the whole budget."""
LEAST_BYTES: Final = 65_536
MAX_HEADERS: Final = 10_000
"""Headers of one record. Kafka's own clients put in fewer than ten; a header of two bytes takes sixty in memory."""
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16
_NO_ROOM: Final = "failed to write whole buffer"
"""What cramjam says of data that do not fit into the buffer that it was given."""

cramjam: Any
try:
    import cramjam
except ImportError:  # a broken installation is reported with its remedy when a batch asks for it
    cramjam = None


class CompressionError(ValueError):
    """A batch that cannot be unpacked."""


class BatchTooLarge(CompressionError):
    """It is larger than the budget."""


class DamagedData(CompressionError):
    """Its bytes are none of this codec."""


class CodecMissing(CompressionError):
    """The library of this codec is not installed."""


def has_codec(codec: str) -> bool:
    """Return whether this installation can read and write a codec."""
    return codec in ("none", "gzip") or (codec in CODECS and cramjam is not None)


def missing_codec(codec: str) -> str:
    """Say what to do about a codec that is not there."""
    return f"the {codec} codec is not installed: run `pip install cramjam` (or install recsys-stream again) and restart"


def decompress(codec: str, payload: Any, max_bytes: int) -> bytes:
    """Unpack the records of a batch. Raises BatchTooLarge, DamagedData or CodecMissing."""
    if not has_codec(codec):
        raise CodecMissing(missing_codec(codec))
    data = memoryview(payload)
    if codec == "gzip":
        return _gunzip(data, max_bytes)
    if codec == "snappy":
        return _unsnap(data, max_bytes)
    return _into_buffer(codec, data, max_bytes)


def compress(codec: str, payload: bytes) -> bytes:
    """Pack records as Kafka's own clients do."""
    from aiokafka import codec as packers

    packer: Callable[[bytes], bytes] = getattr(packers, f"{codec}_encode")
    return packer(payload)


def _too_large(max_bytes: int) -> BatchTooLarge:
    return BatchTooLarge(f"more than {max_bytes} bytes when unpacked")


def _gunzip(data: memoryview, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    left, rest = max_bytes, bytes(data)
    while rest:
        unpacker = zlib.decompressobj(wbits=31)  # a gzip header and trailer
        try:
            part = unpacker.decompress(rest, left + 1)
            if len(part) > left:
                raise _too_large(max_bytes)
            if not unpacker.eof:
                raise DamagedData("gzip: cut off")
        except zlib.error as error:
            raise DamagedData(f"gzip: {error}") from None
        parts.append(part)
        left -= len(part)
        rest = unpacker.unused_data.lstrip(b"\0")  # members may be padded with zeros
    if not parts:
        raise DamagedData("gzip: nothing there")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _into_buffer(codec: str, data: memoryview, max_bytes: int) -> bytes:
    """Unpack into a buffer that cannot grow. Pages that are not written take no memory."""
    for size in sorted({min(max_bytes, max(LEAST_BYTES, FIRST_GUESS * len(data))), max_bytes}):
        buffer = bytearray(size)
        try:
            written = getattr(cramjam, codec).decompress_into(data, buffer)
        except cramjam.DecompressionError as error:
            if _NO_ROOM not in str(error):
                raise DamagedData(f"{codec}: {error}") from None
        else:
            return bytes(memoryview(buffer)[:written])
    raise _too_large(max_bytes)


def _unsnap(data: memoryview, max_bytes: int) -> bytes:
    """Unpack plain snappy, or the blocks that Java clients write: their lengths are known before they are unpacked."""
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return _snappy_block(data, max_bytes, max_bytes)
    blocks: list[bytes] = []
    at, left = _XERIAL_HEADER_BYTES, max_bytes
    while at < len(data):
        if at + 4 > len(data):
            raise DamagedData("snappy: cut off")
        length = struct.unpack_from("!i", data, at)[0]
        at += 4
        if length < 0 or at + length > len(data):
            raise DamagedData("snappy: cut off")
        blocks.append(_snappy_block(data[at : at + length], left, max_bytes))
        left -= len(blocks[-1])
        at += length
    return b"".join(blocks)


def _snappy_block(block: memoryview, left: int, max_bytes: int) -> bytes:
    try:
        length = cramjam.snappy.decompress_raw_len(block)
        if length > left:
            raise _too_large(max_bytes)
        return bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as error:
        raise DamagedData(f"snappy: {error}") from None


def unpack_records(codec: str, payload: Any, max_bytes: int) -> bytes:
    """Unpack a batch of Kafka's format 2, and refuse one with a record whose headers would take a parser gigabytes."""
    records = decompress(codec, payload, max_bytes)
    if len(records) >= 2 * MAX_HEADERS:
        from workers.kafka.batch_kernel import most_headers  # numba: a second, for those that only list a few letters

        if (n_headers := most_headers(np.frombuffer(records, np.uint8), MAX_HEADERS)) > MAX_HEADERS:
            raise BatchTooLarge(f"a record with {n_headers} headers")
    return records
