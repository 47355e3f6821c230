"""The bank of half-lives of popularity, and what an event adds to each.

Each half-life h has a window of spans of 6 h of event time. An event adds to the span in which it lies an integer amount that doubles every
h from the start of the span: f(t) = 2^((t − start) / h). Halving what all events of a span count is then one factor for the span. So what
is stored only changes by adding, and sums do not depend on the order in which events come.

Source: Cormode, Shkapenyuk, Srivastava & Xu 2009, "Forward Decay: A Practical Time Decay Model for Streaming Systems".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]

NAMED_HALF_LIVES_S: Mapping[str, int] = {
    "10m": 600,
    "40m": 2_400,
    "2h": 7_200,
    "6h": 21_600,
    "1d": 86_400,
    "4d": 4 * 86_400,
    "15d": 15 * 86_400,
    "90d": 90 * 86_400,
}
"""Half-lives in seconds by the name of their window: multiples of the shortest, so spans end only where one of the shortest does."""
HALF_LIVES_S: tuple[float, ...] = (*NAMED_HALF_LIVES_S.values(), float("inf"))
"""The bank: the last one counts all events alike."""
SPAN_HALF_LIVES = 6
LIVE_SPANS = 2
"""Spans that count: the newest and the one before, so an event counts for 6 to 12 half-lives. What is dropped counts 1/64 at most."""
ALL_TIME = "all"
WINDOWS_S: Mapping[str, int] = {name: SPAN_HALF_LIVES * half_life_s for name, half_life_s in NAMED_HALF_LIVES_S.items()}
"""Popularity windows with spans of event time; "all" has the single span 0."""
WINDOWS = (ALL_TIME, *WINDOWS_S)
LEAST_PERIOD_S = 86_400
"""Once a half-life would be once in 10 minutes: then ten accounts that repeat one item lead what is popular now."""
PERIODS_S: tuple[int, ...] = (0, *(max(half_life_s, LEAST_PERIOD_S) for half_life_s in NAMED_HALF_LIVES_S.values()))
"""By window, "all" first: a user counts once for an item in so many seconds of event time; 0 where that goes by sessions."""
SPANS_S: I64 = np.array([0, *WINDOWS_S.values()], np.int64)
"""Lengths of the spans of `WINDOWS`, 0 for "all"."""

STEPS_A_HALF_LIFE = 16
"""Growth is read from a table at so many steps a half-life: an event counts at most 4.4 % less than at its very second."""
GROWTH_BITS = 16
_STEPS = range(SPAN_HALF_LIVES * STEPS_A_HALF_LIFE)
GROWTH: I64 = np.array([int(2 ** (GROWTH_BITS + step / STEPS_A_HALF_LIFE)) for step in _STEPS], np.int64)
"""2^(step / 16) by step within a span, in units of 2⁻¹⁶, rounded down."""
MOST_GROWTH = 1 << SPAN_HALF_LIVES
"""No amount grows by more than this factor."""


def span_amount(count: int, at_s: int, window: str) -> tuple[int, int]:
    """Return the span of `window` in which the second `at_s` lies, and what a choice that counts `count` units adds to it."""
    if window == ALL_TIME:
        return 0, count
    span_s = WINDOWS_S[window]
    growth = int(GROWTH[at_s % span_s * len(GROWTH) // span_s])
    return at_s // span_s, (count * growth + (1 << GROWTH_BITS - 1)) >> GROWTH_BITS


def is_live(window: str, span: int, newest_s: int) -> bool:
    """Return True if a span counts once event time has reached `newest_s`."""
    return window == ALL_TIME or span > newest_s // WINDOWS_S[window] - LIVE_SPANS
