"""Training of LightGCN: preferences that are taken out of the graph are predicted from the rest of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import ModelError, TooFewInteractions
from recsys.models.adam import Adam
from recsys.models.base import Model
from recsys.models.checkpoint import Checkpoints, Tensors, fingerprint
from recsys.models.epochs import train_epochs
from recsys.models.held_back import HeldBack, hold_back
from recsys.models.item_values import ItemValues
from recsys.models.lightgcn.config import LightGCNConfig
from recsys.models.lightgcn.graph import Graph, scale_of
from recsys.models.lightgcn.model import Knowledge, LightGCNModel, Vectors
from recsys.models.row_adam import RowAdam
from recsys.models.sampled_softmax import Competition, cross_entropy
from recsys.models.training import Progress, warm_rows
from recsys.models.training_set import TrainingSet

I64 = NDArray[np.int64]

_SPREAD = 0.1
"""Standard deviation of the first vectors."""


class _Nodes(NamedTuple):
    """Own vectors of items (I, D) and of values (F, D)."""

    items: torch.Tensor
    values: torch.Tensor


def fit(
    interactions: TrainingSet,
    config: LightGCNConfig,
    progress: Progress | None = None,
    warm_start: Model | None = None,
    checkpoints: Checkpoints | None = None,
) -> LightGCNModel:
    """Train on the preferences (weight > 0) among the newest `history_length` items of each user; their weights are not used.

    In each epoch a share `masked` of them leaves the graph. The loss is the cross-entropy of these over all items, from the rest of their
    user's history (`recsys.models.sampled_softmax`). A random preference of some users is held back, and the vectors of the epoch with
    the best NDCG@10 on these are the result, spread over the whole graph; with `config.fixed_epochs` nothing is held back and the last
    epoch counts. Where it is known what items say, values that several items share are nodes. A warm start takes the earlier model's own
    vectors of what both know. `progress` may stop the training after any epoch. The same seed gives the same model on one machine.
    With `checkpoints` the training goes on from the newest one, and makes others.
    Raises: TooFewInteractions without a user with two preferences, ModelError for weights that are not finite.
    """
    entries = preferences_of(interactions, config.history_length, "lightgcn")
    said = _said(entries, config)
    chance = np.random.default_rng(config.seed)
    is_warm = isinstance(warm_start, LightGCNModel)
    training, held = entries, None
    if not config.fixed_epochs:
        training, held = hold_back(entries, config.validation_users, chance, is_warm=is_warm, newest=False)
    if np.diff(training.user_starts()).max(initial=0) < 2:
        training, held = entries, None
    nodes = _nodes(entries, said, config)
    if isinstance(warm_start, LightGCNModel):
        _warm_start(nodes, entries, said, warm_start)
    scale = scale_of(entries, config.layers)
    run = _Run(nodes, training, held, said, scale, config, chance)
    beside = np.array([is_warm]), said.starts, said.columns, said.weights, np.array(said.names, np.str_)
    which = fingerprint("lightgcn", config, entries, beside)
    train_epochs("lightgcn", run, config.fixed_epochs or config.max_epochs, config.patience, which, progress, checkpoints)
    return _model(config, entries, said, nodes, scale)


def preferences_of(interactions: TrainingSet, history_length: int, kind: str) -> TrainingSet:
    """Return the preferences in what a history of `history_length` entries holds of each user, each item once, oldest first.

    Raises: ModelError for a weight that is not finite, TooFewInteractions without a user who prefers two items.
    """
    if not np.isfinite(interactions.weights).all():
        raise ModelError(f"{kind}: the weights of interactions must be finite numbers; leave those out that are not")
    entries = interactions.entries(history_length).positive()
    if np.diff(entries.user_starts()).max(initial=0) < 2:
        raise TooFewInteractions(f"{kind} needs at least one user who prefers two items")
    return entries


def _said(entries: TrainingSet, config: LightGCNConfig) -> ItemValues:
    if entries.descriptions is None or not config.knowledge_weight:
        return ItemValues.none(entries.n_items)
    return ItemValues.of(entries.descriptions.words(entries.item_ids), config.max_values)


def _nodes(entries: TrainingSet, said: ItemValues, config: LightGCNConfig) -> _Nodes:
    generator = torch.Generator().manual_seed(config.seed)
    sizes = entries.n_items, len(said.names)
    return _Nodes(*(torch.randn((size, config.factors), generator=generator) * _SPREAD for size in sizes))


def _warm_start(nodes: _Nodes, entries: TrainingSet, said: ItemValues, earlier: LightGCNModel) -> None:
    if earlier.settings.factors != nodes.items.shape[1]:
        return
    here, there = warm_rows(entries.item_ids, earlier.item_ids)
    nodes.items[here] = torch.from_numpy(earlier.vectors.own)[there]
    if earlier.knowledge is not None:
        here, there = warm_rows(said.names, earlier.knowledge.said.names)
        nodes.values[here] = torch.from_numpy(earlier.knowledge.own)[there]


class _Run:
    """One training: own vectors of the nodes, and what moves them."""

    def __init__(
        self,
        nodes: _Nodes,
        training: TrainingSet,
        held: HeldBack | None,
        said: ItemValues,
        scale: float,
        config: LightGCNConfig,
        chance: np.random.Generator,
    ) -> None:
        self._nodes, self._training, self._held, self._said, self._scale = nodes, training, held, said, scale
        self._config, self.chance = config, chance
        self._optimiser = Adam(nodes, config.learning_rate)
        self._competition = Competition(np.bincount(training.items, minlength=training.n_items), config.compared_above, config.negatives)
        self._whole = self._graph(training)
        self.optimisers: dict[str, Adam | RowAdam] = {"adam": self._optimiser}
        self.weights: Tensors = nodes._asdict()

    def _graph(self, training: TrainingSet) -> Graph:
        return Graph(training, self._said, self._config.knowledge_weight, self._config.layers, self._scale)

    def epoch(self) -> tuple[float, int]:
        """Take the steps of an epoch; return the mean loss and the number of targets."""
        masked = _mask(self._training, self._config.masked, self.chance)
        graph, targets = self._graph(self._training.only(~masked)), self._training.only(masked)
        starts, users = targets.user_starts(), self.chance.permutation(np.unique(targets.users)).astype(np.int64)
        size = self._config.batch_users
        batches = [users[first : first + size] for first in range(0, len(users), size)]
        changing = self._nodes, self._optimiser, graph, targets, starts
        losses = [_step(*changing, batch, self._competition, self._config, self.chance) for batch in batches]
        return float(np.mean(losses)), len(targets)

    def ndcg(self) -> float | None:
        """Return NDCG@10 of the held-back preferences; None without any."""
        if self._held is None:
            return None
        found = self._whole.spread(self._nodes.items.numpy(), self._nodes.values.numpy())
        return self._held.ndcg(self._whole.users(found.read, self._held.users), found.items)


def _mask(training: TrainingSet, share: float, chance: np.random.Generator) -> NDArray[np.bool_]:
    """Mark preferences that leave the graph, at most all but one of each user's, and at least one in all."""
    drawn = chance.random(len(training))
    starts = training.user_starts()
    has = np.flatnonzero(np.diff(starts))
    largest = np.zeros(training.n_users)
    largest[has] = np.maximum.reduceat(drawn, starts[has])
    able = drawn < largest[training.users]
    masked = able & (drawn < share)
    if not masked.any():
        masked[np.flatnonzero(able)[0]] = True
    return masked


