"""`recsys up` and `recsys demo`: everything on this machine."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from workers.cli.console import CommandFailed, tell, warn
from workers.errors import Fatal
from workers.runtime.text import visible

BROKER_PORT, REDIS_PORT = 9092, 6379  # what the settings name by default, so that other shells need no exports
LOOK_EVERY_S = 0.5  # how often the children are looked at


def up(
    workers: Annotated[int, typer.Option("--workers", "-w", help="Stream workers.", min=0, max=64)] = 1,
    trainer: Annotated[bool, typer.Option("--trainer/--no-trainer", help="Run a trainer too.")] = True,
    dashboard: Annotated[
        bool | None, typer.Option("--dashboard/--no-dashboard", help="Run the dashboard too [default: if the extra web is installed].")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Keeps all data between runs (a temporary one if left out).")] = None,
    env_file: Annotated[Path | None, typer.Option("--env-file", help="Write the settings of this stack there, as shell exports.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port of the broker [default: 9092 if free].", min=1, max=65_535)] = None,
    redis_port: Annotated[
        int | None, typer.Option("--redis-port", help="Port of Valkey [default: 6379 if free].", min=1, max=65_535)
    ] = None,
) -> None:
    """Start broker, Valkey, topics and workers on this machine; runs until Ctrl-C or SIGTERM, then stops all of it.

    What ends by itself is started again, with a growing wait. With --folder everything is kept: stop it and start it again with the same
    folder, and topics, lists, state, event log and models are there. A kill costs at most what was published in the last second.
    """
    from workers.operations.local_stack import LocalStack

    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    clients = {logging.getLogger(name): logging.getLogger(name).level for name in ("aiokafka", "kafka")}
    for client in clients:  # a broker that ends is said in one line of our own
        client.setLevel(logging.CRITICAL)
    previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ports = (_port(port, BROKER_PORT, "--port"), _port(redis_port, REDIS_PORT, "--redis-port"))
        stack = LocalStack(
            None if folder is None else folder.absolute(),
            say=lambda line: warn(f"up: {line}"),
            n_workers=workers,
            trainer=trainer,
            dashboard=_with_dashboard(dashboard),
            broker_port=ports[0],
            redis_port=ports[1],
        )
        with stack:
            _tell(stack.env, workers, trainer, stack.folder, env_file)
            if stack.dashboard_url is not None:
                tell(f"dashboard: {stack.dashboard_url} (ready within half a minute)")
                sys.stdout.flush()
            while not ended.wait(LOOK_EVERY_S):
                stack.look()
            warn("stopping …")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for client, level in clients.items():
            client.setLevel(level)


def _with_dashboard(chosen: bool | None) -> bool:
    """Return whether to run the dashboard. Raises Fatal where it was asked for and cannot run."""
    from workers.cli.worker import missing_for_web

    missing = missing_for_web()
    if chosen and missing:
        raise Fatal(f"the dashboard needs the extra `web`: {', '.join(missing)} missing: run `pip install 'recsys-stream[web]'`")
    return not missing if chosen is None else chosen


def _port(chosen: int | None, usual: int, option: str) -> int | None:
    """Return the port to take, None for any free one. Raises Fatal when the chosen one is taken."""
    from workers.local.embedded import is_free

    if is_free(chosen or usual):
        return chosen or usual
    if chosen is not None:
        raise Fatal(f"{option}: port {chosen} is taken: choose another one, or leave the option out")
    warn(f"up: port {usual} is taken, so another one is used: set what is printed below in the other shell")
    return None


def _tell(env: dict[str, str], workers: int, trainer: bool, folder: Path, env_file: Path | None) -> None:
    exports = "".join(f"export {name}={_quoted(value)}\n" for name, value in sorted(env.items()))
    tell(f"up: broker {env['RECSYS_KAFKA__BOOTSTRAP_SERVERS']}, {env['RECSYS_REDIS__URL']}, {workers} stream workers")
    tell(f"{'trainer on' if trainer else 'no trainer'}; logs in {folder}; Ctrl-C stops it")
    if env_file is None:
        tell("in another shell:")
        typer.echo(exports, nl=False)
    else:
        _write_whole(env_file, exports)
        tell(f"in another shell: . {_quoted(str(env_file))}")
    tell("then: recsys events publish FILE · recsys lists get USER · recsys doctor")
    sys.stdout.flush()


def _quoted(value: str) -> str:
    """Return a word for a shell that shows every character: a folder may be called anything."""
    if visible(value) == value:
        return "'" + value.replace("'", "'\\''") + "'"
    return "$'" + "".join({"\\": "\\\\", "'": "\\'"}.get(character, visible(character)) for character in value) + "'"


def _write_whole(path: Path, text: str) -> None:
    """A script that waits for the file never reads a part of it; a device or a pipe is written to as it is."""
    from workers.storage import replace_file

    if path.exists() and not path.is_file():
        path.write_text(text, "utf-8")
    else:
        replace_file(str(path.absolute()), text.encode())


def demo(
    events: Annotated[int | None, typer.Option("--events", help="Only the first N ratings (at least 5,000).", metavar="N")] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Events a second of the paced part (default: by the training time).", metavar="R")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="For logs, event log and models (a temporary one if left out).")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object on the last line.")] = False,
    stay: Annotated[bool, typer.Option("--stay", help="Go on with a dashboard until Ctrl-C, and print a homepage's address.")] = False,
    browser: Annotated[bool, typer.Option("--browser", help="With --stay, open that homepage in the browser.")] = False,
) -> None:
    """MovieLens 100K through broker, state, trainer and lists on this machine, with figures at the end."""
    from workers.demo.run import run_demo

    if stay:
        _with_dashboard(True)
    code = run_demo(folder=folder, n_events=events, rate=rate, as_json=as_json, keep=keep, stay=stay, open_browser=browser)
    if code:
        raise CommandFailed(code)
