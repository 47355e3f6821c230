"""Trains the recipe of the lists as the trainer does, on the events so far: after 40 % of the targets, then after each further 20 %."""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.streams.protocol import Stream, n_choosing
from recsys.engine import Engine
from recsys.errors import TooFewInteractions
from recsys.recipe.budget import TrainOptions
from recsys.recipe.replay import Log as ReplayLog
from recsys.recipe.train import train_recipe
from recsys.state.user_table import quantise_weights

AGAIN_SHARE = 0.2
"""A recipe is trained again after this share of the targets."""


class Schedule:
    """Trains a recipe at some points of a log, each from the one before, and hands it to the engine. Call it with the next event."""

    def __init__(self, stream: Stream, engine: Engine, seed: int) -> None:
        self._engine, self._seed = engine, seed
        self._points = points(stream)
        log = stream.log
        self._name = log.name
        contents = {number: log.content[item_id] for number, item_id in enumerate(log.item_ids) if item_id in log.content}
        self._log = ReplayLog(log.users, log.items, log.times_s, quantise_weights(log.weights), contents, log.types)
        self.n_trained = 0

    def __call__(self, event: int) -> None:
        if not self._points or event < self._points[0]:
            return
        while self._points and event >= self._points[0]:
            del self._points[0]
        try:
            options, start = TrainOptions(seed=self._seed), self._engine.recipe
            self._engine.use_recipe(train_recipe(self._engine.config, self._log.first(event), options, start))
        except TooFewInteractions as error:
            print(f"{self._name}: no recipe after {event:,} events: {error}", file=sys.stderr)
            return
        self.n_trained += 1
        print(f"{self._name}: recipe {self.n_trained} trained on the first {event:,} events", file=sys.stderr)


def points(stream: Stream) -> list[int]:
    """Return the events before which a recipe is trained: by the targets of *discovery*, which are what a recipe learns from."""
    targets = stream.events[stream.targets("discovery")]
    shares = np.arange(n_choosing(100), 100, round(100 * AGAIN_SHARE)) / 100
    places = [int(share * len(targets)) for share in shares]
    return sorted({int(targets[place]) for place in places if place < len(targets)})
