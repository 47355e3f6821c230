"""`recsys demo`: the whole system on this machine, fed with MovieLens 100K, and what it did in figures.

Everything reported is measured from the outside: from what the demo sent to Kafka and what it read from Kafka, by this machine's clock.
A list counts for an event only if the demo had read it before it sent the event.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from workers.client import EventPublisher, PublishError
from workers.demo.input import DemoInput, movielens_input
from workers.demo.interruption import Interruption, deaf
from workers.demo.report import Narrator, figures_table, header, models_table
from workers.demo.session import Demo, DemoFailed, Outcome, choose_rate, judge, shortfall
from workers.demo.stay import ROWS, Stay
from workers.demo.tail import Tail
from workers.errors import WorkerError
from workers.kafka.topics import provision
from workers.local.embedded import EmbeddedStack
from workers.local.processes import left_over
from workers.runtime.text import json_text, visible
from workers.settings import Settings

CACHE = Path(".data")
MIN_EVENTS = 5_000  # fewer leave nothing to train on, and nothing to hold out
LEAVE_S = 1.0  # a failed demo waits so long for what it published
TRAIN_MAX_S = 15.0  # of one model: the demo shows the way, not the last digit
TRAIN_OPTIONS = {"sasrec": {"patience": 2}, "recipe": {"cases": 600, "searched": 0, "judged": 600}}


def play(
    source: DemoInput,
    folder: Path,
    narrator: Narrator,
    *,
    rate: float | None = None,
    interruption: Interruption | None = None,
    stay: Stay | None = None,
    **trainer: Any,
) -> Outcome:
    """Run the demo on a stack of its own in `folder`, print what it did, and stop all of it; with `stay` only after Ctrl-C. `trainer`
    overrides trainer settings.

    Raises: DemoFailed, or another WorkerError where something could not even start.
    """
    n_rest = len(source.ratings) - source.n_first
    with ExitStack() as leaving:
        stack = EmbeddedStack(folder)
        leaving.callback(_stop, stack, narrator)
        with narrator.stage("starting broker, Valkey, a stream worker and a trainer") as stage:
            started_s = time.time()
            stack.start()
            sections: dict[str, Any] = {
                "trainer": {
                    "log_url": str(folder / "event-log"),
                    "model_url": str(folder / "models"),
                    "min_events": source.n_first,
                    "every_events": max(n_rest // 8, 1),
                    "every_s": 3600.0,
                    "flush_s": 1.0,
                    "max_seconds": TRAIN_MAX_S,
                    "options": TRAIN_OPTIONS,
                    **trainer,
                },
                **({} if stay is None else {"lists": {"rows": ROWS}}),
            }
            settings = stack.settings(**sections)
            provision(settings)
            env = {"OMP_NUM_THREADS": "1", **stack.env(**sections)}
            for kind in ("stream", "trainer"):
                stack.start_worker(kind, {**env, **(stay.worker_env() if stay is not None and kind == "stream" else {})})
            tail = Tail(settings)
            leaving.callback(tail.close)
            tail.start()
            publisher = leaving.enter_context(_publisher(settings))
            stage.note(f"logs in {folder}")
        demo = Demo(source, stack, settings, narrator, publisher, tail, interruption or Interruption(), started_s=started_s)
        bulk = demo.bulk()
        first_training_s = demo.first_models()
        pace = demo.paced(rate or choose_rate(n_rest, first_training_s))
        outcome = demo.outcome(bulk, pace)
        narrator.say()
        narrator.show(models_table(outcome.announcements, demo.taken_up(pace)))
        demo.show_homepages()
        narrator.show(figures_table(bulk, outcome.paced, outcome.freshness, outcome.hits, outcome.seconds))
        if stay is not None:
            if (what := shortfall(outcome)) is not None:
                narrator.say(f"not as it should be: {what}")
            stay.run(stack, env, demo.homepage_users(), narrator)
        return outcome


@contextmanager
def _publisher(settings: Settings) -> Iterator[EventPublisher]:
    """Return a publisher that is flushed at the end, and left at once when the demo failed or was interrupted: nobody reads its records."""
    publisher = EventPublisher(settings)
    try:
        yield publisher
    except BaseException:
        with suppress(PublishError):
            publisher.close(LEAVE_S)
        raise
    publisher.close()


def _stop(stack: EmbeddedStack, narrator: Narrator) -> None:
    """Stop all children and look whether any is left."""
    children = [child for child in (stack.broker, stack.valkey, *stack.workers) if child is not None]
    with deaf(), narrator.stage("stopping everything") as stage:
        stack.stop()
        left = left_over(child.process.pid for child in children)
        if left:
            raise DemoFailed(f"{len(left)} processes are still there: {left}")
        stage.note(f"{len(children)} processes ended, none left")


@contextmanager
def _alone() -> Iterator[None]:
    """Without this process's own RECSYS_ settings, which are for another system."""
    held = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("RECSYS_")}
    os.environ["RECSYS_CONFIG"] = os.devnull
    try:
        yield
    finally:
        del os.environ["RECSYS_CONFIG"]
        os.environ.update(held)


def run_demo(
    *,
    folder: Path | None = None,
    n_events: int | None = None,
    rate: float | None = None,
    as_json: bool = False,
    keep: bool = False,
    stay: bool = False,
    open_browser: bool = False,
    cache: Path | str = CACHE,
) -> int:
    """The demo on MovieLens 100K; returns the exit code: 0, 1 with one line on standard error, or 130 after Ctrl-C.

    `n_events`: number of ratings (at least 5,000). `rate`: events a second of the paced part; chosen from how long the first
    training took if left out. Logs, event log and models are in `folder`; in a temporary one they are removed at the end unless `keep` or a
    failure. `stay`: go on with a dashboard until Ctrl-C, whose page `open_browser` opens; the ratings then end now, and a shortfall is said
    without failing.
    `as_json`: the figures as one JSON object on the last line of standard output.
    """
    narrator = Narrator()
    if n_events is not None and n_events < MIN_EVENTS:
        return _failed(f"--events: at least {MIN_EVENTS:,}, or there is nothing to train on", 2)
    if rate is not None and not rate > 0:
        return _failed("--rate: a number of events a second above 0", 2)
    place = Path(tempfile.mkdtemp(prefix="recsys-demo-")) if folder is None else folder.resolve()
    code, outcome, interruption = 1, None, Interruption()
    try:
        with _alone(), interruption.listening():
            narrator.show(header(stays=stay))
            source = movielens_input(cache, n_events, narrator.say)
            source = source.until(int(time.time() * 1000)) if stay else source
            narrator.say()
            held = Stay(open_browser) if stay else None
            outcome = play(source, place, narrator, rate=rate, interruption=interruption, stay=held)
            if not stay:
                judge(outcome)
            code = 0
    except KeyboardInterrupt:
        code = _failed("interrupted; everything is stopped", 130)
    except WorkerError as error:
        code = _failed(" ".join(str(error).split()), 1)
    if folder is None and code == 0 and not keep:
        shutil.rmtree(place, ignore_errors=True)
    else:
        narrator.say(f"logs, event log and models are in {place}")
    if as_json and outcome is not None:
        sys.stdout.write(json_text({**outcome.as_json(), "ok": code == 0 and shortfall(outcome) is None}) + "\n")
        sys.stdout.flush()
    return code


def _failed(line: str, code: int) -> int:
    print(f"demo: {visible(line)}", file=sys.stderr)
    return code
