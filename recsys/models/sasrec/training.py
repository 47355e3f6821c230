"""Training of SASRec: windows cut anew in every epoch, cross-entropy over all items in bounded memory, early stop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recsys.errors import ShapeError, TooFewInteractions
from recsys.models.base import Model
from recsys.models.sasrec.adam import Adam
from recsys.models.sasrec.model import I64, Network, SASRecConfig, SASRecModel
from recsys.models.training import Progress, go_on, warm_rows
from recsys.models.training_set import TrainingSet

_CHUNK_LOGITS = 4_000_000
"""Scores held at once by the loss: 16 MB, and as much for their gradient."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """Preferences of U users end to end: user u owns `items[starts[u]:starts[u+1]]`, oldest first. Shapes: (n,), (U+1,)."""

    items: NDArray[np.int64]
    starts: NDArray[np.int64]

    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)


def fit(interactions: TrainingSet, config: SASRecConfig, progress: Progress | None = None, warm_start: Model | None = None) -> SASRecModel:
    """Train on the preferences (weight > 0), all counted alike, in the order of their times.

    The same seed gives the same loss on one CPU thread count. The last item of some users is kept back, and the weights of the best epoch
    on them are the result; with `config.fixed_epochs` nothing is kept back and the last epoch is. A warm start takes over the earlier
    network and the embeddings of the items both know. `progress` may end the training after any epoch. Raises: ShapeError if heads do not
    divide factors or there is nothing to learn from.
    """
    if config.factors % config.heads:
        raise ShapeError(f"{config.heads} heads do not divide {config.factors} factors")
    positive = interactions.positive()
    sequences = Sequences(positive.items.astype(np.int64), positive.user_starts())
    if sequences.lengths().max(initial=0) < 2:
        raise TooFewInteractions("a sequence model needs at least one user with two preferences")
    random = np.random.default_rng(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights from torch's global generator, before `initialise` does
        network = Network(positive.n_items, config)
    network.initialise(generator)
    if isinstance(warm_start, SASRecModel):
        _take_over(network, positive.item_ids, warm_start)
    training, held_back = (sequences, None) if config.fixed_epochs else hold_back(sequences, config, random)
    optimiser = Adam(network.parameters(), config.learning_rate)
    counts = torch.from_numpy(np.bincount(positive.items, minlength=positive.n_items).astype(np.float32))
    epochs = config.fixed_epochs or config.max_epochs
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


@dataclass(frozen=True, slots=True)
class HeldBack:
    """V users' newest items but the last, user after user (T,), of which user v has `starts[v]` to `starts[v + 1]`; and that last item
    (V,)."""

    inputs: torch.Tensor
    starts: I64
    targets: torch.Tensor


def hold_back(sequences: Sequences, config: SASRecConfig, random: np.random.Generator) -> tuple[Sequences, HeldBack | None]:
    """Take the last item of some users (at most half of those with three or more) out of the training."""
    lengths = sequences.lengths()
    able = np.flatnonzero(lengths >= 3)
    n_users = min(config.validation_users, len(able) // 2)
    if n_users < 1:
        return sequences, None
    chosen = np.sort(random.choice(able, n_users, replace=False))
    last = sequences.starts[chosen + 1] - 1
    kept = np.minimum(lengths[chosen] - 1, config.window)
    inputs = np.concatenate([sequences.items[end - n : end] for end, n in zip(last.tolist(), kept.tolist(), strict=True)])
    starts = np.concatenate(([0], np.cumsum(kept)))
    remaining = np.ones(len(sequences.items), bool)
    remaining[last] = False
    shorter = lengths.copy()
    shorter[chosen] -= 1
    training = Sequences(sequences.items[remaining], np.concatenate([[0], np.cumsum(shorter)]))
    return training, HeldBack(torch.from_numpy(inputs), starts, torch.from_numpy(sequences.items[last]))


def windows(sequences: Sequences, window: int, batch: int, random: np.random.Generator) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch: every sequence cut into runs of `window` steps from a random place on, in batches of runs of like length.

    Each batch is (inputs (B, L), targets (B, L)), left-aligned; −1 marks targets that are padding. Over one epoch nearly every item but a
    sequence's first is a target once: a cut that leaves fewer than two items makes no run.
    """
    starts: list[NDArray[np.int64]] = []
    sizes: list[NDArray[np.int64]] = []
    for first, length in zip(sequences.starts[:-1].tolist(), sequences.lengths().tolist(), strict=True):
        if length < 2:
            continue
        steps = length - 1
        shift = int(random.integers(window)) if steps > window else 0
        cuts = np.unique(np.concatenate([[0], np.arange(shift, steps, window), [steps]])).astype(np.int64)
        starts.append(first + cuts[:-1])
        sizes.append(np.diff(cuts))
    run_starts, run_sizes = np.concatenate(starts), np.concatenate(sizes)
    # Like lengths together costs less padding; noise keeps the batches of two epochs apart.
    order = np.argsort(run_sizes + random.uniform(0, 4, len(run_sizes)), kind="stable")
    batches = []
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        steps = np.arange(int(run_sizes[chosen].max()))
        inside = steps < run_sizes[chosen, None]  # (B, L)
        place = np.where(inside, run_starts[chosen, None] + steps, 0)
        inputs = np.where(inside, sequences.items[place], 0)
        targets = np.where(inside, sequences.items[np.where(inside, place + 1, 0)], -1)
        batches.append((torch.from_numpy(inputs), torch.from_numpy(targets)))
    return [batches[i] for i in random.permutation(len(batches)).tolist()]


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
    """Mean cross-entropy over all items; gradients go to `states` and `items` chunk by chunk, so (N, I) is never held whole."""
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
    """Cross-entropy against negatives drawn by popularity^0.75, corrected for how often each is drawn.

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
    """Mean cross-entropy over all items of the items kept back."""
    total, newest_states = 0.0, network.newest_states()
    step = max(1, min(256, _CHUNK_LOGITS // network.items.shape[0]))
    for first in range(0, len(held_back.targets), step):
        targets, starts = held_back.targets[first : first + step], held_back.starts[first : first + step + 1]
        states = torch.from_numpy(newest_states(held_back.inputs[starts[0] : starts[-1]].numpy(), starts - starts[0]))
        total += float(functional.cross_entropy(states @ network.items.T, targets, reduction="sum"))
    return total / len(held_back.targets)


def _take_over(network: Network, item_ids: list[str], earlier: SASRecModel) -> None:
    """Copy what fits of an earlier network: every tensor of the same shape, and the embeddings of items both know."""
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
