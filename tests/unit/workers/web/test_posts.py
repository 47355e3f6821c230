"""Records over HTTP: checked one by one, acknowledged by the broker before the answer, bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from tests.builders import small_settings
from tests.gateway import GatewayWorld, gateway, with_keys
from workers.errors import SettingsError

EVENT = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "type": "play", "event_ts_ms": 1_700_000_000_000}
LINES = {"Content-Type": "application/x-ndjson"}


async def post(world: GatewayWorld, path: str, body: Any, key: str | None = "writer", **headers: str) -> httpx.Response:
    """Send one POST; bytes as they are, all else as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body, allow_nan=True).encode()
    async with world.client(key) as client:
        return await client.post(path, content=content, headers={"Content-Type": "application/json", **headers})


def values(world: GatewayWorld) -> list[dict[str, Any]]:
    """Return what was sent."""
    return [orjson.loads(value or b"") for _, _, value in world.sender.sent]


async def test_an_event_is_sent_under_its_user_and_answered_when_it_is_acknowledged() -> None:
    async with gateway() as world:
        world.sender.waiting = []
        answering = asyncio.create_task(post(world, "/v1/events", EVENT))
        for _ in range(100):
            await asyncio.sleep(0)
        assert world.sender.waiting and not answering.done() and world.parts.bridge.n_waiting == 1
        world.sender.waiting[0].set_result(None)
        answer = await answering
        assert answer.status_code == 202 and answer.json() == {"accepted": 1, "refused": [], "event_ids": ["e1"]}
        assert world.sender.sent[0][:2] == ("recsys.events", b"u1") and values(world)[0] == EVENT | {"schema_version": 1, "context": {}}
        assert world.parts.bridge.n_waiting == 0


async def test_id_and_time_of_an_event_are_filled_in_and_null_is_not_given() -> None:
    async with gateway(small_settings()) as world:
        world.wall_s = 1_764_000_000.5
        given = {"event_id": None, "user_id": "u1", "item_id": "i1", "type": "play", "value": None}
        answer = await post(world, "/v1/events", given, None)
        (event,) = values(world)
        assert answer.json()["event_ids"] == [event["event_id"]] and len(event["event_id"]) == 36
        assert event["event_ts_ms"] == 1_764_000_000_500 and "value" not in event


@pytest.mark.parametrize(("path", "topic", "record", "key"), [
    ("/v1/items", "recsys.items", {"item_id": "i/ü", "title": "A", "available": False}, "i/ü"),
    ("/v1/users", "recsys.users", {"user_id": "u1", "preferred_categories": ["jazz"]}, "u1"),
    ("/v1/users", "recsys.users", {"user_id": "u1", "merged_into": "u2", "updated_ts_ms": 1_700_000_000_000}, "u1"),
])  # fmt: skip
async def test_items_and_profiles_go_to_their_topics(path: str, topic: str, record: dict[str, Any], key: str) -> None:
    async with gateway() as world:
        answer = await post(world, path, record)
        assert answer.status_code == 202 and answer.json() == {"accepted": 1, "refused": []}
        assert world.sender.sent[0][:2] == (topic, key.encode()) and record.items() <= values(world)[0].items()


async def test_ids_of_lists_of_no_user_are_refused_with_their_field() -> None:
    async with gateway(small_settings(lists={"shared_every_s": 60})) as world:
        for path, record, field in [
            ("/v1/events", {**EVENT, "user_id": "recsys:default"}, "user_id"),
            ("/v1/users", {"user_id": "recsys:default"}, "user_id"),
            ("/v1/users", {"user_id": "u1", "merged_into": "recsys:default"}, "merged_into"),
        ]:
            answer = await post(world, path, record, None)
            assert answer.status_code == 422 and answer.json()["field"] == field, answer.text
        assert world.sender.sent == []


@pytest.mark.parametrize("as_lines", [False, True])
async def test_of_a_batch_the_good_records_are_sent_in_order_and_the_others_named(as_lines: bool) -> None:
    wrong: list[Any] = [
        {**EVENT, "type": "yodel"}, {**EVENT, "user_id": ""}, {**EVENT, "typo": 1}, [1], None, "x", {**EVENT, "event_ts_ms": 1_700_000_000},
        {**EVENT, "event_ts_ms": 4_000_000_000_000}, {**EVENT, "item_id": "x" * 129}, {**EVENT, "item_id": "a\u0000"}, {},
    ]  # fmt: skip
    good = [{**EVENT, "event_id": f"e{number}"} for number in range(3)]
    batch = [good[0], *wrong, *good[1:]]
    async with gateway() as world:
        body = b"\r\n\n".join(orjson.dumps(one) for one in batch) + b"\n" if as_lines else orjson.dumps(batch)
        answer = await post(world, "/v1/events", body, **(LINES if as_lines else {}))
        found = answer.json()
        assert answer.status_code == 202 and found["accepted"] == 3 and found["event_ids"] == ["e0", "e1", "e2"]
        assert [one["event_id"] for one in values(world)] == ["e0", "e1", "e2"]
        assert [one["at"] for one in found["refused"]] == list(range(1, 1 + len(wrong)))
        assert [one["field"] for one in found["refused"]] == [
            "type", "user_id", "typo", "record", "record", "record", "event_ts_ms", "event_ts_ms", "item_id", "item_id", "user_id"
        ]  # fmt: skip
        assert all(one["error"].startswith(f"{one['field']}: ") and ";" in one["error"] for one in found["refused"])


