"""Writes made-up data as the CSV files that `recsys import` reads."""

from __future__ import annotations

import csv
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from workers.operations.sample_data import news, shop, social, video
from workers.operations.sample_data.world import Sample

SAMPLES: dict[str, Callable[[Random, int], Sample]] = {
    "shop": shop.make_sample,
    "video": video.make_sample,
    "news": news.make_sample,
    "social": social.make_sample,
}
FOLDER = "sample"
FILES = ("items.csv", "users.csv", "events.csv")
USER_PAGE = "/users/"
"""Path of a user's page on the dashboard, before the id."""


def sample_of(name: str, end_s: int, seed: int = 0) -> Sample:
    """Return the data of a scenario; the same seed and the same end give the same data."""
    return SAMPLES[name](Random(f"{name} {seed}"), end_s)


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a sample, and the user whose page has most to show."""

    paths: list[Path]
    user_id: str


def sample_paths(folder: Path) -> list[Path]:
    """Return where the files of a sample go."""
    return [folder / FOLDER / file for file in FILES]


def write_sample(name: str, folder: Path, end_s: int, seed: int = 0) -> Written:
    """Write the files of a scenario, whose events end at `end_s`. Raises FileExistsError for a file that is there."""
    made = sample_of(name, end_s, seed)
    paths = sample_paths(folder)
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for path, rows in zip(paths, (made.items, made.users, made.events), strict=True):
        _write(path, rows)
    return Written(paths, user_to_show(made))


def user_to_show(sample: Sample) -> str:
    """Return the user who did most, impressions left out; of a video service one without children who has begun what is not ended."""
    did = Counter[str](event["user_id"] for event in sample.events if event["type"] != "impression")
    newest = {(event["user_id"], event["item_id"]): event["type"] for event in sample.events if event["type"] in (video.START, video.END)}
    begun = Counter[str](user_id for (user_id, _), kind in newest.items() if kind == video.START and sample.items[0].get("minutes"))
    children = {record["user_id"] for record in sample.users if record.get("household") == "children"}
    return max(did, key=lambda user_id: (begun[user_id] > 1 and user_id not in children, did[user_id], user_id))


def first_steps(folder: Path, user_id: str) -> list[str]:
    """Return the commands from the files of a scenario to a page in the dashboard, for a shell."""
    files = " ".join(f"{FOLDER}/{file}" for file in FILES)
    return [
        f"cd {shlex.quote(str(folder))}",
        "recsys up --folder data --env-file stack.env   # leave it running; the rest goes into a second shell, in the same folder",
        ". ./stack.env",
        f"recsys import {files} --yes",
        f"recsys lists get {user_id}   # and the page {USER_PAGE}{user_id} at the address of the dashboard that `recsys up` printed",
    ]


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow([_time(value) if name.endswith("_ts_ms") and value is not None else value for name, value in row.items()])


def _time(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
