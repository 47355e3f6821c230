"""Failures of redis-py and of the server, as Transient or Fatal with what to do about them."""

from __future__ import annotations

from typing import Any

from redis import exceptions as failures

from workers.errors import Fatal, SettingsError, Transient, WorkerError
from workers.redis.diagnosis import tls_failure

CAUGHT = (
    failures.ConnectionError,
    failures.TimeoutError,
    failures.ResponseError,
    failures.ClusterError,
    failures.RedisClusterException,
    failures.InvalidResponse,
    OSError,
)
"""Exceptions of redis-py that `translate` takes."""

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
"""The server's error code ▸ what it means and what to do. Errors that redis-py turns into classes carry the code as `status_code`."""
_FATAL_CODES = {
    "WRONGTYPE": "holds a key of another type under this namespace: choose another redis.namespace",
    "CROSSSLOT": "refuses keys of several slots: report this as a defect",
}
LOGIN = "setting redis.password: Redis refuses the user or the password: set redis.username and redis.password, or redis.url"
NO_LOGIN = "setting redis.password: Redis wants a user or a password: set redis.username and redis.password, or redis.url"


def is_missing_function(result: Any) -> bool:
    """Return whether a call failed because the server does not have the function library."""
    return isinstance(result, failures.ResponseError) and "function not found" in str(result).lower()


def is_denied(error: BaseException) -> bool:
    """Return whether the server refused a command or a key to this user, directly or inside a function."""
    return isinstance(error, failures.NoPermissionError) or (
        isinstance(error, failures.ResponseError) and "user executing the script can't" in str(error)
    )


def translate(error: BaseException, *, cluster: bool) -> WorkerError:
    """Return a failure as Transient or Fatal, with the remedy. The server's words are left out: they may quote personal data."""
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
        answer = code if code.isupper() else "an error"
        return Fatal(f"Redis refused a command with {answer}: see the server's log, then run `recsys doctor`")
    return Transient(f"Redis is not reachable ({type(error).__name__}): check that it runs, redis.url and the network")
