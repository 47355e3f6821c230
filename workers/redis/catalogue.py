"""Items, their numbers, profiles, and how far the reference topics have been read, in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from workers.errors import Fenced
from workers.redis.commands import Argument, Command
from workers.redis.keys import Keys, generation_namespace
from workers.redis.opened_store import OpenedStore
from workers.state.layout import parse_item_groups, parse_stored_item, strip_prefix
from workers.state.port import ItemRecord, StoredItem

IDS_PER_CALL = 4_096
"""Item ids that one call numbers: some 6 ms of the server at most."""
NAMES_PER_CALL = 50_000
RECORDS_PER_CALL = 1_024
"""Catalogue records, some kB each, that one call stores."""


class Catalogue(OpenedStore):
    """Methods of `StateStore` for items and reference topics."""

    async def item_numbers(self, item_ids: Sequence[str], n_known: int = 0, last_known: str = "") -> list[int]:
        keys, numbers = [self.keys.ids, self.keys.names], []
        for at in range(0, len(item_ids), IDS_PER_CALL):
            answer = await self._link.run([self._call("number_items", keys, n_known, last_known, *item_ids[at : at + IDS_PER_CALL])])
            if answer[0] is None:
                raise Fenced("the numbering of items in Redis went back")
            numbers += answer[0]
        return numbers

    async def restore_names(self, first: int, names: Sequence[str]) -> bool:
        keys = [self.keys.ids, self.keys.names]
        for at in range(0, len(names), IDS_PER_CALL):
            answer = await self._link.run([self._call("restore_names", keys, first + at, *names[at : at + IDS_PER_CALL])])
            if answer[0] != 1:
                return False
        return True

    async def known_item_numbers(self, item_ids: Sequence[str]) -> list[int | None]:
        key = self.keys.ids
        chunks = [item_ids[at : at + IDS_PER_CALL] for at in range(0, len(item_ids), IDS_PER_CALL)]
        answers = await self._link.run([Command(key, ("HMGET", key, *chunk)) for chunk in chunks])
        return [None if number is None else int(number) for answer in answers for number in answer]

    async def item_names(self, start: int = 0) -> list[str]:
        key, names = self.keys.names, []
        while True:
            page = await self._link.one(key, "LRANGE", key, start, start + NAMES_PER_CALL - 1)
            names += [name.decode() for name in page]
            if len(page) < NAMES_PER_CALL:
                return names
            start += NAMES_PER_CALL

    async def n_items(self) -> int:
        return int(await self._link.one(self.keys.names, "LLEN", self.keys.names))

    async def upsert_items(self, records: Sequence[ItemRecord]) -> int:
        groups: dict[int, list[ItemRecord]] = {}
        for record in records:
            groups.setdefault(record.number % self.layout.item_groups, []).append(record)
        commands, sent = [], []
        for group, members in groups.items():
            for at in range(0, len(members), RECORDS_PER_CALL):
                chunk = members[at : at + RECORDS_PER_CALL]
                args: list[Argument] = []
                for record in chunk:
                    args += (record.number, record.partition, record.source_offset, record.content or b"")
                commands.append(self._call("upsert_items", [self.keys.items(group)], *args))
                sent.append(chunk)
        current: dict[int, None] = {}
        n_current = 0
        for chunk, flags in zip(sent, await self._link.run(commands), strict=True):
            stored = [record.number for record, flag in zip(chunk, flags.decode(), strict=True) if flag == "1"]
            n_current += len(stored)
            current.update(dict.fromkeys(stored))
        if current:  # also on a replay of what was stored already: the crash may have come before this step
            await self._link.run([self._call("note_changes", [self.keys.version, self.keys.changes], *current)])
        return n_current

    async def changed_items(self, since_version: int) -> tuple[int, list[int]]:
        version_key, key = self.keys.version, self.keys.changes
        commands = [Command(version_key, ("GET", version_key)), Command(key, ("ZRANGEBYSCORE", key, f"({since_version}", "+inf"))]
        stored, members = await self._link.run(commands)
        version = int(stored or 0)
        if version < since_version:
            members = await self._link.one(key, "ZRANGE", key, 0, -1)
        return version, [int(member) for member in members]

    async def read_items(self, numbers: Sequence[int]) -> list[bytes | None]:
        return [strip_prefix(stored) for stored in await self._item_fields(numbers)]

    async def read_stored_items(self, numbers: Sequence[int]) -> list[StoredItem | None]:
        return [parse_stored_item(stored) for stored in await self._item_fields(numbers)]

    async def _item_fields(self, numbers: Sequence[int]) -> list[bytes | None]:
        """Return the stored field of each item: `partition:offset:` and JSON."""
        groups: dict[int, list[int]] = {}
        for i, number in enumerate(numbers):
            groups.setdefault(number % self.layout.item_groups, []).append(i)
        commands = [
            Command(self.keys.items(group), ("HMGET", self.keys.items(group), *(numbers[i] for i in positions)))
            for group, positions in groups.items()
        ]
        found: list[bytes | None] = [None] * len(numbers)
        for positions, answer in zip(groups.values(), await self._link.run(commands), strict=True):
            for i, stored in zip(positions, answer, strict=True):
                found[i] = stored
        return found

    async def scan_items(self, generation: int) -> AsyncIterator[list[tuple[str, StoredItem]]]:
        keys = Keys(generation_namespace(self._namespace, generation))
        groups = parse_item_groups(await self._link.one(keys.layout, "GET", keys.layout))
        start = 0
        while groups:
            names = await self._link.one(keys.names, "LRANGE", keys.names, start, start + RECORDS_PER_CALL - 1)
            numbers = range(start, start + len(names))
            by_group = [[number for number in numbers if number % groups == group] for group in range(groups)]
            asked = [(group, own) for group, own in enumerate(by_group) if own]
            commands = [Command(keys.items(group), ("HMGET", keys.items(group), *own)) for group, own in asked]
            page = []
            for (_, own), answer in zip(asked, await self._link.run(commands), strict=True):
                for number, field in zip(own, answer, strict=True):
                    if (stored := parse_stored_item(field)) is not None:
                        page.append((names[number - start].decode(), stored))
            if page:
                yield page
            if len(names) < RECORDS_PER_CALL:
                return
            start += RECORDS_PER_CALL

    async def catalogue_read(self) -> str:
        return (await self._link.one(self.keys.catalogue, "GET", self.keys.catalogue) or b"").decode()

    async def catalogue_read_into(self, generation: int) -> str:
        key = Keys(generation_namespace(self._namespace, generation)).catalogue
        return (await self._link.one(key, "GET", key) or b"").decode()

    async def note_catalogue(self, what: str) -> None:
        await self._link.one(self.keys.catalogue, "SET", self.keys.catalogue, what)

    async def catalogue_offsets(self) -> dict[str, int]:
        answer = await self._link.one(self.keys.catalogue_offsets, "HGETALL", self.keys.catalogue_offsets)
        return {place.decode(): int(next_offset) for place, next_offset in answer.items()}

    async def note_catalogue_offsets(self, next_offsets: Mapping[str, int]) -> None:
        if next_offsets:
            key = self.keys.catalogue_offsets
            await self._link.one(key, "HSET", key, *(field for pair in next_offsets.items() for field in pair))
