"""The bridge from HTTP into Kafka: checks records, sends them, and answers when the broker has acknowledged them.

    parse ▸ check each record ▸ send, in order ▸ wait for all acknowledgements

An event that is sent again with the same `event_id` counts once: the state sees to that, whichever gateway took it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from schemas import Event, Item, Poison, UserProfile, key_of
from schemas.errors import SchemaError
from schemas.limits import EVENT_MAX_BYTES, ITEM_MAX_BYTES, PROFILE_MAX_BYTES
from workers.client.checks import Record, checked_event, checked_item, checked_profile, value_of
from workers.errors import Transient
from workers.kafka.placement import RESERVED_USER_ID, is_reserved, refuse_reserved_account
from workers.runtime.trimmed import TrimmedFields
from workers.settings import Settings
from workers.web.access import Client
from workers.web.bodies import Unparsed
from workers.web.gateway_metrics import GatewayMetrics
from workers.web.kafka_sender import Sender
from workers.web.problems import RETRY_AFTER_S, Problem

Kind = Literal["events", "items", "users"]
_MODELS: dict[Kind, type[Record]] = {"events": Event, "items": Item, "users": UserProfile}
AT_ONCE = 25
"""Records that are checked and sent before other requests get their turn: some 2 ms."""


@dataclass(slots=True)
class Outcome:
    """Answer of a batch: `refused` by position, and the ids of the accepted events."""

    n_accepted: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)

    def figures(self, kind: Kind) -> dict[str, Any]:
        """Return the answer as JSON has it."""
        ids = {"event_ids": self.event_ids} if kind == "events" else {}
        return {"accepted": self.n_accepted, "refused": self.refused, **ids}


class Bridge:
    """Takes records of clients and hands them to a sender."""

    def __init__(
        self,
        settings: Settings,
        sender: Sender,
        metrics: GatewayMetrics,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._sender, self._metrics, self._wall_clock = settings, sender, metrics, wall_clock
        topics = settings.topics
        self._topics: dict[Kind, str] = {"events": topics.events, "items": topics.items, "users": topics.users}
        event_bytes = min(EVENT_MAX_BYTES, settings.stream.max_record_bytes)
        self._most_bytes: dict[Kind, int] = {"events": event_bytes, "items": ITEM_MAX_BYTES, "users": PROFILE_MAX_BYTES}
        self._trimmed = TrimmedFields()
        self.n_waiting = 0
        """Records that are sent and not acknowledged."""

    async def take(self, kind: Kind, records: Sequence[Any], client: Client, *, is_batch: bool) -> Outcome:
        """Send the good ones of some records and wait for the broker. Raises Problem where none is good, or not all were acknowledged."""
        if self.n_waiting + len(records) > self._settings.gateway.unacknowledged:
            raise Problem(429, "Kafka acknowledges too slowly (gateway.unacknowledged): wait", retry_after_s=RETRY_AFTER_S)
        if wait_s := client.records.take(len(records)):
            raise Problem(429, f"client {client.name} posts more than gateway.records_per_s: wait", retry_after_s=wait_s)
        outcome = Outcome()
        sent, unsent, why = await self._sent(kind, records, outcome)
        self._count(kind, "refused", len(outcome.refused))
        if len(outcome.refused) == len(records):
            raise _none_is_good(outcome, is_batch)
        good, late_why = await self._acknowledged(list(sent.values()))
        outcome.n_accepted = len(good)
        self._count(kind, "accepted", outcome.n_accepted)
        late = [at for at, future in sent.items() if future not in good] + unsent
        if late:
            self._count(kind, "failed", len(late))
            message = f"{len(late)} records are not acknowledged ({why or late_why}): send them again, events with the same event_id"
            raise Problem(503, message, retry_after_s=RETRY_AFTER_S, more={**outcome.figures(kind), "unacknowledged": late})
        return outcome

    async def _sent(
        self, kind: Kind, records: Sequence[Any], outcome: Outcome
    ) -> tuple[dict[int, asyncio.Future[object]], list[int], str]:
        """Send the good ones of some records. Return what is on its way by position, the positions of those that Kafka takes no more, and
        why not; `outcome` gets those that are refused."""
        sent: dict[int, asyncio.Future[object]] = {}
        for at, given in enumerate(records):
            if at % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            try:
                record = self._checked(kind, given)
                value = self._value(kind, record)
            except SchemaError as error:
                outcome.refused.append(_refusal(at, error))
                continue
            try:
                sent[at] = self._waiting(await self._sender.send(self._topics[kind], key_of(record), value))
            except Transient as error:
                return sent, list(range(at, len(records))), str(error)
            if kind == "events":
                outcome.event_ids.append(str(getattr(record, "event_id", "")))
        return sent, [], ""

    def _waiting(self, sending: Awaitable[object]) -> asyncio.Future[object]:
        future = asyncio.ensure_future(sending)
        self.n_waiting += 1
        future.add_done_callback(self._settle)
        return future

    def _settle(self, future: asyncio.Future[object]) -> None:
        self.n_waiting -= 1
        if not future.cancelled():
            future.exception()  # said to the client, if it still waits

    async def _acknowledged(self, sent: Sequence[asyncio.Future[object]]) -> tuple[set[asyncio.Future[object]], str]:
        """Return those that were acknowledged in time, and why others were not."""
        if not sent:
            return set(), ""
        done, _ = await asyncio.wait(sent, timeout=self._settings.gateway.acknowledge_s)
        failed = {future for future in done if future.cancelled() or future.exception() is not None}
        names = sorted({type(future.exception()).__name__ for future in failed if not future.cancelled()})
        return done - failed, ", ".join(names) or "no answer yet"

    def _checked(self, kind: Kind, given: Any) -> Record:
        """Return a record as its topic takes it. Raises SchemaError."""
        if isinstance(given, Unparsed):
            raise Poison("record", f"record: {given.why}", "invalid_json")
        if not isinstance(given, dict):
            raise Poison("record", f"record: got {type(given).__name__}; send a JSON object", "invalid_field")
        fields = _MODELS[kind].model_fields
        if (unknown := next((name for name in given if name not in fields), None)) is not None:
            raise Poison(unknown[:64], f"{unknown[:64]}: unknown field; send only {', '.join(fields)}", "unknown_field")
        if kind == "items":
            return checked_item(given, self._trimmed)
        if kind == "users":
            profile = checked_profile(given, self._trimmed)
            self._check_user(profile.user_id)
            refuse_reserved_account(profile.merged_into or "", self._settings.lists)
            return profile
        now_ms = int(self._wall_clock() * 1000)
        known = {name: value for name, value in given.items() if value is not None}
        filled = {"event_id": str(uuid.uuid4()), "event_ts_ms": now_ms} | known
        event = checked_event(filled, self._settings.stream.future_skew_s, self._trimmed)
        self._check_user(event.user_id)
        return event

    def _check_user(self, user_id: str) -> None:
        if is_reserved(user_id, lists := self._settings.lists):
            reason = f"user_id: begins with {lists.shared_prefix}, which is for lists of no user (lists.shared_prefix); choose another id"
            raise Poison("user_id", reason, RESERVED_USER_ID)

    def _value(self, kind: Kind, record: Record) -> bytes:
        value = value_of(record)
        if len(value) > self._most_bytes[kind]:
            raise Poison("record", f"record: got {len(value)} bytes; send at most {self._most_bytes[kind]}", "too_large")
        return value

    def _count(self, kind: Kind, outcome: str, n: int) -> None:
        if n:
            self._metrics.posted.labels(kind, outcome).inc(n)


def _refusal(at: int, error: SchemaError) -> dict[str, Any]:
    return {"at": at, "field": error.field if isinstance(error, Poison) else "record", "error": str(error)}


def _none_is_good(outcome: Outcome, is_batch: bool) -> Problem:
    first = outcome.refused[0]
    if not is_batch:
        return Problem(422, first["error"], field=first["field"])
    return Problem(422, f"no record is good; the first: {first['error']}", field=first["field"], more={"refused": outcome.refused})


def answer_of(outcome: Outcome, kind: Kind) -> bytes:
    """Return the answer to records that were taken."""
    return orjson.dumps(outcome.figures(kind))
