"""The engine of a state as it is, for commands that make lists beside the workers. Reads Redis and the model store; changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from recsys.catalogue.item_vectors import ItemVectors
from recsys.lists.learned.ranker import LearnedRanker
from recsys.lists.recipe import Recipe
from schemas.announcements import ModelAnnouncement
from schemas.decoding import decode_profile
from schemas.errors import Poison
from workers.errors import Fatal, WorkerError
from workers.kafka.partitioner import partition_for
from workers.lists.encoding import ListHead
from workers.models.store import open_model_store
from workers.operations.user_sample import read_users
from workers.settings import Settings
from workers.state.layout import compare_layouts, layout_of
from workers.state.merged_users import MergeReader, joined_rows, joining_table
from workers.state.port import StateStore
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.profile_cache import ProfileCache
from workers.stream.serving_state import ServingState

I64 = NDArray[np.int64]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LoadedUsers:
    """Users whose lists are made: ids, slots in the engine, preferred categories by row, and the partitions of their state."""

    ids: list[str]
    slots: I64
    preferred: Mapping[int, Sequence[str]]
    partitions: list[int]


async def open_state(settings: Settings, store: StateStore, say: Say) -> ServingState:
    """Return the state that a store holds, with its items, catalogue, models and recipe in the engine; `say` gets a line for each model
    that cannot be loaded. Raises: Fatal without state or items, Transient."""
    state = ServingState(settings, store)
    compare_layouts(json.dumps(asdict(await store.open_read_only())).encode(), layout_of(settings))
    await state.learn_new_items()
    if not state.engine.n_items:
        raise Fatal("the state has no items yet: publish items or events while a stream worker runs")
    await state.follow_event_time()
    await CatalogueFollower(state).follow()
    await _serve_models(state, say)
    return state


async def _serve_models(state: ServingState, say: Say) -> None:
    """Use the announced models and recipe. One that cannot be loaded is left out, with a line that says so."""
    announced = {kind: stored for kind, stored in (await state.store.serving()).items() if stored}
    models = open_model_store(state.settings) if announced else None
    for kind, stored in announced.items():
        assert models is not None
        try:
            found = models.load_announced(ModelAnnouncement.model_validate_json(stored))
        except (WorkerError, ValidationError) as error:
            say(f"model kind {kind} is left out of these lists, it cannot be loaded: {error}")
            continue
        if found is None:
            continue
        if isinstance(found.content, Recipe):
            state.engine.use_recipe(found.content)
        elif isinstance(found.content, LearnedRanker):
            state.engine.use_ranker(found.content)
        elif isinstance(found.content, ItemVectors):
            for numbers, vectors in found.content.changes(state.numbering.numbers):
                state.engine.supply_texts(numbers, vectors)
        else:  # its items without a number get none here: nothing is written
            state.engine.serve(kind, found.manifest.version, found.content, state.numbering.numbers)


async def load_users(state: ServingState, n_users: int, user_id: str | None, seed: int) -> LoadedUsers:
    """Load users and what they prefer. Raises Fatal for a user of whom nothing is known."""
    store, partitions = state.store, state.settings.topics.partitions
    if user_id is None:
        sample = await read_users(store, range(partitions), n_users, seed)
        rows = {(partition, one): row for partition, found in sample.rows.items() for one, row in found.items()}
        if not rows:
            raise Fatal("the state has no users yet: publish events while a stream worker runs")
    else:
        partition = partition_for(user_id.encode(), partitions)
        user = partition, user_id
        own = (await store.read_users(partition, [user_id]))[0]
        merges = await MergeReader(store, lambda other: partition_for(other.encode(), partitions)).read([user])
        rows = {user: (await joined_rows(store, [(user, own)], merges, joining_table(state.settings))).get(user, own)}
    engine = state.engine
    shown = None if engine.users.shown is None else [(await store.read_shown_at(p, [one]))[1][0] for p, one in rows]
    engine.users.load({f"{partition}:{one}": row for (partition, one), row in rows.items()}, shown)
    slots = np.array([engine.users.slot(f"{partition}:{one}") for partition, one in rows], np.int64)
    await ProfileCache(state, 0).refresh(slots, [ListHead(one, partition, 0, None) for partition, one in rows])
    preferred: dict[int, Sequence[str]] = {}
    for row in np.flatnonzero(engine.users.lengths[slots] == 0).tolist():
        partition, one = list(rows)[row]
        stored = (await store.read_profiles(partition, [one]))[0]
        if stored is None and user_id is not None and rows[partition, one] is None:
            raise Fatal(f"no state of this user in partition {partition}: has an event with this user_id as its Kafka key been published?")
        try:
            profile = None if stored is None else decode_profile(stored, one.encode())
        except Poison:
            profile = None
        if profile is not None and profile.preferred_categories:
            preferred[row] = profile.preferred_categories
    return LoadedUsers([one for _, one in rows], slots, preferred, [partition for partition, _ in rows])
