"""Settings of the policy stages: off by default, refused by name where they are wrong, and what an engine does by them."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recsys.catalogue.items import ItemContent
from recsys.catalogue.labels import FIRST_CATEGORY
from recsys.engine import Engine
from recsys.lists.policies.options import NO_POLICY, CalibrationOptions, Cap, DiversityOptions, FreshnessOptions, PolicyOptions
from workers.errors import SettingsError
from workers.lists.engine_config import engine_config
from workers.lists.policy_options import policy_options
from workers.settings import load_settings

ON = {
    "RECSYS_LISTS__SPARE": "60",
    "RECSYS_LISTS__FRESHNESS__WEIGHT": "0.7",
    "RECSYS_LISTS__FRESHNESS__HALF_LIFE_DAYS": "2",
    "RECSYS_LISTS__CALIBRATION__STRENGTH": "0.1",
    "RECSYS_LISTS__DIVERSITY__KIND": "mmr",
    "RECSYS_LISTS__DIVERSITY__STRENGTH": "0.2",
    "RECSYS_LISTS__CAPS": '[{"by": "category", "most": 3}, {"by": "attribute.brand", "most": 1, "first": 5}]',
}
CONFIGURED = PolicyOptions(
    60,
    FreshnessOptions(0.7, 172_800.0),
    CalibrationOptions(0.1),
    DiversityOptions("mmr", 0.2),
    (Cap("category", 3, 10), Cap("attribute.brand", 1, 5)),
)
TOML = """
[lists]
spare = 60
freshness = { weight = 0.7, half_life_days = 2 }
calibration = { strength = 0.1 }
diversity = { kind = "mmr", strength = 0.2 }
caps = [{ by = "category", most = 3 }, { by = "attribute.brand", most = 1, first = 5 }]
"""


def test_every_stage_is_off_by_default_and_with_a_strength_of_0() -> None:
    config = engine_config(load_settings())
    assert config.policy == NO_POLICY == config.list_options.policy and not config.policy.is_on and not config.policy.label_fields
    assert [*Engine(config).catalogue.labels] == [FIRST_CATEGORY], "one category does not take a whole page"
    assert Engine(replace(config, most_of_category=10, reasons=False)).catalogue.labels == {}
    zero: dict[str, Any] = {"diversity": {"kind": "dpp", "strength": 0}, "freshness": {"weight": 0}, "calibration": {"strength": 0}}
    assert policy_options(load_settings(lists=zero).lists) == NO_POLICY
    assert not policy_options(load_settings(lists={"diversity": {"strength": 0.9}}).lists).is_on


def test_environment_and_file_configure_every_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "recsys.toml"
    file.write_text(TOML, "utf-8")
    with monkeypatch.context() as patched:
        patched.setenv("RECSYS_CONFIG", str(file))
        assert engine_config(load_settings()).policy == CONFIGURED
    for name, value in ON.items():
        monkeypatch.setenv(name, value)
    config = engine_config(load_settings())
    assert config.policy == CONFIGURED and config.policy.label_fields == {"category", "attribute.brand"}
    engine = Engine(config)
    engine.describe_item(3, ItemContent(["a"], {"brand": "b", "other": "c"}))
    held = {name: labels.values(3) for name, labels in engine.catalogue.labels.items()}
    assert held == {"category": ("a",), "attribute.brand": ("b",), FIRST_CATEGORY: ("a",)}


@pytest.mark.parametrize(
    ("lists", "named"),
    [
        ({"diversity": {"kind": "mmd"}}, "lists.diversity.kind: .*'mmr' or 'dpp'"),
        ({"diversity": {"strength": 1.5}}, "lists.diversity.strength: .*less than or equal to 1"),
        ({"diversity": {"lambda": 0.5}}, "lists.diversity.lambda: Extra inputs"),
        ({"calibration": {"strength": -0.1}}, "lists.calibration.strength"),
        ({"freshness": {"half_life_days": 0}}, "lists.freshness.half_life_days: .*greater than 0"),
        ({"spare": 5_000}, "lists.spare: .*less than or equal to 1000"),
        ({"caps": [{"by": "brand", "most": 2}]}, "lists.caps.0.by: .*attribute"),
        ({"caps": [{"by": "category"}]}, "lists.caps.0.most: Field required"),
        ({"caps": [{"by": "category", "most": 10}]}, r"lists.caps.0: most \(10\) must be below first \(10\)"),
    ],
)
def test_a_wrong_setting_of_a_stage_is_named(lists: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load_settings(lists=lists)


def test_the_examples_of_the_homepage_are_settings() -> None:
    text = (Path(__file__).resolve().parents[4] / "docs" / "homepage.md").read_text("utf-8")
    files = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", text, re.S)]
    examples = [file["lists"] for file in files]
    shown = {name for example in examples for name in example}
    assert shown >= {"spare", "freshness", "calibration", "diversity", "caps", "rows", "frequency_cap", "shared_categories"}
    for file in files:
        load_settings(**file)
    merged = {name: value for example in examples for name, value in example.items()}
    policy = policy_options(load_settings(lists=merged, state={"shown_items": 100}).lists)
    assert policy.freshness and policy.calibration and policy.diversity and len(policy.caps) == 3
