"""Renders templates. Everything that comes from data is escaped; a page carries no script and no style of its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse

from workers.web.access import Client
from workers.web.dashboard.sign_in import cookie_of
from workers.web.dashboard.texts import LANGUAGES, language_of, text

THEME_COOKIE, LANGUAGE_COOKIE = "recsys_theme", "recsys_language"
THEMES = ("light", "dark")
NAVIGATION: tuple[tuple[str, str, str], ...] = (
    ("overview", "/", "read"),
    ("homepage", "/users", "read"),
    ("why", "/why", "admin"),
    ("catalogue", "/catalogue", "read"),
    ("models", "/models", "read"),
    ("letters", "/dead-letters", "admin"),
    ("system", "/system", "admin"),
)
"""Name of a page, its path, and the scope that it needs."""


class Pages:
    """The templates of this package."""

    def __init__(self, *, needs_key: bool) -> None:
        self._needs_key = needs_key
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("workers.web.dashboard"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
        )
        self._environment.filters |= {"in_path": in_path, "utc": utc, "count": count, "share": share}
        self._environment.globals |= {"languages": LANGUAGES, "themes": THEMES}

    def render(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a page."""
        return HTMLResponse(self.rendered(request, template, **values), status, headers={"cache-control": "no-store"})

    def rendered(self, request: Request, template: str, **values: Any) -> str:
        """Return a page or a part of one as text."""
        client: Client | None = request.scope["state"].get("client")
        language = page_language(request)
        theme = cookie_of(dict(request.scope["headers"]), THEME_COOKIE)
        made: str = self._environment.get_template(template).render(
            t=partial(text, language=language),
            language=language,
            theme=theme if theme in THEMES else "",
            client=client,
            may_write=client is not None and client.may("write"),
            may_admin=client is not None and client.may("admin"),
            navigation=[(name, path) for name, path, scope in NAVIGATION if client is not None and client.may(scope)],  # type: ignore[arg-type]
            can_sign_out=self._needs_key and client is not None,
            **values,
        )
        return made


def page_language(request: Request) -> str:
    """Return the language that the browser chose, by the switch or by what it accepts."""
    headers: Mapping[bytes, bytes] = dict(request.scope["headers"])
    return language_of(cookie_of(headers, LANGUAGE_COOKIE), request.headers.get("accept-language", ""))


def in_path(identity: str) -> str:
    """Return an id as a segment of a path."""
    return quote(identity, safe="")


def utc(ts_ms: float) -> str:
    """Return a time as people read it."""
    return dt.datetime.fromtimestamp(ts_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def count(number: float) -> str:
    """Return a number with thin spaces between thousands."""
    return f"{number:,.0f}".replace(",", "\u202f")


def share(number: float) -> str:
    """Return a share in percent."""
    return f"{number * 100:.1f}\u202f%"
