"""The gate between champion and challenger: decide which model serves, from the metrics of both on one slice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

GATE_METRIC = "ndcg@10"


@dataclass(frozen=True, slots=True)
class GateDecision:
    """A gate's answer: `promote` lets the challenger serve; `reason` is one line for people, `figures` are the numbers compared."""

    promote: bool
    reason: str
    figures: dict[str, float]


def gate(
    champion: Mapping[str, float] | None,
    challenger: Mapping[str, float],
    *,
    popularity: Mapping[str, float] | None = None,
    tolerance: float = 0.0,
    metric: str = GATE_METRIC,
) -> GateDecision:
    """Compare two models' metrics on the same slice.

    A challenger must reach champion · (1 − tolerance). A first model must reach more than 0, and more than `popularity` if that is given.
    A figure that is not finite and a slice without targets are refused.
    Raises: KeyError if the metric is missing.
    """
    new = float(challenger[metric])
    figures = {"challenger": new, "n_targets": float(challenger.get("n_targets", 0.0))}
    if not np.isfinite(new):
        return GateDecision(False, f"{metric} of the challenger is not a finite number", {"n_targets": figures["n_targets"]})
    if figures["n_targets"] <= 0:
        return GateDecision(False, "the newest slice holds no targets to judge on", figures)
    if champion is None:
        if new <= 0:
            return GateDecision(False, f"first model of its kind, but {metric} is 0", figures)
        if popularity is None:
            return GateDecision(True, f"first model of its kind: {metric} {new:.4f}", figures)
        figures["needed"] = float(popularity[metric])
        if not new > figures["needed"]:
            return GateDecision(False, f"first model of its kind, but {metric} {new:.4f} is no better than popularity", figures)
        return GateDecision(True, f"first model of its kind: {metric} {new:.4f}, better than popularity", figures)
    old = float(champion[metric])
    figures["champion"] = old
    figures["needed"] = old * (1 - tolerance)
    compared = f"{metric} {new:.4f}, champion {old:.4f}, needed {figures['needed']:.4f}"
    return GateDecision(new >= figures["needed"], compared, figures)
