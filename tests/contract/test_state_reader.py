"""`StateReader` returns what a store holds, of every kind of store, and leaves it as it is."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import numpy as np
import pytest
import redis

from recsys.state import item_row
from recsys.state.user_row import model_tag, pack_embeddings
from recsys.state.user_rows import pack_rows
from schemas import ModelAction, ModelAnnouncement, UserProfile, encode
from schemas.announcements import DataRange
from schemas.events import EventType
from tests.contract.conftest import LAYOUT, redis_settings
from tests.histories import histories_of, touched
from workers.client import Interaction, Neighbour, StateReader
from workers.client.state_reader import StateReading
from workers.errors import Fatal, Transient
from workers.kafka.partitioner import partition_for
from workers.redis.store import RedisStore
from workers.settings import RedisSettings, Settings, load_settings
from workers.state.port import GroupDeltas, Range, StateStore, UserCommit
from workers.state.users_topic import MergeNote, ProfileRecord

TOPIC = "topic-id"
USER, OTHER = "u1", "only-a-profile"
VECTOR = np.array([[1.0, -0.5, 0.25]], np.float32)
VERSION = "ials-000001"
PROFILE = UserProfile(user_id=USER, preferred_categories=("jazz",))


def user_row() -> bytes:
    """Entries oldest first: item 0 at second 1,000, disliked, then item 2, touched three times from 500 to 2,000; item 1 is older."""
    own = [touched(0, 1_000, -32, EventType.DISLIKE.code), (2, 2_000, 500, 64, EventType.PURCHASE.code, 3, 2)]
    (row,) = pack_rows(histories_of([own]), np.array([0]), [np.array([1], np.uint32)], np.array([2]))
    return row + pack_embeddings(model_tag("ials", VERSION), VECTOR)[0] + pack_embeddings(7, VECTOR)[0]


def announcement() -> ModelAnnouncement:
    return ModelAnnouncement(
        kind="ials",
        version=VERSION,
        action=ModelAction.PROMOTED,
        manifest_url="file:///m/manifest.json",
        manifest_sha256="0" * 64,
        announced_ts_ms=1_700_000_000_000,
        trained_ts_ms=1_700_000_000_000,
        trained_on=DataRange(first_event_ts_ms=1_700_000_000_000, last_event_ts_ms=1_700_000_000_000, n_events=1),
    )


def deltas(group: int, rows: dict[Any, list[tuple[int, float]]]) -> GroupDeltas:
    """Records of (item, value) for rows of a group."""
    bodies = [item_row.pack_records([n for n, _ in pairs], [int(64 * value) for _, value in pairs]) for pairs in rows.values()]
    return GroupDeltas(group, list(rows), np.cumsum([len(body) for body in bodies]).astype("<u4").tobytes(), b"".join(bodies))


async def fill(store: StateStore, item_ids: tuple[str, ...] = ("a", "b", "c")) -> None:
    """Write three items: the first occurred 4 times, 3 times this epoch with the second and once with the third."""
    assert await store.item_numbers(item_ids) == [0, 1, 2]
    epoch, partition = int(time.time()) // LAYOUT.epoch_s, partition_for(USER.encode(), LAYOUT.partitions)
    rows: list[dict[Any, list[tuple[int, float]]]] = [
        {("c", epoch, 0): [(1, 3), (2, 1)], ("c", epoch - 1, 0): [(1, 2)], ("pop", "all", 0): [(0, 4)]},
        {("pop", "all", 0): [(1, 4)]},
        {("pop", "all", 0): [(2, 1)]},
    ]
    await store.apply_items([Range(partition, TOPIC, -1, 0, 5)], [deltas(group, of_group) for group, of_group in enumerate(rows)], 3)
    await store.commit_users([UserCommit(partition, TOPIC, -1, 5, {USER: user_row()})])
    await store.upsert_profiles(
        [
            ProfileRecord(partition, USER, 0, encode(PROFILE)),
            ProfileRecord(partition_for(OTHER.encode(), LAYOUT.partitions), OTHER, 0, encode(UserProfile(user_id=OTHER))),
        ]
    )
    await store.set_serving("ials", encode(announcement()), 1)


def check(user: Any) -> None:
    assert user.partition == partition_for(USER.encode(), LAYOUT.partitions)
    assert user.history == (
        Interaction("c", 2_000, 2.0, "purchase", 3, 500),
        Interaction("a", 1_000, -1.0, "dislike", 1, 1_000),
    )
    assert user.older_items == ("b",)
    assert user.profile == PROFILE
    assert [(found.model_tag, found.kind, found.version) for found in user.embeddings] == [
        (model_tag("ials", VERSION), "ials", VERSION),
        (7, None, None),
    ]
    assert user.embedding("ials") is user.embeddings[0] and user.embedding("ease") is None
    assert np.allclose(user.embeddings[0].vector, VECTOR[0], atol=0.5 / 127)


async def test_a_reader_returns_what_every_kind_of_store_holds(store: StateStore) -> None:
    await fill(store)
    reading = StateReading(store, live_epochs=6)
    check(await reading.user(USER))
    only_profile = await reading.user(OTHER)
    assert only_profile is not None and only_profile.history == () == only_profile.embeddings
    assert only_profile.profile is not None and only_profile.profile.user_id == OTHER
    assert await reading.user("nobody") is None


async def test_a_reader_joins_the_histories_of_merged_ids_and_says_where_they_went(store: StateStore) -> None:
    await fill(store)
    partition, anonymous = partition_for(OTHER.encode(), LAYOUT.partitions), partition_for(USER.encode(), LAYOUT.partitions)
    await store.note_merges([MergeNote(partition, OTHER, USER, 1)])
    await store.upsert_profile(ProfileRecord(anonymous, USER, 1, encode(UserProfile(user_id=USER, merged_into=OTHER)), OTHER))
    reading = StateReading(store, live_epochs=6)
    account, ended = await reading.user(OTHER), await reading.user(USER)
    assert account is not None and account.merged_from == (USER,) and account.merged_into is None and account.embeddings == ()
    assert [entry.item_id for entry in account.history] == ["c", "a"] and account.older_items == ("b",)
    assert ended is not None and ended.merged_into == OTHER and ended.merged_from == () and ended.history == account.history


async def test_neighbours_come_by_similarity_with_older_epochs_halved(store: StateStore) -> None:
    await fill(store)
    reading = StateReading(store, live_epochs=6)
    assert await reading.neighbours("a", 5) == [Neighbour("b", 1.0, 4.0), Neighbour("c", 0.5, 1.0)]
    assert await reading.neighbours("a", 1) == [Neighbour("b", 1.0, 4.0)]
    assert await reading.neighbours("b", 5) == [] == await reading.neighbours("never seen", 5)
    assert [found.item_id for found in await reading.neighbours("a", 5, "directed")] == ["b", "c"]
    newest = await StateReading(store, live_epochs=1).neighbours("a", 5)
    assert [(found.item_id, found.cooccurrence) for found in newest] == [("b", 3.0), ("c", 1.0)]
    with pytest.raises(ValueError, match="similarity"):
        await reading.neighbours("a", 5, "other")  # type: ignore[arg-type]


def settings_of(section: RedisSettings) -> Settings:
    return load_settings().model_copy(update={"redis": section})


async def fill_redis(section: RedisSettings, generation: int = 0, item_ids: tuple[str, ...] = ("a", "b", "c")) -> None:
    store = RedisStore(section)
    await store.open(LAYOUT, generation)
    await fill(store, item_ids)
    await store.close()


@pytest.fixture
def section(redis_url: str) -> RedisSettings:
    made = redis_settings(redis_url)
    asyncio.run(fill_redis(made))
    return made


def everything(section: RedisSettings) -> dict[bytes, bytes | None]:
    with redis.Redis.from_url(section.url.get_secret_value()) as client:
        return {key: client.dump(key) for key in client.scan_iter(f"{{{section.namespace}*")}  # type: ignore[misc]


def test_a_reader_outside_asyncio_changes_nothing(section: RedisSettings) -> None:
    before = everything(section)
    with StateReader(settings_of(section)) as reader:
        check(reader.user(USER))
        assert reader.neighbours("a", 1) == [Neighbour("b", 1.0, 4.0)]
    assert everything(section) == before and len(before) > 5
    reader.close()
    with pytest.raises(RuntimeError, match="closed"):
        reader.user(USER)


async def test_a_reader_inside_asyncio_and_by_address(redis_url: str) -> None:
    made = redis_settings(redis_url)
    await fill_redis(made)
    with StateReader(load_settings(), redis_url=redis_url, namespace=made.namespace) as reader:
        check(reader.user(USER))
        check(await asyncio.to_thread(reader.user, USER))


def test_a_reader_follows_a_rebuilt_state(section: RedisSettings) -> None:
    async def rebuild() -> None:
        await fill_redis(section, 1, ("x", "y", "z"))
        store = RedisStore(section)
        await store.open(LAYOUT)
        assert await store.switch_generation(0, 1)
        await store.close()

    with StateReader(settings_of(section)) as reader:
        check(reader.user(USER))
        asyncio.run(rebuild())
        user = reader.user(USER)
        assert user is not None and [entry.item_id for entry in user.history] == ["z", "x"]
        assert reader.neighbours("x", 1) == [Neighbour("y", 1.0, 4.0)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_reader_works_on_in_a_child_process(section: RedisSettings) -> None:
    with StateReader(settings_of(section)) as reader:
        check(reader.user(USER))
        child = os.fork()
        if child == 0:
            try:
                check(reader.user(USER))
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        check(reader.user(USER))


def test_a_wrong_address_namespace_or_layout_is_one_clear_line(section: RedisSettings) -> None:
    settings = settings_of(section)
    with pytest.raises(Fatal, match=r"namespace nowhere holds no state: correct redis\.url"):
        StateReader(settings, namespace="nowhere")
    with pytest.raises(Transient, match="Redis is not reachable"):
        StateReader(settings, redis_url="redis://127.0.0.1:1/0")
    with redis.Redis.from_url(section.url.get_secret_value()) as client:
        key = f"{{{section.namespace}:meta}}:layout"
        stored: bytes = client.get(key) or b""  # type: ignore[assignment]
        for version, remedy in ((9, "update this program"), (1, "run `recsys state rebuild`")):
            client.set(key, stored.replace(b'"layout_version": 2', b'"layout_version": %d' % version))
            with pytest.raises(Fatal, match=f"layout_version {version}.*{remedy}"):
                StateReader(settings)
        client.set(key, b"[]")
        with pytest.raises(Fatal, match=r"another redis\.namespace"):
            StateReader(settings)
