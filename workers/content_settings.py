"""Settings of what the trainer learns from the content of items; all is off by default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from workers.section import Section


class ContentSettings(Section):
    """Set the same values for the trainer and for all workers."""

    text_model: Path | None = None
    """Local folder of a sentence-transformers model that turns each item's title and text into a vector (extra `text`). The trainer reads
    it, and nothing is downloaded. Only safetensors are read. Not set: off."""
    text_items: Annotated[int, Field(ge=1, le=1_000_000)] = 100_000
    """Largest number of items that get a vector of their text: those with the most events first. A vector of 384 dimensions is 768 bytes
    in the model store and 1.5 kB in a worker."""
    text_batch: Annotated[int, Field(ge=1, le=1_024)] = 32
    """Texts that the language model reads at once. More need more memory."""
    text_seconds: Annotated[float, Field(gt=0, le=86_400)] = 900.0
    """Longest time that one round of training spends on texts. The next round goes on with what is left."""
    maps: bool = False
    """Let the trainer learn, for each model, a map from an item's content to the model's vectors. Items that a model does not know then
    have a place in it. A map serves only if it ranks left-out items better than chance."""

    @property
    def is_on(self) -> bool:
        """Return whether the trainer learns anything from content."""
        return self.maps or self.text_model is not None
