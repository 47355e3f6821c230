"""Makes lists on request, by the engine and the models that workers make lists by. Nothing is written.

    collect while the engine is busy ▸ read users ▸ one turn: co-occurrence rows ▸ encode ▸ recommend a group at a time ▸ records

Requests that come while a batch is made wait for the next one, so lists are made in batches as large as the load, and a request that comes
alone waits for nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from recsys.catalogue.labels import CATEGORY
from recsys.lists.context import ListContext, Situation
from recsys.state.event_weights import event_weights
from recsys.state.interactions import Interactions
from recsys.state.user_table import quantise_weights
from schemas.limits import MAX_LIST_ITEMS
from workers.errors import Transient
from workers.kafka.partitioner import partition_for
from workers.lists.encoding import ListHead, encode_lists
from workers.settings import Settings
from workers.state.event_weights import weight_table
from workers.stream.profile_cache import ProfileCache
from workers.stream.serving_state import ServingState
from workers.web.gateway_metrics import GatewayMetrics
from workers.web.list_request import SessionItem, Wish, without
from workers.web.live_state import LiveState
from workers.web.problems import Problem
from workers.web.published import Body
from workers.web.user_rows import UserRows, read_user_rows

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

AT_ONCE = 128
"""Requests of one batch."""
MOST_WAITING = 2_000
CONTEXT_S = 0.5
"""How old what lists share may be: trends, and what rules say of items. A change of catalogue, models or rules ends it at once."""
EVENT_TIME_S = 0.5


@dataclass(frozen=True, slots=True)
class ListRequest:
    """One list that is wanted: of a user, or of a session, which has no user id."""

    user_id: str | None
    limit: int
    category: str | None = None
    excluded: frozenset[str] = frozenset()
    with_rules: bool = True
    session: Sequence[SessionItem] = ()
    preferred: Sequence[str] = ()
    context: Situation = field(default_factory=dict)


@dataclass(slots=True)
class _Asked:
    """A request and its answer to be."""

    request: ListRequest
    answer: asyncio.Future[bytes] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True)
class _Shared:
    """A context of lists, and what it was made from."""

    context: ListContext
    key: tuple[object, ...]
    made_s: float


class ListsOnRequest:
    """Makes the lists of requests, batch after batch."""

    def __init__(
        self,
        settings: Settings,
        live: LiveState,
        metrics: GatewayMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._live, self._metrics, self._clock, self._wall_clock = settings, live, metrics, clock, wall_clock
        self._weights = weight_table(settings)
        self._waiting: list[_Asked] = []
        self._making: asyncio.Task[None] | None = None
        self._shared: dict[int, _Shared] = {}
        """By size of the list."""
        self._event_time_s = float("-inf")

    async def make(self, request: ListRequest) -> Body:
        """Return a list. Raises Problem, Transient."""
        if len(self._waiting) >= MOST_WAITING:
            raise Problem(503, "more lists are asked for than can be made: wait", retry_after_s=1.0)
        asked = _Asked(request)
        self._waiting.append(asked)
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._make_waiting())
        try:
            async with asyncio.timeout(self._settings.gateway.timeout_s):
                return Body.of(await asked.answer)
        except TimeoutError:
            raise Transient("lists take too long to be made") from None

    async def _make_waiting(self) -> None:
        while self._waiting:
            batch = [asked for asked in self._waiting[:AT_ONCE] if not asked.answer.done()]
            del self._waiting[:AT_ONCE]
            if not batch:
                continue
            try:
                state = await self._live.current()
                await self._answer(state, batch)
                self._metrics.made_batches.observe(len(batch))
            except Exception as error:  # said to every client that waits; the next batch may do better
                for asked in batch:
                    if not asked.answer.done():
                        asked.answer.set_exception(error)

    async def _answer(self, state: ServingState, batch: Sequence[_Asked]) -> None:
        partitions = self._settings.topics.partitions
        ids = [one.request.user_id for one in batch]
        owners = [None if user_id is None else (partition_for(user_id.encode(), partitions), user_id) for user_id in ids]
        rows = await read_user_rows(self._settings, state, owners)
        async with state.turn():
            keys = [f"request:{number}" for number in range(len(batch))]
            engine = state.engine
            engine.users.load(dict(zip(keys, rows.rows, strict=True)), rows.shown if engine.users.shown is not None else None)
            try:
                slots = np.array([engine.users.slot(key) for key in keys], np.int64)
                await self._make(state, batch, slots, rows)
            finally:
                engine.users.forget(keys)

    async def _make(self, state: ServingState, batch: Sequence[_Asked], slots: I64, rows: UserRows) -> None:
        """Answer the requests of users in `slots` (U,)."""
        engine, now_ms = state.engine, int(self._wall_clock() * 1000)
        await self._follow(state)
        if engine.users.highest_item(slots.tolist()) >= engine.n_items:
            await state.learn_new_items()
        if not engine.n_items:
            raise Problem(503, "the state has no item yet: publish items, and see that a stream worker runs", retry_after_s=1.0)
        for slot, asked in zip(slots.tolist(), batch, strict=True):
            if asked.request.session:
                self._load_session(state, slot, asked.request.session, now_ms // 1000)
        heads = rows.heads
        if engine.users.profiles is not None and (known := [at for at, one in enumerate(batch) if one.request.user_id is not None]):
            await ProfileCache(state, 0).refresh(slots[known], [heads[at] for at in known])
        recent, _, units = engine.users.newest(slots, engine.config.recent_items)
        await state.item_cache.refresh(np.unique(recent[units > 0]).astype(np.int64))
        preferred = {at: named for at, named in enumerate(_preferred(batch, rows)) if named and not engine.users.lengths[slots[at]]}
        groups: dict[Wish, list[int]] = {}
        for at, asked in enumerate(batch):
            groups.setdefault(self._wish(asked.request), []).append(at)
        situations = [asked.request.context for asked in batch]
        made = self._lists(state, groups, slots, heads, preferred, situations, now_ms)
        for at, asked in enumerate(batch):
            if not asked.answer.done():
                record = made[at]
                if isinstance(record, Problem):
                    asked.answer.set_exception(record)
                else:
                    asked.answer.set_result(_finished(record, asked.request, is_known=rows.is_known[at] or bool(asked.request.session)))

    def _lists(
        self,
        state: ServingState,
        groups: dict[Wish, list[int]],
        slots: I64,
        heads: Sequence[ListHead],
        preferred: dict[int, Sequence[str]],
        situations: Sequence[Situation],
        now_ms: int,
    ) -> list[bytes | Problem]:
        """Return the record of each user in `slots` (U,). In this thread: one beside it would wait up to 5 ms for the interpreter after
        each of the compiled loops, of which a list has dozens."""
        engine, found = state.engine, list[bytes | Problem]([b""] * len(slots))
        vectors = engine.encode(slots, self._context(state, self._settings.lists.size, now_ms).now_s)
        names = () if engine.rules is None else engine.rules.names
        reads_ids = engine.rules is not None and engine.rules.reads_user_ids
        for wish, members in groups.items():
            inside = None if wish.category is None else _items_of(state, wish.category)
            if inside is not None and not inside.any():
                for at in members:
                    found[at] = Problem(404, "category: no item is in this category", field="category")
                continue
            rows = np.array(members, np.int64)
            lists = engine.recommend(
                slots[rows],
                {kind: made[rows] for kind, made in vectors.items()},
                self._context(state, wish.size, now_ms),
                None,
                {place: preferred[at] for place, at in enumerate(members) if at in preferred},
                user_ids=[heads[at].user_id for at in members] if reads_ids else None,
                with_rules=wish.with_rules,
                within=inside,
                situations=[situations[at] for at in members],
            )
            records = encode_lists(
                [heads[at] for at in members],
                lists,
                state.item_ids.texts(),
                generated_ts_ms=now_ms,
                model_versions=state.versions,
                variant=self._settings.lists.variant,
                rule_names=names,
            )
            for at, record in zip(members, records, strict=True):
                found[at] = record
        return found

    def _context(self, state: ServingState, size: int, now_ms: int) -> ListContext:
        """Return what all lists of a size share now; the one before while nothing that it depends on has changed."""
        engine, now_s = state.engine, self._clock()
        key = (id(engine), engine.n_items, self._live.n_changes, tuple(sorted(state.versions.items())), id(engine.rules))
        held = self._shared.get(size)
        if held is None or held.key != key or now_s - held.made_s > CONTEXT_S:
            event_s = state.item_cache.newest_s or now_ms // 1000
            context = engine.shared(event_s, max(event_s, now_ms // 1000))
            if size != context.options.size:  # with nothing of what was made for the usual size: rules keep it
                context = replace(context, options=replace(context.options, size=size, exploration_slots=0), _made={})
            held = self._shared[size] = _Shared(context, key, now_s)
        return held.context

    async def _follow(self, state: ServingState) -> None:
        now_s = self._clock()
        if now_s - self._event_time_s > EVENT_TIME_S:
            await state.follow_event_time()
            self._event_time_s = now_s

    def _wish(self, request: ListRequest) -> Wish:
        """Return the group that a request belongs to. Sizes are few, so that groups are large: what is too much is cut."""
        wanted = min(request.limit + len(request.excluded), MAX_LIST_ITEMS)
        usual = self._settings.lists.size
        return Wish(usual if wanted <= usual else MAX_LIST_ITEMS, request.category, request.with_rules)

    def _load_session(self, state: ServingState, slot: int, session: Sequence[SessionItem], now_s: int) -> None:
        """Give an empty slot the history of a session, by the rules by which workers derive histories."""
        engine, numbers = state.engine, state.numbering.numbers
        known = [(numbers[one.item_id], one) for one in session if numbers.get(one.item_id, engine.n_items) < engine.n_items]
        types = np.array([one.type.code for _, one in known], np.int8)
        values = np.array([np.nan if one.value is None else one.value for _, one in known], np.float64)
        units = quantise_weights(event_weights(types, values, self._weights))
        event_s = state.item_cache.newest_s or now_s
        given = [one.event_ts_ms // 1000 if one.event_ts_ms is not None else event_s - len(known) + at for at, (_, one) in enumerate(known)]
        order = [at for at in np.argsort(np.array(given, np.int64), kind="stable").tolist() if units[at] != 0]
        if not order:
            return
        n = len(order)
        batch = Interactions(
            np.array([slot], np.int64),
            np.array([n], np.int64),
            np.array([known[at][0] for at in order], np.uint32),
            np.array([min(given[at], event_s) for at in order], np.uint32),
            units[order],
            types[order],
            np.zeros(n, np.int32),
            np.arange(n, dtype=np.int64),
        )
        touches = engine.derive(batch).touches
        engine.users.replace(batch.slots, batch.counts, touches.after, touches.left)


def _preferred(batch: Sequence[_Asked], rows: UserRows) -> list[Sequence[str]]:
    """Return the categories that users named: in their profiles, or with the request."""
    return [asked.request.preferred or rows.preferred[at] for at, asked in enumerate(batch)]


def _items_of(state: ServingState, category: str) -> Bools:
    """Return which items are in a category, (N,)."""
    engine = state.engine
    labels, inside = engine.catalogue.labels[CATEGORY], np.zeros(engine.n_items, np.bool_)
    number = labels.number_of(category)
    if number >= 0:
        inside[labels.items_with(number, engine.n_items)] = True
    return inside


def _finished(record: bytes, request: ListRequest, *, is_known: bool) -> bytes:
    """Return the answer behind a record: cut, and without what is excluded."""
    opening = b'{"is_default":%b,"on_request":true,' % (b"false" if is_known else b"true")
    made: dict[str, Any] = orjson.loads(record)
    if not request.excluded and len(made["items"]) <= request.limit:
        return opening + record[1:]
    return opening + orjson.dumps(made | {"items": without(made["items"], request.excluded, request.limit)})[1:]
