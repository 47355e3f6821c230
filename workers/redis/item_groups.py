"""Item groups in Redis: rows of co-occurrence and popularity, and the watermarks beside them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence

import numpy as np

from recsys.state.item_row import pack_header
from recsys.state.row_names import RowId
from workers.redis.commands import Command
from workers.redis.opened_store import SCAN_COUNT, OpenedStore
from workers.state.layout import parse_group_watermarks, parse_watermark, validate_ranges
from workers.state.port import ApplyStatus, Compaction, GroupDeltas, GroupResult, Range, RowAddress, RowTail, TailKind, Watermark

ROWS_PER_CALL = 4_096
_TAILS = {"t": TailKind.TAIL, "f": TailKind.FULL, "-": TailKind.MISSING}


class ItemGroups(OpenedStore):
    """Methods of `StateStore` for rows of item groups."""

    async def group_watermarks(self, group: int) -> dict[int, Watermark]:
        key = self.keys.group_watermarks(group)
        return parse_group_watermarks(await self._link.one(key, "HGETALL", key))

    async def numbers_used(self) -> int:
        keys = [self.keys.group_watermarks(group) for group in range(self.layout.item_groups)]
        return max(int(answer or 0) for answer in await self._link.run([Command(key, ("HGET", key, "n")) for key in keys]))

    async def apply_items(self, ranges: Sequence[Range], deltas: Sequence[GroupDeltas], n_numbers: int = 0) -> list[GroupResult]:
        validate_ranges(ranges)
        header = pack_header(secrets.randbits(32), 0)  # a row that was dropped and created again must not pass for the one in a cache
        range_args = [field for source in ranges for field in source]
        commands = []
        for delta in deltas:
            of_group = self.keys.group_watermarks(delta.group), self.keys.epochs(delta.group)
            keys = [*of_group, *self.keys.rows(delta.group, delta.row_ids)]
            commands.append(self._call("apply_items", keys, header, delta.ends, delta.payload, n_numbers, *range_args))
        results = []
        for delta, (status, lengths, *stored) in zip(deltas, await self._link.run(commands), strict=True):
            found = {source.partition: parse_watermark(watermark) for source, watermark in zip(ranges, stored, strict=True)}
            results.append(GroupResult(delta.group, ApplyStatus(status.decode()), lengths, found))
        return results

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

    async def item_epochs(self, numbers: Sequence[int]) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in numbers]
        groups: dict[int, list[int]] = {}
        for i, number in enumerate(numbers):
            groups.setdefault(number % self.layout.item_groups, []).append(i)
        keys = [self.keys.epochs(group) for group in groups]
        asked = zip(keys, groups.values(), strict=True)
        commands = [Command(key, ("HMGET", key, *(numbers[i] for i in positions))) for key, positions in asked]
        for positions, answer in zip(groups.values(), await self._link.run(commands), strict=True):
            for i, packed in zip(positions, answer, strict=True):
                found[i] = np.frombuffer(packed or b"", "<u4").tolist()
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
