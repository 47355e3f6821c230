"""Check of the settings that name model kinds and their options."""

from __future__ import annotations

from recsys.errors import ModelError
from recsys.models.registry import check_kinds, check_training_options
from workers.errors import SettingsError
from workers.settings import Settings


def check_training(settings: Settings) -> None:
    """Raise SettingsError for a model kind or a training option that does not exist."""
    setting = "trainer.kinds"
    try:
        check_kinds(settings.trainer.kinds)
        setting = "trainer.options"
        check_training_options(settings.trainer.options)
    except ModelError as error:
        raise SettingsError(f"setting {setting}: {error}") from None
