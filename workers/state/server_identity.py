"""Identifies the servers that hold the state."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """One primary. `run_id` changes with a restart, `replication_id` with a failover too: then drop every cached row and pending
    compaction, and seek back to the watermarks. `libraries` are the recommender's function libraries, one for each version in use."""

    run_id: str
    replication_id: str
    role: str
    server: str
    version: str
    used_memory_bytes: int
    maxmemory_bytes: int
    maxmemory_policy: str
    libraries: tuple[str, ...]
