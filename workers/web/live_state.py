"""Keeps a read-only copy of the state for requests: numbering, catalogue, event time. A request sees it no older than `gateway.fresh_ms`.

Nothing is written to Redis. While Redis does not answer, requests get 503 at once, and a try every `RETRY_S` finds out when it does again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from workers.errors import Transient, WorkerError, one_line
from workers.retry import Backoff
from workers.runtime.status import WorkerStatus
from workers.settings import Settings
from workers.state.layout import compare_layouts, layout_of
from workers.state.port import StateStore
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.model_sync import ModelFollower
from workers.stream.serving_state import ServingState
from workers.web.read_only_state import ReadOnlyState

log = logging.getLogger(__name__)

RETRY_S = 0.2
"""After a failure no request asks Redis again for so long."""
IDENTITY_S = 1.0
"""How often the copy is checked to be of the state that is served: a rebuild switches it, and a Redis that lost it has another one."""
REDIS, MODELS = "redis", "models"
"""Names of the reasons why the gateway is not ready while it has no state, or loads the models of one."""


@dataclass(slots=True)
class _Copy:
    """One copy of the state, and what identifies the state that it is of."""

    state: ServingState
    follower: CatalogueFollower
    models: ModelFollower | None
    identity: tuple[int, str, tuple[str, ...]]


class LiveState:
    """The copy that requests read."""

    def __init__(
        self,
        settings: Settings,
        open_store: Callable[[], StateStore],
        status: WorkerStatus,
        *,
        models: Callable[[ServingState], ModelFollower] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`models` makes what keeps the models of a state in step; without it lists are made without models."""
        self._settings, self._open_store, self._status, self._clock = settings, open_store, status, clock
        self._fresh_s, self._timeout_s = settings.gateway.fresh_ms / 1000, settings.gateway.timeout_s
        self._new_models = models
        self._copy: _Copy | None = None
        self._check: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[_Copy] | None = None
        self._checked_s = self._identified_s = float("-inf")
        self._failed_s, self._failure = float("-inf"), ""
        self._backoff = Backoff()
        self.n_opened = 0
        """Times that a state was opened."""
        self.n_changes = 0
        """Grows when items, or anything else that lists share, have changed."""
        status.block(REDIS, "the state is read from Redis")

    async def current(self) -> ServingState:
        """Return the state, at most `gateway.fresh_ms` old. Raises Transient when Redis does not say so in time."""
        now_s = self._clock()
        age_s = now_s - self._checked_s
        if self._copy is not None and age_s < self._fresh_s:
            if age_s > self._fresh_s / 2 and now_s - self._failed_s >= RETRY_S:
                self._begin_check()
            return self._copy.state
        if now_s - self._failed_s < RETRY_S:
            raise Transient(self._failure)
        check = self._begin_check()
        await asyncio.wait([check], timeout=self._timeout_s)
        if self._copy is None or not check.done() or self._failed_s >= now_s:
            raise Transient(self._failure if self._failed_s >= now_s else "the state is still being read from Redis")
        return self._copy.state

    def _begin_check(self) -> asyncio.Task[None]:
        """Return the check that is under way, or begin one: requests share it."""
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._look())
        return self._check

    async def _look(self) -> None:
        """Bring the copy up to date; a failure is noted, not raised."""
        began_s = self._clock()
        try:
            copy = self._copy
            if copy is None or not await self._is_of_this_state(copy, began_s):
                copy = await self._opened()
            async with asyncio.timeout(self._timeout_s), copy.state.turn():
                self.n_changes += await copy.follower.follow() > 0
            self._checked_s = began_s
            self._backoff.reset()
            self._status.clear(REDIS)
        except Exception as error:
            self._note_failure(error if isinstance(error, WorkerError) else Transient(f"Redis does not answer ({type(error).__name__})"))
            log.debug("where it happened", exc_info=error)

    def _note_failure(self, error: WorkerError) -> None:
        self._failed_s, self._failure = self._clock(), one_line(error)
        self._status.block(REDIS, f"the state cannot be read: {self._failure}")
        if self._backoff.is_news(self._failure):
            log.warning("requests get 503: %s", self._failure)

    async def _is_of_this_state(self, copy: _Copy, now_s: float) -> bool:
        """Return whether a copy is still of the state that is served. Asked once a second, and after each failure."""
        has_failed = self._failed_s > self._checked_s
        if not has_failed and now_s - self._identified_s < IDENTITY_S:
            return True
        async with asyncio.timeout(self._timeout_s):
            if has_failed:  # the server may have been restarted, which the store says until it is opened again
                async with copy.state.turn():
                    compare_layouts(json.dumps(asdict(await copy.state.store.open_read_only())).encode(), layout_of(self._settings))
            found = await _identity(copy.state.store)
        self._identified_s = now_s
        return found == copy.identity

    async def _opened(self) -> _Copy:
        """Read the state as it is; a large one takes longer than a request waits, so the reading goes on when a request gives up."""
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
        copy, before = await asyncio.shield(self._opening), self._copy
        self._opening = None
        self._copy, self._identified_s = copy, self._clock()
        self.n_opened += 1
        self.n_changes += 1
        if before is not None:
            log.info("another state is in Redis than before: it was read")
            await _close(before)
        return copy

    async def _open(self) -> _Copy:
        store = self._open_store()
        try:
            compare_layouts(json.dumps(asdict(await store.open_read_only())).encode(), layout_of(self._settings))
            state = ReadOnlyState(self._settings, store)
            identity = await _identity(store)
            await state.learn_new_items()
            await state.follow_event_time()
            follower = CatalogueFollower(state)
            await follower.follow()
            return _Copy(state, follower, None if self._new_models is None else self._new_models(state), identity)
        except BaseException:
            await store.close()
            raise

    async def run(self) -> None:
        """Look once a second, so that the state is read before the first request, and found again without one; and follow its models."""
        while True:
            if self._clock() - self._checked_s > IDENTITY_S:
                await asyncio.wait([self._begin_check()])
            await self.follow_models()
            await asyncio.sleep(IDENTITY_S if self._copy is not None and not self._status.has(REDIS) else RETRY_S)

    async def follow_models(self) -> None:
        """Load announced models and use those that are loaded. A model that cannot be loaded keeps the one before it."""
        copy = self._copy
        if copy is None or copy.models is None or self._status.has(REDIS):
            return
        try:
            async with copy.state.turn():
                await copy.models.follow()
        except WorkerError as error:
            log.debug("models are followed later: %s", one_line(error))
            return
        if missing := copy.models.missing():
            self._status.block(MODELS, f"models are loaded: {', '.join(missing)}")
        else:
            self._status.clear(MODELS)

    async def close(self) -> None:
        """Close the store."""
        for task in (self._check, self._opening):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._copy is not None:
            await _close(self._copy)


async def _close(copy: _Copy) -> None:
    async with copy.state.turn():
        if copy.models is not None:
            copy.models.close()
        await copy.state.close()


async def _identity(store: StateStore) -> tuple[int, str, tuple[str, ...]]:
    generation, state_id = await store.wanted_generation(), await store.state_id()
    return generation, state_id, tuple(one.run_id for one in await store.server_identity())
