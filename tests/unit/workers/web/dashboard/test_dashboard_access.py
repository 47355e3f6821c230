"""Who may see and do what: keys and scopes, sessions of browsers, pages of other sites."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.builders import small_settings
from tests.dashboard import KEYS, ORIGIN, DashboardWorld, dashboard
from workers.errors import SettingsError
from workers.web.dashboard.server import run_dashboard
from workers.web.dashboard.sign_in import LASTS_S
from workers.web.dashboard.sign_in_routes import own_path

LIKE = {"item_id": "i0", "type": "like"}


@asynccontextmanager
async def signed_in(world: DashboardWorld, name: str) -> AsyncIterator[httpx.AsyncClient]:
    async with world.client() as client:
        await sign_in(client, name)
        yield client


async def sign_in(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.post("/sign-in", data={"key": KEYS[name], "next": "/users"}, headers=ORIGIN)
    assert answer.status_code == 303 and answer.headers["location"] == "/users"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and KEYS[name] not in cookie


async def test_a_readers_key_sees_pages_and_cannot_write() -> None:
    async with dashboard() as world:
        world.publish("u1", ["i0"])
        async with signed_in(world, "reader") as client:
            text = (await client.get("/users/u1")).text
            assert 'data-item="i0"' in text and "data-type=" not in text and "read only" in text
            refused = await client.post("/api/users/u1/events", json=LIKE, headers=ORIGIN)
            assert refused.status_code == 403 and "write" in refused.json()["error"] and not world.producer.events
        async with signed_in(world, "writer") as client:
            assert (await client.get("/users/u1")).status_code == 403


async def test_a_browser_without_a_session_is_led_to_the_form_and_back() -> None:
    async with dashboard() as world:
        answer = await world.get("/users/u1")
        assert answer.status_code == 303 and answer.headers["location"] == "/sign-in?next=%2Fusers%2Fu1"
        assert 'value="/users/u1"' in (await world.get("/sign-in?next=%2Fusers%2Fu1")).text
        assert (await world.get("/api/users/u1/page")).status_code == 401
        async with world.client() as client:
            wrong = await client.post("/sign-in", data={"key": "no-such-key-at-all"}, headers=ORIGIN)
        assert wrong.status_code == 401 and "set-cookie" not in wrong.headers and "no-such-key" not in wrong.text


async def test_a_session_ends_by_time_and_by_signing_out() -> None:
    async with dashboard() as world:
        async with signed_in(world, "reader") as client:
            assert (await client.get("/")).status_code == 200
            world.clock_s += LASTS_S
            assert (await client.get("/")).status_code == 303
        async with signed_in(world, "reader") as client:
            held = client.cookies["recsys_session"]
            await client.post("/sign-out", headers=ORIGIN)
            assert (await client.get("/", headers={"Cookie": f"recsys_session={held}"})).status_code == 303


async def test_keys_cannot_be_tried_without_end() -> None:
    async with dashboard() as world, world.client() as client:
        tried = [(await client.post("/sign-in", data={"key": f"wrong-{number}"}, headers=ORIGIN)).status_code for number in range(20)]
        assert tried[0] == 401 and tried[-1] == 429


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1"}, 403),
        ({"Cookie": "recsys_session=x"}, 403),
        ({"Origin": "http://127.0.0.1"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 200),
    ],
)
async def test_pages_of_other_sites_cannot_write(headers: dict[str, str], status: int) -> None:
    async with dashboard(small_settings()) as world, world.client() as client:
        world.publish("u1", ["i0"])
        answer = await client.post("/api/users/u1/events", json=LIKE, headers=headers)
        assert answer.status_code == status and len(world.producer.events) == (status == 200)


async def test_a_form_of_another_kind_is_no_write() -> None:
    async with dashboard(small_settings()) as world, world.client() as client:
        answer = await client.post("/api/users/u1/events", content=b'{"item_id":"i0","type":"like"}', headers=ORIGIN)
        assert answer.status_code == 415 and not world.producer.events


async def test_without_keys_only_this_machine_is_answered_and_may_write() -> None:
    async with dashboard(small_settings()) as world:
        world.publish("u1", ["i0"])
        assert "data-type=" in await world.page("/users/u1")
        assert (await world.get("/", Host="evil.example")).status_code == 421
    open_to_all = small_settings(dashboard={"host": "0.0.0.0"})
    with pytest.raises(SettingsError, match=r"gateway\.keys"):
        run_dashboard(open_to_all)


async def test_every_answer_has_a_policy_that_allows_no_other_origin() -> None:
    async with dashboard() as world:
        for path in ("/", "/sign-in", "/static/dashboard.css", "/nothing", "/api/nothing"):
            answer = await world.get(path, "reader")
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_language_and_theme_are_kept_in_cookies_of_known_values() -> None:
    async with dashboard(small_settings()) as world, world.client() as client:
        assert "<html lang=\"de\"" in (await client.get("/", headers={"Accept-Language": "de"})).text
        answer = await client.post("/appearance", data={"language": "zh", "theme": "dark", "next": "//evil.example"}, headers=ORIGIN)
        assert answer.headers["location"] == "/"
        assert '<html lang="zh" data-theme="dark">' in (await client.get("/")).text
        await client.post("/appearance", data={"theme": '"><script>'}, headers=ORIGIN)
        assert 'data-theme="dark"' in (await client.get("/")).text


def test_the_way_back_is_a_path_of_this_server() -> None:
    assert own_path("/users/a%2Fb") == "/users/a%2Fb"
    assert {own_path(path) for path in ("//evil", "/\\evil", "https://evil", "", "/a\r\nb", "javascript:x")} == {"/"}


async def test_while_redis_is_away_pages_say_so_and_come_back() -> None:
    async with dashboard() as world:
        world.publish("u1", ["i0"])
        world.store.is_away = True
        answer = await world.get("/users/u1", "reader")
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1" and "no Redis answers" in answer.text
        world.store.is_away = False
        world.clock_s += 1.0
        assert 'data-item="i0"' in await world.page("/users/u1", "reader")
