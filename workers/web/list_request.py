"""One request for a list, and the users' state that it is made from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from schemas.events import EventType
from schemas.fields import Id, Label, Name, Scalar, TimestampMs
from schemas.limits import MAX_CATEGORIES, MAX_CONTEXT_ENTRIES, MAX_LIST_ITEMS
from workers.web.problems import Problem

MOST_EXCLUDED = 500
MOST_SESSION_ITEMS = 100
MOMENTS = {"hour": 23, "weekday": 6}
"""What of a context the learned ranker reads, and the greatest value of each."""


def _with_moment(context: dict[str, Any]) -> dict[str, Any]:
    for name, most in MOMENTS.items():
        given = context.get(name, 0)
        if type(given) is not int or not 0 <= given <= most:
            raise PydanticCustomError("moment", "{name} should be a whole number from 0 to {most}", {"name": name, "most": most})
    return context


Context = Annotated[dict[Name, Scalar], Field(max_length=MAX_CONTEXT_ENTRIES), AfterValidator(_with_moment)]
"""Where and when a list is read, as in events."""
_CONTEXT = TypeAdapter[dict[str, Any]](Context)


class Wish(NamedTuple):
    """Lists of one group: made in one call of the engine. None: the whole catalogue."""

    size: int
    category: str | None
    with_rules: bool


class SessionItem(BaseModel):
    """One item of an anonymous session."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    item_id: Id
    """the item's id"""
    type: EventType = EventType.VIEW
    """the type of the event, as in events"""
    value: Annotated[float | None, Field(allow_inf_nan=False)] = None
    """the rating, where the type is rating"""
    event_ts_ms: TimestampMs | None = None
    """when it happened, Unix time in whole milliseconds; now, one second after the other, where it is left out"""

    @model_validator(mode="after")
    def _rating_has_a_value(self) -> SessionItem:
        if self.type is EventType.RATING and self.value is None:
            raise PydanticCustomError("rating", "a rating needs a value")
        return self


def _kind_of(given: Any) -> str:
    return "id" if isinstance(given, str) else "item"


class SessionRequest(BaseModel):
    """An anonymous visitor's session, and which list is wanted. Nothing of it is stored."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    items: Annotated[
        list[Annotated[Annotated[Id, Tag("id")] | Annotated[SessionItem, Tag("item")], Discriminator(_kind_of)]],
        Field(max_length=MOST_SESSION_ITEMS),
    ] = []
    """what the visitor did, oldest first: ids, or objects with a type; items that nobody has described or touched are passed over"""
    preferred_categories: Annotated[list[Label], Field(max_length=MAX_CATEGORIES)] = []
    """categories that the visitor named; they count where there are no items"""
    limit: Annotated[int | None, Field(strict=True, ge=1, le=MAX_LIST_ITEMS)] = None
    """places of the list; `lists.size` where it is left out"""
    category: Annotated[Label, Field(min_length=1)] | None = None
    """list items of this category only"""
    exclude: Annotated[list[Id], Field(max_length=MOST_EXCLUDED)] = []
    """ids of items to leave out, beside those of the session"""
    context: Context = {}
    """where and when the list is read, as in events: `hour` (0 to 23, UTC), `weekday` (0 to 6, Monday is 0) and `device` count in a learned
    ranker, all of it in plugins"""

    def session(self) -> list[SessionItem]:
        """Return the items of the session as objects."""
        return [SessionItem(item_id=one) if isinstance(one, str) else one for one in self.items]


def parsed_session(body: Any) -> SessionRequest:
    """Return the request in a body. Raises Problem, which names the field."""
    try:
        return SessionRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    named = [part for at, part in enumerate(first["loc"]) if at != 2 or first["loc"][0] != "items"]  # the third is the tag of a union
    field = ".".join(str(part) for part in named) or "body"
    is_item = first["loc"][:1] == ("items",)
    fields = SessionItem.model_fields if is_item else SessionRequest.model_fields
    reasons = {
        "extra_forbidden": f"unknown field; there are {', '.join(fields)}",
        "model_type": "send an id, or a JSON object with item_id" if is_item else "send a JSON object",
    }
    raise Problem(422, f"{field[:200]}: {reasons.get(first['type'], first['msg'])}", field=field[:200])


def checked_context(given: Iterable[str]) -> Mapping[str, Any]:
    """Return the context of a query, `name:value` each; a value that is no number, true or false is text. Raises Problem."""
    context: dict[str, Any] = {}
    for one in given:
        name, colon, value = one.partition(":")
        if not colon or name in context:
            raise Problem(422, "context: give each name once, as name:value, for example context=hour:20", field="context")
        context[name] = _scalar(value)
    try:
        return _CONTEXT.validate_python(context)
    except ValidationError as error:
        raise Problem(422, f"context: {error.errors(include_url=False, include_input=False)[0]['msg']}", field="context") from None


def _scalar(text: str) -> bool | int | float | str:
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, bool | int | float) else text


def checked_category(text: str) -> str:
    """Return a category of a query. Raises Problem."""
    if not 0 < len(text) <= 256:
        raise Problem(422, "category: give 1 to 256 characters", field="category")
    return text


def without(places: Sequence[dict[str, Any]], excluded: frozenset[str], limit: int) -> list[dict[str, Any]]:
    """Return the first places without some items, numbered again."""
    kept = [place for place in places if place["item_id"] not in excluded][:limit]
    return [{**place, "rank": rank} for rank, place in enumerate(kept, 1)]
