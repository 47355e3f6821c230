"""Fits a recipe to cases: a softmax over each case's candidates, drawn towards the recipe that it starts from.

Shapes: B cases, C candidates, F features, H hidden units.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.errors import TooFewInteractions
from recsys.lists.fading import source_of
from recsys.lists.recipe import CLIP, Recipe, RecipeSettings
from recsys.models.adam import Adam
from recsys.models.training import Progress, go_on
from recsys.recipe.budget import FitOptions
from recsys.recipe.cases import Cases

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

_BETAS = 0.9, 0.999
_LEAST_EXTRA = 0.01
"""Weights of sources without features are learnt as logarithms, from this on."""
LEAST_CASES = 100
"""Fewer cases than this say next to nothing about some twenty numbers."""


class _Net(torch.nn.Module):
    def __init__(self, start: Recipe, extra_names: Sequence[str]) -> None:
        super().__init__()
        weights = [max(weight, _LEAST_EXTRA) for name in extra_names for weight in start.extras.get(name, (0.0, 0.0))]
        self.extras = torch.nn.Parameter(torch.tensor(weights, dtype=torch.float32).log())
        self.linear, self.hidden, self.bias, self.output = (
            torch.nn.Parameter(torch.from_numpy(array.copy())) for array in (start.linear, start.hidden, start.bias, start.output)
        )

    def shrinking(self) -> list[torch.nn.Parameter]:
        """Return what is drawn towards the start."""
        return [self.linear, self.hidden, self.bias, self.output]

    def optimisers(self, extra_names: Sequence[str], options: FitOptions, only: Collection[str] | None) -> list[Adam]:
        """Return what moves the weights: with `only` nothing but those of these sources."""
        of_extras = Adam([self.extras], options.extras_learning_rate, _BETAS)
        if only is None:
            return [of_extras, Adam(self.shrinking(), options.learning_rate, _BETAS)]
        learns = torch.tensor([source_of(name) in only for name in extra_names for _ in range(2)], dtype=torch.float32)
        self.extras.register_hook(lambda gradient: gradient * learns)  # type: ignore[no-untyped-call]
        return [of_extras]

    def numbers(self) -> list[F32]:
        """Return copies of all numbers, those of extras last, as logarithms."""
        return [parameter.detach().numpy().astype(np.float32) for parameter in (*self.shrinking(), self.extras)]

    def forward(self, features: torch.Tensor, extras: torch.Tensor) -> torch.Tensor:
        scores = features @ self.linear  # (B, C)
        if len(self.extras):
            scores = scores + extras @ self.extras.exp()
        if len(self.bias):
            scores = scores + torch.relu(features @ self.hidden + self.bias) @ self.output
        return scores


def fit(
    cases: Cases,
    start: Recipe,
    options: FitOptions | None = None,
    progress: Progress | None = None,
    *,
    only: Collection[str] | None = None,
) -> Recipe:
    """Return the recipe that ranks the newest cases best, after training on the older ones from `start`; at worst `start` itself.

    With `only` nothing is trained but the weights of these sources, of those without features.

    All choices of a case share its weight evenly. Cases are in order of time; those none of whose choices is a candidate are passed over.
    The same input gives the same output.
    Raises: TooFewInteractions for fewer than 100 cases.
    """
    options = options or FitOptions()
    cases = cases.at(np.flatnonzero((cases.chosen >= 0).any(axis=1)))
    n_train = int(len(cases) * (1 - options.validation))
    if len(cases) < LEAST_CASES:
        raise TooFewInteractions(f"a recipe needs {LEAST_CASES} cases or more whose item is a candidate, and there are {len(cases)}")
    features, valid = torch.from_numpy(standardised(cases.features, start)), torch.from_numpy(cases.valid)
    chosen, shares = _chosen(cases)
    extras, net = torch.from_numpy(cases.extras), _Net(start, cases.extra_names)
    before = [parameter.detach().clone() for parameter in net.shrinking()]
    optimisers = net.optimisers(cases.extra_names, options, only)
    random = np.random.default_rng(options.seed)
    strength = 0.5 / (options.prior_scale**2 * n_train)

    def loss(rows: torch.Tensor | slice) -> torch.Tensor:
        scores = net(features[rows], extras[rows]).masked_fill(~valid[rows], -1e9)
        logs = torch.log_softmax(scores, dim=1).gather(1, chosen[rows])  # (rows, 1 + L)
        return -(logs * shares[rows]).sum(dim=1).mean()

    def validation_loss() -> float:
        with torch.no_grad():
            blocks = [slice(at, min(at + 256, len(cases))) for at in range(n_train, len(cases), 256)]
            return sum(float(loss(block)) * (block.stop - block.start) for block in blocks) / (len(cases) - n_train)

    best, least, since = net.numbers(), validation_loss(), 0
    for epoch in range(options.epochs):
        order = torch.from_numpy(random.permutation(n_train))
        for at in range(0, n_train, options.batch_cases):
            for optimiser in optimisers:
                optimiser.clear()
            shrunk = sum(((now - then) ** 2).sum() for now, then in zip(net.shrinking(), before, strict=True))
            (loss(order[at : at + options.batch_cases]) + strength * shrunk).backward()  # type: ignore[no-untyped-call]
            for optimiser in optimisers:
                optimiser.step()
        now = validation_loss()
        since += 1
        if now < least:
            best, least, since = net.numbers(), now, 0
        if since >= options.patience or not go_on(progress, (epoch + 1) / options.epochs, f"recipe: validation loss {least:.4f}"):
            break
    linear, hidden, bias, output, weights = best
    learnt = {name: (pair[0], pair[1]) for name, pair in zip(cases.extra_names, np.exp(weights).reshape(-1, 2).tolist(), strict=True)}
    return replace(start, linear=linear, hidden=hidden, bias=bias, output=output, extras={**start.extras, **learnt})


def _chosen(cases: Cases) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the columns of each case's choices and the share that each of them has in the case, both (B, 1 + L); shares are 0 where the
    choice is no candidate."""
    is_candidate = cases.chosen >= 0
    shares = is_candidate / is_candidate.sum(axis=1, keepdims=True)
    return torch.from_numpy(np.maximum(cases.chosen, 0).astype(np.int64)), torch.from_numpy(shares.astype(np.float32))


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


