"""The gateway as a process beside a stream worker, on a real broker and a real Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import TestStack
from tests.integration.test_stream import DEADLINE_S, workers
from tests.integration.test_stream_outages import own_valkey
from workers.client import StateReader
from workers.kafka.topics import provision
from workers.local.embedded import Child, environment, free_port
from workers.settings import load_settings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


class Served:
    """A running gateway and a client of it."""

    def __init__(self, child: Child, client: httpx.AsyncClient) -> None:
        self.child, self.client = child, client

    async def until(self, path: str, holds: Callable[[httpx.Response], bool]) -> httpx.Response:
        """Ask until the answer is right."""
        deadline, answer = time.monotonic() + DEADLINE_S, None
        while time.monotonic() < deadline:
            assert self.child.running, self.child.last_lines(20)
            try:
                answer = await self.client.get(path)
            except httpx.TransportError:
                answer = None
            if answer is not None and holds(answer):
                return answer
            await asyncio.sleep(0.02)
        raise AssertionError(f"{path}: never right; last {answer and answer.text}; {self.child.last_lines(10)}")


    async def post(self, path: str, records: Any) -> None:
        """Post records until all are acknowledged."""
        deadline = time.monotonic() + DEADLINE_S
        while (answer := await self.client.post(path, json=records)).status_code == 503:
            assert time.monotonic() < deadline, answer.text
            await asyncio.sleep(0.1)
        assert answer.status_code == 202 and not answer.json()["refused"], answer.text


@asynccontextmanager
async def gateway_of(stack: TestStack, env: Mapping[str, str]) -> AsyncIterator[Served]:
    port = free_port()
    child = stack.start_worker("gateway", {**env, "RECSYS_GATEWAY__PORT": str(port)})
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60.0) as client:
        yield Served(child, client)
        child.process.terminate()
        assert child.process.wait(20) == 0, child.last_lines(20)


def listed(answer: httpx.Response) -> list[str]:
    return [place["item_id"] for place in answer.json()["items"]] if answer.status_code == 200 else []


async def test_what_is_posted_changes_lists_counts_once_and_comes_back_after_redis(
    stack: TestStack, sections: dict[str, Any], worker_env: dict[str, str], tmp_path: Path
) -> None:
    sections["lists"] = {"shared_every_s": 3600, "size": 5}
    settings = load_settings(**sections)
    provision(settings)
    path, play = "/v1/users/u1/lists", {"event_id": "e1", "user_id": "u1", "item_id": "i0", "type": "play"}
    with own_valkey(tmp_path / "own") as server:
        env = {**worker_env, **environment({"lists": sections["lists"]}), **server.env}
        with workers(stack, env):
            async with gateway_of(stack, env) as served:
                await served.until("/live", lambda answer: answer.status_code == 200)
                await served.post("/v1/items", [{"item_id": f"i{number}"} for number in range(4)])
                default = await served.until(path, lambda answer: len(listed(answer)) == 4)
                assert default.json()["is_default"] is True

                for _ in range(2):
                    await served.post("/v1/events", play)
                made = await served.until(path, lambda answer: set(listed(answer)) == {"i1", "i2", "i3"})
                trigger = made.json()["trigger"]
                assert made.json()["is_default"] is False and trigger["source_offset"] >= 0
                assert trigger["event_id"] in ("e1", None)  # None: the list was put off, or made again as the catalogue came
                await served.post("/v1/events", {**play, "event_id": "e2", "item_id": "i1"})
                await served.until(path, lambda answer: set(listed(answer)) == {"i2", "i3"})
                with StateReader(server.settings_of(settings)) as reader:
                    history = (await asyncio.to_thread(reader.user, "u1")).history  # after the second e1, which is before e2
                assert [(one.item_id, one.touches) for one in history] == [("i1", 1), ("i0", 1)]

                wanted = {"items": [{"item_id": "i0", "type": "play"}, {"item_id": "i1", "type": "play"}]}
                await served.until("/ready", lambda answer: answer.status_code == 200)
                on_request = await served.until(path + "?limit=1&exclude=i2", lambda answer: listed(answer) == ["i3"])
                assert on_request.json()["on_request"] is True
                session = await served.client.post("/v1/sessions/lists", json=wanted)
                assert set(listed(session)) == {"i2", "i3"}, session.text
                explained = await served.client.get("/v1/explain/u1/i0")
                assert explained.json()["item"]["absence"]["kind"] == "seen", explained.text

                await served.post("/v1/items", {"item_id": "i2", "available": False})
                await served.until(path, lambda answer: listed(answer) == ["i3"])

                assert (await served.client.get("/ready")).status_code == 200
                server.kill()
                away = await served.until(path, lambda answer: answer.status_code == 503)
                assert away.headers["retry-after"] == "1" and (await served.client.get("/ready")).status_code == 503
                server.start_again()
                await served.until(path, lambda answer: listed(answer) == ["i3"])
                await served.until("/ready", lambda answer: answer.status_code == 200)
