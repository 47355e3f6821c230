"""Makes every kafka-python consumer of this process read within bounds: the commands, which look for letters and lists.

kafka-python 3.0 wants three more libraries for its codecs, unpacks a batch whatever its size, and stops at one that it cannot read.
`install` gives it the codecs of `workers.kafka.compression`, in both directions, and has it pass over batches that cannot be read, with a
warning: workers have made dead letters of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import kafka.codec
from kafka.consumer.fetcher import Fetcher
from kafka.record import default_records, legacy_records

from workers.kafka import compression
from workers.settings import KafkaSettings

log = logging.getLogger(__name__)

_passed_over: list[tuple[str, int, int, str]] = []
_max_batch_bytes = [KafkaSettings().max_batch_bytes]
_PartitionRecords: Any = Fetcher.PartitionRecords


class _Readable:
    """A batch as one of the records in it that can be read: all, some, or none."""

    def __init__(self, place: Any, batch: Any, *, is_whole: bool) -> None:
        self._place, self._batch, self._is_whole = place, batch, is_whole

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def validate_crc(self) -> bool:
        """Say yes: it was checked before the batch was unpacked."""
        return True

    def __iter__(self) -> Iterator[Any]:
        if not self._is_whole:
            return
        try:
            yield from self._batch
        except GeneratorExit:
            raise
        except Exception as error:  # whatever a parser makes of bytes that a stranger wrote
            _warn(self._place, self._batch, error)


class _ReadableBatches:
    """The batches of a fetch, none of which raises."""

    def __init__(self, place: Any, records: Any, check_crcs: bool) -> None:
        self._place, self._records, self._check_crcs = place, records, check_crcs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> _Readable | None:
        batch = self._records.next_batch()
        if batch is None:
            return None
        is_whole = not self._check_crcs or batch.validate_crc()
        if not is_whole:
            _warn(self._place, batch, "its checksum is wrong")
        return _Readable(self._place, batch, is_whole=is_whole)


def passed_over() -> list[tuple[str, int, int, str]]:
    """Topic, partition, first offset of the batches that this process could not read, and why."""
    return _passed_over


def _warn(place: Any, batch: Any, why: object) -> None:
    _passed_over.append((place.topic, place.partition, batch.base_offset, str(why)))
    log.warning("topic %s, partition %d, batch at offset %d is passed over: %s", place.topic, place.partition, batch.base_offset, why)


class BoundedPartitionRecords(_PartitionRecords):
    """The records of one fetch of a partition, without batches that cannot be read."""

    def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Iterator[Any]:
        found: Iterator[Any] = super()._unpack_records(tp, _ReadableBatches(tp, records, self.check_crcs), *deserializers)
        return found


def install(settings: KafkaSettings) -> None:
    """Read by these rules from now on, in this process; may be called again."""
    _max_batch_bytes[0] = settings.max_batch_bytes
    if Fetcher.PartitionRecords is BoundedPartitionRecords:
        return
    Fetcher.PartitionRecords = BoundedPartitionRecords
    for codec in compression.CODECS:
        setattr(kafka.codec, f"has_{codec}", partial(compression.has_codec, codec))
        for module, unpack in ((default_records, compression.unpack_records), (legacy_records, compression.decompress)):
            setattr(module, f"{codec}_decode", partial(_unpack, unpack, codec))
            setattr(module, f"{codec}_encode", partial(compression.compress, codec))


def _unpack(unpack: Any, codec: str, payload: Any) -> bytes:
    unpacked: bytes = unpack(codec, payload, _max_batch_bytes[0])
    return unpacked
