"""`recsys users erase`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.arguments import checked_id, refuse_ids_of_no_user
from workers.cli.console import CommandFailed, JsonOption, print_json, settings, tell, tell_rows, warn
from workers.errors import SettingsError

if TYPE_CHECKING:
    from workers.operations.erasure import Held, Remains


def _checked_ids(values: list[str]) -> list[str]:
    return [found for value in values if (found := checked_id(value)) is not None]


def erase(
    user_ids: Annotated[list[str], typer.Argument(metavar="USER...", callback=_checked_ids)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is stored and what would stay; erase nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait_s: Annotated[float, typer.Option("--wait", help="Seconds that workers may take to confirm.", min=0)] = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Erase users: profile, history, counts of what was shown, list; and the ids that were merged into them. It cannot be undone.

    Says what stays where, and until when. What a user does afterwards starts a new history. Exit code 0: the workers have erased all of
    them; 1: the records are published, and not all of it is confirmed yet.
    """
    from workers.operations import erasure

    is_asked = not (yes or dry_run)
    if is_asked and (as_json or not sys.stdin.isatty()):
        raise SettingsError("users erase: there is nobody to ask: pass --yes to erase, or --dry-run to look")
    chosen = settings()
    refuse_ids_of_no_user(user_ids, chosen)
    users = asyncio.run(erasure.look(chosen, user_ids))
    stays = erasure.remains(chosen)
    if not as_json:
        _show(users, stays)
    if is_asked and not typer.confirm(f"Erase {len(users):,} users for good?"):
        tell("nobody was erased")
        return
    left = [] if dry_run else asyncio.run(erasure.erase(chosen, users, wait_s, warn))
    if as_json:
        found = {"users": [user.figures() for user in users], "remains": [place.figures() for place in stays]}
        print_json({**found, "dry_run": dry_run, "erased": not dry_run and not left, "unconfirmed": left})
    elif dry_run:
        tell(f"a dry run: {len(users):,} users would be erased")
    elif not left:
        tell(f"{len(users):,} users are erased from the state, and their lists are removed")
    if left:
        warn(f"not confirmed within {wait_s:g} s: {', '.join(left)}; is a worker running? It erases them when it reads the records")
        raise CommandFailed


def _show(users: list[Held], stays: list[Remains]) -> None:
    rows = [
        (
            user.user_id,
            f"{user.n_items:,}",
            f"{user.n_older_items:,}",
            f"{user.n_shown:,}",
            "yes" if user.has_profile else "no",
            f"went on as {user.because_of}" if user.because_of else f"goes on as {user.merged_into}" if user.merged_into else "",
        )
        for user in users
    ]
    tell_rows(("user", "items", "older items", "shown", "profile", "merged"), rows, title="stored")
    for user in users:
        if user.merged_into and not user.because_of:
            warn(f"{user.user_id} goes on as {user.merged_into}, which is not erased: name it too if it is the same person")
    places = [(place.where, place.what, place.until) for place in stays]
    tell_rows(("where", "what stays", "until"), places, folding=("what stays", "until"))
