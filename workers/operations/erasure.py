"""Erase users: what is stored of them, the records that erase it, and what stays for how long (ADR 41).

    look ▸ remove profiles and merges ▸ wait for the workers ▸ erase ▸ wait for the workers

Profiles go first: a removed profile may ask for another list of its user, and the erasure settles that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from recsys.state.shown import unpack_shown
from recsys.state.user_table import unpack_row
from workers.bootstrap import open_store
from workers.client import EventPublisher
from workers.errors import WorkerError
from workers.kafka.offsets import end_offsets_async
from workers.kafka.partitioner import partition_for
from workers.kafka.topics import topic_configs
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.state.merged_users import NOT_MERGED, MergeReader
from workers.state.port import StateStore
from workers.stream.reread import unapplied

LOOK_S = 0.1
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Held:
    """Counts what the state holds of one user. `merged_into` is the account whose list is made of this user's history too, None for none;
    `because_of` is the user whom this id went on as, for an id that was not named itself."""

    user_id: str
    partition: int
    n_items: int
    n_older_items: int
    n_shown: int
    n_bought: int
    has_profile: bool
    merged_into: str | None = None
    because_of: str | None = None

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Remains:
    """Names a place where something of an erased user stays, what that is, and until when."""

    where: str
    what: str
    until: str

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


async def look(settings: Settings, user_ids: Sequence[str]) -> list[Held]:
    """Return what is stored of these users and of the ids that went on as them. Raises Fatal, Transient."""
    async with _opened(settings) as store:
        reader = MergeReader(store, lambda user_id: _partition(settings, user_id))
        named = [(_partition(settings, user_id), user_id) for user_id in dict.fromkeys(user_ids)]
        merges = await reader.read(named)
        found: dict[str, Held] = {}
        for user in named:
            merged = merges.get(user, NOT_MERGED)
            goes_on_as = None if merged.goes_on_as is None else merged.goes_on_as[1]
            found[user[1]] = await _held(store, *user, goes_on_as, None)
            for partition, user_id in merged.parts:
                if user_id not in user_ids:
                    found.setdefault(user_id, await _held(store, partition, user_id, user[1], user[1]))
        return list(found.values())


async def _held(store: StateStore, partition: int, user_id: str, merged_into: str | None, because_of: str | None) -> Held:
    wanted = {partition: [user_id]}
    row, shown, bought = [
        (await read(wanted))[partition][0] for read in (store.read_users_of, store.read_shown_of, store.read_bought_of)
    ]
    (profile,) = await store.read_profiles(partition, [user_id])
    history = None if row is None else unpack_row(row)
    return Held(
        user_id,
        partition,
        0 if history is None else len(history.items),
        0 if history is None else len(history.older),
        len(unpack_shown([shown])[0]),
        len(bought or b"") // 4,
        profile is not None,
        merged_into,
        because_of,
    )


async def erase(settings: Settings, users: Sequence[Held], wait_s: float, say: Callable[[str], None]) -> list[str]:
    """Erase these users; return the ids of those for whom workers have not confirmed it within `wait_s`. Raises Fatal, Transient."""
    deadline = time.monotonic() + wait_s
    async with _opened(settings) as store:
        with await asyncio.to_thread(EventPublisher, settings) as publisher:
            for user in users:
                publisher.remove_profile(user.user_id)
            await asyncio.to_thread(publisher.flush)
            say(f"{len(users):,} profiles are removed from {settings.topics.users}")
            await _until(lambda: _with_profile(store, users), deadline)
            for user in users:
                publisher.erase_user(user.user_id)
            await asyncio.to_thread(publisher.flush)
        say(f"{len(users):,} erasures are on {settings.topics.events}; waiting for the workers")
        ends = await end_offsets_async(settings, [settings.topics.events])
        left = {user.partition: ends[settings.topics.events, user.partition] for user in users}
        behind = set(await _until(lambda: _behind(settings, store, left), deadline))
        with_profile = set(await _with_profile(store, users))
        return [user.user_id for user in users if user.partition in behind or user.user_id in with_profile]


async def _until(waiting: Callable[[], Awaitable[list[Any]]], deadline: float) -> list[Any]:
    """Wait until there is nothing left, or the deadline; return what is left."""
    while True:
        left = await waiting()
        if not left or time.monotonic() >= deadline:
            return left
        await asyncio.sleep(LOOK_S)


async def _with_profile(store: StateStore, users: Sequence[Held]) -> list[str]:
    """Return the users of whom the state still holds a profile, or that they go on as somebody."""
    left = []
    for user in users:
        (profile,) = await store.read_profiles(user.partition, [user.user_id])
        ((standing,),) = (await store.read_standings({user.partition: [user.user_id]})).values()
        if profile is not None or standing.merged_into:
            left.append(user.user_id)
    return left


async def _behind(settings: Settings, store: StateStore, ends: dict[int, int]) -> list[int]:
    """Return the partitions in which workers have not applied everything before these offsets."""
    topic = settings.topics.events
    marks = await store.watermarks(list(ends))
    starts = {(topic, p): 0 if mark is None else mark.last_applied_offset + 1 for p, mark in marks.items()}
    late = {place: start for place, start in starts.items() if start < ends[place[1]]}
    if not late:
        return []
    left = await unapplied(settings, late, {(topic, p): end for p, end in ends.items()})
    return [partition for (_, partition), n in left.items() if n]


def remains(settings: Settings) -> list[Remains]:
    """Return what stays of an erased user, where and until when, by the configuration of the topics where it may be read."""
    topics = settings.topics
    log_url = settings.trainer.log_url
    return [
        Remains(topics.events, "the user's events, until then under the erasure, which nothing reads past", _kept(settings, topics.events)),
        Remains(topics.users, "the id, as the key of an empty record; profiles until compaction", _kept(settings, topics.users)),
        Remains(topics.recommendations, "earlier lists", "the topic is compacted"),
        Remains(topics.dead_letters, "hashes of refused records, whole records with stream.dead_letter_payload",
                _kept(settings, topics.dead_letters)),
        Remains(f"event log ({log_url})", "the user's events", "the trainer has read the erasure, after trainer.flush_s at most"),
        Remains("models", "what the user has added to sums and weights, without an id", "trained again, and old versions retired"),
        Remains("Redis", "what the user has added to counts of items, without an id", "those epochs expire"),
        Remains("Redis", "the id as the key of a removed profile; hashes of event ids", "30 days; the next chunks of events"),
        Remains("backups, exports, states that `rebuild --keep-old` left", "everything", "you delete them"),
    ]  # fmt: skip


def _kept(settings: Settings, topic: str) -> str:
    try:
        configs = topic_configs(settings, topic)
    except WorkerError:
        return "unknown: this principal may not read the configuration of the topic"
    if "compact" in configs.get("cleanup.policy", "delete"):
        kept = configs.get("delete.retention.ms", "")
        return f"compaction, and delete.retention.ms ({_days(kept)}) after it"
    return f"retention.ms ({_days(configs.get('retention.ms', ''))})"


def _days(ms: str) -> str:
    if not ms.lstrip("-").isdigit():
        return "the broker does not say"
    days = int(ms) / DAY_MS
    return "for ever" if days < 0 else f"{days:,.0f} days" if days >= 10 else f"{days:.3g} days"


def _partition(settings: Settings, user_id: str) -> int:
    return partition_for(user_id.encode(), settings.topics.partitions)


class _opened:
    """Opens the state of the settings for a while."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._store = settings, open_store(settings)

    async def __aenter__(self) -> StateStore:
        try:
            await self._store.open(layout_of(self._settings))
        except BaseException:
            await self._store.close()
            raise
        return self._store

    async def __aexit__(self, *_: object) -> None:
        await self._store.close()
