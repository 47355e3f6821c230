"""Loads announced models from the model store, with their compiled loops."""

from __future__ import annotations

from collections.abc import Callable

from recsys.lists.learned.ranker import LearnedRanker
from schemas.announcements import ModelAction, ModelAnnouncement
from workers.errors import Transient
from workers.models.manifest import StoreError
from workers.models.model_files import NO_MODELS, Servable
from workers.models.store import open_model_store
from workers.settings import Settings
from workers.stream.warm_up import compile_models, compile_ranker


class StoredModels:
    """Loads announced models from the model store, and confirms announcements with it."""

    def __init__(self, settings: Settings) -> None:
        self._store = open_model_store(settings)
        self._compiled = set[Callable[[], float]]()

    def load(self, announcement: ModelAnnouncement) -> Servable:
        """Return what serves after an announcement, in any thread; its loops are compiled. Raises Fatal, Transient."""
        stored = self._store.load_announced(announcement)
        assert stored is not None, "the follower asks only for what serves"
        content = stored.content
        compiles = compile_ranker if isinstance(content, LearnedRanker) else None if isinstance(content, NO_MODELS) else compile_models
        if compiles is not None and compiles not in self._compiled:
            compiles()
            self._compiled.add(compiles)
        return stored.content

    def serving(self, kind: str) -> ModelAnnouncement | None:
        """Return the announcement of the version of a kind that serves; None for none. Raises Fatal, Transient."""
        try:
            champion = self._store.champion(kind)
        except StoreError as error:  # of a file that is restored one day: nothing changes until then
            raise Transient(str(error)) from None
        if champion is None:
            return None
        return self._store.announcement(kind, champion, ModelAction.PROMOTED, champion=None, reason="")
