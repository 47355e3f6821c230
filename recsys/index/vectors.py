"""Largest inner products among many vectors: vectors in lists of near ones, of which a query scans the few that may hold something.

Shapes: N vectors, D dimensions, L lists, U queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.index import scan_kernel

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

_LIST_SIZE = 256
"""Vectors in a list on average. Smaller lists separate better, and there are more of them to look at."""
_LEAST_LIST = 8
_TOP_LISTS = 128
_ROUNDS = 8
_PER_CENTRE = 64
"""Vectors a centre is trained on."""
SAMPLE = 8_192
"""Sampled vectors, whose inner products say where a query's largest begin, and how all are spread."""
_RANK_RISE = 4
"""The second search for a threshold goes this many times further down, where too few products were above the first."""
_REACH = 0.58
"""A list is scanned if a vector at its rim, this cosine off the query as seen from the mean, may reach the threshold; the rim is the
geometric mean of the largest distance and the root mean square. In many dimensions few vectors lie that way. Less is reached for, by the
fourth root, the more of what lies above the threshold is not wanted."""
_BATCH = 512


@dataclass(frozen=True, slots=True)
class Found:
    """The K largest inner products of each query, largest first: `rows` (U, K) of the index, −1 where there were fewer; `scores` (U, K),
    −∞ there. `sampled` (U, S) are the inner products with the index's sample."""

    rows: I64
    scores: F32
    sampled: F32


class VectorIndex:
    """N vectors in L lists of near ones.

    Lists are made by k-means on the vectors as they are, in two levels, so that vectors of like length share a list: the popular are
    separated finely, the many short ones that win nowhere are in few lists. A query scans a list if `mean · q + reach · |q| · rim` reaches
    its threshold, one of its largest inner products with a sample of all vectors, such that very likely more than K are above it. Queries
    that scan the same list do so together.

    `vectors` (N, D) are held once, list after list, with one row of zeros behind; `numbers` (N,) says whose row is whose.
    """

    def __init__(self, vectors: F32, numbers: I64 | None = None, *, n_sampled: int = SAMPLE, seed: int = 0) -> None:
        numbers = np.arange(len(vectors), dtype=np.int64) if numbers is None else numbers
        generator = torch.Generator().manual_seed(seed)
        given = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
        order, sizes = _lists(given, generator)
        self.numbers: I64 = numbers[order.numpy()]
        self._padded = torch.from_numpy(np.zeros((len(given) + 1, given.shape[1]), np.float32))  # NumPy's memory is in huge pages
        torch.index_select(given, 0, order, out=self._padded[:-1])
        self._ends: I64 = sizes.cumsum(0).numpy()
        of = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        self._means = _means(self._padded[:-1], of, sizes)
        self._radii, mean_squares = _distances(self._padded[:-1], of, self._means, sizes)
        self._rims = (self._radii * mean_squares.sqrt()).sqrt()
        chosen = torch.randperm(len(given), generator=generator)[:n_sampled].sort().values
        self.sample: I64 = chosen.numpy()
        self._sampled = self._padded[chosen].contiguous()
        self.gram: F32 = (self._padded.T @ self._padded).numpy()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def n_lists(self) -> int:
        return len(self._ends)

    @property
    def nbytes(self) -> int:
        """Return the bytes held."""
        tensors = (self._padded, self._means, self._radii, self._rims, self._sampled)
        return sum(t.nbytes for t in tensors) + self._ends.nbytes + self.numbers.nbytes + self.sample.nbytes + self.gram.nbytes

    @property
    def vectors(self) -> F32:
        """Return (N + 1, D), list after list; the last row is zero, where −1 points to."""
        return self._padded.numpy()

    def search(self, queries: F32, size: int, *, exact: bool = False) -> Found:
        """Return the `size` largest inner products of each query (U, D), as far as the scanned lists hold them; `exact` scans every list
        that may hold one."""
        parts = [self._search(np.ascontiguousarray(queries[s : s + _BATCH]), size, exact) for s in range(0, len(queries), _BATCH)]
        if not parts:
            return Found(np.zeros((0, size), np.int64), np.zeros((0, size), np.float32), np.zeros((0, len(self.sample)), np.float32))
        return Found(*(np.concatenate(columns) for columns in zip(*parts, strict=True))) if len(parts) > 1 else Found(*parts[0])

    def scores(self, queries: F32, rows: I64) -> F32:
        """Return the inner products of query u with the vectors in `rows[u]` (U, C), −1 giving 0: (U, C)."""
        found = np.empty(rows.shape, np.float32)
        scan_kernel.at_rows(self.vectors, np.ascontiguousarray(queries), rows, found)
        return found

    def _search(self, queries: F32, size: int, exact: bool) -> tuple[I64, F32, F32]:
        n, n_sampled = len(self), len(self.sample)
        rows, scores = np.full((len(queries), size), -1, np.int64), np.full((len(queries), size), -np.inf, np.float32)
        if not n:
            return rows, scores, np.zeros((len(queries), 0), np.float32)
        sampled = (torch.from_numpy(queries) @ self._sampled.T).numpy()
        first, asked = _rank(size, n_sampled, n), np.arange(len(queries))
        for rank in dict.fromkeys((first, min(_RANK_RISE * first, n_sampled))):
            least = np.full(len(asked), -np.inf, np.float32)
            own_rows, own_scores = np.full((len(asked), size), -1, np.int64), np.full((len(asked), size), -np.inf, np.float32)
            if rank < n_sampled:
                scan_kernel.nth_largest(sampled, asked, rank, least)
            reach = _REACH * (size * n_sampled / (rank * n)) ** 0.25
            self._scan(queries[asked], least, None if exact else reach, own_scores, own_rows)
            rows[asked], scores[asked] = own_rows, own_scores
            asked = asked[own_rows[:, 0] < 0]  # not all places taken: once more with less asked for
            if not len(asked):
                break
        scan_kernel.in_order(scores, rows)
        return rows, scores, sampled

    def _scan(self, queries: F32, least: F32, reach: float | None, scores: F32, rows: I64) -> None:
        """Fill the heaps `scores` and `rows` (U, K) with what the scanned lists hold above each query's `least`; without `reach` with all
        that is above it."""
        asked = torch.from_numpy(queries)
        bound = self._means @ asked.T  # (L, U)
        rims, reach = (self._radii, 1.0) if reach is None else (self._rims, reach)
        bound.addcmul_(rims.unsqueeze(1), asked.norm(dim=1).unsqueeze(0), value=reach)
        ends = np.empty(len(self._ends), np.int64)
        scan_kernel.count_scanned(bound.numpy(), least, ends)
        users = np.empty(int(ends[-1]), np.int64)
        scan_kernel.name_scanned(bound.numpy(), least, users)
        scan_kernel.scan(self.vectors, self._ends, queries, ends, users, least, scores, rows)


