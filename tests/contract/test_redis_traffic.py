"""Bytes to and from a server are counted as the server itself counts them."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.contract.conftest import LAYOUT, redis_settings, start_server, stop_server
from workers.redis.store import RedisStore


async def test_bytes_and_commands_are_those_of_the_connection(tmp_path: Path) -> None:
    process, port = start_server(tmp_path)
    try:
        store = RedisStore(redis_settings(f"redis://127.0.0.1:{port}/0"))
        await store.open(LAYOUT)
        with redis.Redis(port=port) as client:
            before, ours = client.info("stats"), (store.traffic.sent_bytes, store.traffic.received_bytes, store.traffic.calls)
            await store.item_numbers([f"item-{n}" for n in range(2_000)])
            await store.serving()
            after = client.info("stats")
        sent, received = store.traffic.sent_bytes - ours[0], store.traffic.received_bytes - ours[1]
        said_in = after["total_net_input_bytes"] - before["total_net_input_bytes"]
        said_out = after["total_net_output_bytes"] - before["total_net_output_bytes"]
        assert sent > 20_000 and 0 <= said_in - sent < 200, "the rest is this test's own INFO"
        assert received > 2_000 and 0 <= said_out - received < 20_000
        assert store.traffic.calls - ours[2] == 2
        await store.close()
    finally:
        stop_server(process)
