"""S7: errors that Faust never asks its consumer for are taken, so that the consumer tries again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest import mock

from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError
from faust.transport.drivers import aiokafka as driver

from workers.runtime import faust_app
from workers.runtime.faust_app import _ConsumerThread, in_group, take_consumer_error
from workers.runtime.group_repair import rejoin_if_ended


class Coordinator:
    def __init__(self, *errors: Exception, generation: int = -1) -> None:
        self.errors, self.generation, self.n_rejoins = list(errors), generation, 0
        self._heartbeat_task: asyncio.Future[None] | None = None

    def request_rejoin(self) -> None:
        self.n_rejoins += 1

    def check_errors(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


def app_with(coordinator: Coordinator | None) -> Any:
    async def call_thread(step: Any) -> Any:
        return await step()

    thread = SimpleNamespace(_consumer=SimpleNamespace(_coordinator=coordinator), should_stop=False, call_thread=call_thread, denied=None)
    consumer = SimpleNamespace(_thread=thread)
    return SimpleNamespace(_consumer=consumer, consumer=consumer)


async def test_an_error_is_taken_once_and_the_consumer_is_free_again() -> None:
    error = GroupAuthorizationFailedError("recsys-stream-catalogue")
    app = app_with(Coordinator(error))
    assert await take_consumer_error(app) is error
    assert await take_consumer_error(app) is None


async def test_a_consumer_whose_heartbeat_was_denied_joins_its_group_again() -> None:
    """S7: aiokafka finds the ended task in every poll, and starts heartbeats only after a join."""
    coordinator = Coordinator(GroupAuthorizationFailedError("recsys-stream"))
    coordinator._heartbeat_task = asyncio.get_running_loop().create_future()
    assert not rejoin_if_ended(coordinator) and not rejoin_if_ended(None)
    coordinator._heartbeat_task.set_exception(coordinator.errors[0])
    await take_consumer_error(app_with(coordinator))
    assert coordinator.n_rejoins == 1
    coordinator._heartbeat_task = asyncio.get_running_loop().create_future()
    coordinator._heartbeat_task.cancel()
    assert not rejoin_if_ended(coordinator)


async def test_before_the_consumer_has_started_there_is_no_error_and_no_group() -> None:
    assert await take_consumer_error(SimpleNamespace()) is None  # type: ignore[arg-type]
    assert not in_group(SimpleNamespace())  # type: ignore[arg-type]
    assert not in_group(app_with(Coordinator())) and in_group(app_with(Coordinator(generation=0)))


async def test_a_denied_fetch_or_commit_gives_no_records_and_ends_no_worker() -> None:
    thread = object.__new__(_ConsumerThread)
    denied = TopicAuthorizationFailedError({"recsys.users"})
    with (
        mock.patch.object(driver.AIOKafkaConsumerThread, "getmany", side_effect=denied),
        mock.patch.object(driver.AIOKafkaConsumerThread, "crash") as crash,
        mock.patch.object(faust_app, "DENIED_S", 0.0),
    ):
        assert await thread.getmany(None, 1.0) == {} and thread.denied is denied
        await thread.crash(GroupAuthorizationFailedError("g"))
        crash.assert_not_called()
        await thread.crash(ValueError("of another kind"))
        crash.assert_called_once()
