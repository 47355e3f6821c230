"""The columnar log of all events: Parquet segments named after the offsets they cover, on an fsspec URL.

    topic.json                                        which topic this is a log of
    partition=<p>/<first>-<last>.parquet              every record from first to last, 20 digits each; refused records leave no row

A segment is written whole or not at all. There is no manifest: the names say what is covered, so the next offset is the end of the unbroken
run of segments. Two segments may overlap (a crash between writing a merged one and removing its parts, or a second writer): of each offset
the first one counts. A segment that cannot be read is set aside under `broken/`, its range counts as not covered, and it is read from Kafka
again; what Kafka does not have any more is bridged by a segment without rows. Segments of all schema versions may lie side by side
(`event_columns`); a version of a newer program stops the reader with one line.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from workers.errors import Fatal, Transient, describe
from workers.settings import StateSettings
from workers.storage import NotOurFile, Storage
from workers.trainer.event_columns import (
    COUNTED,
    SCHEMA,
    EventColumns,
    columns_of,
    n_rows_of,
    read_segment,
    segment_bytes,
    within,
    without_users,
)

logger = logging.getLogger(__name__)

LAYOUT = 1
SEGMENT_MAX_BYTES = 512 * 1024 * 1024
MERGED_MAX_BYTES = 64 * 1024 * 1024
"""A segment of this size is not merged with what follows, however few events it holds: contexts may be long."""
_NAME = re.compile(r"(\d{20})-(\d{20})\.parquet")
_FOLDER = re.compile(r"partition=(\d{1,6})")
_BROKEN = re.compile(r"(\d{1,6})-(\d{20})-(\d{20})")
_UNREADABLE = (pa.ArrowException, KeyError, OSError, ValueError, TypeError, NotOurFile)
"""What reading raises for what is no segment: KeyError for a missing column, OSError for a torn page or one with another checksum,
NotOurFile for a pipe, a device, a folder or a file that is too large."""
_READ_ATTEMPTS = 5
"""Listings tried again when a segment is merged away between listing and reading."""
_MERGED_AWAY = "event log: segments keep disappearing while it is read; is more than one trainer writing?"


@dataclass(frozen=True, slots=True)
class Segment:
    """One file: it covers the records from `first` to `last`, both included, of a partition."""

    partition: int
    first: int
    last: int

    @property
    def name(self) -> str:
        return f"partition={self.partition}/{self.first:020d}-{self.last:020d}.parquet"


@contextmanager
def _naming(segment: Segment) -> Iterator[None]:
    """Name the segment in a Fatal that its content raises."""
    try:
        yield
    except Fatal as error:
        raise Fatal(f"event log: segment {segment.name} has {error}") from None


class EventLog:
    """The log of one topic. One writer at a time; a second one can only write what is already there.

    Raises Fatal when the folder is the log of another topic (one that was deleted and made again has another id).
    """

    def __init__(
        self,
        url: str,
        topic_id: str | None = None,
        *,
        segment_events: int = 50_000,
        duplicate_chunk: int = StateSettings.model_fields["duplicate_chunk"].default,
    ) -> None:
        self.storage = Storage(url)
        self._duplicate_chunk = duplicate_chunk
        self.segment_events = segment_events
        self._check_topic(topic_id)

    def _check_topic(self, topic_id: str | None) -> None:
        try:
            found = json.loads(self.storage.read("topic.json", 65_536))
            layout, recorded = found["layout"], found["topic_id"]
        except FileNotFoundError:
            if topic_id is not None:
                if any(_FOLDER.fullmatch(name) for name in self.storage.names()):
                    raise Fatal("event log: it holds segments but no topic.json; restore that file or move the log away") from None
                self.storage.write("topic.json", json.dumps({"layout": LAYOUT, "topic_id": topic_id}).encode())
            return
        except (ValueError, KeyError, TypeError, RecursionError, NotOurFile):
            raise Fatal("event log: topic.json is not readable; restore it or move the log away") from None
        if layout != LAYOUT:
            raise Fatal(
                f"event log: layout {layout!r:.20}, this version reads {LAYOUT}; move the log away or run the version that wrote it"
            )
        if topic_id is not None and recorded != topic_id:
            raise Fatal("event log: it belongs to another topic of that name (the topic was created again); move trainer.log_url away")

    def segments(self, partition: int | None = None) -> list[Segment]:
        """All segments, by partition, first offset, and the longer of two first."""
        found = []
        for folder in self.storage.names():
            match = _FOLDER.fullmatch(folder)
            if match is None or (partition is not None and int(match[1]) != partition):
                continue
            names = [parts for name in self.storage.names(folder) if (parts := _NAME.fullmatch(name))]
            found += [Segment(int(match[1]), int(p[1]), int(p[2])) for p in names if int(p[1]) <= int(p[2])]
        return sorted(found, key=lambda s: (s.partition, s.first, -s.last))

    def verify(self) -> list[Segment]:
        """Set aside every segment whose footer cannot be read or does not fit its name, and remove those that others cover wholly.

        Returns the segments set aside. Only the writer calls this, at start.
        """
        broken = []
        covered: dict[int, int] = {}
        for folder in self.storage.names():
            if _FOLDER.fullmatch(folder):
                self.storage.sweep(folder)
        for segment in self.segments():
            is_covered = segment.last < covered.get(segment.partition, -1)
            reason = None if is_covered else self._reason_broken(segment)
            if is_covered or reason is not None:
                if not is_covered:
                    logger.warning("event log: segment %s cannot be read and is set aside: %s", segment.name, reason)
                    self.storage.set_aside(segment.name, f"broken/{segment.partition}-{segment.first:020d}-{segment.last:020d}")
                    broken.append(segment)
                else:
                    self.storage.remove(segment.name)
                continue
            covered[segment.partition] = max(covered.get(segment.partition, -1), segment.last)
        return broken

    def next_offsets(self) -> dict[int, int]:
        """Partition ▸ the first offset not covered by the unbroken run of segments from its oldest one on, those set aside included.

        Partitions without a segment are left out.
        """
        ends = self._begins()
        for segment in self.segments():
            if segment.partition not in ends or segment.first <= ends[segment.partition]:
                ends[segment.partition] = max(ends.get(segment.partition, 0), segment.last + 1)
        return ends

    def append(self, partition: int, first: int, last: int, events: pa.Table) -> Segment:
        """Write one segment that covers `first` to `last`, merged with the newest one while both together stay below `segment_events`.

        `events` has the columns of SCHEMA, its offsets within the range, ascending. What the log covers already is left out, so appending a
        range again changes nothing. Raises Transient when the storage is full or away, Fatal for a range that is none or leaves a hole.
        """
        if not 0 <= first <= last:
            raise Fatal(f"event log: {first} to {last} is no range of offsets")
        for _ in range(_READ_ATTEMPTS):
            try:
                return self._append_once(partition, first, last, events)
            except FileNotFoundError:  # `recsys models train` beside a trainer: the other one has merged the newest segment
                continue
        raise Transient(_MERGED_AWAY)

    def _append_once(self, partition: int, first: int, last: int, events: pa.Table) -> Segment:
        existing = self.segments(partition)
        covered = self.next_offsets_of(existing, self._begins().get(partition))
        if covered is not None:
            if last < covered:
                return existing[-1] if existing else Segment(partition, first, last)
            if first > covered:
                raise Fatal(
                    f"event log: partition {partition} is covered up to {covered - 1}, a segment from {first} on would leave a hole"
                )
            first = covered
        events = within(events.select(SCHEMA.names).cast(SCHEMA), first, last)
        merged = [s for s in existing if s.last + 1 == first]
        parts: list[Segment] = []
        if merged and merged[-1].last - merged[-1].first + 1 + len(events) <= self.segment_events:
            newest = merged[-1]
            try:
                content = self._bytes(newest)
                if len(content) + events.nbytes <= MERGED_MAX_BYTES:
                    events = pa.concat_tables([self._table(newest, content), events]).unify_dictionaries()
                    first, parts = newest.first, [newest]
            except FileNotFoundError:
                raise
            except _UNREADABLE as error:
                raise Transient(f"event log: segment {newest.name} cannot be read and will be set aside") from error
        segment = Segment(partition, first, last)
        self._write(segment, events)
        for part in parts:
            if part != segment:
                self.storage.remove(part.name)
        return segment

    def erase(self, partition: int, erased: Mapping[str, int]) -> int:
        """Remove the events of users of a partition, each below the offset of the erasure; return how many segments had some.

        May be repeated. A segment that cannot be read stays: it is set aside and read from Kafka again, with the erasure.
        """
        n_written = 0
        for segment in self.segments(partition) if erased else []:
            if segment.first >= max(erased.values()):
                continue
            try:
                events = self._table(segment)
            except FileNotFoundError:  # merged away since it was listed, by a second writer
                raise Transient(_MERGED_AWAY) from None
            except _UNREADABLE:
                logger.warning("event log: segment %s cannot be read, users stay in it until it is repaired", segment.name)
                continue
            kept = without_users(events, erased)
            if kept is not events:
                self._write(segment, kept)
                n_written += 1
        return n_written

    def bridge(self, starts: Mapping[int, int]) -> list[Segment]:
        """Cover what neither the log nor Kafka has: holes below the first offset in Kafka, by partition, become segments without rows.

        Without this, what is read next would seem to cover the hole and the good segments behind it. Returns what was bridged.
        """
        bridged = []
        for partition, start in starts.items():
            while (end := self.next_offsets().get(partition, start)) < start:
                behind = [s.first for s in self.segments(partition) if s.first > end]
                hole = Segment(partition, end, min([start, *behind]) - 1)
                lost = f"partition {partition}, offsets {hole.first} to {hole.last}"
                logger.warning("event log: %s are lost: Kafka has removed them, and the log could not be read", lost)
                self._write(hole, SCHEMA.empty_table())
                bridged.append(hole)
        return bridged

    def _write(self, segment: Segment, events: pa.Table) -> None:
        self.storage.write(segment.name, segment_bytes(events))

    def _begins(self) -> dict[int, int]:
        """Partition ▸ first offset of a segment that was set aside: the log began there at the latest."""
        begins: dict[int, int] = {}
        for name in self.storage.names("broken"):
            if (match := _BROKEN.fullmatch(name)) is not None:
                begins[int(match[1])] = min(begins.get(int(match[1]), int(match[2])), int(match[2]))
        for segment in self.segments() if begins else []:
            if segment.partition in begins:
                begins[segment.partition] = min(begins[segment.partition], segment.first)
        return begins

    @staticmethod
    def next_offsets_of(segments: list[Segment], begin: int | None = None) -> int | None:
        """End of the unbroken run of one partition's sorted segments from `begin` (None: the oldest) on, None without any."""
        end = begin
        for segment in segments:
            if end is None or segment.first <= end:
                end = max(end or 0, segment.last + 1)
        return end

    def n_events(self) -> int:
        """Rows in all segments, from their footers; offsets that two segments hold count twice."""
        return sum(n_rows_of(self._bytes(segment)) for segment in self.segments())

    def read(self, until: Mapping[int, int] | None = None, *, surroundings: bool = False) -> EventColumns:
        """Return the events below the offset that `until` names for their partition (partitions it leaves out are left out), or all.

        With `surroundings` also on which list, where on it, in which visit and in which context each happened. An event that a producer
        sent twice counts as often as it does in the state: `recsys.state.duplicates` defines that.
        """
        for _ in range(_READ_ATTEMPTS):
            try:
                return columns_of(*self._read_tables(until, SCHEMA.names if surroundings else COUNTED), self._duplicate_chunk)
            except FileNotFoundError:  # merged away since it was listed
                continue
        raise Transient(_MERGED_AWAY)

    def _read_tables(self, until: Mapping[int, int] | None, columns: Sequence[str]) -> tuple[list[int], list[pa.Table]]:
        """Partitions, and the events of one of them each."""
        partitions, tables = [], []
        ends = self._begins()
        for segment in self.segments():
            end = ends.get(segment.partition, segment.first)
            bound = None if until is None else until.get(segment.partition, 0)
            if segment.last < end or segment.first > end or (bound is not None and segment.first >= bound):
                continue
            last = segment.last if bound is None else min(segment.last, bound - 1)
            try:
                table = self._table(segment, columns=columns)
            except FileNotFoundError:
                raise
            except _UNREADABLE:
                logger.warning("event log: segment %s cannot be read and is left out until it is repaired", segment.name)
                continue
            partitions.append(segment.partition)
            tables.append(within(table, end, last))
            ends[segment.partition] = segment.last + 1
        return partitions, tables

    def _table(self, segment: Segment, content: bytes | None = None, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
        content = self._bytes(segment) if content is None else content
        with _naming(segment):
            return read_segment(content, segment.last - segment.first + 1, columns)

    def _bytes(self, segment: Segment) -> bytes:
        return self.storage.read(segment.name, SEGMENT_MAX_BYTES)

    def _reason_broken(self, segment: Segment) -> str | None:
        try:
            offsets = self._table(segment).column("source_offset").to_numpy()
        except FileNotFoundError:  # a second writer has merged it away
            return None
        except _UNREADABLE as error:
            return describe(error)
        if len(offsets) and not (segment.first <= int(offsets.min()) and int(offsets.max()) <= segment.last):
            return "offsets outside its name"
        return None
