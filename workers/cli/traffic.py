"""`recsys traffic`: visitors of a made-up shop."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Annotated

import typer

from workers.cli.console import reachable_settings, tell


def traffic(
    per_second: Annotated[float, typer.Option("--per-second", help="Events a second.", min=0.01, max=10_000.0)] = 10.0,
    visitors: Annotated[int, typer.Option("--visitors", help="Visitors, named visitor-1, visitor-2, ….", min=1, max=1_000_000)] = 500,
    history: Annotated[int, typer.Option("--history", help="Earlier events, published first.", min=0, max=1_000_000)] = 5_000,
    count: Annotated[int | None, typer.Option("--count", help="End after this many events [default: at Ctrl-C].", min=0)] = None,
    seed: Annotated[int, typer.Option("--seed", help="Draws other visitors.", min=0)] = 0,
) -> None:
    """Publish what visitors of a made-up shop do, at a rate, until Ctrl-C: something to look at on a system without data.

    Its catalogue, some days of earlier events, then events of now go to the topics of the settings. Do not run it where real users are. All
    of it is made up, and nothing is downloaded.
    """
    from workers.client import EventPublisher
    from workers.demo.traffic import Shop, run_traffic

    stopped = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stopped.set()

    previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with EventPublisher(reachable_settings()) as publisher:
            done = run_traffic(
                publisher,
                Shop(visitors, seed),
                per_second=per_second,
                history=history,
                count=count,
                now_s=time.time,
                ended=stopped.wait,
                say=lambda line: tell(f"traffic: {line}"),
            )
        tell(f"traffic: {done:,} events are published")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
