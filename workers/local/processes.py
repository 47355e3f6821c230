"""Processes of a session that are still alive."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

import psutil

WAIT_S = 3.0  # a killed process disappears within a moment
_DEAD = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def left_over(leaders: Iterable[int], *, wait_s: float = WAIT_S) -> list[int]:
    """Return the ids of live processes in the sessions that these processes led, after at most `wait_s`; zombies are not alive."""
    sessions = set(leaders)
    deadline = time.monotonic() + wait_s
    while (left := _alive(sessions)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _alive(sessions: set[int]) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            # psutil does not know sessions
            if os.getsid(process.pid) in sessions and process.status() not in _DEAD:
                found.append(process.pid)
        except (OSError, psutil.Error):  # it ended since, or belongs to another user
            continue
    return found
