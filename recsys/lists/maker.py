"""Makes lists: sources ▸ candidates ▸ filters ▸ features ▸ ranker ▸ policy ▸ reasons.

Rules are part of three stages: what they deny or do not allow is filtered, what they boost or bury is ranked again, and what they pin takes
its places after all other policies but exploration.

Shapes: U users, C candidates, P ranked candidates, K places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.lists import exact_scan, indexed
from recsys.lists.candidates import Candidates, best, flat
from recsys.lists.context import ListContext, Users
from recsys.lists.features import FeatureMaker, SourceParts
from recsys.lists.filters import ByRules, Filter, is_personal
from recsys.lists.learned.reranking import ranked_again
from recsys.lists.narrowed import narrowed
from recsys.lists.policies.caps import Caps
from recsys.lists.policies.mixed import Mixed, made_again
from recsys.lists.policies.stability import Stability
from recsys.lists.policy import EXPLORED, Exploration, Prepared
from recsys.lists.ranker import ByRecipe, added_by_rules
from recsys.lists.reason_choice import reasons_of, references
from recsys.lists.reasons import because
from recsys.lists.registry import STAGES, NameTaken, Registry
from recsys.lists.result import Lists, Rows
from recsys.lists.rows import Page, RowMaker
from recsys.lists.rule_effects import RuleEffects
from recsys.lists.rule_stages import boosted, movers, pinned
from recsys.lists.rules_in_use import Nominator, RulesInUse
from recsys.lists.sources.base import Source
from recsys.lists.sources.segments import model_source
from recsys.lists.trace import PINS, RANKED, Trace
from recsys.rules.rule import RuleSet

Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]

BLOCK_USERS = 512
"""Users listed at once: they share the work on the vectors that several of them scan. Up to 0.8 MB an array of candidates' scores."""
SPARE = 200
"""Candidates beyond a list's size that plugins have to choose from. Without plugins there are none: they cost time."""
_BEFORE_MODELS = ("cooccurrence", "content")
"""Sources that stand before the models in a list's record; all others stand behind them."""


def _ignore(name: str, after: Candidates) -> None:
    """Take no note of a step."""


