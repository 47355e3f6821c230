"""Refuses events that lie in another partition than Kafka's own partitioner gives their user.

A user's events must lie in one partition: their order, their duplicates and their lists depend on it. librdkafka's default partitioner is
another one. Which events these are depends on the log alone, so workers, trainer, rebuild and verify refuse the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.decoding import DecodedEvents
from schemas.errors import Poison
from workers.kafka.key_kernel import partitions
from workers.settings import TopicSettings

WRONG_PARTITION = "wrong_partition"


def partitions_of(keys: Sequence[bytes], n_partitions: int) -> NDArray[np.int32]:
    """Partition of each key by murmur2, as `workers.kafka.partitioner.partition_for`. Shape (n_keys,)."""
    lengths = np.fromiter(map(len, keys), np.int64, len(keys))
    found = np.empty(len(keys), np.int32)
    partitions(np.frombuffer(b"".join(keys), np.uint8), lengths, n_partitions, found)
    return found


def misplaced(partition: int, wanted: int) -> Poison:
    """The reason to refuse a record that lies in `partition` and belongs to `wanted`."""
    what = f"key: the record lies in partition {partition}, its key belongs to partition {wanted} by Kafka's murmur2"
    remedy = "set partitioner=murmur2_random on the producer (librdkafka), then run `recsys dlq redrive`"
    return Poison("key", f"{what}; {remedy}", WRONG_PARTITION)


def refuse_misplaced(events: DecodedEvents, keys: Sequence[bytes | None], lies_in: NDArray[np.int32] | int, topics: TopicSettings) -> None:
    """Move events that lie in a wrong partition to the refused ones. `keys` and `lies_in` (N,), or one partition, are of all records."""
    if topics.wrong_partition == "accept" or not events.index:
        return
    chosen = keys if len(events) == len(keys) else [keys[at] for at in events.index]
    wanted = partitions_of(chosen, topics.partitions)  # type: ignore[arg-type]  # events that were read have a key
    found = lies_in if isinstance(lies_in, int) or len(events) == len(keys) else lies_in[events.index]
    wrong = np.flatnonzero(wanted != found).tolist()
    if wrong:
        of = np.broadcast_to(np.asarray(found), wanted.shape)
        events.refuse([(at, misplaced(int(of[at]), int(wanted[at]))) for at in wrong])
