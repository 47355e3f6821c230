"""Maps from content for the models of one round: learnt and judged on the challenger, fitted again to the model that serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recsys.catalogue.items import ItemContent
from recsys.catalogue.words import Words
from recsys.evaluation.content_maps import Learnt, counts_of, fit_map, learn_map
from recsys.models.base import Model
from recsys.models.content_map import MappedModel
from recsys.models.descriptions import ItemDescriptions
from recsys.models.training_set import TrainingSet
from workers.trainer.progress import report


@dataclass(frozen=True, slots=True)
class MapMaker:
    """Makes maps from what the items say that a round knows."""

    descriptions: ItemDescriptions

    @classmethod
    def of(cls, contents: Mapping[int, ItemContent], item_ids: Sequence[str]) -> MapMaker:
        """Describe items; `contents` by position among `item_ids`."""
        return cls(ItemDescriptions.of(contents, item_ids))

    def learn(self, model: Model, trained_on: TrainingSet, seed: int) -> Learnt:
        """Learn and judge the map of a model on what it was trained on, and report what came of it."""
        learnt = learn_map(model, trained_on, self._words(model), seed)
        report(f"{model.kind}: {'a map from content' if learnt.content_map is not None else 'no map from content'}: {learnt.reason}")
        return learnt

    def mapped(self, model: Model, trained_on: TrainingSet, learnt: Learnt) -> Model | MappedModel:
        """Return a model with the map that `learnt` allows, fitted to this model; without one if there is none."""
        if learnt.content_map is None:
            return model
        counts = counts_of(model, trained_on.item_ids, trained_on.items)
        content_map = fit_map(model, counts, self._words(model), learnt.regularisation, learnt.content_map.gain)
        return MappedModel(model, content_map)

    def _words(self, model: Model) -> Words:
        """Return what the items of a model say, in their order."""
        return self.descriptions.words(model.item_ids)
