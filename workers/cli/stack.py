"""`recsys up` and `recsys demo`: everything on this machine."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from workers.cli.console import CommandFailed, tell, warn
from workers.errors import Fatal

LOOK_EVERY_S = 0.5  # how often the children are looked at


def up(
    workers: Annotated[int, typer.Option("--workers", "-w", help="Stream workers.", min=0, max=64)] = 1,
    trainer: Annotated[bool, typer.Option("--trainer/--no-trainer", help="Run a trainer too.")] = True,
    folder: Annotated[Path | None, typer.Option("--folder", help="For logs, event log and models (a temporary one if left out).")] = None,
    env_file: Annotated[Path | None, typer.Option("--env-file", help="Write the settings of this stack there, as shell exports.")] = None,
) -> None:
    """Start broker, Valkey, topics and workers on free local ports; runs until Ctrl-C or SIGTERM, then stops all of it.

    Everything in broker and Valkey is gone afterwards; the event log and the models stay in --folder.
    """
    from workers.embedded import EmbeddedStack
    from workers.topics import provision

    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    stack = EmbeddedStack(None if folder is None else folder.resolve())
    try:
        stack.start()
        sections = {"trainer": {"log_url": str(stack.folder / "event-log"), "model_url": str(stack.folder / "models")}}
        provision(stack.settings(**sections))
        env = stack.env(**sections)
        for _ in range(workers):
            stack.start_worker("stream", env)
        if trainer:
            stack.start_worker("trainer", env)
        _tell(env, workers, trainer, stack.folder, env_file)
        while not ended.wait(LOOK_EVERY_S):
            for child in stack.dead():
                raise Fatal(
                    f"{child.name} ended with code {child.process.returncode}; its log {child.log} ends with: {child.last_lines(3)}"
                )
        warn("stopping …")
    finally:
        stack.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _tell(env: dict[str, str], workers: int, trainer: bool, folder: Path, env_file: Path | None) -> None:
    exports = "".join(f"export {name}='{value}'\n" for name, value in sorted(env.items()))
    tell(f"up: broker {env['RECSYS_KAFKA__BOOTSTRAP_SERVERS']}, {env['RECSYS_REDIS__URL']}, {workers} stream workers")
    tell(f"{'trainer on' if trainer else 'no trainer'}; logs in {folder}; Ctrl-C stops it")
    if env_file is None:
        tell("in another shell:")
        typer.echo(exports, nl=False)
    else:
        _write_whole(env_file, exports)
        tell(f"in another shell: . {env_file}")
    tell("then: recsys events publish FILE · recsys lists get USER · recsys doctor")


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
) -> None:
    """MovieLens 100K through broker, state, trainer and lists on this machine, with figures at the end."""
    from workers.demo import run_demo

    code = run_demo(folder=folder, n_events=events, rate=rate, as_json=as_json, keep=keep)
    if code:
        raise CommandFailed(code)
