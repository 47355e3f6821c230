"""Interaction data for benchmarks, read from `RECSYS_DATA` (never shipped; research licences)."""

from __future__ import annotations

import contextlib
import csv
import lzma
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.items import ItemContent


class DatasetMissing(Exception):
    """The data is not on this machine. The message says how to provide it."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Ratings in order of time; every column is (n,). `content` maps item ids to their description. `times_s` are seconds."""

    users: list[str]
    items: list[str]
    ratings: NDArray[np.float32]
    times_s: NDArray[np.int64]
    content: dict[str, ItemContent]

    def __len__(self) -> int:
        return len(self.users)


def data_folder() -> Path:
    """Return the folder that `RECSYS_DATA` names. Raises: DatasetMissing."""
    folder = Path(os.environ.get("RECSYS_DATA", ""))
    if not os.environ.get("RECSYS_DATA") or not folder.is_dir():
        raise DatasetMissing("RECSYS_DATA must name a folder with ml-1m/positives.csv.xz and ml-1m/movies.csv.xz")
    return folder


def movielens_1m(minimum_rating: float) -> Stream:
    """Read the ratings of MovieLens 1M from `minimum_rating` (at least 4) on, by time. Raises: DatasetMissing.

    Source: Harper & Konstan 2015.
    """
    folder = data_folder() / "ml-1m"
    users, items, ratings, times_s = [], [], [], []
    with lzma.open(folder / "positives.csv.xz", "rt") as lines:
        for row in csv.DictReader(lines):
            if float(row["rating"]) >= minimum_rating:
                users.append(row["user_id"])
                items.append(row["movie_id"])
                ratings.append(float(row["rating"]))
                times_s.append(int(row["timestamp"]))
    with lzma.open(folder / "movies.csv.xz", "rt") as lines:
        content = {row["movie_id"]: _content(row["title"], row["genres"]) for row in csv.DictReader(lines)}
    return Stream(users, items, np.array(ratings, np.float32), np.array(times_s, np.int64), content)


def _content(title: str, genres: str) -> ItemContent:
    year = re.search(r"\((\d{4})\)\s*$", title)
    published_s = None if year is None else int(np.datetime64(f"{year[1]}-01-01", "s").astype(np.int64))
    return ItemContent(categories=[genre for genre in genres.split("|") if genre], published_s=published_s)


def generated_stream(n_events: int, seed: int, n_users: int = 6_000, n_items: int = 3_500) -> Stream:
    """Generate a stream of users with one of 20 tastes each, and items by Zipf's law within the taste; one second between events.

    The same seed gives the same stream.
    """
    random = np.random.default_rng(seed)
    tastes = random.integers(0, 20, n_users)
    users = random.integers(0, n_users, n_events)
    ranks = np.minimum(random.zipf(1.3, n_events), n_items // 20) - 1
    liked = random.random(n_events) < 0.8
    items = ranks * 20 + np.where(liked, tastes[users], random.integers(0, 20, n_events))
    content = {f"i{item}": ItemContent(categories=[f"taste{item % 20}"], published_s=1_000_000_000) for item in range(n_items)}
    return Stream(
        [f"u{user}" for user in users.tolist()],
        [f"i{item}" for item in items.tolist()],
        np.full(n_events, 5.0, np.float32),
        1_600_000_000 + np.arange(n_events, dtype=np.int64),
        content,
    )


def zipf_stream(n_events: int, seed: int, n_users: int = 200_000, n_items: int = 100_000, exponent: float = 1.05) -> Stream:
    """Generate a stream over many users and items, both drawn by Zipf's law with this exponent; a tenth of a second between events.

    The same seed gives the same stream.
    """
    random = np.random.default_rng(seed)
    users, items = (random.permutation(n)[_zipf_ranks(random, n_events, n, exponent)] for n in (n_users, n_items))
    content = {f"i{item}": ItemContent(categories=[f"kind{item % 200}"], published_s=1_000_000_000) for item in range(n_items)}
    return Stream(
        [f"u{user}" for user in users.tolist()],
        [f"i{item}" for item in items.tolist()],
        np.full(n_events, 5.0, np.float32),
        1_600_000_000 + np.arange(n_events, dtype=np.int64) // 10,
        content,
    )


def _zipf_ranks(random: np.random.Generator, n_draws: int, n_ranks: int, exponent: float) -> NDArray[np.int64]:
    """Draw ranks from 0 to `n_ranks` − 1 with probability ∝ (rank + 1)^−exponent."""
    weights = np.arange(1, n_ranks + 1, dtype=np.float64) ** -exponent
    return np.searchsorted(np.cumsum(weights) / weights.sum(), random.random(n_draws)).clip(max=n_ranks - 1)


def chosen_stream(name: str, n_events: int) -> tuple[Stream, str]:
    """Return the stream `ml-1m`, `zipf` or `generated`, and its title. Without RECSYS_DATA `ml-1m` falls back to `generated`."""
    if name == "zipf":
        return zipf_stream(n_events, seed=0), "Zipf: 200,000 users, 100,000 items"
    if name == "ml-1m":
        with contextlib.suppress(DatasetMissing):
            return movielens_1m(4.0), "MovieLens 1M, ratings of 4 and 5"
    return generated_stream(n_events, seed=0), "generated: 6,000 users, 3,500 items"
