"""Supervises the rounds of a service: no failure of one round ends the service.

A failed round is logged in one line with its remedy, counted, and tried again after a wait that grows. Only Fatal, which no retry can
repair, is raised. When rounds keep failing an alarm rings, so that a permanent error does not look like a passing one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiokafka.errors import KafkaError

from workers.errors import Fatal, Fenced, Transient, one_line, printable
from workers.errors import describe as described
from workers.retry import FIRST_S, LONGEST_S, Backoff
from workers.runtime.metrics import WorkerMetrics
from workers.runtime.status import WorkerStatus

log = logging.getLogger(__name__)

PASSING = (Transient, Fenced, KafkaError, OSError)
"""Failures that pass: something else is away or busy. All other exceptions are unexpected."""
ALARM_FAILURES = 3
"""Unexpected failures in a row after which the alarm rings."""
ALARM_AFTER_S = 60.0
"""Failures that should pass ring it when they have lasted this long."""
LOUD_AFTER_S = 30.0
"""A quiet service warns of failures that should pass when they have lasted this long."""
DEFECT = "run with --log-level debug to see the traceback, and report it as a defect"

Step = Callable[[], Awaitable[object]]


class Rounds:
    """Runs the rounds of one service, one at a time."""

    def __init__(
        self,
        service: str,
        metrics: WorkerMetrics | None = None,
        *,
        first_s: float = FIRST_S,
        longest_s: float = LONGEST_S,
        quiet: bool = False,
        handles_passing: bool = True,
        fatal_passes: bool = False,
        remedy: str = DEFECT,
        describe: Callable[[Exception], str] = one_line,
        status: WorkerStatus | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Waits grow from `first_s` to `longest_s`. `quiet` logs passing failures at debug until they last. With `handles_passing` off only
        unexpected failures are handled here, and passing ones raised. `fatal_passes` treats Fatal as passing: for services that nothing
        depends on. `remedy` says what to do about an unexpected failure, `describe` in one line what a passing one waits for. `status` is
        blocked while rounds fail. A failure that stays the same is logged at growing intervals."""
        self.service = service
        self._metrics, self._quiet, self._remedy, self._clock = metrics, quiet, remedy, clock
        self._passing = (*PASSING, Fatal) if fatal_passes else PASSING
        self._handles_passing, self._fatal_passes = handles_passing, fatal_passes
        self._describe, self._status = describe, status
        self._backoff = Backoff(first_s, longest_s, clock=clock)
        self._n_unexpected = 0
        self._failing_since_s: float | None = None
        self._next_s = float("-inf")
        self.why = ""
        """Why the last failed round failed, in one line."""

    @property
    def wait_s(self) -> float:
        """Return the seconds until the next try; 0 after a round that succeeded."""
        return max(0.0, self._next_s - self._clock())

    @property
    def due(self) -> bool:
        """Return whether the next round may be tried now."""
        return self.wait_s <= 0

    async def attempt(
        self, step: Step, *, place: Callable[[], str] | None = None, gives_up: Callable[[Exception], bool] | None = None
    ) -> bool:
        """Run one round and return whether it succeeded. It never sleeps: wait `wait_s` or check `due` before the next.

        `place` names what stands still when the round fails. Raises Fatal, and every failure for which `gives_up` says so.
        """
        try:
            await step()
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            self._failed(Transient("a client cancelled the call"), place, None)  # a future of the client's, not this task
            return False
        except Exception as error:
            if isinstance(error, Fatal) and not self._fatal_passes:
                raise
            if isinstance(error, self._passing) and not self._handles_passing:
                raise
            self._failed(error, place, gives_up)
            return False
        self.succeeded()
        return True

    def succeeded(self) -> None:
        """Note that a round succeeded: the next wait is short again, and the alarm ends."""
        if self._failing_since_s is None:
            return
        self._backoff.reset()
        self._n_unexpected, self._failing_since_s, self._next_s = 0, None, float("-inf")
        if self._metrics is not None:
            self._metrics.note_success(self.service)
        if self._status is not None:
            self._status.clear(self.service)

    def failed(self, error: Exception, *, place: str = "") -> None:
        """Note a failure that was met outside `attempt`."""
        self._failed(error, (lambda: place) if place else None, None)

    def _failed(self, error: Exception, place: Callable[[], str] | None, gives_up: Callable[[Exception], bool] | None) -> None:
        passing = isinstance(error, self._passing)
        now_s = self._clock()
        since_s = self._failing_since_s = now_s if self._failing_since_s is None else self._failing_since_s
        self._n_unexpected += not passing
        if self._metrics is not None:
            self._metrics.round_failed(self.service, "passing" if passing else "unexpected")
        if gives_up is not None and gives_up(error):
            raise error
        wait_s = self._backoff.next_s()
        self._next_s = now_s + wait_s
        where = f"; {where}" if place is not None and (where := place()) else ""
        what = (printable(self._describe(error)) if passing else described(error)) + where
        self.why = what
        if passing:
            level = logging.DEBUG if self._quiet and now_s - since_s < LOUD_AFTER_S else logging.WARNING
            if level == logging.DEBUG or self._backoff.is_news(what):
                log.log(level, "%s: waiting %.1f s: %s", self.service, wait_s, what)
        else:
            if self._backoff.is_news(what):
                log.error("%s: unexpected %s; trying again in %.1f s; %s", self.service, what, wait_s, self._remedy)
            log.debug("%s: where it happened", self.service, exc_info=error)
        if self._status is not None:
            self._status.block(self.service, f"{self.service}: {what}")
        if self._metrics is not None and (self._n_unexpected >= ALARM_FAILURES or now_s - since_s >= ALARM_AFTER_S):
            self._metrics.keeps_failing(self.service, what)


async def patiently(
    step: Step,
    *,
    gives_up: Callable[[Exception], bool] | None = None,
    rounds: Rounds | None = None,
    place: Callable[[], str] | None = None,
) -> None:
    """Repeat a step until it succeeds. Raises Fatal, and what `gives_up` says."""
    rounds = Rounds("start") if rounds is None else rounds
    while not await rounds.attempt(step, gives_up=gives_up, place=place):  # noqa: ASYNC110 (a round, not a condition)
        await asyncio.sleep(rounds.wait_s)
