"""Fixtures shared by all lanes: one stack for the whole run, fresh topics and a fresh Redis namespace for every test.

The broker is the embedded one; with RECSYS_TEST_KAFKA=home (`make test-kafka`) it is a real Apache Kafka from KAFKA_HOME.
The state is in the embedded Valkey; with RECSYS_TEST_REDIS=cluster (`make test-cluster`) it is in a Redis Cluster of three primaries.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # before numpy is loaded: threads of several test processes wait for each other and spin

# ruff: noqa: E402
import contextlib
import importlib.util
import itertools
import shutil
import socket
import uuid
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from kafka.net.inet import KafkaNetSocket
from kafka.net.selector import NetworkSelector

from recsys.jit import compile_in_turns
from tests import forked
from tests.kafka_home import KafkaHome
from tests.redis_cluster import RedisCluster
from workers.kafka.topics import provision
from workers.local.embedded import Child, EmbeddedStack, Fatal, broker_binary, environment, valkey_binary
from workers.runtime.compile_turns import turn
from workers.settings import Settings, load_settings

hypothesis_settings.register_profile("ci", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.register_profile("nightly", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

compile_in_turns(turn)  # test processes need the same loops at the same time

os.environ.pop("COLUMNS", None)  # parallel test processes get 80 columns, which would wrap tables

TEST_PARTITIONS = 4
KEPT_VARIABLES = ("RECSYS_TEST_KAFKA", "RECSYS_TEST_REDIS", "RECSYS_DATA")


def pytest_configure(config: pytest.Config) -> None:
    """Have pytest-xdist hand out groups in the order below, not by their number of tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give the tests of a file to one process: what it trains, generates and parses is made once. Slow ones are handed out one by one."""
    if item.get_closest_marker("xdist_group") is None and item.path.parent.name not in ("integration", "fault"):
        item.add_marker(pytest.mark.xdist_group(str(item.path.relative_to(item.config.rootpath))))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with those that may take longest, then the other slow ones: they wait for servers while others compute."""

    def order(item: pytest.Item) -> tuple[float, bool]:
        timeout = item.get_closest_marker("timeout")
        return -float(timeout.args[0]) if timeout is not None else 0.0, item.get_closest_marker("slow") is None

    items.sort(key=order)


class TestStack:
    """The broker and Redis of this test run, and the settings that reach them."""

    __test__ = False

    def __init__(self, embedded: EmbeddedStack, kafka: KafkaHome | None, cluster: RedisCluster | None = None) -> None:
        self.embedded, self.kafka, self.cluster = embedded, kafka, cluster
        self._numbers = itertools.count()

    @property
    def folder(self) -> Path:
        return self.embedded.folder

    @property
    def redis_url(self) -> str:
        return self.cluster.url if self.cluster is not None else self.embedded.redis_url

    @property
    def bootstrap_servers(self) -> str:
        return self.kafka.bootstrap_servers if self.kafka is not None else self.embedded.bootstrap_servers

    def settings_overrides(self) -> dict[str, Any]:
        overrides = self.embedded.settings_overrides()
        overrides["kafka"] |= {"fetch_max_wait_ms": 20}  # less costs a quarter of a core for each worker
        if self.kafka is not None:
            overrides["kafka"] |= {"bootstrap_servers": self.kafka.bootstrap_servers, "idempotence": True, "fetch_max_wait_ms": 100}
        if self.cluster is not None:
            overrides["redis"] |= {"url": self.cluster.url, "cluster": True}
        return overrides

    def start_worker(self, kind: Literal["stream", "trainer", "gateway"], env: Mapping[str, str]) -> Child:
        """Fork `recsys worker KIND` from a process that has imported everything; `stack.embedded.stop_workers()` ends it.

        `stack.embedded.start_worker` starts the same command in 4 s: for tests of the start itself.
        """
        name = f"forked-{kind}-{next(self._numbers)}"
        child = forked.spawner().start_command(kind, name, {**os.environ, **self.embedded.env(), **env}, self.folder / f"{name}.log")
        self.embedded.workers.append(child)
        return child


