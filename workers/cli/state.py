"""`recsys state rebuild`, `verify` and `drop`."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import asdict
from typing import Annotated

import typer

from workers.cli.console import CommandFailed, JsonOption, print_json, settings, tell, warn

app = typer.Typer(help="Rebuild the state from the log, and check it against the log.", no_args_is_help=True)

Users = Annotated[int, typer.Option("--users", help="How many users to compare with the log.", min=0, max=100_000)]


@app.command("rebuild")
def rebuild(
    partial: Annotated[bool, typer.Option("--partial", help="Go on although the log's first events are gone.")] = False,
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Leave the old state in Redis.")] = False,
    wait_s: Annotated[float, typer.Option("--wait", help="Seconds that workers may take over after the switch.", min=0)] = 60.0,
    users: Users = 200,
    as_json: JsonOption = False,
) -> None:
    """Make the state anew from the topics, check it, and switch to it in one step. Workers serve the old one meanwhile.

    Needs memory in Redis for both. Also after a loss: it does not read the old state.
    """
    from workers import rebuild as rebuilding

    # batches make many short-lived lists and no cycles: with the default thresholds, looking for cycles takes half of the time
    gc.set_threshold(200_000, 50, 100)
    made = asyncio.run(rebuilding.rebuild(settings(), partial=partial, keep_old=keep_old, wait_s=wait_s, n_users=users, say=warn))
    if as_json:
        print_json(made.figures())
    else:
        figures = f"{made.n_events:,} events in {made.seconds:.1f} s ({made.events_per_s:,.0f}/s), {made.n_users:,} users"
        tell(f"generation {made.generation} serves: {figures}, {made.n_verified:,} of them compared with the log")


@app.command("verify")
def verify(
    users: Users = 200,
    seed: Annotated[int, typer.Option("--seed", help="Another seed chooses other users.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare users with what the log says of them, and item groups with users; changes nothing. Exit code 1 if something differs.

    Weights, lengths and duplicate window are those of the settings: after a change of them, older entries differ until a rebuild. Users
    are shown as the first 12 hex digits of the SHA-256 of their id.
    """
    from workers import verification

    found = asyncio.run(verification.verify(settings(), n_users=users, seed=seed, say=warn))
    if as_json:
        print_json(asdict(found) | {"seconds": round(found.seconds, 3), "sound": not found.differences})
    else:
        for line in found.differences:
            tell(line)
        partly = ", only their newest entries: the log no longer holds its first events" if found.partial else ""
        verdict = f"{len(found.differences):,} differences: run `recsys state rebuild`" if found.differences else "no difference"
        tell(f"generation {found.generation}: {found.n_users:,} of {found.n_users_stored:,} users compared{partly}; {verdict}")
    if found.differences:
        raise CommandFailed


@app.command("drop")
def drop(
    generation: Annotated[int, typer.Argument(help="A generation that `rebuild --keep-old` or a killed rebuild left.", min=0)],
    as_json: JsonOption = False,
) -> None:
    """Delete a generation that is not served."""
    from workers import rebuild as rebuilding

    n_dropped = asyncio.run(rebuilding.drop(settings(), generation))
    if as_json:
        print_json({"generation": generation, "n_dropped": n_dropped})
    else:
        tell(f"generation {generation}: {n_dropped:,} keys deleted")
