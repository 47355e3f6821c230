"""Settings of lists."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from workers.policy_settings import CalibrationSettings, CapSettings, DiversitySettings, FreshnessSettings, Strength
from workers.reason_templates import Templates
from workers.row_settings import PageRows
from workers.rule_settings import Rules
from workers.section import Positive, Section
from workers.shown_settings import FrequencyCapSettings, StabilitySettings


class ListSettings(Section):
    size: Annotated[int, Field(gt=0, le=200)] = 20
    """Items on a list."""
    recent_items: Annotated[int, Field(gt=0, le=100)] = 10
    """How many of a user's newest interactions co-occurrence and content read."""
    weights: dict[str, float] = {
        "cooccurrence": 1.0, "content": 1.4, "ials": 0.2, "sasrec": 0.3, "ease": 0.2, "slim": 0.2, "segments": 1.0,
        "knn": 0.2, "bpr": 0.2, "biased_mf": 0.2, "isgd": 0.2, "item2vec": 0.2, "lightgcn": 0.2, "two_tower": 0.2,
        "comirec": 0.2, "neumf": 0.2, "trending": 0.02, "new": 0.02, "again": 0.02
    }  # fmt: skip
    """Weight of each source; a model's source has the name of its kind. The recipe weighs `cooccurrence`, `content`, `trending` and `new`,
    `again` once it has learnt from repeats, and models once it has learnt from events that they had not seen: here they are only on (above
    0) or off (0) then."""
    exploration_slots: Annotated[int, Field(ge=0, le=20)] = 0
    """Positions at the end of a list that are drawn at random from the next best items, with their propensity."""
    spare: Annotated[int, Field(ge=0, le=1_000)] = 100
    """Candidates behind a list's last place from which freshness, calibration, diversity and caps choose."""
    freshness: FreshnessSettings = FreshnessSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    diversity: DiversitySettings = DiversitySettings()
    caps: Annotated[tuple[CapSettings, ...], Field(max_length=16)] = ()
    """Bounds of how many items with the same value the first places show: a list of maps with `by`, which is `category` or an attribute
    such as `attribute.brand`, `most`, and `first` (10 unless given)."""
    most_of_category: Annotated[int, Field(ge=1, le=10)] = 9
    """Largest number of the first ten places whose items have the same first category, where the user's candidates have another. 10: one
    category may take them all."""
    profile_refresh_s: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    """Seconds after which a worker reads the profile of a user whom it lists again, where the model `segments` serves or a
    rule names an attribute of profiles. A change reaches the user's lists within this time; at once, if the same worker reads it from the
    users topic."""
    rows: PageRows = ()
    """Rows of a page beside the list, in order: a list of maps with `kind`, `size` (10), `least` (3 items, without which the row is left
    out), `name`, `title` and `category`; [homepage.md](homepage.md) describes them. A record with rows has schema version 2."""
    frequency_cap: FrequencyCapSettings = FrequencyCapSettings()
    stability: StabilitySettings = StabilitySettings()
    new_days: Annotated[float, Field(gt=0)] = 30.0
    """The source `new` prefers items published within this many days."""
    variant: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")] = "default"
    """Name of this configuration; each list carries it."""
    seed: int = 0
    """Seed of the random draws of exploration."""
    shared_every_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds after which lists that belong to no user are made again. There is one for everybody, under the key `lists.shared_prefix` +
    `default` of the recommendations topic: what visitors get of whom nothing is known. A list is made at once when an item on it can no
    longer be listed. 0: there are no such lists."""
    shared_prefix: Annotated[str, Field(pattern=r"^[!-~]{1,32}$")] = "recsys:"
    """Keys that begin so belong to lists of no user. While there are such lists, events and profiles of users with such an id are dead
    letters."""
    shared_categories: Literal["all"] | tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = ()
    """Categories that have a list of their own, under the key `lists.shared_prefix` + `category:` and the name: their names, or `all` for
    the `lists.shared_most` categories of most items. It needs `lists.shared_every_s`."""
    shared_most: Annotated[int, Field(gt=0, le=1_000)] = 100
    """Largest number of categories that have a list with `all`."""
    shared_segments: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    """Attributes of profiles whose segments have a list of their own, such as `gender`, or `preferred` for preferred categories, under the
    key `lists.shared_prefix` + `segment:`, the attribute, `=` and the value, or `low..high` of a numeric one. The segments are those of the
    serving model `segments`; without one there are no such lists. It needs `lists.shared_every_s`."""
    shared_freshness: Annotated[float, Field(ge=0, le=20)] = 0.7
    """`lists.freshness.weight` of lists that belong to no user, where that is 0."""
    shared_diversity: Strength = 0.15
    """`lists.diversity.strength` of lists that belong to no user, of the kind `dpp`, where `lists.diversity.kind` is off."""
    renewed_users: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """How many users' newest lists a worker remembers, to make them again when an item on them is no longer available, expires or is
    removed: those listed last, 4 bytes a place. It reads lists of before its start from the recommendations topic, and needs the right to.
    0: lists are made again with the user's next event only."""
    reasons: bool = True
    """Say of each listed item what carried it (`reason` in the record): own items, people alike, a habit, the profile, its age, or what
    many choose now. Items, order and scores are the same without."""
    reason_templates: Templates = {}
    """Sentences for reasons, language ▸ kind ▸ template, beside those built in (en, de, zh), which they replace:
    {"fr": {"new_in": "Nouveau en {category}"}}. Placeholders are {item}, {items} and {category}. Of several templates of a kind the first
    counts that can be filled."""
    renewed_profiles: bool = False
    """Whether a user with a history gets another list when their profile changes in something that the model `segments` or a rule reads,
    as soon as the events that have come are applied. Off: with the user's next event only. Users without a history get a list with every
    profile."""
    exact_items: Positive = 16_000
    """Up to this many items, every item is scored for every list. Above it, only the candidates of each source are scored (ADR 6)."""
    rules_topic: bool = False
    """Follow the rules that `recsys rules publish` writes to the topic `topics.control`, besides those in `lists.rules`, which come first.
    Set the same value for all workers."""
    rules: Rules = ()
    """Rules that allow, deny, boost, bury or pin items, such as {"name": "no spirits", "when": "'spirits' in item.categories", "action":
    "deny"}; [rules.md](rules.md) describes them. In the TOML file each is a table `[[lists.rules]]`."""

    @model_validator(mode="after")
    def _shared_lists_are_made(self) -> ListSettings:
        for name in ("shared_categories", "shared_segments"):
            if getattr(self, name) and not self.shared_every_s:
                raise ValueError(f"{name} is set and shared_every_s is 0: set shared_every_s to seconds, such as 60, or remove {name}")
        return self
