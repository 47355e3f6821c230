"""`recsys worker stream | trainer | gateway`: runs one worker in this process until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import logging.config
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.console import settings
from workers.errors import Fatal, WorkerError
from workers.runtime.text import visible

if TYPE_CHECKING:
    from workers.kafka.rights import Role
    from workers.runtime.status import WorkerStatus
    from workers.settings import LogSettings, Settings

app = typer.Typer(help="Run a worker in this process.", no_args_is_help=True)
log = logging.getLogger(__name__)

FALSE_ALARMS = {
    "kafka.cluster": "Metadata refresh: failed Cancelled",
    "kafka.admin._groups": "Unable to decode member_",
    "kafka.net.selector": "Task <",  # a slow machine: its own thread waited for a processor
    "aiokafka.consumer.fetcher": "Not authorized to read from topic",  # once a partition and fetch; our own line says which right
}
"""Logger ▸ how its messages begin that are no problem, or one that is said in another line."""
QUIET = ("aiokafka", "kafka", "faust", "mode", "fsspec", "asyncio", "uvicorn")
FAUST_STOP_S = 12.0
"""What stopping may take besides the batch in hand (`stream.stop_timeout_s`): our own clients take 10 s at most."""
LogFormat = Annotated[
    str | None, typer.Option("--log-format", help="text, or json with ids hashed; `logs.format` if left out.", metavar="FORMAT")
]
LogLevel = Annotated[str, typer.Option(help="debug, info, warning or error.", metavar="LEVEL")]
DataFolder = Annotated[Path | None, typer.Option(help="Faust's own folder (a temporary one if left out); nothing in it has to be kept.")]


class NoFalseAlarms(logging.Filter):
    """Turns into debug messages what kafka-python logs as a problem and is none.

    A client that is closed cancels its own request for metadata: the trainer makes such clients once a minute, and closes them when they
    have answered. And the members of Faust's groups describe themselves in Faust's own format, which nobody here needs.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        beginning = FALSE_ALARMS.get(record.name)
        if beginning is not None and record.getMessage().startswith(beginning):
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
            return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
        return True


class PassingErrors(logging.Filter):
    """Turns into warnings what the Kafka clients log as errors: brokers that are away, and groups that move on. Both pass, and what does
    not is said by the worker itself, with its remedy."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno == logging.ERROR and record.name.partition(".")[0] in ("aiokafka", "kafka"):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            return logging.getLogger(record.name).isEnabledFor(logging.WARNING)
        return True


class OneLineErrors(logging.Filter):
    """Takes the traceback off our own errors, whose message says what to do, and off what libraries say while a worker stops or waits.

    With `libraries` off (the level is debug) theirs stay. An error of our own code always keeps its traceback.
    """

    def __init__(self, *, libraries: bool = True) -> None:
        super().__init__()
        self._libraries = libraries

    def filter(self, record: logging.LogRecord) -> bool:
        foreign = self._libraries and record.name.partition(".")[0] in QUIET
        if record.exc_info and (foreign or isinstance(record.exc_info[1], WorkerError)):
            record.exc_info = None
            record.exc_text = None
        return True


class VisibleFormatter(logging.Formatter):
    """Writes ids and other data in log lines as text; only the lines of a traceback stay lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(visible(line) for line in super().formatException(ei).split("\n"))


def logging_config(level: str, logs: LogSettings | None = None, role: str = "") -> dict[str, Any]:
    """Return the configuration of lines on standard error, by default for people; libraries speak from WARNING on unless `level` is
    debug. `role` names the worker in JSON lines."""
    from workers.runtime.log_lines import JsonLines
    from workers.settings import LogSettings

    logs = LogSettings() if logs is None else logs
    known = level.upper()
    if known not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise typer.BadParameter("the log level is one of debug, info, warning, error")
    libraries = known if known == "DEBUG" else "ERROR" if known == "ERROR" else "WARNING"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {
            "one_line": {"()": OneLineErrors, "libraries": libraries != "DEBUG"},
            "no_false_alarms": {"()": NoFalseAlarms},
            "passing": {"()": PassingErrors},
        },
        "formatters": {
            "plain": {"()": VisibleFormatter, "format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
            "json": {"()": JsonLines, "worker": role, "hash_key": logs.hash_key},
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stderr",
                "formatter": "json" if logs.format == "json" else "plain",
                "filters": ["no_false_alarms", "passing", "one_line"],
            }
        },
        "loggers": {name: {"level": libraries} for name in QUIET},
        "root": {"level": known, "handlers": ["stderr"]},
    }


def with_log_format(chosen: Settings, log_format: str | None) -> Settings:
    """Return the settings with the format of an option, if one was given."""
    if log_format is None:
        return chosen
    if log_format not in ("text", "json"):
        raise typer.BadParameter("the log format is text or json")
    return chosen.model_copy(update={"logs": chosen.logs.model_copy(update={"format": log_format})})


def run_worker(
    role: Role, build: Callable[[Settings, WorkerStatus], Any], chosen: Settings, *, level: str = "info", data_folder: Path | None = None
) -> None:
    """Wait until Kafka can be used, then run a worker, and answer /live, /ready and /metrics all the time. Raises what it crashed with."""
    from workers.kafka.startup import check_writable, wait_until_usable
    from workers.runtime.status import WorkerStatus
    from workers.runtime.status_server import StatusServer

    logging.config.dictConfig(logging_config(level, chosen.logs, role))
    if data_folder is not None:
        check_writable("--data-folder", str(data_folder))
    status, stop = WorkerStatus(), threading.Event()
    server = StatusServer(status, chosen.metrics, max_stall_s=chosen.health.max_age_s)
    server.start()
    try:
        with _until_told(stop):
            wait_until_usable(chosen, role, status, stop=stop)
        if not stop.is_set():
            run_app(lambda given: build(given, status), chosen, role=role, level=level, data_folder=data_folder)
    finally:
        server.stop()


