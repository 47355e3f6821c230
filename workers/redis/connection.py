"""One attempt at a batch of commands on one Redis or a Redis Cluster, and what its failures mean."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import hiredis
from redis import exceptions as failures
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from workers.errors import Fatal, SettingsError, Transient, WorkerError
from workers.redis.diagnosis import diagnose, lacking_right, tls_failure
from workers.redis.functions import Library
from workers.runtime.redaction import MaskedStr
from workers.runtime.tls import tls_context
from workers.settings import RedisSettings
from workers.state.sending import note_sent

Argument = str | bytes | int
TLS_TIMEOUT_S = 3.0
"""The same with TLS: a server that does not use it waits for more of the greeting, and says nothing."""
CONNECT_TIMEOUT_S = 5.0
"""A server that does not take a connection within this is away; longer waits are the caller's backoff."""
DIAGNOSE_S = 2.0
"""A connection that fails is diagnosed at most so often."""
MAX_REDIRECTIONS = 3
"""A slot that moved from where it was thought to be and is moving on already takes two."""
_CAUGHT = (
    failures.ConnectionError,
    failures.TimeoutError,
    failures.ResponseError,
    failures.ClusterError,
    failures.RedisClusterException,
    failures.InvalidResponse,
    OSError,
)


class Command(NamedTuple):
    """A command and one of the keys it names, which says the cluster node that serves it."""

    key: str
    args: tuple[Argument, ...]


def call(function: str, keys: Sequence[str], *args: Argument, read_only: bool = False) -> Command:
    """FCALL of a function by its server-side name."""
    return Command(keys[0], ("FCALL_RO" if read_only else "FCALL", function, len(keys), *keys, *args))


# Server's error code ▸ what it means and what to do. Codes that redis-py turns into classes carry them as `status_code`.
_TRANSIENT_CODES = {
    "LOADING": "is still loading its data: wait until it has",
    "READONLY": "is a replica, a failover may be under way: wait, or point redis.url at the primary",
    "CLUSTERDOWN": "cluster is down, a slot has no node: restore the missing node",
    "MASTERDOWN": "has lost its primary: restore it or promote a replica",
    "TRYAGAIN": "cluster is moving slots: wait until it has",
    "MOVED": "cluster is moving slots: wait until it has",
    "ASK": "cluster is moving slots: wait until it has",
    "OOM": "is out of memory: raise maxmemory or remove data (maxmemory-policy must be noeviction)",
    "BUSY": "is busy with a long function or script: wait, or end it with FUNCTION KILL",
    "NOREPLICAS": "has too few replicas for min-replicas-to-write: restore them",
    "MISCONF": "cannot write its snapshot to disk and refuses writes: free the disk, see its log",
}
_FATAL_CODES = {
    "WRONGTYPE": "holds a key of another type under this namespace: choose another redis.namespace",
    "CROSSSLOT": "refuses keys of several slots: report this as a defect",
}


LOGIN = "setting redis.password: Redis refuses the user or the password: set redis.username and redis.password, or redis.url"
NO_LOGIN = "setting redis.password: Redis wants a user or a password: set redis.username and redis.password, or redis.url"


def is_missing_function(result: Any) -> bool:
    return isinstance(result, failures.ResponseError) and "function not found" in str(result).lower()


def is_denied(error: BaseException) -> bool:
    """Whether the server refused a command or a key to this user, directly or inside a function."""
    return isinstance(error, failures.NoPermissionError) or (
        isinstance(error, failures.ResponseError) and "user executing the script can't" in str(error)
    )


def translate(error: BaseException, *, cluster: bool) -> WorkerError:
    """Transient or Fatal, with the remedy and without the server's words: they may quote arguments, which may be personal."""
    code = getattr(error, "status_code", None) or str(error).split(" ", 1)[0]
    if isinstance(error, failures.MovedError) and not cluster:
        return Fatal("Redis is a cluster: set redis.cluster to true")
    if code in _TRANSIENT_CODES:
        return Transient(f"Redis {_TRANSIENT_CODES[code]}")
    if code in ("WRONGPASS", "NOAUTH"):
        return SettingsError(LOGIN if code == "WRONGPASS" else NO_LOGIN)
    if code in _FATAL_CODES:
        return Fatal(f"Redis {_FATAL_CODES[code]}")
    if isinstance(error, failures.AuthenticationError):
        return SettingsError(NO_LOGIN if "already authenticated" in str(error) or code == "NOAUTH" else LOGIN)
    if (handshake := tls_failure(error)) is not None:
        return handshake
    if isinstance(error, failures.RedisClusterException) and "cluster mode is not enabled" in str(error).lower():
        return Fatal("Redis is not a cluster: set redis.cluster to false")
    if is_missing_function(error):
        return Transient("Redis lost the function library between two calls: it is loaded again with the next call")
    if isinstance(error, (failures.TimeoutError, TimeoutError)):
        return Transient("Redis did not answer within redis.timeout_s: see its load and slow log")
    if isinstance(error, failures.ClusterError):
        return Transient("the Redis cluster is not reachable as a whole: see CLUSTER INFO")
    if isinstance(error, failures.ResponseError):
        if "unknown command" in str(error).lower() or "unknown subcommand" in str(error).lower():
            return Fatal("the server knows no functions: use Redis 7 or newer, or Valkey")
        said = code if code.isupper() else "an error"
        return Fatal(f"Redis refused a command with {said}: see the server's log, then run `recsys doctor`")
    return Transient(f"Redis is not reachable ({type(error).__name__}): check that it runs, redis.url and the network")


