"""Names of the features that a recipe reads, in their order. They are stored with each recipe.

A change of the list or of what a feature means is a new version: recipes of another version are refused, and trained again.
"""

from __future__ import annotations

FEATURE_VERSION = 1
POPULARITY = ("10m", "40m", "2h", "6h", "1d", "4d", "15d", "90d", "all")
"""Half-lives of the bank, `recsys.state.half_lives`."""

ITEM_FEATURES = (
    "cooccurrence.relative",
    "cooccurrence.log",
    "cooccurrence.level",
    "wide.relative",
    "wide.log",
    "content.relative",
    "content.log",
    "new",
    *(f"popularity.{name}" for name in POPULARITY),
)
"""Features that differ from candidate to candidate."""
USER_FEATURES = ("history.length", "history.gap", *(f"history.popularity.{name}" for name in POPULARITY))
"""Features that are the same for all candidates of a user: they matter through the hidden units only."""
FEATURES = ITEM_FEATURES + USER_FEATURES

SOURCE_OF = {
    name: {"popularity": "trending", "wide": "cooccurrence"}.get(name.partition(".")[0], name.partition(".")[0]) for name in ITEM_FEATURES
}
"""The source under which a list shows what an item's feature added."""
