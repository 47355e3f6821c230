"""Refuses events by their key: those that lie in another partition than Kafka's own partitioner gives their user, and those of users
whose lists would have the key of a list that belongs to no user.

A user's events must lie in one partition: their order, their duplicates and their lists depend on it. librdkafka's default partitioner is
another one. Which events these are depends on the log and the settings alone, so workers, trainer, rebuild and verify refuse the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from schemas.decoding import DecodedEvents
from schemas.errors import Poison
from workers.kafka.key_kernel import partitions
from workers.kafka.partitioner import partition_for
from workers.settings import ListSettings, Settings, TopicSettings

WRONG_PARTITION = "wrong_partition"
RESERVED_USER_ID = "reserved_user_id"
UNKNOWN_PARTITION = "unknown_partition"


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


def reserved(prefix: str) -> Poison:
    """The reason to refuse a record of a user whose id begins with `lists.shared_prefix`."""
    what = f"key: user ids that begin with {prefix!r} are reserved for lists that belong to no user"
    remedy = "give the user another id, or set lists.shared_prefix to one that no user id begins with"
    return Poison("key", f"{what}; {remedy}", RESERVED_USER_ID)


def reserved_account(prefix: str) -> Poison:
    """The reason to refuse a record that merges an id into one that begins with `lists.shared_prefix`."""
    what = f"merged_into: ids that begin with {prefix!r} are reserved for lists that belong to no user"
    return Poison("merged_into", f"{what}; name the id of an account", RESERVED_USER_ID)


def unknown_partition() -> Poison:
    """The reason to refuse a record that merges ids where users lie in partitions that nothing can compute."""
    what = "merged_into: with topics.wrong_partition = accept the partition of another id is unknown"
    remedy = "have producers partition by murmur2, and set topics.wrong_partition = dead_letter"
    return Poison("merged_into", f"{what}; {remedy}", UNKNOWN_PARTITION)


def is_reserved(user_id: str, lists: ListSettings) -> bool:
    """Return whether a list of this key belongs to no user."""
    return lists.shared_every_s > 0 and user_id.startswith(lists.shared_prefix)


def refuse_reserved(user_id: str, lists: ListSettings) -> None:
    """Raise Poison for the id of a user that is reserved for lists of no user."""
    if is_reserved(user_id, lists):
        raise reserved(lists.shared_prefix)


def refuse_reserved_account(account_id: str, lists: ListSettings) -> None:
    """Raise Poison for an account's id that is reserved for lists of no user."""
    if is_reserved(account_id, lists):
        raise reserved_account(lists.shared_prefix)


def refuse_by_key(events: DecodedEvents, keys: Sequence[bytes | None], lies_in: NDArray[np.int32] | int, settings: Settings) -> None:
    """Move events that lie in a wrong partition, and those of reserved user ids, to the refused ones. `keys` and `lies_in` (N,), or one
    partition, are of all records."""
    refuse_misplaced(events, keys, lies_in, settings.topics)
    if settings.lists.shared_every_s:
        prefix = settings.lists.shared_prefix
        if refused := [(at, reserved(prefix)) for at, user_id in enumerate(events.user_ids) if user_id.startswith(prefix)]:
            events.refuse(refused)
    if events.erasures:
        _refuse_erasures(events, lies_in, settings)


def _refuse_erasures(events: DecodedEvents, lies_in: NDArray[np.int32] | int, settings: Settings) -> None:
    """Move erasures that lie in a wrong partition, and those of reserved user ids, to the refused records."""
    kept: list[tuple[int, str]] = []
    for at, user_id in events.erasures:
        found = lies_in if isinstance(lies_in, int) else int(lies_in[at])
        wanted = found if settings.topics.wrong_partition == "accept" else partition_for(user_id.encode(), settings.topics.partitions)
        if is_reserved(user_id, settings.lists):
            events.poisons.append((at, reserved(settings.lists.shared_prefix)))
        elif wanted != found:
            events.poisons.append((at, misplaced(found, wanted)))
        else:
            kept.append((at, user_id))
    events.erasures = kept
    events.poisons.sort(key=itemgetter(0))


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
