"""A real Apache Kafka for the tests: one KRaft node from the scripts and jars under KAFKA_HOME (Java 17)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from workers.embedded import HOST, Child, free_port

START_TIMEOUT_S = 60.0


class KafkaHome:
    """Formats and starts one node in `folder`; `kill` and `start` again keep its log.

    Stops by SIGKILL: a graceful stop waits for the quorum.
    """

    def __init__(self, home: Path, folder: Path) -> None:
        self.home, self.folder = home, folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port, self.controller_port = free_port(), free_port()
        self.bootstrap_servers = f"{HOST}:{self.port}"
        self.child: Child | None = None
        self._format()

    def _env(self) -> dict[str, str]:
        return {**os.environ, "KAFKA_HEAP_OPTS": "-Xmx512m", "LOG_DIR": str(self.folder / "logs")}

    def _format(self) -> None:
        file = self.folder / "server.properties"
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{HOST}:{self.controller_port}",
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.folder / "log",
            "num.partitions": 1,
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "auto.create.topics.enable": "false",
            "broker.session.timeout.ms": 4000,  # how long a killed node waits for its own old session
            "log.retention.ms": -1,
        }
        file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        script = self.home / "bin" / "kafka-storage.sh"
        uuid = subprocess.run([script, "random-uuid"], check=True, capture_output=True, text=True, env=self._env()).stdout.split()[-1]
        subprocess.run([script, "format", "-t", uuid, "-c", file], check=True, capture_output=True, env=self._env())

    def start(self) -> Self:
        """Start the node and wait until it accepts connections."""
        script = self.home / "bin" / "kafka-server-start.sh"
        self.child = Child.start("kafka", [script, self.folder / "server.properties"], self.folder / "kafka.log", self._env())
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.child.running:
            try:
                with socket.create_connection((HOST, self.port), 0.5):
                    return self
            except OSError:
                time.sleep(0.05)
        tail = self.child.last_lines(10)
        self.child.kill()
        raise RuntimeError(f"Kafka under KAFKA_HOME did not come up: {tail}")

    def kill(self) -> None:
        """SIGKILL the node and everything its script started."""
        if self.child is not None:
            os.killpg(self.child.process.pid, signal.SIGKILL)
            self.child.process.wait()
            self.child = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
