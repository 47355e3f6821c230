"""Largest inner products among many vectors: vectors in lists of near ones, of which a query scans the few that may hold something.

Shapes: N vectors, D dimensions, L lists, U queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_LIST_SIZE = 512
"""Vectors in a list on average: smaller ones are told apart better and cost more calls."""
_LEAST_LIST = 8
_TOP_LISTS = 128
_ROUNDS = 8
_PER_CENTRE = 64
"""Vectors a centre is trained on."""
_SAMPLE = 8_192
_GROUP = 8
_REACH = 0.22
"""A list is scanned if a vector at its rim, this cosine off the query as seen from the mean, may reach the threshold. At 1 nothing is
missed; in many dimensions few vectors lie that way."""
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

    Lists are made by k-means on the vectors as they are, in two levels, so that vectors of like length share a list: the popular are told
    apart finely, the many short ones that win nowhere are in few lists. A query scans a list if `mean · q + reach · |q| · radius` reaches
    its threshold, one of its largest inner products with a sample of all vectors, such that very likely more than K are above it. Queries
    that scan the same list share one matrix product.

    `vectors` (N, D) are held once, list after list, with one row of zeros behind; `numbers` (N,) says whose row is whose.
    """

    def __init__(self, vectors: F32, numbers: I64 | None = None, *, seed: int = 0) -> None:
        numbers = np.arange(len(vectors), dtype=np.int64) if numbers is None else numbers
        generator = torch.Generator().manual_seed(seed)
        given = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
        order, sizes = _lists(given, generator)
        self.numbers: I64 = numbers[order.numpy()]
        self._padded = torch.zeros((len(given) + 1, given.shape[1]))
        torch.index_select(given, 0, order, out=self._padded[:-1])
        self._sizes = sizes
        of = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        self._means = _means(self._padded[:-1], of, sizes)
        self._radii = _radii(self._padded[:-1], of, self._means)
        chosen = torch.randperm(len(given), generator=generator)[:_SAMPLE].sort().values
        self.sample: I64 = chosen.numpy()
        self._sampled = self._padded[chosen].contiguous()
        self.gram: F32 = (self._padded.T @ self._padded).numpy()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def n_lists(self) -> int:
        return len(self._sizes)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        tensors = (self._padded, self._sizes, self._means, self._radii, self._sampled)
        return sum(t.nbytes for t in tensors) + self.numbers.nbytes + self.sample.nbytes + self.gram.nbytes

    @property
    def vectors(self) -> F32:
        """(N + 1, D), list after list; the last row is zero, where −1 points to."""
        return self._padded.numpy()

    def search(self, queries: F32, size: int, *, reach: float = _REACH) -> Found:
        """The `size` largest inner products of each query (U, D), as far as the scanned lists hold them."""
        parts = [self._search(torch.from_numpy(queries[s : s + _BATCH]), size, reach) for s in range(0, len(queries), _BATCH)]
        if not parts:
            return Found(np.zeros((0, size), np.int64), np.zeros((0, size), np.float32), np.zeros((0, len(self.sample)), np.float32))
        return Found(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def scores(self, queries: F32, rows: I64) -> F32:
        """Inner products of query u with the vectors in `rows[u]` (U, C), −1 giving 0: (U, C)."""
        found = torch.empty(rows.shape)
        wanted, asked = torch.from_numpy(rows), torch.from_numpy(queries).unsqueeze(2)
        wanted = torch.where(wanted < 0, len(self), wanted)
        step = max(1, 16_384 // max(rows.shape[1], 1))
        for s in range(0, len(rows), step):
            gathered = torch.nn.functional.embedding(wanted[s : s + step], self._padded)  # (B, C, D)
            torch.bmm(gathered, asked[s : s + step], out=found[s : s + step].unsqueeze(2))
        return found.numpy()

    def _search(self, queries: torch.Tensor, size: int, reach: float) -> tuple[I64, F32, F32]:
        n, n_queries = len(self), len(queries)
        sampled = queries @ self._sampled.T
        if n <= len(self.sample):
            scores, places = sampled.topk(min(size, n), dim=1)
            return _filled(self.sample[places.numpy()], scores.numpy(), size, sampled.numpy())
        # The best of each group only: a little lower than the best of all, and soon found.
        grouped = sampled.view(n_queries, -1, _GROUP).amax(dim=2)
        threshold = grouped.topk(_rank(size, len(self.sample), n), dim=1).values[:, -1]  # (U,)
        user, row, score = self._above(queries, threshold, reach)
        counts = torch.bincount(user, minlength=n_queries)
        if bool((counts < size).any()):
            short = (counts < size).nonzero()[:, 0]
            lower = sampled[short].topk(min(4 * _rank(size, len(self.sample), n), len(self.sample)), dim=1).values[:, -1]
            again = self._above(queries[short], lower, reach)
            kept = counts[user] >= size
            user, row, score = (
                torch.cat((found[kept], more))
                for found, more in zip((user, row, score), (short[again[0]], again[1], again[2]), strict=True)
            )
            counts = torch.bincount(user, minlength=n_queries)
        by_user = torch.argsort(user, stable=True)
        place = torch.arange(len(user)) - (counts.cumsum(0) - counts)[user[by_user]]
        width = max(int(counts.max()), 1)
        dense = torch.full((n_queries, width), -torch.inf)
        dense[user[by_user], place] = score[by_user]
        source = torch.full((n_queries, width), -1)
        source[user[by_user], place] = row[by_user]
        scores, places = dense.topk(min(size, width), dim=1)
        return _filled(source.gather(1, places).numpy(), scores.numpy(), size, sampled.numpy())

    def _above(self, queries: torch.Tensor, threshold: torch.Tensor, reach: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, row and score of what the scanned lists hold above each query's threshold, (n,) each."""
        lengths = queries.norm(dim=1)
        bound = self._means @ queries.T  # (L, U)
        bound.addcmul_(self._radii.unsqueeze(1), lengths.unsqueeze(0), value=reach)
        lists, users = (bound >= threshold).nonzero(as_tuple=True)
        if not len(lists):
            none = torch.zeros(0, dtype=torch.int64)
            return none, none, torch.zeros(0)
        scanned, counts = torch.unique_consecutive(lists, return_counts=True)
        asked, least = queries[users], threshold[users].unsqueeze(1)
        ends = self._sizes.cumsum(0)[scanned]
        pair, rows, scores, first = [], [], [], 0
        for end, n_rows, n_users in zip(ends.tolist(), self._sizes[scanned].tolist(), counts.tolist(), strict=True):
            product = asked[first : first + n_users] @ self._padded[end - n_rows : end].T
            above = (product > least[first : first + n_users]).nonzero(as_tuple=True)
            scores.append(product[above])
            pair.append(above[0] + first)
            rows.append(above[1] + (end - n_rows))
            first += n_users
        return users[torch.cat(pair)], torch.cat(rows), torch.cat(scores)


def _rank(size: int, n_sampled: int, n: int) -> int:
    """Which of a sample's largest is very likely not among the `size` largest of all."""
    expected = size * n_sampled / n
    return min(int(expected + 3 * expected**0.5 + 3), n_sampled // _GROUP)


def _filled(rows: I64, scores: F32, size: int, sampled: F32) -> tuple[I64, F32, F32]:
    """Padded to `size` columns; −1 wherever the score is −∞."""
    more = ((0, 0), (0, size - scores.shape[1]))
    rows, scores = np.pad(rows, more, constant_values=-1), np.pad(scores, more, constant_values=-np.inf)
    return np.where(np.isfinite(scores), rows, -1), scores, sampled


def _lists(vectors: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """An order of the vectors (N,) in which lists are contiguous, and the lists' sizes (L,)."""
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
    """The cluster of each vector (N,), by Lloyd's iterations on a sample."""
    trained = vectors[torch.randperm(len(vectors), generator=generator)[: k * _PER_CENTRE]]
    centres = trained[:k].clone()
    for _ in range(_ROUNDS):
        of = _nearest(trained, centres)
        counts = torch.bincount(of, minlength=k)
        sums = torch.zeros_like(centres).index_add_(0, of, trained)
        centres = torch.where(counts.unsqueeze(1) > 0, sums / counts.clamp_min(1).unsqueeze(1), centres)
    return _nearest(vectors, centres)


def _nearest(vectors: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """The nearest of `centres` (K, D) to each vector, (N,)."""
    halves = (centres * centres).sum(1) / -2
    step = max(64, 2_000_000 // len(centres))
    return torch.cat([torch.addmm(halves, part, centres.T).argmax(1) for part in torch.split(vectors, step)])


def _means(vectors: torch.Tensor, of: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    return torch.zeros((len(sizes), vectors.shape[1])).index_add_(0, of, vectors) / sizes.clamp_min(1).unsqueeze(1)


def _radii(vectors: torch.Tensor, of: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
    """The largest distance from the mean in each list, (L,)."""
    squares = torch.zeros(len(means))
    for first in range(0, len(vectors), 65_536):
        part = slice(first, first + 65_536)
        squares.scatter_reduce_(0, of[part], ((vectors[part] - means[of[part]]) ** 2).sum(1), "amax")
    return squares.sqrt()
