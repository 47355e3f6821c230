"""A kept generation serves again only if workers can bring it exactly to what the log says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import small_settings
from tests.contract.test_store import deltas
from tests.memory_store import MemoryStore
from workers.errors import Fatal
from workers.operations import generations
from workers.operations.generations import use
from workers.operations.rebuild import _free
from workers.state.layout import layout_of
from workers.state.port import Range, UserCommit

SETTINGS = small_settings()
TOPIC_ID = "topic-1"
PARTITIONS = range(SETTINGS.topics.partitions)
TOPIC = SETTINGS.topics.events


class Log:
    """What the topics are asked for: where the events topic begins and ends, its id, and settings of the compacted topics."""

    def __init__(self) -> None:
        self.start, self.end, self.topic_id, self.configs = 0, 30, TOPIC_ID, dict[str, str]()


async def advance(store: MemoryStore, expected: int, last: int) -> None:
    """Apply the events up to `last` in every partition."""
    for partition in PARTITIONS:
        for group in range(SETTINGS.state.item_groups):
            await store.apply_items([Range(partition, TOPIC_ID, expected, expected + 1, last)], [deltas(group, {})])
        await store.commit_users([UserCommit(partition, TOPIC_ID, expected, last, {}, {})])


@pytest.fixture
async def store(log: Log, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """Generation 0, which stopped at offset 9, and generation 1, which serves and is at 29."""
    made = MemoryStore()
    for generation, last in ((0, 9), (1, 29)):
        await made.open(layout_of(SETTINGS), generation)
        await made.note_catalogue("read")
        await advance(made, -1, last)
    assert await made.switch_generation(0, 1)

    async def of(offset: int) -> Any:
        return {(TOPIC, partition): offset for partition in PARTITIONS}

    async def ids(_: object) -> dict[str, str]:
        return {TOPIC: log.topic_id}

    monkeypatch.setattr(generations, "open_store", lambda _: made)
    monkeypatch.setattr(generations, "start_offsets_async", lambda *_: of(log.start))
    monkeypatch.setattr(generations, "end_offsets_async", lambda *_: of(log.end))
    monkeypatch.setattr(generations, "topic_ids_async", ids)
    monkeypatch.setattr(generations, "topic_configs", lambda *_: log.configs)
    monkeypatch.setattr(generations, "NOTICE_S", 0.0)
    return made


@pytest.fixture
def log() -> Log:
    return Log()


async def test_a_kept_generation_serves_again_and_the_other_one_is_kept(store: MemoryStore) -> None:
    said: list[str] = []
    done = await use(SETTINGS, 0, wait_s=0, say=said.append)
    assert (done.generation, done.before, done.n_behind, done.taken_over) == (0, 1, 20 * len(PARTITIONS), False), "no worker runs"
    assert await store.active_generation() == 0 and "is a worker running?" in said[1] and "recsys state use 1" in said[-1]
    await store.open(layout_of(SETTINGS), 0)
    await advance(store, 9, 29)
    back, again = await use(SETTINGS, 1, wait_s=0), await use(SETTINGS, 0, wait_s=0)
    assert (back.before, again.before, again.n_behind, again.taken_over) == (0, 1, 0, True)
    assert await store.generations() == [0, 1] and await store.active_generation() == 0


async def test_generations_are_listed_with_what_they_have_to_apply(store: MemoryStore) -> None:
    await store.open(layout_of(SETTINGS), 2)  # what a killed rebuild left
    found = {one.generation: one for one in await generations.generations(SETTINGS)}
    n = len(PARTITIONS)
    assert [(number, one.serves, one.n_behind) for number, one in found.items()] == [(0, False, 20 * n), (1, True, 0), (2, False, None)]
    assert "never served" in found[2].problem and not found[0].problem


def lose_the_log(log: Log) -> None:
    log.start = 11


def make_the_topic_again(log: Log) -> None:
    log.topic_id = "topic-2"


def cut_the_log(log: Log) -> None:
    log.end = 5


def forget_removals(log: Log) -> None:
    log.configs = {"cleanup.policy": "compact", "delete.retention.ms": "86400000"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lose_the_log, "it needs offset 10, the topic begins at 11"),
        (make_the_topic_again, "deleted and made again"),
        (cut_the_log, "is ahead of topic"),
        (forget_removals, "keeps tombstones for 24 h"),
    ],
)
async def test_a_generation_that_cannot_be_brought_up_to_date_is_refused(change: Any, says: str, store: MemoryStore, log: Log) -> None:
    change(log)
    with pytest.raises(Fatal, match=says):
        await use(SETTINGS, 0, wait_s=0)
    assert await store.active_generation() == 1
    assert await store.claim_rebuild("another", 1), "the claim is given back"


async def test_a_generation_that_lost_state_is_refused(store: MemoryStore) -> None:
    await store.open(layout_of(SETTINGS), 0)
    await store.commit_users([UserCommit(0, TOPIC_ID, 9, 12, {}, {})])  # no group has these events
    with pytest.raises(Fatal, match="generation 0 lost state: item group 0 is behind the users of partition 0"):
        await use(SETTINGS, 0, wait_s=0)
    assert await store.active_generation() == 1


async def test_what_serves_or_never_served_is_no_choice_and_one_changes_generations_at_a_time(store: MemoryStore) -> None:
    with pytest.raises(Fatal, match="is the one that serves"):
        await use(SETTINGS, 1)
    with pytest.raises(Fatal, match="generation 7 of the state was never served"):
        await use(SETTINGS, 7)
    assert await store.generations() == [0, 1], "nothing was laid out"
    assert await store.claim_rebuild("another", 60)
    with pytest.raises(Fatal, match="another rebuild is at work"):
        await use(SETTINGS, 0)
    assert await store.active_generation() == 1


async def test_a_rebuild_does_not_replace_a_generation_that_is_kept(store: MemoryStore) -> None:
    assert await store.switch_generation(1, 0)
    assert await _free(store, 0) == 2
