"""Which processes of a session are still there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

WAIT_S = 3.0  # what was killed is gone a moment later


def left_over(leaders: Iterable[int], *, wait_s: float = WAIT_S) -> list[int]:
    """Ids of live processes in the sessions that these processes led, after at most `wait_s`; zombies are not alive."""
    sessions = set(leaders)
    deadline = time.monotonic() + wait_s
    while (left := _alive(sessions)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _alive(sessions: set[int]) -> list[int]:
    listing = Path("/proc")
    if not (listing / "self" / "stat").exists():
        return [leader for leader in sessions if _group_exists(leader)]
    found = []
    for entry in listing.iterdir():
        if entry.name.isdigit():
            try:
                # pid (name) state ppid pgrp session …; the name may hold spaces and brackets
                state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except (OSError, ValueError):
                continue
            if int(session) in sessions and state not in "ZX":
                found.append(int(entry.name))
    return found


def _group_exists(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
