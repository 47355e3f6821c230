"""From held records to answers: items that may not be listed now are left out, and what is left is numbered again."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import xxhash

from workers.lists.shared_keys import default_key
from workers.settings import Settings
from workers.stream.serving_state import ServingState
from workers.web.gateway_metrics import GatewayMetrics
from workers.web.held_lists import HeldLists
from workers.web.live_state import LiveState
from workers.web.problems import Problem

_ID = re.compile(rb'"item_id":"([^"]*)"')
"""Ids of a record without escapes; that of an item which a row is about is among them. Parsing all of it takes four times as long."""


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of an answer and their tag."""

    content: bytes
    tag: str

    @classmethod
    def of(cls, content: bytes) -> Body:
        return cls(content, f'"{xxhash.xxh3_64_hexdigest(content)}"')


class Listable:
    """Says which items may be listed now: available, published, not expired, not removed. Items that nothing describes may."""

    def __init__(self, live: LiveState, wall_clock: Callable[[], float]) -> None:
        self._live, self._wall_clock = live, wall_clock
        self._key: tuple[int, int, int] | None = None
        self._may = b""
        """1 by number of item that may be listed at this second, else 0: bytes, since one of them is read faster than from an array."""

    def gone(self, state: ServingState, item_ids: Iterable[str]) -> set[str]:
        """Return those of some items that may not be listed."""
        now_s, catalogue = int(self._wall_clock()), state.engine.catalogue
        key = (self._live.n_changes, now_s, catalogue.n_items)
        if key != self._key:
            self._key, self._may = key, np.asarray(catalogue.recommendable(now_s)).tobytes()
        numbers, may = state.numbering.numbers, self._may
        return {item_id for item_id in item_ids if (number := numbers.get(item_id, -1)) >= 0 and number < len(may) and not may[number]}


class PublishedLists:
    """Answers with the newest published list of a user, or with the list for everybody."""

    def __init__(
        self,
        settings: Settings,
        held: HeldLists,
        state: LiveState,
        metrics: GatewayMetrics,
        *,
        is_loaded: Callable[[], bool],
        make: Callable[[str], Awaitable[Body]] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`make` makes a list of a user on request, where lists were dropped for want of memory."""
        self._make = make
        self._held, self._state, self._metrics, self._is_loaded = held, state, metrics, is_loaded
        self._listable = Listable(state, wall_clock)
        self._default_key, self._has_default = default_key(settings), settings.lists.shared_every_s > 0
        self._reserved = settings.lists.shared_prefix

    async def page(self, user_id: str) -> Body:
        """Return the list of a user and the rows of their page. Raises Problem, Transient."""
        state = await self._state.current()
        found = self._record(user_id)
        if found is None:
            assert self._make is not None
            return await self._make(user_id)
        record, is_default = found
        return Body.of(self._filtered(record, is_default, state))

    async def row(self, user_id: str, name: str) -> Body:
        """Return one row of a user's page. Raises Problem, Transient."""
        page = orjson.loads((await self.page(user_id)).content)
        rows = {row["name"]: row for row in page.get("rows", ())}
        if name not in rows:
            there = ", ".join(rows) or "none: set lists.rows"
            raise Problem(404, f"row: no row of this name on the page of this user; there are {there}", field="row")
        head = {key: page[key] for key in ("is_default", "user_id", "list_id", "generated_ts_ms")}
        return Body.of(orjson.dumps(head | {"row": rows[name]}))

    def _record(self, user_id: str) -> tuple[bytes, bool] | None:
        """Return a user's record, or that for everybody, and whether it is that one; None where it may be one that was dropped."""
        is_reserved = self._has_default and user_id.startswith(self._reserved)
        found = None if is_reserved and user_id == self._default_key else self._held.get(user_id)
        if found is not None:
            return found, False
        if not self._is_loaded():
            raise Problem(503, "published lists are still read from Kafka: try again", retry_after_s=1.0)
        if is_reserved and user_id != self._default_key and not self._held.n_dropped:
            raise Problem(404, f"user: no list under this key; keys that begin with {self._reserved} are of no user", field="user_id")
        if self._held.n_dropped and self._make is not None:
            return None
        shared = self._held.get(self._default_key)
        if shared is not None:
            return shared, True
        remedy = "it is made within seconds" if self._has_default else "set lists.shared_every_s, so that there is a list for everybody"
        raise Problem(404, f"user: no list of this user yet, and none for everybody; {remedy}", field="user_id")

    def _filtered(self, record: bytes, is_default: bool, state: ServingState) -> bytes:
        opening = b'{"is_default":%b,"on_request":false,' % (b"true" if is_default else b"false")
        ids = _ID.findall(record)
        if b"\\" not in record and not self._listable.gone(state, [one.decode() for one in ids]):
            return opening + record[1:]
        made = orjson.loads(record)
        return opening + orjson.dumps(self._without(made, self._listable.gone(state, _item_ids(made))))[1:]

    def _without(self, made: dict[str, Any], gone: set[str]) -> dict[str, Any]:
        items = _renumbered([place for place in made["items"] if place["item_id"] not in gone])
        self._metrics.filtered.inc(len(made["items"]) - len(items))
        kept = {**made, "items": items}
        if "rows" in made:
            rows = [{**row, "items": [place for place in row["items"] if place["item_id"] not in gone]} for row in made["rows"]]
            kept["rows"] = [row for row in rows if row["items"]]
        return kept


def _item_ids(made: Mapping[str, Any]) -> list[str]:
    """Return the ids of all items on a page."""
    rows = (place["item_id"] for row in made.get("rows", ()) for place in row["items"])
    return list(dict.fromkeys([*(place["item_id"] for place in made["items"]), *rows]))


def _renumbered(places: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**place, "rank": rank} for rank, place in enumerate(places, 1)]