def extra_weights(recipe: Recipe, names: Sequence[str]) -> F32:
    """Return the weights of shares and logarithms of the sources `names` (E), two after two: (2 E,)."""
    return np.array([recipe.extras.get(name, (0.0, 0.0)) for name in names], np.float32).ravel()


def case_scores(recipe: Recipe, cases: Cases) -> F32:
    """Return the scores of candidates (B, C), as plain arrays: what the compiled loops compute."""
    x, weights = standardised(cases.features, recipe), extra_weights(recipe, cases.extra_names)
    scores: F32 = x @ recipe.linear + np.maximum(x @ recipe.hidden + recipe.bias, 0) @ recipe.output + cases.extras @ weights
    return scores


def case_ranks(recipe: Recipe, cases: Cases) -> NDArray[np.float64]:
    """Return the mean rank of each case's item among its candidates, (B,), infinite where it is none."""
    ranks = np.full(len(cases), np.inf)
    for at in range(0, len(cases), 256):
        part = cases.at(slice(at, at + 256))
        scores = np.where(part.valid, case_scores(recipe, part), np.float32(-np.inf))
        mine = np.take_along_axis(scores, np.maximum(part.targets, 0)[:, None], 1)
        found = 1.0 + (scores > mine).sum(axis=1) + ((scores == mine).sum(axis=1) - 1) / 2
        ranks[at : at + 256] = np.where(part.targets >= 0, found, np.inf)
    return ranks
