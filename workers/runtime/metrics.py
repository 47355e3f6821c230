"""Counts what workers do, for Prometheus, and rings their alarms.

An alarm is a gauge (1 while it rings) and one line in the log when it starts and ends, so that it reaches people without Prometheus too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

from schemas.dead_letters import DeadLetter
from workers.runtime.status import WorkerStatus
from workers.runtime.trimmed import TrimmedFields
from workers.settings import AlarmSettings

log = logging.getLogger(__name__)


class CountedBatch(Protocol):
    """Counts of one batch that was published and committed."""

    @property
    def n_records(self) -> int: ...

    @property
    def n_new(self) -> int: ...

    @property
    def n_duplicates(self) -> int: ...

    @property
    def n_lists(self) -> int: ...

    @property
    def dead_letters(self) -> Sequence[DeadLetter]: ...

    @property
    def trimmed(self) -> Mapping[str, int]: ...


SHARE_OVER_S = 10.0
"""Seconds over which the share of dead letters is taken."""
UNREADABLE_FOR_S = 600.0
"""The alarm about a batch that could not be unpacked ends this long after the last one."""
SHARE_LEAST = 20
"""Records from which on a share is taken."""


class WorkerMetrics:
    """Counters of workers of every kind, in a registry of the process's own that `status` shows, and their alarms."""

    def __init__(self, status: WorkerStatus | None = None) -> None:
        self._status = WorkerStatus() if status is None else status
        self.registry = self._status.registry = CollectorRegistry()
        r = self.registry
        self._failed = Counter("recsys_failed_rounds_total", "Rounds that failed, by service and cause.", ["service", "cause"], registry=r)
        self._alarm = Gauge("recsys_alarm", "1 while an alarm rings.", ["name"], registry=r)
        self._ringing: dict[str, bool] = {}
        self.failing: dict[str, str] = {}
        """Service ▸ why its rounds keep failing, in one line; empty while all goes well."""

    def round_failed(self, service: str, cause: Literal["passing", "unexpected"]) -> None:
        """Count a round that failed: because something else was away (passing), or by a defect or damaged data (unexpected)."""
        self._failed.labels(service, cause).inc()

    def keeps_failing(self, service: str, why: str) -> None:
        """Ring the alarm of a service whose rounds fail one after another."""
        self.failing[service] = why
        self.ring(f"failing_{service}", True, why)

    def note_success(self, service: str) -> None:
        """Note that a round of this service succeeded, and end its alarm."""
        if self.failing.pop(service, None) is not None:
            self.ring(f"failing_{service}", False, "it works again")

    def ring(self, name: str, rings: bool, text: str) -> None:
        """Set an alarm, and log when it starts and ends."""
        self._alarm.labels(name).set(rings)
        if rings != self._ringing.get(name, False):
            self._ringing[name] = rings
            log.warning("alarm %s %s: %s", name, "starts" if rings else "ends", text)


class TrainerMetrics(WorkerMetrics):
    """Counters and gauges of one trainer."""

    def __init__(self, status: WorkerStatus | None = None) -> None:
        super().__init__(status)
        r = self.registry
        self.leads = Gauge("recsys_trainer_leads", "1 while this trainer is the leader.", registry=r)
        self.log_events = Gauge("recsys_trainer_log_events", "Events that the leader's log covers.", registry=r)
        self.rounds = Counter("recsys_trainer_rounds_total", "Rounds of training that have ended.", registry=r)
        self.results = Counter("recsys_trainer_results_total", "Results of rounds.", ["kind", "action"], registry=r)
        self.restored = Counter(
            "recsys_trainer_restored_total", "Announcements that the model store contradicted and that were set right.", registry=r
        )
        epochs = "Epochs of a running training that are done, or left at most."
        self._epochs = Gauge("recsys_training_epochs", epochs, ["kind", "epochs"], registry=r)
        self._loss = Gauge("recsys_training_loss", "Mean loss of the epoch of a running training.", ["kind"], registry=r)
        self._pace = Gauge("recsys_training_examples_per_second", "Examples a second of a running training.", ["kind"], registry=r)
        self._remaining = Gauge("recsys_training_remaining_seconds", "Seconds that a running training takes at most.", ["kind"], registry=r)

    def note_training(self, kind: str, *, done: int, left: int, loss: float, per_s: float, remaining_s: float) -> None:
        """Show how far the training of a kind is."""
        self._epochs.labels(kind, "done").set(done)
        self._epochs.labels(kind, "left").set(left)
        for gauge, value in ((self._loss, loss), (self._pace, per_s), (self._remaining, remaining_s)):
            gauge.labels(kind).set(value)

    def clear_training(self) -> None:
        """Show no training: the round has ended."""
        for gauge in (self._epochs, self._loss, self._pace, self._remaining):
            gauge.clear()