class _PackingMixin:
    """Commands encoded by hiredis: 0.1 µs an argument, where the connections of redis.asyncio take 2 µs in Python."""

    def pack_command(self, *args: Argument) -> list[bytes]:
        name, *rest = args
        words = name.split() if isinstance(name, (str, bytes)) else [name]  # redis-py names some commands in two words
        return [hiredis.pack_command((*words, *rest))]

    def pack_commands(self, commands: Iterable[Sequence[Argument]]) -> list[bytes]:
        return [self.pack_command(*args)[0] for args in commands]


class Servers:
    """The run ids of the servers that a link has met, by address. A server that was restarted or replaced may have lost writes that the
    caller relies on, and a pool connects again without a word: so a connection to another run is refused until `forget`."""

    def __init__(self) -> None:
        self._run_ids: dict[str, str] = {}

    def forget(self) -> None:
        """Take whatever server answers next."""
        self._run_ids.clear()

    def meet(self, address: str, run_id: str) -> None:
        """Raises ConnectionError when another run of the server was met at this address."""
        if self._run_ids.setdefault(address, run_id) != run_id:
            raise failures.ConnectionError("the server was restarted or replaced")


class _IntroducedMixin:
    """A connection that asks its server for its run id first, and says it whenever it is used: what was met may have been forgotten
    since, and connections outlive that."""

    servers: Servers
    _run_id: str | None = None

    async def on_connect_check_health(self: Any, check_health: bool = True) -> None:
        self._run_id = None
        await super().on_connect_check_health(check_health=check_health)  # type: ignore[misc]
        await self.send_command("INFO", "server", check_health=False)
        said = await self.read_response()
        text = said if isinstance(said, bytes) else str(said).encode()
        self._run_id = next((line[7:] for line in text.splitlines() if line.startswith(b"run_id:")), b"").decode()
        self._meet()

    async def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:
        if self.is_connected and self._run_id is not None:
            try:
                self._meet()
            except failures.ConnectionError:
                await self.disconnect(nowait=True)
                raise
        await super().send_packed_command(command, check_health=check_health)  # type: ignore[misc]
        if self._run_id is not None:  # not a command of the handshake
            note_sent()

    def _meet(self: Any) -> None:
        self.servers.meet(f"{getattr(self, 'host', '')}:{getattr(self, 'port', '')}", self._run_id)


def _connection_class(base: type[Any], servers: Servers) -> type[Any]:
    """A connection class (TCP, TLS or Unix socket) that encodes with hiredis and knows its server."""
    return type(f"Recsys{base.__name__}", (_PackingMixin, _IntroducedMixin, base), {"servers": servers})


def _seeds(text: str) -> list[ClusterNode] | None:
    """Nodes named by `redis.seeds`. Raises Fatal where one is not host:port."""
    nodes = []
    for place in filter(None, (part.strip() for part in text.split(","))):
        host, _, port = place.rpartition(":")
        if not host or not port.isdigit():
            raise SettingsError("setting redis.seeds: give host:port, separated by commas")
        nodes.append(ClusterNode(host.strip("[]"), int(port)))
    return nodes or None


def _tls_options(settings: RedisSettings) -> dict[str, str]:
    """The client's names of the certificate files. Raises SettingsError naming one that is wrong: the client would not say which."""
    if not settings.uses_tls:
        return {}
    tls_context("redis", settings)
    password = settings.ssl_key_password
    found = {
        "ssl_ca_certs": settings.ssl_ca_certs,
        "ssl_certfile": settings.ssl_certfile,
        "ssl_keyfile": settings.ssl_keyfile or settings.ssl_certfile,
        "ssl_password": None if password is None else MaskedStr(password.get_secret_value()),
    }
    return {name: str(value) if name != "ssl_password" else value for name, value in found.items() if value is not None}  # type: ignore[misc]


