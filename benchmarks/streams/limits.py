"""What lists must reach on the newest 60 % of the targets: recall at 10, alone and beside baselines of the same run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.streams.report import JUDGED, Figures

LEAST = {"ml-1m": 0.215, "deskdrop": 0.765, "foursquare-nyc": 0.102}
"""Recall at 10 of *discovery* on a whole log."""
OVER_BASELINES = 1.02
"""Times the best baseline of *discovery*, on any log."""
LEAST_TARGETS = 200
"""Fewer targets say nothing, as at the trainer's gate."""
OVER_OWN = {"foursquare-nyc": 1.05}
"""Times the user's own most frequent items, of *again*."""
OWN = "own_most_frequent"


def missed(found: Sequence[Figures], *, whole: bool) -> Iterator[str]:
    """Yield a line for each limit that is missed. Limits of one data set count for `whole` logs only."""
    for figures in found:
        if figures.targets["discovery"] >= LEAST_TARGETS:
            of_list = figures.by_protocol["discovery"]["list"][JUDGED]
            ratio, best = figures.ratio("discovery"), figures.best_baseline("discovery")
            if ratio is not None and ratio < OVER_BASELINES:
                yield f"{figures.name}, discovery: {of_list:.4f} is {ratio:.3f} times {best}, at least {OVER_BASELINES:g} must be"
            if whole and of_list < LEAST.get(figures.name, 0.0):
                yield f"{figures.name}, discovery: {of_list:.4f}, at least {LEAST[figures.name]:g} must be"
        if whole and figures.name in OVER_OWN and figures.targets["again"] >= LEAST_TARGETS:
            of_list, own = (figures.by_protocol["again"][name][JUDGED] for name in ("list", OWN))
            if of_list < OVER_OWN[figures.name] * own:
                least = OVER_OWN[figures.name]
                yield f"{figures.name}, again: {of_list:.4f} against {OWN} {own:.4f}, at least {least:g} times that must be"
