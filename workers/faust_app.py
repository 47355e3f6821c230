"""The Faust application that stream worker and trainer are, and services whose failure ends the worker in order."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import faust
from faust.transport.drivers import aiokafka as driver
from mode import Service, Worker

from workers.kafka import READ_COMMITTED

log = logging.getLogger(__name__)


class OrderlyService(Service):
    """After its failure the worker stops as it does after a signal, part after part, and raises the failure at its end.

    Mode would tell all services at once that they have crashed: the thread of Faust's consumer ends by itself then, and whoever asks it
    for a last commit gets an error, or no answer.
    """

    abstract = True

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
    """Reads committed records only. Faust would, if it sent its own in transactions too, and has no setting for it."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = READ_COMMITTED  # handed to its fetcher when it starts
        return consumer


class _Consumer(driver.Consumer):
    """Commits on its way out, as long as there is somebody to do it: its thread may have ended with a failure of its own. What is not
    committed then is read once more by whoever comes next, as after a kill."""

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


class WorkerApp(OrderlyService, faust.App):
    """A Faust application on aiokafka. It speaks as Faust does: what stopping it meets with is shown without tracebacks."""

    logger = logging.getLogger("faust.workers")

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)
