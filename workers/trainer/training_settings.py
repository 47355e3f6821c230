"""Check of the settings that name model kinds and their options."""

from __future__ import annotations

from recsys.errors import ModelError
from recsys.lists.recipe import Recipe
from recsys.models.registry import check_kinds, check_training_options
from recsys.recipe.options import RecipeOptions
from workers.errors import SettingsError
from workers.settings import Settings


def check_training(settings: Settings) -> None:
    """Raise SettingsError for a model kind or a training option that does not exist."""
    setting = "trainer.kinds"
    try:
        check_kinds(settings.trainer.kinds, (Recipe.kind,))
        setting = "trainer.options"
        options = dict(settings.trainer.options)
        RecipeOptions.of(options.pop(Recipe.kind, {}), settings.trainer.seed)
        check_training_options(options, (Recipe.kind,))
    except ModelError as error:
        raise SettingsError(f"setting {setting}: {error}") from None
