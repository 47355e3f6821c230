"""The users topic in the state store: profiles, and ids that go on as another one (ADR 22)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple, Protocol

MOST_SOURCES = 64
"""Ids that are noted of one account, the newest ones."""


class ProfileRecord(NamedTuple):
    """One record of the users topic; `content` is JSON, None removes the profile. `merged_into` is the id that the user goes on as, empty
    for none. With `needs_list` the user is noted as one who waits for a list, in the same step."""

    partition: int
    user_id: str
    source_offset: int
    content: bytes | None
    merged_into: str = ""
    needs_list: bool = False


class MergeNote(NamedTuple):
    """Where to look for ids that go on as an account: a record of `record_ts_ms` says so of `user_id`. `partition` is the account's."""

    partition: int
    account: str
    user_id: str
    record_ts_ms: int


class Standing(NamedTuple):
    """The sum of what records say about one id: the id that it goes on as, empty for none; the one that it went on as before that; and the
    ids that may go on as this one, newest record first. Their own standings say whether they do."""

    merged_into: str = ""
    before: str = ""
    sources: tuple[str, ...] = ()


NO_STANDING = Standing()


class ListWork(NamedTuple):
    """The number of users of a partition who wait for a list, and whether an id of it goes on as another one, or another one as it."""

    n_waiting: int
    has_merges: bool


class UsersTopicStore(Protocol):
    """The part of `StateStore` that the users topic fills. Errors are those of `StateStore`; every call may be repeated."""

    async def upsert_profile(self, record: ProfileRecord) -> bool:
        """Store a profile, and what it says of merges, unless a newer one is there; True if it is what is stored now.

        A user who went on as another id and does not any more is noted as one who waits for a list.
        """
        ...

    async def upsert_profiles(self, records: Sequence[ProfileRecord]) -> list[bool]: ...

    async def read_profiles(self, partition: int, user_ids: Sequence[str]) -> list[bytes | None]: ...

    async def note_merges(self, notes: Sequence[MergeNote]) -> None:
        """Remember for each account which ids may go on as it. Call this before `upsert_profiles` of the same records: what a standing says
        can then always be found from its account."""
        ...

    async def read_standings(self, requests: Mapping[int, Sequence[str]]) -> dict[int, list[Standing]]:
        """Return what records say about users of several partitions, in one round trip."""
        ...

    async def list_work(self, partitions: Sequence[int]) -> dict[int, ListWork]:
        """Return what there is to do for lists in each partition, in one round trip."""
        ...

    async def await_lists(self, user_ids: Mapping[int, Sequence[str]]) -> None:
        """Note that users of any partitions wait for a list, which may belong to other workers."""
        ...

    async def lists_asked(self, partition: int, user_ids: Sequence[str]) -> list[int]:
        """Return how often lists were asked for users by `await_lists` and `upsert_profiles` since they last waited for none."""
        ...

    async def forget_before(self, partition: int, before: Mapping[str, str]) -> None:
        """Forget as which ids users of a partition went on before, where it is still the one given."""
        ...

    def scan_merged(self, partition: int) -> AsyncIterator[list[tuple[str, str]]]:
        """Yield pages of (id, the id that it goes on as) of a partition, in no order."""
        ...