class StreamMetrics(WorkerMetrics):
    """Counters and gauges of one stream worker."""

    def __init__(self, alarms: AlarmSettings, status: WorkerStatus | None = None) -> None:
        """`status` shows these numbers, and says when lists are deferred."""
        super().__init__(status)
        self._alarms = alarms
        r = self.registry
        self._records = Counter("recsys_records_total", "Records of the events topic that were processed.", registry=r)
        self._interactions = Counter("recsys_interactions_total", "Interactions that changed the state.", registry=r)
        self._duplicates = Counter("recsys_duplicates_total", "Events whose id had been counted before.", registry=r)
        self._lists = Counter("recsys_lists_total", "Lists published.", registry=r)
        self._dead = Counter("recsys_dead_letters_total", "Records refused, by kind.", ["kind"], registry=r)
        trimmed_text = "Records of which something in an optional field was dropped or cut, by kind of record and field."
        trimmed = Counter("recsys_trimmed_fields_total", trimmed_text, ["record", "field"], registry=r)
        self.trimmed = TrimmedFields(lambda record, field, n: trimmed.labels(record, field).inc(n))
        unreadable = "Batches of records that could not be unpacked, each one dead letter, by topic."
        self._unreadable = Counter("recsys_unreadable_batches_total", unreadable, ["topic"], registry=r)
        self._unreadable_s, self._unreadable_text = float("-inf"), ""
        self._expired = Counter("recsys_expired_records_total", "Records that the log had deleted before they were applied.", registry=r)
        self._lag = Gauge("recsys_lag_records", "Records of a partition that are not applied yet.", ["partition"], registry=r)
        self._catching_up = Gauge("recsys_catching_up", "1 while lists are deferred because the worker is far behind.", registry=r)
        self._deferring = Gauge("recsys_owing_partitions", "Partitions in which deferred lists may wait.", registry=r)
        self._waiting = Gauge("recsys_lists_waiting", "1 while lists wait for this to be loaded.", ["dependency"], registry=r)
        self._models = Counter("recsys_models_total", "Announced models, by what became of them.", ["outcome"], registry=r)
        self._since_s, self._n_records, self._n_dead = time.monotonic(), 0, 0

    def count_model(self, outcome: Literal["loaded", "refused", "unconfirmed"]) -> None:
        """Count an announced model: it serves, it is refused, or the model store does not confirm its announcement."""
        self._models.labels(outcome).inc()

    def add(self, outcome: CountedBatch) -> None:
        """Count a batch that was published and committed."""
        self._records.inc(outcome.n_records)
        self._interactions.inc(outcome.n_new)
        self._duplicates.inc(outcome.n_duplicates)
        self._lists.inc(outcome.n_lists)
        self.add_letters(outcome.dead_letters)
        self.trimmed.add("event", outcome.trimmed)
        self._n_records += outcome.n_records
        self._n_dead += len(outcome.dead_letters)

    def add_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Count dead letters, of any topic."""
        for letter in letters:
            self._dead.labels(letter.kind).inc()
            if letter.source_last_offset is not None:
                self._unreadable.labels(letter.source_topic).inc()
                self._unreadable_s, self._unreadable_text = time.monotonic(), letter.reason

    def add_lists(self, n_lists: int) -> None:
        """Count lists that had been deferred."""
        self._lists.inc(n_lists)

    def add_expired(self, n_records: int) -> None:
        self._expired.inc(n_records)

    def look(self, lag: Mapping[int, int], *, catching_up: bool, n_deferring: int, waiting_for: Sequence[str] = ()) -> None:
        """Set the gauges, and let alarms start and end."""
        self._lag.clear()
        for partition, behind in lag.items():
            self._lag.labels(str(partition)).set(behind)
        self._catching_up.set(catching_up)
        self._deferring.set(n_deferring)
        self._waiting.clear()
        for dependency in waiting_for:
            self._waiting.labels(dependency).set(1)
        self.trimmed.say()
        if catching_up:
            self._status.block("lists", f"lists are deferred: {sum(lag.values()):,} events behind")
        else:
            self._status.clear("lists")
        rings = time.monotonic() - self._unreadable_s < UNREADABLE_FOR_S
        self.ring("unreadable", rings, self._unreadable_text if rings else f"no unreadable batch within {UNREADABLE_FOR_S:.0f} s")
        total = sum(lag.values())
        self.ring("lag", total > self._alarms.lag_records, f"{total:,} events behind; alarms.lag_records is {self._alarms.lag_records:,}")
        now_s = time.monotonic()
        if now_s - self._since_s >= SHARE_OVER_S:
            share = self._n_dead / self._n_records if self._n_records >= SHARE_LEAST else 0.0
            allowed = self._alarms.dead_letter_share
            self.ring("dead_letters", share > allowed, f"{share:.1%} of the records refused; alarms.dead_letter_share is {allowed:.1%}")
            self._since_s, self._n_records, self._n_dead = now_s, 0, 0
