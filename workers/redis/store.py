"""The state store on Redis ≥ 7, Valkey, or a cluster of either. Atomic steps are functions (`workers/redis/*.lua`)."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from recsys.state.batch_delta import RowId
from recsys.state.item_row import pack_header
from workers.errors import Fatal, Fenced
from workers.redis.connection import Argument, Command, Link, call
from workers.redis.functions import load_library
from workers.redis.keys import Keys, PointerKeys, generation_namespace
from workers.settings import RedisSettings
from workers.state.layout import (
    compare_layouts,
    parse_generation,
    parse_group_watermarks,
    parse_item_groups,
    parse_stored_item,
    parse_watermark,
    refuse_active,
    store_chunks,
    strip_prefix,
    validate_ranges,
)
from workers.state.port import (
    ApplyStatus,
    CommitResult,
    Compaction,
    GroupDeltas,
    GroupResult,
    ItemRecord,
    Layout,
    ProfileRecord,
    Range,
    RowAddress,
    RowTail,
    ServerIdentity,
    StoredItem,
    TailKind,
    UserCommit,
    Watermark,
)

IDS_PER_CALL = 4_096
"""Item ids that one call numbers: some 6 ms of the server at most."""
NAMES_PER_CALL = 50_000
ROWS_PER_CALL = 4_096
RECORDS_PER_CALL = 1_024
"""Catalogue records, some kB each, that one call stores."""
SCAN_COUNT = 1_000
REMOVAL_MARK_S = 30 * 86_400
"""How long the mark of a removed profile keeps a late writer from bringing it back."""

_TAILS = {"t": TailKind.TAIL, "f": TailKind.FULL, "-": TailKind.MISSING}


class RedisStore:
    """`StateStore` on Redis; see there for what each method promises. A pinned one opens that generation, whichever is active."""

    def __init__(self, settings: RedisSettings, *, pinned: int | None = None) -> None:
        self._pinned = pinned
        self.keys = Keys(settings.namespace)
        self._namespace, self._pointers = settings.namespace, PointerKeys(settings.namespace)
        self._generation = 0
        self._link = Link(settings, load_library())
        self._layout: Layout | None = None

    def _call(self, name: str, keys: Sequence[str], *args: Argument, read_only: bool = False) -> Command:
        return call(self._link.library.function(name), keys, *args, read_only=read_only)

    @property
    def layout(self) -> Layout:
        if self._layout is None:
            raise Fatal("the state store was used before it was opened: call open(layout) first")
        return self._layout

    def _by_group(self, rows: Iterable[RowAddress]) -> dict[int, list[int]]:
        positions: dict[int, list[int]] = {}
        for i, (group, _) in enumerate(rows):
            positions.setdefault(group, []).append(i)
        return positions

    async def open(self, layout: Layout, generation: int | None = None) -> None:
        self._link.servers.forget()
        loaded = await self._link.libraries()
        if any(self._link.library.name not in names for names in loaded):
            await self._link.load()
        chosen = await self.wanted_generation() if generation is None else generation
        self._generation, self.keys = chosen, Keys(generation_namespace(self._namespace, chosen))
        key = self.keys.layout
        wanted = json.dumps(asdict(layout), sort_keys=True)
        await self._link.one(key, "SET", key, wanted, "NX")
        compare_layouts(await self._link.one(key, "GET", key), layout)
        await self._link.one(self.keys.state_id, "SET", self.keys.state_id, secrets.token_hex(8), "NX")
        self._layout = layout

    @property
    def generation(self) -> int:
        return self._generation

    async def active_generation(self) -> int:
        key = self._pointers.generation
        return parse_generation(await self._link.one(key, "GET", key))

    async def wanted_generation(self) -> int:
        return await self.active_generation() if self._pinned is None else self._pinned

    async def switch_generation(self, expected: int, to: int) -> bool:
        answer = await self._link.run([self._call("switch_generation", [self._pointers.generation], expected, to)])
        return bool(answer[0] == 1)

    async def drop_generation(self, generation: int) -> int:
        refuse_active(generation, await self.active_generation())
        spared = {key.encode() for key in self._pointers}  # generation 0 shares its namespace with them
        n_keys = 0
        async for page in self._link.scan_primaries(Keys(generation_namespace(self._namespace, generation)).pattern, SCAN_COUNT):
            by_tag: dict[bytes, list[bytes]] = {}
            for key in page:
                if key not in spared:
                    by_tag.setdefault(key[: key.index(b"}") + 1], []).append(key)
            n_keys += sum(await self._link.run([Command(tag.decode(), ("UNLINK", *keys)) for tag, keys in by_tag.items()]))
        return n_keys

    async def claim_rebuild(self, owner: str, hold_s: float) -> bool:
        answer = await self._link.run([self._call("claim_rebuild", [self._pointers.rebuild], owner, round(hold_s * 1000))])
        return bool(answer[0] == 1)

    async def watermarks(self, partitions: Sequence[int]) -> dict[int, Watermark | None]:
        keys = [self.keys.partition_watermark(partition) for partition in partitions]
        answers = await self._link.run([Command(key, ("GET", key)) for key in keys])
        return dict(zip(partitions, map(parse_watermark, answers), strict=True))

    async def event_times(self, partitions: Sequence[int]) -> dict[int, int | None]:
        keys = [self.keys.event_time(partition) for partition in partitions]
        answers = await self._link.run([Command(key, ("GET", key)) for key in keys])
        return {partition: None if stored is None else int(stored) for partition, stored in zip(partitions, answers, strict=True)}

    async def note_event_time(self, partition: int, newest_s: int) -> None:
        key = self.keys.event_time(partition)
        await self._link.one(key, "SET", key, newest_s, "NX")

    async def group_watermarks(self, group: int) -> dict[int, Watermark]:
        key = self.keys.group_watermarks(group)
        return parse_group_watermarks(await self._link.one(key, "HGETALL", key))

    async def state_id(self) -> str:
        return (await self._link.one(self.keys.state_id, "GET", self.keys.state_id) or b"").decode()

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

    async def read_users(self, partition: int, user_ids: Sequence[str]) -> list[bytes | None]:
        return (await self.read_users_of({partition: user_ids}))[partition]

    async def read_users_of(self, requests: Mapping[int, Sequence[str]]) -> dict[int, list[bytes | None]]:
        found: dict[int, list[bytes | None]] = {partition: [] for partition in requests}
        asked = [partition for partition, user_ids in requests.items() if user_ids]
        commands = []
        for partition in asked:
            keys = self.keys.users(partition, list(requests[partition]))
            commands.append(Command(keys[0], ("MGET", *keys)))
        return found | dict(zip(asked, await self._link.run(commands), strict=True))

    async def read_users_at(self, partition: int, user_ids: Sequence[str]) -> tuple[Watermark | None, list[bytes | None]]:
        keys = [self.keys.partition_watermark(partition), *self.keys.users(partition, list(user_ids))]
        watermark, *rows = await self._link.one(keys[0], "MGET", *keys)
        return parse_watermark(watermark), rows

    async def numbers_used(self) -> int:
        keys = [self.keys.group_watermarks(group) for group in range(self.layout.item_groups)]
        return max(int(answer or 0) for answer in await self._link.run([Command(key, ("HGET", key, "n")) for key in keys]))

    async def apply_items(self, ranges: Sequence[Range], deltas: Sequence[GroupDeltas], n_numbers: int = 0) -> list[GroupResult]:
        validate_ranges(ranges)
        header = pack_header(secrets.randbits(32), 0)  # a row dropped and born again must not look like the one somebody has cached
        range_args = [field for source in ranges for field in source]
        commands = []
        for delta in deltas:
            keys = [self.keys.group_watermarks(delta.group), *self.keys.rows(delta.group, delta.row_ids)]
            commands.append(self._call("apply_items", keys, header, delta.ends, delta.payload, n_numbers, *range_args))
        results = []
        for delta, (status, lengths, *stored) in zip(deltas, await self._link.run(commands), strict=True):
            found = {source.partition: parse_watermark(watermark) for source, watermark in zip(ranges, stored, strict=True)}
            results.append(GroupResult(delta.group, ApplyStatus(status.decode()), lengths, found))
        return results

    async def commit_users(self, commits: Sequence[UserCommit]) -> list[CommitResult]:
        commands = []
        for commit in commits:
            appended, dropped = store_chunks(commit, self.layout.duplicate_chunk)
            chunk_keys = [self.keys.duplicates(commit.partition, chunk) for chunk in (*appended, *dropped)]
            partition = commit.partition
            heads = [self.keys.partition_watermark(partition), self.keys.owed(partition), self.keys.event_time(partition)]
            keys = [*heads, *self.keys.users(commit.partition, list(commit.rows)), *chunk_keys]
            head = (commit.topic_id, commit.expected_last, commit.new_last, commit.newest_s, len(commit.rows), len(appended))
            commands.append(self._call("commit_users", keys, *head, *commit.rows.values(), *appended.values(), *commit.owed))
        results = []
        for commit, stored in zip(commits, await self._link.run(commands), strict=True):
            moved = Watermark(commit.topic_id, commit.new_last) if commit.new_last >= 0 else None
            results.append(CommitResult(commit.partition, stored is None, moved if stored is None else parse_watermark(stored)))
        return results

    async def owed_lists(self, partition: int, at_most: int) -> list[str]:
        key = self.keys.owed(partition)
        return [user_id.decode() for user_id in await self._link.one(key, "SRANDMEMBER", key, at_most)]

    async def settle_lists(self, partition: int, made_from: Watermark, user_ids: Sequence[str]) -> bool:
        keys = [self.keys.partition_watermark(partition), self.keys.owed(partition)]
        answer = await self._link.run([self._call("settle_lists", keys, *made_from, *user_ids)])
        return bool(answer[0] == 1)

    async def read_duplicates(self, partition: int, chunks: Sequence[int]) -> list[bytes]:
        if not chunks:
            return []
        keys = [self.keys.duplicates(partition, chunk) for chunk in chunks]
        return [stored or b"" for stored in await self._link.one(keys[0], "MGET", *keys)]

    async def read_rows(self, rows: Sequence[RowAddress]) -> list[bytes | None]:
        found: list[bytes | None] = [None] * len(rows)
        groups = self._by_group(rows)
        commands = []
        for group, positions in groups.items():
            keys = self.keys.rows(group, [rows[i][1] for i in positions])
            commands.append(Command(keys[0], ("MGET", *keys)))
        for positions, answer in zip(groups.values(), await self._link.run(commands), strict=True):
            for i, row in zip(positions, answer, strict=True):
                found[i] = row
        return found

    async def read_rows_at(self, group: int, row_ids: Sequence[RowId]) -> tuple[dict[int, Watermark], list[bytes | None]]:
        keys = [self.keys.group_watermarks(group), *self.keys.rows(group, list(row_ids))]
        ((fields, *rows),) = await self._link.run([self._call("rows_at", keys, read_only=True)])
        return parse_group_watermarks(dict(zip(fields[::2], fields[1::2], strict=True))), rows

    async def read_row_tails(self, rows: Sequence[tuple[RowAddress, int, int]]) -> list[RowTail]:
        if any(known < 8 for _, _, known in rows):
            raise ValueError("a known length counts the 8-byte header; read a row that is not known with read_rows")
        tails: list[RowTail] = [RowTail(TailKind.MISSING, b"")] * len(rows)
        groups = self._by_group(address for address, _, _ in rows)
        commands = []
        for group, positions in groups.items():
            keys = self.keys.rows(group, [rows[i][0][1] for i in positions])
            known = np.array([rows[i][1:] for i in positions], dtype="<u4").tobytes()
            commands.append(self._call("row_tails", keys, known, read_only=True))
        for positions, (flags, *values) in zip(groups.values(), await self._link.run(commands), strict=True):
            for i, flag, value in zip(positions, flags.decode(), values, strict=True):
                tails[i] = RowTail(_TAILS[flag], value)
        return tails

    async def compact_rows(self, group: int, compactions: Sequence[Compaction]) -> list[int]:
        if not compactions:
            return []
        keys = self.keys.rows(group, [compaction.row_id for compaction in compactions])
        plan = np.array(
            [(c.generation, c.bytes_read, (c.generation + 1) & 0xFFFF_FFFF, len(c.new_body)) for c in compactions], dtype="<u4"
        ).tobytes()
        answer = await self._link.run([self._call("compact_rows", keys, plan, *(c.new_body for c in compactions))])
        return [int(length) for length in np.frombuffer(answer[0], dtype="<u4")]

    async def scan_rows(self) -> AsyncIterator[list[RowAddress]]:
        keys = self.keys
        async for page in self._link.scan_primaries(keys.rows_pattern, SCAN_COUNT):
            yield [address for key in page if (address := keys.row_of(key.decode())) is not None]

    async def drop_rows(self, rows: Sequence[RowAddress]) -> int:
        commands: list[Command] = []
        for group, positions in self._by_group(rows).items():
            keys = self.keys.rows(group, [rows[i][1] for i in positions])
            chunks = [keys[at : at + ROWS_PER_CALL] for at in range(0, len(keys), ROWS_PER_CALL)]
            commands += [Command(chunk[0], ("UNLINK", *chunk)) for chunk in chunks]
        return sum(await self._link.run(commands))

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
        """What is stored of these items: `partition:offset:` and JSON."""
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

    async def upsert_profile(self, record: ProfileRecord) -> bool:
        return (await self.upsert_profiles([record]))[0]

    async def upsert_profiles(self, records: Sequence[ProfileRecord]) -> list[bool]:
        commands = []
        for record in records:
            key, content = self.keys.profile(record.partition, record.user_id), record.content or b""
            commands.append(self._call("upsert_profile", [key], record.partition, record.source_offset, content, REMOVAL_MARK_S))
        return [answer == 1 for answer in await self._link.run(commands)]

    async def read_profiles(self, partition: int, user_ids: Sequence[str]) -> list[bytes | None]:
        if not user_ids:
            return []
        keys = [self.keys.profile(partition, user_id) for user_id in user_ids]
        return [strip_prefix(stored) for stored in await self._link.one(keys[0], "MGET", *keys)]

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

    async def set_serving(self, kind: str, announcement: bytes, order: int) -> bool:
        answer = await self._link.run([self._call("set_serving", [self.keys.models, self.keys.model_orders], kind, announcement, order)])
        return bool(answer[0] == 1)

    async def serving(self) -> dict[str, bytes]:
        answer = await self._link.one(self.keys.models, "HGETALL", self.keys.models)
        return {kind.decode(): announcement for kind, announcement in answer.items()}

    async def scan_users(self, partition: int) -> AsyncIterator[str]:
        prefix = self.keys.users_prefix(partition)
        async for page in self._link.scan(prefix, prefix + "*", SCAN_COUNT):
            for key in page:
                yield key.decode()[len(prefix) :]

    async def ping(self) -> None:
        await self._link.on_primaries("PING")

    async def server_identity(self) -> list[ServerIdentity]:
        infos = await self._link.on_primaries("INFO")
        return [_identity(info, libraries) for info, libraries in zip(infos, await self._link.libraries(), strict=True)]

    async def close(self) -> None:
        await self._link.close()


def _identity(info: Mapping[str, Any], libraries: tuple[str, ...]) -> ServerIdentity:
    valkey = "valkey_version" in info
    return ServerIdentity(
        run_id=str(info["run_id"]),
        replication_id=str(info["master_replid"]),
        role=str(info["role"]),
        server="valkey" if valkey else "redis",
        version=str(info["valkey_version"] if valkey else info["redis_version"]),
        used_memory_bytes=int(info["used_memory"]),
        maxmemory_bytes=int(info["maxmemory"]),
        maxmemory_policy=str(info["maxmemory_policy"]),
        libraries=libraries,
    )
