"""Counts of what is bought together equal the fold of the log, for any cuts, crashes, replays, zombies and compactions."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from recsys.state import bought_kernel
from recsys.state.related import RelatedCounts
from tests.builders import Fault, random_log, small_settings
from tests.fold import fold
from tests.memory_store import MemoryStore
from tests.property.test_exactly_once import STEPS, Step, check, run
from workers.redis.store import RedisStore
from workers.settings import RedisSettings, Settings
from workers.state.port import StateStore
from workers.stream import related_rows
from workers.stream.related_counts import RelatedCounter

EXAMPLES = max(10, settings().max_examples // 16)
RELATED = {"similar": True, "bought_together": True, "event_types": ("purchase", "play", "rating"), "items_per_user": 4}


def bought_settings(**related: Any) -> Settings:
    return small_settings(related=RELATED | related)


SETTINGS = bought_settings()
FIXED_LOG = random_log(11, 300, n_items=8)
HALVES = [
    step
    for _ in range(3)
    for calls in range(8)
    for step in (Step(faults=[None] * calls + [Fault.HALF], sizes=(4, 4)), Step(sizes=(2, 2)))  # the second one takes the partitions again
]
"""Every call of a batch stops half-way."""


async def check_compacting(store: StateStore, seed: int, n_events: int, steps: list[Step]) -> None:
    """Compact rows as soon as they can become shorter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(related_rows, "SHORT_BYTES", 16)
        patch.setattr(related_rows, "COMPACT_RATIO", 1)
        await check(store, SETTINGS, random_log(seed, n_events), steps)


@given(seed=st.integers(0, 2**32), n_events=st.integers(0, 160), steps=STEPS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(seed=1, n_events=160, steps=[Step(faults=[None] * 9 + [fault], compacts=True) for fault in Fault] * 3)
def test_any_cuts_crashes_replays_and_zombies_leave_the_counts_of_the_log(seed: int, n_events: int, steps: list[Step]) -> None:
    asyncio.run(check_compacting(MemoryStore(), seed, n_events, steps))


@given(seed=st.integers(0, 2**32), n_events=st.integers(0, 120), steps=STEPS)
@settings(max_examples=max(5, EXAMPLES // 10), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_on_redis_any_cuts_crashes_replays_and_zombies_leave_the_counts_of_the_log(
    redis_url: str, seed: int, n_events: int, steps: list[Step]
) -> None:
    async def on_redis() -> None:
        store = RedisStore(RedisSettings(url=SecretStr(redis_url), namespace=f"t{secrets.token_hex(6)}"))
        try:
            await check_compacting(store, seed, n_events, steps)
        finally:
            await store.close()

    asyncio.run(on_redis())


def differs() -> bool:
    with contextlib.suppress(AssertionError, ValueError):
        _, found, expected = asyncio.run(run(MemoryStore(), SETTINGS, FIXED_LOG, HALVES))
        return found != expected
    return True


def test_the_fixed_log_has_windows_that_overflow_and_counts_its_fold() -> None:
    expected = fold(FIXED_LOG, SETTINGS)
    assert any(len(window) == 4 for window in expected.windows.values())
    assert max(count for sums in expected.bought.values() for count in sums.values()) > 1
    assert not differs()


def test_a_worker_that_keeps_windows_after_a_failure_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RelatedCounter, "forget", lambda self, prefixes: None)
    assert differs()


def test_a_worker_that_counts_a_cut_range_whole_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    added_to = RelatedCounts.added_to
    monkeypatch.setattr(RelatedCounts, "added_to", lambda self, delta, chosen=None: added_to(self, delta))
    assert differs()


def test_a_window_that_never_lets_an_item_go_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    enter = bought_kernel.enter
    monkeypatch.setattr(bought_kernel, "enter", lambda *given: enter(*given[:-2], given[-2] - 1, given[-1]))
    assert differs()


def test_without_the_setting_the_state_is_the_same_byte_for_byte() -> None:
    async def stored(config: Settings) -> Any:
        store = MemoryStore()
        await run(store, config, FIXED_LOG, [Step(sizes=(7, 5))])
        rows = {address: row[8:] for address, row in store._rows.items()}  # the header is drawn at random
        return rows, store._users, store._bought

    rows, users, windows = asyncio.run(stored(small_settings()))
    assert not any(windows.values())
    assert {kind for _, (kind, *_) in rows} == {"c", "pop"}
    with_counts, same_users, _ = asyncio.run(stored(SETTINGS))
    assert same_users == users
    assert {address: row for address, row in with_counts.items() if address[1][0] in ("c", "pop")} == rows
