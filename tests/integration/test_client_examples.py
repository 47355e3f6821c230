"""The programs of docs/producers.md, as they are printed there, run against a broker: what they send is accepted, and they read lists."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import EventType, decode_event
from tests.integration.test_cli import made_list, publish_lists
from tests.integration.test_embedded_publisher import everything
from workers.kafka.partitioner import partition_for
from workers.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CLIENTS = Path(__file__).resolve().parents[2] / "examples" / "clients"
USERS = ["user-1", "user-2", "上原ひろみ", 'a "quoted\\" one']
INSTALL_S, RUN_S = 120, 60


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs for Node and the package that they import."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no node or no npm on the PATH")
    folder = tmp_path_factory.mktemp("node")
    for file in [*CLIENTS.glob("*.mjs"), CLIENTS / "package.json"]:
        shutil.copy(file, folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S)
    if installed.returncode:
        pytest.skip(f"npm could not install kafkajs: {(installed.stderr or installed.stdout).strip()[-200:]}")
    return folder


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The class path of the compiled program for Java."""
    jars = Path(os.environ.get("KAFKA_HOME", "")) / "libs"
    if shutil.which("javac") is None or not os.environ.get("KAFKA_HOME") or not jars.is_dir():
        pytest.skip("needs javac, and the jars of KAFKA_HOME")
    folder = tmp_path_factory.mktemp("java")
    command = ["javac", "-cp", f"{jars}/*", "-d", str(folder), str(CLIENTS / "Publish.java")]
    compiled = subprocess.run(command, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    return f"{folder}{os.pathsep}{jars}/*"


def environment(settings: Settings) -> dict[str, str]:
    topics = {"EVENTS_TOPIC": settings.topics.events, "LISTS_TOPIC": settings.topics.recommendations}
    return {**os.environ, **topics, "BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers}


def check_published(settings: Settings, command: list[str], folder: Path | None = None) -> None:
    """Run a program for each user, and check that workers would accept what it sent."""
    for at, user_id in enumerate(USERS):
        arguments = [*command, user_id, f"item {at}", "purchase"]
        done = subprocess.run(arguments, env=environment(settings), cwd=folder, capture_output=True, text=True, timeout=RUN_S)
        assert done.returncode == 0, done.stdout + done.stderr
    records = everything(settings, settings.topics.events)
    found = {}
    for record in records:
        event = decode_event(record.value, record.key, record_ts_ms=record.timestamp, future_skew_ms=60_000)
        assert record.partition == partition_for(record.key, settings.topics.partitions), event.user_id
        assert event.type is EventType.PURCHASE
        found[event.user_id] = event.item_id
    assert found == {user_id: f"item {at}" for at, user_id in enumerate(USERS)} and len(records) == len(USERS)
    assert len({record.partition for record in records}) > 1, "one partition says nothing of a partitioner"


def test_kafka_python_publishes_what_workers_accept(settings: Settings) -> None:
    check_published(settings, [sys.executable, str(CLIENTS / "publish.py")])


def test_librdkafka_publishes_what_workers_accept(stack: object, settings: Settings) -> None:
    if getattr(stack, "kafka", None) is None:
        pytest.skip("needs Apache Kafka: KAFKA_HOME=… make test-kafka")
    check_published(settings, [sys.executable, str(CLIENTS / "publish_librdkafka.py")])


def test_node_publishes_what_workers_accept(node_folder: Path, settings: Settings) -> None:
    check_published(settings, ["node", "publish.mjs"], node_folder)


def test_java_publishes_what_workers_accept(classes: str, settings: Settings) -> None:
    check_published(settings, ["java", "-Xshare:auto", "-cp", classes, "Publish"])


@pytest.fixture(params=["python", "node"])
def reader(request: pytest.FixtureRequest, settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """A running program that reads lists."""
    folder = request.getfixturevalue("node_folder") if request.param == "node" else None
    command = [sys.executable, str(CLIENTS / "read_lists.py")] if folder is None else ["node", "readLists.mjs"]
    group = f"group-{settings.topics.recommendations}-{request.param}"
    process = subprocess.Popen(
        [*command, group], env=environment(settings), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    ended = threading.Timer(RUN_S, process.kill)
    ended.start()
    yield process
    ended.cancel()
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


async def test_lists_are_read_and_removals_are_seen(reader: subprocess.Popen[str], settings: Settings) -> None:
    lists = [made_list(user_id, at, [f"i{at}", "i9"]) for at, user_id in enumerate(USERS)]
    await publish_lists(settings, [*lists, (USERS[0].encode(), None)])
    wanted = {f"{user_id} i{at} i9" for at, user_id in enumerate(USERS)} | {f"{USERS[0]} has no list any more"}
    assert reader.stdout is not None
    said = []
    while not wanted <= {line.strip() for line in said}:
        line = reader.stdout.readline()
        assert line, f"it ended after {said}"
        said.append(line)
