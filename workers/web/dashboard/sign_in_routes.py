"""Signing in with a key of `gateway.keys`, and the switches of language and theme."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response

from workers.web.dashboard.pages import LANGUAGE_COOKIE, THEME_COOKIE, THEMES
from workers.web.dashboard.parts import DashboardParts
from workers.web.dashboard.requests import body_of
from workers.web.dashboard.sign_in import COOKIE, LASTS_S, check_same_origin
from workers.web.dashboard.texts import LANGUAGES
from workers.web.problems import Problem

YEAR_S = 365 * 86_400


def add_sign_in(app: FastAPI, parts: DashboardParts) -> None:
    """Add the routes."""

    @app.get("/sign-in")
    async def form(request: Request) -> Response:
        return parts.pages.render(request, "sign_in.html", here="", next=own_path(request.query_params.get("next", "/")), refused="")

    @app.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        check_same_origin(request.headers)
        fields = await _form(request)
        following = own_path(fields.get("next", "/"))
        try:
            cookie = parts.clients.sign_in(fields.get("key", ""))
        except Problem as problem:
            return parts.pages.render(request, "sign_in.html", status=problem.status, here="", next=following, refused=problem.message)
        answer = _went_on(following)
        answer.set_cookie(COOKIE, cookie, max_age=LASTS_S, path="/", httponly=True, samesite="strict")
        return answer

    @app.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        check_same_origin(request.headers)
        parts.clients.sign_out(dict(request.scope["headers"]))
        answer = _went_on("/sign-in")
        answer.delete_cookie(COOKIE, path="/")
        return answer

    @app.post("/appearance")
    async def appearance(request: Request) -> Response:
        check_same_origin(request.headers)
        fields = await _form(request)
        answer = _went_on(own_path(fields.get("next", "/")))
        for name, cookie, known in (("language", LANGUAGE_COOKIE, tuple(LANGUAGES)), ("theme", THEME_COOKIE, THEMES)):
            if (value := fields.get(name)) in known:
                answer.set_cookie(cookie, value, max_age=YEAR_S, path="/", httponly=True, samesite="lax")
        return answer


def own_path(path: str) -> str:
    """Return a path of this server to go on to: never another server's address."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and path.isascii()
    return path if is_own else "/"


async def _form(request: Request) -> dict[str, str]:
    fields = parse_qs((await body_of(request)).decode("utf-8", "replace"), max_num_fields=16)
    return {name: values[0] for name, values in fields.items()}


def _went_on(path: str) -> Response:
    return Response(status_code=303, headers={"location": path, "cache-control": "no-store"})
