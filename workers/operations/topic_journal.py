"""Keeps the records of the embedded broker's topics in files: the broker itself holds them in memory only.

One file for each partition, which only grows. A record is a frame: length and CRC-32 of the body, then the body: offset, timestamp, key,
value and headers. Offsets count from 0 without gaps, so records that are produced in this order to an empty topic get the same offsets.
A frame that was cut off by a kill, and whatever follows a damaged one, is dropped when the file is opened.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from workers.errors import Fatal
from workers.kafka.records import Place

_FRAME = struct.Struct("<II")  # bytes of the body, CRC-32 of the body
_BODY = struct.Struct("<qqiiH")  # offset, timestamp_ms, bytes of key and of value (-1: null), number of headers
_HEADER = struct.Struct("<Hi")  # bytes of name and of value (-1: null)
_NAME = re.compile(r"(.+)-(\d+)\.records")
MAX_BODY_BYTES = 256 * 1024 * 1024
"""More than any broker accepts in one record: a length beyond it is damage, not a record."""


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """One record as the broker held it."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class TopicJournal:
    """The records of all topics under one folder. One writer; call `open` first. Raises Fatal when the folder cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ends: dict[Place, int] = {}
        self._files: dict[Place, BinaryIO] = {}
        self._dirty: set[Place] = set()

    def open(self) -> None:
        """Find out where each partition ends, and cut off what is damaged."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(self._folder.iterdir()):
                if (name := _NAME.fullmatch(path.name)) is not None:
                    self._ends[(name[1], int(name[2]))] = _mend(path)
        except OSError as error:
            raise Fatal(f"the topics in {self._folder} cannot be read ({error.strerror}): correct the folder's rights") from None

    @property
    def ends(self) -> dict[Place, int]:
        """Next offset of each partition that has records."""
        return {place: end for place, end in self._ends.items() if end}

    def append(self, place: Place, records: Sequence[KeptRecord]) -> None:
        """Add records that follow the last one. Raises Fatal when offsets have a gap, OSError when the disk refuses."""
        end = self._ends.get(place, 0)
        if [record.offset for record in records] != list(range(end, end + len(records))):
            raise Fatal(f"topic {place[0]}, partition {place[1]}: its offsets have gaps (transactions?), so the folder cannot keep it")
        file = self._file(place)
        before = file.tell()
        try:
            file.write(b"".join(map(_framed, records)))
            file.flush()
        except OSError:
            file.truncate(before)  # whole or not at all
            raise
        self._ends[place] = end + len(records)
        self._dirty.add(place)

    def sync(self) -> None:
        """Wait until the disk has what was appended."""
        while self._dirty:
            os.fsync(self._files[self._dirty.pop()].fileno())

    def read(self, place: Place) -> Iterator[KeptRecord]:
        """Yield the records of a partition in order."""
        path = self._path(place)
        if path.exists():
            with path.open("rb") as file:
                for record, _ in _records(file):
                    yield record

    def compact(self, place: Place, newest: Callable[[KeptRecord, KeptRecord], KeptRecord]) -> None:
        """Keep one record of each key, the one that `newest` chooses of two, and none of a tombstone. Offsets are numbered from 0 again."""
        kept: dict[bytes | None, KeptRecord] = {}
        for record in self.read(place):
            before = kept.pop(record.key, None)
            kept[record.key] = record if before is None else newest(before, record)
        records = [record for record in kept.values() if record.value is not None]
        if len(records) == self._ends.get(place, 0):
            return
        if (held := self._files.pop(place, None)) is not None:
            held.close()
            self._dirty.discard(place)
        path, part = self._path(place), self._path(place).with_suffix(".part")
        with part.open("wb") as file:
            for offset, record in enumerate(records):
                file.write(_framed(KeptRecord(offset, record.timestamp_ms, record.key, record.value, record.headers)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        self._ends[place] = len(records)

    def close(self) -> None:
        """Write everything out and close the files."""
        self.sync()
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _path(self, place: Place) -> Path:
        return self._folder / f"{place[0]}-{place[1]}.records"

    def _file(self, place: Place) -> BinaryIO:
        if place not in self._files:
            self._files[place] = self._path(place).open("ab")
        return self._files[place]


def _framed(record: KeptRecord) -> bytes:
    parts = [b"", *(part for part in (record.key, record.value) if part is not None)]
    for name, value in record.headers:
        encoded = name.encode()
        parts += [_HEADER.pack(len(encoded), _length(value)), encoded, value or b""]
    parts[0] = _BODY.pack(record.offset, record.timestamp_ms, _length(record.key), _length(record.value), len(record.headers))
    body = b"".join(parts)
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _length(value: bytes | None) -> int:
    return -1 if value is None else len(value)


def _records(file: BinaryIO) -> Iterator[tuple[KeptRecord, int]]:
    """Yield each whole record and the position behind it, up to the first one that is not whole."""
    position = 0
    for expected in range(1 << 62):
        head = file.read(_FRAME.size)
        if len(head) < _FRAME.size:
            return
        length, checksum = _FRAME.unpack(head)
        body = file.read(length) if length <= MAX_BODY_BYTES else b""
        if len(body) < max(length, _BODY.size) or zlib.crc32(body) != checksum:
            return
        position += _FRAME.size + length
        record = _parsed(body)
        if record.offset != expected:
            return
        yield record, position


def _parsed(body: bytes) -> KeptRecord:
    offset, timestamp_ms, key_length, value_length, n_headers = _BODY.unpack_from(body)
    at = _BODY.size

    def take(length: int) -> bytes | None:
        nonlocal at
        if length < 0:
            return None
        at += length
        return body[at - length : at]

    key, value = take(key_length), take(value_length)
    headers = []
    for _ in range(n_headers):
        name_length, header_length = _HEADER.unpack_from(body, at)
        at += _HEADER.size
        name = take(name_length) or b""
        headers.append((name.decode(), take(header_length)))
    return KeptRecord(offset, timestamp_ms, key, value, tuple(headers))


def _mend(path: Path) -> int:
    """Cut a file behind its last whole record; return how many records it has."""
    n_records = whole = 0
    with path.open("rb") as file:
        for _, position in _records(file):
            n_records, whole = n_records + 1, position
    if path.stat().st_size > whole:
        with path.open("r+b") as file:
            file.truncate(whole)
    return n_records
