"""What every state store does, the fake and Redis alike."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from recsys.state import item_row
from recsys.state.batch_delta import RowId
from tests.contract.conftest import LAYOUT
from workers.errors import Fatal
from workers.state.layout import layout_text
from workers.state.port import (
    MOST_EPOCHS,
    ApplyStatus,
    Compaction,
    GroupDeltas,
    ItemRecord,
    Layout,
    Range,
    StateStore,
    StoredItem,
    TailKind,
    UserCommit,
    Watermark,
)
from workers.state.users_topic import ProfileRecord

TOPIC = "t:0pic-id"  # a topic id may hold a colon
A: RowId = ("c", 3, 4)
B: RowId = ("pop", "all", 0)


def deltas(group: int, changes: dict[RowId, list[tuple[int, int]]]) -> GroupDeltas:
    """Deltas that append (neighbour, weight) records to rows."""
    bodies = [item_row.pack_records([key for key, _ in pairs], [units for _, units in pairs]) for pairs in changes.values()]
    ends = np.cumsum([len(body) for body in bodies]).astype("<u4").tobytes() if bodies else b""
    return GroupDeltas(group, list(changes), ends, b"".join(bodies))


def source(first: int, last: int, *, base: int | None = None, partition: int = 0, topic_id: str = TOPIC) -> Range:
    return Range(partition, topic_id, first - 1 if base is None else base, first, last)


async def sums(store: StateStore, group: int, row_id: RowId) -> dict[int, int]:
    row = (await store.read_rows([(group, row_id)]))[0]
    if row is None:
        return {}
    parsed = item_row.parse_row(row)
    keys, units = item_row.sum_records(parsed.neighbours, parsed.weights)
    return dict(zip(keys.tolist(), units.tolist(), strict=True))


# --- layout ---------------------------------------------------------------------------------------------------------------------------


async def test_an_equal_layout_opens_again(store: StateStore) -> None:
    await store.open(LAYOUT)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        (Layout(8, 3, 86_400, 1_024), "partitions"),
        (Layout(4, 5, 86_400, 1_024), "item_groups"),
        (Layout(4, 3, 1, 1_024), "epoch_s"),
        (Layout(4, 3, 86_400, 2_048), "duplicate_chunk"),
    ],
)
async def test_another_layout_is_refused_by_name_with_a_remedy(store: StateStore, changed: Layout, name: str) -> None:
    with pytest.raises(Fatal, match=rf"{name} .* the settings say .*: (set|run) "):
        await store.open(changed)


async def test_another_layout_version_is_refused_before_all_else_and_names_the_rebuild(store: StateStore) -> None:
    with pytest.raises(Fatal, match=r"layout_version 2, this version writes 99: stop the workers and run `recsys state rebuild`"):
        await store.open(Layout(8, 5, 1, 2_048, layout_version=99))


# --- item numbers ---------------------------------------------------------------------------------------------------------------------


async def test_item_numbers_are_assigned_once_in_the_order_given(store: StateStore) -> None:
    assert await store.item_numbers(["b", "a", "b", "ü {x}"]) == [0, 1, 0, 2]
    assert await store.item_numbers(["a", "c"]) == [1, 3]
    assert await store.item_names() == ["b", "a", "ü {x}", "c"]
    assert await store.item_names(2) == ["ü {x}", "c"]
    assert await store.n_items() == 4 and await store.numbers_used() == 0, "no row is of one of them"
    assert await store.item_names(4) == []


async def test_known_item_numbers_assigns_nothing(store: StateStore) -> None:
    await store.item_numbers(["a"])
    assert await store.known_item_numbers(["z", "a"]) == [None, 0]
    assert await store.item_names() == ["a"]
    assert await store.known_item_numbers([]) == [] == await store.item_numbers([])


async def test_more_ids_than_one_call_carries_keep_their_order(store: StateStore) -> None:
    ids = [f"i{i}" for i in range(9_000)]
    assert await store.item_numbers(ids) == list(range(9_000))
    assert await store.known_item_numbers(ids) == list(range(9_000))


# --- item groups ----------------------------------------------------------------------------------------------------------------------


async def test_a_new_range_is_appended_and_moves_the_watermark(store: StateStore) -> None:
    first = await store.apply_items([source(0, 9)], [deltas(1, {A: [(7, 64), (8, 32)], B: [(4, 1)]})])
    assert (first[0].status, first[0].watermarks) == (ApplyStatus.APPLIED, {0: None})
    assert np.frombuffer(first[0].row_lengths, "<u4").tolist() == [24, 16]
    second = await store.apply_items([source(10, 12)], [deltas(1, {A: [(7, 1)]})])
    assert second[0].watermarks == {0: Watermark(TOPIC, 9)}
    assert np.frombuffer(second[0].row_lengths, "<u4").tolist() == [32]
    assert await sums(store, 1, A) == {7: 65, 8: 32}
    assert await sums(store, 1, B) == {4: 1}
    assert await store.group_watermarks(1) == {0: Watermark(TOPIC, 12)}


async def test_an_old_range_changes_nothing(store: StateStore) -> None:
    await store.apply_items([source(0, 9)], [deltas(0, {A: [(7, 64)]})])
    before = await store.read_rows([(0, A)])
    for again in (source(0, 9), source(3, 7)):
        result = await store.apply_items([again], [deltas(0, {A: [(7, 64)]})])
        assert (result[0].status, result[0].watermarks) == (ApplyStatus.SKIPPED, {0: Watermark(TOPIC, 9)})
    assert await store.read_rows([(0, A)]) == before
    assert await store.group_watermarks(0) == {0: Watermark(TOPIC, 9)}


async def test_a_straddled_range_changes_nothing_and_says_where_to_cut(store: StateStore) -> None:
    await store.apply_items([source(0, 5)], [deltas(0, {A: [(7, 64)]})])
    result = await store.apply_items([source(3, 9)], [deltas(0, {A: [(7, 1)]})])
    assert (result[0].status, result[0].watermarks) == (ApplyStatus.STRADDLED, {0: Watermark(TOPIC, 5)})
    assert await sums(store, 0, A) == {7: 64}
    assert (await store.apply_items([source(6, 9, base=2)], [deltas(0, {A: [(7, 1)]})]))[0].status is ApplyStatus.APPLIED
    assert await sums(store, 0, A) == {7: 65}


async def test_a_mix_of_new_and_old_ranges_is_straddled(store: StateStore) -> None:
    await store.apply_items([source(0, 5)], [deltas(0, {})])
    result = await store.apply_items([source(0, 5), source(0, 3, partition=2)], [deltas(0, {A: [(1, 1)]})])
    assert (result[0].status, result[0].watermarks) == (ApplyStatus.STRADDLED, {0: Watermark(TOPIC, 5), 2: None})
    assert await sums(store, 0, A) == {}
    assert await store.group_watermarks(0) == {0: Watermark(TOPIC, 5)}


async def test_no_rows_still_move_the_watermarks(store: StateStore) -> None:
    results = await store.apply_items([source(0, 5), source(4, 8, base=-1, partition=3)], [deltas(g, {}) for g in range(3)])
    assert [(result.group, result.status, result.row_lengths) for result in results] == [(g, ApplyStatus.APPLIED, b"") for g in range(3)]
    assert await store.group_watermarks(2) == {0: Watermark(TOPIC, 5), 3: Watermark(TOPIC, 8)}


async def test_a_group_that_lost_state_says_gap(store: StateStore) -> None:
    result = await store.apply_items([source(10, 12)], [deltas(0, {A: [(1, 1)]})])
    assert (result[0].status, result[0].watermarks) == (ApplyStatus.GAP, {0: None})
    assert await sums(store, 0, A) == {}


async def test_offsets_that_the_log_skips_are_no_gap(store: StateStore) -> None:
    await store.apply_items([source(0, 5)], [deltas(0, {A: [(1, 1)]})])
    assert (await store.apply_items([source(9, 12, base=5)], [deltas(0, {A: [(1, 1)]})]))[0].status is ApplyStatus.APPLIED
    assert (await store.apply_items([source(13, 13, base=12)], [deltas(0, {})]))[0].status is ApplyStatus.APPLIED


async def test_another_topic_id_changes_nothing(store: StateStore) -> None:
    await store.apply_items([source(0, 5)], [deltas(0, {})])
    result = await store.apply_items([source(6, 9, topic_id="other")], [deltas(0, {A: [(1, 1)]})])
    assert (result[0].status, result[0].watermarks) == (ApplyStatus.TOPIC_CHANGED, {0: Watermark(TOPIC, 5)})
    assert await sums(store, 0, A) == {}


async def test_groups_answer_each_for_itself(store: StateStore) -> None:
    await store.apply_items([source(0, 5)], [deltas(1, {A: [(1, 1)]})])
    results = await store.apply_items([source(0, 5)], [deltas(g, {A: [(1, 1)]}) for g in (2, 1, 0)])
    assert [(result.group, result.status.value) for result in results] == [(2, "applied"), (1, "skipped"), (0, "applied")]
    assert [await sums(store, g, A) for g in range(3)] == [{1: 1}] * 3


async def test_large_offsets_stay_exact(store: StateStore) -> None:
    last = 2**53 - 2
    await store.apply_items([source(last - 1, last, base=-1)], [deltas(0, {})])
    assert await store.group_watermarks(0) == {0: Watermark(TOPIC, last)}
    assert (await store.apply_items([source(last + 1, last + 1)], [deltas(0, {})]))[0].status is ApplyStatus.APPLIED


async def test_deltas_and_ranges_that_do_not_fit_are_refused(store: StateStore) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        GroupDeltas(0, [A], b"\x08\0\0\0", b"")
    for wrong in ([], [source(5, 4)], [source(0, 1), source(2, 3)], [source(3, 4, base=3)]):
        with pytest.raises(ValueError):
            await store.apply_items(wrong, [deltas(0, {})])


# --- rows -----------------------------------------------------------------------------------------------------------------------------


async def test_rows_are_read_in_the_order_asked(store: StateStore) -> None:
    await store.apply_items([source(0, 0)], [deltas(g, {A: [(g, 1)]}) for g in range(3)])
    found = await store.read_rows([(2, A), (0, B), (0, A), (1, A), (2, A)])
    assert found[1] is None
    assert [item_row.parse_row(row).neighbours.tolist() for row in found if row] == [[2], [0], [1], [2]]
    assert await store.read_rows([]) == []


async def test_tails_bring_what_was_appended_or_the_whole_row(store: StateStore) -> None:
    await store.apply_items([source(0, 0)], [deltas(0, {A: [(1, 1)]}), deltas(1, {A: [(1, 1)]})])
    row = (await store.read_rows([(0, A)]))[0] or b""
    generation = item_row.parse_row(row).generation
    assert (await store.read_row_tails([((0, A), generation, len(row))]))[0] == (TailKind.TAIL, b"")
    await store.apply_items([source(1, 1)], [deltas(0, {A: [(2, 5)]})])
    now = (await store.read_rows([(0, A)]))[0] or b""
    stale, longer = ((0, A), generation ^ 1, len(row)), ((0, A), generation, len(now) + 8)
    tails = await store.read_row_tails([((0, A), generation, len(row)), ((1, B), 0, 8), stale, longer, ((0, B), 0, 16)])
    missing = (TailKind.MISSING, b"")
    assert tails == [(TailKind.TAIL, item_row.pack_records([2], [5])), missing, (TailKind.FULL, now), (TailKind.FULL, now), missing]
    with pytest.raises(ValueError, match="header"):
        await store.read_row_tails([((0, A), generation, 0)])


async def test_compaction_changes_no_sum_and_keeps_what_was_appended_meanwhile(store: StateStore) -> None:
    await store.apply_items([source(0, 0)], [deltas(0, {A: [(5, 1), (2, 2), (5, 3)], B: [(9, 9)]})])
    row = (await store.read_rows([(0, A)]))[0] or b""
    generation = item_row.parse_row(row).generation
    await store.apply_items([source(1, 1)], [deltas(0, {A: [(5, 10)]})])
    plan = Compaction(A, generation, len(row), item_row.compact(row, 100))
    assert await store.compact_rows(0, [plan, Compaction(("c", 0, 99), 0, 8, b"")]) == [8 + 16 + 8, 0]
    compacted = item_row.parse_row((await store.read_rows([(0, A)]))[0] or b"")
    assert (compacted.generation, compacted.base_length) == ((generation + 1) % 2**32, 16)
    assert compacted.neighbours.tolist() == [2, 5, 5] and compacted.weights.tolist() == [2, 4, 10]
    assert await store.compact_rows(0, [plan]) == [0], "a compaction of an older generation is left alone"
    assert await sums(store, 0, A) == {2: 2, 5: 14}
    assert (await store.read_row_tails([((0, A), generation, len(row))]))[0].kind is TailKind.FULL
    assert await store.compact_rows(0, []) == []


async def test_a_compaction_of_more_than_there_is_is_left_alone(store: StateStore) -> None:
    await store.apply_items([source(0, 0)], [deltas(0, {A: [(5, 1)]})])
    row = (await store.read_rows([(0, A)]))[0] or b""
    assert await store.compact_rows(0, [Compaction(A, item_row.parse_row(row).generation, len(row) + 8, b"")]) == [0]
    assert await sums(store, 0, A) == {5: 1}


async def test_a_row_dropped_and_born_again_is_another_generation(store: StateStore) -> None:
    await store.apply_items([source(0, 0)], [deltas(0, {A: [(5, 1)]})])
    row = (await store.read_rows([(0, A)]))[0] or b""
    assert await store.drop_rows([(0, A), (1, A)]) == 1
    assert await store.read_rows([(0, A)]) == [None]
    await store.apply_items([source(1, 1)], [deltas(0, {A: [(6, 2)]})])
    tail = (await store.read_row_tails([((0, A), item_row.parse_row(row).generation, len(row))]))[0]
    assert tail.kind is TailKind.FULL and item_row.parse_row(tail.content).neighbours.tolist() == [6]


async def test_rows_of_a_group_come_with_its_watermarks(store: StateStore) -> None:
    assert await store.read_rows_at(0, [A]) == ({}, [None])
    await store.apply_items([source(0, 4), source(0, 7, partition=2)], [deltas(0, {A: [(5, 1)]})], 9)
    watermarks, (absent, row) = await store.read_rows_at(0, [B, A])
    assert watermarks == {0: Watermark(TOPIC, 4), 2: Watermark(TOPIC, 7)}
    assert absent is None and row == (await store.read_rows([(0, A)]))[0]


async def test_a_scan_gives_every_row_and_nothing_else(store: StateStore) -> None:
    wanted: list[tuple[int, RowId]] = [(0, ("c", 4, 2)), (1, ("c", 4, 2**32 - 1)), (1, ("pop", "all", 0)), (2, ("pop", "10m", 470_000))]
    many: list[tuple[int, RowId]] = [(2, ("c", 7, 3 * n + 2)) for n in range(2_500)]
    assert [page async for page in store.scan_rows() if page] == []
    for group in range(3):
        rows_of_group: dict[RowId, list[tuple[int, int]]] = {row_id: [(5, 1)] for at, row_id in wanted + many if at == group}
        await store.apply_items([source(0, 0)], [deltas(group, rows_of_group)])
    await store.upsert_items([ItemRecord(n, 0, n, b"{}") for n in range(3)])
    await store.commit_users([UserCommit(0, TOPIC, -1, 0, {"{rs:g0}:c:1:2": b"row"})])
    found = [address async for page in store.scan_rows() for address in page]
    assert set(found) == {*wanted, *many}
    assert await store.drop_rows([*many, (0, ("c", 9, 9))]) == len(many)
    assert {address async for page in store.scan_rows() for address in page} == set(wanted)


# --- users ----------------------------------------------------------------------------------------------------------------------------


async def test_a_commit_moves_the_watermark_with_the_rows(store: StateStore) -> None:
    assert await store.watermarks([0, 1]) == {0: None, 1: None}
    results = await store.commit_users([UserCommit(0, TOPIC, -1, 9, {"u": b"one", "v": b"\0\xff"}), UserCommit(1, TOPIC, -1, 3, {})])
    assert results == [(0, True, Watermark(TOPIC, 9)), (1, True, Watermark(TOPIC, 3))]
    assert await store.watermarks([1, 0]) == {1: Watermark(TOPIC, 3), 0: Watermark(TOPIC, 9)}
    assert await store.read_users(0, ["v", "w", "u"]) == [b"\0\xff", None, b"one"]
    assert await store.read_users_of({0: ["u"], 1: [], 2: ["u"]}) == {0: [b"one"], 1: [], 2: [None]}


async def test_whoever_lost_the_partition_is_fenced_and_writes_nothing(store: StateStore) -> None:
    await store.commit_users([UserCommit(0, TOPIC, -1, 9, {"u": b"one"})])
    zombie = UserCommit(0, TOPIC, 5, 12, {"u": b"old", "w": b"new"}, {0: b"12345678"})
    other_topic = UserCommit(0, "other", 9, 12, {"u": b"old"})
    first = UserCommit(0, TOPIC, -1, 12, {"u": b"old"})
    late = UserCommit(2, TOPIC, 4, 6, {"u": b"old"})
    results = await store.commit_users([zombie, other_topic, first, late])
    assert results == [(0, False, Watermark(TOPIC, 9))] * 3 + [(2, False, None)]
    assert await store.read_users(0, ["u", "w"]) == [b"one", None]
    assert await store.read_duplicates(0, [0]) == [b""]
    assert await store.watermarks([0, 2]) == {0: Watermark(TOPIC, 9), 2: None}


async def test_rows_of_shown_items_move_with_the_watermark(store: StateStore) -> None:
    await store.commit_users([UserCommit(0, TOPIC, -1, 9, {"u": b"row"}, {0: b"12345678"}, ("u",), 5, {"u": b"one", "v:{p1}": b"\0two"})])
    assert await store.read_shown_of({0: ["v:{p1}", "u", "w"], 1: ["u"], 2: []}) == {0: [b"\0two", b"one", None], 1: [None], 2: []}
    assert await store.read_shown_at(0, ["u"]) == (9, [b"one"]) and await store.read_shown_at(1, ["u"]) == (-1, [None])
    assert await store.read_users(0, ["u", "v:{p1}"]) == [b"row", None] and await store.read_duplicates(0, [0]) == [b"12345678"]
    assert await store.owed_lists(0, 9) == ["u"]
    zombie = UserCommit(0, TOPIC, 5, 12, {}, shown={"u": b"old", "w": b"new"})
    assert not (await store.commit_users([zombie]))[0].committed
    assert await store.read_shown_at(0, ["u", "w"]) == (9, [b"one", None])
    assert {user_id async for user_id in store.scan_shown(0)} == {"u", "v:{p1}"}
    assert {user_id async for user_id in store.scan_users(0)} == {"u"}
    assert [user_id async for user_id in store.scan_shown(1)] == []


async def test_a_layout_without_counts_of_impressions_is_stored_as_before_and_refuses_them(store: StateStore) -> None:
    as_before = {name: value for name, value in asdict(LAYOUT).items() if name != "shown_items"}
    assert layout_text(LAYOUT) == json.dumps(as_before, sort_keys=True)
    with pytest.raises(Fatal, match=r"shown_items 0, the settings say 5: set state.shown_items back, or run `recsys state rebuild`"):
        await store.open(replace(LAYOUT, shown_items=5))


async def test_a_commit_may_write_users_without_moving(store: StateStore) -> None:
    await store.commit_users([UserCommit(0, TOPIC, -1, 9, {"u": b"one"})])
    assert (await store.commit_users([UserCommit(0, TOPIC, 9, 9, {"u": b"two"})]))[0].committed
    assert await store.watermarks([0]) == {0: Watermark(TOPIC, 9)}
    assert (await store.commit_users([UserCommit(1, TOPIC, -1, -1, {"u": b"two"})]))[0] == (1, True, None)
    assert await store.watermarks([1]) == {1: None}


async def test_a_watermark_never_moves_back(store: StateStore) -> None:
    with pytest.raises(ValueError, match="forward"):
        UserCommit(0, TOPIC, 9, 8, {})


async def test_two_duplicate_chunks_are_held(store: StateStore) -> None:
    chunk = LAYOUT.duplicate_chunk
    await store.commit_users([UserCommit(0, TOPIC, -1, 10, {}, {0: b"a" * 8})])
    await store.commit_users([UserCommit(0, TOPIC, 10, chunk + 1, {}, {0: b"b" * 8, 1: b"c" * 8})])
    assert await store.read_duplicates(0, [0, 1, 2]) == [b"a" * 8 + b"b" * 8, b"c" * 8, b""]
    await store.commit_users([UserCommit(0, TOPIC, chunk + 1, 2 * chunk, {}, {1: b"d" * 8, 2: b"e" * 8})])
    assert await store.read_duplicates(0, [0, 1, 2]) == [b"", b"c" * 8 + b"d" * 8, b"e" * 8]
    # a batch that spans more chunks than are held keeps the two newest, and a jump deletes both older ones
    await store.commit_users([UserCommit(0, TOPIC, 2 * chunk, 5 * chunk + 7, {}, {3: b"f" * 8, 4: b"g" * 8, 5: b"h" * 8})])
    assert await store.read_duplicates(0, range(6)) == [b"", b"", b"", b"", b"g" * 8, b"h" * 8]
    assert await store.read_duplicates(1, [0]) == [b""] and await store.read_duplicates(0, []) == []


async def test_users_of_a_partition_can_be_walked(store: StateStore) -> None:
    ids = {f"u{i}" for i in range(50)} | {"ü:{p1}", "a*b"}
    await store.commit_users([UserCommit(1, TOPIC, -1, 0, dict.fromkeys(ids, b"x"), {0: b"12345678"})])
    await store.commit_users([UserCommit(2, TOPIC, -1, 0, {"z": b"x"})])
    await store.upsert_profile(ProfileRecord(1, "only-a-profile", 0, b"{}"))
    assert {user_id async for user_id in store.scan_users(1)} == ids
    assert {user_id async for user_id in store.scan_users(3)} == set()


# --- catalogue, profiles, models ------------------------------------------------------------------------------------------------------


async def test_the_newest_source_offset_of_an_item_wins(store: StateStore) -> None:
    assert await store.upsert_items([ItemRecord(4, 0, 10, b'{"a":":"}'), ItemRecord(5, 0, 11, b"{}")]) == 2
    assert await store.upsert_items([ItemRecord(4, 0, 9, b"old"), ItemRecord(4, 0, 8, None)]) == 0
    assert await store.read_items([5, 4, 6]) == [b"{}", b'{"a":":"}', None]
    assert await store.upsert_items([ItemRecord(4, 1, 2, b"moved")]) == 1, "another partition just overwrites"
    assert await store.read_items([4]) == [b"moved"]


async def test_a_removed_item_does_not_come_back_with_an_older_record(store: StateStore) -> None:
    await store.upsert_items([ItemRecord(4, 0, 10, b"{}")])
    assert await store.upsert_items([ItemRecord(4, 0, 11, None)]) == 1
    assert await store.upsert_items([ItemRecord(4, 0, 10, b"{}")]) == 0
    assert await store.read_items([4]) == [None]
    await store.upsert_items([ItemRecord(5, 2, 1, b'{"a":":"}')])
    assert await store.read_stored_items([5, 3, 4]) == [StoredItem(2, 1, b'{"a":":"}'), None, StoredItem(0, 11, None)]


async def test_changed_items_are_those_after_a_version(store: StateStore) -> None:
    assert await store.changed_items(0) == (0, [])
    await store.upsert_items([ItemRecord(number, 0, number, b"{}") for number in (1, 2)])
    first, numbers = await store.changed_items(0)
    assert first == 1 and sorted(numbers) == [1, 2]
    await store.upsert_items([ItemRecord(1, 0, 5, None), ItemRecord(2, 0, 1, b"old"), ItemRecord(9, 0, 6, b"{}")])
    second, numbers = await store.changed_items(first)
    assert second == 2 and sorted(numbers) == [1, 9]
    assert await store.changed_items(second) == (2, [])
    await store.upsert_items([ItemRecord(2, 0, 0, b"old")])
    assert (await store.changed_items(second))[0] == 2, "what is older than the stored changes no version"


async def test_a_replayed_item_is_announced_again_in_case_the_crash_came_between(store: StateStore) -> None:
    await store.upsert_items([ItemRecord(1, 0, 5, b"{}")])
    await store.upsert_items([ItemRecord(1, 0, 5, b"{}")])
    assert await store.changed_items(1) == (2, [1])


async def test_a_reader_ahead_of_the_store_gets_everything(store: StateStore) -> None:
    await store.upsert_items([ItemRecord(1, 0, 5, b"{}")])
    assert await store.changed_items(77) == (1, [1])


async def test_the_newest_source_offset_of_a_profile_wins(store: StateStore) -> None:
    assert await store.upsert_profile(ProfileRecord(1, "u", 5, b'{"x":1}'))
    assert await store.upsert_profiles([ProfileRecord(1, "u", 4, b"old"), ProfileRecord(1, "v", 0, b"{}")]) == [False, True]
    assert await store.read_profiles(1, ["v", "u", "w"]) == [b"{}", b'{"x":1}', None]
    assert await store.upsert_profile(ProfileRecord(1, "u", 6, None))
    assert not await store.upsert_profile(ProfileRecord(1, "u", 5, b'{"x":1}'))
    assert await store.read_profiles(1, ["u"]) == [None]
    assert await store.read_profiles(1, []) == []


async def test_a_later_announcement_serves(store: StateStore) -> None:
    assert await store.serving() == {}
    assert await store.set_serving("ials", b'{"v":1}', 5)
    assert await store.set_serving("sasrec", b'{"v":9}', 1)
    assert await store.set_serving("ials", b'{"v":2}', 6)
    assert not await store.set_serving("ials", b'{"v":1}', 5)
    assert await store.set_serving("ials", b'{"v":2}', 6)
    assert await store.serving() == {"ials": b'{"v":2}', "sasrec": b'{"v":9}'}


async def test_a_later_record_of_the_control_topic_stays_and_is_no_model(store: StateStore) -> None:
    assert await store.control() == {}
    assert await store.set_control("rules", b"{}", 3) and not await store.set_control("rules", b"old", 2)
    assert await store.control() == {"rules": b"{}"} and await store.serving() == {}
    assert await store.set_control("rules", b"", 4) and await store.control() == {"rules": b""}


async def test_the_server_says_who_it_is(store: StateStore) -> None:
    await store.ping()
    for identity in await store.server_identity():
        assert identity.run_id and identity.replication_id and identity.role == "master" and identity.maxmemory_policy == "noeviction"


async def test_the_store_notes_the_newest_epochs_in_which_an_item_had_a_row(store: StateStore) -> None:
    await store.open(LAYOUT)
    last = 0
    for epoch in (40, 7, 3_000_000_000, 7):
        rows = {("c", epoch, 4): [(5, 64)], ("c", 7, 1): [(2, 64)], ("pop", "10m", epoch): [(4, 64)]}
        await store.apply_items([source(last, last)], [deltas(1, rows)])
        last += 1
    assert await store.item_epochs([4, 9, 1]) == [[7, 40, 3_000_000_000], [], [7]]
    assert await store.drop_rows([(1, ("c", 40, 4))]) == 1
    assert await store.item_epochs([4]) == [[7, 40, 3_000_000_000]], "a dropped row stays noted"
    for epoch in range(100, 100 + MOST_EPOCHS):
        await store.apply_items([source(last, last)], [deltas(1, {("c", epoch, 4): [(5, 64)]})])
        last += 1
    assert await store.item_epochs([4]) == [[*range(101, 100 + MOST_EPOCHS), 3_000_000_000]]
    await store.apply_items([source(last, last)], [deltas(1, {("c", 8, 4): [(5, 64)]})])
    assert (await store.item_epochs([4]))[0][0] == 101, "an older one is not noted"
