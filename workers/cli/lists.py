"""`recsys lists get | tail`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from workers.cli.arguments import UserId, checked_id
from workers.cli.console import CommandFailed, JsonOption, print_json, settings, tell, tell_rows, utc, warn
from workers.errors import WorkerError

app = typer.Typer(help="Read the lists that were published.", no_args_is_help=True)


@app.command("get")
def get(user_id: UserId, as_json: JsonOption = False) -> None:
    """The newest list of a user, with titles, scores, sources and reasons. Exit code 1 if there is none."""
    from workers.lists.reader import newest_list

    chosen = settings()
    found = newest_list(chosen, user_id)
    if found is None:
        warn("no list for this user: publish an event of theirs while a stream worker runs")
        raise CommandFailed
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    titles = _titles(chosen, [item.item_id for item in found.items])
    tell(
        f"list {found.list_id} · {utc(found.generated_ts_ms)} · models {found.model_version} · variant {found.variant} · "
        f"up to offset {found.trigger.source_offset} of partition {found.trigger.partition}"
    )
    rows = []
    for item in found.items:
        sources = " ".join(f"{name}={part:.3f}" for name, part in sorted(item.sources.items(), key=lambda s: -s[1]))
        rows.append((str(item.rank), item.item_id, titles.get(item.item_id, ""), f"{item.score:.4f}", sources, list(item.because)))
    tell_rows(("#", "item", "title", "score", "sources", "because"), rows, folding=("title", "sources"))


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
