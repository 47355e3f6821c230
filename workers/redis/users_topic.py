"""The users topic in Redis: profiles, and ids that go on as another one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from workers.redis.commands import Command
from workers.redis.opened_store import SCAN_COUNT, OpenedStore
from workers.state.layout import strip_prefix
from workers.state.users_topic import MOST_SOURCES, NO_STANDING, ListWork, MergeNote, ProfileRecord, Standing

REMOVAL_MARK_S = 30 * 86_400
"""How long the mark of a removed profile keeps a late writer from restoring it."""


class UsersTopic(OpenedStore):
    """Methods of `UsersTopicStore`."""

    async def upsert_profile(self, record: ProfileRecord) -> bool:
        return (await self.upsert_profiles([record]))[0]

    async def upsert_profiles(self, records: Sequence[ProfileRecord]) -> list[bool]:
        commands = []
        for record in records:
            partition, user_id = record.partition, record.user_id
            waiting = self.keys.owed(partition), self.keys.asked(partition)
            keys = [self.keys.profile(partition, user_id), self.keys.merged(partition), *waiting]
            content = partition, record.source_offset, record.content or b"", REMOVAL_MARK_S
            needs_list = "1" if record.needs_list else ""
            commands.append(self._call("upsert_profile", keys, *content, user_id, record.merged_into, needs_list))
        return [answer == 1 for answer in await self._link.run(commands)]

    async def read_profiles(self, partition: int, user_ids: Sequence[str]) -> list[bytes | None]:
        if not user_ids:
            return []
        keys = [self.keys.profile(partition, user_id) for user_id in user_ids]
        return [strip_prefix(stored) for stored in await self._link.one(keys[0], "MGET", *keys)]

    async def note_merges(self, notes: Sequence[MergeNote]) -> None:
        await self._link.run(
            [
                self._call("note_merge", [self.keys.sources(note.partition)], note.account, note.user_id, note.record_ts_ms, MOST_SOURCES)
                for note in notes
            ]
        )

    async def read_standings(self, requests: Mapping[int, Sequence[str]]) -> dict[int, list[Standing]]:
        found: dict[int, list[Standing]] = {partition: [] for partition in requests}
        asked = [partition for partition, user_ids in requests.items() if user_ids]
        keys = [key for partition in asked for key in (self.keys.merged(partition), self.keys.sources(partition))]
        commands = [Command(key, ("HMGET", key, *requests[asked[at // 2]])) for at, key in enumerate(keys)]
        answers = await self._link.run(commands)
        for at, partition in enumerate(asked):
            found[partition] = [_standing(*fields) for fields in zip(answers[2 * at], answers[2 * at + 1], strict=True)]
        return found

    async def list_work(self, partitions: Sequence[int]) -> dict[int, ListWork]:
        commands = []
        for partition in partitions:
            owed, merged, sources = self.keys.owed(partition), self.keys.merged(partition), self.keys.sources(partition)
            commands += [Command(owed, ("SCARD", owed)), Command(merged, ("HLEN", merged)), Command(sources, ("HLEN", sources))]
        answers = await self._link.run(commands)
        counts = zip(answers[::3], answers[1::3], answers[2::3], strict=True)
        work = [ListWork(n_waiting, bool(n_merged or n_named)) for n_waiting, n_merged, n_named in counts]
        return dict(zip(partitions, work, strict=True))

    async def await_lists(self, user_ids: Mapping[int, Sequence[str]]) -> None:
        await self._link.run(
            [
                self._call("await_lists", [self.keys.owed(partition), self.keys.asked(partition)], *waiting)
                for partition, waiting in user_ids.items()
                if waiting
            ]
        )

    async def lists_asked(self, partition: int, user_ids: Sequence[str]) -> list[int]:
        key = self.keys.asked(partition)
        return [int(stored or 0) for stored in await self._link.one(key, "HMGET", key, *user_ids)] if user_ids else []

    async def forget_before(self, partition: int, before: Mapping[str, str]) -> None:
        pairs = [part for pair in before.items() for part in pair]
        await self._link.run([self._call("forget_before", [self.keys.merged(partition)], *pairs)])

    async def scan_merged(self, partition: int) -> AsyncIterator[list[tuple[str, str]]]:
        key, cursor = self.keys.merged(partition), 0
        while True:
            cursor, fields = await self._link.one(key, "HSCAN", key, cursor, "COUNT", SCAN_COUNT)
            pairs = zip(fields[::2], fields[1::2], strict=True) if isinstance(fields, list) else fields.items()
            yield [(user_id.decode(), merged_into) for user_id, field in pairs if (merged_into := _standing(field, None).merged_into)]
            cursor = int(cursor)
            if not cursor:
                return


def _standing(merged: bytes | None, sources: bytes | None) -> Standing:
    """Return a standing from its two stored fields."""
    if merged is None and sources is None:
        return NO_STANDING
    merged_into, _, before = (merged or b"").decode().partition("\n")
    ids = tuple(line.partition(":")[2] for line in (sources or b"").decode().split("\n") if line)
    return Standing(merged_into, before, ids)
