"""Rules of the settings are checked when settings are read, and reach the engine that makes lists."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.builders import small_settings
from workers.errors import SettingsError
from workers.lists.engine_config import engine_config
from workers.operations.rules_check import read_rules
from workers.settings import load_settings

RULE = {"name": "no spirits", "when": '"spirits" in item.categories', "action": "deny"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"when": "item.a"}, "setting lists.rules.0: rule 'no spirits': when: column 1: item.a is compared with nothing"),
        ({"action": "hide"}, "setting lists.rules.0.action: Input should be 'allow', 'deny', 'boost', 'bury' or 'pin'"),
        ({"name": ""}, "setting lists.rules.0.name: String should match pattern"),
        ({"name": "a\nb"}, "setting lists.rules.0.name: String should match pattern"),
        ({"name": "x" * 65}, "setting lists.rules.0.name: String should have at most 64 characters"),
        ({"amonut": 1.0}, "setting lists.rules.0.amonut: Extra inputs are not permitted"),
        ({"action": "boost", "amount": 0}, "setting lists.rules.0: rule 'no spirits': amount: it must be above 0 and at most 1000"),
        ({"action": "boost", "amount": "a"}, "setting lists.rules.0.amount: Input should be a valid number"),
        ({"action": "pin"}, "setting lists.rules.0: rule 'no spirits': places: pin needs the places"),
        ({"placements": ["row"]}, "setting lists.rules.0: rule 'no spirits': placements: unknown placement 'row'"),
    ],
)
def test_a_wrong_rule_is_one_line_that_names_it(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(lists={"rules": [RULE | changed]})
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


def test_settings_with_rules_survive_their_way_to_the_process_that_trains() -> None:
    settings = load_settings(lists={"rules": [RULE, RULE | {"name": "shelf", "action": "pin", "places": [1]}]})
    assert type(settings.lists).model_validate_json(settings.lists.model_dump_json()) == settings.lists


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"setting lists\.rules: two rules are named 'no spirits'"):
        load_settings(lists={"rules": [RULE, RULE]})


def test_hostile_names_and_values_are_data() -> None:
    hostile = "[red]\u202e{x} %s"
    with pytest.raises(SettingsError) as refused:
        load_settings(lists={"rules": [RULE | {"name": hostile, "when": 'item.a == "\u202e[/]'}]})
    assert repr(hostile) in str(refused.value), "invisible characters are written as escapes"
    rules = load_settings(lists={"rules": [RULE | {"name": hostile}]}).lists.rules
    assert rules[0].name == hostile


def test_a_pin_is_on_the_list_and_not_where_exploration_draws() -> None:
    pin = RULE | {"action": "pin", "places": [18]}
    assert engine_config(load_settings(lists={"rules": [pin]})).rules is not None
    with pytest.raises(SettingsError, match=r"rule 'no spirits': places: 18 is behind the last one .*: choose a place up to 10"):
        engine_config(load_settings(lists={"rules": [pin], "size": 10}))
    with pytest.raises(SettingsError, match=r"of which lists.exploration_slots draws the last 4: choose a place up to 16"):
        engine_config(load_settings(lists={"rules": [pin], "exploration_slots": 4}))


def test_rules_come_from_the_environment_and_from_the_toml_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECSYS_LISTS__RULES", json.dumps([RULE]))
    assert load_settings().lists.rules[0].when == RULE["when"]
    monkeypatch.delenv("RECSYS_LISTS__RULES")
    file = tmp_path / "recsys.toml"
    file.write_text("[[lists.rules]]\nname = \"shelf\"\nwhen = 'item.brand == \"acme\"'\naction = \"pin\"\nplaces = [1, 3]\n")
    monkeypatch.setenv("RECSYS_CONFIG", str(file))
    (rule,) = load_settings().lists.rules
    assert (rule.name, rule.places) == ("shelf", (1, 3)) and read_rules(file) == (rule,)


def test_a_file_of_rules_is_toml_or_json(tmp_path: Path) -> None:
    as_list, as_table, as_toml = tmp_path / "list.json", tmp_path / "table.json", tmp_path / "rules.toml"
    as_list.write_text(json.dumps([RULE]))
    as_table.write_text(json.dumps({"rules": [RULE]}))
    as_toml.write_text("[[rules]]\nname = \"no spirits\"\nwhen = '\"spirits\" in item.categories'\naction = \"deny\"\n")
    assert read_rules(as_list) == read_rules(as_table) == read_rules(as_toml) == load_settings(lists={"rules": [RULE]}).lists.rules


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.toml", None, "No such file"),
        ("rules.toml", "a = ", "it is no TOML"),
        ("rules.yaml", "- name: x", "YAML is not read: write TOML or JSON, as settings have it"),
        ("rules.txt", "{}", "it is no TOML (a file of JSON is named .json)"),
        ("rules.json", "{", "it is no JSON"),
        ("rules.json", "[" * 100_000, "it is no JSON"),
        ("rules.json", "3", "it holds no rules"),
        ("rules.toml", "[lists]\nsize = 3\n", "it holds no rules"),
        ("rules.json", json.dumps([RULE | {"when": "item.a"}]), "rules.0: rule 'no spirits': when: column 1"),
        ("rules.json", json.dumps([3]), "rules.0: Input should be a valid dictionary"),
        ("rules.json", " " * 1_048_577, "it is larger than 1,048,576 bytes"),
        ("rules.toml", b"\xff\xfe", "it is no TOML"),
    ],
)
def test_a_file_that_holds_no_rules_is_refused_in_one_line(tmp_path: Path, name: str, content: str | bytes | None, message: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError) as refused:
        read_rules(file)
    assert str(refused.value).startswith(f"{file}: {message}"), str(refused.value)


def test_the_parser_is_loaded_only_where_there_are_rules() -> None:
    program = "import sys; from workers.settings import load_settings; load_settings(); print('lark' in sys.modules)"
    root = Path(__file__).parents[4]
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, cwd=root)
    assert run.stdout.strip() == "False"
    assert engine_config(small_settings()).rules is None
