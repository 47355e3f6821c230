"""Check of the settings that name model kinds and their options."""

from __future__ import annotations

from recsys.errors import ModelError
from recsys.lists.learned.ranker import LearnedRanker
from recsys.lists.recipe import Recipe
from recsys.models.registry import check_kinds, check_training_options
from recsys.ranker.budget import RankerOptions
from recsys.recipe.options import RecipeOptions
from workers.errors import SettingsError
from workers.models.model_files import LIST_MAKERS
from workers.settings import Settings
from workers.trainer.text_encoder import TextModelError, check_usable


def check_training(settings: Settings) -> None:
    """Raise SettingsError for a model kind or a training option that does not exist, and for a language model that cannot be used."""
    setting = "trainer.kinds"
    try:
        check_kinds(settings.trainer.kinds, tuple(LIST_MAKERS))
        setting = "trainer.options"
        options = dict(settings.trainer.options)
        RecipeOptions.of(options.pop(Recipe.kind, {}), settings.trainer.seed)
        RankerOptions.of(options.pop(LearnedRanker.kind, {}), settings.trainer.seed)
        check_training_options(options, tuple(LIST_MAKERS))
    except ModelError as error:
        raise SettingsError(f"setting {setting}: {error}") from None
    if settings.content.text_model is not None:
        try:
            check_usable(settings.content.text_model)
        except TextModelError as error:
            raise SettingsError(f"setting {error}") from None
