"""Names of the features that a learned ranker reads, in their order. They are stored with each ranker.

A change of the list or of what a feature means is a new version. Each version is the first part of the next one, so stored recipes and
rankers go on serving: version 1 is what recipes read (`recsys.lists.feature_names`), version 2 adds what replay knows of every log, and
version 3 what was shown to the user, and version 4 the device that a list is read on. Rankers of other versions are refused, and trained
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from recsys.lists import feature_names as of_recipes
from recsys.lists.feature_names import POPULARITY

WITHOUT_SHOWN, FEATURE_VERSION, WITH_DEVICES = 2, 3, 4
"""A ranker is trained on version 4 where the log tells devices apart, else on version 3 where impressions are counted and the log has some,
else on version 2."""
VERSIONS = (WITHOUT_SHOWN, FEATURE_VERSION, WITH_DEVICES)

RECIPE = ("recipe.lead", "recipe.rank")
"""How far a candidate's score by the recipe is below the user's best one, and the logarithm of its place."""
READINGS = (
    "cooccurrence.newest",
    "cooccurrence.second",
    "cooccurrence.third",
    "cooccurrence.flat",
    "cooccurrence.most",
    "cooccurrence.number",
)
"""Co-occurrence with the newest three liked items, each alone; with all recent ones, whatever their age; the most that one of them gives;
and how many give something."""
LEVELS = ("wide.level", "content.level")
"""Raw scores, where version 1 has shares of the user's best candidate."""
CONTENT = ("content.newest", "content.most")
"""Likeness of the content to that of the newest item, and to the recent item that is most alike."""
RISES = tuple(f"popularity.{short}-{long}" for short, long in pairwise(POPULARITY))
"""Differences of the logarithms of counts at neighbouring half-lives: above 0 for what is on the rise."""
TASTED = ("2h", "1d", "4d", "all")
TASTES = tuple(f"popularity.taste.{name}" for name in TASTED)
"""Differences of a candidate's logarithm of counts and the mean of the user's recent items."""
RANKS = ("cooccurrence.rank", "wide.rank", "content.rank", "popularity.1d.rank")
"""Logarithms of the place among the user's candidates."""
AGE = ("age",)
"""Logarithm of the hours since publication; −1 where that is unknown."""
TIME = ("time.hour", "time.weekday")
"""Hour of the day and day of the week in UTC."""

FEATURES = (*of_recipes.FEATURES, *RECIPE, *READINGS, *LEVELS, *CONTENT, *RISES, *TASTES, *RANKS, *AGE, *TIME)
"""Features that every ranker reads."""
OF_SOURCE = ("share", "log", "rank")
"""Features of each source that version 1 has none of, such as a model: share of the best candidate's score, its logarithm, its place."""
SHOWN = ("shown.count", "shown.age")
"""Version 3: logarithms of how often the item was shown to the user since the user last chose it, and of the hours since it last was; 0 and
−1 for never, and where nobody counts."""
DEVICE = ("device",)
"""Version 4: the place of the list's device among those that the ranker was trained with, from 1; 0 for another, and for an unknown one."""
_SOURCES = {
    "cooccurrence": "cooccurrence",
    "wide": "cooccurrence",
    "content": "content",
    "popularity": "trending",
    "new": "new",
    "age": "new",
}


def names_of(sources: Sequence[str], version: int = FEATURE_VERSION) -> tuple[str, ...]:
    """Return the names of all features of a `version`, for a ranker that was trained beside these further `sources`."""
    later = {WITHOUT_SHOWN: (), FEATURE_VERSION: SHOWN, WITH_DEVICES: (*SHOWN, *DEVICE)}[version]
    return (*FEATURES, *(f"{source}.{name}" for source in sources for name in OF_SOURCE), *later)


def sources_of(sources: Sequence[str]) -> tuple[str | None, ...]:
    """Return for each feature the source under which a list shows what it added; None for what belongs to no source."""
    own = tuple(_SOURCES.get(name.partition(".")[0]) for name in FEATURES)
    return (*own, *(source for source in sources for _ in OF_SOURCE), *(None for _ in (*SHOWN, *DEVICE)))