def _rank(size: int, n_sampled: int, n: int) -> int:
    """Return which of a sample's largest is very likely not among the `size` largest of all."""
    expected = size * n_sampled / n
    return min(int(expected + 3 * expected**0.5 + 3), n_sampled) if n > n_sampled else n_sampled


def _lists(vectors: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an order of the vectors (N,) in which lists are contiguous, and the lists' sizes (L,)."""
    n = len(vectors)
    if n <= 2 * _LIST_SIZE:
        return torch.arange(n), torch.tensor([n])
    top = min(_TOP_LISTS, n // _LIST_SIZE)
    of = _clustered(vectors, top, generator)
    order = torch.argsort(of, stable=True)
    parts, sizes, first = [], [], 0
    for size in torch.bincount(of, minlength=top).tolist():
        rows = order[first : first + size]
        first += size
        k = min(-(-size // _LIST_SIZE), size // _LEAST_LIST)
        if k > 1:
            own = _clustered(vectors[rows], k, generator)
            rows = rows[torch.argsort(own, stable=True)]
            inside = torch.bincount(own, minlength=k)
        else:
            inside = torch.tensor([size])
        parts.append(rows)
        sizes.append(inside[inside > 0])
    return torch.cat(parts), torch.cat(sizes)


def _clustered(vectors: torch.Tensor, k: int, generator: torch.Generator) -> torch.Tensor:
    """Return the cluster of each vector (N,), by Lloyd's iterations on a sample."""
    trained = vectors[torch.randperm(len(vectors), generator=generator)[: k * _PER_CENTRE]]
    centres = trained[:k].clone()
    for _ in range(_ROUNDS):
        of = _nearest(trained, centres)
        counts = torch.bincount(of, minlength=k)
        sums = torch.zeros_like(centres).index_add_(0, of, trained)
        centres = torch.where(counts.unsqueeze(1) > 0, sums / counts.clamp_min(1).unsqueeze(1), centres)
    return _nearest(vectors, centres)


def _nearest(vectors: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Return the nearest of `centres` (K, D) to each vector, (N,)."""
    halves = (centres * centres).sum(1) / -2
    step = max(64, 2_000_000 // len(centres))
    return torch.cat([torch.addmm(halves, part, centres.T).argmax(1) for part in torch.split(vectors, step)])


def _means(vectors: torch.Tensor, of: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    return torch.zeros((len(sizes), vectors.shape[1])).index_add_(0, of, vectors) / sizes.clamp_min(1).unsqueeze(1)


def _distances(vectors: torch.Tensor, of: torch.Tensor, means: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest distance from the mean in each list, and the mean square of all, (L,) each."""
    largest, summed = torch.zeros(len(means)), torch.zeros(len(means))
    for first in range(0, len(vectors), 65_536):
        part = slice(first, first + 65_536)
        squares = ((vectors[part] - means[of[part]]) ** 2).sum(1)
        largest.scatter_reduce_(0, of[part], squares, "amax")
        summed.index_add_(0, of[part], squares)
    return largest.sqrt(), summed / sizes.clamp_min(1)
