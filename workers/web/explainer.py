"""Explains lists over HTTP, from the state that the gateway holds."""

from __future__ import annotations

import time
from collections.abc import Callable

import orjson

from workers.kafka.partitioner import partition_for
from workers.operations.explain import explain_of
from workers.reason_templates import templates_of
from workers.settings import Settings
from workers.web.live_state import LiveState
from workers.web.problems import Problem
from workers.web.published import Body


class Explainer:
    """Answers why a user's list is as a worker would publish it now, and why an item is on it or not."""

    def __init__(self, settings: Settings, live: LiveState, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._settings, self._live, self._wall_clock = settings, live, wall_clock

    async def explain(self, user_id: str, item_id: str | None, language: str) -> Body:
        """Return the explanation. Raises Problem, Transient."""
        try:
            templates_of(language, self._settings.lists.reason_templates)
        except ValueError as error:
            raise Problem(422, f"language: {error}", field="language") from None
        state = await self._live.current()
        partition = partition_for(user_id.encode(), self._settings.topics.partitions)
        (row,), (profile,) = await state.store.read_users(partition, [user_id]), await state.store.read_profiles(partition, [user_id])
        if row is None and profile is None:
            raise Problem(404, "user_id: nothing is known of this user: publish an event of theirs", field="user_id")
        async with state.turn():
            found = await explain_of(state, user_id, item_id, language=language, now_s=self._wall_clock())
        return Body.of(orjson.dumps(found.figures() | {"titles": dict(found.titles)}))
