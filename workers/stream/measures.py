"""Shows the state, the caches and the serving models of a stream worker as metrics, beside the counts of its batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import faust
from mode import Service
from prometheus_client import Gauge

from workers.runtime.collectors import ReadWhenAsked, Samples
from workers.runtime.faust_app import OrderlyService
from workers.runtime.rounds import Rounds
from workers.stream.service import EventsService

LOOK_S = 10.0
"""How often the state is measured: one INFO of Redis, by the owner of the first partition."""
POPULAR_LOOKS = 6
"""Looks between two choices of the most popular items: each reads the counts of all items."""


class Measures(OrderlyService):
    """Sets the gauges every LOOK_S; what is counted as batches go by is read when somebody asks."""

    abstract = False

    def __init__(self, app: faust.App, service: EventsService, **arguments: Any) -> None:
        super().__init__(**arguments)
        del app
        self._service, self._state, self._quality = service, service.pipeline.state, service.pipeline.lists.quality
        self._variant, self._looks = service.settings.lists.variant, 0
        r = service.metrics.registry
        self._items = Gauge("recsys_state_items", "Items that the state has a number for.", registry=r)
        self._users = Gauge("recsys_state_users_held", "Users whose rows this worker holds in memory.", registry=r)
        memory = "Bytes that the Redis servers use, and may use (0: no bound), by the owner of the first partition."
        self._memory = Gauge("recsys_state_redis_bytes", memory, ["of"], registry=r)
        models = "1, with the version of each kind of model that serves."
        self._models = Gauge("recsys_serving_model_info", models, ["kind", "version"], registry=r)
        self._add_counts(r)

    def _add_counts(self, r: Any) -> None:
        store, lookups = self._state.store, self._state.lookups
        calls, commands = "Round trips to Redis.", "Commands sent to Redis."
        ReadWhenAsked("recsys_redis_calls_total", calls, [], lambda: [([], store.traffic.calls)], r, counts=True)
        ReadWhenAsked("recsys_redis_commands_total", commands, [], lambda: [([], store.traffic.commands)], r, counts=True)

        def moved() -> Samples:
            return [(["sent"], store.traffic.sent_bytes), (["received"], store.traffic.received_bytes)]

        def looked() -> Iterator[tuple[Sequence[str], float]]:
            for cache, counts in lookups.items():
                yield [cache, "hit"], counts.hits
                yield [cache, "miss"], counts.misses

        ReadWhenAsked("recsys_redis_bytes_total", "Bytes to and from Redis.", ["direction"], moved, r, counts=True)
        ReadWhenAsked("recsys_cache_lookups_total", "Looks into a worker's caches.", ["cache", "outcome"], looked, r, counts=True)
        for what, (name, text) in enumerate(
            (
                ("recsys_live_events_total", "Interactions, weighing more than 0, of users whose newest list is remembered."),
                ("recsys_live_hits_total", "Those of an item that was on the first ten places of that list."),
                ("recsys_live_popular_hits_total", "Those of an item that was among the ten most popular."),
            )
        ):
            ReadWhenAsked(name, text, ["model", "variant"], lambda what=what: self._live(what), r, counts=True)  # type: ignore[misc]

    def _live(self, what: int) -> Samples:
        return [([model, self._variant], count) for model, count in self._quality.counted(what)]

    @Service.task
    async def _measure(self) -> None:
        rounds = Rounds("measuring", self._service.metrics, quiet=True, fatal_passes=True)
        await self._service.connected()
        while not self.should_stop:
            await self.attempt(rounds, self.look)
            await self.sleep(max(LOOK_S, rounds.wait_s))

    async def look(self) -> None:
        """Measure now. Raises Transient."""
        await self._service.ownership.show_waiting()
        state = self._state
        self._items.set(len(state.numbering.names))
        self._users.set(len(state.engine.users))
        self._models.clear()
        for kind, version in state.versions.items():
            self._models.labels(kind, version).set(1)
        if self._looks % POPULAR_LOOKS == 0:
            self._quality.note_popular(state.engine.popularity.all_time)
        self._looks += 1
        if not self._service.partitions.owns(0):
            self._memory.clear()
            return
        servers = await state.store.server_identity()
        self._memory.labels("used").set(sum(server.used_memory_bytes for server in servers))
        self._memory.labels("most").set(sum(server.maxmemory_bytes for server in servers))
