"""From settings to what the policy stages of lists do."""

from __future__ import annotations

from recsys.lists.policies.options import CalibrationOptions, Cap, DiversityOptions, FreshnessOptions, PolicyOptions
from workers.settings import ListSettings

DAY_S = 86_400


def remembered_users(lists: ListSettings) -> int:
    """Return of how many users a worker remembers the newest list."""
    return max(lists.renewed_users, lists.stability.users if lists.stability.margin else 0)


def policy_options(lists: ListSettings) -> PolicyOptions:
    """Return what the stages behind these settings do. A stage that would change nothing is off."""
    freshness, calibration, diversity = lists.freshness, lists.calibration, lists.diversity
    return PolicyOptions(
        spare=lists.spare,
        freshness=FreshnessOptions(freshness.weight, freshness.half_life_days * DAY_S) if freshness.weight else None,
        calibration=CalibrationOptions(calibration.strength) if calibration.strength else None,
        diversity=DiversityOptions(diversity.kind, diversity.strength) if diversity.kind != "off" and diversity.strength else None,
        stability_margin=lists.stability.margin,
        caps=tuple(Cap(cap.by, cap.most, cap.first) for cap in lists.caps),
    )
