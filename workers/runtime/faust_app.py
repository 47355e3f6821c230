"""The Faust application of stream worker and trainer, and services whose failure stops the worker part after part."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, ClassVar, cast

import faust
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError
from faust.transport.drivers import aiokafka as driver
from mode import Service, Worker

from workers.errors import Fatal
from workers.runtime.group_repair import rejoin_if_ended
from workers.runtime.rounds import Rounds, Step, patiently
from workers.settings import READ_COMMITTED

log = logging.getLogger(__name__)

DENIALS = (GroupAuthorizationFailedError, TopicAuthorizationFailedError)
DENIED_S = 1.0
"""Seconds that the consumer waits after a right was denied."""
ANSWER_S = 5.0
"""Seconds that the consumer's thread may take to answer."""


class OrderlyService(Service):
    """After its failure the worker stops as it does after a signal, part after part, and raises the failure at its end.

    Mode would mark all services as crashed at once. The thread of Faust's consumer ends by itself then, and a last commit that is asked of
    it gets an error, or no answer.
    """

    abstract = True

    async def attempt(self, rounds: Rounds, step: Step, *, place: Callable[[], str] | None = None) -> bool:
        """Run one round of this service and return whether it succeeded. Fatal ends the worker with one line, and is raised."""
        try:
            return await rounds.attempt(step, place=place)
        except Fatal as error:
            log.critical("%s", error)
            await self.crash(error)
            raise

    async def crash(self, reason: BaseException) -> None:
        root = self.beacon.root
        worker = None if root is None else root.data
        if not isinstance(worker, Worker):
            await super().crash(reason)
            return
        if not worker.crashed:
            self.log.error("Crashed reason=%r", reason, exc_info=reason)
        for service in (self, worker):
            if not service._crashed.is_set():
                service.crash_reason = reason
                service._crashed.set()


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    """Reads committed records only, for which Faust has no setting. Waits for a broker that is away and for a right that was taken away:
    Faust's own ends the worker."""

    denied: Exception | None = None
    """The newest error about a right, for `take_consumer_error`."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = READ_COMMITTED  # handed to its fetcher when it starts
        return consumer

    async def on_start(self) -> None:
        await patiently(self._connect, gives_up=lambda error: self.should_stop)

    async def getmany(self, active_partitions: Any, timeout: float) -> Any:
        try:
            return await super().getmany(active_partitions, timeout)
        except DENIALS as error:
            self.denied = error
            await asyncio.sleep(DENIED_S)
            return {}

    async def crash(self, reason: BaseException) -> None:
        if isinstance(reason, DENIALS):  # of a commit: what is not committed is read again
            self.denied = reason
            return
        await super().crash(reason)

    async def _connect(self) -> None:
        self._consumer = self._create_consumer(loop=self.thread_loop)
        self.time_started = time.monotonic()
        await _started(self._consumer)


class _Producer(driver.Producer):
    """Waits for a broker that is away: Faust's own ends the worker."""

    async def on_start(self) -> None:
        await patiently(self._connect, gives_up=lambda error: self.should_stop)

    async def _connect(self) -> None:
        self._producer = self._new_producer()
        await _started(self._producer)


async def _started(client: Any) -> None:
    """Start a client of aiokafka; one that does not start leaves no connection open."""
    try:
        await client.start()
    except BaseException:
        await client.stop()
        raise


class _Consumer(driver.Consumer):
    """Commits before it stops, if its thread still runs: that may have ended with a failure of its own. What is not committed then is read
    again by the next worker, as after a kill."""

    logger = logging.getLogger("faust.workers")

    def _new_consumer_thread(self) -> Any:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def commit_and_end_transactions(self) -> None:
        try:
            await super().commit_and_end_transactions()
        except RuntimeError as error:
            if not self._thread.thread_loop.is_closed():
                raise
            log.info("the last offsets of items, users and models are not committed: %s", error)


class _Transport(driver.Transport):
    Consumer: ClassVar[Any] = _Consumer
    Producer: ClassVar[Any] = _Producer


class WorkerApp(OrderlyService, faust.App):
    """A Faust application on aiokafka. It logs under Faust's name, so errors during its stop are shown without tracebacks."""

    logger = logging.getLogger("faust.workers")

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> Any:
        return _Transport(self.conf.broker_producer, self)


def _coordinator(app: faust.App) -> Any:
    """Return the group coordinator of an app's consumer; None before it has started."""
    thread = getattr(getattr(app, "_consumer", None), "_thread", None)
    consumer = getattr(thread, "_consumer", None)
    return None if consumer is None else getattr(consumer, "_coordinator", None)


def in_group(app: faust.App) -> bool:
    """Return whether an app's consumer is a member of its group."""
    return int(getattr(_coordinator(app), "generation", -1)) >= 0


async def take_consumer_error(app: faust.App) -> Exception | None:
    """Take the error that the consumer of an app keeps for its user, which Faust never asks for; None if there is none.

    Until it is taken the consumer stands still; then it tries again.
    """
    coordinator = _coordinator(app)
    if coordinator is None or app.consumer._thread.should_stop:
        return None
    denied, app.consumer._thread.denied = getattr(app.consumer._thread, "denied", None), None
    if denied is not None:
        return cast(Exception, denied)

    async def take() -> Exception | None:
        try:
            coordinator.check_errors()
        except KafkaError as error:
            taken: Exception = error
            rejoin_if_ended(coordinator)
            return taken
        return None

    try:
        found: Exception | None = await asyncio.wait_for(app.consumer._thread.call_thread(take), ANSWER_S)
    except (TimeoutError, RuntimeError):  # it is busy, or ends
        return None
    return found
