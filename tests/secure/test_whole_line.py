"""The whole line runs with exactly the rights of docs/security.md; a revoked right is named, and granting it again heals."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.secure.conftest import REDIS_PASSWORD, Run, Secured, password_of
from workers.kafka.admin import admin_client, missing_rights
from workers.kafka.rights import ROLES, Right, Role, kafka_rights, lacking
from workers.kafka.topics import provision
from workers.local.embedded import Child, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
WAIT_S = 120.0
N_ITEMS = 41
"""More than a user meets, so that the newest events hold items that are new to their users and a model can be judged."""


def wait_until(what: Callable[[], bool], why: Callable[[], str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, why()
        time.sleep(0.2)


class Worker:
    """A worker with its status port."""

    def __init__(self, secured: Secured, role: Role, level: str = "info", **more: Any) -> None:
        self.role, self.port = role, free_port()
        env = secured.env(role, metrics={"port": self.port}, **more)
        log = secured.folder / f"{role}-{self.port}.log"
        command = [sys.executable, "-m", "workers.cli", "worker", role, "--log-level", level]
        self.child = Child.start(role, command, log, env)

    def ready(self) -> tuple[bool, list[str]]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                said = json.load(error)
        except OSError:
            return False, ["it does not listen"]
        return said["ready"], said["reasons"]

    def wait_ready(self) -> None:
        wait_until(lambda: self.ready()[0], lambda: f"{self.ready()}: {self.child.last_lines(10)}")

    def wait_for_reason(self, text: str) -> None:
        wait_until(
            lambda: any(text in reason for reason in self.ready()[1]), lambda: f"{text}: {self.ready()}: {self.child.last_lines(10)}"
        )

    @property
    def said(self) -> str:
        return self.child.log.read_text()


@contextlib.contextmanager
def running(secured: Secured, role: Role, level: str = "info", **more: Any) -> Iterator[Worker]:
    worker = Worker(secured, role, level, **more)
    try:
        yield worker
    finally:
        worker.child.kill()


@pytest.fixture(scope="module")
def topics(secured: Secured) -> None:
    """Create the topics as the administrator."""
    for state in provision(secured.settings("admin")):
        assert state.problem is None, state


@pytest.fixture(scope="module")
def workers(secured: Secured, topics: None) -> Iterator[tuple[Worker, Worker]]:
    """Start a stream worker and a trainer and wait until they are ready."""
    with running(secured, "stream") as stream, running(secured, "trainer") as trainer:
        stream.wait_ready()
        trainer.wait_ready()
        yield stream, trainer


def test_each_right_taken_away_is_the_one_that_is_named(secured: Secured, topics: None) -> None:
    """S7, S9, S10: the check needs each of the rights and names it with its principal."""
    for role in ROLES:
        settings = secured.settings(role)
        needed = kafka_rights(settings, role)
        with admin_client(settings) as admin:
            assert lacking(admin, needed) == [], role
            for right in needed:
                if right.resource == "topic" and "leader" in right.name:
                    continue  # may not be there yet
                secured.take(role, right)
                try:
                    wait_until(lambda: right in lacking(admin, needed), lambda: f"{role}: {right} is not missed")  # noqa: B023
                    others = [other for other in lacking(admin, needed) if other.name != right.name]
                    assert others == [], f"{role}: {right}"
                finally:
                    secured.grant(role, right)
            wait_until(lambda: lacking(admin, needed) == [], lambda: role)  # noqa: B023
        assert missing_rights(settings, needed) == [], role


def events(n: int) -> str:
    rows = [
        {"user_id": f"u{i % 15}", "item_id": f"i{(i * 7 + i // 15) % N_ITEMS}", "type": "play", "event_ts_ms": 1_795_000_000_000 + i * 1000}
        for i in range(n)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_the_whole_line_runs_with_exactly_the_documented_rights(
    secured: Secured, workers: tuple[Worker, Worker], run: Run, tmp_path: Path
) -> None:
    """S10: topics, publish, stream worker, trainer, lists, doctor."""
    stream, trainer = workers
    items = "".join(json.dumps({"item_id": f"i{n}", "title": f"film {n}", "categories": ["drama"]}) + "\n" for n in range(N_ITEMS))
    for kind, text in (("items", items), ("events", events(400))):
        file = tmp_path / f"{kind}.jsonl"
        file.write_text(text)
        published = run("publisher", kind, "publish", str(file))
        assert published.code == 0, published

    def listed() -> bool:
        found = run("reader", "lists", "get", "u1", "--json")
        return found.code == 0 and bool(json.loads(found.out)["items"])

    wait_until(listed, lambda: stream.child.last_lines(20))
    wait_until(lambda: "workers.trainer.app: popular-000001: promoted" in trainer.said, lambda: trainer.child.last_lines(20))
    commands: tuple[tuple[Role, tuple[str, ...]], ...] = (
        *(("admin", ("topics", "create")), ("admin", ("topics", "list"))),
        *(("operator", ("dlq", "list")), ("operator", ("dlq", "redrive", "--all")), ("operator", ("users", "show", "u1"))),
        *(("operator", ("state", "verify")), ("operator", ("state", "rebuild")), ("operator", ("models", "list"))),
    )
    for role, command in commands:
        ran = run(role, *command)
        assert ran.code == 0, ran
    for finding in json.loads(run("admin", "doctor", "--json").out):
        assert finding["state"] != "wrong" and "denies" not in finding["text"], finding
    for worker in workers:
        assert " ERROR " not in worker.said and "Traceback" not in worker.said, worker.said
        assert "denies" not in worker.said, worker.said
        assert password_of(worker.role) not in worker.said and REDIS_PASSWORD not in worker.said


@pytest.mark.parametrize("resource", ["topic", "group"])
def test_running_workers_name_the_rights_they_lost_and_go_on_by_themselves_when_they_are_back(
    resource: str, secured: Secured, workers: tuple[Worker, Worker]
) -> None:
    """S7, S9: rights to read, to write and on groups, without a restart. Both workers lose theirs at once."""
    pids = [worker.child.process.pid for worker in workers]
    lost = [(worker, right) for worker in workers for right in rights_to_lose(secured, worker.role, resource)]
    for worker, right in lost:
        secured.take(worker.role, right)
    try:
        for worker, right in lost:
            worker.wait_for_reason(f"{right.operation} on {right.resource} {right.name}")
    finally:
        for worker, right in lost:
            secured.grant(worker.role, right)
    for worker, pid in zip(workers, pids, strict=True):
        worker.wait_ready()
        assert worker.child.running and worker.child.process.pid == pid
        assert f"User:{worker.role} lacks" in worker.said and "Traceback" not in worker.said, worker.said


def rights_to_lose(secured: Secured, role: Role, resource: str) -> list[Right]:
    """Return the rights on all groups of a role, or those on events and dead letters."""
    settings = secured.settings(role)
    chosen = [right for right in kafka_rights(settings, role) if right.resource == resource]
    return [right for right in chosen if resource == "group" or right.name in (settings.topics.events, settings.topics.dead_letters)]


def test_a_worker_without_rights_waits_for_them_and_starts_when_they_come(secured: Secured, topics: None, tmp_path: Path) -> None:
    """S3, S7: no Read right on the catalogue's group before the worker's first start, and no secret in its debug log."""
    more: dict[str, Any] = {"stream": {"group_id": "late"}, "redis": {"namespace": "rs"}}
    rights = [right for right in kafka_rights(secured.settings("stream", **more), "stream") if right.resource == "group"]
    catalogue = Right("group", "late-catalogue", "Read", "")
    secured.grant("stream", *(right for right in rights if right.name != catalogue.name))
    with running(secured, "stream", "debug", **more) as worker:
        worker.wait_for_reason("User:stream lacks Read on group late-catalogue")
        warned = [line for line in worker.said.splitlines() if "WARNING" in line and "late-catalogue" in line]
        assert 1 <= len(warned) <= 8, "it is said at growing intervals"
        secured.grant("stream", catalogue)
        worker.wait_ready()
        said = worker.said
        assert " DEBUG kafka" in said and "sasl_plain_password" in said
        assert password_of("stream") not in said and REDIS_PASSWORD not in said
