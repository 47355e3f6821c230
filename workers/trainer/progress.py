"""Lines of a training process: on standard error, one a line, which the trainer logs."""

from __future__ import annotations

import sys
import time
import traceback
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from recsys.models.training import Epoch
from workers.runtime.text import visible

MARK = "PROGRESS"
"""Begins a line with `TrainingProgress` as JSON, which is for metrics and not for the log."""


class TrainingProgress(BaseModel):
    """The place of the training of a kind by epochs. `remaining_s` is an upper bound: most trainings end before their last epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    epochs_done: Annotated[int, Field(ge=0)]
    epochs_left: Annotated[int, Field(ge=0)]
    loss: float
    examples_per_s: Annotated[float, Field(ge=0)]
    remaining_s: Annotated[float, Field(ge=0)]


def report(message: str) -> None:
    """Write one line of progress."""
    print(visible(message), file=sys.stderr, flush=True)


def report_traceback(error: BaseException) -> None:
    """Send a traceback to the trainer, which logs it at debug."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        report(f"DEBUG {line}")


class Reporter:
    """A progress function that reports once a second and stops the training after `max_seconds`.

    Of a training by epochs it also reports examples a second and the time that is left, by the shares that were done at the first report
    and now: what was done before a training was stopped took no time of this process.
    """

    def __init__(self, max_seconds: float) -> None:
        self._started_s = time.monotonic()
        self._deadline_s, self._last_s = self._started_s + max_seconds, 0.0
        self._epoch: Epoch | None = None
        self._first: tuple[float, float] | None = None
        """The share that was done at the first report, and when that was."""

    def watch(self, epoch: Epoch) -> None:
        """Take the numbers of what the next call reports."""
        self._epoch = epoch

    def __call__(self, done: float, message: str) -> bool:
        now_s = time.monotonic()
        self._first = self._first or (done, now_s)
        if now_s - self._last_s > 1.0 or done >= 1:
            self._last_s = now_s
            more = "" if self._epoch is None else self._pace(self._epoch, done, now_s)
            report(f"{100 * done:3.0f} % {message}{more}")
        return now_s < self._deadline_s

    def _pace(self, epoch: Epoch, done: float, now_s: float) -> str:
        """Report the numbers of an epoch; return the pace for people."""
        assert self._first is not None
        per_s = epoch.n_examples / max(now_s - self._started_s, 1e-3)
        left_s = self._deadline_s - now_s
        if done > self._first[0]:
            left_s = min(left_s, (now_s - self._first[1]) * (1 - done) / (done - self._first[0]))
        whole = epoch.number if done >= 1 else int(done * epoch.epochs)
        progress = TrainingProgress(
            kind=epoch.kind,
            epochs_done=whole,
            epochs_left=epoch.epochs - whole,
            loss=epoch.loss,
            examples_per_s=per_s,
            remaining_s=max(0.0, left_s),
        )
        report(f"{MARK} {progress.model_dump_json()}")
        return f"; of {epoch.epochs} epochs, {per_s:,.0f} examples/s, at most {max(0.0, left_s) / 60:.1f} min left"


def reporter(max_seconds: float) -> Reporter:
    """Return a progress function that reports once a second and stops the training after `max_seconds`."""
    return Reporter(max_seconds)
