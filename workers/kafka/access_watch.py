"""Watches, while a worker runs, that Kafka accepts its credentials and grants its rights, and that its event loop turns.

Faust never reads its consumer's group errors, so a missing right would leave no trace. aiokafka tries again once its error has been
read. So errors are read here and logged with the right to grant; the consumer joins when the right is granted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from mode import Service

from workers.errors import SettingsError, Transient, WorkerError
from workers.kafka.rights import Role, explain
from workers.kafka.startup import access_problem
from workers.retry import Backoff
from workers.runtime.faust_app import OrderlyService, take_consumer_error
from workers.runtime.status import WorkerStatus
from workers.settings import Settings

log = logging.getLogger(__name__)

BEAT_S = 0.5
ERRORS_S = 1.0
"""Interval at which an error is read from Faust's consumer."""
FORGET_S = 10.0
"""A consumer that has had no error for this long works again."""
ACCESS_S = 15.0
"""Interval at which credentials and rights are checked while all is well; a tenth of it while something is missing."""


class AccessWatch(OrderlyService):
    """A service of a worker's app."""

    abstract = False

    def __init__(self, app: Any, settings: Settings, role: Role, status: WorkerStatus, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.app, self.settings, self.role, self.status = app, settings, role, status

    @Service.task
    async def _beat(self) -> None:
        while not self.should_stop:
            self.status.beat()
            await self.sleep(BEAT_S)

    @Service.task
    async def _take_errors(self) -> None:
        """Take errors from Faust's consumer, so that it tries again."""
        backoff, failed_s = Backoff(), float("-inf")
        while not self.should_stop:
            now_s = time.monotonic()
            failing = now_s - failed_s < FORGET_S
            if not failing and self.status.has("group"):
                self.status.clear("group")
                backoff.reset()
                log.info("the consumer group works again")
            await self.sleep(max(backoff.next_s(), ERRORS_S) if failing else ERRORS_S)
            if (error := await take_consumer_error(self.app)) is not None:
                failed_s = time.monotonic()
                self._report("group", explain(error, self.settings, self.role), backoff)

    @Service.task
    async def _look(self) -> None:
        backoff = Backoff()
        wait_s = ACCESS_S
        while not self.should_stop:
            await self.sleep(wait_s)
            try:
                problem = await asyncio.to_thread(access_problem, self.settings, self.role)
            except Transient as error:
                log.debug("rights are looked at later: %s", error)
                continue
            except SettingsError as error:  # it was right when the worker started: it was changed on the server
                problem = f"{error}; this worker goes on trying"
            except WorkerError as error:
                problem = str(error)
            wait_s = ACCESS_S if problem is None else ACCESS_S / 10
            if problem is not None:
                self._report("access", problem, backoff)
            elif self.status.has("access"):
                self.status.clear("access")
                backoff.reset()
                log.info("Kafka grants every right that was missing")

    def _report(self, name: str, problem: str, backoff: Backoff) -> None:
        self.status.block(name, problem)
        if backoff.is_news(problem):
            log.warning("waiting: %s", problem)
