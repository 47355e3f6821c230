"""Cross-entropy of states and their targets, with gradients, in bounded memory.

Shapes: N states of D dimensions, I items. Gradients are of the mean over the states.
"""

from __future__ import annotations

from typing import TypeAlias

import torch

from recsys.models.sasrec.negatives import Negatives

CHUNK_LOGITS = 2_000_000
"""Scores that a loss holds at once: 8 MB, which stay in the processor's cache."""
CARD_LOGITS = 128_000_000
"""The same on a graphics card: few, large products."""

Graded: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""A mean loss, float64 without dimensions, and its gradients for the states (N, D) and for the items (I, D), float32."""


@torch.no_grad()
def full_loss(states: torch.Tensor, targets: torch.Tensor, items: torch.Tensor, numbers: torch.dtype = torch.float32) -> Graded:
    """Return the cross-entropy over all items of `states` (N, D) for `targets` (N,). Matrix products are computed in `numbers`.

    The gradient of the scores is softmax − target, so it is written over the scores, chunk by chunk. Source: Klenitskiy & Vasilev 2023.
    """
    rows, columns = states.to(numbers), items.to(numbers)
    of_states, of_items, total = torch.empty_like(states), torch.zeros_like(items), _nothing(states)
    for part in _chunks(states, len(items)):
        wanted = targets[part].unsqueeze(1)  # (n, 1)
        shares = torch.softmax((rows[part] @ columns.T).float(), 1)  # (n, I)
        right = shares.gather(1, wanted)
        total -= right.clamp_min(1e-38).log().sum()
        gradient = shares.scatter_(1, wanted, right - 1).to(numbers)
        of_states[part] = gradient @ columns
        of_items += gradient.T @ rows[part]
    return total / len(states), of_states.div_(len(states)), of_items.div_(len(states))


@torch.no_grad()
def sampled_loss(
    states: torch.Tensor, targets: torch.Tensor, items: torch.Tensor, negatives: Negatives, numbers: torch.dtype = torch.float32
) -> Graded:
    """Return the cross-entropy against drawn negatives, corrected for the frequency of each draw.

    Targets and negatives are places in `items` (R, D), which may be a part of all items. Source: Bengio & Senécal 2008; Yi et al. 2019
    (logQ correction).
    """
    n_negatives = len(negatives.items)
    rows, columns = states.to(numbers), items[negatives.items].to(numbers)
    of_states, of_negatives, total = torch.empty_like(states), states.new_zeros((n_negatives, states.shape[1])), _nothing(states)
    of_items = torch.zeros_like(items)
    for part in _chunks(states, n_negatives):
        wanted = targets[part]
        right = (states[part] * items[wanted]).sum(1, keepdim=True)  # (n, 1)
        wrong = (rows[part] @ columns.T).float() - negatives.log_draws  # (n, K)
        wrong = wrong.masked_fill(negatives.items == wanted.unsqueeze(1), -torch.inf)
        logits = torch.cat([right, wrong], dim=1)
        total += (torch.logsumexp(logits, dim=1) - right.squeeze(1)).sum()
        gradient = torch.softmax(logits, dim=1)
        of_right, of_wrong = gradient[:, :1] - 1, gradient[:, 1:].to(numbers)
        of_states[part] = of_right * items[wanted] + (of_wrong @ columns).float()
        of_negatives += of_wrong.T @ rows[part]
        of_items.index_add_(0, wanted, of_right * states[part])
    of_items.index_add_(0, negatives.items, of_negatives)
    return total / len(states), of_states.div_(len(states)), of_items.div_(len(states))


def _nothing(like: torch.Tensor) -> torch.Tensor:
    return torch.zeros((), dtype=torch.float64, device=like.device)


def _chunks(states: torch.Tensor, n_scores: int) -> list[slice]:
    """Return ranges of the states whose scores, so many each, are held at once."""
    step = max(1, (CARD_LOGITS if states.is_cuda else CHUNK_LOGITS) // n_scores)
    return [slice(start, start + step) for start in range(0, len(states), step)]
