"""Waiting before another try."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from workers.errors import Fenced, Transient

log = logging.getLogger(__name__)

FIRST_S = 0.1
LONGEST_S = 5.0
SAY_AGAIN_S = 60.0
"""A problem that stays is logged at most so often."""


class Backoff:
    """Twice as long after each failure in a row, with jitter, so that workers do not come back all at once."""

    def __init__(self, *, longest_s: float = LONGEST_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures = 0
        self._longest_s, self._clock = longest_s, clock
        self._said, self._say_at_s, self._quiet_s = "", 0.0, 0.0

    def reset(self) -> None:
        """The last try went well."""
        self._failures = 0
        self._said = ""

    def is_news(self, text: str) -> bool:
        """Whether a problem should be logged: when it is another one than before, then after 1, 2, 4 … and at most 60 s."""
        now_s = self._clock()
        if text != self._said:
            self._said, self._quiet_s = text, 0.5
        elif now_s < self._say_at_s:
            return False
        self._quiet_s = min(2 * self._quiet_s, SAY_AGAIN_S)
        self._say_at_s = now_s + self._quiet_s
        return True

    def next_s(self) -> float:
        """Seconds to wait before the next try."""
        self._failures += 1
        longest_s = min(self._longest_s, FIRST_S * float(2 ** min(self._failures - 1, 10)))
        return longest_s * random.uniform(0.5, 1.0)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


async def patiently(
    step: Callable[[], Awaitable[object]],
    *,
    gives_up: Callable[[Exception], bool] = lambda error: False,
    describe: Callable[[Exception], str] = _text,
) -> None:
    """Repeat a step until it succeeds. Raises what is neither Transient, Fenced nor a Kafka error, and those where `gives_up` says so.

    `describe` says an error in one line. One that stays the same is logged at growing intervals.
    """
    from aiokafka.errors import KafkaError  # here, as commands that only wait start faster without it

    backoff = Backoff()
    while True:
        try:
            await step()
            return
        except (Transient, Fenced, KafkaError) as error:
            if gives_up(error):
                raise
            wait_s = backoff.next_s()
            if backoff.is_news(text := describe(error)):
                log.warning("waiting %.1f s: %s", wait_s, text)
            await asyncio.sleep(wait_s)
