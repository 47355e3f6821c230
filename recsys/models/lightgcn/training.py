"""Training of LightGCN: preferences that are taken out of the graph are predicted from the rest of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import ModelError, TooFewInteractions
from recsys.models.adam import Adam
from recsys.models.base import Model
from recsys.models.held_back import HeldBack, hold_back
from recsys.models.item_values import ItemValues
from recsys.models.lightgcn.config import LightGCNConfig
from recsys.models.lightgcn.graph import Graph, scale_of
from recsys.models.lightgcn.model import Knowledge, LightGCNModel, Vectors
from recsys.models.sampled_softmax import Competition, cross_entropy
from recsys.models.training import Progress, go_on, warm_rows
from recsys.models.training_set import TrainingSet

I64 = NDArray[np.int64]

_SPREAD = 0.1
"""Standard deviation of the first vectors."""


class _Nodes(NamedTuple):
    """Own vectors of items (I, D) and of values (F, D)."""

    items: torch.Tensor
    values: torch.Tensor

    def copied(self) -> _Nodes:
        return _Nodes(self.items.clone(), self.values.clone())


def fit(
    interactions: TrainingSet, config: LightGCNConfig, progress: Progress | None = None, warm_start: Model | None = None
) -> LightGCNModel:
    """Train on the preferences (weight > 0) among the newest `history_length` items of each user; their weights are not used.

    In each epoch a share `masked` of them leaves the graph. The loss is the cross-entropy of these over all items, from the rest of their
    user's history (`recsys.models.sampled_softmax`). A random preference of some users is held back, and the vectors of the epoch with
    the best NDCG@10 on these are the result, spread over the whole graph; with `config.fixed_epochs` nothing is held back and the last
    epoch counts. Where it is known what items say, values that several items share are nodes. A warm start takes the earlier model's own
    vectors of what both know. `progress` may stop the training after any epoch. The same seed gives the same model on one machine.
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
    nodes = _train(nodes, training, held, said, scale, config, chance, progress)
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


def _train(
    nodes: _Nodes,
    training: TrainingSet,
    held: HeldBack | None,
    said: ItemValues,
    scale: float,
    config: LightGCNConfig,
    chance: np.random.Generator,
    progress: Progress | None,
) -> _Nodes:
    """Return the vectors of the best epoch."""
    optimiser = Adam(nodes, config.learning_rate)
    competition = Competition(np.bincount(training.items, minlength=training.n_items), config.compared_above, config.negatives)
    whole = Graph(training, said, config.knowledge_weight, config.layers, scale)
    epochs = config.fixed_epochs or config.max_epochs
    best, best_ndcg, since_best = nodes, -1.0, 0
    for epoch in range(epochs):
        masked = _mask(training, config.masked, chance)
        graph = Graph(training.only(~masked), said, config.knowledge_weight, config.layers, scale)
        targets = training.only(masked)
        starts, users = targets.user_starts(), chance.permutation(np.unique(targets.users)).astype(np.int64)
        batches = [users[first : first + config.batch_users] for first in range(0, len(users), config.batch_users)]
        losses = [_step(nodes, optimiser, graph, targets, starts, batch, competition, config, chance) for batch in batches]
        message = f"lightgcn: epoch {epoch + 1}, loss {np.mean(losses):.3f}"
        if held is not None:
            found = whole.spread(nodes.items.numpy(), nodes.values.numpy())
            ndcg = held.ndcg(whole.users(found.read, held.users), found.items)
            message += f", NDCG@10 {ndcg:.4f}"
            since_best += 1
            if ndcg > best_ndcg:
                best, best_ndcg, since_best = nodes.copied(), ndcg, 0
        if not go_on(progress, (epoch + 1) / epochs, message) or (held is not None and since_best >= config.patience):
            break
    return nodes if held is None else best


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
