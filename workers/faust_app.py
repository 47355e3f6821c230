"""The Faust application that stream worker and trainer are: one whose last commit may come too late without a traceback."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import faust
from faust.transport.drivers import aiokafka as driver

log = logging.getLogger(__name__)


class _Consumer(driver.Consumer):
    """Commits on its way out, as long as there is somebody to do it.

    Its thread ends by itself when another service crashes, which may be before the consumer is asked to stop. What is not committed then
    is read once more by whoever comes next, as after a kill.
    """

    async def commit_and_end_transactions(self) -> None:
        try:
            await super().commit_and_end_transactions()
        except RuntimeError as error:
            if not self._thread.thread_loop.is_closed():
                raise
            log.info("the last offsets of items, users and models are not committed: %s", error)


class _Transport(driver.Transport):
    Consumer: ClassVar[Any] = _Consumer


class WorkerApp(faust.App):
    """A Faust application on aiokafka."""

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)
