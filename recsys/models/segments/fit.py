"""Learns segments, what their users start with and like, and how far that is to be believed.

    start(i) = log (c₁(i) + κ p(i)) / (Σ c₁ + κ)      c₁: choices, each weighing (1 + earlier choices of its user)^−h
    lift(s, i) = θ log (c(s, i) + a) / (e(s, i) + a)     e: expected number, if the segment chose as everybody

`h`, `κ`, `a` and a θ for each attribute maximise the likelihood of the first choices of the newest users, who are left out of the counts
until then. Counts shrink by a gamma prior of mean 1 (DuMouchel 1999): of an item that was expected less than `a` times little is believed.

Shapes: n choices, U users, I items, S segments, J judged users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize

from recsys.errors import TooFewInteractions
from recsys.models.segments.config import SegmentsConfig
from recsys.models.segments.model import LEAST_LOGIT, SegmentsModel
from recsys.models.segments.segment import Membership, Segment
from recsys.models.training import Progress, go_on
from recsys.state.profiles import Attribute, ProfileColumns

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

EXPONENTS = (0.0, 0.5, 1.0, 2.0)
"""Tried as h: 0 counts all choices alike, 2 little but the first two."""
PRIORS = (10.0, 100.0, 1_000.0, 10_000.0)
"""Tried as κ."""
SHRINKAGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Tried as a."""
MOST_THETA = 3.0
JUDGED_SHARE = 0.2
JUDGED_ITEMS = 20_000
"""Items of most choices among which judged choices are compared."""
LEAST_USERS = 50
"""With fewer judged users nothing is learnt of shrinkage."""


class Likes(NamedTuple):
    """Choices (n,) in any order, each pair of a user and an item once: `users` are rows of the profiles, `items` positions on the item
    axis, `times` say which came first."""

    users: I64
    items: I64
    times: I64


@dataclass(frozen=True, slots=True)
class _Ordered:
    """Choices by user, oldest first, and how many earlier ones of its user each has: `users`, `items` and `earlier` (n,); `first` (U,) is
    the time of each user's first choice."""

    users: I64
    items: I64
    earlier: I64
    first: I64
    n_items: int

    @classmethod
    def of(cls, likes: Likes, n_users: int, n_items: int) -> _Ordered:
        order = np.lexsort((likes.times, likes.users))
        users = likes.users[order]
        starts = np.searchsorted(users, np.arange(n_users))
        first = np.full(n_users, np.iinfo(np.int64).max)
        has = np.flatnonzero(np.bincount(users, minlength=n_users))
        first[has] = likes.times[order][starts[has]]
        return cls(users, likes.items[order], np.arange(len(users)) - starts[users], first, n_items)

    def of_users(self, chosen: NDArray[np.bool_]) -> _Ordered:
        """Return the choices of some users (U,)."""
        rows = chosen[self.users]
        return _Ordered(self.users[rows], self.items[rows], self.earlier[rows], self.first, self.n_items)

    def counts(self, exponent: float = 0.0) -> F64:
        """Return the choices of each item (I,), each weighing (1 + earlier choices of its user)^−exponent."""
        counts: F64 = np.bincount(self.items, (1.0 + self.earlier) ** -exponent, minlength=self.n_items).astype(np.float64)
        return counts


@dataclass(frozen=True, slots=True)
class _Counted:
    """Numbers of choices of each item by the users of each segment, and the expected numbers, (S, I)."""

    chosen: F32
    expected: F32

    @classmethod
    def of(cls, likes: _Ordered, members: F32) -> _Counted:
        n_users = len(members)
        matrix = sparse.csr_array((np.ones(len(likes.users), np.float32), (likes.users, likes.items)), shape=(n_users, likes.n_items))
        chosen: F32 = np.asarray(matrix.T @ members, np.float32).T
        every = likes.counts()
        expected = np.outer(chosen.sum(axis=1), every / max(every.sum(), 1.0)).astype(np.float32)
        return cls(np.ascontiguousarray(chosen), expected)

    def lifts(self, shrinkage: float) -> F32:
        """Return the logarithms of shrunk ratios, (S, I)."""
        found: F32 = np.log((self.chosen + np.float32(shrinkage)) / (self.expected + np.float32(shrinkage)))
        return found


@dataclass(frozen=True, slots=True)
class Learnt:
    """Constants that were learnt: h, κ, a, and θ by attribute."""

    exponent: float
    prior: float
    shrinkage: float
    thetas: Mapping[str, float]


