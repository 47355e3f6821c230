"""How fast this machine is at the moment, beside the one of the limits: a shared machine changes by a factor of three within hours.

Limits in events/s or milliseconds were set on a machine whose Python makes `REFERENCE_STEPS_PER_S` steps of a plain loop a second in one
thread (2 cores of an AMD EPYC, 29 November 2026, nobody else at work). Ratios need no such thing.
"""

from __future__ import annotations

import statistics
import time

REFERENCE_STEPS_PER_S = 13_500_000
STEPS = 1_000_000
REPEATS = 5


def steps_per_s(steps: int = STEPS) -> float:
    """Return how many steps of a loop that adds squares one thread makes in a second of wall time, in which others may be at work."""
    total, started_s = 0, time.perf_counter()
    for step in range(steps):
        total += step * step
    return steps / (time.perf_counter() - started_s)


def speed() -> float:
    """Return the median speed of some short runs, 1 for the machine of the limits."""
    return statistics.median(steps_per_s() for _ in range(REPEATS)) / REFERENCE_STEPS_PER_S
