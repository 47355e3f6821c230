"""`recsys logs`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.arguments import checked_texts
from workers.cli.console import print_json, tell
from workers.runtime.text import visible

if TYPE_CHECKING:
    from workers.operations.local_logs import Entry

STYLES = {"warning": "yellow", "error": "red", "critical": "bold red", "debug": "dim"}


def logs(
    worker: Annotated[
        list[str] | None,
        typer.Option("--worker", "-w", help="Only this: stream (all of them), stream-2, trainer; may be repeated.", callback=checked_texts),
    ] = None,
    level: Annotated[str, typer.Option("--level", help="This level and above: debug, info, warning, error.", metavar="LEVEL")] = "info",
    lines: Annotated[int, typer.Option("-n", "--lines", help="At most this many entries, the newest.", min=1, max=100_000)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on, until Ctrl-C.")] = False,
    folder: Annotated[Path | None, typer.Option("--folder", help="Folder of `recsys up` (that which started last, if left out).")] = None,
    compose: Annotated[bool, typer.Option("--compose", help="Logs of `docker compose` in this folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show what the processes of `recsys up` wrote, of all of them in the order of time; or those of `docker compose`.

    Understands plain log lines and JSON lines. A traceback stays with the entry that it belongs to.
    """
    from workers.operations.local_logs import LEVELS, Wanted, compose_entries, log_files, newest, noted_folder
    from workers.operations.local_logs import follow as follow_files

    chosen = level.lower()
    if chosen not in LEVELS:
        raise typer.BadParameter("--level is one of debug, info, warning, error")
    if compose and folder is not None:
        raise typer.BadParameter("--compose and --folder name two stacks: leave one out")
    wanted = Wanted(tuple(worker or ()), chosen)
    if compose:
        _print(compose_entries(wanted, lines, follow), as_json)
        return
    place = noted_folder() if folder is None else folder
    _print(newest(log_files(place), wanted, lines), as_json)
    if follow:
        _print(follow_files(place, wanted), as_json)


def _print(entries: Iterable[Entry], as_json: bool) -> None:
    from rich.text import Text

    for entry in entries:
        fields = entry.fields()
        if as_json:
            print_json(fields)
            continue
        style = STYLES.get(entry.level, "")
        head = " ".join(str(part) for part in (fields["time"], entry.level.upper(), entry.logger) if part)
        tell(Text.assemble((f"{visible(entry.worker):<9} ", "cyan"), (f"{visible(head)} " if head else "", style), visible(entry.message)))
        for line in entry.more:
            tell(Text(f"{'':<10}{visible(line)}", style="dim"))
