"""Windows of users move with the watermark, and what is published is remembered: on every store alike."""

from __future__ import annotations

import numpy as np

from recsys.state.bought import BUYERS_ROW, USERS, bought_row
from recsys.state.item_row import pack_records
from recsys.state.related import TOGETHER, changed_row
from tests.contract.conftest import LAYOUT
from workers.settings import RelatedSettings
from workers.state.buyers import Buyers
from workers.state.port import Compaction, GroupDeltas, Range, RowId, StateStore, UserCommit

MINUS_ONE = 0xFFFF_FFFF


async def test_windows_are_written_with_the_watermark_or_not_at_all(store: StateStore) -> None:
    windows = {"u": b"\1\0\0\0", "v:w": b"\2\0\0\0"}
    await store.commit_users([UserCommit(1, "t", -1, 4, {"u": b"row"}, {0: b"12345678"}, ("u",), 9, bought=windows)])
    assert await store.read_bought_of({1: ["u", "v:w", "x"], 0: ["u"], 2: []}) == {1: [b"\1\0\0\0", b"\2\0\0\0", None], 0: [None], 2: []}
    assert await store.read_users(1, ["u", "v:w"]) == [b"row", None]
    assert await store.read_duplicates(1, [0]) == [b"12345678"] and await store.owed_lists(1, 9) == ["u"]
    (fenced,) = await store.commit_users([UserCommit(1, "t", -1, 9, {}, bought={"u": b"\7\0\0\0"})])
    assert not fenced.committed
    assert await store.read_bought_of({1: ["u"]}) == {1: [b"\1\0\0\0"]}


async def append(store: StateStore, offset: int, rows: dict[tuple[int, RowId], bytes]) -> None:
    deltas = []
    for group in range(LAYOUT.item_groups):
        own = {row_id: body for (of, row_id), body in rows.items() if of == group}
        ends = np.cumsum([len(body) for body in own.values()], dtype="<u4").tobytes()
        deltas.append(GroupDeltas(group, list(own), ends, b"".join(own.values())))
    for result in await store.apply_items([Range(0, "t", offset - 1, offset, offset)], deltas):
        assert result.status == "applied"


async def test_users_of_items_are_read_by_what_was_appended_since(store: StateStore) -> None:
    buyers, settings = Buyers(store, LAYOUT.item_groups), RelatedSettings(least_users=2)
    await buyers.refresh()
    assert buyers.n_users == 0 and not len((await buyers.together_of([0], settings))[0].numbers)
    users = pack_records([0, USERS, 3], [3, 4, 1]), pack_records([1], [3])
    support = pack_records([1, 3], [2, 1])
    await append(store, 0, {(0, BUYERS_ROW): users[0], (1, BUYERS_ROW): users[1], (0, bought_row(0)): support})
    await buyers.refresh()
    assert buyers.n_users == 4 and buyers.of(np.array([0, 1, 2, 3])).tolist() == [3, 3, 0, 1]
    await append(store, 1, {(0, BUYERS_ROW): pack_records([3, USERS], [MINUS_ONE, 1])})
    await buyers.refresh()
    assert buyers.n_users == 5 and buyers.of(np.array([3])).tolist() == [0]
    found = (await buyers.together_of([0], settings))[0]
    assert found.numbers.tolist() == [1] and found.support.tolist() == [2]
    assert found.confidence.tolist() == [2 / 3] and found.lift.tolist() == [2 * 5 / 9]
    hidden = await buyers.together_of([0, 4], settings, listable=np.array([True, False, True, True]))
    assert not len(hidden[0].numbers) and not len(hidden[4].numbers), "1 may not be listed"
    (row,) = await store.read_rows([(0, BUYERS_ROW)])
    assert row is not None
    plan = Compaction(BUYERS_ROW, int.from_bytes(row[:4], "little"), len(row), pack_records([0, USERS], [3, 5]))
    assert await store.compact_rows(0, [plan]) == [8 + 16]
    await buyers.refresh()
    assert buyers.n_users == 5 and buyers.of(np.array([0, 1, 3])).tolist() == [3, 3, 0]


async def test_a_queue_keeps_what_came_after_it_was_read(store: StateStore) -> None:
    queue = 2, changed_row(TOGETHER)
    await append(store, 0, {queue: pack_records([2], [1])})
    (read,) = await store.read_rows([queue])
    await append(store, 1, {queue: pack_records([5], [1])})
    assert read is not None
    taken = Compaction(queue[1], int.from_bytes(read[:4], "little"), len(read), b"")
    assert await store.compact_rows(2, [taken]) == [16]
    (left,) = await store.read_rows([queue])
    assert left is not None and left[8:] == pack_records([5], [1])
    assert [page async for page in store.scan_rows() if any(kind not in ("c", "pop") for _, (kind, *_) in page)] == []


async def test_what_is_published_is_remembered_by_group(store: StateStore) -> None:
    assert await store.published_lists(1) == {}
    await store.note_published(1, {b"s:4": b"\0\1", b"b:4": b"x", b"b:1": b"y"})
    await store.note_published(1, {b"b:4": None, b"s:4": b"z", b"s:7": None})
    assert await store.published_lists(1) == {b"s:4": b"z", b"b:1": b"y"}
    await store.note_published(1, {})
    assert await store.published_lists(0) == {}
