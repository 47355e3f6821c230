"""`recsys lists get | tail`."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import typer

from workers.cli.console import CommandFailed, JsonOption, err, out, print_json, settings, table

app = typer.Typer(help="Read the lists that were published.", no_args_is_help=True)


def _when(ts_ms: int) -> str:
    return dt.datetime.fromtimestamp(ts_ms / 1000, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@app.command("get")
def get(user_id: Annotated[str, typer.Argument(metavar="USER")], as_json: JsonOption = False) -> None:
    """The newest list of a user, with scores, sources and reasons. Exit code 1 if there is none."""
    from workers.list_reader import newest_list

    found = newest_list(settings(), user_id)
    if found is None:
        err.print("no list for this user: publish an event of theirs while a stream worker runs", markup=False, soft_wrap=True)
        raise CommandFailed
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    shown = table("#", "item", "score", "sources", "because")
    for item in found.items:
        sources = " ".join(f"{name}={part:.3f}" for name, part in sorted(item.sources.items(), key=lambda s: -s[1]))
        shown.add_row(str(item.rank), item.item_id, f"{item.score:.4f}", sources, " ".join(item.because))
    out.print(
        f"list {found.list_id} · {_when(found.generated_ts_ms)} · models {found.model_version} · variant {found.variant} · "
        f"up to offset {found.trigger.source_offset} of partition {found.trigger.partition}",
        markup=False,
    )
    out.print(shown)


@app.command("tail")
def tail(
    user_id: Annotated[str | None, typer.Option("--user", help="Only this user.")] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Start with the oldest list still there.")] = False,
    count: Annotated[int | None, typer.Option("-n", "--count", help="End after this many.", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """Show lists as they are published, one a line, until Ctrl-C."""
    from workers.list_reader import follow_lists

    n = 0
    for user, made in follow_lists(settings(), from_start=from_start):
        if user_id is not None and user != user_id:
            continue
        n += 1
        if as_json:
            print_json({"user_id": user, "removed": True} if made is None else made.model_dump(mode="json"))
        else:
            out.print(_line(user, made), markup=False, soft_wrap=True)
        if n == count:
            return


def _line(user: str, made: Any) -> str:
    if made is None:
        return f"{user}: removed"
    more = " …" if len(made.items) > 10 else ""
    return f"{_when(made.generated_ts_ms)} {user}: {' '.join(item.item_id for item in made.items[:10])}{more}"
