"""The made-up data of `recsys init --with-data`, imported and listed with the settings of its scenario, once for all tests."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scenarios import END_S, Happened, Replay, scenario_settings
from recsys.engine import Engine, Lists
from schemas import Item
from tests.row_publisher import RecordingPublisher
from workers.cli.file_options import FileOptions
from workers.lists.item_content import content_of
from workers.operations.sample_data.files import sample_of, write_sample
from workers.operations.sample_data.world import Sample
from workers.producer.files import open_rows
from workers.producer.guess import guess
from workers.producer.publish import Run, publish_rows
from workers.producer.report import PublishReport
from workers.settings import Settings

LEARNT_TOGETHER = 500
IMPORTED_EVENTS = 3_000
"""Events that are imported here: all events are made by the same code, and a test of the whole line imports all of them."""


@cache
def sample(name: str) -> Sample:
    return sample_of(name, END_S)


@cache
def imported(name: str) -> dict[str, tuple[list[Any], PublishReport]]:
    """Return the records that `recsys import` publishes of each file, and its report."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in write_sample(name, Path(folder), END_S).paths:
            guessed = guess(str(path))
            options = FileOptions(**guessed.options)
            mapping = options.mapping(guessed.kind, guessed.form != "jsonl")
            publisher = RecordingPublisher()
            with open_rows(str(path), options.reading(), mapping) as rows:
                found[guessed.kind] = (publisher.records, publish_rows(islice(rows, IMPORTED_EVENTS), mapping, publisher, Run()))
    return dict(found)


@dataclass(frozen=True, eq=False)
class Listed:
    """Lists and pages of all users at the end of the data."""

    sample: Sample
    settings: Settings
    engine: Engine
    items: list[Item]
    lists: Lists

    def listed(self, user: int) -> list[Item]:
        """Return the items of a user's list, in order."""
        return [self.items[number] for number in self.lists.items[user] if number >= 0]

    def page(self, user: int) -> dict[str, list[Item]]:
        """Return the rows of a user's page, by kind."""
        assert self.lists.rows is not None
        ends = np.cumsum([spec.size for spec in self.lists.rows.specs])[:-1]
        rows = np.split(self.lists.rows.items[user], ends)
        return {spec.kind: [self.items[n] for n in row if n >= 0] for spec, row in zip(self.lists.rows.specs, rows, strict=True)}

    def shown(self, user: int) -> list[Item]:
        """Return all that a user is shown."""
        return self.listed(user) + [item for row in self.page(user).values() for item in row]

    def did(self, *types: str) -> dict[tuple[str, str], int]:
        """Return when each user did one of these last with each item."""
        return {(event["user_id"], event["item_id"]): event["event_ts_ms"] for event in self.sample.events if event["type"] in types}

    @property
    def users(self) -> list[str]:
        return [record["user_id"] for record in self.sample.users]


@cache
def listed(name: str) -> Listed:
    """Learn the events of a scenario with the settings that `recsys init` writes, describe items as they are at the end, and list all."""
    made, settings = sample(name), scenario_settings(name)
    replay = Replay(Happened.of(name, made), settings)
    for start in range(0, len(made.events), LEARNT_TOGETHER):
        replay.learn(start, min(start + LEARNT_TOGETHER, len(made.events)))
    items = imported(name)["items"][0]
    for number, item in enumerate(items):
        replay.engine.describe_item(number, content_of(item))
    replay.engine.advance_time(END_S)
    seeds = np.arange(len(replay.ids))
    lists = replay.engine.recommend(replay.slots, {}, replay.engine.shared(END_S), seeds, user_ids=replay.ids)
    return Listed(made, settings, replay.engine, items, lists)
