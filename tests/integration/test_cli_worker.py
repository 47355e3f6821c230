"""A worker process ends in order when told to, and says in one line why it cannot go on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from workers.local.embedded import die_with_parent
from workers.settings import Settings

PROGRAM = """
import sys
from workers.cli import app as tree
from workers.cli.worker import run_app
from workers.errors import Fatal, SettingsError
from workers.runtime.faust_app import OrderlyService, WorkerApp
from workers.kafka.connection import faust_arguments
from workers.settings import load_settings


class Failing(OrderlyService):
    abstract = False

    @OrderlyService.task
    async def fail(self):
        while not app.consumer.assignment():
            await self.sleep(0.05)
        raise Fatal("the state is of another topic: use an empty namespace")


def build(settings):
    global app
    app = WorkerApp("probe", **faust_arguments(settings), web_enabled=False)
    if sys.argv[1] == "service":
        app.service(Failing)

    @app.agent(app.topic(settings.topics.events, value_serializer="raw"))
    async def take(stream):
        async for event in stream:
            pass

    @app.task
    async def main():
        print("started", flush=True)
        if sys.argv[1] == "fatal":
            raise Fatal("the state is of another topic: use an empty namespace")
        if sys.argv[1] == "settings":
            raise SettingsError("setting x: is wrong")

    return app


tree.app.command("probe")(lambda: run_app(build, load_settings(), level="warning"))
sys.exit(tree.run(["probe"]))
"""


@pytest.mark.parametrize(
    ("mode", "code", "line"),
    [("fatal", 1, "recsys: the state is of"), ("service", 1, "recsys: the state is of"), ("settings", 2, "recsys: setting x")],
)
def test_a_worker_that_cannot_go_on_says_so_and_leaves(
    mode: str, code: int, line: str, settings: Settings, worker_env: dict[str, str]
) -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, env=worker_env, timeout=180)
    assert run.returncode == code
    assert run.stderr.splitlines()[-1].startswith(line)
    assert "Traceback" not in run.stderr
    assert mode != "service" or "Error while" not in run.stderr, "nothing was cut off"


def test_a_worker_stops_with_code_0_on_sigterm(settings: Settings, worker_env: dict[str, str]) -> None:
    command = [sys.executable, "-c", PROGRAM, "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=worker_env, preexec_fn=die_with_parent()) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == "started\n"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0


@pytest.mark.slow
@pytest.mark.kafka
def test_the_stack_s_stream_worker_answers_an_event_with_a_list(stack: Any, settings: Settings, worker_env: dict[str, str]) -> None:
    from workers.client import EventPublisher
    from workers.lists.reader import newest_list

    worker = stack.embedded.start_worker("stream", worker_env)
    try:
        deadline = time.monotonic() + 60
        made = None
        with EventPublisher(settings) as publisher:
            for n in range(60):
                publisher.publish(user_id=f"u{n % 6}", item_id=f"i{n % 11}", type="play")
            # an empty list is right while nobody else's events have come: u1 has seen all items that there are
            while (made is None or not made.items) and worker.running and time.monotonic() < deadline:
                publisher.publish(user_id="u1", item_id="i1", type="play")
                publisher.flush()
                made = newest_list(settings, "u1")
        assert made is not None and made.items, worker.last_lines(20)
        assert not (Path(worker.log).read_text().count("Traceback"))
    finally:
        assert stack.embedded.stop_workers() == []
    assert worker.process.returncode == 0
