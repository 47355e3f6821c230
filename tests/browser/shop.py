"""A small shop of made-up goods on the embedded stack, with a stream worker and a dashboard: for tests in a browser and for screenshots.

    python -m tests.browser.shop    runs it until Ctrl-C and prints its address
"""

from __future__ import annotations

import contextlib
import json
import random
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.client import EventPublisher
from workers.kafka.topics import provision
from workers.local.embedded import Child, EmbeddedStack, environment, free_port
from workers.settings import Settings

DEADLINE_S = 200.0
READER, ADMIN = "a-key-that-reads-only", "a-key-that-may-do-all"
SCRIPT = "<script>document.title='bad'</script>"
"""A user id and a title that must stay text."""
GOODS: Mapping[str, str] = {
    "coffee": "Espresso Nero · Ethiopia Guji · Decaf Lungo · Hand Grinder · Kettle · Moka Pot · Frother · Coffee Scale",
    "tea": "Sencha Spring · Assam · Rooibos Vanilla · Iron Teapot · Whisk · Oolong Alishan · Mint Garden · Tea Caddy",
    "books": "Quiet Harbour · Maps of Salt · Winter Kitchen · On Moss · Night Trains · Glass Orchard · Small Boats · Paper Cities",
    "garden": "Hand Fork · Watering Can · Seed Box Herbs · Pruning Shears · Clay Pots · Bee Hotel · Kneeling Pad · Plant Labels",
    "kitchen": "Carbon Steel Pan · Chef's Knife · Bread Tin · Walnut Board · Salad Spinner · Linen Towels · Pepper Mill · Cast Iron Pot",
    "music": "Blue Evening (LP) · Cello Suites · Harbour Sessions · Strings · Metronome · Piano Nocturnes · Recordings · Tambourine",
}
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR42mMQiQnQakpgsJmWN21fBQAbzATZtpJNQQAAAABJRU5ErkJggg=="


def items() -> list[dict[str, Any]]:
    """Return the catalogue; one title is markup."""
    found = []
    for category, titles in GOODS.items():
        for number, title in enumerate(titles.split(" · ")):
            item = {"item_id": f"{category}-{number}", "title": title, "categories": [category, "gifts"] if number % 3 == 0 else [category]}
            if category == "tea" and number == 0:
                item["categorical_attributes"] = {"image_url": PIXEL}
            found.append(item)
    found.append({"item_id": "odd/item?#", "title": SCRIPT, "categories": ["coffee", SCRIPT]})
    return found


def events(n_users: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    """Return what users did, in the order of time: each likes two categories."""
    draw, now_ms = random.Random(seed), int(time.time() * 1000)
    found: list[dict[str, Any]] = []
    for number in range(n_users):
        user_id = ("ada", "grace", SCRIPT)[number] if number < 3 else f"visitor-{number}"
        liked = draw.sample(sorted(GOODS), 2)
        for step in range(10):
            category = draw.choice(liked)
            kind = draw.choice(("view", "click", "click", "like", "purchase"))
            at_ms = now_ms - (n_users - number) * 60_000 - (10 - step) * 3_000
            item_id = f"{category}-{draw.randrange(8)}"
            found.append({"event_id": f"e{number}-{step}", "user_id": user_id, "item_id": item_id, "type": kind, "event_ts_ms": at_ms})
    return sorted(found, key=lambda event: event["event_ts_ms"])


@dataclass
class Shop:
    """A running shop."""

    stack: EmbeddedStack
    settings: Settings
    env: dict[str, str]
    url: str
    publisher: EventPublisher
    children: dict[str, Child] = field(default_factory=dict)

    def act(self, user_id: str, item_id: str, kind: str = "like") -> None:
        """Send one event from elsewhere."""
        self.publisher.publish(user_id=user_id, item_id=item_id, type=kind)
        self.publisher.flush()


def fetched(url: str, key: str | None = None) -> bytes:
    """Return what an address answers; nothing where it does not."""
    request = urllib.request.Request(url, headers={} if key is None else {"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            body: bytes = answer.read()
            return body
    except OSError:
        return b""


def until(condition: Callable[[], Any], what: str, child: Child | None = None) -> Any:
    """Wait until something holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        ended = "" if child is None else child.last_lines(15)
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}; {ended}"
        time.sleep(0.1)
    return found


@contextlib.contextmanager
def running_shop(*, keys: bool = False) -> Iterator[Shop]:
    """Run broker, Valkey, a stream worker and a dashboard, with the catalogue and what users did."""
    with EmbeddedStack() as stack:
        port, metrics_port = free_port(), free_port()
        given = [{"name": "reader", "key": READER, "scopes": ["read"]}, {"name": "operator", "key": ADMIN, "scopes": ["admin"]}]
        sections: dict[str, Any] = {
            "topics": {"partitions": 4},
            "lists": {
                "size": 40,
                "shared_every_s": 5,
                "rows": [
                    {"kind": "for_you", "size": 12},
                    {"kind": "because", "size": 10},
                    {"kind": "popular_now", "size": 10},
                    {"kind": "category", "category": "books", "size": 8},
                ],
            },
            "dashboard": {"port": port, "workers": [f"http://127.0.0.1:{metrics_port}"]},
            "gateway": {"keys": given if keys else []},
            "trainer": {"log_url": str(stack.folder / "event-log"), "model_url": str(stack.folder / "models")},
        }
        settings = stack.settings(**sections)
        provision(settings)
        env = {"OMP_NUM_THREADS": "1", **stack.env(**sections)}
        stream = stack.start_worker("stream", {**env, **environment({"metrics": {"port": metrics_port}})})
        dashboard = stack.start_worker("dashboard", env)
        with EventPublisher(settings) as publisher:
            for item in items():
                publisher.publish_item(item)
            publisher.publish_many(events())
            publisher.flush()
            shop = Shop(stack, settings, env, f"http://127.0.0.1:{port}", publisher, {"stream": stream, "dashboard": dashboard})
            until(lambda: b'"ready":true' in fetched(f"{shop.url}/ready"), "the dashboard is ready", dashboard)
            key = ADMIN if keys else None
            until(lambda: json.loads(fetched(f"{shop.url}/api/users/ada/page", key) or b"{}").get("list_id"), "ada has a list", stream)
            yield shop


def main() -> None:
    """Run it until Ctrl-C."""
    with running_shop() as shop, contextlib.suppress(KeyboardInterrupt):
        print(shop.url, flush=True)
        while all(child.running for child in shop.children.values()):
            time.sleep(0.5)
        print(*(f"{name}: {child.last_lines(20)}" for name, child in shop.children.items()), sep="\n")


if __name__ == "__main__":
    main()
