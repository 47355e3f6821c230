"""Models of the gateway's answers, for its OpenAPI description. Answers themselves are written as bytes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from schemas.lists import Recommendations, Row


class Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Failure(Answer):
    """Why a request was refused or could not be answered."""

    error: str
    """what is wrong, and what to do"""
    field: str | None = None
    """the field or parameter that it is about"""
    request_id: str
    """the id of the request, also in the header `X-Request-Id`"""


class ListAnswer(Recommendations):
    """A list as its record on the recommendations topic, without the items that may not be listed now."""

    is_default: bool
    """true where nothing is known of the user: the list for everybody, whose key `user_id` then is, or one made as for a stranger"""
    on_request: bool
    """true for a list that was made for this request, and not published"""


class RowAnswer(Answer):
    """One row of a page."""

    is_default: bool
    """true for the list for everybody, which a user without a list gets"""
    user_id: str
    """the user's id, or the key of the list for everybody"""
    list_id: str
    """the id that events on this list carry back"""
    generated_ts_ms: int
    """when the list was made, Unix time in whole milliseconds"""
    row: Row
    """the row, without the items that may not be listed now"""


class Refused(Answer):
    """One record of a batch that was not taken."""

    at: int
    """its position in the batch, from 0"""
    field: str
    """the field that it is about"""
    error: str
    """what is wrong, and what to do"""


class RecordsTaken(Answer):
    """Records that the broker has acknowledged, and those that were refused."""

    accepted: int
    """records that the broker has acknowledged"""
    refused: list[Refused]
    """records of the batch that were not taken"""


class EventsTaken(RecordsTaken):
    """Events that the broker has acknowledged, and those that were refused."""

    event_ids: list[str]
    """ids of the events that were sent, in their order; those that the client gave, or new ones"""


class Liveness(Answer):
    live: bool
    """true while the process answers"""
    reasons: list[str]
    """why it is not alive"""


class Readiness(Answer):
    ready: bool
    """true if lists can be answered now"""
    reasons: list[str]
    """why not; a gateway that is not ready recovers by itself"""
