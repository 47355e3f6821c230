"""Makes lists of some users with rules and without them, from the state as it is. Reads Redis and the model store; changes nothing."""

from __future__ import annotations

import json
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.engine import Lists
from recsys.lists.rule_effects import RuleEffects
from recsys.rules.names import nearest
from recsys.rules.rule import RuleSet
from schemas.catalogue import Item
from workers.bootstrap import open_store
from workers.errors import SettingsError
from workers.lists.profile_content import stored_attributes
from workers.operations.live_lists import LoadedUsers, Say, load_users, open_state
from workers.operations.rules_report import RuleReport, report, unknown_attributes
from workers.rule_settings import Rules
from workers.settings import Settings
from workers.state.port import StateStore
from workers.stream.serving_state import ServingState

I64 = NDArray[np.int64]
MAX_FILE_BYTES = 1_048_576
SAMPLED_ITEMS = 1_000
"""Items whose attributes are read to name the one that a rule may have meant."""
SAMPLED_USERS = 100
"""Users of each partition whose attributes are read for that."""


class _RuleFile(BaseModel):
    """A file of rules: as under `[lists]` of the settings, or as the whole settings file."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    rules: Rules = ()


def read_rules(path: Path) -> Rules:
    """Return the rules of a TOML or JSON file: a list of rules, a table `rules`, or a settings file with `lists.rules`.

    Raises SettingsError, which names the file and the rule.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        raise SettingsError(f"{path}: YAML is not read: write TOML or JSON, as settings have it")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SettingsError(f"{path}: it is larger than {MAX_FILE_BYTES:,} bytes")
        content = path.read_text("utf-8")
        values = json.loads(content) if path.suffix.lower() == ".json" else tomllib.loads(content)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        form = "JSON" if path.suffix.lower() == ".json" else "TOML (a file of JSON is named .json)"
        raise SettingsError(f"{path}: it is no {form}: {error}") from None
    if isinstance(values, list):
        values = {"rules": values}
    if isinstance(values, dict) and isinstance(values.get("lists"), dict):
        values = values["lists"]
    if not isinstance(values, dict) or "rules" not in values:
        raise SettingsError(f"{path}: it holds no rules: write [[rules]] tables, or a JSON list of rules")
    try:
        return _RuleFile.model_validate(values).rules
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None


async def check_rules(
    settings: Settings, *, n_users: int = 200, user_id: str | None = None, seed: int = 0, say: Say = lambda line: None
) -> RuleReport:
    """Return what the rules of these settings do to lists of `n_users` stored users, or of one user.

    Raises: SettingsError without any rule, Fatal without state or for a user that has none, Transient.
    """
    if not settings.lists.rules:
        raise SettingsError("setting lists.rules: there are no rules to check: add some, or name a file with --rules")
    store = open_store(settings)
    try:
        return await check_store(settings, store, n_users=n_users, user_id=user_id, seed=seed, say=say)
    finally:
        await store.close()


async def check_store(
    settings: Settings, store: StateStore, *, n_users: int, user_id: str | None, seed: int, say: Say, now_s: float | None = None
) -> RuleReport:
    """Return `check_rules` of the state that a store holds, at the reader's time `now_s`."""
    state = await open_state(settings, store, say)
    rules = state.engine.rules
    if rules is None:
        raise SettingsError("setting lists.rules: neither it nor the control topic has rules: add some, or run `recsys rules publish`")
    users = await load_users(state, n_users, user_id, seed)
    before, after, groups = await _lists(state, users, time.time() if now_s is None else now_s)
    made = report(rules, state.numbering.names, users.ids, before, after, groups)
    unknown = unknown_attributes(rules, "item", await _missing(state, rules))
    unknown += unknown_attributes(rules, "user", await _missing_of_users(state, rules, users))
    return replace(made, findings=(*unknown, *made.findings))


async def _lists(state: ServingState, users: LoadedUsers, now_s: float) -> tuple[Lists, Lists, list[tuple[I64, RuleEffects]]]:
    """Return lists without rules and with them, and what rules do to whose lists."""
    engine = state.engine
    recent, _, units = engine.users.newest(users.slots, engine.config.recent_items)
    await state.item_cache.refresh(np.unique(recent[units > 0]).astype(np.int64))
    event_s = state.item_cache.newest_s or int(now_s)
    shared, vectors = engine.shared(event_s, max(event_s, int(now_s))), engine.encode(users.slots, event_s)
    seeds = np.arange(len(users.ids), dtype=np.int64)
    before, after = (
        engine.recommend(users.slots, vectors, shared, seeds, users.preferred, user_ids=users.ids, with_rules=with_rules)
        for with_rules in (False, True)
    )
    return before, after, engine.rule_groups(users.slots, shared, users.preferred, users.ids)


async def _missing(state: ServingState, rules: RuleSet) -> dict[str, str | None]:
    """Return the attributes that rules name and no item has, each with the nearest one among those of some items."""
    held = state.engine.catalogue.held
    assert held is not None
    has_text = {name for name in rules.wanted.texts if (held.texts[name].codes >= 0).any()}
    has_number = {name for name in rules.wanted.numbers if not np.isnan(held.numbers[name]).all()}
    missing = {*rules.wanted.texts, *rules.wanted.numbers} - has_text - has_number
    if not missing:
        return {}
    known: set[str] = set()
    numbers = np.unique(np.linspace(0, state.engine.n_items - 1, SAMPLED_ITEMS).astype(np.int64)).tolist()
    for stored in await state.store.read_items(numbers):
        item = None if stored is None else Item.model_validate_json(stored)
        known |= set() if item is None else {*item.categorical_attributes, *item.numeric_attributes}
    return {name: nearest(name, sorted(known)) for name in sorted(missing)}


async def _missing_of_users(state: ServingState, rules: RuleSet, users: LoadedUsers) -> dict[str, str | None]:
    """Return the attributes of profiles that rules name and none of these users has, each with the nearest one that some user has."""
    wanted, profiles = rules.of_profiles, state.engine.users.profiles
    if profiles is None or profiles.attributes is None:
        return {}
    held = profiles.attributes
    has_text = {name for name in wanted.texts if (held.texts[name].codes[users.slots] >= 0).any()}
    has_number = {name for name in wanted.numbers if not np.isnan(held.numbers[name][users.slots]).all()}
    missing = {*wanted.texts, *wanted.numbers} - has_text - has_number
    if not missing:
        return {}
    known: set[str] = set()
    for partition in sorted(set(users.partitions)):
        ids = [user_id for user_id, own in zip(users.ids, users.partitions, strict=True) if own == partition][:SAMPLED_USERS]
        for user_id, stored in zip(ids, await state.store.read_profiles(partition, ids), strict=True):
            profile = stored_attributes(stored, user_id)
            known |= set() if profile is None else {*profile.categorical, *profile.numeric}
    return {name: nearest(name, sorted(known)) for name in sorted(missing)}
