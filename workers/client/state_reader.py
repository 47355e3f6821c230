"""Read the recommender's state from another program: a user's history, embeddings and profile, and the items similar to one.

    from workers.client import StateReader

    with StateReader(redis_url="redis://redis:6379/0") as reader:
        user = reader.user("u1")
        similar = reader.neighbours("i1", 10)

The reader asks Redis for what it returns and changes nothing; `docs/state-layout.md` describes the stored rows. It runs an event loop in a
thread of its own, so it works inside and outside asyncio programs and from several threads.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from schemas import Poison, UserProfile, decode_announcement, decode_profile
from workers.errors import Fatal, Transient
from workers.settings import Settings, load_settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workers.state.port import Layout, StateStore
    from workers.state.reading import ItemNames, Similarity

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Interaction:
    """One item of a user's history, touched `touches` times (255: or more) from `first_event_ts_s` to `event_ts_s`.

    `weight` is what counts now, and `type` the event type that gave it: below 0 after a dislike, else the strongest since the last one.
    """

    item_id: str
    event_ts_s: int
    weight: float
    type: str
    touches: int
    first_event_ts_s: int


@dataclass(frozen=True, slots=True, eq=False)
class UserEmbedding:
    """A user vector, (D,) float32. `kind` and `version` name the model that made it, None if that one serves no more."""

    model_tag: int
    kind: str | None
    version: str | None
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class UserState:
    """One user's state. `history` has one entry per item, last touched first; `older_items` left the history, newest first."""

    user_id: str
    partition: int
    history: tuple[Interaction, ...] = ()
    older_items: tuple[str, ...] = ()
    embeddings: tuple[UserEmbedding, ...] = ()
    profile: UserProfile | None = None
    merged_into: str | None = None
    """The id that goes on, if this one was merged into another one."""
    merged_from: tuple[str, ...] = ()
    """Ids that were merged into this one; their histories are in `history`."""

    def embedding(self, kind: str) -> UserEmbedding | None:
        """Return the embedding of the serving model of a kind, None without one; the first of a kind that makes several, which are all in
        `embeddings`."""
        return next((found for found in self.embeddings if found.kind == kind), None)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An item that occurs together with another one: how similar it is, and its decayed count of co-occurrences."""

    item_id: str
    similarity: float
    cooccurrence: float


class StateReader:
    """Reads the state of the settings' Redis and namespace; safe to use from several threads and after a fork.

    `settings` default to environment and TOML; `redis_url` and `namespace` override theirs. After a rebuild the reader follows the workers
    to the new state by itself.

    Raises: Transient when Redis is away (call again), Fatal when the namespace holds no state or one of another layout, SettingsError when
    a setting of the connection is wrong.
    """

    def __init__(self, settings: Settings | None = None, *, redis_url: str | None = None, namespace: str | None = None) -> None:
        from pydantic import SecretStr

        settings = load_settings() if settings is None else settings
        changes: dict[str, Any] = {} if redis_url is None else {"url": SecretStr(redis_url)}
        changes |= {} if namespace is None else {"namespace": namespace}
        self.settings = settings.model_copy(update={"redis": settings.redis.model_copy(update=changes)})
        self._closed = False
        self._start_empty()
        try:
            self._run(self._layout())  # the address and the namespace are right, or it says so at once
        except BaseException:
            self.close()
            raise

    def _start_empty(self) -> None:
        """Belong to this process, without a connection: threads and connections stay with the parent of a fork."""
        self._pid = os.getpid()
        self._connecting = threading.Lock()
        self._loop: _LoopThread | None = None
        self._reading: StateReading | None = None

    async def _layout(self) -> Layout:
        assert self._reading is not None
        return await self._reading.follow()

    def user(self, user_id: str) -> UserState | None:
        """Return a user's state; None for one without events and without a profile."""
        return self._run(self._user(user_id))

    async def _user(self, user_id: str) -> UserState | None:
        assert self._reading is not None
        return await self._reading.user(user_id)

    def neighbours(self, item_id: str, n: int = 10, *, similarity: Similarity = "cosine") -> list[Neighbour]:
        """Return the `n` items most similar to an item by co-occurrence, most similar first; none for an item without a common event.

        Similarities are those of `recsys items similar`.
        """
        return self._run(self._neighbours(item_id, n, similarity))

    async def _neighbours(self, item_id: str, n: int, similarity: Similarity) -> list[Neighbour]:
        assert self._reading is not None
        return await self._reading.neighbours(item_id, n, similarity)

    def _run(self, step: Coroutine[Any, Any, T]) -> T:
        """Run a step on the loop of this process, and connect before the first one."""
        if self._closed:
            step.close()
            raise RuntimeError("this reader is closed: make another one")
        if self._pid != os.getpid():
            self._start_empty()
        with self._connecting:
            if self._loop is None:
                self._loop = _LoopThread()
            if self._reading is None:
                try:
                    self._reading = self._loop.run(_opened(self.settings))
                except BaseException:
                    step.close()
                    raise
        return self._loop.run(step)

    def close(self) -> None:
        """Disconnect. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._loop is not None and self._pid == os.getpid():
            if self._reading is not None:
                self._loop.run(self._reading.close())
            self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class StateReading:
    """The same reads on an opened or unopened store of any kind, for a caller that runs an event loop itself."""

    def __init__(self, store: StateStore, *, live_epochs: int, settings: Settings | None = None) -> None:
        """`settings` say how long the histories are of users into whom others were merged; default: environment and TOML."""
        from workers.state.reading import ItemNames

        self._store, self._live_epochs, self._settings = store, live_epochs, settings
        self._names: ItemNames = ItemNames(store)
        self._layout: Layout | None = None

    async def follow(self) -> Layout:
        """Turn to the active generation of the state, if it is another one or none was read yet; return its layout."""
        if self._layout is None or await self._store.wanted_generation() != self._store.generation:
            self._layout = await self._store.open_read_only()
        return self._layout

    async def user(self, user_id: str) -> UserState | None:
        """As `StateReader.user`."""
        from workers.kafka.partitioner import partition_for

        layout = await self._opened()
        partition = partition_for(user_id.encode(), layout.partitions)
        (own,) = await self._store.read_users(partition, [user_id])
        (stored,) = await self._store.read_profiles(partition, [user_id])
        merged_into, merged_from, packed = await self._merged(user_id, partition, own, layout.partitions)
        if packed is None and stored is None:
            return None
        known = UserState(
            user_id,
            partition,
            profile=None if stored is None else _profile(user_id, stored),
            merged_into=merged_into,
            merged_from=merged_from,
        )
        return known if packed is None else await self._unpacked(known, packed, own)

    async def _merged(
        self, user_id: str, partition: int, own: bytes | None, partitions: int
    ) -> tuple[str | None, tuple[str, ...], bytes | None]:
        """Return the id that goes on in a user's place, the ids that were merged into the user, and the row of the joined history."""
        from workers.kafka.partitioner import partition_for
        from workers.state.merged_users import NOT_MERGED, MergeReader, joined_rows, joining_table

        user = partition, user_id
        found = await MergeReader(self._store, lambda other: partition_for(other.encode(), partitions)).read([user])
        merged = found.get(user, NOT_MERGED)
        packed = own
        if merged.parts:
            self._settings = load_settings() if self._settings is None else self._settings
            packed = (await joined_rows(self._store, [(user, own)], found, joining_table(self._settings))).get(user, own)
        return None if merged.goes_on_as is None else merged.goes_on_as[1], tuple(part[1] for part in merged.parts), packed

    async def _unpacked(self, known: UserState, packed: bytes, own: bytes | None) -> UserState:
        from recsys.state.user_row import unpack_row
        from recsys.state.user_table import WEIGHT_UNITS
        from schemas.events import event_type_name
        from workers.state.reading import model_tags

        row = unpack_row(packed)
        items, older = row.items[::-1].tolist(), row.older[::-1].tolist()
        names = await self._names.up_to([*items, *older])
        entries = zip(*(column[::-1].tolist() for column in row.columns.arrays), strict=True)
        history = [
            Interaction(names[number], last_s, units / WEIGHT_UNITS, event_type_name(code), touches, first_s)
            for number, last_s, first_s, units, code, touches, _ in entries
            if number < len(names)  # else a failover lost the newest names, which workers put back
        ]
        stored = () if own is None else unpack_row(own).embeddings
        models = model_tags(await self._serving()) if stored else {}
        embeddings = []
        for found in stored:
            kind, version = models.get(found.tag, (None, None))
            embeddings.append(UserEmbedding(found.tag, kind, version, found.vector()))
        older_items = tuple(names[number] for number in older if number < len(names))
        return replace(known, history=tuple(history), older_items=older_items, embeddings=tuple(embeddings))

    async def _serving(self) -> dict[str, str]:
        """Return kind ▸ version of the models that serve."""
        found = {}
        for kind, stored in (await self._store.serving()).items():
            announcement = decode_announcement(stored, kind.encode()) if stored else None
            if announcement is not None and announcement.serving is not None:
                found[kind] = announcement.serving.version
        return found

    async def neighbours(self, item_id: str, n: int, similarity: Similarity = "cosine") -> list[Neighbour]:
        """As `StateReader.neighbours`."""
        from workers.state.reading import SIMILARITIES, all_time_popularity, best, neighbour_counts, similarities

        if similarity not in SIMILARITIES:
            raise ValueError(f"similarity: got {similarity!r}; give one of {', '.join(SIMILARITIES)}")
        layout = await self._opened()
        (number,) = await self._store.known_item_numbers([item_id])
        if number is None:
            return []
        names = await self._names.up_to([number])
        n_items = max(len(names), number + 1)
        counts = await neighbour_counts(
            self._store,
            number,
            n_items,
            item_groups=layout.item_groups,
            live_epochs=self._live_epochs,
        )
        scores = similarities(counts, await all_time_popularity(self._store, n_items, layout.item_groups), number, similarity)
        return [Neighbour(names[at], float(scores[at]), float(counts[at])) for at in best(scores, n)]

    async def _opened(self) -> Layout:
        """`follow`, once more after a restart of the server: a call before it fails, so that nobody goes on with a state that is gone."""
        try:
            return await self.follow()
        except Transient:
            self._layout = None
            return await self.follow()

    async def close(self) -> None:
        """Disconnect."""
        await self._store.close()


async def _opened(settings: Settings) -> StateReading:
    from workers.bootstrap import open_store

    return StateReading(open_store(settings), live_epochs=settings.state.live_epochs, settings=settings)


def _profile(user_id: str, stored: bytes) -> UserProfile | None:
    try:
        return decode_profile(stored, user_id.encode())
    except Poison as poison:
        raise Fatal(f"the stored profile of this user cannot be read ({poison.reason}): update this program") from None


class _LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="state-reader", daemon=True)
        self._thread.start()

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        """Run a step to its end, and wait for it in the calling thread."""
        return asyncio.run_coroutine_threadsafe(step, self._loop).result()

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
