"""Waiting before another try."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from aiokafka.errors import KafkaError

from workers.errors import Fenced, Transient

log = logging.getLogger(__name__)

FIRST_S = 0.1
LONGEST_S = 5.0


class Backoff:
    """Twice as long after each failure in a row, with jitter, so that workers do not come back all at once."""

    def __init__(self) -> None:
        self._failures = 0

    def reset(self) -> None:
        """The last try went well."""
        self._failures = 0

    def next_s(self) -> float:
        """Seconds to wait before the next try."""
        self._failures += 1
        longest_s = min(LONGEST_S, FIRST_S * float(2 ** min(self._failures - 1, 10)))
        return longest_s * random.uniform(0.5, 1.0)


async def patiently(step: Callable[[], Awaitable[object]], *, gives_up: Callable[[Exception], bool] = lambda error: False) -> None:
    """Repeat a step until it succeeds. Raises what is neither Transient, Fenced nor a Kafka error, and those where `gives_up` says so."""
    backoff = Backoff()
    while True:
        try:
            await step()
            return
        except (Transient, Fenced, KafkaError) as error:
            if gives_up(error):
                raise
            wait_s = backoff.next_s()
            log.warning("waiting %.1f s: %s", wait_s, error or type(error).__name__)
            await asyncio.sleep(wait_s)
