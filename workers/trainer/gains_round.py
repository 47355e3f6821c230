"""Measures in the recipe's round what each kind of model adds to the list, and retires one that adds nothing.

A kind is retired if lists made without it are as good beyond chance: those of the new recipe with its other weights fitted without the
kind, which then serves; or, where the gate refuses that recipe, those of the recipe that goes on serving.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from recsys.evaluation.gate import CHAMPION
from recsys.evaluation.ranking import Ranked
from recsys.lists.recipe import Recipe
from recsys.recipe.gains import ListGain, forgotten, least_useful, silenced
from workers.models.manifest import Gain, StoreError
from workers.models.store import ModelStore
from workers.settings import TrainerSettings
from workers.trainer.judgement import CHALLENGER
from workers.trainer.progress import report
from workers.trainer.settling import KindResult


def of_gains(without: Mapping[str, Recipe], serving: Recipe) -> dict[str, Recipe]:
    """Return what is judged beside challenger and champion: by name, the challenger and the champion `serving` without each kind."""
    found = {_without(CHALLENGER, kind): recipe for kind, recipe in without.items()}
    return found | {_without(CHAMPION, kind): silenced(serving, kind) for kind in without}


def _without(who: str, kind: str) -> str:
    return f"{who}_without_{kind}"


@dataclass(frozen=True, slots=True)
class Gains:
    """Holds what each kind adds to the lists of challenger and champion; `useless` names the kind to retire, if any."""

    of_challenger: Mapping[str, ListGain]
    of_champion: Mapping[str, ListGain]
    useless: str | None = None
    useless_to_champion: bool = False

    @classmethod
    def of(cls, ranked: Mapping[str, Ranked], kinds: Iterable[str], settings: TrainerSettings) -> Gains:
        """Compare the lists with and without each of the `kinds`; nothing without kinds. With fewer targets than `trainer.min_targets` none
        is useless."""
        kinds = list(kinds)
        scores = {who: ranked[who].scores for who in (CHALLENGER, CHAMPION)}

        def gains(who: str) -> dict[str, ListGain]:
            return {kind: ListGain.of(scores[who], ranked[_without(who, kind)].scores, settings.seed) for kind in kinds}

        of_challenger, of_champion = gains(CHALLENGER), gains(CHAMPION)
        for kind, gain in of_challenger.items():
            report(f"recipe: {kind} adds {gain.mean:+.4f} to NDCG@10 of the list ({gain.low:+.4f} to {gain.high:+.4f})")
        if scores[CHALLENGER].n_targets < settings.min_targets:
            return cls(of_challenger, of_champion)
        useless = least_useful(of_challenger, scores[CHALLENGER].mean_ndcg, settings.least_gain)
        own = {} if useless is None else {useless: of_champion[useless]}
        return cls(
            of_challenger, of_champion, useless, bool(least_useful(own, scores[CHAMPION].mean_ndcg, settings.least_gain))
        )

    def without_it(self, without: Mapping[str, Recipe], ranked: Mapping[str, Ranked]) -> tuple[Recipe, dict[str, Ranked]]:
        """Return the challenger without the useless kind, and the ranks with its own in the challenger's place."""
        assert self.useless is not None
        return forgotten(without[self.useless], self.useless), {**ranked, CHALLENGER: ranked[_without(CHALLENGER, self.useless)]}

    def records(self) -> dict[str, Gain]:
        """Return the gains as a manifest holds them."""
        return {kind: Gain(**asdict(gain)) for kind, gain in self.of_challenger.items()}

    def retired(self, of_recipe: KindResult, store: ModelStore, n_events: int) -> list[KindResult]:
        """Retire the useless kind in the store if what serves from here on does without it; return what came of it."""
        kind = self.useless
        if kind is None:
            return []
        promoted = of_recipe.action == "promoted"
        if not promoted and not self.useless_to_champion:
            report(f"{kind}: it adds nothing to the new recipe, which was refused; the recipe that serves needs it")
            return []
        gain = (self.of_challenger if promoted else self.of_champion)[kind]
        why = f"it adds {gain.mean:+.4f} to NDCG@10 of the list, at most {gain.high:+.4f}: less than trainer.least_gain asks for"
        try:
            version = store.retire(kind, reason=f"retired by the trainer, {why}", n_events=n_events)
        except StoreError as error:  # a person retired it in the same moment
            report(f"WARNING {kind}: not retired: {error}")
            return []
        return [KindResult(kind, "retired", version, version, why, asdict(gain), 0.0)]
