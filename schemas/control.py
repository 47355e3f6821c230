"""Changes that operators make while workers run: the topic `recsys.control`, keyed by what a record controls."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from schemas import limits
from schemas.fields import NULL_IS_NOT_GIVEN, Label, Name, Number, SchemaVersion, TimestampMs, Wire

RULES_KEY = b"rules"
"""Kafka key of the set of rules."""


class PublishedRule(Wire):
    """One rule of lists. Unlike elsewhere a field with an unknown name is refused: without it the rule would do something else."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    """a name, 1 to 64 characters without control characters; lists say by it which rule moved an item"""
    when: Annotated[str, Field(strict=True, min_length=1, max_length=limits.RULE_MAX_CHARS)]
    """the condition, in the language of docs/rules.md, at most 8,192 characters"""
    action: Literal["allow", "deny", "boost", "bury", "pin"]
    """one of allow, deny, boost, bury and pin"""
    amount: Number = 1.0
    """what boost adds to the score, and bury takes from it: a number"""
    places: Annotated[tuple[Annotated[int, Field(strict=True, ge=1)], ...], Field(max_length=limits.MAX_RULE_PLACES)] = ()
    """the places that pin fills, whole numbers from 1, at most 20"""
    placements: Annotated[tuple[Name, ...], Field(max_length=limits.MAX_RULE_PLACES)] = ()
    """the kinds of lists that the rule is for, at most 20; all if there are none"""


class PublishedRules(Wire):
    """A set of rules that all workers follow, besides those of their settings. The Kafka key is `rules`. It replaces the set before."""

    schema_version: Annotated[SchemaVersion, NULL_IS_NOT_GIVEN] = 1
    """version 1 of this schema"""
    kind: Annotated[Literal["rules"], NULL_IS_NOT_GIVEN] = "rules"
    """`rules`, equal to the Kafka key"""
    version: Annotated[int, Field(strict=True, ge=1, le=limits.MAX_SAFE_INTEGER)]
    """the number of this set, a whole number from 1; each new set has a higher one"""
    published_ts_ms: TimestampMs
    """when it was published, Unix time in whole milliseconds"""
    published_by: Annotated[Label, NULL_IS_NOT_GIVEN] = ""
    """who published it, text of at most 256 characters"""
    note: Annotated[str, Field(strict=True, max_length=limits.REASON_MAX_CHARS), NULL_IS_NOT_GIVEN] = ""
    """why, text of at most 1,024 characters"""
    rules: Annotated[tuple[PublishedRule, ...], Field(max_length=limits.MAX_PUBLISHED_RULES)]
    """the rules, at most 50, in the order in which they count"""
