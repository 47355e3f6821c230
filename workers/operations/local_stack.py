"""Runs broker, Valkey and workers on this machine, keeps their records in a folder, and starts again what ends.

    with LocalStack(folder, say=print) as stack:
        while not stopped.wait(0.5):
            stack.look()

The folder keeps `topics/` (all records), `valkey/` (the state, as an append-only file), `event-log/` and `models/` of the trainer, and one
log for each process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from filelock import FileLock, Timeout

from workers.bootstrap import local_redis
from workers.errors import Fatal, Transient, WorkerError
from workers.kafka.offsets import commit_offsets, committed_offsets
from workers.kafka.topics import TopicState, provision
from workers.local.embedded import Child, EmbeddedStack, environment, free_port, is_free
from workers.operations.kept_state import fit_event_log, fit_redis, move_aside
from workers.operations.local_logs import note_stack
from workers.operations.topic_journal import TopicJournal
from workers.operations.topic_keeping import OtherPartitions, TopicKeeper, newer_list, restore
from workers.settings import Settings, load_settings
from workers.storage import replace_file

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
STABLE_S = 60.0
"""A process that ran this long is started again after FIRST_BACKOFF_S; sooner, each wait is twice the one before."""
MAX_SERVER_RESTARTS = 5
FILL_ATTEMPTS = 6
BROKER_GRACE_S = 1.0
"""How often broker and Valkey are started again within STABLE_S of each other before the stack gives up."""
VALKEY_GRACE_S = 10.0
LOADING_TIMEOUT_S = 120.0  # of an append-only file: a gigabyte takes about 10 s
SHARED_EVERY_S = 10.0  # the list for everybody follows a stack that somebody tries out
WORKER_KILL_GRACE_S = 1.0  # without a broker a worker has nothing to finish


@dataclass
class Restarts:
    """Decides when a process that ended is started again."""

    started_s: float = field(default_factory=time.monotonic)
    in_a_row: int = 0
    due_s: float | None = None

    def ended(self) -> float:
        """The process ended now; return the seconds to wait before it is started again."""
        now = time.monotonic()
        self.in_a_row = 0 if now - self.started_s >= STABLE_S else self.in_a_row + 1
        wait_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(max(self.in_a_row - 1, 0), 10))
        self.due_s = now + wait_s
        return wait_s

    def started(self) -> None:
        """The process was started again."""
        self.started_s, self.due_s = time.monotonic(), None


class LocalStack:
    """The stack of `recsys up`. Start, look and stop from the main thread: children end with the thread that started them."""

    def __init__(
        self,
        folder: Path | None,
        *,
        say: Callable[[str], None],
        n_workers: int = 1,
        trainer: bool = True,
        dashboard: bool = False,
        broker_port: int | None = None,
        redis_port: int | None = None,
    ) -> None:
        self._say = say
        self._kinds = ["stream"] * n_workers + ["trainer"] * trainer + ["dashboard"] * dashboard
        self.servers = EmbeddedStack(folder, broker_port=broker_port, redis_port=redis_port)
        self.folder = self.servers.folder
        self._valkey_folder = self.folder / "valkey"
        self._sections: dict[str, Any] = {
            "trainer": {"log_url": str(self.folder / "event-log"), "model_url": str(self.folder / "models")},
        }
        if "shared_every_s" not in load_settings().lists.model_fields_set:
            self._sections["lists"] = {"shared_every_s": SHARED_EVERY_S}  # visitors have a list, too, unless somebody decided otherwise
        self._metrics_ports: list[int | None] = [None] * len(self._kinds)
        self.dashboard_url: str | None = None
        """Address of the dashboard; None without one."""
        if dashboard:
            self._show_on_dashboard()
        self._commits = self.folder / "commits.json"
        self._journal = TopicJournal(self.folder / "topics")
        self._keeper: TopicKeeper | None = None
        self._restarts: dict[str, Restarts] = {}
        self._lock = FileLock(self.folder / "lock", thread_local=False)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def settings(self) -> Settings:
        return self.servers.settings(**self._sections)

    @property
    def env(self) -> dict[str, str]:
        """The settings as environment variables."""
        return self.servers.env(**self._sections)

    def start(self) -> None:
        """Start the servers with what the folder keeps, then the workers. Raises Fatal with what to do."""
        self._take_folder()
        self._journal.open()
        with contextlib.suppress(OSError):  # only `recsys logs` without --folder reads it
            note_stack(self.folder)
        self._start_servers()
        self._fill_broker()
        self._start_workers()

    def _show_on_dashboard(self) -> None:
        """Choose the dashboard's port, and one for the metrics of each worker unless the settings name one."""
        chosen = load_settings()
        wanted = chosen.dashboard.port
        port = wanted if is_free(wanted) else free_port()
        if port != wanted:
            self._say(f"port {wanted} is taken, so the dashboard uses {port}")
        self.dashboard_url = f"http://127.0.0.1:{port}"
        if chosen.metrics.port:
            watched = [chosen.metrics.port]
        else:
            self._metrics_ports = [None if kind == "dashboard" else free_port() for kind in self._kinds]
            watched = [at for at in self._metrics_ports if at is not None]
        self._sections["dashboard"] = {"host": "127.0.0.1", "port": port, "workers": [f"http://127.0.0.1:{at}" for at in watched]}

    def _start_workers(self) -> None:
        for kind, port in zip(self._kinds, self._metrics_ports, strict=True):
            own = {} if port is None else environment({"metrics": {"port": port, "host": "127.0.0.1"}})
            child = self.servers.start_worker(kind, {**self.env, **own})
            self._restarts[child.name] = Restarts()

    def _take_folder(self) -> None:
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise Fatal(f"another `recsys up` uses {self.folder}: stop it, or choose another --folder") from None

    def _start_servers(self) -> None:
        self._valkey_folder.mkdir(exist_ok=True)
        self.servers.keep_valkey(self._valkey_folder)
        try:
            self.servers.start()
        except Fatal:
            if self.servers.valkey is not None or not any(self._valkey_folder.iterdir()):
                raise
            aside = move_aside(self._valkey_folder)
            self._say(f"valkey cannot read the kept state (see valkey.log), so workers make it again from the topics; it is in {aside} now")
            self._valkey_folder.mkdir()
            self.servers.start()
        self._wait_until_loaded()

    def _wait_until_loaded(self) -> None:
        deadline = time.monotonic() + LOADING_TIMEOUT_S
        with local_redis(self.servers.redis_url) as client:
            while True:
                try:
                    client.ping()
                    return
                except (redis.BusyLoadingError, redis.ConnectionError):
                    if time.monotonic() > deadline:
                        raise Fatal(f"valkey does not finish loading {self._valkey_folder}: look into valkey.log") from None
                    time.sleep(0.05)

    def _fill_broker(self) -> None:
        """Create the topics in an empty broker, restore their records, fit the state to them, and keep them from now on."""
        settings = self.settings
        topics = settings.topics
        for place in list(self._journal.ends):
            if place[0] == topics.recommendations:
                self._journal.compact(place, newer_list)
        states, n_records = self._restored()
        partitions = {name: state.partitions or 0 for name, state in states.items()}
        topic_id = states[topics.events].topic_id or ""
        if fit_redis(self.servers.redis_url, topics.events, topic_id, self._journal.ends):
            self._restore_commits(settings)
        else:
            self._say("the kept state was ahead of the kept topics (after a kill): workers make it again from the topics")
        if (aside := fit_event_log(self.folder / "event-log", topics.events, topic_id, self._journal.ends)) is not None:
            self._say(f"the event log did not fit the kept topics: it was moved to {aside}, and the trainer reads the topic again")
        if n_records:
            self._say(f"{n_records:,} kept records are in the topics again")
        self._keep_topics(partitions)

    def _restored(self) -> tuple[dict[str, TopicState], int]:
        """Create the topics and restore their records; return what the topics are, and the number of records.

        Clients of an earlier broker at this address may be faster: a topic that they ask for is made with other partitions, and what they
        send takes the places of kept records. Nothing is lost by another empty broker. Raises Fatal if they are faster each time."""
        for attempt in range(1, FILL_ATTEMPTS + 1):
            try:
                states = {state.spec.name: state for state in provision(self.settings)}
                partitions = {name: state.partitions or 0 for name, state in states.items()}
                return states, asyncio.run(restore(self.settings, self._journal, partitions))
            except OtherPartitions:
                raise
            except (Fatal, Transient) as error:
                problem, broker = error, self.servers.broker
            assert broker is not None
            if attempt < FILL_ATTEMPTS:
                self._say("a client used the broker before its topics were there: starting an empty one again")
                broker.stop(BROKER_GRACE_S)
                self.servers.start_again("broker")
        remedy = "stop the clients of this broker, such as a gateway, start `recsys up`, then start them again"
        raise Fatal(f"the broker at {self.servers.bootstrap_servers} cannot be filled ({problem}): {remedy}")

    def _restore_commits(self, settings: Settings) -> None:
        """Tell the broker what the workers had published when they stopped; after a kill nobody knows, and lists are sent again."""
        try:
            kept = {int(partition): int(offset) for partition, offset in json.loads(self._commits.read_bytes()).items()}
        except (OSError, ValueError, AttributeError):
            return
        finally:
            self._commits.unlink(missing_ok=True)
        ends, topic = self._journal.ends, settings.topics.events
        valid = {partition: offset for partition, offset in kept.items() if 0 <= offset <= ends.get((topic, partition), 0)}
        if valid:
            commit_offsets(settings, settings.stream.group_id, topic, valid)

    def _keep_commits(self) -> None:
        settings = self.settings
        with contextlib.suppress(WorkerError, OSError):
            offsets = committed_offsets(settings, settings.stream.group_id, settings.topics.events)
            replace_file(str(self._commits), json.dumps(offsets).encode())

    def _keep_topics(self, partitions: dict[str, int]) -> None:
        self._places = [(name, partition) for name, count in partitions.items() for partition in range(count)]
        self._keeper = TopicKeeper(self.settings, self._journal, self._places, self._say)
        self._restarts.setdefault("keeper", Restarts()).started()
        self._keeper.start()

    def look(self) -> None:
        """Start again what has ended, each with its own growing wait, and say so. Raises Fatal when a server does not stay up."""
        if self.servers.broker is not None and not self.servers.broker.running:
            self._restart_broker()
        if self.servers.valkey is not None and not self.servers.valkey.running:
            self._restart_valkey()
        self._look_at_keeper()
        for child in self.servers.workers:
            self._look_at_worker(child)

    def _look_at_worker(self, child: Child) -> None:
        restarts = self._restarts[child.name]
        if child.running:
            return
        if restarts.due_s is None:
            wait_s = restarts.ended()
            remedy = "; it goes on like this until the cause is mended" if restarts.in_a_row > 2 else ""
            self._say(f"{_ending(child)}: starting it again in {wait_s:.0f} s{remedy} (log: {child.log})")
        elif time.monotonic() >= restarts.due_s:
            child.start_again()
            restarts.started()

    def _restart_broker(self) -> None:
        """Start an empty broker on the same port and restore the topics; workers end first, for its topics are others."""
        broker = self.servers.broker
        assert broker is not None
        self._say(f"{_ending(broker)}: starting it again with the kept records; workers start again too")
        self._check_server("broker", broker)
        self.servers.stop_workers(WORKER_KILL_GRACE_S)
        self._stop_keeper(drain=False)
        self.servers.start_again("broker")
        self._fill_broker()
        self._start_workers()

    def _restart_valkey(self) -> None:
        valkey = self.servers.valkey
        assert valkey is not None
        self._say(f"{_ending(valkey)}: starting it again with the kept state")
        self._check_server("valkey", valkey)
        self.servers.start_again("valkey")
        self._wait_until_loaded()

    def _check_server(self, name: str, child: Child) -> None:
        restarts = self._restarts.setdefault(name, Restarts())
        restarts.ended()
        if restarts.in_a_row > MAX_SERVER_RESTARTS:
            raise Fatal(f"{name} does not stay up: its log {child.log} ends with: {child.last_lines(3)}")
        restarts.started()

    def _look_at_keeper(self) -> None:
        keeper, restarts = self._keeper, self._restarts["keeper"]
        if keeper is None or keeper.failure is None:
            return
        if restarts.due_s is None:
            wait_s = restarts.ended()
            self._say(f"records are not kept in {self.folder} now ({keeper.failure}): trying again in {wait_s:.0f} s")
        elif time.monotonic() >= restarts.due_s:
            self._keeper = TopicKeeper(self.settings, self._journal, self._places, self._say)
            restarts.started()
            self._keeper.start()

    def _stop_keeper(self, *, drain: bool) -> None:
        if self._keeper is not None:
            self._keeper.stop(drain=drain and self._keeper.failure is None)
            self._keeper = None

    def stop(self) -> None:
        """Stop the workers, keep what they still published, then stop broker and Valkey."""
        self.servers.stop_workers()
        if self.servers.broker is not None and self.servers.broker.running and self._keeper is not None:
            self._keep_commits()
            self._stop_keeper(drain=True)
        self._stop_keeper(drain=False)
        with contextlib.suppress(OSError):
            self._journal.close()
        if self.servers.valkey is not None:
            self.servers.valkey.stop(VALKEY_GRACE_S)
        self.servers.stop()
        self._lock.release()


def _ending(child: Child) -> str:
    code = child.process.returncode
    if code < 0:
        return f"{child.name} was killed by signal {-code}"
    last = child.last_lines(1).strip()
    return f"{child.name} ended with code {code}" + (f" ({last})" if last else "")
