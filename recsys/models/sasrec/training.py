"""Training of SASRec: cross-entropy over all items in bounded memory, early stop."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from recsys.errors import ShapeError, TooFewInteractions
from recsys.models.base import Model
from recsys.models.sasrec.adam import Adam
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.model import SASRecModel
from recsys.models.sasrec.network import Network
from recsys.models.sasrec.sequences import HeldBack, Sequences, hold_back, windows
from recsys.models.training import Progress, go_on, warm_rows
from recsys.models.training_set import TrainingSet

_CHUNK_LOGITS = 4_000_000
"""Scores that the loss holds at once: 16 MB, and as much for their gradient."""


def fit(interactions: TrainingSet, config: SASRecConfig, progress: Progress | None = None, warm_start: Model | None = None) -> SASRecModel:
    """Train on the preferences (weight > 0) in order of time; their weights are not used.

    The last item of some users is held back, and the weights of the epoch with the best loss on these items are the result. With
    `config.fixed_epochs` nothing is held back and the last epoch counts. A warm start copies the earlier network and the embeddings of the
    items that both know. If `interactions.unseen` says what the earlier model was not trained on, only such items are held back; without
    any the training ends after `config.patience` epochs. `progress` may stop the training after any epoch. The same seed gives the same
    loss for one number of threads.
    Raises: ShapeError if heads do not divide factors; TooFewInteractions without a user with two preferences.
    """
    if config.factors % config.heads:
        raise ShapeError(f"{config.heads} heads do not divide {config.factors} factors")
    positive = interactions.positive()
    is_warm = isinstance(warm_start, SASRecModel)
    sequences = Sequences(positive.items.astype(np.int64), positive.user_starts(), positive.unseen if is_warm else None)
    if sequences.lengths().max(initial=0) < 2:
        raise TooFewInteractions("a sequence model needs at least one user with two preferences")
    random = np.random.default_rng(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights from torch's global generator, before `initialise` does
        network = Network(positive.n_items, config)
    network.initialise(generator)
    if isinstance(warm_start, SASRecModel):
        _warm_start(network, positive.item_ids, warm_start)
    training, held_back = (sequences, None) if config.fixed_epochs else hold_back(sequences, config, random)
    optimiser = Adam(network.parameters(), config.learning_rate)
    counts = torch.from_numpy(np.bincount(positive.items, minlength=positive.n_items).astype(np.float32))
    blind = held_back is None and sequences.unseen is not None
    epochs = config.fixed_epochs or (min(config.patience, config.max_epochs) if blind else config.max_epochs)
    best_loss, best, since_best = np.inf, None, 0
    with torch.random.fork_rng(devices=[]):  # dropout draws from torch's global generator
        torch.manual_seed(config.seed)
        for epoch in range(epochs):
            network.train()
            losses = [
                _step(network, optimiser, batch, config, counts, generator)
                for batch in windows(training, config.window, config.batch_sequences, random)
            ]
            network.eval()
            message = f"sasrec: epoch {epoch + 1}, loss {np.mean(losses):.3f}"
            if held_back is not None:
                validation = _validate(network, held_back)
                message += f", validation {validation:.3f}"
                since_best += 1
                if validation < best_loss:
                    best_loss, since_best = validation, 0
                    best = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
            if not go_on(progress, (epoch + 1) / epochs, message) or (held_back is not None and since_best >= config.patience):
                break
    if best is not None:
        network.load_state_dict(best)
    return SASRecModel(config, positive.item_ids, network)


def _step(
    network: Network,
    optimiser: Adam,
    batch: tuple[torch.Tensor, torch.Tensor],
    config: SASRecConfig,
    counts: torch.Tensor,
    generator: torch.Generator,
) -> float:
    inputs, targets = batch
    optimiser.clear()
    states = network(inputs)  # (B, L, D)
    real = targets >= 0
    chosen, wanted = states[real], targets[real]  # (N, D), (N,)
    leaf = chosen.detach().requires_grad_()
    if network.items.shape[0] > config.sampled_above:
        loss = _sampled_loss(leaf, wanted, network.items, config.negatives, counts, generator)
    else:
        loss = _full_loss(leaf, wanted, network.items)
    chosen.backward(leaf.grad)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimiser.step()
    return loss


def _full_loss(states: torch.Tensor, targets: torch.Tensor, items: torch.Tensor) -> float:
    """Return the mean cross-entropy over all items. Gradients are added chunk by chunk, so (N, I) is never in memory at once."""
    step = max(1, _CHUNK_LOGITS // items.shape[0])
    total = 0.0
    for start in range(0, len(states), step):
        logits = states[start : start + step] @ items.T
        loss = functional.cross_entropy(logits, targets[start : start + step], reduction="sum") / len(states)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _sampled_loss(
    states: torch.Tensor, targets: torch.Tensor, items: torch.Tensor, n_negatives: int, counts: torch.Tensor, generator: torch.Generator
) -> float:
    """Return the cross-entropy against negatives drawn by popularity^0.75, corrected for the frequency of each draw.

    Source: Bengio & Senécal 2008; Yi et al. 2019 (logQ correction).
    """
    shares = (counts + 1.0) ** 0.75
    shares = shares / shares.sum()
    negatives = torch.multinomial(shares, n_negatives, replacement=True, generator=generator)  # (K,)
    log_draws = torch.log(shares * n_negatives)
    step = max(1, _CHUNK_LOGITS // n_negatives)
    total = 0.0
    for start in range(0, len(states), step):
        part, wanted = states[start : start + step], targets[start : start + step]
        right = (part * items[wanted]).sum(1, keepdim=True)  # (n, 1)
        wrong = part @ items[negatives].T - log_draws[negatives]  # (n, K)
        wrong = wrong.masked_fill(negatives == wanted.unsqueeze(1), -torch.inf)
        logits = torch.cat([right, wrong], dim=1)
        loss = (torch.logsumexp(logits, dim=1) - right.squeeze(1)).sum() / len(states)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


@torch.no_grad()
def _validate(network: Network, held_back: HeldBack) -> float:
    """Return the mean cross-entropy, over all items, of the held-back targets."""
    total, newest_states = 0.0, network.newest_states()
    step = max(1, min(256, _CHUNK_LOGITS // network.items.shape[0]))
    for first in range(0, len(held_back.targets), step):
        targets, starts = held_back.targets[first : first + step], held_back.starts[first : first + step + 1]
        states = torch.from_numpy(newest_states(held_back.inputs[starts[0] : starts[-1]].numpy(), starts - starts[0]))
        total += float(functional.cross_entropy(states @ network.items.T, targets, reduction="sum"))
    return total / len(held_back.targets)


def _warm_start(network: Network, item_ids: list[str], earlier: SASRecModel) -> None:
    """Copy from an earlier network every tensor of the same shape, and the embeddings of the items that both know."""
    theirs = dict(earlier.network.named_parameters())
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            source = theirs.get(name)
            if name == "items":
                if source is not None and source.shape[1] == parameter.shape[1]:
                    here, there = warm_rows(item_ids, earlier.item_ids)
                    parameter[here] = source[there]
            elif source is not None and source.shape == parameter.shape:
                parameter.copy_(source)
