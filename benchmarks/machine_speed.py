"""How fast this machine is at the moment, beside the one of the limits: a shared machine changes by a factor of three within hours.

Limits in events/s or milliseconds were set on a machine on which the naive Faust agent (`benchmarks.naive_faust`) handled 781 of the first
events of MovieLens 1M a second (2 cores of an AMD EPYC, 29 November 2026, nobody else at work). The agent is measured on the generated
stream, which is the same everywhere and of which it handles 1.92 times as many (medians of three runs of each in turns, 30 November 2026).

A loop that fits into a processor's first cache says little: on a day on which it ran a third faster than on that machine, the agent took
twice as long, and so did all else that is measured here. Ratios need none of this.
"""

from __future__ import annotations

import json
import subprocess
import sys

NAIVE_EVENTS_PER_S = 1_500
"""What the naive agent handles on a machine of speed 1."""
COMMAND = ("benchmarks.ingest", "--stream", "generated", "--only", "naive", "--naive-events", "2500", "--json")
TIMEOUT_S = 300


def speed() -> float:
    """Return how fast the naive agent is on a stack of its own, 1 for the machine of the limits. It takes some 25 s.

    Raises: RuntimeError if it cannot be run.
    """
    done = subprocess.run([sys.executable, "-m", *COMMAND], stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise RuntimeError(f"python -m {' '.join(COMMAND)} ended with {done.returncode}")
    return float(json.loads(lines[-1])["naive_events_per_s"]) / NAIVE_EVENTS_PER_S
