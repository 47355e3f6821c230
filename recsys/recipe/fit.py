"""Fits a recipe to cases: a softmax over each case's candidates, drawn towards the recipe that it starts from.

Shapes: B cases, C candidates, F features, H hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import TooFewInteractions
from recsys.lists.recipe import CLIP, Recipe, RecipeSettings
from recsys.models.training import Progress, go_on
from recsys.recipe.cases import Cases

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

LEAST_CASES = 100
"""Fewer cases than this say next to nothing about some twenty numbers."""


@dataclass(frozen=True, slots=True)
class FitOptions:
    """Options of the fit. `prior_scale` is by how much a standardised weight is expected to differ from the start's: weights are drawn
    towards the start as by a normal prior of this deviation, so that few cases change little. `validation` is the newest share of the cases
    that decides when to stop."""

    prior_scale: float = 0.3
    learning_rate: float = 3e-3
    epochs: int = 30
    patience: int = 4
    batch_cases: int = 64
    validation: float = 0.2
    seed: int = 0


class _Net(torch.nn.Module):
    def __init__(self, start: Recipe) -> None:
        super().__init__()
        self.linear, self.hidden, self.bias, self.output = (
            torch.nn.Parameter(torch.from_numpy(array.copy())) for array in (start.linear, start.hidden, start.bias, start.output)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        scores = features @ self.linear  # (B, C)
        if len(self.bias):
            scores = scores + torch.relu(features @ self.hidden + self.bias) @ self.output
        return scores


def fit(cases: Cases, start: Recipe, options: FitOptions | None = None, progress: Progress | None = None) -> Recipe:
    """Return the recipe that ranks the newest cases best, after training on the older ones from `start`; at worst `start` itself.

    Cases are in order of time; those whose target is no candidate are passed over. The same input gives the same output.
    Raises: TooFewInteractions for fewer than 100 cases.
    """
    options = options or FitOptions()
    cases = cases.at(np.flatnonzero(cases.targets >= 0))
    n_train = int(len(cases) * (1 - options.validation))
    if len(cases) < LEAST_CASES:
        raise TooFewInteractions(f"a recipe needs {LEAST_CASES} cases or more whose item is a candidate, and there are {len(cases)}")
    features, valid = torch.from_numpy(standardised(cases.features, start)), torch.from_numpy(cases.valid)
    targets = torch.from_numpy(cases.targets.astype(np.int64))
    net = _Net(start)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    optimiser = torch.optim.Adam(net.parameters(), lr=options.learning_rate)
    random = np.random.default_rng(options.seed)
    strength = 0.5 / (options.prior_scale**2 * n_train)

    def loss(rows: torch.Tensor | slice) -> torch.Tensor:
        scores = net(features[rows]).masked_fill(~valid[rows], -1e9)
        return torch.nn.functional.cross_entropy(scores, targets[rows])

    def validation_loss() -> float:
        with torch.no_grad():
            blocks = [slice(at, min(at + 256, len(cases))) for at in range(n_train, len(cases), 256)]
            return sum(float(loss(block)) * (block.stop - block.start) for block in blocks) / (len(cases) - n_train)

    best, least, since = [one.clone() for one in before], validation_loss(), 0
    for epoch in range(options.epochs):
        order = torch.from_numpy(random.permutation(n_train))
        for at in range(0, n_train, options.batch_cases):
            optimiser.zero_grad()
            shrunk = sum(((now - then) ** 2).sum() for now, then in zip(net.parameters(), before, strict=True))
            (loss(order[at : at + options.batch_cases]) + strength * shrunk).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        now = validation_loss()
        since += 1
        if now < least:
            best, least, since = [parameter.detach().clone() for parameter in net.parameters()], now, 0
        if since >= options.patience or not go_on(progress, (epoch + 1) / options.epochs, f"recipe: validation loss {least:.4f}"):
            break
    linear, hidden, bias, output = (one.numpy().astype(np.float32) for one in best)
    return replace(start, linear=linear, hidden=hidden, bias=bias, output=output)


def standardised(features: F32, recipe: Recipe) -> F32:
    """Return features as the recipe reads them, any shape (…, F)."""
    scaled: F32 = (features - recipe.mean) / recipe.scale
    return np.clip(scaled, -CLIP, CLIP, out=scaled)


def blank(cases: Cases, n_hidden: int, settings: RecipeSettings, seed: int = 0) -> Recipe:
    """Return a recipe that gives every candidate the same score: its mean and scale are those of the cases' candidates."""
    rows = cases.features[cases.valid]
    mean, scale = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    random = np.random.default_rng(seed)
    n = rows.shape[1]
    return Recipe(
        mean=mean.astype(np.float32),
        scale=np.where(scale > 1e-4, scale, 1.0).astype(np.float32),
        linear=np.zeros(n, np.float32),
        hidden=(random.standard_normal((n, n_hidden)) / np.sqrt(n)).astype(np.float32),
        bias=np.zeros(n_hidden, np.float32),
        output=np.zeros(n_hidden, np.float32),
        settings=settings,
    )


def case_scores(recipe: Recipe, features: F32) -> F32:
    """Return the scores of candidates by their features (…, F), as plain arrays: what the compiled loops compute."""
    x = standardised(features, recipe)
    scores: F32 = x @ recipe.linear + np.maximum(x @ recipe.hidden + recipe.bias, 0) @ recipe.output
    return scores


def case_ranks(recipe: Recipe, cases: Cases) -> NDArray[np.float64]:
    """Return the mean rank of each case's item among its candidates, (B,), infinite where it is none."""
    ranks = np.full(len(cases), np.inf)
    for at in range(0, len(cases), 256):
        part = cases.at(slice(at, at + 256))
        scores = np.where(part.valid, case_scores(recipe, part.features), np.float32(-np.inf))
        mine = np.take_along_axis(scores, np.maximum(part.targets, 0)[:, None], 1)
        found = 1.0 + (scores > mine).sum(axis=1) + ((scores == mine).sum(axis=1) - 1) / 2
        ranks[at : at + 256] = np.where(part.targets >= 0, found, np.inf)
    return ranks
