"""Training of two towers: at random times of each user, the next preferences are predicted from what came before."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import TooFewInteractions
from recsys.models.adam import Adam
from recsys.models.base import F32, Model
from recsys.models.checkpoint import Checkpoints, Tensors, fingerprint
from recsys.models.content_map import Features
from recsys.models.cuts import Batch, cut, newest
from recsys.models.epochs import train_epochs
from recsys.models.held_back import HeldBack, hold_back
from recsys.models.item_values import ItemValues
from recsys.models.lightgcn.training import preferences_of
from recsys.models.row_adam import RowAdam
from recsys.models.sampled_softmax import Competition, cross_entropy
from recsys.models.segments.config import SegmentsConfig
from recsys.models.segments.fit import Likes, segments_of
from recsys.models.segments.segment import Membership, Segment
from recsys.models.training import Progress, warm_rows
from recsys.models.training_set import TrainingSet
from recsys.models.two_tower.config import TwoTowerConfig
from recsys.models.two_tower.model import TwoTowerModel
from recsys.models.two_tower.towers import Content, Read, Sizes, Towers

I64 = NDArray[np.int64]

_TABLES = ("items", "values", "embeddings", "read", "segments")
"""Tensors that regularisation shrinks."""


class _Users(NamedTuple):
    """Profiles of the users of a training set: their segments, and who is in which, (U, S)."""

    segments: list[Segment]
    members: F32


def fit(
    interactions: TrainingSet,
    config: TwoTowerConfig,
    progress: Progress | None = None,
    warm_start: Model | None = None,
    checkpoints: Checkpoints | None = None,
) -> TwoTowerModel:
    """Train on the preferences (weight > 0) in order of time, each item of a user once; their weights are not used.

    In each epoch every user is cut at `cuts` random times, and the next `targets` preferences are predicted from the newest
    `history_length` before, or as `reads` says. The loss is the cross-entropy of `recsys.models.sampled_softmax`; where it is sampled, a
    step reads and moves the items of its batch alone (`recsys.models.row_adam`). The newest preference of
    some users is held back, and the towers of the epoch with the best NDCG@10 on these are the result; with `config.fixed_epochs` nothing
    is held back and the last epoch counts. A warm start takes what both know. `progress` may stop the training after any epoch. The same
    seed gives the same model on one machine.
    With `checkpoints` the training goes on from the newest one, and makes others.
    Raises: TooFewInteractions without a user with two preferences, ModelError for weights that are not finite.
    """
    entries = preferences_of(interactions, 1 << 30, "two_tower")
    content, users = _content(entries, config), _users(entries, config)
    chance = np.random.default_rng(config.seed)
    is_warm = isinstance(warm_start, TwoTowerModel)
    training, held = entries, None
    if not config.fixed_epochs:
        training, held = hold_back(entries, config.validation_users, chance, is_warm=is_warm, newest=config.reads == "before")
    if np.diff(training.user_starts()).max(initial=0) < 2:
        training, held = entries, None
    n_embedded = sum(size for _, size in content.blocks)
    sizes = Sizes(entries.n_items, len(content.said.names), n_embedded, len(users.segments), config.factors, config.hidden)
    towers = Towers.random(sizes, config.seed)
    if isinstance(warm_start, TwoTowerModel):
        _warm_start(towers, entries, content, users, warm_start)
    run = _Run(towers, training, held, content, users, config, chance)
    which = fingerprint("two_tower", config, entries, [np.array([is_warm]), *_read_beside(content, users)])
    train_epochs("two_tower", run, config.fixed_epochs or config.max_epochs, config.patience, which, progress, checkpoints)
    towers = run.towers.copied()
    return TwoTowerModel(config, entries.item_ids, towers, content, users.segments)


def _content(entries: TrainingSet, config: TwoTowerConfig) -> Content:
    if entries.descriptions is None:
        return Content(ItemValues.none(entries.n_items), (), None)
    words = entries.descriptions.words(entries.item_ids)
    said, blocks = ItemValues.of(words, config.max_values), Features.of(words).blocks
    return Content(said, blocks, Features((), blocks).read(words) if blocks else None)


def _users(entries: TrainingSet, config: TwoTowerConfig) -> _Users:
    none = _Users([], np.zeros((entries.n_users, 0), np.float32))
    if entries.profiles is None:
        return none
    columns, attributes = entries.profiles
    likes = Likes(entries.users.astype(np.int64), entries.items.astype(np.int64), entries.ts_ms)
    options = SegmentsConfig(max_segments=config.max_segments, min_users=config.min_users)
    try:
        segments = segments_of(likes, columns, attributes, options)
    except TooFewInteractions:
        return none
    members = np.zeros((entries.n_users, len(segments)), np.float32)
    Membership(segments).mark(columns, members)
    return _Users(segments, members)


def _warm_start(towers: Towers, entries: TrainingSet, content: Content, users: _Users, earlier: TwoTowerModel) -> None:
    """Copy from earlier towers the rows of what both know, and every table of the same shape that has no names."""
    if earlier.settings.factors != towers.read.shape[1]:
        return
    theirs = earlier.towers
    here, there = warm_rows(entries.item_ids, earlier.item_ids)
    towers.items[here], towers.read[here] = theirs.items.detach()[there], theirs.read.detach()[there]
    here, there = warm_rows(content.said.names, earlier.content.said.names)
    towers.values[here] = theirs.values.detach()[there]
    here, there = warm_rows([str(one) for one in users.segments], [str(one) for one in earlier.segments])
    towers.segments[here] = theirs.segments.detach()[there]
    if content.blocks == earlier.content.blocks:
        towers.embeddings.copy_(theirs.embeddings.detach())
    for own, other in zip(towers, theirs, strict=True):
        if own is towers.ranks or own is towers.ages or (towers.shift.shape == theirs.shift.shape and _is_hidden(towers, own)):
            own.copy_(other.detach())


def _is_hidden(towers: Towers, own: torch.Tensor) -> bool:
    return any(own is one for one in (towers.widen, towers.shift, towers.narrow))


def _read_beside(content: Content, users: _Users) -> list[NDArray[Any]]:
    """Return what a training reads beside interactions."""
    said = content.said
    embedded = [] if content.embedded is None else [content.embedded]
    return [said.starts, said.columns, said.weights, np.array(said.names, np.str_), users.members, *embedded]


class _Run:
    """One training: its towers, and what moves them."""

    def __init__(
        self,
        towers: Towers,
        training: TrainingSet,
        held: HeldBack | None,
        content: Content,
        users: _Users,
        config: TwoTowerConfig,
        chance: np.random.Generator,
    ) -> None:
        self.towers, self._training, self._content, self._users = towers, training, content, users
        self._config, self.chance, self._held = config, chance, held
        self._histories = None if held is None else newest(training, held.users, config.history_length)
        counts = np.bincount(training.items, minlength=training.n_items)
        self._competition = Competition(counts, config.compared_above, config.negatives)
        shrink = config.learning_rate * config.regularisation
        whole = towers._asdict()
        self._by_id: RowAdam | None = None
        self._as_read: RowAdam | None = None
        if not self._competition.is_whole:
            self._by_id, self._as_read = (RowAdam(whole.pop(name), config.learning_rate, shrink=shrink) for name in ("items", "read"))
        self._shrinking = [table for name, table in whole.items() if name in _TABLES]
        self._keep = 1 - shrink
        self._optimiser = Adam([table.requires_grad_() for table in whole.values()], config.learning_rate)
        tables = {"by_id": self._by_id, "as_read": self._as_read}
        self.optimisers: dict[str, Adam | RowAdam] = {"adam": self._optimiser, **{k: v for k, v in tables.items() if v is not None}}
        self.weights: Tensors = {name: tensor.detach() for name, tensor in towers._asdict().items()}

    def epoch(self) -> tuple[float, int]:
        """Take the steps of an epoch; return the mean loss and the number of targets."""
        losses, n_targets = [], 0
        for batch in cut(self._training, self._config, self.chance):
            losses.append(self._step(batch))
            n_targets += len(batch.targets)
        return float(np.mean(losses)), n_targets

    def ndcg(self) -> float | None:
        """Return NDCG@10 of the held-back preferences; None without any."""
        if self._held is None or self._histories is None:
            return None
        model = TwoTowerModel(self._config, self._training.item_ids, self.towers, self._content, self._users.segments)
        return self._held.ndcg(model.encode(self._histories), model.item_vectors)

    def _step(self, batch: Batch) -> float:
        """Move the towers by a batch; return the loss."""
        self._optimiser.clear()
        users, content, config = self._users, self._content, self._config
        members, shown = _profiles(batch.users, users, config, self.chance) if users.segments else (None, None)
        compared, by_id = self._competition.of(batch.targets, self.chance), None
        if config.id_dropout and content.says.any():
            dropped = (self.chance.random(len(compared.items)) < config.id_dropout) & content.says[compared.items]
            by_id = torch.from_numpy((~dropped).astype(np.float32))
        towers, read, own = self.towers, Read.of(batch.items, batch.ts_ms, batch.lengths), None
        if self._as_read is not None and self._by_id is not None:
            rows, places = torch.unique(read.items, return_inverse=True)
            towers, read = towers._replace(read=self._as_read.read(rows)), read._replace(items=places)
            own = self._by_id.read(torch.from_numpy(compared.items))
        of_users = towers.users(read, members, shown)
        of_items = towers.vectors(compared.items, content, by_id, own)
        loss = cross_entropy(of_users, of_items, torch.from_numpy(batch.rows), compared.places(batch.targets), compared.log_shares)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        for rare in (self._by_id, self._as_read):
            if rare is not None:
                rare.step()
        with torch.no_grad():
            for table in self._shrinking:
                table.mul_(self._keep)
        return float(loss.detach())


def _profiles(rows: I64, users: _Users, config: TwoTowerConfig, chance: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the segments (B, S) of the users `rows` (B,) whose profile is shown, and of whom the history is (B,)."""
    drawn = chance.random((2, len(rows)))
    members = users.members[rows]
    alone = (drawn[0] < config.profile_alone) & members.any(axis=1)
    members = members * (alone | (drawn[1] >= config.profile_dropout))[:, None]
    return torch.from_numpy(members.astype(np.float32)), torch.from_numpy((~alone).astype(np.float32))
