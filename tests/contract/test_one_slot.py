"""Every key that any command names is of a known pattern, and all keys of a command lie in one cluster slot."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
import redis
from pydantic import SecretStr
from redis.asyncio.cluster import ClusterNode

from schemas import encode
from schemas.examples import ANNOUNCEMENT
from tests.builders import NOW_S, TOPIC_ID, opened_pipeline, random_log, records_of, small_settings
from tests.fold import fold, read_state
from tests.redis_keys import key_patterns, slot_of
from workers.kafka.records import Record
from workers.redis.functions import READ_ONLY, WRITING, load_library
from workers.redis.keys import Keys, PointerKeys
from workers.redis.store import RedisStore
from workers.settings import Settings
from workers.state.layout import layout_of
from workers.state.users_topic import MergeNote, ProfileRecord
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.model_sync import ModelFollower
from workers.stream.reference_topics import Intake

pytestmark = pytest.mark.cluster

NAMESPACE = "oneslot"
KEYLESS = {"PING", "INFO", "FUNCTION", "SCAN", "CLUSTER", "COMMAND", "ASKING", "READONLY"}
N_EVENTS, BATCH = 300, 20


class Recorder:
    """Every command that a cluster client sends, as sets of the keys it names. The server itself says which of the words are keys."""

    def __init__(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._server = server
        self.calls: list[tuple[str, frozenset[str]]] = []
        one, many = ClusterNode.execute_command, ClusterNode.execute_pipeline

        async def execute_command(node: ClusterNode, *args: Any, **kwargs: Any) -> Any:
            self._note(args)
            return await one(node, *args, **kwargs)

        async def execute_pipeline(node: ClusterNode, commands: Iterable[Any]) -> bool:
            commands = list(commands)
            for command in commands:
                self._note(command.args)
            return await many(node, commands)

        monkeypatch.setattr(ClusterNode, "execute_command", execute_command)
        monkeypatch.setattr(ClusterNode, "execute_pipeline", execute_pipeline)

    def _note(self, args: tuple[Any, ...]) -> None:
        name = str(args[0]).split()[0].upper()
        if name not in KEYLESS:
            keys = self._server.execute_command("COMMAND GETKEYS", *args)
            called = str(args[1]) if name.startswith("FCALL") else name
            self.calls.append((called, frozenset(map(str, keys))))


def shape(key: str) -> str:
    """What a key is, without whose: `{oneslot.g1:p3}:u:ann` ▸ `p#:u:*`."""
    parts = re.fullmatch(rf"\{{{NAMESPACE}(?:\.g\d+)?:(?P<tag>[a-z]+)\d*\}}:(?P<rest>.*)", key, re.DOTALL)
    assert parts is not None, f"a key outside the namespace: {key}"
    kind, _, rest = parts["rest"].partition(":")
    spans = re.sub(r"[a-z]+", "span", re.sub(r"\d+(?![a-z\d])", "#", re.sub(r"\d+[a-z]", "span", rest)))
    what = "*" if kind in ("u", "profile", "shown", "bought") else spans
    return f"{parts['tag']}:{kind}:{what}"


def topic_records(topic: str, contents: Iterable[tuple[str, Any]]) -> list[Record]:
    return [
        Record(topic, n % 2, n, key.encode(), content if content is None or isinstance(content, bytes) else orjson.dumps(content))
        for n, (key, content) in enumerate(contents)
    ]


async def drive(settings: Settings, store: RedisStore) -> None:
    """One of everything that workers and commands do with the state."""
    pipeline = await opened_pipeline(store, settings)
    log = random_log(11, N_EVENTS)
    catalogue, models = CatalogueFollower(pipeline.state), ModelFollower(pipeline.state, lambda _: pytest.fail("no model is loaded here"))
    intake = Intake(settings, pipeline.state, pipeline.lists, catalogue, wall_clock=lambda: NOW_S)

    items = [(f"i{n}", {"item_id": f"i{n}", "title": "T", "categories": ["drama"]}) for n in range(6)]
    await intake.items(topic_records("items", [*items, ("i0", None)]))
    await intake.users(topic_records("users", [("u0", {"user_id": "u0"}), ("{x}y", {"user_id": "{x}y"}), ("u0", None)]))
    await intake.announcements(topic_records("models", [(ANNOUNCEMENT.kind, encode(ANNOUNCEMENT)), (ANNOUNCEMENT.kind, None)]))
    await catalogue.follow()
    assert await models.follow() == []

    await pipeline.assign(list(log), TOPIC_ID)
    records = {p: records_of(facts) for p, facts in log.items()}
    for at in range(0, N_EVENTS, BATCH):
        await pipeline.process({p: part[at : at + BATCH] for p, part in records.items()}, defer_lists=at > N_EVENTS // 4)
    for partition in log:
        while (owed := await pipeline.deferred_lists(partition, 100)) is not None:
            assert await store.settle_lists(partition, owed.made_from, owed.user_ids, owed.asked)
    assert await pipeline.state.compact_rows(), "no row was long enough"
    await pipeline.assign(list(log), TOPIC_ID)
    await pipeline.process({p: part[-BATCH:] for p, part in records.items()})  # a replay

    expected = fold(log, settings)
    assert await read_state(store, settings, expected) == expected
    assert await store.known_item_numbers(["i0", "never seen"]) == [pipeline.state.numbering.numbers["i0"], None]
    assert await store.restore_names(len(pipeline.state.numbering.names), ["put back"])
    await store.read_profiles(0, ["u0"])
    await store.note_merges([MergeNote(0, "account", "visitor", 1)])
    await store.upsert_profile(ProfileRecord(1, "visitor", 9, b"{}", "account", True))
    await store.await_lists({0: ["account"]})
    await store.forget_before(1, {"visitor": "another"})
    assert [pair async for page in store.scan_merged(1) for pair in page] == [("visitor", "account")]
    assert (await store.list_work([0, 1]))[0].has_merges and await store.lists_asked(0, ["account"]) == [1]
    await store.note_catalogue("read")
    assert await store.catalogue_read() == "read"
    await store.read_rows([(0, ("pop", "all", 0))])
    assert all((await store.read_rows_at(0, [("pop", "all", 0)]))[1])
    await store.read_stored_items([0, 1])
    assert await store.drop_rows([(group, ("c", 0, group)) for group in range(3)]) >= 0


async def rebuild_and_drop(settings: Settings, store: RedisStore) -> None:
    assert await store.claim_rebuild("me", 60)
    shadow = RedisStore(settings.redis, pinned=1)
    try:
        await drive(settings, shadow)
    finally:
        await shadow.close()
    assert await store.switch_generation(0, 1)
    assert await store.drop_generation(0) > 0
    assert await store.claim_rebuild("me", 0)


async def test_no_command_crosses_slots_and_every_key_is_of_a_known_pattern(cluster_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.stream.item_state_cache.COMPACT_SLACK_BYTES", 64)
    settings = small_settings(redis={"url": SecretStr(cluster_url), "cluster": True, "namespace": NAMESPACE})
    with redis.Redis.from_url(cluster_url) as server:
        recorder = Recorder(server, monkeypatch)
        store = RedisStore(settings.redis)
        try:
            await store.open(layout_of(settings))
            await drive(settings, store)
            await rebuild_and_drop(settings, store)
        finally:
            await store.close()

    crossing = [(name, keys) for name, keys in recorder.calls if len({slot_of(key) for key in keys}) != 1]
    assert crossing == []
    seen = {shape(key) for _, keys in recorder.calls for key in keys}
    patterns = key_patterns(Keys(NAMESPACE), groups=settings.state.item_groups, partitions=settings.topics.partitions)
    known = {shape(key) for _, keys in patterns for key in keys} | {shape(key) for key in PointerKeys(NAMESPACE)}
    assert seen - known == set(), "keys without an example in key_patterns"
    assert known - seen == set(), "patterns that nothing uses"
    library = load_library()
    called = {name for name, _ in recorder.calls if name.startswith("recsys_")}
    assert called == {library.function(name) for name in (*READ_ONLY, *WRITING)}, "functions that this test leaves out"


def test_the_shape_of_a_key_leaves_out_whose_it_is() -> None:
    assert shape(f"{{{NAMESPACE}.g1:p3}}:u:ann:7") == shape(f"{{{NAMESPACE}:p0}}:u:x") == "p:u:*"
    assert shape(f"{{{NAMESPACE}:g1}}:pop:all:0") == shape(f"{{{NAMESPACE}:g2}}:pop:10m:7")
