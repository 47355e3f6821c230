"""What every request passes: keys and scopes, rates, sizes, hosts, ids of requests, HEAD."""

from __future__ import annotations

import socket

import pytest
from pydantic import ValidationError

from tests.builders import small_settings
from tests.gateway import KEYS, gateway, ids, with_keys
from workers.cli.app import run
from workers.errors import SettingsError
from workers.gateway_settings import ClientKey, GatewaySettings
from workers.local.embedded import free_port
from workers.runtime.redaction import secrets_of
from workers.runtime.shown_settings import masked
from workers.settings import load_settings
from workers.web.access import TokenBucket
from workers.web.server import bound

LISTS = "/v1/users/u1/lists"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [(LISTS, {"reader", "admin"}), ("/v1/items/i0/similar", {"reader", "admin"}), ("/metrics", {"admin"})],
)
async def test_each_route_needs_its_scope(path: str, allowed: set[str]) -> None:
    async with gateway() as world:
        world.publish("u1", ["i0"])
        for name in KEYS:
            answer = await world.get(path, name)
            assert answer.status_code == (200 if name in allowed else 403), (name, answer.text)
            if name not in allowed:
                assert "gateway.keys" in answer.json()["error"]


async def test_without_a_known_key_nothing_is_answered_but_probes() -> None:
    async with gateway() as world:
        for headers in ({}, {"Authorization": "Bearer wrong-wrong-wrong"}, {"Authorization": "Basic YTpi"}, {"X-API-Key": "x"}):
            answer = await world.get(LISTS, **headers)
            assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Bearer"), headers
        assert (await world.get("/live")).status_code == 200
        assert (await world.get("/ready")).status_code in (200, 503)


async def test_a_key_may_come_in_a_header_of_its_own() -> None:
    async with gateway() as world:
        world.publish("u1", ["i0"])
        assert ids(await world.get(LISTS, **{"X-API-Key": KEYS["reader"]})) == ["i0"]


async def test_without_keys_this_machine_may_do_everything_and_other_names_of_it_nothing() -> None:
    async with gateway(small_settings()) as world:
        world.publish("u1", ["i0"])
        assert ids(await world.get(LISTS)) == ["i0"]
        for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
            assert (await world.get(LISTS, Host=host)).status_code == 200
        for host in ("evil.example", "127.0.0.1.evil.example", "", "[::2]"):
            assert (await world.get(LISTS, Host=host)).status_code == 421, host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "shop.example"])
def test_an_address_of_other_machines_needs_keys(host: str) -> None:
    with pytest.raises(SettingsError, match="keys is empty"):
        load_settings(gateway={"host": host})
    assert load_settings(gateway={"host": host, "keys": [{"name": "a", "key": "k" * 16}]}).gateway.host == host


@pytest.mark.parametrize("key", ["short", "ü" * 20, "with a blank in it", "line\nbreak-line-break"])
def test_a_key_that_is_easy_to_guess_or_cannot_be_sent_is_refused(key: str) -> None:
    with pytest.raises(ValidationError, match="openssl rand"):
        ClientKey.model_validate({"name": "a", "key": key})


def test_clients_have_names_and_keys_of_their_own() -> None:
    for keys in ([("a", "k" * 16), ("a", "l" * 16)], [("a", "k" * 16), ("b", "k" * 16)]):
        with pytest.raises(ValidationError, match="twice"):
            GatewaySettings.model_validate({"keys": [{"name": name, "key": key} for name, key in keys]})


def test_keys_are_masked_wherever_settings_are_shown_and_in_logs() -> None:
    settings = with_keys()
    assert not [key for key in KEYS.values() if key in str(masked(settings)) or key in repr(settings)]
    assert set(KEYS.values()) <= secrets_of(settings)


async def test_a_client_that_asks_too_often_waits_and_others_do_not() -> None:
    async with gateway(with_keys(requests_per_s=2)) as world:
        world.publish("u1", ["i0"])
        codes = [(await world.get(LISTS, "reader")).status_code for _ in range(5)]
        assert codes == [200, 200, 200, 200, 429]
        limited = await world.get(LISTS, "reader")
        assert limited.headers["retry-after"] == "1" and "gateway.requests_per_s" in limited.json()["error"]
        assert (await world.get(LISTS, "admin")).status_code == 200
        assert (await world.get("/live", "reader")).status_code == 200
        world.clock_s += 0.5
        assert (await world.get(LISTS, "reader")).status_code == 200


def test_a_bucket_lets_more_than_a_burst_through_after_waiting_for_a_full_one() -> None:
    now_s = [0.0]
    bucket = TokenBucket(10.0, lambda: now_s[0])
    assert bucket.take(100) == 0.0 and bucket.take(1) == pytest.approx(8.1)
    now_s[0] += 8.1
    assert bucket.take(1) == 0.0


