"""`recsys up` keeps its data, starts again what ends, and README's first example works on it word for word (P2, P5, P9)."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import TestStack
from tests.integration.test_cli import started
from tests.integration.test_embedded_publisher import everything
from workers.client import EventPublisher
from workers.kafka.offsets import committed_offsets, end_offsets
from workers.kafka.topics import topic_specs
from workers.lists.reader import newest_list
from workers.local.embedded import die_with_parent, free_port, is_free
from workers.operations.kept_state import fit_redis
from workers.operations.lookup import show_user
from workers.settings import Settings, load_settings

README = Path(__file__).parents[2] / "README.md"
TIMEOUT_S = 240.0
pytestmark = [pytest.mark.timeout(420), pytest.mark.usefixtures("has_servers")]


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {TIMEOUT_S:.0f} s: {what}"
        time.sleep(0.3)
    return found


class Up:
    """A running `recsys up` and what it printed."""

    def __init__(self, process: subprocess.Popen[str], env_file: Path, outside: dict[str, str]) -> None:
        self.process, self._env_file, self._outside = process, env_file, outside
        self.lines: list[str] = []
        self._readers = [threading.Thread(target=self._read, args=(stream,)) for stream in (process.stdout, process.stderr)]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any) -> None:
        self.lines.extend(iter(stream.readline, ""))

    @property
    def env(self) -> dict[str, str]:
        until(lambda: self._env_file.exists() or self.process.poll() is not None, "the stack is up")
        assert self._env_file.exists(), self.lines
        return self._outside | dict(re.findall(r"export (\w+)='(.*)'", self._env_file.read_text()))

    @property
    def settings(self) -> Settings:
        sections: dict[str, dict[str, Any]] = {}
        for name, value in self.env.items():
            if (found := re.fullmatch(r"RECSYS_([A-Z]+)__(\w+)", name)) is not None:
                sections.setdefault(found[1].lower(), {})[found[2].lower()] = value
        return load_settings(**sections)

    def child(self, *words: str) -> psutil.Process:
        """The running child whose command line holds these words."""

        def found() -> psutil.Process | None:
            for child in psutil.Process(self.process.pid).children():
                if child.status() != psutil.STATUS_ZOMBIE and all(word in " ".join(child.cmdline()) for word in words):
                    return child
            return None

        return until(found, f"a child {words}")

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        for reader in self._readers:
            reader.join(10)
        return code


@contextmanager
def up(folder: Path, *arguments: str) -> Iterator[Up]:
    outside = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")} | {"RECSYS_CONFIG": os.devnull}
    env_file = folder.with_suffix(".env")
    env_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "workers.cli", "up", "--no-dashboard", "--folder", str(folder)]
    command += ["--env-file", str(env_file), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=outside, preexec_fn=die_with_parent()
    ) as process:  # it takes the usual ports: a test run that is killed must not leave it behind
        running = Up(process, env_file, outside)
        try:
            yield running
        finally:
            if process.poll() is None:
                running.end(signal.SIGINT)


def records(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """All records of all topics as they would be after a restart: of lists only how many users have one."""
    found = {}
    for spec in topic_specs(settings):
        held = everything(settings, spec.name)
        found[spec.role] = sorted((r.partition, r.offset, r.timestamp, r.key, r.value) for r in held)
        if spec.role == "recommendations":
            found[spec.role] = sorted({(r.key,) for r in held})
    return found


def snippet(language: str, holding: str) -> str:
    return next(code for code in re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.S) if holding in code)


def run_snippet(code: str, running: Up) -> str:
    """Run one of README's programs as it stands; only a port that was taken is another one."""
    address = running.env["RECSYS_KAFKA__BOOTSTRAP_SERVERS"]
    program = code.replace("127.0.0.1:9092", address)
    assert address == "127.0.0.1:9092" or program != code
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=running._outside, timeout=120, check=True
    ).stdout


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # kafka-python drops its sockets to a broker that dies
def test_readme_s_first_example_gives_a_list_and_everything_outlives_kills_and_restarts(tmp_path: Path) -> None:
    folder = tmp_path / "kept data"
    with up(folder, "--no-trainer") as first:
        if first.env["RECSYS_KAFKA__BOOTSTRAP_SERVERS"] != "127.0.0.1:9092":
            assert first.said("port 9092 is taken")
        run_snippet(snippet("python", "EventPublisher"), first)
        lines = _read_lists(snippet("python", "KafkaConsumer"), first)
        assert lines["u1"] == ["i2"], "the first list has items in it"
        assert sorted(lines["recsys:default"]) == ["i1", "i2"], "so has that of a visitor without any event"
        plain = first.env if first.said("is taken") else first._outside
        assert "Giant Steps" in started(plain, "lists", "get", "u1").stdout, "without exports where the usual ports are free"

        os.kill(first.child("worker", "stream").pid, signal.SIGKILL)
        until(lambda: first.said("stream-0 was killed by signal 9"), "a line about the worker")
        os.kill(first.child("valkey").pid, signal.SIGKILL)
        until(lambda: first.said("valkey was killed by signal 9"), "a line about Valkey")
        first.child("worker", "stream")
        _publish(first, "u2")
        os.kill(first.child("tansu").pid, signal.SIGKILL)
        until(lambda: first.said("kept records are in the topics again"), "a line about the broker")
        _publish(first, "u3")
        before = records(first.settings)
        time.sleep(1.0)  # what is promised: a kill costs at most the last second
        assert first.end(signal.SIGKILL) == -9
    assert not [line for line in first.lines if not line.startswith(("up: ", "no trainer", "in another shell", "then: "))]

    with up(folder, "--no-trainer") as second:
        assert {role: held for role, held in records(second.settings).items() if role != "recommendations"} | {
            "recommendations": before["recommendations"]
        } == before
        _publish(second, "u4")
        shown = asyncio.run(show_user(second.settings, "u1"))
        assert [row["item_id"] for row in shown["history"]].count("i1") >= 1
        another = subprocess.run(second.process.args, capture_output=True, text=True, env=second._outside, timeout=180)
        assert another.returncode == 1 and "another `recsys up` uses" in another.stderr
        assert second.end(signal.SIGINT) == 0

    with up(folder, "--no-trainer", "--workers", "0") as third:
        settings = third.settings
        held, events = records(settings), settings.topics.events
        assert {key for (key,) in held["recommendations"]} == {b"u1", b"u2", b"u3", b"u4", b"recsys:default"}
        assert len(held["events"]) == len(before["events"]) + 1 and held["items"] == before["items"]
        ends = {partition: end for (_, partition), end in end_offsets(settings, [events]).items() if end}
        assert committed_offsets(settings, settings.stream.group_id, events) == ends, "lists are not sent again after a clean stop"
        assert asyncio.run(show_user(settings, "u1")) == shown
        assert third.end(signal.SIGTERM) == 0


