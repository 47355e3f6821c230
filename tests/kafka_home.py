"""A real Apache Kafka for the tests: one KRaft node or several, from the scripts and jars under KAFKA_HOME (Java 17)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from workers.local.embedded import HOST, Child, free_port

START_TIMEOUT_S = 60.0


def wait_until_listening(server: Child, port: int) -> None:
    """Wait until a server accepts connections. Raises: RuntimeError with the end of its log, after killing it, when it does not."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.running:
        try:
            with socket.create_connection((HOST, port), 0.5):
                return
        except OSError:
            time.sleep(0.05)
    tail = server.last_lines(10)
    server.kill()
    raise RuntimeError(f"{server.name} did not come up: {tail}")


class KafkaHome:
    """One node in `folder`, formatted and started; its log survives `kill` and `start`.

    `quorum`: controller port of every node of a cluster, by node id; a single node is its own quorum. A node stops by SIGKILL, because
    a graceful stop waits for the quorum.
    """

    def __init__(
        self,
        home: Path,
        folder: Path,
        *,
        node: int = 1,
        quorum: Mapping[int, int] | None = None,
        cluster_id: str | None = None,
        listeners: Sequence[str] = (),
        more: Mapping[str, object] | None = None,
    ) -> None:
        """`listeners`: additional ones, such as `SASL_SSL://localhost:9093`; `more`: properties that replace the usual ones."""
        self.home, self.folder, self.node = home, folder, node
        self.folder.mkdir(parents=True, exist_ok=True)
        self._quorum = dict(quorum or {node: free_port()})
        self.listeners, self._more = list(listeners), dict(more or {})
        self.port, self.controller_port = free_port(), self._quorum[node]
        self.bootstrap_servers = f"{HOST}:{self.port}"
        self.child: Child | None = None
        self._format(cluster_id or new_cluster_id(home))

    def _env(self) -> dict[str, str]:
        return {**os.environ, "KAFKA_HEAP_OPTS": "-Xmx512m", "LOG_DIR": str(self.folder / "logs")}

    def _format(self, cluster_id: str) -> None:
        file = self.folder / "server.properties"
        replicas = min(3, len(self._quorum))
        settings = {
            "process.roles": "broker,controller",
            "node.id": self.node,
            "controller.quorum.voters": ",".join(f"{node}@{HOST}:{port}" for node, port in self._quorum.items()),
            "listeners": ",".join([f"PLAINTEXT://{HOST}:{self.port}", f"CONTROLLER://{HOST}:{self.controller_port}", *self.listeners]),
            "advertised.listeners": ",".join([f"PLAINTEXT://{HOST}:{self.port}", *self.listeners]),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": ",".join(
                f"{name}:{name}" for name in ("PLAINTEXT", *(listener.partition(":")[0] for listener in self.listeners))
            )
            + ",CONTROLLER:PLAINTEXT",
            "log.dirs": self.folder / "log",
            "num.partitions": 1,
            "offsets.topic.num.partitions": 4,
            "min.insync.replicas": min(2, replicas),
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": min(2, replicas),
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": min(2, replicas),
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1_000,
            "auto.create.topics.enable": "false",
            "broker.session.timeout.ms": 4000,  # a killed node waits this long for its own old session
            "log.retention.ms": -1,
            **self._more,
        }
        file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        script = self.home / "bin" / "kafka-storage.sh"
        subprocess.run([script, "format", "-t", cluster_id, "-c", file], check=True, capture_output=True, env=self._env())

    def start(self) -> Self:
        """Start the node and wait until it accepts connections."""
        self.launch()
        return self.wait_until_up()

    def launch(self) -> None:
        """Start the node without waiting: a node of several is up only when a majority is."""
        script = self.home / "bin" / "kafka-server-start.sh"
        self.child = Child.start("kafka", [script, self.folder / "server.properties"], self.folder / "kafka.log", self._env())

    def wait_until_up(self) -> Self:
        """Wait until the node accepts connections. Raises: RuntimeError with the end of its log when it does not."""
        assert self.child is not None, "launched"
        wait_until_listening(self.child, self.port)
        return self

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


class KafkaNodes:
    """A cluster of several nodes, each broker and controller; topics may have three replicas with two in sync."""

    def __init__(self, home: Path, folder: Path, count: int = 3) -> None:
        cluster_id = new_cluster_id(home)
        quorum = {node: free_port() for node in range(1, count + 1)}
        self.nodes = {node: KafkaHome(home, folder / f"node-{node}", node=node, quorum=quorum, cluster_id=cluster_id) for node in quorum}
        self.bootstrap_servers = ",".join(node.bootstrap_servers for node in self.nodes.values())

    def __enter__(self) -> Self:
        with ExitStack() as started:
            for node in self.nodes.values():
                started.callback(node.kill)
                node.launch()
            for node in self.nodes.values():
                node.wait_until_up()
            started.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for node in self.nodes.values():
            node.kill()

    def wait_in_sync(self, topic: str) -> None:
        """Wait until every partition of a topic has all its replicas in sync. Raises: RuntimeError on timeout."""
        from kafka.admin import KafkaAdminClient
        from kafka.errors import KafkaError

        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                admin = KafkaAdminClient(bootstrap_servers=self.bootstrap_servers.split(","))
                try:
                    partitions = admin.describe_topics([topic])[0]["partitions"]
                finally:
                    admin.close()
                if partitions and all(len(p["isr_nodes"]) == len(p["replica_nodes"]) for p in partitions):
                    return
            except KafkaError:
                pass
            time.sleep(0.2)
        raise RuntimeError(f"the replicas of {topic} are not in sync again")


def new_cluster_id(home: Path) -> str:
    """Return an id for `kafka-storage.sh format`."""
    script = home / "bin" / "kafka-storage.sh"
    return subprocess.run([script, "random-uuid"], check=True, capture_output=True, text=True).stdout.split()[-1]
