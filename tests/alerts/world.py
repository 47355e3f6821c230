"""A running stack of stream worker, trainer and gateway with visitors, whose parts can be hurt one by one, and a Prometheus beside it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import redis
from aiokafka import AIOKafkaProducer

from tests.alerts.prometheus import FIRST_MODEL_S, PATIENCE_S, SCRAPE_S, Prometheus, deadline
from tests.conftest import TestStack
from tests.fault.servers import Proxy
from tests.unit.recsys.models.model_cases import N_ITEMS, clustered
from workers.client import EventPublisher
from workers.kafka.connection import aiokafka_producer_arguments
from workers.kafka.partitioner import partition_for
from workers.kafka.topics import provision
from workers.local.embedded import HOST, Child, EmbeddedStack, environment, free_port
from workers.settings import Settings

Kind = Literal["stream", "trainer", "gateway"]
KINDS: tuple[Kind, ...] = ("stream", "trainer", "gateway")
EVENTS_PER_S = 8.0
VISITORS = [f"visitor-{number}" for number in range(60)]
POPULAR = [f"item-{number}" for number in range(10)]
"""Items that everybody has played."""
OPTIONS = {"ials": {"factors": 8, "epochs": 3, "unobserved_weight": 0.1, "regularisation": 0.003}}
N_EARLIER = 900
"""Events before the workers start, of which the first model is trained."""


def sections_of(folder: Path) -> dict[str, Any]:
    """Return settings of a small system: it is behind after two hundred events, and trains once."""
    return {
        "topics": {"partitions": 2},
        "lists": {"size": 10},
        "gateway": {"timeout_s": 30.0},
        "stream": {"catch_up_events": 200, "batch_max_events": 20},
        "trainer": {
            **{"kinds": ["ials"], "options": OPTIONS, "min_events": N_EARLIER, "every_events": 1_000_000, "every_s": 99_999},
            **{"flush_s": 0.5, "tolerance": 0.9, "min_targets": 20},
            **{"log_url": str(folder / "log"), "model_url": str(folder / "models")},
        },
    }


class World:
    """The workers, each with a port for its metrics and at most one of a kind, and what goes on around them."""

    def __init__(self, stack: TestStack, servers: EmbeddedStack, folder: Path, to_stream: Proxy, to_gateway: Proxy) -> None:
        self._stack, self.folder = stack, folder
        self.to_stream, self.to_gateway = to_stream, to_gateway
        self._sections = sections_of(folder)
        self.settings: Settings = servers.settings(**self._sections)
        self._env = {**os.environ, "RECSYS_CONFIG": os.devnull, **servers.env(**self._sections)}
        self.redis_port = int(servers.redis_url.removesuffix("/0").rpartition(":")[2])
        self.children: dict[Kind, Child] = {}
        self.ports: dict[Kind, int] = {}
        self.gateway = f"http://{HOST}:{free_port()}"
        self.prometheus = Prometheus(folder / "prometheus")
        self.plays: Callable[[str], str] = self.listed
        """Chooses what a visitor plays next."""
        self.nonsense = False
        """Records that nobody can read come as often as events."""
        self._lists: dict[str, list[str]] = {}
        self._random = random.Random(5)

    def start(self, kind: Kind, *, scraped: bool = True, **sections: dict[str, Any]) -> None:
        """Start a worker; `sections` change its settings."""
        self.ports[kind] = free_port()
        env = {**self._env, "RECSYS_METRICS__PORT": str(self.ports[kind]), "RECSYS_GATEWAY__PORT": self.gateway.rpartition(":")[2]}
        proxies = {"stream": self.to_stream, "gateway": self.to_gateway}
        if kind in proxies:
            env |= environment({"redis": {"url": proxies[kind].url}})
        self.children[kind] = self._stack.start_worker(kind, env | environment(sections))
        if scraped:
            self.scrape(kind)

    def scrape(self, kind: Kind, *more: int) -> None:
        """Have Prometheus know the address of a worker, and of other targets of its job."""
        self.prometheus.scrape(kind, [self.ports[kind], *more])

    async def stop(self, kind: Kind) -> None:
        """Stop a worker whose address is forgotten, as that of a container is which ended."""
        await self.forget(kind, [])
        self.children[kind].process.terminate()
        await asyncio.to_thread(self.children[kind].process.wait, 30)

    async def forget(self, kind: Kind, kept: list[int]) -> None:
        """Have Prometheus know no other addresses of a job than these, and wait until it does."""
        self.prometheus.scrape(kind, kept)

        async def are_forgotten() -> bool:
            return (await self.prometheus.value(f'count(up{{job="recsys-{kind}"}})') or 0) == len(kept)

        await self.until(are_forgotten, "targets")

    def redis(self, *command: str | int) -> Any:
        with redis.Redis(port=self.redis_port, socket_timeout=10.0) as client:
            return client.execute_command(*command)

    async def until(self, holds: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
        """Wait until a condition holds, which may be a coroutine."""
        ends_s = deadline(patience_s)
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            assert time.monotonic() < ends_s, f"{what}: never; {self.last_lines()}"
            await asyncio.sleep(0.2)

    def last_lines(self) -> str:
        return "\n".join(f"--- {kind}\n{child.last_lines(12)}" for kind, child in self.children.items())

    async def is_ready(self, kind: Kind) -> bool:
        assert self.children[kind].running, self.children[kind].last_lines(20)
        async with httpx.AsyncClient(timeout=10.0, trust_env=False) as client:
            try:
                return (await client.get(f"http://{HOST}:{self.ports[kind]}/ready")).status_code == 200
            except httpx.TransportError:
                return False

    def listed(self, visitor: str) -> str:
        """Choose the first item of the visitor's list, the next one if no newer list was read since."""
        if found := self._lists.get(visitor):
            return found.pop(0)
        return f"item-{self._random.randrange(len(POPULAR), N_ITEMS)}"

    def popular(self, visitor: str) -> str:
        """Choose one of the items that everybody has played, whatever the list says."""
        return self._random.choice(POPULAR)

    async def visit(self) -> None:
        """Play EVENTS_PER_S items, visitor after visitor."""
        producer = AIOKafkaProducer(**aiokafka_producer_arguments(self.settings))
        await producer.start()
        topic, n_partitions = self.settings.topics.events, self.settings.topics.partitions
        try:
            for number in itertools.count():
                visitor = VISITORS[number % len(VISITORS)]
                key, now_ms = visitor.encode(), int(time.time() * 1000)
                event = {"event_id": f"v{number}", "user_id": visitor, "item_id": self.plays(visitor), "type": "play"}
                value = json.dumps({**event, "event_ts_ms": now_ms}).encode()
                for sent in [value, b"{"] if self.nonsense else [value]:
                    await producer.send_and_wait(topic, sent, key=key, partition=partition_for(key, n_partitions))
                await asyncio.sleep(1 / EVENTS_PER_S)
        finally:
            await producer.stop()

    async def read_lists(self) -> None:
        """Ask the gateway for each visitor's list, the published one and one that is made on request."""
        async with httpx.AsyncClient(base_url=self.gateway, timeout=60.0, trust_env=False) as client:
            for number in itertools.count():
                visitor = VISITORS[number % len(VISITORS)]
                with contextlib.suppress(httpx.TransportError):
                    for query in ("", "?limit=5&exclude=none"):
                        answer = await client.get(f"/v1/users/{visitor}/lists{query}")
                        if answer.status_code == 200 and not query:
                            self._lists[visitor] = [place["item_id"] for place in answer.json()["items"]]
                await asyncio.sleep(0.05)

    def fill(self) -> None:
        """Publish a catalogue, events of which a model is trained, and many plays of a few items."""
        made = clustered()
        earlier = sorted(range(len(made)), key=lambda i: int(made.ts_ms[i]))[:N_EARLIER]
        with EventPublisher(self.settings) as publisher:
            for item in range(N_ITEMS):
                publisher.publish_item({"item_id": f"item-{item}", "categories": [f"c{item % 5}"]})
            for i in earlier:
                fields = {"user_id": f"u{made.users[i]}", "item_id": made.item_ids[made.items[i]], "event_ts_ms": int(made.ts_ms[i])}
                publisher.publish(event_id=f"e{i}", type="like", **fields)
            last_ms = int(made.ts_ms[earlier[-1]])
            for number in range(400):
                user_id, item_id = f"u{number % 40}", POPULAR[number // 40]
                publisher.publish(event_id=f"p{number}", user_id=user_id, item_id=item_id, type="like", event_ts_ms=last_ms)

    async def begin(self) -> None:
        """Start everything and wait until a first model serves and visitors have lists."""
        for kind in KINDS:
            self.start(kind, scraped=False)
        for kind in KINDS:
            await self.until(lambda kind=kind: self.is_ready(kind), f"a {kind} worker that is ready", FIRST_MODEL_S)
        await self.until(lambda: "serving model ials/" in self.children["stream"].log.read_text(), "a model", FIRST_MODEL_S)
        await self.until(lambda: len(self._lists) == len(VISITORS), "lists")
        for kind in KINDS:
            self.scrape(kind)

    async def end(self) -> None:
        await self.prometheus.stop()
        self._stack.embedded.stop_workers()

    async def steady(self, seconds: int) -> set[str]:
        """Wait until Prometheus has scraped all workers, and then for so long. Return the alerts that fired in that time."""
        scrapes = 'min(count_over_time(up{job=~"recsys.*"}[1h]))'

        async def quiet() -> bool:
            n_up = await self.prometheus.value('sum(up{job=~"recsys.*"})')
            return n_up == len(self.children) and not (await self.prometheus.firing() or await self.prometheus.pending())

        await self.until(quiet, "a quiet system")
        last = (await self.prometheus.value(scrapes) or 0) + seconds / SCRAPE_S

        async def scraped() -> bool:
            return (await self.prometheus.value(scrapes) or 0) >= last

        await self.until(scraped, "scrapes")
        return await self.prometheus.fired_within(seconds)


@asynccontextmanager
async def world_of(stack: TestStack, folder: Path) -> AsyncIterator[World]:
    """Run the whole on servers of its own, with visitors who come and go."""
    with EmbeddedStack(folder / "servers") as servers:
        port = int(servers.redis_url.removesuffix("/0").rpartition(":")[2])
        chance = random.Random(0)
        async with Proxy(port, chance) as to_stream, Proxy(port, chance) as to_gateway:
            world = World(stack, servers, folder, to_stream, to_gateway)
            tasks: list[asyncio.Task[None]] = []
            try:
                await asyncio.to_thread(provision, world.settings)
                await asyncio.to_thread(world.fill)
                tasks += [asyncio.create_task(world.visit()), asyncio.create_task(world.read_lists())]
                await world.begin()
                yield world
                for task in tasks:
                    assert not task.done(), task.exception()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await world.end()