class ListMaker:
    """Makes lists with the parts of a registry, which it makes once, and by rules."""

    def __init__(self, registry: Registry, rules: RuleSet | None = None) -> None:
        """Raises NameTaken for rules beside a source of their name."""
        self._nominator = Nominator()
        self._sources = registry.sources.make()
        self._named_filters = registry.filters.make()
        self._own_filters = list(self._named_filters.values())
        self.use_rules(rules)
        self._features: FeatureMaker = SourceParts()
        self._ranker = [*registry.rankers.make().values()][-1]
        stages = registry.policies.make()
        before = [stage for stage in stages.values() if not isinstance(stage, Exploration)]
        self._stage_names = {id(stage): name for name, stage in stages.items()}
        last = Stability, Caps, Mixed  # stability keeps the order that plugins leave, and caps hold for what both leave
        self._policy = sorted(before, key=lambda stage: last.index(type(stage)) + 1 if type(stage) in last else 0)
        self._exploration = [stage for stage in stages.values() if isinstance(stage, Exploration)]  # draws from what others leave
        self._personal = [one for one in self._own_filters if is_personal(one)]
        needs_spare = bool(self._personal) or not isinstance(self._ranker, ByRecipe) or not stages.keys() <= STAGES.keys()
        self._spare = SPARE if needs_spare else 0
        self._rows = RowMaker()

    def use_rules(self, rules: RuleSet | None) -> None:
        """Make lists by these rules from now on, between two batches; None: by none. Raises NameTaken beside a source of their name."""
        self._rules = RulesInUse(rules) if rules is not None and rules.rules else None
        if self._rules is not None and Nominator.name in self._sources:
            raise NameTaken(f"a source is named {Nominator.name!r}, as the one of lists.rules: give it another name")
        self._filters = [*self._own_filters, *([ByRules()] if self._rules is not None else [])]

    def prepare(self, context: ListContext) -> None:
        """Compute what all lists of a context share, so that they may be made in several threads."""
        if self._rules is not None and not self._rules.rules.user_parts:
            context = self._rules.under(context, b"")
        sources = self._active(context, ())
        for source in sources:
            source.prepare(context)
        if context.is_large:
            indexed.prepare(sources, self._filters, context)
        else:
            exact_scan.prepare(sources, self._filters, context)
        for stage in self._policy:
            if isinstance(stage, Prepared):
                stage.prepare(context)
        self._rows.prepare(context)

    def lists(self, users: Users, context: ListContext, *, with_rules: bool = True, within: Bools | None = None) -> Lists:
        """Return a list for each user; without the rules if `with_rules` is False; of the items `within` (N,) alone if that is given."""
        blocks = [slice(start, min(start + BLOCK_USERS, len(users))) for start in range(0, len(users), BLOCK_USERS)]
        listed = self._inside if self._rules is None or not with_rules else self._by_rules
        return Lists.joined([listed(users.part(rows), context, within) for rows in blocks or [slice(0, 0)]])

    def _inside(self, users: Users, context: ListContext, within: Bools | None) -> Lists:
        if within is not None:
            return self._listed(users, narrowed(context, within))
        made = self._listed(users, context)
        rows, own = made_again(made.items, context)
        if not len(rows):
            return made
        # nothing of another category was among the list's own candidates: few users, who get further ones
        again = self._listed(users.chosen(rows), own)
        order = np.arange(len(made.items))
        order[rows] = len(order) + np.arange(len(rows))
        return Lists.joined([made, again]).at(order)

    def _by_rules(self, users: Users, context: ListContext, within: Bools | None) -> Lists:
        """Return lists that follow the rules: made for each group of users whose rules are the same."""
        assert self._rules is not None
        made = [(rows, self._inside(users.chosen(rows), own, within)) for rows, own in self._rules.groups(users, context)]
        lists = Lists.joined([one for _, one in made])
        return lists if len(made) == 1 else lists.at(np.argsort(np.concatenate([rows for rows, _ in made])))

    def rule_groups(self, users: Users, context: ListContext) -> list[tuple[I64, RuleEffects]]:
        """Return what rules do to the lists of users: the rows of those for whom it is the same, and the effects."""
        if self._rules is None:
            return []
        return [(rows, own.effects) for rows, own in self._rules.groups(users, context) if own.effects is not None]

    def candidates(self, users: Users, context: ListContext) -> Candidates:
        """Return what the users' lists may hold, before it is ranked."""
        return self._found(self._active(context, users.vectors), users, context, self._wanted(context))

    def shortlist(self, users: Users, context: ListContext, size: int) -> Candidates:
        """Return the `size` best candidates by the recipe, which a learned ranker ranks again."""
        return ByRecipe().ranked(self.candidates(users, context), users, context, size)

    def _wanted(self, context: ListContext) -> int:
        options = context.options
        spare = max(self._spare, options.policy.spare if options.policy.is_on else 0)
        return options.size + spare + (EXPLORED if options.exploration_slots else 0)

    def _found(self, sources: Sequence[Source], users: Users, context: ListContext, wanted: int) -> Candidates:
        find = indexed.candidates if context.is_large else exact_scan.candidates
        found = find(sources, self._filters_of(context), users, context, wanted)
        for one in self._personal:
            kept = one.personal(found.numbers, users, context)
            found = found if kept is None else found.only(kept)
        return found

    def _filters_of(self, context: ListContext) -> list[Filter]:
        """Return the filters; where there are no rules, that of a narrowed context."""
        return self._filters if self._rules is not None or context.effects is None else [*self._filters, ByRules()]

    def traced(self, users: Users, context: ListContext) -> Trace:
        """Return lists with the steps that led to them. Rules are those of the first user: trace only users for whom they do the same."""
        own = context if self._rules is None else next(self._rules.groups(users, context))[1]
        steps: list[tuple[str, Candidates]] = []
        lists = self._listed(users, own, lambda name, after: steps.append((name, after)))
        rows, own = made_again(lists.items, own)
        if len(rows):
            steps.clear()
            lists = self._listed(users, own, lambda name, after: steps.append((name, after)))
        sources = self._active(own, users.vectors)
        found = self._found(sources, users, own, self._wanted(own))
        ranked = boosted(self._ranked(found, users, own, found.numbers.shape[1]), own)
        filters = dict(zip((*self._named_filters, Nominator.name), self._filters_of(own), strict=False))
        return Trace(users, own, sources, filters, found, ranked, steps, lists)

    def _listed(self, users: Users, context: ListContext, note: Callable[[str, Candidates], None] = _ignore) -> Lists:
        """Return lists; `note` is called with the name of each step after the candidates are ranked, and what it left."""
        sources, size, wanted = self._active(context, users.vectors), context.options.size, self._wanted(context)
        found = self._found(sources, users, context, wanted)
        effects = context.effects
        if effects is not None and len(effects.pins):  # which may raise the last candidate
            wanted = max(wanted, found.numbers.shape[1])
        chosen = self._ranked(found, users, context, wanted)
        reference = references(chosen) if context.options.reasons else None
        if effects is not None:
            chosen = boosted(chosen, context)
        note(RANKED, chosen)
        for stage in self._policy:
            chosen = stage(chosen, size, users, context)
            if self._spare:  # a plugin's stage may leave gaps
                chosen = chosen.closed_up()
            note(self._stage_names[id(stage)], chosen)
        pinned_by = None
        if effects is not None:
            chosen, pinned_by = pinned(chosen, effects)
            note(PINS, chosen)
        for stage in self._exploration:
            chosen = stage(chosen, size, users, context)
            note(self._stage_names[id(stage)], chosen)
        if reference is not None:
            reference = references(chosen, reference)
        chosen = chosen.first(size)
        marks = None if effects is None or pinned_by is None else movers(chosen, pinned_by, effects)
        own = because(sources, chosen, users, context)
        rows = self._page(chosen, found, users, context) if context.options.rows else None
        reasons = None if reference is None else reasons_of(sources, chosen, own, reference, users, context)
        return Lists(chosen.numbers, chosen.scores, chosen.propensities, dict(chosen.parts), own, marks, rows, reasons)

    def _page(self, listed: Candidates, found: Candidates, users: Users, context: ListContext) -> Rows:
        """Return the rows of the users' pages."""
        ranked = None
        if any(spec.kind == "category" for spec in context.options.rows):  # in which there may be few of the best candidates
            ranked = self._ranked(found, users, context, found.numbers.shape[1])
            ranked = ranked if context.effects is None else boosted(ranked, context)
        page = Page(users, listed, ranked, indexed.listable(self._filters_of(context), context), self._personal)
        return self._rows.rows(page, context)

    def _ranked(self, found: Candidates, users: Users, context: ListContext, size: int) -> Candidates:
        """Return the `size` best candidates, best first."""
        if isinstance(self._ranker, ByRecipe):
            ranker = context.options.ranker
            if ranker is None:
                return self._ranker.ranked(found, users, context, size)
            shortlist = self._ranker.ranked(found, users, context, max(size, ranker.narrowed))
            return ranked_again(ranker, shortlist, users, context, size)
        made = self._features(found, users, context)
        alone, added = self._ranker.score(made, found.valid), added_by_rules(found.numbers, context)
        columns, numbers, scores = best(alone if added is None else alone + added, found.numbers, size)
        places = flat(columns, found.numbers.shape[1])
        if added is not None:
            scores = np.where(numbers >= 0, alone.ravel()[places], -np.inf).astype(np.float32)
        parts = self._ranker.parts(made.at(places)).transpose(2, 0, 1)  # (F, U, P)
        by_name = dict(zip(made.names, parts, strict=True))
        return Candidates(numbers, found.raw_at(places), found.scales, scores, by_name, np.ones(scores.shape, np.float32))

    def _active(self, context: ListContext, kinds: Iterable[str]) -> list[Source]:
        """Return the sources with a weight, models of these `kinds` among them."""
        weights = context.options.weights
        models: dict[str, Source] = {kind: model_source(kind) for kind in kinds}
        first = {name: source for name, source in self._sources.items() if name in _BEFORE_MODELS}
        active = [source for name, source in (first | models | self._sources).items() if weights.get(name)]
        return active if context.effects is None else [*active, self._nominator]
