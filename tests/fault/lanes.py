"""The shared broker, Valkey and spawner of all rounds of one lane."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.fault.registry import LaneName, Need
from tests.fault.worker_spawner import WorkerSpawner
from tests.kafka_home import KafkaHome
from workers.local.embedded import EmbeddedStack

SESSION_TIMEOUT_MS = {"embedded": 3_000, "kafka": 3_000}
"""How long a killed worker keeps its partitions."""


def kafka_home() -> Path | None:
    """An unpacked Apache Kafka that can run here, or None."""
    home = os.environ.get("KAFKA_HOME")
    if not home or shutil.which("java") is None or not (Path(home) / "bin" / "kafka-server-start.sh").exists():
        return None
    return Path(home).resolve()


class FaultLane:
    """`with FaultLane("embedded", folder) as lane`; `long`: storms and outages of a minute or two."""

    def __init__(self, name: LaneName, folder: Path, *, long: bool = False) -> None:
        self.name: LaneName = name
        self.folder, self.long = folder, long
        self.spawner = WorkerSpawner(folder)
        self._stack = EmbeddedStack(folder / "stack")
        self.kafka: KafkaHome | None = None

    @property
    def bootstrap_servers(self) -> str:
        return self._stack.bootstrap_servers if self.kafka is None else self.kafka.bootstrap_servers

    @property
    def redis_url(self) -> str:
        return self._stack.redis_url

    def can(self, need: Need) -> bool:
        if need in ("kafka", "three_brokers"):
            return self.name == "kafka"
        if need == "root":
            return os.geteuid() == 0
        return True

    def kafka_settings(self) -> dict[str, Any]:
        """The kafka section of every round, but for the address."""
        chosen: dict[str, Any] = {**self._stack.settings_overrides()["kafka"], "session_timeout_ms": SESSION_TIMEOUT_MS[self.name]}
        if self.kafka is not None:
            chosen |= {"idempotence": True, "fetch_max_wait_ms": 50}
        return chosen

    def __enter__(self) -> Self:
        try:
            self.spawner.__enter__()
            self._stack.start()
            if self.name == "kafka":
                home = kafka_home()
                if home is None:
                    raise RuntimeError("set KAFKA_HOME to an unpacked Apache Kafka (Java 17)")
                self.kafka = KafkaHome(home, self.folder / "kafka")
                self.kafka.start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        self.spawner.__exit__(None, None, None)
        if self.kafka is not None:
            self.kafka.kill()
        self._stack.stop()
