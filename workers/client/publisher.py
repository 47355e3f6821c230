"""The producer that other programs embed: checks an event, sends it to the right partition, and says so when it did not arrive.

    from workers.client import EventPublisher

    with EventPublisher(bootstrap_servers="broker:9092") as publisher:
        publisher.publish(user_id="u1", item_id="i1", type="play")

kafka-python sends in a thread of its own. Neither torch nor Faust is imported.

A publisher outlives `os.fork()` (gunicorn with preload, celery, multiprocessing): the child connects by itself when it first publishes, and
what the parent had handed over stays with the parent.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from schemas import Event, Item, UserErasure, UserProfile, from_fields, key_of
from workers.client.checks import MAX_RECORD_BYTES, Record, checked_event, checked_item, checked_merge, checked_profile, value_of
from workers.errors import Transient
from workers.kafka.admin import explain_denial, kafka_errors
from workers.kafka.clients import blocking_producer
from workers.kafka.connection import check_reachable
from workers.kafka.rights import on_topics
from workers.kafka.tracing import current_headers
from workers.runtime.trimmed import TrimmedFields
from workers.settings import Settings, load_settings

log = logging.getLogger(__name__)

LINGER_MS = 5  # a batch waits this long for company
BATCH_BYTES = 131_072
MAX_IN_FLIGHT = 20_000  # records sent and not yet acknowledged; then `publish` waits (kafka-python's buffer has no bound of its own)
FLUSH_LATE_S = 5.0  # a worker process that ends waits so long for records that nobody flushed


class PublishError(Transient):
    """Records that the broker did not acknowledge in time. `undelivered` holds them, to be published again; tombstones by their id."""

    def __init__(self, message: str, undelivered: list[Record | str]) -> None:
        super().__init__(message)
        self.undelivered = undelivered


class EventPublisher:
    """Publishes events (keyed by user id), items, and profiles; safe to use from several threads and after a fork.

    Every record is validated before it is sent (`schemas.Poison` names the field). None stands for "not given". Text that is too long is
    cut, and of too many categories, attributes or entries the first are kept, with a warning in the log; `trimmed.total` counts them.
    Delivery goes on in the background: `flush` and `close` wait for it and raise PublishError with whatever was not acknowledged. Leaving
    the `with` block closes. After a fork each process flushes and closes for itself.

    `settings` default to environment and TOML; `bootstrap_servers` and `topic` override their Kafka address and events topic.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        bootstrap_servers: str | None = None,
        topic: str | None = None,
        delivery_timeout_s: float = 60.0,
    ) -> None:
        settings = load_settings() if settings is None else settings
        if bootstrap_servers is not None:
            settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap_servers": bootstrap_servers})})
        self.settings = settings
        self.topic = settings.topics.events if topic is None else topic
        self.delivery_timeout_s = delivery_timeout_s
        self._closed = False
        self._start_empty()
        self._connected()
        _PUBLISHERS.add(self)

    def _start_empty(self) -> None:
        """Belong to this process, with nothing sent and no connection."""
        self._pid = os.getpid()
        self._slots = threading.BoundedSemaphore(MAX_IN_FLIGHT)
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._in_flight: dict[int, Record | str] = {}
        self._failed: dict[int, Record | str] = {}
        self._first_failure: BaseException | None = None
        self._n_sent = 0
        self._producer: Any = None
        self.trimmed = TrimmedFields()

    def notice_fork(self) -> None:
        """In a child process: leave connection, buffer and locks to the parent. Called at every fork and, where that is missed, at use."""
        if self._pid != os.getpid():
            _leave_to_parent(self._producer)
            self._start_empty()

    def _connected(self) -> Any:
        """The producer of this process."""
        self.notice_fork()
        if self._producer is None:
            with self._connecting:
                if self._producer is None:
                    self._producer = self._connect()
                    _flush_when_worker_process_ends(self)
        return self._producer

    def _connect(self) -> Any:
        check_reachable(self.settings.kafka)
        with kafka_errors(self.settings, *on_topics("Write", self.topic)):
            return blocking_producer(
                self.settings,
                delivery_timeout_ms=int(self.delivery_timeout_s * 1000),
                linger_ms=LINGER_MS,
                batch_size=BATCH_BYTES,
                max_request_size=MAX_RECORD_BYTES,
            )

    @property
    def closed(self) -> bool:
        """Return whether `close` was called."""
        return self._closed

    @property
    def n_sent(self) -> int:
        """Records that this process handed over so far, acknowledged or not."""
        return self._n_sent

    @property
    def n_unacknowledged(self) -> int:
        """Records that this process handed over and that are neither acknowledged nor given up."""
        with self._lock:
            return len(self._in_flight)

    def publish(self, event: Event | Mapping[str, Any] | None = None, /, **fields: Any) -> Event:
        """Send one event, given as a model, a mapping, or fields; returns it as sent.

        `event_id` defaults to a new UUID, `event_ts_ms` to now. Raises Poison when a field is wrong, unknown, or missing, or the time lies
        more than `stream.future_skew_s` ahead of this machine's clock (workers would refuse it), Transient when the broker has been away
        for `delivery_timeout_s`.
        """
        if not isinstance(event, Event):
            given = {**(event or {}), **fields}
            given.setdefault("event_id", str(uuid.uuid4()))
            given.setdefault("event_ts_ms", time.time_ns() // 1_000_000)
            record = checked_event(given, self.settings.stream.future_skew_s, self.trimmed)
        elif fields:
            raise TypeError("give an Event or its fields, not both")
        else:
            record = checked_event(event, self.settings.stream.future_skew_s, self.trimmed)
        self._send(self.topic, record)
        return record

    def publish_many(self, events: Iterable[Event | Mapping[str, Any]]) -> int:
        """Send events in their order; returns how many. A wrong one raises Poison after all before it were handed over."""
        n = 0
        for event in events:
            self.publish(event)
            n += 1
        return n

    def publish_item(self, item: Item | Mapping[str, Any]) -> Item:
        """Send one item of the catalogue; it replaces the item of that id. Raises as `publish`."""
        record = checked_item(item, self.trimmed)
        self._send(self.settings.topics.items, record)
        return record

    def remove_item(self, item_id: str) -> None:
        """Send a tombstone for an item."""
        self._send(self.settings.topics.items, from_fields(Item, {"item_id": item_id}).item_id)

    def publish_profile(self, profile: UserProfile | Mapping[str, Any]) -> UserProfile:
        """Send one user's profile; it replaces the one of that user. Raises as `publish`."""
        record = checked_profile(profile, self.trimmed)
        self._send(self.settings.topics.users, record)
        return record

    def merge_users(self, ended_id: str, account_id: str) -> UserProfile:
        """Say that a user who had one id goes on with another one, as after an anonymous visitor has logged in: what both ids have done
        counts for the account from now on, and the ended id has no list any more. Raises as `publish`.

        The record takes the place of the ended id's profile. Publish a profile of the ended id to take it back.
        """
        record = checked_merge(ended_id, account_id, self.trimmed)
        self._send(self.settings.topics.users, record)
        return record

    def remove_profile(self, user_id: str) -> None:
        """Send a tombstone for a profile; it takes a merge of the id back too."""
        self._send(self.settings.topics.users, from_fields(UserProfile, {"user_id": user_id}).user_id)

    def erase_user(self, user_id: str) -> UserErasure:
        """Erase what the events of a user have left: history, counts of what was shown, list. What the user does later starts a new one.

        `recsys users erase` also removes the profile and the ids that were merged into this one, and says what stays. Raises as `publish`.
        """
        record = from_fields(UserErasure, {"user_id": user_id, "type": "erase", "event_ts_ms": time.time_ns() // 1_000_000})
        self._send(self.topic, record)
        return record

    def _send(self, topic: str, record: Record | str) -> None:
        if self._closed:
            raise RuntimeError("this publisher is closed: make another one")
        producer = self._connected()
        key, value = (record.encode(), None) if isinstance(record, str) else (key_of(record), value_of(record))
        if not self._slots.acquire(timeout=self.delivery_timeout_s):
            raise Transient(f"Kafka acknowledges nothing; {MAX_IN_FLIGHT} records are waiting: try again when the broker is back")
        ticket = id(record)
        sent = False
        try:
            with self._lock:
                self._n_sent += 1
                ticket = self._n_sent
                self._in_flight[ticket] = record
            with kafka_errors(self.settings, *on_topics("Write", topic)):
                headers = current_headers() if self.settings.tracing.exporter != "off" else None
                future = producer.send(topic, key=key, value=value, headers=headers)
            sent = True
        finally:
            if not sent:
                self._settle(ticket)
        future.add_callback(lambda _: self._settle(ticket))
        future.add_errback(lambda error: self._settle(ticket, error))

    def _settle(self, ticket: int, error: BaseException | None = None) -> None:
        with self._lock:
            record = self._in_flight.pop(ticket, None)
            if record is None:
                return
            if error is not None:
                self._failed[ticket] = record
                self._first_failure = self._first_failure or error
        self._slots.release()

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until every record is acknowledged or given up; raises PublishError with those that were not (each only once)."""
        late = self._wait(timeout_s)
        with self._lock:
            failed, self._failed = self._failed, {}
            reason, self._first_failure = self._first_failure, None
            waiting = len(self._in_flight)
        if failed:
            raise self._undelivered(failed, reason)
        if late and waiting:
            raise Transient(f"{waiting} records are not acknowledged yet: flush again")

    def _wait(self, timeout_s: float | None) -> bool:
        """Wait until every record is acknowledged or given up. Return True if some are neither when the time is up."""
        from kafka.errors import KafkaTimeoutError

        self.notice_fork()
        try:
            if self._producer is not None:
                self._producer.flush(self.delivery_timeout_s + 5 if timeout_s is None else timeout_s)
        except KafkaTimeoutError:
            return True
        return False

    def _undelivered(self, records: Mapping[int, Record | str], reason: BaseException | None) -> PublishError:
        """Return the error that hands records back in the order in which they were sent. `records`: by the number of the sending."""
        why = "no acknowledgement yet" if reason is None else self._why(reason)
        ordered = [records[ticket] for ticket in sorted(records)]
        return PublishError(f"{len(ordered)} records were not delivered ({why}): publish them again", ordered)

    def _why(self, error: BaseException) -> str:
        """Return why records were not delivered, naming the right if one is missing."""
        from kafka.errors import AuthorizationError

        if isinstance(error, AuthorizationError):
            topics = self.settings.topics
            return explain_denial(error, self.settings, on_topics("Write", self.topic, topics.items, topics.users))
        return type(error).__name__

    def close(self, timeout_s: float | None = None) -> None:
        """Flush and disconnect. Raises PublishError with every record that was not acknowledged. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        try:
            late = self._wait(timeout_s)
            with self._lock:
                undelivered = {**self._failed, **(self._in_flight if late else {})}
            if undelivered:
                raise self._undelivered(undelivered, self._first_failure)
        finally:
            self._disconnect()

    def _disconnect(self) -> None:
        from kafka.errors import KafkaError

        if self._producer is None:
            return
        try:
            self._producer.close(timeout=1.0)
        except KafkaError as error:
            log.warning("the producer closes late: %s", type(error).__name__)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.close()
        except PublishError as late:
            if error is None:
                raise
            error.add_note(str(late))


_PUBLISHERS: weakref.WeakSet[EventPublisher] = weakref.WeakSet()
_OF_THE_PARENT: list[Any] = []
"""Producers that a fork brought along. They are kept, because the end of one closes it, and its connection is the parent's."""


def _leave_to_parent(producer: Any) -> None:
    """Have a producer of the parent process do nothing in this one, at its exit either."""
    if producer is not None:
        _OF_THE_PARENT.append(producer)
        producer._unregister_cleanup()
        producer._closed = True


def _flush_when_worker_process_ends(publisher: EventPublisher) -> None:
    """In a child of multiprocessing, which ends without the usual exit handlers: deliver what was not flushed."""
    if "multiprocessing" not in sys.modules:
        return
    from multiprocessing import parent_process, util

    if parent_process() is not None:
        util.Finalize(None, _flush_late, args=(weakref.ref(publisher),), exitpriority=100)


def _flush_late(reference: weakref.ref[EventPublisher]) -> None:
    publisher = reference()
    if publisher is None or publisher.closed:
        return
    try:
        publisher.flush(FLUSH_LATE_S)
    except Transient as error:
        log.error("this process ends and %s", error)


def _notice_fork() -> None:
    for publisher in list(_PUBLISHERS):
        publisher.notice_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_notice_fork)