@contextlib.contextmanager
def _until_told(stop: threading.Event) -> Iterator[None]:
    """Set `stop` at SIGTERM or Ctrl-C; the worker that starts afterwards has handlers of its own."""
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_app(
    build: Callable[[Settings], Any], chosen: Settings, *, role: str = "", level: str = "info", data_folder: Path | None = None
) -> None:
    """Build a Faust app and run it until a signal stops it. Raises the error that it crashed with."""
    from workers.runtime.event_loop import new_event_loop

    config = logging_config(level, chosen.logs, role)
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    with tempfile.TemporaryDirectory(prefix="recsys-faust-") as temporary:
        import faust

        faust_app = build(chosen)
        faust_app.conf.datadir = Path(temporary) if data_folder is None else data_folder
        deadline = _Deadline(chosen.stream.stop_timeout_s + FAUST_STOP_S)

        class Worker(faust.Worker):
            async def stop(self) -> None:
                deadline.start(self.crash_reason)
                await super().stop()

        worker = Worker(faust_app, loop=loop, logging_config=config, redirect_stdouts=False, quiet=True, loglevel=level.upper())
        worker.spinner = None
        starting = asyncio.ensure_future(worker.start(), loop=loop)
        try:
            loop.run_until_complete(starting)
        except asyncio.CancelledError:
            pass
        finally:
            starting.cancel()
            worker.on_worker_shutdown()
            try:
                worker.stop_and_shutdown()  # raises what the worker crashed with
            finally:
                deadline.cancel()


class _Deadline:
    """Ends the process when stopping takes too long: Faust may wait for ever for an answer from its own consumer, stopped in the middle of
    a rebalance. By then our services have stopped, or given up; what is not committed is applied again."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: threading.Timer | None = None

    def start(self, failure: BaseException | None) -> None:
        """Stopping begins, because of a failure or not."""
        if self._timer is None:
            self._timer = threading.Timer(self._seconds, self._end, [failure])
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """Stopped in time."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self, failure: BaseException | None) -> None:
        log.warning("not stopped after %.0f s: the process ends without the rest", self._seconds)
        if failure is not None:
            log.critical("%s", failure)
        logging.shutdown()
        os._exit(0 if failure is None else 1)


@app.command("stream")
def stream(log_level: LogLevel = "info", log_format: LogFormat = None, data_folder: DataFolder = None) -> None:
    """Turn events into state and lists. Run as many as there are cores, up to the number of partitions."""
    chosen = with_log_format(settings(), log_format)

    def build(given: Settings, status: WorkerStatus) -> Any:
        from workers.stream.app import build_stream

        return build_stream(given, status)

    run_worker("stream", build, chosen, level=log_level, data_folder=data_folder)


@app.command("trainer")
def trainer(log_level: LogLevel = "info", log_format: LogFormat = None, data_folder: DataFolder = None) -> None:
    """Keep the event log, retrain, judge, promote. Several may run; one leads."""
    chosen = with_log_format(settings(), log_format)

    def build(given: Settings, status: WorkerStatus) -> Any:
        from workers.trainer.app import build_trainer

        return build_trainer(given, status)

    from workers.kafka.startup import check_writable
    from workers.trainer.training_settings import check_training

    check_training(chosen)
    check_writable("setting trainer.log_url", chosen.trainer.log_url)
    check_writable("setting trainer.model_url", chosen.trainer.model_url)
    run_worker("trainer", build, chosen, level=log_level, data_folder=data_folder)


@app.command("gateway")
def gateway(
    log_level: LogLevel = "info",
    log_format: LogFormat = None,
    data_folder: Annotated[Path | None, typer.Option(help="Not used: a gateway keeps nothing.", hidden=True)] = None,
) -> None:
    """Answer HTTP requests: lists of users and items, and events into Kafka. Several may run side by side. Needs the extra `web`."""
    del data_folder
    chosen = with_log_format(settings(), log_format)
    _need_web("gateway")
    logging.config.dictConfig(logging_config(log_level, chosen.logs, "gateway"))
    from workers.web.server import run_gateway

    run_gateway(chosen)


@app.command("dashboard", hidden=True)
def dashboard(
    log_level: LogLevel = "info",
    log_format: LogFormat = None,
    data_folder: Annotated[Path | None, typer.Option(help="Not used: a dashboard keeps nothing.", hidden=True)] = None,
) -> None:
    """Show pages for people: figures, any user's homepage, models, the catalogue and dead letters. Needs the extra `web`.

    It is at 127.0.0.1:8080 unless dashboard.host and dashboard.port say otherwise, with the keys and scopes of gateway.keys.
    """
    del data_folder
    chosen = with_log_format(settings(), log_format)
    _need_web("dashboard")
    logging.config.dictConfig(logging_config(log_level, chosen.logs, "dashboard"))
    from workers.web.dashboard.server import run_dashboard

    run_dashboard(chosen)


def _need_web(what: str) -> None:
    missing = missing_for_web()
    if missing:
        raise Fatal(f"the {what} needs the extra `web` ({', '.join(missing)} missing): run `pip install 'recsys-stream[web]'`")


def missing_for_web() -> list[str]:
    """Return the packages of the extra `web` that are not installed."""
    return [name for name in ("fastapi", "uvicorn", "httptools", "jinja2") if importlib.util.find_spec(name) is None]
