"""A real Prometheus scrapes a running stack, and each alert of the shipped rules fires when that happens which it is about.

Times are shorter (`tests/alerts/prometheus.py` has the table), expressions are those of the file. Each scene hurts one part of the stack,
and no alert may begin to fire that the scene does not name. One condition is not made but shown: the embedded broker deletes no records,
so `RecsysRecordsExpired` is fired by the stream worker's own metrics in a process of the test.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.alerts.prometheus import BOUNDS, PROGRAM, STANDS, deadline, shortened
from tests.alerts.world import World, world_of
from tests.conftest import TestStack
from tests.raw_batches import raw_batch, send_raw
from tests.unit.test_deploy import RULES, alerts
from workers.local.embedded import free_port, start_server
from workers.models.announcements import announce

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

Act = Callable[[World], AsyncIterator[None]]
HEALTHY_S = 15
"""Longer than each alert has to hold, with the range that it looks back over for the most part."""
STALE_S = 10.0
"""Age of events at which their lists are stale: more than the shortened bound of RecsysListsStale."""


@dataclass(frozen=True)
class Scene:
    """Something that happens, the alerts that must begin to fire, and those that may."""

    act: Act
    must: frozenset[str]
    may: frozenset[str]


SCENES: list[Scene] = []


def fires(*must: str, may: tuple[str, ...] = ()) -> Callable[[Act], Act]:
    """Add a scene: what comes before its `yield` makes these alerts fire, what comes after repairs it."""

    def add(act: Act) -> Act:
        SCENES.append(Scene(act, frozenset(f"Recsys{name}" for name in must), frozenset(f"Recsys{name}" for name in may)))
        return act

    return add


@fires("TrainingStands")
async def the_last_round_of_training_ended_long_ago(world: World) -> AsyncIterator[None]:
    await world.prometheus.load(shortened(BOUNDS | STANDS))
    yield
    await world.prometheus.load(shortened())


@fires("ModelsContradicted", "RedisFull")
async def somebody_writes_to_the_models_topic_and_redis_fills(world: World) -> AsyncIterator[None]:
    await announce(world.settings, [], retired=["ials"])
    world.redis("CONFIG", "SET", "maxmemory", int(world.redis("INFO", "memory")["used_memory"] * 1.1))
    yield
    world.redis("CONFIG", "SET", "maxmemory", 0)


@fires("UnreadableBatches")
async def a_batch_cannot_be_unpacked(world: World) -> AsyncIterator[None]:
    raw, n_bytes = raw_batch("zstd", [(b"u", b"A" * 60_000_000, 0)])
    assert n_bytes > world.settings.kafka.max_batch_bytes
    await send_raw(world.settings, world.settings.topics.events, 0, raw)
    yield


@fires("DeadLetters")
async def every_second_record_is_nonsense(world: World) -> AsyncIterator[None]:
    world.nonsense = True
    yield
    world.nonsense = False


@fires("GatewaySlow")
async def the_gateway_waits_for_redis(world: World) -> AsyncIterator[None]:
    world.to_gateway.slow, world.to_gateway.delay_s = 1.0, 1.0
    yield
    world.to_gateway.calm()


@fires("GatewayErrors", "WorkerNotReady")
async def the_gateway_loses_redis(world: World) -> AsyncIterator[None]:
    world.to_gateway.point_at(free_port())
    yield
    world.to_gateway.point_at(world.redis_port)


@fires("QualityLow")
async def visitors_choose_what_is_popular_and_not_on_their_lists(world: World) -> AsyncIterator[None]:
    world.plays = world.popular
    yield
    world.plays = world.listed


@fires("ListsStale", may=("WorkerNotReady",))
async def events_wait_for_redis_for_some_seconds(world: World) -> AsyncIterator[None]:
    world.to_stream.point_at(free_port())
    await asyncio.sleep(STALE_S)  # the age is the condition
    world.to_stream.point_at(world.redis_port)
    yield


@fires("NoTrainer")
async def the_trainer_ends(world: World) -> AsyncIterator[None]:
    await world.stop("trainer")
    yield
    # the next one cannot train: the scene after this one needs that
    broken = {"options": {"ials": {"factors": 0}}, "every_events": 10, "min_events": 10}
    world.start("trainer", trainer=broken)


@fires("WorkerNotReady", "ServiceFails", "LagHigh", "LagGrows", "TrainingFails", may=("ListsDeferred", "NoTrainer"))
async def redis_is_away_and_trainings_fail(world: World) -> AsyncIterator[None]:
    world.to_stream.point_at(free_port())
    yield
    await world.stop("trainer")
    world.start("trainer")


@fires("ListsDeferred", may=("ListsStale", "NoLists", "NoTrainer"))
async def redis_is_back_and_slow(world: World) -> AsyncIterator[None]:
    world.to_stream.slow, world.to_stream.delay_s = 1.0, 1.0
    world.to_stream.point_at(world.redis_port)
    yield
    world.to_stream.calm()


@fires("WorkerDown")
async def a_stream_worker_is_killed(world: World) -> AsyncIterator[None]:
    world.children["stream"].kill()
    yield


@fires("ModelRefused", "ListsWait", "NoLists", may=("WorkerNotReady", "LagHigh", "ListsDeferred", "QualityLow"))
async def a_worker_starts_with_a_damaged_model_and_a_damaged_key_of_redis(world: World) -> AsyncIterator[None]:
    """It refuses the model before Prometheus has scraped it once, and cannot read the catalogue."""
    (model,) = (world.folder / "models/ials").glob("*/model.safetensors")
    model.write_bytes(model.read_bytes()[:-3])
    (key,) = world.redis("KEYS", "*:meta}:catalogue")
    world.redis("DEL", key)
    world.redis("HSET", key, "of", "another type")
    world.start("stream", scraped=False)
    await world.until(lambda: "a version is refused" in world.children["stream"].log.read_text(), "a refused model")
    world.scrape("stream")
    yield
    world.redis("DEL", key)


@fires("RecordsExpired")
async def a_worker_starts_and_records_are_gone(world: World) -> AsyncIterator[None]:
    """It counts them before Prometheus has scraped it once."""
    command = lambda port: [sys.executable, "-m", "tests.alerts.exporter", str(port)]  # noqa: E731
    child, port = await asyncio.to_thread(start_server, "exporter", command, world.folder / "exporter.log")
    world.scrape("stream", port)
    yield
    await world.forget("stream", [world.ports["stream"]])
    child.kill()


@fires("WorkerDown")
async def the_only_gateway_ends_and_its_address_is_forgotten(world: World) -> AsyncIterator[None]:
    await world.stop("gateway")
    yield
    (labels,) = (await world.prometheus.firing())["RecsysWorkerDown"]
    assert labels["job"] == "recsys-gateway" and "instance" not in labels
    world.start("gateway")


class Watch:
    """Plays scenes and looks at what fires; an alert that fires since an earlier scene may go on until it ends."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.fired, self._lingering = set[str](), frozenset[str]()
        self._named = frozenset[str]()
        """What the last scene named: what it did may take effect after it was repaired."""

    async def until(self, holds: Callable[[frozenset[str], frozenset[str]], bool], allowed: frozenset[str], what: str) -> None:
        """Look until the set of alerts that fire, and of those that are about to, is right."""
        prometheus, ends_s = self._world.prometheus, deadline()
        while True:
            firing, pending = await prometheus.firing(), frozenset(await prometheus.pending())
            strangers = firing.keys() - allowed - self._lingering
            assert not strangers, (what, {name: firing[name] for name in strangers})
            self._lingering &= firing.keys()
            if holds(frozenset(firing), pending):
                return
            assert time.monotonic() < ends_s, f"{what}: {sorted(firing)} fire; {self._world.last_lines()}"
            await asyncio.sleep(0.3)

    async def play(self, scene: Scene) -> None:
        """Play a scene until its alerts fire, then repair what it did."""
        name, began_s = scene.act.__name__, time.monotonic()
        await self.until(lambda firing, pending: not firing & scene.must and not pending, self._named, f"before {name}")
        self._lingering = frozenset(await self._world.prometheus.firing())
        async with asynccontextmanager(scene.act)(self._world):
            fired = set[str]()

            def all_fired(firing: frozenset[str], _: frozenset[str]) -> bool:
                fired.update(firing)  # one may end before the next begins
                return scene.must <= fired

            await self.until(all_fired, scene.must | scene.may, name)
            print(f"{name}, {time.monotonic() - began_s:.1f} s: {', '.join(sorted(scene.must))}")
        self.fired |= scene.must
        self._named = scene.must | scene.may
        self._lingering |= self._named

    async def all_end(self) -> None:
        """Wait until no alert fires, nor is about to."""
        await self.until(lambda firing, pending: not firing | pending, self._named, "after the last scene")


