"""Rules and policy stages together: filters hold, pins stand, caps hold for what is not pinned, and lists stay full."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.lists.policies.options import CalibrationOptions, Cap, DiversityOptions, FreshnessOptions, PolicyOptions
from recsys.rules.rule import Rule, RuleSet
from tests.unit.recsys.lists.policy_worlds import DAY_S, N_CATEGORIES, engine_of, lists_with, slots_of

RULES = (
    Rule("none of c1", '"c1" in item.categories', "deny"),
    Rule("more of c2", '"c2" in item.categories', "boost", 1.0),
    Rule("b3 first", 'item.brand == "b3"', "pin", places=(1,)),
)
POLICY = PolicyOptions(
    60, FreshnessOptions(0.5, 7 * DAY_S), CalibrationOptions(0.1), DiversityOptions("dpp", 0.2), (Cap("attribute.brand", 2, 10),)
)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("exploration_slots", [0, 2])
def test_every_stage_and_every_action_hold_together(large: bool, exploration_slots: int) -> None:
    engine = engine_of(large=large, rules=RuleSet(RULES), exploration_slots=exploration_slots)
    slots = slots_of(engine)
    lists = lists_with(engine, POLICY, seeds=np.arange(len(slots)))
    assert lists.items.shape == (len(slots), 10) and (lists.items >= 0).all(), "lists stay full"
    described = lists.items % 23 != 5
    assert not ((lists.items % N_CATEGORIES == 1) & described).any(), "what is denied is not listed"
    brands = np.where(lists.items % 5 == 0, -1, lists.items % 13)
    brands[~described] = -1
    assert (brands[:, 0] == 3).all(), "the pin stands, whatever the stages did"
    for row in brands[:, 1:]:
        counts = np.bincount(row[row >= 0], minlength=13)
        assert counts.max() <= 2, "caps hold for what is not pinned"
    for row in lists.items:
        assert len(set(row.tolist())) == 10