async def test_every_answer_has_the_id_of_its_request() -> None:
    async with gateway() as world:
        assert (await world.get("/live", **{"X-Request-Id": "abc-1.2_3"})).headers["x-request-id"] == "abc-1.2_3"
        made = {(await world.get("/live", **{"X-Request-Id": given})).headers["x-request-id"] for given in ("", "a b", "x" * 65, "a\tb")}
        assert len(made) == 4 and all(len(one) == 16 for one in made)
        refused = await world.get(LISTS)
        assert refused.json()["request_id"] == refused.headers["x-request-id"]


async def test_head_answers_as_get_without_a_body() -> None:
    async with gateway() as world, world.client("reader") as client:
        world.publish("u1", ["i0"])
        full, head = await client.get(LISTS), await client.head(LISTS)
        assert head.status_code == 200 and not head.content
        assert head.headers["content-length"] == full.headers["content-length"] and head.headers["etag"] == full.headers["etag"]
        assert (await client.head("/v1/users/u2/lists")).status_code == 404


async def test_unknown_paths_methods_and_parameters_are_named() -> None:
    async with gateway() as world, world.client("admin") as client:
        for path in ("/", "/v1", "/v1/users//lists", "/v1/users/u1/lists/", "/docs", "/v1/users/u1/lists/a/b"):
            answer = await client.get(path)
            assert answer.status_code == 404 and "openapi.json" in answer.json()["error"], path
        assert (await client.delete(LISTS)).status_code == 405
        answer = await client.get("/v1/items/i0/similar?limt=5")
        assert answer.status_code == 422 and answer.json()["field"] == "limt"


async def test_large_paths_bodies_and_compressed_ones_are_refused_before_they_are_read() -> None:
    async with gateway(with_keys(body_bytes=65_536)) as world, world.client("writer") as client:
        assert (await client.get("/v1/users/" + "x" * 5_000 + "/lists")).status_code == 414
        assert (await client.get("/live?" + "x" * 20_000)).status_code == 414
        assert (await client.post("/live", content=b"x" * 65_537)).status_code == 413
        assert (await client.post("/live", content=b"", headers={"Content-Length": "9" * 30})).status_code == 413
        assert (await client.post("/live", content=b"", headers={"Content-Length": "-1"})).status_code == 400
        encoded = await client.post("/live", content=b"x", headers={"Content-Encoding": "gzip"})
        assert encoded.status_code == 415 and encoded.json()["field"] == "Content-Encoding"


async def test_pages_of_other_sites_may_call_only_if_the_settings_name_them() -> None:
    async with gateway() as world:
        answer = await world.get("/live", Origin="https://shop.example")
        assert "access-control-allow-origin" not in answer.headers
    async with gateway(with_keys(cors_origins=["https://shop.example"])) as world, world.client() as client:
        assert (await client.get("/live", headers={"Origin": "https://shop.example"})).headers[
            "access-control-allow-origin"
        ] == "https://shop.example"
        asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"} | {"Origin": "https://shop.example"}
        assert (await client.options(LISTS, headers=asked)).status_code == 200
        other = await client.options(LISTS, headers={**asked, "Origin": "https://evil.example"})
        assert other.status_code == 400 and "access-control-allow-origin" not in other.headers


async def test_an_error_of_the_gateway_says_nothing_but_its_request() -> None:
    async with gateway() as world:
        world.publish("u1", ["i0"])
        world.held._held[b"u1"] = ((1, 1), b"no list")
        answer = await world.get(LISTS, "reader")
        assert answer.status_code == 500 and set(answer.json()) == {"error", "request_id"}


async def test_requests_are_counted_by_route_and_status() -> None:
    async with gateway() as world:
        world.publish("u1", ["i0"])
        await world.get(LISTS, "reader")
        await world.get("/v1/nothing", "reader")
        text = (await world.get("/metrics", "admin")).text
        assert 'recsys_gateway_requests_total{route="/v1/users/{user_id}/lists",status="200"} 1.0' in text
        assert 'recsys_gateway_requests_total{route="none",status="404"} 1.0' in text


def test_a_missing_extra_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("workers.cli.worker.importlib.util.find_spec", lambda name: None)
    assert run(["worker", "gateway"]) == 1
    assert "pip install 'recsys-stream[web]'" in capsys.readouterr().err


async def test_the_shortcut_answers_as_the_route_does() -> None:
    async with gateway(with_keys(cors_origins=["https://shop.example"])) as world:
        world.publish("a/b", ["i0", "i1"])
        for key in (None, *KEYS):
            for path in ("/v1/users/a%2Fb/lists", "/v1/users/u2/lists", "/v1/users/%FF/lists"):
                short = await world.get(path, key)
                routed = await world.get(path, key, Origin="https://shop.example")
                assert (short.status_code, short.headers.get("etag")) == (routed.status_code, routed.headers.get("etag"))
                assert short.json().get("items") == routed.json().get("items") and short.json().get("error") == routed.json().get("error")


def test_the_gateways_socket_sends_at_once_and_a_taken_port_is_named() -> None:
    with bound(GatewaySettings(port=free_port())) as listening:
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        listening.listen()
        with pytest.raises(SettingsError, match=r"gateway\.port"):
            bound(GatewaySettings(port=listening.getsockname()[1]))
