"""Counts what workers do, for Prometheus, and rings their alarms.

An alarm is a gauge (1 while it rings) and one line in the log when it starts and ends, so that it reaches people without Prometheus too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from schemas.dead_letters import DeadLetter
from workers.runtime.collectors import BatchHistogram, ReadWhenAsked
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

    @property
    def seconds(self) -> Mapping[str, float]: ...

    @property
    def listed_ms(self) -> Mapping[str, NDArray[np.int64]]: ...


SHARE_OVER_S = 10.0
"""Seconds over which the share of dead letters is taken."""
UNREADABLE_FOR_S = 600.0
"""The alarm about a batch that could not be unpacked ends this long after the last one."""
SHARE_LEAST = 20
"""Records from which on a share is taken."""
FRESHNESS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
STAGE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
BATCH = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
TRAINING_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0)
"""Upper bounds of the buckets of histograms: seconds, and records or lists."""


class WorkerMetrics:
    """Counters of workers of every kind, in a registry of the process's own that `status` shows, and their alarms."""

    def __init__(self, status: WorkerStatus | None = None) -> None:
        self._status = WorkerStatus() if status is None else status
        self.registry = self._status.registry = CollectorRegistry()
        r = self.registry
        ProcessCollector(registry=r)
        Gauge("recsys_build_info", "1, with the version of the program.", ["version"], registry=r).labels(_program_version()).set(1)
        ReadWhenAsked("recsys_ready", "1 while /ready says yes.", [], lambda: [([], float(not self._status.reasons()))], r)
        self._failed = Counter("recsys_failed_rounds_total", "Rounds that failed, by service and cause.", ["service", "cause"], registry=r)
        self._alarm = Gauge("recsys_alarm", "1 while an alarm rings.", ["name"], registry=r)
        self._ringing: dict[str, bool] = {}
        self.failing: dict[str, str] = {}
        """Service ▸ why its rounds keep failing, in one line; empty while all goes well."""

    def _note_bound(self, n_records: int, at_most: int) -> None:
        """Count as not ready while more than `at_most` records wait; 0: there is no bound."""
        if at_most and n_records > at_most:
            self._status.block("lag", f"{n_records:,} events behind; health.max_lag_records is {at_most:,}")
        else:
            self._status.clear("lag")

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
            log.warning("alarm %s %s: %s", name, "starts" if rings else "ends", text, extra={"alarm": name})


def _program_version() -> str:
    try:
        return version("recsys-stream")
    except PackageNotFoundError:
        return "unknown"


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
        self._round_s = BatchHistogram("recsys_training_round_seconds", "Seconds that a round of training took.", TRAINING_S, r)
        self._ended = Gauge("recsys_training_round_ended_timestamp_seconds", "Unix time when the last round ended.", registry=r)
        self._kind_s = Gauge("recsys_training_seconds", "Seconds that the last training of a kind took.", ["kind"], registry=r)
        figures = "Figures of the gate's last decision on a kind: NDCG@10 of the challenger and of its rivals, leads, cases."
        self._figures = Gauge("recsys_gate_figure", figures, ["kind", "figure"], registry=r)
        self._lag = Gauge("recsys_trainer_lag_records", "Records of the events topic that are not in the leader's log yet.", registry=r)

    def expect(self, kinds: Iterable[str]) -> None:
        """Show the results of these kinds from 0 on, so that the first one is an increase."""
        for kind in kinds:
            for action in ("promoted", "refused", "retired", "skipped", "failed"):
                self.results.labels(kind, action)

    def note_round(self, seconds: float) -> None:
        """Count a round that has ended, whatever it gave."""
        self.rounds.inc()
        self._round_s.observe(seconds)
        self._ended.set(time.time())
        self.clear_training()

    def note_result(self, kind: str, action: str, figures: Mapping[str, float], train_s: float) -> None:
        """Count the result of one kind, and show the gate's figures."""
        self.results.labels(kind, action).inc()
        if figures:
            self._kind_s.labels(kind).set(train_s)
        for name, value in figures.items():
            self._figures.labels(kind, name).set(value)

    def note_lag(self, n_records: int, at_most: int) -> None:
        """Show how far the leader's log is behind; with a bound, the trainer is not ready beyond it."""
        self._lag.set(n_records)
        self._note_bound(n_records, at_most)

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

    def __init__(self, alarms: AlarmSettings, status: WorkerStatus | None = None, *, max_lag_records: int = 0) -> None:
        """`status` shows these numbers, and says when lists are deferred or more than `max_lag_records` wait (0: no bound)."""
        super().__init__(status)
        self._alarms, self._max_lag_records = alarms, max_lag_records
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
        for outcome in ("loaded", "refused", "unconfirmed"):  # from 0 on, so that the first one is an increase
            self._models.labels(outcome)
        stages = "Seconds of each stage of a batch: what a worker does with it, one after another, and publishing."
        self._stages = BatchHistogram("recsys_stage_seconds", stages, STAGE_S, r, "stage")
        self._batch_records = BatchHistogram("recsys_batch_records", "Records of a batch.", BATCH, r)
        self._batch_lists = BatchHistogram("recsys_batch_lists", "Lists of a batch that made some.", BATCH, r)
        fresh = "Seconds from a user's newest event to the broker's acknowledgement of the list: since the event's own time, or Kafka's."
        self._freshness = BatchHistogram("recsys_freshness_seconds", fresh, FRESHNESS_S, r, "since")
        self._owned = Gauge("recsys_partitions", "Partitions of the events topic that this worker owns.", registry=r)
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
        self._batch_records.observe(outcome.n_records)
        for stage, seconds in outcome.seconds.items():
            self._stages.observe(seconds, stage)
        self._n_records += outcome.n_records
        self._n_dead += len(outcome.dead_letters)

    def note_published(self, outcome: CountedBatch, seconds: float) -> None:
        """Count how fresh the lists of a batch are, which the broker has just acknowledged after `seconds`."""
        self._stages.observe(seconds, "publish")
        if outcome.n_lists:
            now_ms = time.time() * 1000
            self._batch_lists.observe(outcome.n_lists)
            for since, times_ms in outcome.listed_ms.items():
                self._freshness.observe(np.maximum(now_ms - times_ms, 0) / 1000, since)

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

    def note_lag(self, lag: Mapping[int, int]) -> None:
        """Show how many records of each partition wait, and let their alarm start or end."""
        total, bound = sum(lag.values()), self._alarms.lag_records
        self._note_bound(total, self._max_lag_records)
        self._lag.clear()
        for partition, behind in lag.items():
            self._lag.labels(str(partition)).set(behind)
        self.ring("lag", total > bound, f"{total:,} events behind; alarms.lag_records is {bound:,}")

    def look(self, lag: Mapping[int, int], *, catching_up: bool, n_deferring: int, waiting_for: Sequence[str] = ()) -> None:
        """Set the gauges, and let alarms start and end."""
        self._owned.set(len(lag))
        self.note_lag(lag)
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
        now_s = time.monotonic()
        if now_s - self._since_s >= SHARE_OVER_S:
            share = self._n_dead / self._n_records if self._n_records >= SHARE_LEAST else 0.0
            allowed = self._alarms.dead_letter_share
            self.ring("dead_letters", share > allowed, f"{share:.1%} of the records refused; alarms.dead_letter_share is {allowed:.1%}")
            self._since_s, self._n_records, self._n_dead = now_s, 0, 0
