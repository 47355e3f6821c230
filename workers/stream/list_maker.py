"""Makes lists as records: refresh the item state ▸ encode users ▸ recommend ▸ encode records.

Shapes: U users, D factors.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.state.duplicates import event_hash
from schemas.decoding import decode_profile
from schemas.errors import Poison
from workers.lists.encoding import ListHead, encode_lists
from workers.lists.policy_options import remembered_users
from workers.lists.row_encoding import with_rows
from workers.lists.row_specs import shown_size
from workers.stream.listed_items import ListedItems
from workers.stream.live_quality import LiveQuality
from workers.stream.profile_cache import ProfileCache
from workers.stream.serving_state import ServingState
from workers.stream.short_lists import ShortLists
from workers.stream.stopwatch import Stopwatch

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
T = TypeVar("T")

LISTED_TOGETHER = 512
"""Users whose lists one thread makes at once, at most."""
SHARED_FROM = 256
"""Users from which on threads share the work; fewer are done sooner by one."""

Preferred = Mapping[int, Sequence[str]]
"""Row ▸ categories that a user without a history prefers."""


class ListMaker:
    """Makes the lists of users whose rows the engine holds. The caller holds a turn of the state."""

    def __init__(self, state: ServingState) -> None:
        self._state = state
        settings = state.settings
        self._lists, self._n_threads = settings.lists, settings.stream.list_threads
        self._threads = ThreadPoolExecutor(self._n_threads, "lists") if self._n_threads > 1 else None
        self.short_lists = ShortLists(settings.lists.size)
        self.profiles = ProfileCache(state, settings.lists.profile_refresh_s)
        self.listed_items = ListedItems(shown_size(settings.lists), remembered_users(settings.lists))
        self.quality = LiveQuality(settings.metrics.live_users)
        self._listed_of = state.resets
        """`ServingState.resets` of the state whose item numbers `listed_items` holds."""

    async def records(
        self,
        slots: I64,
        heads: Sequence[ListHead],
        now_ms: int,
        *,
        vectors: dict[str, F32] | None = None,
        preferred: Preferred | None = None,
        watch: Stopwatch | None = None,
        is_of_users: bool = True,
    ) -> list[bytes]:
        """Return the lists of users held in `slots` as records, in their order. `vectors` spares encoding the users. Raises Transient."""
        watch, state = watch or Stopwatch(), self._state
        recent, _, units = state.engine.users.newest(slots, state.engine.config.recent_items)
        await state.item_cache.refresh(np.unique(recent[units > 0]).astype(np.int64))
        if len(state.numbering.names) < state.engine.n_items:
            await state.numbering.catch_up()
        if is_of_users:
            await self.profiles.refresh(slots, heads)
        watch.lap("refresh")
        engine, settings = state.engine, self._lists
        shared, seeds, ids = engine.shared(*self.moment(now_ms)), self.seeds(heads), state.item_ids.texts()
        encoded = await self.encode(slots, shared.now_s) if vectors is None else vectors
        versions, rules = state.versions, engine.rules
        names = () if rules is None else rules.names
        categories = engine.category_names
        user_ids = [head.user_id for head in heads] if rules is not None and rules.reads_user_ids else None

        previous = self._previous(heads) if is_of_users and settings.stability.margin else None

        def listed(rows: slice) -> list[bytes]:
            lists = engine.recommend(
                slots[rows],
                {kind: v[rows] for kind, v in encoded.items()},
                shared,
                None if seeds is None else seeds[rows],
                preferred,
                user_ids=None if user_ids is None else user_ids[rows],
                previous=None if previous is None else previous[rows],
            )
            if is_of_users:
                self.short_lists.note(heads[rows], lists)
                self.listed_items.note(heads[rows], lists.shown_items)
                self.quality.note(heads[rows], lists.items, versions)
            written = encode_lists(
                heads[rows], lists, ids, generated_ts_ms=now_ms, model_versions=versions, variant=settings.variant, rule_names=names
            )
            return written if lists.rows is None else with_rows(written, lists.rows, ids, categories)

        parts = [listed(slice(0, len(slots)))] if preferred else await self._side_by_side(listed, len(slots), LISTED_TOGETHER)
        watch.lap("lists")
        return [record for part in parts for record in part]

    def _previous(self, heads: Sequence[ListHead]) -> I64:
        """Return the items (U, K) of the lists that users have, −1 for none or for a list that is not known."""
        if self._listed_of != self._state.resets:  # items have other numbers now
            self._listed_of = self._state.resets
            self.listed_items.clear()
        return self.listed_items.previous(heads, self._lists.size)

    def moment(self, now_ms: int) -> tuple[int, int]:
        """Return the seconds that lists are made at: event time, so that a list can be made again, or the clock where no event has come;
        and the reader's time, by which items expire: the newest event may be days old."""
        now_s = self._state.item_cache.newest_s or now_ms // 1000
        return now_s, max(now_s, now_ms // 1000)

    def forget(self, heads: Sequence[ListHead]) -> None:
        """Forget the lists of users whose lists are removed."""
        users = [(head.partition, head.user_id) for head in heads]
        self.short_lists.forget(users)
        self.listed_items.forget_users(users)

    async def encode(self, slots: I64, now_s: int | None = None) -> dict[str, F32]:
        """Return user vectors by model kind for lists at the second `now_s`; None: at their newest interactions, so that a replay packs
        the same rows."""
        engine = self._state.engine
        parts = await self._side_by_side(lambda rows: engine.encode(slots[rows], now_s), len(slots), len(slots))
        return {kind: np.concatenate([part[kind] for part in parts]) for kind in parts[0]} if len(parts) > 1 else parts[0]

    async def _side_by_side(self, step: Callable[[slice], T], n_users: int, at_most: int) -> list[T]:
        """Return the results of `step` for all users, `at_most` at once, shared between the threads if there are many users.

        `step` must change nothing in the engine. Most of its time needs no interpreter, so the event loop goes on.
        """
        if self._threads is None or n_users < SHARED_FROM:
            return [await _in_turn(step, slice(at, min(at + at_most, n_users))) for at in range(0, max(n_users, 1), max(at_most, 1))]
        loop = asyncio.get_running_loop()
        size = min(at_most, -(-n_users // self._n_threads))
        parts = [slice(start, min(start + size, n_users)) for start in range(0, n_users, size)]
        return await asyncio.gather(*(loop.run_in_executor(self._threads, step, rows) for rows in parts))

    def seeds(self, heads: Sequence[ListHead]) -> I64 | None:
        """Return a seed for each list's exploration, from the settings' seed, the user and the offset, so that a list can be made again."""
        if not self._lists.exploration_slots:
            return None
        return np.array([event_hash(head.user_id, f"{self._lists.seed}/{head.source_offset}") >> 1 for head in heads], np.int64)

    async def first_lists(
        self, heads: Sequence[ListHead], preferred: Preferred, now_ms: int, *, is_of_users: bool = True
    ) -> list[bytes]:
        """Return the lists of users who have no history, and keep nothing of them but what is on their lists. Raises Transient.

        `is_of_users` off makes lists that belong to no user.
        """
        users = self._state.engine.users
        keys = [f"new:{head.partition}:{head.user_id}" for head in heads]
        users.load(dict.fromkeys(keys))
        slots = np.array([users.slot(key) for key in keys], np.int64)
        try:
            return await self.records(slots, heads, now_ms, preferred=preferred, is_of_users=is_of_users)
        finally:
            users.forget(keys)

    async def stored_preferences(self, partition: int, user_ids: Sequence[str], slots: I64) -> Preferred:
        """Return the categories that users without a history named in their profiles, by row, as their first lists used them."""
        rows = np.flatnonzero(self._state.engine.users.lengths[slots] == 0).tolist()
        found = await self._state.store.read_profiles(partition, [user_ids[row] for row in rows]) if rows else []
        preferred: dict[int, Sequence[str]] = {}
        for row, value in zip(rows, found, strict=True):
            with contextlib.suppress(Poison):  # a profile that something else wrote into Redis leaves the list without preferences
                profile = None if value is None else decode_profile(value, user_ids[row].encode())
                if profile is not None and profile.preferred_categories:
                    preferred[row] = profile.preferred_categories
        return preferred


async def _in_turn(step: Callable[[slice], T], rows: slice) -> T:
    """Run a step and let other tasks run, so that an answer that has come is noticed."""
    done = step(rows)
    await asyncio.sleep(0)
    return done
