"""Keeps the engine's rules in step with the control topic, by what the state store holds of it."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from recsys.catalogue.held_values import HeldValues, Wanted
from recsys.rules.rule import RuleSet
from schemas.catalogue import Item
from schemas.control import RULES_KEY, PublishedRules
from schemas.errors import Poison
from workers.lists.item_content import content_of
from workers.lists.topic_rules import with_published
from workers.rule_settings import rule_set
from workers.runtime.status import WorkerStatus
from workers.runtime.text import visible
from workers.stream.serving_state import ServingState

log = logging.getLogger(__name__)

ITEMS_AT_ONCE = 250


class RulesFollower:
    """Swaps published rules in between two batches. Those that this worker cannot follow change nothing."""

    def __init__(self, state: ServingState, status: WorkerStatus | None = None) -> None:
        """`status` shows the version in use."""
        self._state, self._status = state, status
        self._followed: tuple[int, bytes] | None = None
        self.version = 0
        """Version of the published rules in use; 0: none."""

    async def follow(self, *, is_described: bool = True) -> None:
        """Follow what is stored now. The caller holds a turn of the state. `is_described` off: the engine is about to learn all items.

        Raises: Transient.
        """
        state = self._state
        stored = (await state.store.control()).get(RULES_KEY.decode(), b"")
        if self._followed == (state.resets, stored):
            return
        try:
            published = PublishedRules.model_validate_json(stored) if stored else None
            lists = with_published(state.settings.lists, published, state.engine.config.registry)
        except (ValidationError, Poison) as error:
            what = error.reason if isinstance(error, Poison) else "the stored record cannot be read: publish the rules again"
            log.error("published rules are refused, those before stay in use: %s", visible(what))
        else:
            rules = rule_set(lists.rules)
            state.engine.use_rules(rules, await self._held(rules, is_described=is_described))
            self._note(published)
        self._followed = state.resets, stored

    def _note(self, published: PublishedRules | None) -> None:
        if published is None:
            if self.version:
                log.warning("the published rules were removed: those of the settings are in use")
            self.version = 0
        else:
            self.version = published.version
            by = f" by {visible(published.published_by)}" if published.published_by else ""
            log.info("rules of version %d%s are in use: %d, besides those of the settings", published.version, by, len(published.rules))
        if self._status is not None:
            self._status.facts["rules_version"] = self.version

    async def _held(self, rules: RuleSet | None, *, is_described: bool) -> HeldValues | None:
        """Return values of all items that the rules name; None where the catalogue holds them."""
        state = self._state
        catalogue = state.engine.catalogue
        if rules is None:
            return None
        before = Wanted() if catalogue.held is None else catalogue.held.wanted
        wanted = before.joined(rules.wanted)
        if catalogue.held is not None and wanted == before:
            return None
        held = HeldValues(wanted, len(catalogue.available))
        held.ids = state.numbering.names
        numbers = [number for number in (await state.store.changed_items(0))[1] if number < state.engine.n_items] if is_described else []
        for start in range(0, len(numbers), ITEMS_AT_ONCE):
            some = numbers[start : start + ITEMS_AT_ONCE]
            for number, stored in zip(some, await state.store.read_items(some), strict=True):
                try:
                    item = None if stored is None else Item.model_validate_json(stored)
                except ValidationError:
                    continue
                held.put(number, None if item is None else content_of(item))
        return held
