"""The splits that `benchmarks.models` measures on, as cases of `recsys evaluate`."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.datasets import DatasetMissing, data_folder
from recsys.evaluation.cases import Cases
from recsys.evaluation.splits import split_rows
from workers.operations.evaluation import Protocol
from workers.operations.evaluation_cases import Files, cases_of_files
from workers.operations.evaluation_files import Numbering, in_random_order, read_interactions, read_negatives

TableName = Literal["ml-1m-ncf", "ml-1m-sasrec"]


@dataclass(frozen=True, slots=True)
class Split:
    """One split: its protocol, the kinds that are measured on it unless others are named, how its cases are read, and what it is."""

    protocol: Protocol
    kinds: tuple[str, ...]
    read: Callable[[], Cases]
    said: str


def _file(folder: str, name: str) -> Path:
    """Return a file of RECSYS_DATA, compressed or not. Raises DatasetMissing."""
    for suffix in (".xz", ""):
        path = data_folder() / folder / f"{name}{suffix}"
        if path.exists():
            return path
    raise DatasetMissing(f"RECSYS_DATA has no file {folder}/{name} or {name}.xz")


def _ncf() -> Cases:
    """Train on all pairs but one of each user, in random order, as there are no times; rank that one among the 99 given negatives."""
    users, items = Numbering(), Numbering()
    train = read_interactions("train.txt", str(_file("ml-1m-ncf", "train.txt")), users, items)
    train = in_random_order(train)  # sorted by number: a user's last item would be no fair validation
    of_user, of_item = [], []
    path = _file("ml-1m-ncf", "ml-1m.test.rating")
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as lines:
        for line in lines:  # user, item, rating, time
            user, item = line.split()[:2]
            of_user.append(users.of(user))
            of_item.append(items.of(item))
    negatives = read_negatives("negatives", str(_file("ml-1m-ncf", "ml-1m.test.negative")), users, items)
    train_users, train_items, train_ms = train.columns()
    n_train, n_test = len(train_users), len(of_user)
    all_users, all_items = np.concatenate((train_users, of_user)), np.concatenate((train_items, of_item))
    times = np.concatenate((train_ms, np.full(n_test, int(train_ms.max()) + 1)))
    held = np.arange(n_train + n_test) >= n_train
    return split_rows(
        all_users, all_items, items.ids, np.ones(len(held), np.float32), times, held, repeats=True, candidates=negatives
    )


def _sasrec() -> Cases:
    """Train on all items of a user but the last; rank that one among all that the user has not touched."""
    return cases_of_files(Files(str(_file("ml-1m-sasrec", "ml-1m.txt"))), "last-item", 0.2)


SPLITS: dict[str, Split] = {
    "ml-1m-ncf": Split(
        "negatives",
        ("popular", "knn", "ials", "ease"),
        _ncf,
        "MovieLens 1M without times, the split of He et al. 2017: one item of each of 6,040 users is ranked among 99 given others",
    ),
    "ml-1m-sasrec": Split(
        "last-item",
        ("popular", "knn", "ials", "ease"),
        _sasrec,
        "MovieLens 1M in the order of the times, as prepared by Kang & McAuley 2018: the last item of each of 6,040 users is ranked among "
        "all 3,416 that the user has not touched",
    ),
}
