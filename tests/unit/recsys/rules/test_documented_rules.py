"""Every example of docs/rules.md is read, and every operator, name and action has one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from recsys.rules import names, syntax
from recsys.rules.check import condition
from recsys.rules.rule import MAX_PLACES, MAX_RULES, Rule, RuleSet

TEXT = (Path(__file__).resolve().parents[4] / "docs" / "rules.md").read_text("utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", TEXT, re.S)
EXAMPLES = [cell.replace("\\|", "|") for cell in re.findall(r"^\| [^|]*(?:\\\|[^|]*)* \| `(.+)` \|$", TEXT, re.M)]


def test_rules_of_the_document_are_rules() -> None:
    rules = [
        Rule(**fields | {"places": tuple(fields.get("places", ())), "placements": tuple(fields.get("placements", ()))})
        for block in BLOCKS
        for fields in tomllib.loads(block)["lists"]["rules"]
    ]
    assert {rule.action for rule in rules} == {"allow", "deny", "boost", "bury", "pin"}
    assert len(RuleSet(tuple(rules)).rules) == len(rules)


@pytest.mark.parametrize("when", EXAMPLES)
def test_examples_of_operators_are_conditions(when: str) -> None:
    assert condition(when)


def test_there_is_an_example_of_every_operator_and_a_row_for_every_name() -> None:
    shown = " ".join(EXAMPLES)
    operators = ["==", "<=", ">=", " in ", "&&", "||", "!(", "* ", "- ", *(f".{name}(" for name in names.METHODS if name != "size")]
    assert len(EXAMPLES) >= 15
    assert [one for one in [*operators, *(f"{name}(" for name in names.FUNCTIONS)] if one not in shown] == ["double("]
    for owner, known in names.OF.items():
        assert [name for name in known if f"`{owner}.{name}`" not in TEXT] == []


def test_bounds_are_those_of_the_code() -> None:
    bounds = f"{MAX_RULES} rules, {syntax.MAX_CHARS:,} characters and {syntax.MAX_DEPTH} levels for a condition"
    assert bounds in TEXT and f"{MAX_PLACES} places for a rule" in TEXT
