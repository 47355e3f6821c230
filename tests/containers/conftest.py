"""Fixtures of the lane that needs a Docker engine: broker and Redis by testcontainers, and the compose file unchanged."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import TestStack
from tests.containers.engine import BUILD_TIMEOUT_S, Compose, why_no_engine
from workers.errors import WorkerError
from workers.kafka.connection import check_reachable
from workers.local.embedded import HOST, EmbeddedStack, free_port
from workers.settings import Settings, load_settings

KAFKA_IMAGE, REDIS_IMAGE = "apache/kafka:4.3.1", "redis:7"
START_TIMEOUT_S = 60.0
MIN_EVENTS = 600
"""Events after which the trainer of the compose file makes its first models."""


@pytest.fixture(scope="session", autouse=True)
def _engine() -> None:
    reason = why_no_engine()
    if reason is not None:
        pytest.skip(reason)


def until(condition: Callable[[], Any], what: str, timeout_s: float = START_TIMEOUT_S) -> Any:
    """Poll `condition` and return its first true result."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(0.1)
    return answer


@dataclass(frozen=True)
class Broker:
    """The address of a broker, as `TestStack` needs it."""

    bootstrap_servers: str


def kafka_variables(port: int) -> dict[str, str]:
    """Return the variables of one KRaft node that advertises `port` of this machine."""
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://localhost:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{HOST}:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_HEAP_OPTS": "-Xmx512m",
    }


@pytest.fixture(scope="session")
def stack(_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestStack]:
    """Start Apache Kafka and Redis from their public images instead of the embedded stack; workers run on this machine."""
    pytest.importorskip("testcontainers", reason="testcontainers is not installed: `make test-containers` brings it")
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # the fixture ends what it starts; no image beyond the two is pulled
    import redis
    from testcontainers.core.container import DockerContainer

    kafka_port, redis_port = free_port(), free_port()
    kafka = DockerContainer(KAFKA_IMAGE).with_envs(**kafka_variables(kafka_port))
    state = DockerContainer(REDIS_IMAGE)
    # through with_bind_ports they would listen on every interface
    kafka.ports["9092/tcp"] = (HOST, kafka_port)  # type: ignore[assignment]
    state.ports["6379/tcp"] = (HOST, redis_port)  # type: ignore[assignment]
    launcher = EmbeddedStack(tmp_path_factory.mktemp("containers"))  # never started: it runs the workers
    launcher.redis_url = f"redis://{HOST}:{redis_port}/0"
    launcher.bootstrap_servers = f"{HOST}:{kafka_port}"

    def redis_answers() -> bool:
        try:
            with redis.Redis.from_url(launcher.redis_url) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    with state, kafka:
        until(redis_answers, "Redis")
        until(lambda: broker_answers(launcher.settings()), "Kafka")
        try:
            yield TestStack(launcher, Broker(launcher.bootstrap_servers))  # type: ignore[arg-type]
        finally:
            launcher.stop_workers()


def broker_answers(settings: Settings) -> bool:
    """Return True if the broker lists its topics."""
    from workers.kafka.topics import describe

    try:
        check_reachable(settings.kafka)
        describe(settings)
    except WorkerError:
        return False
    return True


@dataclass(frozen=True)
class System:
    """The running compose file, and settings that reach it from this machine."""

    compose: Compose
    settings: Settings


@pytest.fixture(scope="module")
def system(_engine: None) -> Iterator[System]:
    """Run `docker compose up` with two stream workers, and remove everything but the image afterwards."""
    port = free_port()
    variables = {
        "RECSYS_KAFKA_PORT": str(port),
        "RECSYS_STREAM_WORKERS": "2",
        "RECSYS_TRAINER__MIN_EVENTS": str(MIN_EVENTS),
        "RECSYS_TRAINER__MIN_TARGETS": "100",
        "RECSYS_TRAINER__EVERY_S": "5",
    }
    compose = Compose(f"recsys-test-{uuid.uuid4().hex[:8]}", variables)
    with pytest.MonkeyPatch.context() as patch:
        for variable in [v for v in os.environ if v.startswith("RECSYS_")]:
            patch.delenv(variable)
        patch.setenv("RECSYS_CONFIG", os.devnull)
        settings = load_settings(kafka={"bootstrap_servers": f"{HOST}:{port}"})
    try:
        compose("build", "--quiet", timeout_s=BUILD_TIMEOUT_S)
        try:
            compose("up", "--detach", "--no-build", timeout_s=240.0)
        except BaseException:
            print(compose.logs())
            raise
        yield System(compose, settings)
    finally:
        compose("down", "--volumes", "--timeout", "5", "--remove-orphans")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the containers' logs to a failed test of the compose file."""
    report = yield
    running = getattr(item, "funcargs", {}).get("system")
    if report.failed and running is not None:
        report.sections.append(("docker compose logs", running.compose.logs()))
    return report
