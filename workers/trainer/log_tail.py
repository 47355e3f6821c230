"""Copy the events topic into the columnar log as it grows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import xxhash

from schemas import DecodedEvents, decode_events
from schemas.decoding import EVENT_COLUMNS
from workers.errors import Fatal, Transient
from workers.kafka.offsets import start_offsets_async
from workers.kafka.placement import refuse_by_key
from workers.kafka.records import Place, RangeReader, Record
from workers.settings import Settings
from workers.trainer.event_columns import context_json, events_table, without_users
from workers.trainer.event_log import EventLog

log = logging.getLogger(__name__)

POLL_MS = 500
POLL_MAX_RECORDS = 5_000
PENDING_MAX_CHARS = 16_000_000
"""Characters of contexts that one partition keeps before it writes a segment, however few events those are."""


_KEPT = tuple(name for name in EVENT_COLUMNS if name != "contexts")


@dataclass(slots=True)
class _Pending:
    """Holds decoded records of one partition that are not in the log yet; they cover `first` to `next_offset` − 1."""

    first: int
    next_offset: int
    events: DecodedEvents = field(default_factory=DecodedEvents)
    offsets: list[int] = field(default_factory=list)
    contexts: list[str | None] = field(default_factory=list)
    n_context_chars: int = 0
    erased: dict[str, int] = field(default_factory=dict)
    """Users who are erased, each with the offset of the record that says so."""

    def add(self, decoded: DecodedEvents, records: list[Record]) -> None:
        """Take the good ones of these records."""
        self.offsets += [records[i].source_offset for i in decoded.index]
        contexts = [context_json(context) for context in decoded.contexts]
        self.contexts += contexts
        self.n_context_chars += sum(len(context) for context in contexts if context is not None)
        for name in _KEPT:
            getattr(self.events, name).extend(getattr(decoded, name))
        self.erased |= {user_id: records[i].source_offset for i, user_id in decoded.erasures}
        self.next_offset = records[-1].source_offset + 1

    def is_full(self, segment_events: int) -> bool:
        """Return whether this is enough for a segment."""
        return self.next_offset - self.first >= segment_events or self.n_context_chars >= PENDING_MAX_CHARS


class LogTail:
    """Reads every partition from where the log ends, without a consumer group: the log itself says what has been read.

    Records that cannot be read leave no row; the stream worker dead-letters them. `n_events` counts offsets covered so far, pending ones
    included.
    """

    def __init__(self, settings: Settings, event_log: EventLog) -> None:
        self._settings, self._log = settings, event_log
        self._reader: RangeReader | None = None
        self._pending: dict[int, _Pending] = {}
        self._begin: dict[int, int] = {}
        self._flushed_s = time.monotonic()

    @property
    def next_offsets(self) -> dict[int, int]:
        """Return partition ▸ first offset that is not in the log."""
        return {partition: pending.first for partition, pending in self._pending.items() if pending.first > 0}

    @property
    def n_events(self) -> int:
        return sum(pending.next_offset for pending in self._pending.values())

    def lag(self) -> int:
        """Return how many offsets wait to be read."""
        return 0 if self._reader is None else self._reader.lag()

    async def start(self) -> None:
        """Connect, and position every partition where the log ends."""
        topic = self._settings.topics.events
        starts = await start_offsets_async(self._settings, [topic])
        await asyncio.to_thread(self._log.bridge, {partition: start for (_, partition), start in starts.items()})
        ends = await asyncio.to_thread(self._log.next_offsets)
        for (_, partition), start in starts.items():
            first = ends.get(partition, start)
            self._pending[partition] = _Pending(first, first)
        begins = {place: max(self._pending[place[1]].first, start) for place, start in starts.items()}
        self._reader = await RangeReader(self._settings, begins, max_records=POLL_MAX_RECORDS, role="trainer").__aenter__()

    async def poll(self) -> int:
        """Take the records that come within half a second, and return their number; write segments when they are large or old enough."""
        assert self._reader is not None
        n_records = 0
        for (_, partition), records in (await self._reader.poll(POLL_MS)).items():
            self._take(self._pending[partition], records)
            n_records += len(records)
            await asyncio.sleep(0)
        full = [p for p, pending in self._pending.items() if pending.is_full(self._settings.trainer.segment_events)]
        if time.monotonic() - self._flushed_s >= self._settings.trainer.flush_s:
            await self.flush()
        elif full:
            await self.flush(full)
        return n_records

    async def catch_up(self, ends: Mapping[Place, int]) -> None:
        """Take everything before these ends, and write it. Raises Transient when the broker falls silent before."""
        assert self._reader is not None
        self._reader.expect()
        while self._reader.left(ends):
            await self.poll()
            self._reader.check_silence(ends)
        await self.flush()

    def _take(self, pending: _Pending, records: list[Record]) -> None:
        if records[0].source_offset < pending.next_offset:
            raise Fatal("the events topic gave offsets below the end of the log; move trainer.log_url away to start a new log")
        decoded = decode_events(
            [(record.key, record.value) for record in records],
            record_ts_ms=[record.source_timestamp_ms for record in records],
            future_skew_ms=self._settings.stream.future_skew_s * 1000,
            max_bytes=self._settings.stream.max_record_bytes,
        )
        refuse_by_key(decoded, [record.key for record in records], records[0].partition, self._settings)
        pending.add(decoded, records)

    async def flush(self, partitions: list[int] | None = None) -> None:
        """Write pending records. Those that could not be written stay pending; raises Transient."""
        for partition in list(self._pending) if partitions is None else partitions:
            pending = self._pending[partition]
            if pending.next_offset == pending.first:
                continue
            await asyncio.to_thread(self._write, partition, pending)
            self._pending[partition] = _Pending(pending.next_offset, pending.next_offset)
        self._flushed_s = time.monotonic()

    def _write(self, partition: int, pending: _Pending) -> None:
        events = pending.events
        table = events_table(
            pending.offsets,
            events.user_ids,
            events.item_ids,
            events.types,
            events.values,
            events.event_ts_ms,
            [xxhash.xxh64_intdigest(event_id.encode()) for event_id in events.event_ids],
            list_ids=events.list_ids,
            positions=events.positions,
            sessions=events.sessions,
            contexts=pending.contexts,
        )
        if pending.erased:  # first: once the log covers the record that erases, nothing reads it again
            n_segments = self._log.erase(partition, pending.erased)
            log.info("%d users are erased from partition %d of the event log, %d segments", len(pending.erased), partition, n_segments)
            table = without_users(table, pending.erased)
        self._log.append(partition, pending.first, pending.next_offset - 1, table)

    async def stop(self) -> None:
        """Write pending records if that is possible, and disconnect."""
        try:
            if self._reader is not None:
                await self.flush()
        except Transient:
            pass  # Kafka still has it
        finally:
            if self._reader is not None:
                await self._reader.__aexit__()
                self._reader = None