def _step(
    nodes: _Nodes,
    optimiser: Adam,
    graph: Graph,
    targets: TrainingSet,
    starts: I64,
    users: I64,
    competition: Competition,
    config: LightGCNConfig,
    chance: np.random.Generator,
) -> float:
    """Move the nodes by the targets of a batch of users (B,); return the loss."""
    found = graph.spread(nodes.items.numpy(), nodes.values.numpy())
    lengths = starts[users + 1] - starts[users]
    ends = np.cumsum(lengths)
    items = targets.items[np.repeat(starts[users] - (ends - lengths), lengths) + np.arange(ends[-1])].astype(np.int64)
    compared = competition.of(items, chance)
    of_users = torch.from_numpy(graph.users(found.read, users)).requires_grad_()
    of_items = torch.from_numpy(found.items[compared.items]).requires_grad_()
    rows = torch.from_numpy(np.repeat(np.arange(len(users)), lengths))
    loss = cross_entropy(of_users, of_items, rows, compared.places(items), compared.log_shares)
    loss.backward()  # type: ignore[no-untyped-call]
    assert of_users.grad is not None and of_items.grad is not None
    by_item = np.zeros_like(found.items)
    by_item[compared.items] = of_items.grad.numpy()
    own, of_values = graph.adjoint(by_item, graph.users_adjoint(of_users.grad.numpy(), users, len(found.items)))
    nodes.items.grad = torch.from_numpy(own) + config.regularisation * nodes.items
    nodes.values.grad = None if of_values is None else torch.from_numpy(of_values) + config.regularisation * nodes.values
    optimiser.step()
    return float(loss.detach())


def _model(config: LightGCNConfig, entries: TrainingSet, said: ItemValues, nodes: _Nodes, scale: float) -> LightGCNModel:
    graph = Graph(entries, said, config.knowledge_weight, config.layers)
    own, own_of_values = nodes.items.numpy(), nodes.values.numpy()
    found = graph.spread(own, own_of_values)
    vectors = Vectors(found.items, found.read * (graph.item_scale * np.float32(scale))[:, None], own)
    if found.said is None:
        return LightGCNModel(config, entries.item_ids, vectors)
    given: NDArray[np.float32] = found.said * graph.value_scale[:, None]
    return LightGCNModel(config, entries.item_ids, vectors, Knowledge(said, own_of_values, given))
