"""Content of a large catalogue: items that are described alike are of one kind, and features are held and searched by kind.

Shapes: G kinds, F features, W most columns of a kind, U users, C candidates. A kind's features are those of the items' rows in `Catalogue`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue import content_kernel
from recsys.catalogue.content_values import Said

if TYPE_CHECKING:
    from recsys.index.vectors import VectorIndex

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

HEADS = 16
"""Items held at hand for each kind: its most chosen ones when the index was made, then its newest."""
_SEARCHED = 64
"""Principal directions in which features are searched; scores are exact."""
_SAMPLED = 2_048
"""Sampled kinds by which a search estimates how near the nearest are: there are far fewer kinds than items."""
_KINDS = 64
"""Kinds looked at for a user."""
_TAIL = 4_096
"""Newest kinds that the index does not hold yet, and which are compared one by one."""
_REBUILD_GROWTH = 1.05


@dataclass(frozen=True, slots=True)
class Described:
    """One item's content: what it says, and its embeddings as (columns, values)."""

    said: Said = field(default_factory=Said)
    embeddings: tuple[tuple[slice, F32], ...] = ()


class ContentKinds:
    """Which kind each item is of, what kinds there are, and which of them are nearest to a profile. Kind 0 is "nothing known"."""

    def __init__(self, weigh: Callable[[Said], Mapping[int, float]]) -> None:
        self._weigh = weigh
        self.of: I32 = np.zeros(0, np.int32)
        self._kinds: dict[object, int] = {Described(): 0}
        self._described: list[Described] = [Described()]
        self._members: I64 = np.zeros(256, np.int64)
        self._columns: I32 = np.zeros((256, 8), np.int32)
        self._values: F32 = np.zeros((256, 8), np.float32)
        self._heads: I32 = np.full((256, HEADS), -1, np.int32)
        self._embedded: dict[int, Described] = {}
        self.has_embeddings: NDArray[np.bool_] = np.zeros(256, np.bool_)
        self._index: VectorIndex | None = None
        self._indexed = 0
        self._n_described, self._described_at = 0, 0
        self._directions: F32 = np.zeros((0, 0), np.float32)
        self._gram: F32 = np.zeros((0, 0), np.float32)

    @property
    def n_kinds(self) -> int:
        return len(self._described)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the arrays held."""
        arrays = (self.of, self._members, self._columns, self._values, self._heads, self._directions, self._gram)
        embedded = sum(vector.nbytes for described in self._embedded.values() for _, vector in described.embeddings)
        return sum(a.nbytes for a in arrays) + embedded + (self._index.nbytes if self._index else 0)

    def grow(self, n_items: int) -> None:
        """Make room for item numbers below `n_items`."""
        if n_items > len(self.of):
            self.of = np.pad(self.of, (0, max(n_items, 2 * len(self.of)) - len(self.of)))

    def put(self, number: int, described: Described) -> None:
        """Replace the description of an item."""
        self._members[self.of[number]] -= 1
        kind = self._kind(described)
        if not self._members[kind]:
            self._write(kind, described)  # its values may have other columns since it was last in use
        self._n_described += int(kind > 0) - int(self.of[number] > 0)
        self.of[number] = kind
        self._heads[kind, self._members[kind] % HEADS] = number
        self._members[kind] += 1

    def described(self, number: int) -> Described:
        """Return the description of the item."""
        found: Described = self._described[int(self.of[number])]
        return found

    def reweigh(self) -> None:
        """Recompute every kind's columns and values after they changed."""
        for kind, described in enumerate(self._described):
            self._write(kind, described)
        self._index = None

    def _kind(self, described: Described) -> int:
        # A vector of its own makes an item a kind of its own.
        key: object = described if not described.embeddings else (described.said, _digests(described))
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = len(self._described)
            self._described.append(described)
            if kind >= len(self._members):
                more = len(self._members)
                self._members = np.pad(self._members, (0, more))
                self.has_embeddings = np.pad(self.has_embeddings, (0, more))
                self._columns = np.pad(self._columns, ((0, more), (0, 0)))
                self._values = np.pad(self._values, ((0, more), (0, 0)))
                self._heads = np.pad(self._heads, ((0, more), (0, 0)), constant_values=-1)
            if described.embeddings:
                self._embedded[kind] = described
                self.has_embeddings[kind] = True
        return kind

    def _write(self, kind: int, described: Described) -> None:
        weighed = self._weigh(described.said)
        width = self._columns.shape[1]
        if len(weighed) > width:
            self._columns = np.pad(self._columns, ((0, 0), (0, len(weighed) - width)))
            self._values = np.pad(self._values, ((0, 0), (0, len(weighed) - width)))
        self._columns[kind], self._values[kind] = 0, 0
        self._columns[kind, : len(weighed)] = list(weighed)
        self._values[kind, : len(weighed)] = list(weighed.values())

    @property
    def sparse(self) -> tuple[I32, F32]:
        """Return columns and values of what the kinds say, without embeddings, (G or more, W): behind a kind's last column both are 0."""
        return self._columns, self._values

    def embeddings(self, kinds: I64, columns: I64) -> F32:
        """Return the embeddings of `kinds` (M,) that have some, by `columns` (D,) of the features, ascending in each embedding: (M, D)."""
        found = np.zeros((len(kinds), len(columns)), np.float32)
        start_of = {column: place for place, column in enumerate(columns.tolist())}
        for row, kind in zip(found, kinds.tolist(), strict=True):
            for block, vector in self._embedded[kind].embeddings:
                start = start_of[block.start]
                row[start : start + len(vector)] = vector
        return found

    def features(self, kinds: I64, width: int) -> F32:
        """Return the (…, F) features of `kinds` (…), F = `width`."""
        flat = kinds.ravel()
        dense = np.zeros((len(flat), max(width, 1)), np.float32)
        rows = np.arange(len(flat))[:, None]
        dense[rows, self._columns[flat]] = self._values[flat]
        # column 0 is also where padding points to
        dense[:, 0] = np.where(self._columns[flat] == 0, self._values[flat], 0).sum(axis=1)
        if self._embedded:
            for row, kind in enumerate(flat.tolist()):
                described = self._embedded.get(kind)
                for columns, vector in described.embeddings if described else ():
                    dense[row, columns] = vector
        return dense[:, :width].reshape(*kinds.shape, width)

    def scores(self, profiles: F32, kinds: I64) -> F32:
        """Return the inner products of profile u (U, F) with the features of `kinds[u]` (U, C), at least 0: (U, C)."""
        if not profiles.size:
            return np.zeros(kinds.shape, np.float32)
        found = np.empty(kinds.shape, np.float32)
        content_kernel.kind_scores(self._columns, self._values, np.ascontiguousarray(profiles), kinds, found)
        if self._embedded:
            for row, column in np.argwhere(np.isin(kinds, list(self._embedded))).tolist():
                for block, vector in self._embedded[int(kinds[row, column])].embeddings:
                    found[row, column] += float(profiles[row, block] @ vector)
        clipped: F32 = np.maximum(found, 0, out=found)
        return clipped

    def alike(self, listed: I64, read: I64, width: int) -> F32:
        """Return the inner products, at least 0, of the features of the kinds `listed` (U, K) and `read` (U, R): (U, K, R). F = `width`."""
        if self._embedded:
            return self._alike_with_embeddings(listed, read, width)
        found = np.empty((*listed.shape, read.shape[1]), np.float32)
        content_kernel.kinds_alike(self._columns, self._values, width, listed, read, found)
        return found

    def _alike_with_embeddings(self, listed: I64, read: I64, width: int) -> F32:
        distinct, place = np.unique(np.concatenate((listed, read), axis=1), return_inverse=True)
        features = self.features(distinct, width)
        place = place.reshape(len(listed), -1)
        of_listed, of_read = place[:, : listed.shape[1]], place[:, listed.shape[1] :]
        if len(distinct) <= 2_048:
            products: F32 = np.maximum(features @ features.T, 0)
            return products[of_listed[:, :, None], of_read[:, None, :]]
        found = np.empty((*listed.shape, read.shape[1]), np.float32)
        for start in range(0, len(listed), 64):
            part = slice(start, start + 64)
            np.matmul(features[of_listed[part]], features[of_read[part]].transpose(0, 2, 1), out=found[part])
        clipped: F32 = np.maximum(found, 0, out=found)
        return clipped

    def candidates(self, profiles: F32, size: int) -> I64:
        """Return items of the kinds nearest to each profile (U, F), nearest first, at most `size`: (U, size), −1 for none."""
        wanted = np.full((len(profiles), size), -1, np.int64)
        asked = np.flatnonzero(profiles.any(axis=1))
        if not len(asked) or self._index is None:
            return wanted
        read = profiles[asked][:, : len(self._gram)]
        found = self._index.search(read @ self._directions, _KINDS)
        kinds = np.where(found.rows >= 0, self._index.numbers[found.rows], 0)
        tail = np.arange(max(self._indexed, self.n_kinds - _TAIL), self.n_kinds)
        if len(tail):
            own = profiles[asked] @ self.features(tail, profiles.shape[1]).T
            scores = np.concatenate((np.where(found.rows >= 0, found.scores, -np.inf), own), axis=1)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :_KINDS]
            kinds = np.take_along_axis(np.concatenate((kinds, np.broadcast_to(tail, own.shape)), axis=1), best, axis=1)
        heads = np.full((len(asked), size), -1, np.int64)
        content_kernel.heads_of(self._heads, kinds, heads)
        wanted[asked] = heads
        return wanted

    def refresh(self, width: int, scores_of: Callable[[], F32], recommendable: Callable[[], NDArray[np.bool_]]) -> None:
        """Rebuild the index if there is none or the described items grew by 5 %. `scores_of` returns (N,) scores that order items of one
        kind, `recommendable` says which of them may be listed, (N,)."""
        grown = self._n_described > self._described_at * _REBUILD_GROWTH + 64
        if self.n_kinds == 1 or not width or (self._index is not None and not grown and len(self._gram) == width):
            return
        from recsys.index.vectors import VectorIndex  # not before it is needed: torch takes more than a second

        liked, kinds = scores_of(), np.arange(1, self.n_kinds)
        n_items = len(liked)
        features = self.features(kinds, width) if self.n_kinds * width < 50_000_000 else None
        self._gram = self._gram_of(kinds, width, features)
        _, directions = np.linalg.eigh(self._gram.astype(np.float64))
        self._directions = np.ascontiguousarray(directions[:, ::-1][:, :_SEARCHED], dtype=np.float32)
        projected = np.concatenate([self.features(part, width) @ self._directions for part in _parts(kinds)])
        self._index, self._indexed = VectorIndex(projected, kinds, n_sampled=_SAMPLED), self.n_kinds
        self._described_at = self._n_described
        of = self.of[:n_items]
        order = np.lexsort((-liked, of))
        order = order[recommendable()[order]]
        starts = np.searchsorted(of[order], np.arange(self.n_kinds + 1))
        place = np.arange(len(order)) - starts[of[order]]
        self._heads[:] = -1
        self._heads[of[order][place < HEADS], place[place < HEADS]] = order[place < HEADS]

    def _gram_of(self, kinds: I64, width: int, features: F32 | None) -> F32:
        total = np.zeros((width, width), np.float32)
        for part in _parts(kinds):
            rows = self.features(part, width) if features is None else features[part - 1]
            total += rows.T @ (rows * self._members[part, None])
        return total


def _parts(kinds: I64) -> list[I64]:
    return [kinds[start : start + 16_384] for start in range(0, len(kinds), 16_384)]


def _digests(described: Described) -> tuple[tuple[int, bytes], ...]:
    """Return a digest of each embedding, by which kinds are compared: the vectors themselves would be held twice."""
    return tuple((columns.start, hashlib.blake2b(vector.tobytes(), digest_size=16).digest()) for columns, vector in described.embeddings)
