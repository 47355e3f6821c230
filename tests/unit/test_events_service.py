"""The events service ends in good order whenever it is asked to."""

from __future__ import annotations

from typing import Any

import pytest

from workers.errors import Transient
from workers.events_service import EventsService
from workers.pipeline import Pipeline
from workers.settings import load_settings
from workers.store.memory import MemoryStore


class ClosedStore(MemoryStore):
    """A store whose connections are gone."""

    async def open(self, *_: Any) -> None:
        raise Transient("Redis is not reachable")


def service() -> EventsService:
    nothing: Any = None
    settings = load_settings()
    return EventsService(settings, Pipeline(settings, ClosedStore()), nothing, nothing, nothing)


async def test_a_worker_that_is_asked_to_end_while_it_waits_for_redis_ends_without_an_error() -> None:
    waiting = service()
    waiting._stopped.set()
    await waiting.on_start()
    assert waiting._consumer is None


async def test_what_can_never_go_well_is_raised_while_nobody_asks_it_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = service()

    async def gives_up(*_: Any) -> None:
        raise Transient("for good")

    monkeypatch.setattr(waiting, "_patiently", gives_up)
    with pytest.raises(Transient, match="for good"):
        await waiting.on_start()