def _publish(running: Up, user_id: str) -> None:
    """An event of a user, and wait for the list that it makes."""
    settings = running.settings
    with EventPublisher(settings) as publisher:
        publisher.publish(user_id=user_id, item_id="i1", type="play")
    until(lambda: "i2" in listed_items(settings, user_id), f"the list of {user_id}")


def listed_items(settings: Settings, user_id: str) -> list[str]:
    found = newest_list(settings, user_id)
    return [] if found is None else [item.item_id for item in found.items]


def _read_lists(code: str, running: Up) -> dict[str, list[str]]:
    """The lists that README's reading program prints, until there is one of a user and a whole one of everybody; it never ends."""
    program = code.replace("127.0.0.1:9092", running.env["RECSYS_KAFKA__BOOTSTRAP_SERVERS"])
    lines: dict[str, list[str]] = {}
    command = [sys.executable, "-u", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=running._outside, preexec_fn=die_with_parent()) as reader:
        try:
            assert reader.stdout is not None
            for line in reader.stdout:
                key, _, listed = line.partition(" ")
                lines[key] = ast.literal_eval(listed)
                if "u1" in lines and len(lines.get("recsys:default", ())) == 2:
                    break
        finally:
            reader.kill()
    return lines


def test_a_port_that_was_asked_for_and_is_taken_is_one_line(tmp_path: Path) -> None:
    port = free_port()
    with up(tmp_path / "a", "--workers", "0", "--no-trainer", "--port", str(port), "--redis-port", str(free_port())) as first:
        assert first.env["RECSYS_KAFKA__BOOTSTRAP_SERVERS"] == f"127.0.0.1:{port}"
        assert not is_free(port)
        with up(tmp_path / "b", "--port", str(port)) as second:
            assert second.process.wait(60) == 1
    assert second.lines == [f"recsys: --port: port {port} is taken: choose another one, or leave the option out\n"]


def test_state_that_is_ahead_of_the_topics_is_emptied_and_any_other_follows_the_new_topic(stack: TestStack) -> None:
    import redis

    url = stack.embedded.redis_url.removesuffix("/0") + "/9"  # a database of its own: it may be emptied
    with redis.Redis.from_url(url) as client:
        client.set("{n:p3}:wm", "old:id:41")
        client.hset("{n.g2:g0}:wm", mapping={"3": "old:id:41", "n": "7"})
        client.set("{n:p3}:u:{a:p1}:wm", "a user's row")
        assert fit_redis(url, "events", "new", {("events", 3): 42})
        assert client.get("{n:p3}:wm") == b"new:41"
        assert client.hgetall("{n.g2:g0}:wm") == {b"3": b"new:41", b"n": b"7"}
        assert client.get("{n:p3}:u:{a:p1}:wm") == b"a user's row"
        assert not fit_redis(url, "events", "newer", {("events", 3): 41})
        assert client.dbsize() == 0
