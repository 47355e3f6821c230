"""The partition that Kafka's default partitioner gives to one key. `workers.kafka.placement` has the compiled form for whole batches."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=65_536)
def partition_for(key: bytes, n_partitions: int) -> int:
    """Return the partition of a key that is not null."""
    # Imported with the first key: it loads all of kafka-python, and the command line must start fast.
    from kafka.partitioner.default import murmur2

    return int(murmur2(key) & 0x7FFFFFFF) % n_partitions
