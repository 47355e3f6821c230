"""Answers published lists without the web framework: of 600 µs for such a request its routing and parameters took 400."""

from __future__ import annotations

import re
from collections.abc import Awaitable

from workers.web.access import check_scope
from workers.web.guard import Headers, Scope
from workers.web.parts import checked_id
from workers.web.published import PublishedLists
from workers.web.requests import is_held, tag_headers

_PATH = re.compile(r"/v1/users/([^/]+)/lists")


class PublishedShortcut:
    """Answers `GET /v1/users/{user_id}/lists` without parameters, as the route of that path does."""

    path = "/v1/users/{user_id}/lists"

    def __init__(self, published: PublishedLists) -> None:
        self._published = published

    def __call__(self, scope: Scope, headers: dict[bytes, bytes]) -> Awaitable[tuple[int, Headers, bytes]] | None:
        """Return the answer to such a request, None to another one."""
        if scope["method"] != "GET" or scope["query_string"] or b"origin" in headers:
            return None
        found = _PATH.fullmatch(scope["path"])
        return None if found is None else self._answer(scope, headers, found[1])

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes], user_id: str) -> tuple[int, Headers, bytes]:
        check_scope(scope["state"]["client"], "read")
        body = await self._published.page(checked_id("user_id", user_id))
        sent = [(name.encode(), text.encode()) for name, text in tag_headers(body).items()]
        if is_held(body, headers.get(b"if-none-match", b"").decode("latin-1")):
            return 304, sent, b""
        return 200, [(b"content-type", b"application/json"), *sent], body.content
