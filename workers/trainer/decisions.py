"""Announcements of the decisions of a round."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from schemas import ModelAction, ModelAnnouncement
from workers.errors import Transient, WorkerError
from workers.models.store import ModelStore
from workers.trainer.settling import KindResult

log = logging.getLogger(__name__)


def announcements_of(store: ModelStore, results: Iterable[KindResult]) -> list[ModelAnnouncement]:
    """Return the announcements of promotions and refusals. Raises Transient.

    A decision that has been overtaken is left out: another version serves by now, or this one was removed.
    """
    made = [_announcement(store, result) for result in results if result.version is not None and result.action in ("promoted", "refused")]
    return [announcement for announcement in made if announcement is not None]


def _announcement(store: ModelStore, result: KindResult) -> ModelAnnouncement | None:
    """Return the announcement of one decision; None if it has been overtaken."""
    assert result.version is not None
    try:
        champion = store.champion(result.kind)
        if result.action == "refused":
            return store.announcement(result.kind, result.version, ModelAction.REFUSED, champion=champion, reason=result.reason)
        if champion != result.version:
            return None
        return store.announcement(result.kind, result.version, ModelAction.PROMOTED, champion=result.champion, reason=result.reason)
    except WorkerError as error:
        if isinstance(error, Transient):
            raise
        log.error("%s cannot be announced: %s", result.version, error)
        return None
