"""A state that was lost, or went back, under a worker: it is noticed, nothing is built upon what is gone, and replay gives the fold."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest

from schemas import Recommendations
from tests.builders import TOPIC_ID, opened_pipeline, play, random_log, records_of, small_settings
from tests.fold import fold, read_state
from tests.memory_store import MemoryStore
from tests.property.test_exactly_once import check_mirror
from workers.errors import Fatal, Fenced
from workers.state.layout import layout_of
from workers.state.port import CommitResult, GroupDeltas, GroupResult, Range, UserCommit, Watermark
from workers.stream.pipeline import Pipeline

SETTINGS = small_settings()
LOG = random_log(3, 200)


async def follow_to_the_end(pipeline: Pipeline) -> None:
    for _ in range(4):
        places = await pipeline.assign([0, 1], TOPIC_ID)
        try:
            await pipeline.process({p: records_of(LOG[p])[at:] for p, at in places.items() if records_of(LOG[p])[at:]})
            return
        except Fenced:
            continue
    raise AssertionError("the worker never got through")


async def halfway(store: MemoryStore) -> Pipeline:
    pipeline = await opened_pipeline(store, SETTINGS)
    await pipeline.assign([0, 1], TOPIC_ID)
    await pipeline.process({p: records_of(LOG[p])[:60] for p in LOG})
    return pipeline


async def test_an_emptied_store_is_noticed_and_replay_gives_the_fold() -> None:
    store = MemoryStore()
    pipeline = await halfway(store)
    store.__init__()  # type: ignore[misc]  # everything is gone, the server is the same
    with pytest.raises(Fenced):
        await pipeline.state.check_current()
    with pytest.raises(Fenced):
        await pipeline.process({p: records_of(LOG[p])[60:] for p in LOG})
    await follow_to_the_end(pipeline)
    expected = fold(LOG, SETTINGS)
    assert await read_state(store, SETTINGS, expected) == expected
    await check_mirror(pipeline, expected)
    assert pipeline.state.resets == 1
    await pipeline.state.check_current()


async def test_a_worker_that_notices_late_takes_over_the_numbering_of_the_one_that_noticed_first() -> None:
    store = MemoryStore()
    first, second = await opened_pipeline(store, SETTINGS), await opened_pipeline(store, SETTINGS)
    for pipeline, partition in ((second, 1), (first, 0)):
        await pipeline.assign([partition], TOPIC_ID)
        await pipeline.process({partition: records_of(LOG[partition])[:60]})
    before = await store.item_names()
    store.__init__()  # type: ignore[misc]
    await first.assign([0], TOPIC_ID)
    await first.process({0: records_of(LOG[0])})
    assert (await store.item_names())[: len(before)] != before
    with pytest.raises(Fenced):
        await second.state.check_current()
    await second.assign([1], TOPIC_ID)
    await second.process({1: records_of(LOG[1])})
    expected = fold(LOG, SETTINGS)
    assert await read_state(store, SETTINGS, expected) == expected


class LosesAll(MemoryStore):
    """Loses everything once, right before or in the middle of a step."""

    def __init__(self, step: str = "", groups_before: int = 0) -> None:
        super().__init__()
        self._step, self._groups_before = step, groups_before

    async def apply_items(self, ranges: Sequence[Range], deltas: Sequence[GroupDeltas], n_numbers: int = 0) -> list[GroupResult]:
        n = self._groups_before
        before = await super().apply_items(ranges, deltas[:n], n_numbers)
        await self._lose("apply")
        return before + await super().apply_items(ranges, deltas[n:], n_numbers)

    async def commit_users(self, commits: Sequence[UserCommit]) -> list[CommitResult]:
        await self._lose("commit")
        return await super().commit_users(commits)

    async def _lose(self, step: str) -> None:
        if step == self._step:
            self.__init__()  # type: ignore[misc]
            await self.open(layout_of(SETTINGS))


@pytest.mark.parametrize(("step", "groups_before"), [("commit", 0), ("apply", 0), ("apply", 1)])
async def test_a_state_that_is_lost_between_the_writes_of_the_first_batch_is_made_again(step: str, groups_before: int) -> None:
    store = LosesAll(step, groups_before)
    pipeline = await opened_pipeline(store, SETTINGS)
    await pipeline.assign([0, 1], TOPIC_ID)
    with contextlib.suppress(Fenced):
        await pipeline.process({p: records_of(LOG[p])[:60] for p in LOG})
    with pytest.raises(Fenced):
        await pipeline.state.check_current()
    await follow_to_the_end(pipeline)
    expected = fold(LOG, SETTINGS)
    assert await read_state(store, SETTINGS, expected) == expected
    await check_mirror(pipeline, expected)


async def test_a_store_that_went_back_as_a_whole_is_read_again() -> None:
    store = MemoryStore()
    pipeline = await halfway(store)
    backup = {name: _copy(value) for name, value in vars(store).items()}
    await pipeline.process({p: records_of(LOG[p])[60:80] for p in LOG})
    vars(store).update(backup)
    with pytest.raises(Fenced):
        await pipeline.process({p: records_of(LOG[p])[80:] for p in LOG})
    await follow_to_the_end(pipeline)
    expected = fold(LOG, SETTINGS)
    assert await read_state(store, SETTINGS, expected) == expected
    await check_mirror(pipeline, expected)


async def test_numbers_that_the_store_lost_are_put_back_by_a_worker_that_knows_them() -> None:
    store = MemoryStore()
    pipeline = await halfway(store)
    before = await store.item_names()
    store._numbers = dict(list(store._numbers.items())[:3])
    with pytest.raises(Fenced):
        await pipeline.state.numbering.number(["new"])
    with pytest.raises(Fenced):
        await pipeline.state.check_current()
    await follow_to_the_end(pipeline)
    assert (await store.item_names())[: len(before)] == before
    expected = fold(LOG, SETTINGS)
    assert await read_state(store, SETTINGS, expected) == expected


async def test_numbers_that_were_lost_and_given_to_other_items_are_refused() -> None:
    store = MemoryStore()
    pipeline = await halfway(store)
    store._numbers = {name: number for number, name in enumerate([*list(store._numbers)[:3], "stranger"])}
    with pytest.raises(Fatal, match="recsys state rebuild"):
        await pipeline.assign([0, 1], TOPIC_ID)


async def test_histories_with_numbers_that_nobody_knows_are_refused() -> None:
    store = MemoryStore()
    await halfway(store)
    store._numbers = dict(list(store._numbers.items())[:1])
    with pytest.raises(Fatal, match="recsys state rebuild"):
        await opened_pipeline(store, SETTINGS)


async def test_a_switched_generation_is_noticed_and_followed() -> None:
    store = MemoryStore()
    pipeline = await halfway(store)
    assert await store.switch_generation(0, 1)
    with pytest.raises(Fenced):
        await pipeline.state.check_current()
    await follow_to_the_end(pipeline)
    assert store.generation == 1
    expected = fold(LOG, SETTINGS)
    assert await read_state(store, SETTINGS, expected) == expected


async def test_lists_that_were_put_off_are_owed_and_made_from_the_state_as_it_is_then() -> None:
    off, on = await opened_pipeline(MemoryStore(), SETTINGS), await opened_pipeline(MemoryStore(), SETTINGS)
    facts = [play(f"u{n % 3}", f"i{n % 7}", n) for n in range(30)]
    for pipeline in (off, on):
        await pipeline.assign([0], TOPIC_ID)
    made = await on.process({0: records_of(facts)})
    outcome = await off.process({0: records_of(facts)}, defer_lists=True)
    assert outcome.lists == {} and outcome.n_new == 30 and outcome.next_offsets == {0: 30}
    owed = await off.deferred_lists(0, 100)
    assert owed is not None and owed.made_from == Watermark(TOPIC_ID, 29) and sorted(owed.user_ids) == ["u0", "u1", "u2"]
    wanted = {key: Recommendations.model_validate_json(value or b"").items for key, value in made.lists[0]}
    assert {key: Recommendations.model_validate_json(value or b"").items for key, value in owed.records} == wanted
    await off.settle_deferred(0, owed)
    assert await off.deferred_lists(0, 100) is None


async def test_lists_of_replayed_users_are_owed_too_since_nobody_knows_whether_they_came_out() -> None:
    pipeline = await opened_pipeline(MemoryStore(), SETTINGS)
    await pipeline.assign([0, 1], TOPIC_ID)
    facts, others = [play("u0", "i1", 1), play("u2", "i2", 2)], [play("u1", "i1", 4)]
    await pipeline.process({0: records_of(facts), 1: records_of(others)})  # a crash before its lists were published
    again = await pipeline.process({0: records_of([*facts, play("u2", "i3", 3)]), 1: records_of(others)}, defer_lists=True)
    assert again.lists == {}
    assert sorted(await pipeline.state.store.owed_lists(0, 10)) == ["u0", "u2"] and await pipeline.state.store.owed_lists(1, 10) == ["u1"]


def _copy(value: object) -> object:
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, dict) else value
