"""Users of a partition in Redis: their rows, the partition's watermark and what changes with it in one step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from workers.redis.commands import Command
from workers.redis.opened_store import SCAN_COUNT, OpenedStore
from workers.state.layout import parse_watermark, store_chunks
from workers.state.port import CommitResult, UserCommit, Watermark


class Users(OpenedStore):
    """Methods of `StateStore` for users of a partition."""

    async def watermarks(self, partitions: Sequence[int]) -> dict[int, Watermark | None]:
        keys = [self.keys.partition_watermark(partition) for partition in partitions]
        answers = await self._link.run([Command(key, ("GET", key)) for key in keys])
        return dict(zip(partitions, map(parse_watermark, answers), strict=True))

    async def event_times(self, partitions: Sequence[int]) -> dict[int, int | None]:
        keys = [self.keys.event_time(partition) for partition in partitions]
        answers = await self._link.run([Command(key, ("GET", key)) for key in keys])
        return {partition: None if stored is None else int(stored) for partition, stored in zip(partitions, answers, strict=True)}

    async def read_users(self, partition: int, user_ids: Sequence[str]) -> list[bytes | None]:
        return (await self.read_users_of({partition: user_ids}))[partition]

    async def read_users_of(self, requests: Mapping[int, Sequence[str]]) -> dict[int, list[bytes | None]]:
        return await self._read_of(requests, self.keys.users)

    async def read_shown_of(self, requests: Mapping[int, Sequence[str]]) -> dict[int, list[bytes | None]]:
        return await self._read_of(requests, self.keys.shown)

    async def read_bought_of(self, requests: Mapping[int, Sequence[str]]) -> dict[int, list[bytes | None]]:
        return await self._read_of(requests, self.keys.bought)

    async def _read_of(
        self, requests: Mapping[int, Sequence[str]], keys_of: Callable[[int, list[str]], list[str]]
    ) -> dict[int, list[bytes | None]]:
        """Return the values of the keys of users by partition, in one round trip."""
        found: dict[int, list[bytes | None]] = {partition: [] for partition in requests}
        asked = [partition for partition, user_ids in requests.items() if user_ids]
        commands = []
        for partition in asked:
            keys = keys_of(partition, list(requests[partition]))
            commands.append(Command(keys[0], ("MGET", *keys)))
        return found | dict(zip(asked, await self._link.run(commands), strict=True))

    async def read_users_at(self, partition: int, user_ids: Sequence[str]) -> tuple[Watermark | None, list[bytes | None]]:
        keys = [self.keys.partition_watermark(partition), *self.keys.users(partition, list(user_ids))]
        watermark, *rows = await self._link.one(keys[0], "MGET", *keys)
        return parse_watermark(watermark), rows

    async def read_shown_at(self, partition: int, user_ids: Sequence[str]) -> tuple[int, list[bytes | None]]:
        keys = [self.keys.partition_watermark(partition), *self.keys.shown(partition, list(user_ids))]
        stored, *rows = await self._link.one(keys[0], "MGET", *keys)
        watermark = parse_watermark(stored)
        return -1 if watermark is None else watermark.last_applied_offset, rows

    async def commit_users(self, commits: Sequence[UserCommit]) -> list[CommitResult]:
        commands = []
        for commit in commits:
            appended, dropped = store_chunks(commit, self.layout.duplicate_chunk)
            chunk_keys = [self.keys.duplicates(commit.partition, chunk) for chunk in (*appended, *dropped)]
            partition = commit.partition
            heads = [self.keys.partition_watermark(partition), self.keys.owed(partition), self.keys.event_time(partition)]
            heads.append(self.keys.asked(partition))
            erased = list(commit.erased)
            gone = *self.keys.users(partition, erased), *self.keys.shown(partition, erased), *self.keys.bought(partition, erased)
            users = self.keys.users(partition, list(commit.rows)), self.keys.shown(partition, list(commit.shown))
            keys = [*heads, *users[0], *users[1], *self.keys.bought(partition, list(commit.bought)), *chunk_keys, *gone]
            rows = *commit.rows.values(), *commit.shown.values(), *commit.bought.values()
            head = (commit.topic_id, commit.expected_last, commit.new_last, commit.newest_s, len(rows), len(appended), len(erased))
            commands.append(self._call("commit_users", keys, *head, *rows, *appended.values(), *erased, *commit.owed))
        results = []
        for commit, stored in zip(commits, await self._link.run(commands), strict=True):
            moved = Watermark(commit.topic_id, commit.new_last) if commit.new_last >= 0 else None
            results.append(CommitResult(commit.partition, stored is None, moved if stored is None else parse_watermark(stored)))
        return results

    async def owed_lists(self, partition: int, at_most: int) -> list[str]:
        key = self.keys.owed(partition)
        return [user_id.decode() for user_id in await self._link.one(key, "SRANDMEMBER", key, at_most)]

    async def settle_lists(self, partition: int, made_from: Watermark, user_ids: Sequence[str], asked: Sequence[int] | None = None) -> bool:
        keys = [self.keys.partition_watermark(partition), self.keys.owed(partition), self.keys.asked(partition)]
        counts = [0] * len(user_ids) if asked is None else asked
        answer = await self._link.run([self._call("settle_lists", keys, *made_from, len(user_ids), *user_ids, *counts)])
        return bool(answer[0] == 1)

    async def read_duplicates(self, partition: int, chunks: Sequence[int]) -> list[bytes]:
        if not chunks:
            return []
        keys = [self.keys.duplicates(partition, chunk) for chunk in chunks]
        return [stored or b"" for stored in await self._link.one(keys[0], "MGET", *keys)]

    async def scan_users(self, partition: int) -> AsyncIterator[str]:
        async for user_id in self._scan(self.keys.users_prefix(partition)):
            yield user_id

    async def scan_shown(self, partition: int) -> AsyncIterator[str]:
        async for user_id in self._scan(self.keys.shown_prefix(partition)):
            yield user_id

    async def _scan(self, prefix: str) -> AsyncIterator[str]:
        """Yield what follows the prefix in the names of keys."""
        async for page in self._link.scan(prefix, prefix + "*", SCAN_COUNT):
            for key in page:
                yield key.decode()[len(prefix) :]
