"""Two gateways side by side on a broker and a Valkey that die: each answers the same, each loses only what it cannot reach, all recover."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TestStack
from tests.fault.servers import Proxy
from tests.integration.test_gateway import Served, gateway_of, listed
from tests.integration.test_stream import workers
from workers.client import StateReader
from workers.errors import Fatal
from workers.kafka.admin import admin_client
from workers.kafka.topics import provision, topic_specs
from workers.local.embedded import EmbeddedStack, environment, free_port
from workers.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(300), pytest.mark.usefixtures("has_servers")]
USERS = [f"u{number}" for number in range(6)]


@dataclass
class Pair:
    """Two gateways, the first of which reaches Valkey through a proxy, and the servers behind them."""

    near: Served
    far: Served
    proxy: Proxy
    servers: EmbeddedStack
    settings: Settings

    @property
    def both(self) -> tuple[Served, Served]:
        return self.near, self.far

    def valkey_port(self) -> int:
        return int(self.servers.redis_url.removesuffix("/0").rpartition(":")[2])


@asynccontextmanager
async def pair_of(stack: TestStack, folder: Path) -> AsyncIterator[Pair]:
    """Run a stream worker and two gateways on servers of their own."""
    sections: dict[str, Any] = {
        "topics": {"partitions": 4},
        "lists": {"size": 5, "shared_every_s": 2},
        "gateway": {"acknowledge_s": 1.0},
        "trainer": {"log_url": str(folder / "log"), "model_url": str(folder / "models")},
    }
    servers = EmbeddedStack(folder / "servers")
    servers.keep_valkey(folder / "servers")
    with servers:
        settings, env = servers.settings(**sections), servers.env(**sections)
        provision(settings)
        with workers(stack, env):
            port = int(servers.redis_url.removesuffix("/0").rpartition(":")[2])
            async with Proxy(port, random.Random(0)) as proxy:
                through = {**env, **environment({"redis": {"url": proxy.url}})}
                async with gateway_of(stack, through) as near, gateway_of(stack, env) as far:
                    yield Pair(near, far, proxy, servers, settings)


async def fill(pair: Pair) -> None:
    """Give each user a list: items by one gateway, events by both, one of them twice."""
    for served in pair.both:
        await served.until("/live", lambda answer: answer.status_code == 200)
    await pair.near.post("/v1/items", [{"item_id": f"i{number}", "categories": [f"c{number % 2}"]} for number in range(8)])
    for number, user in enumerate(USERS):
        event = {"event_id": f"e{number}", "user_id": user, "item_id": f"i{number % 4}", "type": "play"}
        await pair.both[number % 2].post("/v1/events", event)
        await pair.both[(number + 1) % 2].post("/v1/events", event)
    for served in pair.both:
        for user in USERS:
            await served.until(f"/v1/users/{user}/lists", lambda answer: len(listed(answer)) == 5 and not answer.json()["is_default"])
        await served.until("/ready", lambda answer: answer.status_code == 200)


async def same(pair: Pair) -> None:
    """Both answer with the same list for each user: the same bytes under the same tag, and the same list on request."""
    for user in USERS:
        path = f"/v1/users/{user}/lists"
        wanted = (await pair.near.client.get(path)).headers["etag"]
        other = await pair.far.until(path, lambda answer, wanted=wanted: answer.headers.get("etag") == wanted)
        assert other.content == (await pair.near.client.get(path)).content
        made = [listed(await served.client.get(path + "?limit=3&category=c1")) for served in pair.both]
        assert made[0] == made[1] and len(made[0]) >= 2


async def test_each_answers_the_same_and_loses_only_the_redis_that_it_cannot_reach(stack: TestStack, tmp_path: Path) -> None:
    path = f"/v1/users/{USERS[0]}/lists"
    async with pair_of(stack, tmp_path) as pair:
        await fill(pair)
        await same(pair)
        with StateReader(pair.settings) as reader:
            history = (await asyncio.to_thread(reader.user, USERS[0])).history
        assert [(one.item_id, one.touches) for one in history] == [("i0", 1)], "an event that both took counts once"

        pair.proxy.point_at(free_port())  # nobody listens there
        away = await pair.near.until(path, lambda answer: answer.status_code == 503)
        assert away.headers["retry-after"] == "1" and (await pair.near.client.get("/ready")).status_code == 503
        assert len(listed(await pair.far.client.get(path))) == 5 and (await pair.far.client.get("/ready")).status_code == 200
        await pair.far.post("/v1/events", {"event_id": "later", "user_id": USERS[0], "item_id": "i1", "type": "play"})
        await pair.far.until(path, lambda answer: "i1" not in listed(answer))
        pair.proxy.point_at(pair.valkey_port())
        await pair.near.until("/ready", lambda answer: answer.status_code == 200)
        await pair.near.until(path, lambda answer: "i1" not in listed(answer) and len(listed(answer)) >= 5)
        await same(pair)

        assert pair.servers.valkey is not None
        pair.servers.valkey.kill()
        for served in pair.both:
            await served.until(path, lambda answer: answer.status_code == 503)
        pair.servers.start_again("valkey")
        for served in pair.both:
            await served.until("/ready", lambda answer: answer.status_code == 200)
        await same(pair)
        await pair.near.post("/v1/items", {"item_id": "i5", "available": False})
        for served in pair.both:
            await served.until(path, lambda answer: answer.status_code == 200 and "i5" not in listed(answer))


def provision_again(settings: Settings) -> None:
    """Make the topics of an embedded broker that kept nothing. It makes a topic by itself when a client asks for one first, with its own
    number of partitions: such a one goes."""
    until = time.monotonic() + 60.0
    while True:
        try:
            provision(settings)
            return
        except Fatal:
            if time.monotonic() > until:
                raise
        with admin_client(settings) as admin:
            admin.delete_topics(sorted({spec.name for spec in topic_specs(settings)} & set(admin.list_topics())))


async def test_without_a_broker_posts_are_refused_with_a_time_to_wait_and_lists_go_on(stack: TestStack, tmp_path: Path) -> None:
    path = f"/v1/users/{USERS[0]}/lists"
    async with pair_of(stack, tmp_path) as pair:
        await fill(pair)
        before = listed(await pair.near.client.get(path))
        broker = pair.servers.broker
        assert broker is not None
        event = {"event_id": "meant-once", "user_id": USERS[0], "item_id": "i1", "type": "play"}

        broker.process.send_signal(signal.SIGSTOP)  # it takes connections and answers nothing
        try:
            for served in pair.both:
                refused = await served.client.post("/v1/events", json=event)
                assert refused.status_code == 503 and float(refused.headers["retry-after"]) > 0, refused.text
                assert refused.json()["unacknowledged"] == [0]
                assert listed(await served.client.get(path)) == before
                assert len(listed(await served.client.get(path + "?limit=3"))) == 3
                assert (await served.client.get("/ready")).status_code == 200
        finally:
            broker.process.send_signal(signal.SIGCONT)
        for served in pair.both:
            await served.post("/v1/events", event)
        for served in pair.both:
            await served.until(path, lambda answer: bool(listed(answer)) and "i1" not in listed(answer))
        await same(pair)
        with StateReader(pair.settings) as reader:
            history = (await asyncio.to_thread(reader.user, USERS[0])).history
        assert [(one.item_id, one.touches) for one in history] == [("i1", 1), ("i0", 1)], "sent six times or less, counted once"

        broker.kill()
        now = listed(await pair.near.client.get(path))
        for served in pair.both:
            refused = await served.client.post("/v1/events", json={**event, "event_id": "lost"})
            assert refused.status_code == 503 and float(refused.headers["retry-after"]) > 0, refused.text
            assert listed(await served.client.get(path)) == now
        pair.servers.start_again("broker")
        await asyncio.to_thread(provision_again, pair.settings)
        for served in pair.both:
            await served.post("/v1/events", {**event, "event_id": "back"})
