"""Rules of the control topic: checked as those of the settings are, and joined with them.

The rules of the settings are the floor: they come first, a set on the topic cannot take one of them away or use its name, and of two rules
that pin one place that of the settings takes it.
"""

from __future__ import annotations

import json

from pydantic import ValidationError

from recsys.errors import RuleError
from recsys.lists.registry import Registry
from schemas.control import PublishedRule, PublishedRules
from schemas.decoding import decode_rules
from schemas.errors import Poison
from schemas.limits import CONTROL_MAX_BYTES
from workers.errors import SettingsError
from workers.lists.engine_config import check_rules
from workers.rule_settings import RuleSettings, rule_set
from workers.settings import ListSettings

_FIELDS = ("when", "amount", "places", "placements", "name", "action")


def decode_published(value: bytes | None, key: bytes | None) -> PublishedRules | None:
    """Return a published set as it was written, None for a tombstone. Raises Poison, which names the rule, its field and the remedy."""
    try:
        return decode_rules(value, key)
    except Poison as poison:
        refusal = poison
    if isinstance(value, bytes) and len(value) <= CONTROL_MAX_BYTES:
        refusal = _naming_rule(refusal, value)
    raise refusal


def _naming_rule(poison: Poison, value: bytes) -> Poison:
    """Return a refusal with the name of the rule that it is about, and what that field should be."""
    try:
        rules = json.loads(value)["rules"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return poison
    if not isinstance(rules, list):
        return poison
    if poison.kind == "unknown_field":
        at = next((at for at, rule in enumerate(rules) if isinstance(rule, dict) and rule.keys() - PublishedRule.model_fields.keys()), -1)
        problem = f"unknown field; send only: {', '.join(PublishedRule.model_fields)}"
        return poison if at < 0 else Poison(f"rules.{at}", f"rules.{at}: {_titled(rules[at])}{problem}", poison.kind)
    _, at_text, name, *_ = [*poison.field.split("."), "", "", ""]
    if not at_text.isdigit() or int(at_text) >= len(rules):
        return poison
    described = PublishedRule.model_fields.get(name)
    found = poison.reason.removeprefix(f"{poison.field}: ").rpartition("; send ")[0]
    remedy = "" if described is None else f"; send {described.description}"
    return Poison(poison.field, f"{poison.field}: {_titled(rules[int(at_text)])}{found}{remedy}".replace("\n", " "), poison.kind)


def _titled(rule: object) -> str:
    name = rule.get("name") if isinstance(rule, dict) else None
    return f"rule {name[:64]!r}: " if isinstance(name, str) else ""


def with_published(lists: ListSettings, published: PublishedRules | None, registry: Registry) -> ListSettings:
    """Return the settings with the rules of a published set behind their own. Raises Poison, which names rule, field and remedy."""
    if published is None:
        return lists
    rules = tuple(_read(at, rule) for at, rule in enumerate(published.rules))
    own = {rule.name for rule in lists.rules}
    for at, rule in enumerate(rules):
        if rule.name in own:
            reason = f"rule {rule.name!r}: the settings have a rule of this name: give it another one, the settings' rule stays"
            raise Poison(f"rules.{at}.name", f"rules.{at}.name: {reason}", "invalid_field")
    joined = lists.model_copy(update={"rules": (*lists.rules, *rules)})
    try:
        rule_set(joined.rules)
        check_rules(joined, registry)
    except (RuleError, SettingsError) as error:
        reason = str(error).removeprefix("setting lists.rules: ")
        raise Poison("rules", f"rules: {reason}", "invalid_field") from None
    return joined


def _read(at: int, rule: PublishedRule) -> RuleSettings:
    """Return a rule with its condition read. Raises Poison."""
    try:
        return RuleSettings.model_validate(rule.model_dump())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        message = first["msg"].removeprefix("Value error, ").removeprefix(f"rule {rule.name!r}: ")
        where = ".".join(str(part) for part in first["loc"]) or next((name for name in _FIELDS if message.startswith(name)), "")
        field = f"rules.{at}.{where}" if where else f"rules.{at}"
    raise Poison(field, f"{field}: rule {rule.name!r}: {message}", "invalid_field")
