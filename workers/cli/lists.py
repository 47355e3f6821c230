"""`recsys lists get | tail`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.arguments import UserId, checked_id
from workers.cli.console import CommandFailed, JsonOption, print_json, settings, tell, tell_rows, utc, warn
from workers.errors import SettingsError, WorkerError

if TYPE_CHECKING:
    from schemas import Recommendations
    from workers.settings import Settings

app = typer.Typer(help="Read the lists that were published.", no_args_is_help=True)


@app.command("get")
def get(
    user_id: UserId,
    language: Annotated[
        str | None, typer.Option("--language", help="Say why each item is listed, in this language: en, de, zh, or one of the settings.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The newest list of a user, with titles, scores, sources and reasons, and the rows of their page. Exit code 1 if there is none."""
    from workers.lists.reader import newest_list
    from workers.lists.shared_keys import default_key

    chosen = settings()
    check_language(chosen, language)
    found = newest_list(chosen, user_id)
    if found is None:
        everybody = f"; the list for everybody: recsys lists get {default_key(chosen)}" if chosen.lists.shared_every_s else ""
        warn(f"no list for this user: publish an event of theirs while a stream worker runs{everybody}")
        raise CommandFailed
    if as_json and language is None:
        print_json(found.model_dump(mode="json"))
        return
    on_rows = [item_id for row in found.rows for item_id in (row.item_id, *(item.item_id for item in row.items)) if item_id is not None]
    on_list = [item_id for item in found.items for item_id in (item.item_id, *item.because)]
    titles = _titles(chosen, list(dict.fromkeys([*on_list, *on_rows])))
    sentences = [] if language is None else _sentences(chosen, found, titles, language)
    if as_json:
        print_json(found.model_dump(mode="json") | {"sentences": sentences})
        return
    tell(
        f"list {found.list_id} · {utc(found.generated_ts_ms)} · models {found.model_version} · variant {found.variant} · "
        f"up to offset {found.trigger.source_offset} of partition {found.trigger.partition}"
    )
    rows: list[tuple[str | list[str], ...]] = []
    has_rules = any(item.rules for item in found.items)
    for at, item in enumerate(found.items):
        sources = " ".join(f"{name}={part:.3f}" for name, part in sorted(item.sources.items(), key=lambda s: -s[1]))
        cells = (str(item.rank), item.item_id, titles.get(item.item_id, ""), f"{item.score:.4f}", sources, list(item.because))
        rows.append((*cells, *([list(item.rules)] if has_rules else []), *sentences[at : at + 1]))
    more = (*(("rules",) if has_rules else ()), *(("why",) if sentences else ()))
    tell_rows(("#", "item", "title", "score", "sources", "because", *more), rows, folding=("title", "sources", "why"))
    if sentences and not any(item.reason for item in found.items):
        warn("this list gives no reasons: with RECSYS_LISTS__REASONS=true the next one does")
    for row in found.rows:
        of = titles.get(row.item_id, "") or row.item_id if row.item_id is not None else row.category
        shown = [(str(at), item.item_id, titles.get(item.item_id, ""), f"{item.score:.4f}") for at, item in enumerate(row.items, 1)]
        named = f"{row.title} ({row.kind}{'' if of is None else f': {of}'})"
        tell_rows(("#", "item", "title", "score"), shown, folding=("title",), title=named)


def check_language(chosen: Settings, language: str | None) -> None:
    """Raise SettingsError for a language that has no sentences."""
    from workers.reason_templates import templates_of

    try:
        if language is not None:
            templates_of(language, chosen.lists.reason_templates)
    except ValueError as error:
        raise SettingsError(f"--language: {error}") from None


def _sentences(chosen: Settings, found: Recommendations, titles: dict[str, str], language: str) -> list[str]:
    from workers.client.reasons import reason_sentences

    return reason_sentences(found, titles, language, chosen.lists.reason_templates)


def _titles(chosen: Any, item_ids: list[str]) -> dict[str, str]:
    """Read the titles that are stored now; the list itself needs no Redis, so without one it is shown without titles."""
    from workers.operations.lookup import titles_of

    try:
        return asyncio.run(titles_of(chosen, item_ids))
    except WorkerError as error:
        warn(f"no titles: {error}")
        return {}


@app.command("tail")
def tail(
    user_id: Annotated[str | None, typer.Option("--user", help="Only this user.", callback=checked_id)] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Start with the oldest list still there.")] = False,
    count: Annotated[int | None, typer.Option("-n", "--count", help="End after this many.", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """Show lists as they are published, one a line, until Ctrl-C."""
    from workers.lists.reader import follow_lists

    n = 0
    for user, made in follow_lists(settings(), from_start=from_start):
        if user_id is not None and user != user_id:
            continue
        n += 1
        if as_json:
            print_json({"user_id": user, "removed": True} if made is None else made.model_dump(mode="json"))
        else:
            tell(_line(user, made))
        if n == count:
            return


def _line(user: str, made: Any) -> str:
    if made is None:
        return f"{user}: removed"
    more = " …" if len(made.items) > 10 else ""
    return f"{utc(made.generated_ts_ms)} {user}: {' '.join(item.item_id for item in made.items[:10])}{more}"