def test_each_alert_of_the_file_has_a_scene() -> None:
    assert frozenset[str]().union(*(scene.must for scene in SCENES)) == set(alerts())


def test_the_rules_of_the_test_are_those_of_the_file_but_for_times_and_bounds() -> None:
    shipped, short = RULES.read_text("utf-8"), shortened(BOUNDS | STANDS)
    assert re.findall(r"- alert: (\w+)", short) == alerts() and short != shipped
    number = re.compile(r"\b\d+(?:\.\d+)?[smhd]?\b")
    assert [number.sub("N", line) for line in short.splitlines()] == [number.sub("N", line) for line in shipped.splitlines()]


@pytest.mark.long
@pytest.mark.skipif(PROGRAM is None, reason="prometheus is neither on PATH nor in PROMETHEUS (Debian's package: prometheus)")
async def test_each_alert_fires_when_its_condition_happens_and_none_fires_before(stack: TestStack, tmp_path: Path) -> None:
    async with world_of(stack, tmp_path) as world:
        assert await world.prometheus.rules() == dict.fromkeys(alerts(), "")
        assert await world.steady(HEALTHY_S) == set()
        watch = Watch(world)
        for scene in SCENES:
            await watch.play(scene)
        assert watch.fired == set(alerts())
        await watch.all_end()
