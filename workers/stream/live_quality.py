"""Counts how often users choose what was on their newest list, by the models that made it: live quality, beside that of popularity.

Shapes: U users, K places, n interactions, N items.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.state.interactions import Interactions
from workers.lists.encoding import ListHead
from workers.stream.listed_items import ListedItems

I64 = NDArray[np.int64]

TOP = 10
"""Places of a list that count, and the most popular items beside them."""
USERS_AT_ONCE = 512
"""Users of a batch that are looked at, at most: a sample where a worker is behind, everybody where it is not."""
NOTED_AT_ONCE = 128
"""Lists that are remembered of those that one thread makes at once, which are 512 at most."""
KEPT_VERSIONS = 4
"""Versions that are counted apart, so that the metric stays small; the oldest is forgotten."""


class LiveQuality:
    """Remembers the first TOP places of users' newest lists, and counts the interactions that find their item there.

    A list that came out after the event cannot be in it: an event is compared with what is remembered before its own list is noted.
    """

    def __init__(self, limit: int) -> None:
        """`limit` users are remembered; 0: nobody, and nothing is counted."""
        self._limit = limit
        self._held = ListedItems(TOP + 1, limit)  # the last place holds the number of the list's version
        self._popular: I64 = np.zeros(0, np.int64)
        self._names: list[str] = []
        self._counts: dict[str, list[int]] = {}
        """Version ▸ interactions, hits of lists and hits of popularity, of the newest KEPT_VERSIONS."""
        self._resets = 0

    def note_popular(self, counts: NDArray[np.float32]) -> None:
        """Take the most popular items, of counts (N,)."""
        top = np.argpartition(-counts, TOP)[:TOP] if len(counts) > TOP else np.arange(len(counts))
        self._popular = top[counts[top] > 0].astype(np.int64)

    def look(self, heads: Sequence[ListHead], interactions: Interactions, resets: int) -> None:
        """Compare a batch's interactions, user after user in the order of `heads` (U,), with the lists that these users had. `resets` says
        which numbering of items holds (`ServingState.resets`)."""
        if resets != self._resets:
            self._held.clear()
            self._resets = resets
        if not len(self._held):
            return
        n_users = min(len(heads), USERS_AT_ONCE)
        before = self._held.previous(heads[:n_users], TOP + 1)  # (U, K + 1)
        row = np.repeat(np.arange(n_users), interactions.counts[:n_users])  # (n,)
        items, chosen = interactions.items[: len(row)].astype(np.int64), interactions.weights[: len(row)] > 0
        version = before[row, TOP]
        hits, popular = (before[row, :TOP] == items[:, None]).any(axis=1), np.isin(items, self._popular)
        for number in np.unique(version[version >= 0]).tolist():
            of_it = chosen & (version == number)
            if (held := self._counts.get(self._names[number])) is not None:
                for at, counted in enumerate((of_it, of_it & hits, of_it & popular)):
                    held[at] += int(np.count_nonzero(counted))

    def note(self, heads: Sequence[ListHead], items: I64, versions: Mapping[str, str]) -> None:
        """Remember the items (U, K) of users' newest lists, which these versions of models made; may be called in several threads."""
        if not self._limit:
            return
        n_users = min(len(heads), NOTED_AT_ONCE)
        places = np.full((n_users, TOP + 1), -1, np.int64)
        width = min(TOP, items.shape[1])
        places[:, :width] = items[:n_users, :width]
        places[:, TOP] = self._number_of(",".join(f"{kind}={version}" for kind, version in sorted(versions.items())) or "none")
        self._held.note(heads[:n_users], places)

    def _number_of(self, name: str) -> int:
        if self._names and self._names[-1] == name:
            return len(self._names) - 1
        if name not in self._names:
            self._names.append(name)
            self._counts[name] = [0, 0, 0]
            while len(self._counts) > KEPT_VERSIONS:
                del self._counts[next(iter(self._counts))]
        return self._names.index(name)

    def counted(self, what: int) -> Iterable[tuple[str, int]]:
        """Return version ▸ interactions (0), hits of lists (1) or of popularity (2)."""
        return [(name, counts[what]) for name, counts in list(self._counts.items())]
