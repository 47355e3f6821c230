"""Applies the low-rate topics (items, users and model announcements) to the state store."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

from schemas.control import RULES_KEY
from schemas.dead_letters import DeadLetter, make_dead_letter
from schemas.decoding import decode_announcement, decode_item, decode_key, decode_profile, encode
from schemas.errors import Poison
from schemas.profiles import UserProfile
from workers.kafka.partitioner import partition_for
from workers.kafka.placement import misplaced, refuse_reserved, refuse_reserved_account, unknown_partition
from workers.kafka.records import Record
from workers.lists.encoding import ListHead
from workers.lists.topic_rules import decode_published, with_published
from workers.runtime.trimmed import TrimmedFields
from workers.settings import Settings
from workers.state.item_content import stored_content
from workers.state.merged_users import MergeReader, Owner
from workers.state.port import StoredItem
from workers.state.users_topic import MergeNote, ProfileRecord
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.list_maker import ListMaker
from workers.stream.profile_changes import ProfileChanges
from workers.stream.readiness import Readiness
from workers.stream.serving_state import ServingState

log = logging.getLogger(__name__)


class Intake:
    """Applies records of the low-rate topics. Every call may be repeated; the newest source offset wins."""

    def __init__(
        self,
        settings: Settings,
        state: ServingState,
        lists: ListMaker,
        catalogue: CatalogueFollower,
        readiness: Readiness | None = None,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`readiness` says when first lists can be made; without one they always can."""
        self._settings, self._state, self._lists, self._catalogue, self._readiness = settings, state, lists, catalogue, readiness
        self._wall_clock = wall_clock
        self._merges, self._profile_changes = MergeReader(state.store, self._partition_of), ProfileChanges(state)
        self.trimmed = TrimmedFields()

    async def items(self, records: Sequence[Record]) -> list[DeadLetter]:
        """Store catalogue records and return dead letters of those that cannot be read. Raises Transient."""
        dead: list[DeadLetter] = []
        good: list[tuple[Record, str, bytes | None]] = []
        trimmed: Counter[str] = Counter()
        for record in records:
            try:
                item = decode_item(record.value, record.key, trimmed=trimmed)
                good.append((record, decode_key(record.key), None if item is None else stored_content(item)))
            except Poison as poison:
                dead.append(self._dead_letter(record, poison))
        self.trimmed.add("item", trimmed)
        if good:
            async with self._state.turn():  # numbers may be other ones after a reset
                await self._state.check_current()  # numbers of a state that is gone would put an item's content under another
                items = [(item_id, StoredItem(r.partition, r.source_offset, content)) for r, item_id, content in good]
                await self._state.store_items(items)
        await self._note_read(records)
        return dead

    async def users(
        self, records: Sequence[Record], *, first_lists: bool = True, are_new: bool = True
    ) -> tuple[list[tuple[int, bytes, bytes]], list[DeadLetter]]:
        """Store profiles; return the first lists (partition, key, record) of users without any history, and dead letters. Raises Transient.

        `first_lists` off makes no lists: for profiles that are read again, whose users have had their first list. `are_new` off asks for
        none either: the state may have held these profiles before.
        """
        dead: list[DeadLetter] = []
        profiles: dict[tuple[int, str], UserProfile | None] = {}
        stored: list[ProfileRecord] = []
        notes: list[MergeNote] = []
        trimmed: Counter[str] = Counter()
        for record in records:
            try:
                profile = decode_profile(record.value, record.key, trimmed=trimmed)
                user_id = decode_key(record.key)
                self._check_key(record, user_id)
                merged_into = self._merged_into(profile)
            except Poison as poison:
                dead.append(self._dead_letter(record, poison))
                continue
            profiles[record.partition, user_id] = profile
            if merged_into:
                notes.append(MergeNote(self._partition_of(merged_into), merged_into, user_id, record.source_timestamp_ms))
            content = None if profile is None else encode(profile)
            stored.append(ProfileRecord(record.partition, user_id, record.source_offset, content, merged_into))
        self.trimmed.add("profile", trimmed)
        if are_new:
            waiting = await self._profile_changes.changing_lists(profiles)
            waiting |= {(one.partition, one.user_id) for one in stored if one.merged_into}
            stored = [one._replace(needs_list=(one.partition, one.user_id) in waiting) for one in stored]
        if notes:
            await self._state.store.note_merges(notes)
        if stored:
            await self._state.store.upsert_profiles(stored)
            self._lists.profiles.note_changed(profiles)
        await self._note_read(records)
        given = {at: profile for at, profile in profiles.items() if profile is not None and profile.merged_into is None}
        return await self._first_lists(given) if first_lists else [], dead

    async def announcements(self, records: Sequence[Record]) -> list[DeadLetter]:
        """Make announced models the serving ones; a tombstone leaves its kind without any. Raises Transient."""
        dead: list[DeadLetter] = []
        for record in records:
            try:
                announcement = decode_announcement(record.value, record.key)
                kind = decode_key(record.key)
            except Poison as poison:
                dead.append(self._dead_letter(record, poison))
                continue
            await self._state.store.set_serving(kind, b"" if announcement is None else encode(announcement), record.source_offset)
        await self._note_read(records)
        return dead

    async def rules(self, records: Sequence[Record]) -> list[DeadLetter]:
        """Store published rules that all lists can follow; a tombstone leaves those of the settings. Dead letters name rule, field and
        remedy, and change nothing. Raises Transient."""
        dead: list[DeadLetter] = []
        for record in records:
            try:
                published = decode_published(record.value, record.key)
                with_published(self._settings.lists, published, self._state.engine.config.registry)
            except Poison as poison:
                dead.append(self._dead_letter(record, poison))
                continue
            await self._state.store.set_control(
                RULES_KEY.decode(), b"" if published is None else encode(published), record.source_offset
            )
        await self._note_read(records)
        return dead

    async def _note_read(self, records: Sequence[Record]) -> None:
        """Note in the state up to which offset it holds these topics, so that a worker that starts later reads on from there."""
        next_offsets: dict[str, int] = {}
        for record in records:
            place = f"{record.topic}/{record.partition}"
            next_offsets[place] = max(next_offsets.get(place, 0), record.source_offset + 1)
        await self._state.store.note_catalogue_offsets(next_offsets)

    async def _first_lists(self, profiles: dict[tuple[int, str], UserProfile]) -> list[tuple[int, bytes, bytes]]:
        if not profiles:
            return []
        by_partition: dict[int, list[str]] = {}
        for partition, user_id in profiles:
            by_partition.setdefault(partition, []).append(user_id)
        rows = await self._state.store.read_users_of(by_partition)
        known = {(p, u) for p, users in by_partition.items() for u, row in zip(users, rows[p], strict=True) if row is not None}
        newcomers = await self._without_sources([at for at in profiles if at not in known])
        if not newcomers:
            return []
        watermarks = await self._state.store.watermarks(list(by_partition))
        heads = [
            ListHead.of_state(user_id, partition, -1 if (w := watermarks[partition]) is None else w.last_applied_offset)
            for partition, user_id in newcomers
        ]
        async with self._state.turn():
            if self._readiness is not None:
                self._readiness.check()
            await self._catalogue.follow()
            if not self._state.engine.n_items:
                return []
            preferred = {i: profiles[at].preferred_categories for i, at in enumerate(newcomers) if profiles[at].preferred_categories}
            records = await self._lists.first_lists(heads, preferred, int(self._wall_clock() * 1000))
        return [(head.partition, head.user_id.encode(), record) for head, record in zip(heads, records, strict=True)]

    async def _without_sources(self, users: list[Owner]) -> list[Owner]:
        """Return those of these users whom no other id goes on as. The others wait for a list: other histories count for them."""
        if not users:
            return []
        merged = await self._merges.read(users)
        waiting: dict[int, list[str]] = {}
        for partition, user_id in merged:
            waiting.setdefault(partition, []).append(user_id)
        if waiting:
            await self._state.store.await_lists(waiting)
        return [user for user in users if user not in merged]

    def _merged_into(self, profile: UserProfile | None) -> str:
        """Return the id that a user goes on as, empty for none. Raises Poison for one that nobody could find."""
        if profile is None or profile.merged_into is None:
            return ""
        refuse_reserved_account(profile.merged_into, self._settings.lists)
        if self._settings.topics.wrong_partition == "accept":
            raise unknown_partition()
        return profile.merged_into

    def _partition_of(self, user_id: str) -> int:
        return partition_for(user_id.encode(), self._settings.topics.partitions)

    def _check_key(self, record: Record, user_id: str) -> None:
        """Raise Poison for a profile that lies in another partition than its user's events, and for one of a reserved user id."""
        refuse_reserved(user_id, self._settings.lists)
        topics, key = self._settings.topics, record.key or b""
        if topics.wrong_partition != "accept" and (wanted := partition_for(key, topics.partitions)) != record.partition:
            raise misplaced(record.partition, wanted)

    def _dead_letter(self, record: Record, poison: Poison) -> DeadLetter:
        return make_dead_letter(
            poison,
            source_topic=record.topic,
            source_partition=record.partition,
            source_offset=record.source_offset,
            source_timestamp_ms=record.source_timestamp_ms,
            key=record.key,
            value=record.value,
            dead_letter_ts_ms=int(self._wall_clock() * 1000),
            with_payload=self._settings.stream.dead_letter_payload,
        )
