"""Routes that answer with lists of users and sessions, and with explanations."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response

from schemas.limits import MAX_CONTEXT_ENTRIES, MAX_LIST_ITEMS
from workers.web.access import check_scope
from workers.web.answers import ListAnswer, RowAnswer
from workers.web.bodies import read_json
from workers.web.list_request import MOST_EXCLUDED, SessionRequest, checked_category, checked_context, parsed_session
from workers.web.on_request import ListRequest
from workers.web.parts import Parts, checked_id, checked_id_bytes
from workers.web.post_routes import BODY_REFUSALS, inlined
from workers.web.requests import REFUSALS, allowed, tagged

ON_REQUEST = ("limit", "category", "exclude", "rules", "context")
"""Parameters with which a list is made on request."""
_ABOUT: dict[str, Any] = {"responses": REFUSALS, "tags": ["lists"]}
Limit = Annotated[int | None, Query(ge=1, le=MAX_LIST_ITEMS, description="places of the list; `lists.size` where it is left out")]
Category = Annotated[str | None, Query(description="list items of this category only")]
Exclude = Annotated[list[str] | None, Query(max_length=MOST_EXCLUDED, description="ids of items to leave out; may be given more than once")]
Rules = Annotated[bool | None, Query(description="false: without the rules; needs the scope admin")]
Situation = Annotated[
    list[str] | None,
    Query(
        max_length=MAX_CONTEXT_ENTRIES,
        description="where and when the list is read, as `name:value`, for example `hour:20`; may be given more than once. "
        "`hour` (0 to 23, UTC), `weekday` (0 to 6, Monday is 0) and `device` count in a learned ranker, all of it in plugins",
    ),
]


def add_lists(app: FastAPI, parts: Parts) -> None:
    """Add the routes for users."""

    @app.get("/v1/users/{user_id}/lists", response_model=ListAnswer, **_ABOUT)
    async def user_list(
        request: Request,
        user_id: str,
        limit: Limit = None,
        category: Category = None,
        exclude: Exclude = None,
        rules: Rules = None,
        context: Situation = None,
    ) -> Response:
        """Return the newest list of a user, and the rows of their page. With a parameter a list is made on request, without rows."""
        client = allowed(request, "read", *ON_REQUEST)
        user = checked_id("user_id", user_id)
        if all(given is None for given in (limit, category, exclude, rules, context)):
            return await tagged(request, parts.published.page(user))
        if rules is False:
            check_scope(client, "admin")
        wanted = ListRequest(
            user,
            parts.settings.lists.size if limit is None else limit,
            None if category is None else checked_category(category),
            frozenset(checked_id_bytes("exclude", one.encode(errors="surrogatepass")) for one in exclude or ()),
            rules is not False,
            context=checked_context(context or ()),
        )
        return await tagged(request, parts.lists.make(wanted))

    @app.get("/v1/users/{user_id}/lists/{row}", response_model=RowAnswer, **_ABOUT)
    async def user_row(request: Request, user_id: str, row: str) -> Response:
        """Return one row of a user's page, by its name."""
        allowed(request, "read")
        return await tagged(request, parts.published.row(checked_id("user_id", user_id), checked_id("row", row)))


def add_sessions(app: FastAPI, parts: Parts) -> None:
    """Add the route for visitors without an id."""
    content = {"application/json": {"schema": inlined(SessionRequest.model_json_schema())}}
    about = {**_ABOUT, "responses": REFUSALS | BODY_REFUSALS, "openapi_extra": {"requestBody": {"required": True, "content": content}}}

    @app.post("/v1/sessions/lists", response_model=ListAnswer, **about)
    async def session_list(request: Request) -> Response:
        """Return a list for an anonymous visitor, from what the body says. Nothing is stored."""
        allowed(request, "read")
        asked = parsed_session(await read_json(request))
        session = asked.session()
        wanted = ListRequest(
            None,
            parts.settings.lists.size if asked.limit is None else asked.limit,
            asked.category,
            frozenset(asked.exclude) | {one.item_id for one in session},
            session=session,
            preferred=asked.preferred_categories,
            context=asked.context,
        )
        return await tagged(request, parts.lists.make(wanted))


def add_explanations(app: FastAPI, parts: Parts) -> None:
    """Add the routes that say why."""

    @app.get("/v1/explain/{user_id}", responses=REFUSALS, tags=["explanations"])
    async def explain(request: Request, user_id: str, language: str = "en") -> Response:
        """Return the list that a worker would publish now, with a sentence for each place. It shows what a user did."""
        allowed(request, "admin", "language")
        return await tagged(request, parts.explainer.explain(checked_id("user_id", user_id), None, language))

    @app.get("/v1/explain/{user_id}/{item_id}", responses=REFUSALS, tags=["explanations"])
    async def explain_item(request: Request, user_id: str, item_id: str, language: str = "en") -> Response:
        """Return why an item is on a user's list or not: sources, features, filters and stages."""
        allowed(request, "admin", "language")
        item = checked_id("item_id", item_id)
        return await tagged(request, parts.explainer.explain(checked_id("user_id", user_id), item, language))
