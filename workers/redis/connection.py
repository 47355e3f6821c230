"""One attempt at a batch of commands on one Redis or a Redis Cluster; its failures become Transient or Fatal."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from redis import exceptions as failures
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from workers.errors import SettingsError, Transient, WorkerError
from workers.redis.checked_connection import Servers, checked_connection_class
from workers.redis.commands import Argument, Command
from workers.redis.diagnosis import diagnose, lacking_right
from workers.redis.failures import CAUGHT, is_denied, is_missing_function, translate
from workers.redis.functions import Library
from workers.runtime.counts import Traffic
from workers.runtime.redaction import MaskedStr
from workers.runtime.tls import tls_context
from workers.settings import RedisSettings

CONNECT_TIMEOUT_S = 5.0
"""A server that does not accept a connection within this is away; longer waits are the caller's backoff."""
TLS_TIMEOUT_S = 3.0
"""The same with TLS: a server without TLS waits for the rest of the greeting and does not answer."""
DIAGNOSE_S = 2.0
"""Shortest time between two diagnoses of a connection that fails."""
MAX_REDIRECTIONS = 3
"""A slot that has moved from where the client expects it, and is moving again, takes two."""


def _seeds(text: str) -> list[ClusterNode] | None:
    """Return the nodes that `redis.seeds` names. Raises SettingsError where one is not host:port."""
    nodes = []
    for place in filter(None, (part.strip() for part in text.split(","))):
        host, _, port = place.rpartition(":")
        if not host or not port.isdigit():
            raise SettingsError("setting redis.seeds: give host:port, separated by commas")
        nodes.append(ClusterNode(host.strip("[]"), int(port)))
    return nodes or None


def _tls_options(settings: RedisSettings) -> dict[str, str]:
    """Return the certificate files under redis-py's names. Raises SettingsError naming a wrong one, as redis-py does not."""
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
    """A pool of connections. It retries one thing: a call of functions that the server does not have, after loading them."""

    def __init__(self, settings: RedisSettings, library: Library) -> None:
        self.library = library
        self.cluster = settings.cluster
        self.servers, self.traffic = Servers(), Traffic()
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
                connection_class = checked_connection_class(nodes.connection_kwargs["connection_class"], self.servers, self.traffic)
                nodes.connection_kwargs["connection_class"] = connection_class
                for node in nodes.startup_nodes.values():
                    node.connection_class = connection_class
            else:
                self._client = Redis.from_url(url, **options)
                pool = self._client.connection_pool
                pool.connection_class = checked_connection_class(pool.connection_class, self.servers, self.traffic)
        except (ValueError, failures.RedisClusterException):
            raise SettingsError("setting redis.url: not a Redis URL; write redis://host:port/0, rediss:// or unix:///path") from None

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers in the order of the commands. Raises Transient or Fatal for the first that failed; others may have run."""
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
            if now_s - self._diagnosed_s > DIAGNOSE_S:  # redis-py says little about a connection that fails
                self._diagnosed_s = now_s
                return await asyncio.to_thread(diagnose, self._settings) or found
        return found

    async def one(self, key: str, *args: Argument) -> Any:
        return (await self.run([Command(key, args)]))[0]

    async def _attempt(self, commands: Sequence[Command]) -> list[Any]:
        if not commands:
            return []
        self.traffic.commands += len(commands)
        try:
            if self.cluster:
                await self._client.initialize()
                results = await self._send([(self._client.get_node_from_key(key), args) for key, args in commands])
                return await self._follow(commands, results)
            return await self._answers([args for _, args in commands])
        except CAUGHT as error:
            raise await self._failure(error) from None

    async def _answers(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Return one server's answers to commands sent at once. redis-py's pipeline sets a timer for each answer and counts its calls."""
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
        """Send commands to their nodes, those of one node in order on one connection; return answers and redirections as they come."""
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
        """Make the next call ask the cluster for its layout, after a failure that may mean that another node serves a slot."""
        moved = (failures.ReadOnlyError, failures.ClusterDownError, failures.AskError)
        if self.cluster and (isinstance(error, moved) or not isinstance(error, failures.ResponseError)):
            await self._client.aclose()

    async def on_primaries(self, *args: Argument) -> list[Any]:
        """Run one command on each primary; return the answers ordered by address."""
        try:
            if not self.cluster:
                return [await self._client.execute_command(*args)]
            await self._client.initialize()
            nodes = sorted(self._client.get_primaries(), key=lambda node: str(node.name))
            return [await self._client.execute_command(*args, target_nodes=[node]) for node in nodes]
        except CAUGHT as error:
            raise await self._failure(error) from None

    async def scan(self, key: str, pattern: str, count: int) -> AsyncIterator[list[bytes]]:
        """Yield keys by pattern on the node that serves `key`, a page at a time.

        `key` itself must not exist: SCAN is never redirected, and only asked for a missing key does a node say that it is giving the slot
        away. Raises Transient then: what was scanned is not all.
        """
        cursor: Any = 0
        node = await self._node_of(key) if self.cluster else None
        while True:
            command = ("SCAN", cursor, "MATCH", pattern, "COUNT", count)
            cursor, page = await self.one(key, *command) if node is None else await self._run_on_owner(node, key, command)
            yield page
            if cursor == 0:
                return

    async def _node_of(self, key: str) -> Any:
        try:
            await self._client.initialize()
            return self._client.get_node_from_key(key)
        except CAUGHT as error:
            raise await self._failure(error) from None

    async def _run_on_owner(self, node: Any, missing_key: str, command: tuple[Argument, ...]) -> Any:
        """Run a command without a key on a node that has the whole slot of a key. Raises Transient when it has not."""
        try:
            for result in (results := await self._send([(node, ("EXISTS", missing_key)), (node, command)])):
                if isinstance(result, BaseException):
                    raise result
            return results[1]
        except CAUGHT as error:
            raise await self._failure(error) from None

    async def scan_primaries(self, pattern: str, count: int) -> AsyncIterator[list[bytes]]:
        """Yield keys by pattern on every primary, a page at a time."""
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
        except CAUGHT as error:
            raise await self._failure(error) from None

    async def load(self) -> None:
        """Load the library on every primary."""
        async with self._loading:
            await self.on_primaries("FUNCTION", "LOAD", "REPLACE", self.library.source)

    async def libraries(self) -> list[tuple[str, ...]]:
        """Return the names of the recommender's libraries on each primary, this version's and others."""
        answers = await self.on_primaries("FUNCTION", "LIST", "LIBRARYNAME", "recsys_*")
        return [tuple(sorted(_library_name(entry) for entry in answer)) for answer in answers]

    async def close(self) -> None:
        """Close all connections; drop one that does not close in time."""
        with contextlib.suppress(*CAUGHT):
            await self._client.aclose()


def _library_name(entry: Any) -> str:
    fields = entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
    name = fields.get(b"library_name", fields.get("library_name"))
    return name.decode() if isinstance(name, bytes) else str(name)
