"""Examples of every key of the state, by hash tag."""

from __future__ import annotations

from collections.abc import Iterator

from redis.crc import key_slot

from workers.redis.keys import Keys


def slot_of(key: str) -> int:
    """Return the Redis Cluster slot of a key, as redis-py computes it."""
    return key_slot(key.encode())


def key_patterns(keys: Keys, *, groups: int, partitions: int) -> Iterator[tuple[str, list[str]]]:
    """Yield each hash tag and an example of every key under it; keys that one function names must come from one tag."""
    yield f"{keys.namespace}:meta", [keys.layout, keys.state_id, keys.catalogue, keys.catalogue_offsets, keys.models, keys.model_orders]
    yield f"{keys.namespace}:index", [keys.ids, keys.names, keys.changes, keys.version]
    for group in range(groups):
        rows = keys.rows(group, [("c", 0, group), ("c", 12_345, 2**32 - 1), ("pop", "all", 0), ("pop", "10m", 500_000)])
        rows += keys.rows(group, [("bought", 0, group), ("buyers", 0, group)])
        yield f"{keys.namespace}:g{group}", [keys.group_watermarks(group), keys.items(group), keys.epochs(group), *rows]
    for partition in range(partitions):
        users = keys.users(partition, ["u1", "{other}:u", "}{", "ü b"])
        others = [keys.partition_watermark(partition), keys.owed(partition), keys.event_time(partition), keys.duplicates(partition, 7)]
        topic = [keys.profile(partition, "{x}y"), keys.merged(partition), keys.sources(partition), keys.asked(partition)]
        users += [*keys.shown(partition, ["{x}y"]), *keys.bought(partition, ["{x}y"])]
        yield f"{keys.namespace}:p{partition}", [*users, *others, *topic]
