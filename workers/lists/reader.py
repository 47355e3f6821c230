"""Read published lists: the newest one of a user, and all as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from schemas import Poison, Recommendations, decode_recommendations
from workers.errors import Fatal
from workers.kafka.offsets import end_offsets, start_offsets
from workers.kafka.partitioner import partition_for
from workers.kafka.records import BlockingRangeReader, Place
from workers.kafka.rights import on_topics
from workers.settings import Settings

FIRST_LOOK_RECORDS = 2_000  # the newest list is usually near the end; each further look goes eight times as far back


def newer(one: Recommendations, other: Recommendations) -> bool:
    """Return whether `one` is the newer of two lists of one user, as `Trigger` defines it.

    The late list of a worker that no longer owns the partition is older than its place on the topic suggests.
    """
    return (one.trigger.source_offset, one.generated_ts_ms) >= (other.trigger.source_offset, other.generated_ts_ms)


def newest_list(settings: Settings, user_id: str) -> Recommendations | None:
    """Return the newest list of a user, or None if there is none or it was removed.

    Reads only the user's partition, from its end backwards.

    Raises Transient when no broker answers, Fatal when the topic is missing or has another number of partitions than the settings say.
    """
    topic = settings.topics.recommendations
    ends = end_offsets(settings, [topic])
    if len(ends) != settings.topics.partitions:
        raise Fatal(f"topic {topic} has {len(ends)} partitions, topics.partitions is {settings.topics.partitions}: correct the setting")
    partition = partition_for(user_id.encode(), settings.topics.partitions)
    start, end = start_offsets(settings, [topic])[(topic, partition)], ends[(topic, partition)]
    key = user_id.encode()
    with BlockingRangeReader(settings, needs=on_topics("Read", topic)) as reader:
        look, upper = FIRST_LOOK_RECORDS, end
        while upper > start:
            lower = max(start, upper - look)
            found, best = _newest_between(reader, (topic, partition), lower, upper, key)
            if found:
                return best
            upper, look = lower, look * 8
    return None


def _newest_between(reader: BlockingRangeReader, place: Place, lower: int, upper: int, key: bytes) -> tuple[bool, Recommendations | None]:
    """Return whether the key occurs in offsets [lower, upper), and its newest list there (None after a tombstone)."""
    found, best = False, None
    for record in reader.between(place, lower, upper):
        if record.key != key:
            continue
        found = True
        try:
            made = decode_recommendations(record.value, record.key)
        except Poison:
            continue  # not written by this project; an older list of the user is still one
        if made is None:
            best = None
        elif best is None or newer(made, best):
            best = made
    return found, best


def follow_lists(
    settings: Settings, *, from_start: bool = False, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, Recommendations | None]]:
    """Yield (user id, list or None for a removal) as they are published; from now on, or from the oldest. Ends when `stop` says so."""
    topic = settings.topics.recommendations
    edges = start_offsets(settings, [topic]) if from_start else end_offsets(settings, [topic])
    with BlockingRangeReader(settings, needs=on_topics("Read", topic)) as reader:
        reader.start_at(edges)
        while not stop():
            for record in chain.from_iterable(reader.poll().values()):
                try:
                    yield (record.key or b"").decode("utf-8", "replace"), decode_recommendations(record.value, record.key)
                except Poison:
                    continue