def fit(
    likes: Likes,
    profiles: ProfileColumns,
    attributes: Mapping[int, Attribute],
    item_ids: list[str],
    config: SegmentsConfig,
    progress: Progress | None = None,
) -> SegmentsModel:
    """Return the segments of the users whose profiles these are (U,), and what they like. `attributes` by key.

    The same input gives the same output. Raises: TooFewInteractions where there is no segment, or too few users to judge by.
    """
    segments = segments_of(likes, profiles, attributes, config)
    members = np.zeros((len(profiles), len(segments)), np.float32)
    Membership(segments).mark(profiles, members)
    ordered = _Ordered.of(likes, len(profiles), len(item_ids))
    has_segment: NDArray[np.bool_] = np.any(members > 0, axis=1)
    judged = _judged(ordered, has_segment, config)
    older = ordered.of_users(ordered.first < ordered.first[judged].min())
    if len(older.users) < LEAST_USERS:
        raise TooFewInteractions(f"segments need {LEAST_USERS} choices of users before the newest, and there are {len(older.users)}")
    go_on(progress, 0.1, f"segments: {len(segments)} of {int(has_segment.sum()):,} users, {len(judged):,} judge")
    learnt = _learn(older, ordered, members, judged, segments, config, progress)
    lifts, start = _Counted.of(ordered, members).lifts(learnt.shrinkage), _start(ordered, learnt.exponent, learnt.prior)
    thetas = np.array([learnt.thetas[segment.name] for segment in segments], np.float32)
    vectors = np.concatenate((start[:, None], (lifts * thetas[:, None]).T), axis=1).astype(np.float32)
    said = ", ".join(f"{name} {theta:.2f}" for name, theta in learnt.thetas.items())
    go_on(progress, 1.0, f"segments: start h {learnt.exponent:g}, κ {learnt.prior:g}; lift a {learnt.shrinkage:g}; weights {said}")
    kept = ordered.counts() > 0
    return SegmentsModel(config, segments, [item_ids[at] for at in np.flatnonzero(kept).tolist()], vectors[kept])


def segments_of(
    likes: Likes, profiles: ProfileColumns, attributes: Mapping[int, Attribute], config: SegmentsConfig
) -> list[Segment]:
    """Return the segments of at least `min_users` users who chose something, those of most users first. Raises: TooFewInteractions."""
    rows = np.unique(likes.users)
    keys, values = profiles.keys[rows], profiles.values[rows]
    known, counts = np.unique(keys[keys != 0], return_counts=True)
    found: list[tuple[int, Segment]] = []
    for key, count in zip(known.tolist(), counts.tolist(), strict=True):
        attribute = attributes[key]
        if count < config.min_users:
            continue
        if attribute.kind == "numeric":
            found += [(n, one) for n, one in _ranges(attribute, values[keys == np.uint64(key)], config) if n >= config.min_users]
        elif count < len(rows):  # what all users have tells nobody apart
            found.append((count, Segment(attribute)))
    found.sort(key=lambda one: (-one[0], one[1].attribute, one[1].low))
    if not found:
        raise TooFewInteractions(f"no attribute has a value that {config.min_users} users with a profile share and others do not")
    return [segment for _, segment in found[: config.max_segments]]


def _ranges(attribute: Attribute, values: F32, config: SegmentsConfig) -> list[tuple[int, Segment]]:
    """Return ranges of a number that hold about as many users each, and how many; none if all have the same number."""
    inner = np.unique(np.quantile(values, np.arange(1, config.bins) / config.bins, method="nearest").astype(np.float32))
    edges = [-np.inf, *inner[inner > values.min()].tolist(), np.inf]
    ranges = [Segment(attribute, low, high) for low, high in pairwise(edges)]
    counts = [int(((values >= one.low) & (values < one.high)).sum()) for one in ranges]
    return list(zip(counts, ranges, strict=True)) if len(ranges) > 1 else []


def _judged(ordered: _Ordered, has_segment: NDArray[np.bool_], config: SegmentsConfig) -> I64:
    """Return the newest users of a segment whose first choices judge. Raises: TooFewInteractions."""
    users = np.flatnonzero(has_segment & (ordered.first < np.iinfo(np.int64).max))
    users = users[np.argsort(ordered.first[users], kind="stable")]
    newest = users[len(users) - int(JUDGED_SHARE * len(users)) :]
    if len(newest) < LEAST_USERS:
        raise TooFewInteractions(
            f"segments need {LEAST_USERS} new users or more with a profile to learn from, and the newest fifth has {len(newest)}"
        )
    chosen = np.linspace(0, len(newest) - 1, min(config.judged_users, len(newest))).astype(np.int64)
    return newest[chosen]


class _Cases(NamedTuple):
    """Choices that judge: the row (K,) of the distinct sets of segments `members` (Q, S), the place of the item among those that are
    compared, and how much it counts."""

    rows: I64
    items: I64
    weights: F64
    members: F32


