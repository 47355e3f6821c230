"""Makes every aiokafka consumer of this process read within bounds, Faust's too: memory, and what cannot be read.

aiokafka 0.14 unpacks a batch whatever its size, hands out all that it has fetched, and raises the same error again for ever where a batch
cannot be read. `install` replaces three of its classes (and the codecs of its parser):

    Fetcher            gives one call of `getmany` a budget of bytes over all partitions
    FetchResult        stops within that budget
    PartitionRecords   unpacks within `kafka.max_batch_bytes`; what cannot be read becomes one record whose value is `Unreadable`

That record has the last offset of its batch, so positions and watermarks move on, and decoders turn it into a dead letter. A batch of the
events topic that may be readable elsewhere or later (a codec that is not installed, a checksum that is wrong) is not passed over: it stops
its reader with `Fatal`. What depends on the log's bytes alone is judged alike by worker, trainer, rebuild and verify.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Final

from aiokafka.consumer import consumer as consumer_module
from aiokafka.consumer import fetcher as fetcher_module
from aiokafka.errors import UnsupportedCodecError
from aiokafka.record import default_records, legacy_records
from aiokafka.structs import ConsumerRecord

from schemas import limits
from schemas.errors import Poison
from schemas.unreadable import Unreadable
from workers.errors import Fatal
from workers.kafka import compression
from workers.settings import Settings

log = logging.getLogger(__name__)

POLL_BYTES: Final = 32 * 1024 * 1024
"""Keys and values that one `getmany` hands out; the last record may go beyond it."""
RECORD_BYTES: Final = 512
"""A record's own objects, which count against that budget."""
HEADER_BYTES: Final = 256
"""A header's own objects, likewise."""
MAX_VALUE_BYTES: Final = limits.ITEM_MAX_BYTES
"""A larger value or key is dropped as it is read, only its hash is kept: no topic that workers read takes one, and queues hold many. Where
`stream.max_record_bytes` is more, it is that."""
CHECKSUM_TRIES: Final = 3
"""A batch with a wrong checksum is fetched this many times: the wire may have damaged it, or one replica."""
MOST_RECORDS: Final = 100_000_000
"""More offsets than a batch can have: one that claims more is damaged."""
KNOWN_GAPS: Final = 1_000
"""Ranges of offsets without records that are remembered for a partition."""
KINDS: Final = frozenset({"batch_too_large", "unreadable_batch", "unsupported_codec", "damaged_batch"})
"""Kinds of dead letters that stand for a whole batch."""

_Fetcher: Any = fetcher_module.Fetcher
_FetchResult: Any = fetcher_module.FetchResult
_PartitionRecords: Any = fetcher_module.PartitionRecords

Place = tuple[str, int]
"""Topic and partition."""


@dataclass(slots=True)
class Rules:
    """Limits that this process reads by. `strict` topics stop their reader where a batch may be readable elsewhere or later."""

    max_batch_bytes: int = 32 * 1024 * 1024
    max_value_bytes: int = MAX_VALUE_BYTES
    strict: set[str] = field(default_factory=set)
    passes_damage: bool = False


class Gaps:
    """Ranges of offsets in which the log holds no records: markers of transactions, aborted records, what compaction removed."""

    def __init__(self) -> None:
        self._starts: dict[Place, OrderedDict[int, int]] = {}

    def note(self, place: Place, start: int, end: int) -> None:
        """Remember that there are no records from `start` up to `end`."""
        starts = self._starts.setdefault(place, OrderedDict())
        starts[end] = min(start, starts.get(end, start))
        if len(starts) > KNOWN_GAPS:
            starts.popitem(last=False)

    def start_of(self, place: Place, end: int) -> int:
        """Return where the gap before this offset begins; the offset itself if there is none."""
        starts = self._starts.get(place)
        return end if starts is None else starts.get(end, end)


RULES = Rules()
GAPS = Gaps()
_failures: dict[tuple[str, int, int], int] = {}
"""(topic, partition, offset) of batches with a wrong checksum ▸ how often they were fetched."""


@dataclass(frozen=True, slots=True)
class _NoBatch:
    """Bytes that are no batch, at an offset."""

    base_offset: int

    @property
    def next_offset(self) -> int:
        return self.base_offset + 1


class _Budget:
    def __init__(self) -> None:
        self.left = POLL_BYTES


_budget: ContextVar[_Budget | None] = ContextVar("poll_budget", default=None)


class _FetchAgain(Exception):
    """The fetched bytes are to be dropped and fetched again from where the last good record ended."""


class BoundedFetcher(_Fetcher):
    """Gives each call of `getmany` a budget of its own."""

    async def fetched_records(self, *arguments: Any, **options: Any) -> Mapping[Any, list[Any]]:
        _budget.set(_Budget())
        found: Mapping[Any, list[Any]] = await super().fetched_records(*arguments, **options)
        return found


