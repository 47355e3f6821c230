"""Keeps the engine's serving models, its recipe and its ranker in step with the announcements in the state store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pydantic import ValidationError

from recsys.lists.recipe import Recipe
from schemas.announcements import ModelAnnouncement
from workers.errors import Fatal, Transient
from workers.models.model_files import NO_MODELS, Servable
from workers.runtime.metrics import StreamMetrics
from workers.runtime.rounds import Rounds
from workers.stream.serving_state import ServingState

log = logging.getLogger(__name__)

MODELS_WAIT_S = 60.0
"""Seconds that lists wait for an announced model; then they are made without it, until it can be loaded."""
ModelSource = Callable[[ModelAnnouncement], Servable]
"""Returns the model, recipe or ranker that serves after an announcement. Raises Fatal or Transient when it cannot be loaded."""
Confirm = Callable[[str], ModelAnnouncement | None]
"""Returns the version of a kind that serves according to the model store, as an announcement; None for none. Raises Fatal, Transient."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
"""Wait after the first failure to follow one announcement, and the longest one."""


class Unconfirmed(Transient):
    """The models topic says something that the model store contradicts."""


@dataclass(frozen=True, slots=True)
class _Found:
    """The version of a kind that serves, None for none. `model` is None if it is held already; `agrees`: the models topic says the same."""

    version: str | None
    model: Servable | None
    agrees: bool


@dataclass(frozen=True, slots=True)
class _Settled:
    """The announcement (empty: a tombstone) that was followed last, and the version that serves since. A `refused` one is not retried."""

    stored: bytes
    version: str | None
    refused: bool = False