def _learn(
    older: _Ordered,
    ordered: _Ordered,
    members: F32,
    judged: I64,
    segments: Sequence[Segment],
    config: SegmentsConfig,
    progress: Progress | None,
) -> Learnt:
    """Return the constants by which the first choices of the judged users are likeliest."""
    every = older.counts()
    compared = np.sort(np.argsort(-every, kind="stable")[:JUDGED_ITEMS])
    compared = compared[every[compared] > 0]
    cases = _cases(ordered, members, judged, compared, config)
    starts = {(h, prior): _start(older, h, prior)[compared] for h in EXPONENTS for prior in PRIORS}
    no_lifts = np.zeros((1, len(compared)), np.float32)
    alone = cases._replace(rows=np.zeros_like(cases.rows), members=np.zeros((1, 1), np.float32))
    losses = {at: _loss(np.zeros(1), start, no_lifts, alone, np.zeros(1, np.int64))[0] for at, start in starts.items()}
    exponent, prior = min(losses, key=lambda at: (losses[at], at))
    start, counted = starts[exponent, prior], _Counted.of(older, members)
    names = list(dict.fromkeys(segment.name for segment in segments))
    group = np.array([names.index(segment.name) for segment in segments], np.int64)
    best: tuple[float, float, F64] | None = None
    for done, shrinkage in enumerate(SHRINKAGES):
        lifts = counted.lifts(shrinkage)[:, compared]
        found = minimize(
            _loss, np.ones(len(names)), (start, lifts, cases, group), "L-BFGS-B", True, bounds=[(0, MOST_THETA)] * len(names),
            options={"maxiter": 50},
        )  # fmt: skip
        if best is None or found.fun < best[0]:
            best = float(found.fun), shrinkage, np.asarray(found.x)
        if not go_on(progress, 0.1 + 0.8 * (done + 1) / len(SHRINKAGES), f"segments: shrinkage {shrinkage:g}, loss {found.fun:.4f}"):
            break
    assert best is not None
    return Learnt(exponent, prior, best[1], dict(zip(names, best[2].tolist(), strict=True)))


def _start(likes: _Ordered, exponent: float, prior: float) -> F64:
    """Return the logarithms of the shares of first choices, (I,); `LEAST_LOGIT` of an item that nobody chose."""
    every, first = likes.counts(), likes.counts(exponent)
    shares = (first + prior * every / max(every.sum(), 1.0)) / (first.sum() + prior)
    found: F64 = np.log(np.maximum(shares, np.exp(LEAST_LOGIT)))
    return found


def _cases(ordered: _Ordered, members: F32, judged: I64, compared: I64, config: SegmentsConfig) -> _Cases:
    """Return the first choices of the judged users; one after k others weighs 1 / (1 + k)."""
    is_judged = np.zeros(len(members), np.bool_)
    is_judged[judged] = True
    rows = np.flatnonzero(is_judged[ordered.users] & (ordered.earlier < config.judged_likes))
    place = np.full(ordered.n_items, -1, np.int64)
    place[compared] = np.arange(len(compared))
    rows = rows[place[ordered.items[rows]] >= 0]
    if not len(rows):
        raise TooFewInteractions("the newest users with a profile chose nothing that somebody chose before")
    distinct, of_user = np.unique(members[judged], axis=0, return_inverse=True)
    row_of = np.zeros(len(members), np.int64)
    row_of[judged] = of_user.ravel()
    weights = 1.0 / (1.0 + ordered.earlier[rows])
    return _Cases(row_of[ordered.users[rows]], place[ordered.items[rows]], weights / weights.sum(), distinct)


def _loss(thetas: F64, start: F64, lifts: F32, cases: _Cases, group: I64) -> tuple[float, F64]:
    """Return the mean negative logarithm of the judged choices' probabilities, and its gradient by θ (A,) for A attributes. `lifts` are
    (S, I), `group` (S,) the attribute of each segment."""
    loss, gradient = 0.0, np.zeros_like(thetas)
    by_row = np.argsort(cases.rows, kind="stable")
    bounds = np.searchsorted(cases.rows[by_row], np.arange(len(cases.members) + 1))
    for first in range(0, len(cases.members), _BLOCK_ROWS):
        members = cases.members[first : first + _BLOCK_ROWS]
        mine = by_row[bounds[first] : bounds[min(first + _BLOCK_ROWS, len(cases.members))]]
        rows, items, weights = cases.rows[mine] - first, cases.items[mine], cases.weights[mine]
        logits = (start + (members * thetas[group].astype(np.float32)) @ lifts).astype(np.float64)  # (B, I)
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        totals = shares.sum(axis=1, keepdims=True)
        loss -= float(weights @ (logits[rows, items] - np.log(totals[rows, 0])))
        shares *= np.bincount(rows, weights, minlength=len(members))[:, None] / totals
        np.subtract.at(shares, (rows, items), weights)  # the gradient by logits
        by_segment = ((shares.astype(np.float32) @ lifts.T) * members).sum(axis=0)
        gradient += np.bincount(group, by_segment, minlength=len(thetas))
    return loss, gradient


_BLOCK_ROWS = 128
"""Sets of segments whose logits are computed at once: 20 MB at `JUDGED_ITEMS` items."""