def fresh_sections(stack: TestStack, folder: Path) -> dict[str, Any]:
    """Return setting sections with names that no other test uses: topics, groups, Redis namespace, log and model folders."""
    name = uuid.uuid4().hex[:10]
    sections = stack.settings_overrides()
    sections["topics"] |= {
        role: f"t{name}.{role}"
        for role in ("events", "items", "users", "recommendations", "models", "dead_letters", "similar", "bought_together", "trending")
    } | {"partitions": TEST_PARTITIONS}
    sections["redis"] |= {"namespace": f"t{name}"}
    sections["state"] = {"item_groups": 4}
    sections["stream"] = {"group_id": f"t{name}-stream"}
    sections["trainer"] = {"app_id": f"t{name}-trainer", "log_url": str(folder / "log"), "model_url": str(folder / "models")}
    return sections


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the developer's own RECSYS_… variables and recsys.toml."""
    for variable in [v for v in os.environ if v.startswith("RECSYS_") and v not in KEPT_VARIABLES]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("RECSYS_CONFIG", os.devnull)


@pytest.fixture(scope="session", autouse=True)
def _no_socket_is_forgotten() -> Iterator[None]:
    """Close sockets that kafka-python 3.0 leaves open when a connection is refused or its client closes, such as one that shakes hands
    or has something to send then: warnings are errors here."""
    connect, close = KafkaNetSocket.sock_connect, NetworkSelector.close
    opened = weakref.WeakKeyDictionary[NetworkSelector, list[socket.socket]]()

    async def connecting(self: KafkaNetSocket, net: NetworkSelector, sock: socket.socket, *rest: Any, **options: Any) -> socket.socket:
        kept = opened.setdefault(net, [])
        kept[:] = [one for one in kept if one.fileno() >= 0] + [sock]
        try:
            return await connect(self, net, sock, *rest, **options)
        except BaseException:
            sock.close()
            raise

    def closing(self: NetworkSelector) -> None:
        close(self)
        for sock in opened.pop(self, []):
            sock.close()

    with mock.patch.object(KafkaNetSocket, "sock_connect", connecting), mock.patch.object(NetworkSelector, "close", closing):
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_forked_process_is_left() -> Iterator[None]:
    yield
    forked.close()


@pytest.fixture(scope="session")
def has_servers() -> None:
    """Skip where the embedded servers are not installed."""
    try:
        broker_binary(), valkey_binary()
    except Fatal as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, has_servers: None) -> Iterator[TestStack]:
    """Start broker and Redis for the whole run."""
    with contextlib.ExitStack() as running:
        embedded = running.enter_context(EmbeddedStack(tmp_path_factory.mktemp("stack")))
        cluster = kafka = None
        if os.environ.get("RECSYS_TEST_REDIS") == "cluster":
            cluster = running.enter_context(RedisCluster(tmp_path_factory.mktemp("cluster")))
        if os.environ.get("RECSYS_TEST_KAFKA") == "home":
            home = os.environ.get("KAFKA_HOME")
            if not home or not (Path(home) / "bin" / "kafka-server-start.sh").exists():
                pytest.skip("KAFKA_HOME names no Apache Kafka")
            if shutil.which("java") is None:
                pytest.skip("Apache Kafka needs Java 17, and there is no java on the PATH")
            kafka = running.enter_context(KafkaHome(Path(home).resolve(), tmp_path_factory.mktemp("kafka")))
        yield TestStack(embedded, kafka, cluster)


@pytest.fixture
def sections(stack: TestStack, tmp_path: Path) -> dict[str, Any]:
    """Return the sections behind `settings`, for a test that changes some: `load_settings(**sections)`. No topics are created."""
    return fresh_sections(stack, tmp_path)


@pytest.fixture
def settings(sections: dict[str, Any]) -> Settings:
    """Return settings with names of this test alone, whose topics exist."""
    made = load_settings(**sections)
    provision(made)
    return made


@pytest.fixture
def worker_env(sections: dict[str, Any], settings: Settings) -> dict[str, str]:
    """Return the environment in which a child process sees exactly `settings`."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
    return {**outside, "RECSYS_CONFIG": os.devnull, **environment(sections)}


@pytest.fixture(scope="session")
def redis_url(stack: TestStack) -> str:
    return stack.redis_url


def has_module(name: str) -> bool:
    """Return True if a module can be imported, without importing it."""
    return importlib.util.find_spec(name) is not None