class ModelFollower:
    """Loads announced models in a thread, and swaps them in between two batches.

    The model store confirms what the models topic says before anything changes: other programs may write to the topic.
    Where they differ the store counts, and both are read again later. A version that is refused is not tried again until its kind is
    announced again.
    """

    def __init__(
        self,
        state: ServingState,
        source: ModelSource,
        confirm: Confirm | None = None,
        *,
        first_wait_s: float = FIRST_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without `confirm` every announcement is believed. `first_wait_s` is the first wait after something could not be loaded."""
        self.metrics: StreamMetrics | None = None
        self._state = state
        self._source, self._confirm, self._first_wait_s, self._clock = source, confirm, first_wait_s, clock
        self._missing_since_s: dict[str, float] = {}
        """Announced kind without a model that serves or is refused ▸ since when."""
        self._loading: dict[str, tuple[bytes, asyncio.Task[_Found]]] = {}
        self._settled: dict[str, _Settled] = {}
        self._unconfirmed: dict[str, bytes] = {}
        """Kind ▸ the announcement that the model store contradicted last."""
        self._tries: dict[str, tuple[bytes, Rounds]] = {}

    async def follow(self) -> list[str]:
        """Start loading newly announced models, swap in loaded ones, drop retired kinds; return the swapped `kind/version`s.

        The caller holds a turn of the state.
        """
        announced = await self._state.store.serving()
        for kind, stored in announced.items():
            if not stored and self._confirm is None:
                self._retire(kind, stored)
            elif kind not in self._loading and not self._is_settled(kind, stored) and self._rounds(kind, stored).due:
                task = asyncio.create_task(asyncio.to_thread(self._find, kind, stored, self._held(kind)))
                self._loading[kind] = stored, task
        swapped: list[str] = []
        for kind, (stored, task) in list(self._loading.items()):
            if task.done():
                del self._loading[kind]
                is_dropped = self._confirm is None and announced.get(kind) == b""
                await self._rounds(kind, stored).attempt(partial(self._take, kind, stored, task, is_dropped, swapped))
        self._note_missing(announced)
        return swapped

    def missing(self) -> list[str]:
        """Return the announced kinds that lists wait for."""
        now_s = self._clock()
        return sorted(kind for kind, since_s in self._missing_since_s.items() if now_s - since_s < MODELS_WAIT_S)

    def _note_missing(self, announced: Mapping[str, bytes]) -> None:
        """Note which kinds are announced and neither serve, nor are refused, nor contradicted by the model store."""
        serving, now_s = self._state.versions, self._clock()
        missing = {
            kind
            for kind, stored in announced.items()
            if stored and kind not in serving and not self._is_settled(kind, stored) and self._unconfirmed.get(kind) != stored
        }
        self._missing_since_s = {kind: self._missing_since_s.get(kind, now_s) for kind in missing}

    def _held(self, kind: str) -> str | None:
        return self._state.versions.get(kind)

    def _is_settled(self, kind: str, stored: bytes) -> bool:
        settled = self._settled.get(kind)
        return settled is not None and settled.stored == stored and (settled.refused or settled.version == self._held(kind))

    def _rounds(self, kind: str, stored: bytes) -> Rounds:
        """Return the rounds of one announcement; a new announcement is tried at once."""
        if kind not in self._tries or self._tries[kind][0] != stored:
            self._tries[kind] = (
                stored,
                Rounds("loading_models", self.metrics, first_s=self._first_wait_s, longest_s=LONGEST_WAIT_S, clock=self._clock),
            )
        return self._tries[kind][1]

    def _find(self, kind: str, stored: bytes, held: str | None) -> _Found:
        """Find and load the version that serves, in a thread. Raises Transient, Fatal."""
        try:
            said = ModelAnnouncement.model_validate_json(stored) if stored else None
        except ValidationError:
            raise Fatal(f"{kind}: the announcement in Redis cannot be read; `recsys models promote` announces a version again") from None
        truth = said if self._confirm is None else self._confirm(kind)
        says, wanted = (None if announcement is None else announcement.serving for announcement in (said, truth))
        if wanted is None or truth is None:
            if says is not None:
                raise Unconfirmed(f"{kind}: {says.version} is announced, and the model store lets no version serve")
            return _Found(None if said is None else held, None, True)  # a refused first version changes nothing
        agrees = says is not None and (says.version, says.manifest_sha256) == (wanted.version, wanted.manifest_sha256)
        if wanted.version == held:
            return _Found(held, None, agrees)
        model = self._source(truth)
        if not isinstance(model, NO_MODELS):
            self._state.engine.prepare(model)  # an index of a million items takes seconds, and lists go out during that time
        return _Found(wanted.version, model, agrees)

    async def _take(self, kind: str, stored: bytes, task: asyncio.Task[_Found], is_dropped: bool, swapped: list[str]) -> None:
        """Serve the version that was found. Raises Transient where that has to be tried again."""
        try:
            found = await task
        except Unconfirmed:
            self._unconfirmed[kind] = stored
            self._count("unconfirmed")
            raise
        except Fatal as error:
            self._settled[kind] = _Settled(stored, None, refused=True)
            self._count("refused")
            log.error("model kind %s: a version is refused, what served before goes on serving: %s", kind, error)
            return
        if is_dropped:
            return
        if found.version is None:
            self._retire(kind, stored)
        elif found.model is not None:
            await self._state.serve(kind, found.version, found.model)
            swapped.append(f"{kind}/{found.version}")
            self._count("loaded")
            log.info("serving model %s/%s", kind, found.version)
            if not isinstance(found.model, NO_MODELS) and kind not in self._state.engine.config.source_weights:
                log.warning("model kind %s has no weight, so lists hold nothing of it: add it to lists.weights (0 if that is meant)", kind)
        if not found.agrees:
            self._count("unconfirmed")
            what = "says something else" if stored else "says that the kind is retired"
            raise Unconfirmed(f"{kind}: the model store lets {found.version} serve, and so it does; the models topic {what}")
        self._settled[kind] = _Settled(stored, found.version)

    def _retire(self, kind: str, stored: bytes) -> None:
        if self._state.retire(kind):
            log.warning("model kind %s is retired%s", kind, ": the default recipe serves" if kind == Recipe.kind else "")
        self._settled[kind] = _Settled(stored, None)

    def _count(self, outcome: Literal["loaded", "refused", "unconfirmed"]) -> None:
        if self.metrics is not None:
            self.metrics.count_model(outcome)

    def close(self) -> None:
        """Stop loading."""
        for _, task in self._loading.values():
            task.cancel()
        self._loading.clear()
