"""The gate between champion and challenger: decide which one serves, from the outcomes of all contenders on the same targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys.errors import ShapeError
from recsys.evaluation.headline import GATE_METRIC as GATE_METRIC
from recsys.evaluation.headline import PLACES
from recsys.evaluation.metrics import F64, I64
from recsys.evaluation.user_scores import UserScores

CHAMPION = "champion"
MIN_TARGETS = 200
MIN_USERS = 20
"""Users that the bootstrap needs. A caller that accepts fewer targets than this accepts as few users."""
CONFIDENCE = 0.975
"""Share of the resamples in which the challenger has to lead: the lower end of an interval of 95 %."""
RESAMPLES = 2_000
_BLOCK_DRAWS = 2_000_000
"""Users drawn at once: 16 MB."""


@dataclass(frozen=True, slots=True)
class GateDecision:
    """A gate's answer: `promote` lets the challenger serve; `reason` is one line for people, `figures` are the numbers compared."""

    promote: bool
    reason: str
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Rival:
    """A contender that the challenger has to beat. `needed` is the share of its NDCG@10 that has to be exceeded, beyond chance unless it
    is a floor: then the challenger must not be below it beyond chance."""

    name: str
    scores: UserScores
    needed: float = 1.0
    is_floor: bool = False

    def __str__(self) -> str:
        less = f" less {1 - self.needed:.0%}" if self.needed < 1 else ""
        return f"{self.name.replace('_', ' ')} {self.scores.mean_ndcg:.4f}{less}"


def gate(
    challenger: UserScores,
    champion: UserScores | None = None,
    baselines: Mapping[str, UserScores] | None = None,
    *,
    floors: Mapping[str, UserScores] | None = None,
    min_targets: int = MIN_TARGETS,
    tolerance: float = 0.0,
    seed: int = 0,
) -> GateDecision:
    """Promote a challenger only if it is better beyond chance than the champion, if there is one, and than every baseline.

    Better beyond chance: the mean NDCG@10 over targets exceeds the rival's in 97.5 % of the resamples of a paired bootstrap by user. The
    champion's counts less the share `tolerance`. The challenger must not be below one of the `floors` beyond chance. Refused without a look
    at the rivals: fewer than `min_targets` targets, fewer users than the bootstrap needs, no hit, and numbers that are not finite. The
    same seed gives the same decision.
    Source: Efron & Tibshirani 1993, ch. 13; whole users are drawn, because the targets of one user depend on one another.
    Raises: ShapeError if the contenders were not judged on the same targets of the same users.
    """
    rivals = [_Rival(name, scores) for name, scores in (baselines or {}).items()]
    rivals += [_Rival(name, scores, is_floor=True) for name, scores in (floors or {}).items()]
    if champion is not None:
        rivals.insert(0, _Rival(CHAMPION, champion, 1.0 - tolerance))
    for rival in rivals:
        if not (np.array_equal(rival.scores.users, challenger.users) and np.array_equal(rival.scores.targets, challenger.targets)):
            raise ShapeError(f"challenger and {rival.name} were judged on different targets")
    figures = {"challenger": challenger.mean_ndcg, **{rival.name: rival.scores.mean_ndcg for rival in rivals}}
    figures = {name: figure for name, figure in figures.items() if np.isfinite(figure)}
    figures |= {"n_targets": float(challenger.n_targets), "n_users": float(len(challenger.users))}
    if (why := _unfit(challenger, min_targets)) is not None:
        return GateDecision(False, why, figures)
    beaten, lost, above, below = list[str](), list[str](), list[str](), list[str]()
    leads = np.array([challenger.ndcg - rival.needed * rival.scores.ndcg for rival in rivals])  # (R, U)
    for rival, lead, (low, high) in zip(rivals, leads, lead_bounds(leads, challenger.targets, seed=seed), strict=True):
        mean = float(lead.sum()) / challenger.n_targets
        figures |= {f"lead_over_{rival.name}": mean, f"least_lead_over_{rival.name}": float(low)}
        if rival.is_floor and high >= 0:
            above.append(str(rival))
        elif rival.is_floor:
            below.append(f"{rival} (lead {mean:+.4f}, at most {high:+.4f})")
        elif low > 0:
            beaten.append(str(rival))
        else:
            lost.append(f"{rival} (lead {mean:+.4f}, at least {low:+.4f})")
    measured = f"NDCG@10 {challenger.mean_ndcg:.4f} on {challenger.n_targets} targets of {len(challenger.users)} users"
    if lost or below:
        said = [f"not better beyond chance than {_listed(lost)}"] if lost else []
        said += [f"below {_listed(below)}"] if below else []
        return GateDecision(False, f"{measured}: {', '.join(said)}", figures)
    said = [f"better beyond chance than {_listed(beaten)}"] if beaten else []
    said += [f"not below {_listed(above)}"] if above else []
    return GateDecision(True, f"{measured}: {', '.join(said) or 'nothing to compare with'}", figures)


def lead_bounds(leads: F64, targets: I64, *, seed: int, resamples: int = RESAMPLES) -> F64:
    """Return, for each of R rivals, the ends of the interval of 95 % of the mean lead over targets, by resampling users, (R, 2).

    Shapes: leads (R, U), the challenger's NDCG@10 less the rival's, added up by user; targets (U,), how many of each user's. All rivals are
    compared on the same resamples.
    """
    if not len(leads):
        return np.zeros((0, 2))
    n_users = len(targets)
    random = np.random.default_rng(seed)
    step = max(1, _BLOCK_DRAWS // n_users)
    means = []
    for first in range(0, resamples, step):
        drawn = random.integers(n_users, size=(min(step, resamples - first), n_users))
        n_targets = targets[drawn].sum(axis=1)
        means.append(np.stack([lead[drawn].sum(axis=1) / n_targets for lead in leads]))
    bounds: F64 = np.quantile(np.concatenate(means, axis=1), (1.0 - CONFIDENCE, CONFIDENCE), axis=1).T
    return bounds


def _unfit(challenger: UserScores, min_targets: int) -> str | None:
    """Return why the outcome proves nothing; None if it can be compared."""
    n_targets, n_users = challenger.n_targets, len(challenger.users)
    if not n_targets:
        return "the newest slice holds no target of a user with a history"
    if n_targets < min_targets:
        return f"the newest slice holds {n_targets} targets of users with a history, fewer than min_targets ({min_targets})"
    if n_users < min(MIN_USERS, min_targets):
        return f"the {n_targets} targets of the newest slice are of {n_users} users, fewer than the {MIN_USERS} that a comparison needs"
    if not np.isfinite(challenger.ndcg).all():
        return "the challenger's NDCG@10 is not a finite number"
    if not challenger.n_hits:
        return f"no hit among the first {PLACES} places on {n_targets} targets"
    return None


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