class Link:
    """A pool of connections. Nothing is retried but functions that the server does not know: they are loaded once, then called again."""

    def __init__(self, settings: RedisSettings, library: Library) -> None:
        self.library = library
        self.cluster = settings.cluster
        self.servers = Servers()
        self._settings = settings
        self._diagnosed_s = float("-inf")
        self._loading = asyncio.Lock()
        self._timeout_s = settings.timeout_s
        url = settings.url.get_secret_value()
        options: dict[str, Any] = {
            "protocol": 3,
            "socket_timeout": settings.timeout_s,
            "socket_connect_timeout": min(settings.timeout_s, TLS_TIMEOUT_S if settings.uses_tls else CONNECT_TIMEOUT_S),
            "retry": Retry(NoBackoff(), 0),
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        if settings.username is not None:
            options["username"] = settings.username
        if settings.password is not None:
            options["password"] = MaskedStr(settings.password.get_secret_value())
        options |= _tls_options(settings)
        try:
            if self.cluster:
                self._client: Any = RedisCluster.from_url(url, startup_nodes=_seeds(settings.seeds), **options)
                nodes = self._client.nodes_manager
                nodes.connection_kwargs["connection_class"] = _connection_class(nodes.connection_kwargs["connection_class"], self.servers)
                for node in nodes.startup_nodes.values():
                    node.connection_class = nodes.connection_kwargs["connection_class"]
            else:
                self._client = Redis.from_url(url, **options)
                pool = self._client.connection_pool
                pool.connection_class = _connection_class(pool.connection_class, self.servers)
        except (ValueError, failures.RedisClusterException):
            raise SettingsError("setting redis.url: not a Redis URL; write redis://host:port/0, rediss:// or unix:///path") from None

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Answers in the order of the commands. Raises Transient or Fatal for the first that failed; others may have been carried out."""
        results = await self._attempt(commands)
        missing = [i for i, result in enumerate(results) if is_missing_function(result)]
        if missing:
            await self.load()
            again = await self._attempt([commands[i] for i in missing])
            for i, result in zip(missing, again, strict=True):
                results[i] = result
        for command, result in zip(commands, results, strict=True):
            if isinstance(result, BaseException):
                raise await self._failure(result, command.args) from None
        return results

    async def _failure(self, error: BaseException, command: tuple[Argument, ...] | None = None) -> WorkerError:
        """Return what a failure means, after forgetting what it shows to be out of date."""
        await self._forget_topology(error)
        if is_denied(error):
            settings = self._settings
            user = settings.username or urlsplit(settings.url.get_secret_value()).username
            return lacking_right(str(error), user, command, settings.namespace, self.library.source)
        found = translate(error, cluster=self.cluster)
        if isinstance(found, Transient) and not isinstance(error, failures.ResponseError):
            now_s = time.monotonic()
            if now_s - self._diagnosed_s > DIAGNOSE_S:  # the client tells little of a connection that fails
                self._diagnosed_s = now_s
                return await asyncio.to_thread(diagnose, self._settings) or found
        return found

    async def one(self, key: str, *args: Argument) -> Any:
        return (await self.run([Command(key, args)]))[0]

    async def _attempt(self, commands: Sequence[Command]) -> list[Any]:
        if not commands:
            return []
        try:
            if self.cluster:
                await self._client.initialize()
                results = await self._send([(self._client.get_node_from_key(key), args) for key, args in commands])
                return await self._follow(commands, results)
            return await self._answers([args for _, args in commands])
        except _CAUGHT as error:
            raise await self._failure(error) from None

    async def _answers(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """What one server answers to commands sent at once. The client's own pipeline sets a timer for each answer and counts its calls."""
        pool, callbacks = self._client.connection_pool, self._client.response_callbacks
        connection = await pool.get_connection()
        answers: list[Any] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.send_packed_command(connection.pack_commands(commands))
                for name, *_ in commands:
                    try:
                        answer = await connection.read_response(timeout=math.inf)  # a failure here gives the connection up
                        answers.append(callbacks[name](answer) if name in callbacks else answer)
                    except failures.ResponseError as error:
                        answers.append(error)
        finally:
            await pool.release(connection)
        return answers

    async def _send(self, placed: Sequence[tuple[Any, tuple[Argument, ...]]]) -> list[Any]:
        """Commands to the nodes named, those of one node in order on one connection; answers and redirections as they come."""
        pipeline = self._client.pipeline(transaction=False)
        for node, args in placed:
            # naming the node spares a COMMAND GETKEYS that would carry the whole call a second time
            pipeline.execute_command(*args, target_nodes=node)
        results: list[Any] = await pipeline.execute(raise_on_error=False, allow_redirections=False)
        return results

    async def _follow(self, commands: Sequence[Command], results: list[Any]) -> list[Any]:
        """Send redirected commands again, to the node that the answer names. redis-py's own way may put ASKING on one connection of its
        pool and the command on another. TRYAGAIN stays: until a slot has moved, no node has all keys of such a call."""
        for _ in range(MAX_REDIRECTIONS):
            placed: list[tuple[Any, tuple[Argument, ...]]] = []
            asked: dict[int, int] = {}
            for i, error in enumerate(results):
                node = self._client.get_node(error.host, error.port) if isinstance(error, failures.AskError) else None
                if node is None:  # an answer; or a node that is new to us: the topology is read again with the next call
                    continue
                if isinstance(error, failures.MovedError):  # a kind of AskError
                    await self._client.nodes_manager.move_slot(error)
                else:
                    placed.append((node, ("ASKING",)))
                asked[i] = len(placed)
                placed.append((node, commands[i].args))
            if not placed:
                break
            answers = await self._send(placed)
            for i, at in asked.items():
                results[i] = answers[at]
        return results

    async def _forget_topology(self, error: BaseException) -> None:
        """After a failure that may mean another node serves a slot now, the next call asks the cluster again."""
        moved = (failures.ReadOnlyError, failures.ClusterDownError, failures.AskError)
        if self.cluster and (isinstance(error, moved) or not isinstance(error, failures.ResponseError)):
            await self._client.aclose()

    async def on_primaries(self, *args: Argument) -> list[Any]:
        """One command on each primary, ordered by address."""
        try:
            if not self.cluster:
                return [await self._client.execute_command(*args)]
            await self._client.initialize()
            nodes = sorted(self._client.get_primaries(), key=lambda node: str(node.name))
            return [await self._client.execute_command(*args, target_nodes=[node]) for node in nodes]
        except _CAUGHT as error:
            raise await self._failure(error) from None

    async def scan(self, key: str, pattern: str, count: int) -> AsyncIterator[list[bytes]]:
        """Keys by pattern on the node that serves `key`, a page at a time.

        `key` itself must not exist: SCAN is never redirected, and only asked for a missing key does a node say that it is giving the slot
        away. Raises Transient then: what was scanned is not all.
        """
        cursor: Any = 0
        node = await self._node_of(key) if self.cluster else None
        while True:
            command = ("SCAN", cursor, "MATCH", pattern, "COUNT", count)
            cursor, page = await self.one(key, *command) if node is None else await self._asked_there(node, key, command)
            yield page
            if cursor == 0:
                return

    async def _node_of(self, key: str) -> Any:
        try:
            await self._client.initialize()
            return self._client.get_node_from_key(key)
        except _CAUGHT as error:
            raise await self._failure(error) from None

    async def _asked_there(self, node: Any, missing_key: str, command: tuple[Argument, ...]) -> Any:
        """A command without a key on a node that has the whole slot of a key. Raises Transient when it has not."""
        try:
            for result in (results := await self._send([(node, ("EXISTS", missing_key)), (node, command)])):
                if isinstance(result, BaseException):
                    raise result
            return results[1]
        except _CAUGHT as error:
            raise await self._failure(error) from None

    async def scan_primaries(self, pattern: str, count: int) -> AsyncIterator[list[bytes]]:
        """Keys by pattern on every primary, a page at a time."""
        try:
            nodes: list[Any] = [None]
            if self.cluster:
                await self._client.initialize()
                nodes = list(self._client.get_primaries())
            for node in nodes:
                cursor, started = 0, False
                while cursor or not started:
                    arguments = ("SCAN", cursor, "MATCH", pattern, "COUNT", count)
                    if node is None:
                        cursor, page = await self._client.execute_command(*arguments)
                    else:  # asked of the node itself: the cluster client would fold the cursor away
                        cursor, page = await node.execute_command(*arguments)
                    started = True
                    yield page
        except _CAUGHT as error:
            raise await self._failure(error) from None

    async def load(self) -> None:
        """Load the library on every primary."""
        async with self._loading:
            await self.on_primaries("FUNCTION", "LOAD", "REPLACE", self.library.source)

    async def libraries(self) -> list[tuple[str, ...]]:
        """Names of the recommender's libraries on each primary, this version's and others."""
        answers = await self.on_primaries("FUNCTION", "LIST", "LIBRARYNAME", "recsys_*")
        return [tuple(sorted(_library_name(entry) for entry in answer)) for answer in answers]

    async def close(self) -> None:
        """Close all connections. One that does not say good-bye in time is dropped."""
        with contextlib.suppress(*_CAUGHT):
            await self._client.aclose()


def _library_name(entry: Any) -> str:
    fields = entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
    name = fields.get(b"library_name", fields.get("library_name"))
    return name.decode() if isinstance(name, bytes) else str(name)
