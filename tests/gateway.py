"""A gateway on a store in memory, with clocks that stand still and an HTTP client, for tests of its routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson

from schemas import Item, Recommendations, encode
from tests.builders import TOPIC_ID, Fact, opened_pipeline, put_items, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.errors import Transient
from workers.runtime.status import WorkerStatus
from workers.settings import Settings
from workers.stream.catalogue_sync import CatalogueFollower
from workers.stream.pipeline import Pipeline
from workers.web.access import Clients
from workers.web.app import build_app
from workers.web.bridge import Bridge
from workers.web.explainer import Explainer
from workers.web.gateway_metrics import GatewayMetrics
from workers.web.guard import App
from workers.web.held_lists import HeldLists
from workers.web.live_state import LiveState
from workers.web.on_request import ListRequest, ListsOnRequest
from workers.web.parts import Parts
from workers.web.published import Body, PublishedLists
from workers.web.related_items import RelatedItems

NOW_S = 1_800_000_000
KEYS = {"reader": "read-read-read-read", "writer": "write-write-write-write", "admin": "admin-admin-admin-admin"}
"""Client ▸ key of `with_keys`."""


def with_keys(**gateway: Any) -> Settings:
    """Return settings with one client for each scope."""
    scopes = {"reader": ["read"], "writer": ["write"], "admin": ["admin"]}
    keys = [{"name": name, "key": key, "scopes": scopes[name]} for name, key in KEYS.items()]
    return small_settings(gateway={"keys": keys, **gateway}, related={"bought_together": True, "similar": True})


class Away(MemoryStore):
    """A store that answers nothing while `is_away`."""

    is_away = False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in ("changed_items", "open_read_only", "wanted_generation", "state_id") and self.is_away:

            async def refuse(*_: object) -> None:
                raise Transient("no Redis answers")

            return refuse
        return found


class FakeSender:
    """A broker in memory: it acknowledges at once, later, never, or takes nothing."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, bytes | None]] = []
        self.is_away = False
        self.takes = 1_000_000
        """Records that it takes before it takes no more."""
        self.waiting: list[asyncio.Future[object]] | None = None
        """What is not acknowledged, if it acknowledges nothing by itself."""

    async def send(self, topic: str, key: bytes, value: bytes | None) -> Awaitable[object]:
        """Take one record."""
        if self.is_away or self.takes <= 0:
            raise Transient("no Kafka broker answers")
        self.takes -= 1
        self.sent.append((topic, key, value))
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if self.waiting is None:
            future.set_result(None)
        else:
            self.waiting.append(future)
        return future


class GatewayWorld:
    """The parts of a gateway, the pipeline that writes its state, and the time."""

    def __init__(self, settings: Settings, pipeline: Pipeline, store: Away) -> None:
        self.settings, self.pipeline, self.store = settings, pipeline, store
        self.clock_s, self.wall_s, self.is_loaded = 1_000.0, float(NOW_S), True
        self.status, self._follower = WorkerStatus(), CatalogueFollower(pipeline.state)
        metrics = GatewayMetrics(self.status)
        self.held = HeldLists(settings.gateway.held_mb << 20)
        self.state = LiveState(settings, lambda: store, self.status, clock=self._clock)
        clocks: dict[str, Any] = {"wall_clock": lambda: self.wall_s}
        self.lists = ListsOnRequest(settings, self.state, metrics, clock=self._clock, **clocks)
        is_loaded: Callable[[], bool] = lambda: self.is_loaded  # noqa: E731
        published = PublishedLists(settings, self.held, self.state, metrics, is_loaded=is_loaded, make=self._made, **clocks)
        related = RelatedItems(settings, self.state, clock=self._clock, **clocks)
        self.sender = FakeSender()
        bridge = Bridge(settings, self.sender, metrics, **clocks)
        explainer = Explainer(settings, self.state, **clocks)
        clients = Clients(settings.gateway, self._clock)
        self.parts = Parts(settings, clients, metrics, self.status, published, related, bridge, self.lists, explainer)
        self.app: App = build_app(self.parts)
        self.source_offset = self.n_events = 0

    async def _made(self, user_id: str) -> Body:
        return await self.lists.make(ListRequest(user_id, self.settings.lists.size))

    def _clock(self) -> float:
        return self.clock_s

    async def put(self, *items: Item) -> None:
        """Store items as a stream worker does, which follows them, and let the gateway look again."""
        await put_items(self.pipeline, self.source_offset, *items)
        await self._follower.follow()
        self.source_offset += 1
        self.clock_s += 60.0

    async def happen(self, *facts: Fact) -> None:
        """Apply events of partition 0 to the state."""
        await self.pipeline.process({0: records_of(facts, self.n_events)})
        self.n_events += len(facts)
        self.clock_s += 60.0

    def publish(self, user_id: str, item_ids: Sequence[str], *, source_offset: int = 1, **more: Any) -> Recommendations:
        """Publish a list."""
        made = listed(user_id, item_ids, source_offset=source_offset, **more)
        self.held.put(user_id.encode(), encode(made))
        return made

    def client(self, key: str | None = None, **headers: str) -> httpx.AsyncClient:
        """Return a client that sends the key of a name of `KEYS`."""
        sent = {} if key is None else {"Authorization": f"Bearer {KEYS[key]}"}
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)  # type: ignore[arg-type]
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers={**sent, **headers})

    async def get(self, path: str, key: str | None = None, **headers: str) -> httpx.Response:
        """Send one GET."""
        async with self.client(key) as client:
            return await client.get(path, headers=headers)


@asynccontextmanager
async def gateway(settings: Settings | None = None, *, n_items: int = 4) -> AsyncIterator[GatewayWorld]:
    """Run a gateway on an empty state with some items."""
    chosen = with_keys() if settings is None else settings
    store = Away()
    pipeline = await opened_pipeline(store, chosen)
    await pipeline.assign([0, 1], TOPIC_ID)
    world = GatewayWorld(chosen, pipeline, store)
    if n_items:
        await world.put(*(Item(item_id=f"i{number}") for number in range(n_items)))
    try:
        yield world
    finally:
        store.is_away = False
        await world.state.close()


def listed(
    user_id: str,
    item_ids: Sequence[str],
    *,
    source_offset: int = 1,
    generated_ts_ms: int = NOW_S * 1000,
    rows: Mapping[str, Sequence[str]] | None = None,
    event_id: str | None = None,
    because: Sequence[str] = (),
) -> Recommendations:
    """Return a list, with rows of these names."""
    why: dict[str, Any] = {"reason": "because", "because": list(because)} if because else {}
    fields: dict[str, Any] = {
        "list_id": f"0-{source_offset}-{generated_ts_ms:x}",
        "user_id": user_id,
        "generated_ts_ms": generated_ts_ms,
        "trigger": {"event_id": event_id, "partition": 0, "source_offset": source_offset},
        "variant": "default",
        "items": [{"rank": rank, "item_id": item_id, "score": 1.0 / rank, **why} for rank, item_id in enumerate(item_ids, 1)],
    }
    if rows:
        shown = [
            {"name": name, "kind": "for_you", "title": name, "items": [{"item_id": item_id, "score": 1.0} for item_id in row]}
            for name, row in rows.items()
        ]
        fields |= {"schema_version": 2, "rows": shown}
    return Recommendations.model_validate_json(orjson.dumps(fields))


def ids(answer: httpx.Response) -> list[str]:
    """Return the ids of the items of an answer."""
    assert answer.status_code == 200, answer.text
    return [place["item_id"] for place in answer.json()["items"]]
