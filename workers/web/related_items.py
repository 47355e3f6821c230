"""Makes lists of items for product pages from the state as it is, and holds each for some seconds."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import orjson

from recsys.state.related import SIMILAR, TOGETHER
from workers.settings import Settings
from workers.stream.item_lists import ItemLists
from workers.stream.serving_state import ServingState
from workers.web.live_state import LiveState
from workers.web.problems import Problem
from workers.web.published import Body, Listable

HELD = 50_000
"""Lists that are held at most."""
HELD_S = 10.0
"""A list is made again for a request that comes later than this after it was made."""


class RelatedItems:
    """Answers with similar items, and with what is bought together."""

    def __init__(
        self,
        settings: Settings,
        state: LiveState,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._state, self._clock, self._wall_clock = settings, state, clock, wall_clock
        self._listable = Listable(state, wall_clock)
        self._lists: tuple[ServingState, ItemLists] | None = None
        self._held: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self._making: dict[tuple[str, str], asyncio.Task[bytes]] = {}

    async def similar(self, item_id: str) -> Body:
        """Return what is similar to an item. Raises Problem, Transient."""
        return await self._answer(SIMILAR, item_id)

    async def bought_together(self, item_id: str) -> Body:
        """Return what the same users chose. Raises Problem, Transient."""
        if not self._settings.related.bought_together:
            raise Problem(404, "what is bought together is not counted: set related.bought_together for all workers and the gateway")
        return await self._answer(TOGETHER, item_id)

    async def _answer(self, topic: str, item_id: str) -> Body:
        state = await self._state.current()
        if item_id not in state.numbering.numbers:
            raise Problem(404, "item_id: no event and no record of the items topic has named this item", field="item_id")
        place = topic, item_id
        held = self._held.get(place)
        if held is None or self._clock() - held[0] > HELD_S:
            if place not in self._making:
                self._making[place] = task = asyncio.create_task(self._made(state, topic, item_id))
                task.add_done_callback(lambda done: self._finished(place, done))
            content = await asyncio.shield(self._making[place])
        else:
            content = held[1]
        return Body.of(self._without_gone(content, state))

    def _finished(self, place: tuple[str, str], done: asyncio.Task[bytes]) -> None:
        self._making.pop(place, None)
        if not done.cancelled():
            done.exception()  # it was raised to whoever waits; if nobody does any more, it is no news

    async def _made(self, state: ServingState, topic: str, item_id: str) -> bytes:
        now_ms = int(self._wall_clock() * 1000)
        async with state.turn():
            if self._lists is None or self._lists[0] is not state:
                self._lists = state, ItemLists(self._settings, state)
                self._held.clear()
            number = state.numbering.numbers[item_id]
            await state.follow_event_time()
            listable = np.asarray(state.engine.catalogue.recommendable(now_ms // 1000))
            made = await self._lists[1].make(topic, [number], listable, now_ms)
        record = made[number].record if number in made else None
        content = record or orjson.dumps({"schema_version": 1, "item_id": item_id, "generated_ts_ms": now_ms, "items": []})
        self._held[topic, item_id] = self._clock(), content
        self._held.move_to_end((topic, item_id))
        if len(self._held) > HELD:
            self._held.popitem(last=False)
        return content

    def _without_gone(self, content: bytes, state: ServingState) -> bytes:
        """Return a list without what may not be listed any more."""
        made = orjson.loads(content)
        gone = self._listable.gone(state, [place["item_id"] for place in made["items"]])
        if not gone:
            return content
        kept = [place for place in made["items"] if place["item_id"] not in gone]
        return orjson.dumps({**made, "items": [{**place, "rank": rank} for rank, place in enumerate(kept, 1)]})