class BoundedFetchResult(_FetchResult):
    """Hands out records until the budget is used up; the rest stays for the next call."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Any]:
        if not self.has_more() or not self.check_assignment(self._topic_partition):
            return []
        budget = _budget.get() or _Budget()
        if budget.left <= 0:
            return []
        kept: list[Any] = []
        records = self._partition_records
        most, limit = -1 if max_records is None else max_records, records.n_bytes + budget.left
        before = records.n_bytes
        try:
            for record in records:
                kept.append(record)
                if records.n_bytes >= limit or len(kept) == most:
                    break
            else:
                self._partition_records = None
        except _FetchAgain:
            self._partition_records = None
        except Fatal:
            if not kept:
                raise
            self._partition_records = None  # what came before it is handed out first; it will be met again
        budget.left -= records.n_bytes - before
        self._assignment.state_value(self._topic_partition).consumed_to(records.next_fetch_offset)
        return kept

    def getone(self) -> Any:
        found = self.getall(1)
        return found[0] if found else None


class BoundedPartitionRecords(_PartitionRecords):
    """The records of one fetch of a partition, unpacked batch by batch as they are asked for."""

    next_fetch_offset: int
    n_bytes = 0
    """Bytes handed out so far, and `RECORD_BYTES` for each record."""

    _gap_start = 0
    """The offset after the last record that was handed out, or before the gap that the fetch began behind."""

    def _unpack_records(self) -> Iterator[Any]:
        self._gap_start = GAPS.start_of((self._tp.topic, self._tp.partition), self.next_fetch_offset)
        return chain.from_iterable(self._batches())

    def _batches(self) -> Iterator[Iterable[Any]]:
        """The records of each batch, or one in their place."""
        fetched = self._records
        while fetched.has_next():
            try:
                batch = fetched.next_batch()
            except Exception as error:  # shorter than a batch can be: nothing says where the next one begins
                yield self._refused_here(error)
                return
            if (version := getattr(batch, "magic", 0)) > 2:
                yield [self._stand_in(batch, "unsupported_codec", f"it has format {version}, which is not known", "use format 2")]
            elif self._check_crcs and not batch.validate_crc():
                yield [self._damaged(batch)]
            elif not self._is_passed_over(batch):
                yield self._records_of(batch)
            self._goes_on_at(_next_offset(batch))

    def _goes_on_at(self, next_offset: int) -> None:
        """Move behind a batch, whose last records may not be there any more."""
        self.next_fetch_offset = max(self.next_fetch_offset, next_offset)
        if self.next_fetch_offset > self._gap_start:
            GAPS.note((self._tp.topic, self._tp.partition), self._gap_start, self.next_fetch_offset)

    def _is_passed_over(self, batch: Any) -> bool:
        """Return whether a batch holds no records for a consumer: markers, and records of an aborted transaction."""
        if self._isolation_level == fetcher_module.READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        return bool(batch.is_control_batch)

    def _records_of(self, batch: Any) -> Iterator[Any]:
        topic, partition = self._tp.topic, self._tp.partition
        expected, parsed_to = self._gap_start, getattr(batch, "base_offset", self.next_fetch_offset)
        try:
            for record in batch:
                source_offset = record.offset
                parsed_to = source_offset + 1
                if source_offset != expected:
                    if source_offset < self.next_fetch_offset:
                        continue  # the fetch began in the middle of this batch
                    GAPS.note((topic, partition), expected, source_offset)
                key, value = record.key, record.value
                key_size, value_size = -1 if key is None else len(key), -1 if value is None else len(value)
                self.n_bytes += RECORD_BYTES + key_size + value_size
                if key_size > RULES.max_value_bytes or value_size > RULES.max_value_bytes:
                    key, value = _without_body(key, value)
                self._gap_start = self.next_fetch_offset = expected = parsed_to
                if headers := record.headers:
                    self.n_bytes += sum(HEADER_BYTES + len(name) + len(content or b"") for name, content in headers)
                stamp, kind = record.timestamp, record.timestamp_type
                yield ConsumerRecord(topic, partition, source_offset, stamp, kind, key, value, None, key_size, value_size, headers)
        except GeneratorExit:
            raise
        except Exception as error:  # whatever a parser makes of bytes that a stranger wrote
            yield self._unreadable(batch, parsed_to, error)

    def _unreadable(self, batch: Any, first: int, error: Exception) -> Any:
        codec = compression.NAMES.get(batch.compression_type) if hasattr(batch, "compression_type") else None
        if isinstance(error, compression.BatchTooLarge):
            remedy = "send smaller batches (kafka.max_batch_bytes), or none with such records"
            return self._stand_in(batch, "batch_too_large", f"got {error}", remedy)
        if isinstance(error, (compression.CodecMissing, UnsupportedCodecError)):
            if codec is None:
                return self._stand_in(batch, "unsupported_codec", f"got codec {batch.compression_type}", "use gzip, snappy, lz4 or zstd")
            what = compression.missing_codec(codec)
            if self._tp.topic in RULES.strict:
                raise Fatal(f"{_where(self._tp, batch)} is compressed with {codec}: {what}") from None
            return self._stand_in(batch, "unsupported_codec", f"compressed with {codec}", f"{what}; then send it again")
        what = f"its {codec or 'compressed'} bytes are no records ({type(error).__name__})"
        return self._stand_in(batch, "unreadable_batch", what, "send it again", first)

    def _damaged(self, batch: Any) -> Any:
        at = (self._tp.topic, self._tp.partition, batch.base_offset)
        _failures[at] = _failures.get(at, 0) + 1
        if _failures[at] < CHECKSUM_TRIES:
            log.warning("%s has a wrong checksum: fetching it again", _where(self._tp, batch))
            raise _FetchAgain
        what, advice = "its checksum is wrong, its bytes were damaged on the broker", "restore the partition from a replica or a backup"
        if self._tp.topic in RULES.strict and not RULES.passes_damage:
            where = _where(self._tp, batch)
            raise Fatal(f"{where} cannot be read, {what}: {advice}, or lose its events with kafka.damaged_batches = dead_letter")
        return self._stand_in(batch, "damaged_batch", what, f"{advice}, or send it again")

    def _refused_here(self, error: Exception) -> list[Any]:
        return [self._stand_in(_NoBatch(self.next_fetch_offset), "unreadable_batch", type(error).__name__, "look into the broker's log")]

    def _stand_in(self, batch: Any, kind: str, what: str, remedy: str, first: int | None = None) -> Any:
        """A record in place of those of a batch from `first` on, or of all of it."""
        if first is None:
            first = max(getattr(batch, "base_offset", self.next_fetch_offset), 0)
        last = max(_next_offset(batch) - 1, self.next_fetch_offset, first)
        log.warning("%s is a dead letter: %s", _where(self._tp, batch), what)
        poison = Poison("record", f"record: the batch of offsets {first} to {last} cannot be read, {what}; {remedy}", kind)
        stamp = getattr(batch, "max_timestamp", -1)
        self.n_bytes += RECORD_BYTES
        if last > self._gap_start:
            GAPS.note((self._tp.topic, self._tp.partition), self._gap_start, last)
        self._gap_start = self.next_fetch_offset = last + 1
        value = Unreadable.batch(poison, first)
        return ConsumerRecord(self._tp.topic, self._tp.partition, last, stamp, 0, None, value, None, -1, 0, ())


def stable_end(consumer: Any, place: Any) -> int:
    """Return the offset up to which a consumer may read a partition, by the newest fetch: before it no transaction is open."""
    stable, end = consumer.last_stable_offset(place), consumer.highwater(place) or 0
    return end if stable is None or stable < 0 else min(stable, end)


def _next_offset(batch: Any) -> int:
    """The offset after a batch. In one that is damaged it may be nonsense: then one record is passed over, and the rest is met again."""
    following, first = int(batch.next_offset), getattr(batch, "base_offset", None)
    return following if first is None or first < following <= first + MOST_RECORDS else int(first) + 1


def _where(tp: Any, batch: Any) -> str:
    first = getattr(batch, "base_offset", None)
    return f"topic {tp.topic}, partition {tp.partition}, batch at offset {'?' if first is None else first}"


def _without_body(key: bytes | None, value: bytes | None) -> tuple[bytes | None, Unreadable]:
    name, found = ("key", key) if key is not None and len(key) > RULES.max_value_bytes else ("record", value)
    assert found is not None
    poison = Poison(name, f"{name}: got {len(found)} bytes; send at most {RULES.max_value_bytes}", "too_large")
    digest = None if value is None else hashlib.sha256(value).hexdigest()
    return None if name == "key" else key, Unreadable.record(poison, digest, 0 if value is None else len(value))


def install(settings: Settings) -> None:
    """Read by the rules of these settings from now on, in this process; may be called again."""
    RULES.max_batch_bytes = settings.kafka.max_batch_bytes
    RULES.max_value_bytes = max(MAX_VALUE_BYTES, settings.stream.max_record_bytes)
    RULES.passes_damage = settings.kafka.damaged_batches == "dead_letter"
    RULES.strict.add(settings.topics.events)
    if fetcher_module.PartitionRecords is BoundedPartitionRecords:
        return
    fetcher_module.PartitionRecords = BoundedPartitionRecords
    fetcher_module.FetchResult = BoundedFetchResult
    consumer_module.Fetcher = BoundedFetcher
    for parser, unpack in ((default_records, compression.unpack_records), (legacy_records, compression.decompress)):
        for module in _parsers(parser):
            bound_codecs(module, unpack)


def _parsers(module: Any) -> list[Any]:
    """A module of record classes and its compiled twin, where there is one."""
    found = [module]
    try:
        from aiokafka.record import _crecords
    except ImportError:
        return found
    return [*found, getattr(_crecords, module.__name__.rpartition(".")[2])]


def bound_codecs(module: Any, unpack: Any) -> None:
    """Put our codecs where a parser looks for its own."""
    for codec in compression.CODECS:
        if hasattr(module, f"{codec}_decode"):
            setattr(module, f"{codec}_decode", partial(_unpack, unpack, codec))


def _unpack(unpack: Any, codec: str, payload: Any) -> bytes:
    unpacked: bytes = unpack(codec, payload, RULES.max_batch_bytes)
    return unpacked
