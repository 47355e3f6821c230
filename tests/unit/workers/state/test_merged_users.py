"""Chains and crowds of merged ids are bounded, by what the records say alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.builders import small_settings
from tests.memory_store import MemoryStore
from workers.kafka.partitioner import partition_for
from workers.operations import lookup
from workers.state.layout import layout_of
from workers.state.merged_users import MOST_HOPS, MOST_PARTS, Merged, MergeReader, Owner
from workers.state.users_topic import MergeNote, ProfileRecord

SETTINGS = small_settings(topics={"wrong_partition": "dead_letter"})


def partition(user_id: str) -> int:
    return partition_for(user_id.encode(), 2)


def owner(user_id: str) -> Owner:
    return partition(user_id), user_id


async def merged(merges: Mapping[str, str]) -> MemoryStore:
    """Return a store with these merges, of which the later ones have newer records."""
    store = MemoryStore()
    await store.open(layout_of(SETTINGS))
    for at, (user_id, account) in enumerate(merges.items()):
        await store.note_merges([MergeNote(partition(account), account, user_id, at)])
        content = b'{"user_id":"%s","merged_into":"%s"}' % (user_id.encode(), account.encode())
        await store.upsert_profile(ProfileRecord(partition(user_id), user_id, 0, content, account))
    return store


async def read(store: MemoryStore, *user_ids: str) -> dict[Owner, Merged]:
    return await MergeReader(store, partition).read([owner(user_id) for user_id in user_ids])


async def test_a_chain_counts_up_to_its_longest_and_a_longer_one_for_nothing() -> None:
    store = await merged({f"u{number}": f"u{number + 1}" for number in range(MOST_HOPS + 1)})
    end = f"u{MOST_HOPS + 1}"
    found = await read(store, "u0", "u1", end)
    assert owner("u0") not in found, "one record too many: the id keeps its list"
    assert found[owner("u1")].goes_on_as == owner(end)
    assert found[owner(end)].parts == tuple(owner(f"u{number}") for number in range(MOST_HOPS, 0, -1)), "all but the first, nearest first"


async def test_of_too_many_ids_those_of_the_newest_records_count() -> None:
    store = await merged({f"u{number}": "account" for number in range(MOST_PARTS + 9)} | {"far": f"u{MOST_PARTS + 8}"})
    parts = (await read(store, "account"))[owner("account")].parts
    assert parts == tuple(owner(f"u{number}") for number in range(MOST_PARTS + 8, 8, -1)), "the nearest, and of these the newest"
    assert (await read(store, "far", "u0"))[owner("far")].goes_on_as == owner("account")


async def test_ids_of_a_circle_and_those_that_lead_to_it_keep_their_lists() -> None:
    store = await merged({"a": "b", "b": "c", "c": "a", "d": "a"})
    assert await read(store, "a", "b", "c", "d") == {}


async def test_a_person_is_shown_where_an_id_went_and_why_it_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    store = await merged({"visitor": "account", "a": "b", "b": "a"})
    await store.upsert_profile(ProfileRecord(partition("account"), "account", 0, b'{"user_id":"account"}'))
    monkeypatch.setattr(lookup, "open_store", lambda settings: store)
    shown = {user_id: await lookup.show_user(SETTINGS, user_id) for user_id in ("visitor", "account", "a")}
    assert (shown["visitor"]["merged_into"], shown["visitor"]["merge_ignored"]) == ("account", False)
    assert (shown["account"]["merged_into"], shown["account"]["merged_from"]) == (None, ["visitor"])
    assert (shown["a"]["merged_into"], shown["a"]["merge_ignored"]) == (None, True)