async def test_a_line_that_is_no_json_is_a_refused_record() -> None:
    async with gateway() as world:
        answer = await post(world, "/v1/events", orjson.dumps(EVENT) + b'\n{"user_id": NaN}\n\xff\n', **LINES)
        assert answer.status_code == 202 and [one["at"] for one in answer.json()["refused"]] == [1, 2]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", 400, "body"), (b"{", 400, "body"), (b"\xff\xfe", 400, "body"), (b'{"value": NaN}', 400, "body"),
        (b'{"value": Infinity}', 400, "body"), (b"[]", 422, "body"), (b"3", 422, "record"), ({**EVENT, "user_id": 5}, 422, "user_id"),
        ({**EVENT, "type": "rating"}, 422, "value"), ([{**EVENT, "type": "no"}] * 2, 422, "type"), ([EVENT] * 11, 413, "body"),
        ({**EVENT, "context": {"a": "\ud800"}}, 400, "body"), (b'{"a":' * 5_000, 400, "body"),
        ({**EVENT, "user_id": "recsys:x"}, 422, "user_id"),
    ],
)  # fmt: skip
async def test_what_cannot_be_an_event_is_refused_with_its_field(body: Any, code: int, field: str) -> None:
    settings = small_settings(gateway={"batch_records": 10}, lists={"shared_every_s": 60.0})
    async with gateway(settings) as world:
        answer = await post(world, "/v1/events", body, None)
        assert (answer.status_code, answer.json().get("field")) == (code, field), answer.text
        assert not world.sender.sent


async def test_an_event_that_workers_would_refuse_as_too_large_is_refused_here() -> None:
    async with gateway(small_settings(stream={"max_record_bytes": 300})) as world:
        answer = await post(world, "/v1/events", {**EVENT, "context": {"a": "x" * 250}}, None)
        assert answer.status_code == 422 and "at most 300" in answer.json()["error"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_a_body_of_another_type_is_refused_so_that_no_page_of_another_site_can_post_one(content_type: str) -> None:
    async with gateway(small_settings()) as world:
        answer = await post(world, "/v1/events", EVENT, None, **{"Content-Type": content_type})
        assert answer.status_code == 415 and not world.sender.sent


@pytest.mark.parametrize("path", ["/v1/events", "/v1/items", "/v1/users"])
async def test_posts_need_the_scope_write_and_take_no_parameters(path: str) -> None:
    async with gateway() as world:
        assert (await post(world, path, EVENT, "reader")).status_code == 403
        assert (await post(world, path, EVENT, None)).status_code == 401
        assert (await post(world, path + "?x=1", EVENT, "admin")).status_code == 422
        async with world.client("writer") as client:
            assert (await client.get(path)).status_code == 405
    assert not world.sender.sent


async def test_without_a_broker_the_answer_is_503_with_what_to_send_again() -> None:
    async with gateway() as world:
        world.sender.is_away = True
        answer = await post(world, "/v1/events", [EVENT, {**EVENT, "type": "no"}, EVENT])
        found = answer.json()
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1" and "no Kafka broker answers" in found["error"]
        assert found["accepted"] == 0 and found["unacknowledged"] == [0, 1, 2]
        world.sender.is_away = False
        assert (await post(world, "/v1/events", EVENT)).status_code == 202


async def test_what_a_broker_took_before_it_went_away_is_not_to_be_sent_again() -> None:
    async with gateway() as world:
        world.sender.takes = 2
        answer = await post(world, "/v1/events", [{**EVENT, "type": "no"}, *({**EVENT, "event_id": f"e{n}"} for n in range(4))])
        assert answer.status_code == 503 and answer.json()["accepted"] == 2 and answer.json()["unacknowledged"] == [3, 4]
        assert answer.json()["event_ids"] == ["e0", "e1"]


async def test_records_that_the_broker_does_not_acknowledge_in_time_are_503() -> None:
    async with gateway(with_keys(acknowledge_s=0.01)) as world:
        world.sender.waiting = []
        answer = await post(world, "/v1/events", [EVENT, EVENT])
        assert answer.status_code == 503 and answer.json()["unacknowledged"] == [0, 1] and "no answer yet" in answer.json()["error"]
        world.sender.waiting[0].set_exception(ConnectionError())
        world.sender.waiting[1].set_result(None)
        await asyncio.sleep(0)
        assert world.parts.bridge.n_waiting == 0


@pytest.fixture
async def slow() -> AsyncIterator[GatewayWorld]:
    async with gateway(with_keys(unacknowledged=3, batch_records=3, acknowledge_s=0.01, records_per_s=4)) as world:
        world.sender.waiting = []
        yield world


async def test_more_than_may_wait_for_the_broker_is_429(slow: GatewayWorld) -> None:
    assert (await post(slow, "/v1/events", [EVENT] * 2)).status_code == 503
    answer = await post(slow, "/v1/events", [EVENT] * 2)
    assert answer.status_code == 429 and answer.headers["retry-after"] == "1" and "gateway.unacknowledged" in answer.json()["error"]
    assert slow.sender.waiting is not None and len(slow.sender.waiting) == 2


async def test_a_client_that_posts_too_much_waits(slow: GatewayWorld) -> None:
    slow.sender.waiting = None
    codes = [(await post(slow, "/v1/events", [EVENT] * 3)).status_code for _ in range(3)]
    assert codes == [202, 202, 429]
    slow.clock_s += 1
    assert (await post(slow, "/v1/events", [EVENT] * 3)).status_code == 202


def test_a_full_batch_can_be_taken() -> None:
    with pytest.raises(SettingsError, match="batch_records"):
        small_settings(gateway={"batch_records": 10, "unacknowledged": 9})
