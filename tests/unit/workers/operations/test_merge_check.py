"""`recsys state verify` finds merges that the state and the users topic say differently, while workers go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from tests.builders import small_settings
from tests.memory_store import MemoryStore
from workers.kafka.partitioner import partition_for
from workers.kafka.records import Record
from workers.operations import merge_check
from workers.operations.reference_fold import user_digest
from workers.state.layout import layout_of
from workers.state.users_topic import MergeNote, ProfileRecord

SETTINGS = small_settings(topics={"wrong_partition": "dead_letter"}, lists={"shared_every_s": 60})


def partition(user_id: str) -> int:
    return partition_for(user_id.encode(), 2)


def record(user_id: str, source_offset: int, **fields: Any) -> Record:
    return Record("users", partition(user_id), source_offset, user_id.encode(), orjson.dumps({"user_id": user_id, **fields}), 1)


async def store_of(merged: Mapping[str, str], *, with_notes: bool = True) -> MemoryStore:
    store = MemoryStore()
    await store.open(layout_of(SETTINGS))
    for user_id, account in merged.items():
        if with_notes:
            await store.note_merges([MergeNote(partition(account), account, user_id, 1)])
        await store.upsert_profile(ProfileRecord(partition(user_id), user_id, 0, b"{}", account))
    return store


async def differences(monkeypatch: pytest.MonkeyPatch, store: MemoryStore, *records: Record, applied: int = 99) -> list[tuple[str, str]]:
    merges = merge_check.MergesOfTopic({0: applied, 1: applied}, 2, SETTINGS.lists)
    for one in records:
        merges.take(one)

    async def read(*_: Any) -> merge_check.MergesOfTopic:
        return merges

    monkeypatch.setattr(merge_check, "_read", read)
    n_merged, found = await merge_check.merge_differences(SETTINGS, store)
    assert n_merged == sum([len(page) for number in (0, 1) async for page in store.scan_merged(number)])
    return found


async def test_the_newest_record_of_each_id_counts_and_what_workers_refuse_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    store = await store_of({"a": "b", "c": "d"})
    misplaced = record("a", 9)._replace(partition=1 - partition("a"))
    refused = (record("a", 4, merged_into="a"), record("a", 5, merged_into="recsys:x"), record("a", 6, merged_into=7), misplaced)
    good = record("a", 1, merged_into="x"), record("a", 2, merged_into="b"), record("c", 2, merged_into="d"), record("e", 3)
    assert await differences(monkeypatch, store, *good, *refused) == []


async def test_a_merge_that_the_topic_does_not_know_or_the_state_does_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    store = await store_of({"a": "b", "c": "d", "e": "f"})
    found = dict(await differences(monkeypatch, store, record("a", 1, merged_into="x"), record("e", 2), record("g", 3, merged_into="h")))
    assert set(found) == {"a", "c", "e", "g"}
    assert found["a"] == f"by the topic it goes on as user {user_digest('x')}, by the state as user {user_digest('b')}"
    assert found["c"].startswith("by the topic it goes on as nobody") and found["g"].endswith("by the state as nobody")


async def test_what_workers_may_not_have_applied_yet_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    store = await store_of({"a": "b", "c": "d"})
    old, new = record("a", 1, merged_into="b"), (record("a", 5, merged_into="x"), record("e", 6, merged_into="f"))
    assert await differences(monkeypatch, store, old, *new, record("c", 7, merged_into="d"), applied=5) == []


async def test_an_account_that_does_not_know_its_id_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    store = await store_of({"a": "b"}, with_notes=False)
    (found,) = await differences(monkeypatch, store, record("a", 1, merged_into="b"))
    assert found == ("a", f"user {user_digest('b')}, as whom it goes on, does not know it")
