"""The second opinion on histories: it agrees with the engine on every log, and sees every change of a row."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.state.user_table import unpack_row
from tests.builders import play, random_log, records_of, run_log, small_settings
from tests.memory_store import MemoryStore
from workers.operations.reference_fold import HistoryFold, difference, user_digest
from workers.operations.shown_fold import UserShown, shown_difference
from workers.operations.user_history import UserHistory

SETTINGS = small_settings(state={"shown_items": 3})


async def states(
    seed: int, n_events: int, n_items: int | None = None, erasures: float = 0.0
) -> tuple[dict[tuple[int, str], UserHistory[str]], dict[tuple[int, str], bytes | None], list[str]]:
    """Histories by fold, rows by pipeline, and item names, of one random log."""
    log, store = random_log(seed, n_events, n_items=n_items, erasures=erasures), MemoryStore()
    await run_log(log, SETTINGS, store)
    expected: dict[tuple[int, str], UserHistory[str]] = {}
    rows: dict[tuple[int, str], bytes | None] = {}
    for partition, facts in log.items():
        users = sorted({fact.user_id for fact in facts if fact is not None})
        fold = HistoryFold(SETTINGS, users, partition)
        records, chance = records_of(facts), random.Random(seed)
        while records:
            cut = chance.randint(1, len(records))
            fold.take(records[:cut])
            records = records[cut:]
        expected |= {(partition, user): history for user, history in fold.histories.items()}
        rows |= {(partition, u): row for u, row in zip(users, await store.read_users(partition, users), strict=True)}
    return expected, rows, await store.item_names()


@given(st.integers(0, 10_000), st.integers(1, 200))
async def test_the_fold_agrees_with_the_engine_on_any_log(seed: int, n_events: int) -> None:
    expected, rows, names = await states(seed, n_events, erasures=0.03)
    assert {at: difference(history, rows[at], names) for at, history in expected.items()} == dict.fromkeys(expected)


async def test_every_changed_byte_of_a_row_is_seen() -> None:
    expected, rows, names = await states(3, 200, 40)
    at = max(expected, key=lambda user: len(expected[user].older))
    row = rows[at]
    assert row is not None and unpack_row(row).older.size and difference(expected[at], row, names) is None
    for place in range(len(row)):
        changed = row[:place] + bytes([row[place] ^ 1]) + row[place + 1 :]
        assert difference(expected[at], changed, names) is not None, f"byte {place}"
    assert difference(expected[at], None, names) == "the row is missing"
    assert difference(expected[at], row[:-1], names) is not None


async def shown_states(seed: int, n_events: int) -> tuple[list[tuple[UserShown, bytes | None]], list[str]]:
    """What was shown to users by fold and by pipeline, and item names, of one random log."""
    log, store, pairs = random_log(seed, n_events, erasures=0.03), MemoryStore(), []
    await run_log(log, SETTINGS, store)
    for partition, facts in log.items():
        users = sorted({fact.user_id for fact in facts if fact is not None})
        fold = HistoryFold(SETTINGS, users, partition)
        fold.take(records_of(facts))
        _, rows = await store.read_shown_at(partition, users)
        pairs += [(fold.shown[user], row) for user, row in zip(users, rows, strict=True)]
    return pairs, await store.item_names()


@given(st.integers(0, 10_000), st.integers(1, 200))
@settings(max_examples=30)
async def test_what_was_shown_agrees_with_the_engine_on_any_log(seed: int, n_events: int) -> None:
    pairs, names = await shown_states(seed, n_events)
    assert {shown_difference(expected, row, names) for expected, row in pairs} <= {None}


async def test_every_changed_byte_of_a_row_of_shown_items_is_seen() -> None:
    pairs, names = await shown_states(3, 200)
    for expected, row in pairs:
        assert row is not None and len(row) == 1 + 3 * 13 and shown_difference(expected, row, names) is None
        for place in range(len(row)):
            changed = row[:place] + bytes([row[place] ^ 1]) + row[place + 1 :]
            assert shown_difference(expected, changed, names) is not None, f"byte {place}"
        assert "0 items were shown" in (shown_difference(expected, None, names) or "")
        assert "torn" in (shown_difference(expected, row[:-1], names) or "")
        assert "have a number" in (shown_difference(expected, row, names[:0]) or "")


async def test_without_the_logs_start_the_newest_entries_decide() -> None:
    expected, rows, names = await states(5, 200)
    log = random_log(5, 200)
    for (partition, user), packed in rows.items():
        fold = HistoryFold(SETTINGS, [user], partition)
        fold.take(records_of(log[partition])[len(log[partition]) // 2 :])  # the duplicates of what is gone count once more
        assert difference(fold.histories[user], packed, names, from_start=False) is None
    at = max(expected, key=lambda user: len(expected[user].items))
    late = expected[at]
    assert difference(late, rows[at], names, from_start=False) is None
    late.touches[-1] += 1
    assert "lacks touches" in (difference(late, rows[at], names, from_start=False) or "")
    late.touches[-1] -= 1
    late.units[-1] = -late.units[-1]
    assert "another weight" in (difference(late, rows[at], names, from_start=False) or "")
    late.items[-1] = "other"
    assert "lacks item 'other'" in (difference(late, rows[at], names, from_start=False) or "")


def test_a_digest_does_not_hold_the_user_id() -> None:
    assert len(user_digest("someone@example.org")) == 12 and "someone" not in user_digest("someone@example.org")


@pytest.mark.parametrize("value", [0.5, 2.5, 2.6, 2.578125, 3.4765625, 4.9999, 5.0])
async def test_ratings_weigh_the_same_to_the_last_unit(value: float) -> None:
    fact, store = play("u0", "i0", 1, type="rating", value=value), MemoryStore()
    await run_log({0: [fact]}, SETTINGS, store)
    fold = HistoryFold(SETTINGS, ["u0"], 0)
    fold.take(records_of([fact]))
    row = (await store.read_users(0, ["u0"]))[0]
    assert difference(fold.histories["u0"], row, await store.item_names()) is None
