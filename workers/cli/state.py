"""`recsys state rebuild`, `verify`, `generations`, `use` and `drop`."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.console import CommandFailed, JsonOption, print_json, reachable_settings, settings, tell, tell_rows, warn

if TYPE_CHECKING:
    from workers.operations.generations import Generation
    from workers.operations.verify import Verification

app = typer.Typer(help="Rebuild the state from the log, and check it against the log.", no_args_is_help=True)

Users = Annotated[int, typer.Option("--users", help="How many users to compare with the log.", min=0, max=100_000)]
Items = Annotated[
    int,
    typer.Option("--items", help="How many items' rows to compare with the log; 0 leaves out popularity too.", min=0, max=100_000),
]


@app.command("rebuild")
def rebuild(
    partial: Annotated[bool, typer.Option("--partial", help="Go on although the log's first events are gone.")] = False,
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Leave the old state in Redis, to go back to (`state use`).")] = False,
    wait_s: Annotated[float, typer.Option("--wait", help="Seconds that workers may take over after the switch.", min=0)] = 60.0,
    users: Users = 200,
    items: Items = 200,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes that fold the log, each some of its partitions.", min=1, max=256)] = 1,
    as_json: JsonOption = False,
) -> None:
    """Rebuild the state from the topics, check it, and switch to it in one step. Workers serve the old one until then.

    Needs memory in Redis for both. Works after a loss too: of the old state it takes over only which items were removed.
    """
    chosen = reachable_settings()
    from workers.operations import rebuild as rebuilding

    # batches make many short-lived lists and no cycles: with the default thresholds, looking for cycles takes half of the time
    gc.set_threshold(200_000, 50, 100)
    made = asyncio.run(
        rebuilding.rebuild(
            chosen, partial=partial, keep_old=keep_old, wait_s=wait_s, n_users=users, n_items=items, n_jobs=jobs, say=warn
        )
    )
    if as_json:
        print_json(made.figures())
    else:
        figures = f"{made.n_events:,} events in {made.seconds:.1f} s ({made.events_per_s:,.0f}/s), {made.n_users:,} users"
        tell(f"generation {made.generation} serves: {figures}, {made.n_verified:,} of them compared with the log")


@app.command("verify")
def verify(
    users: Users = 200,
    items: Items = 200,
    seed: Annotated[int, typer.Option("--seed", help="Another seed chooses other users and items.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare the state with what the topics say; changes nothing. Exit code 1 if something differs.

    Compares chosen users' histories, chosen items' co-occurrence, all popularity that counts, the numbering of items, the catalogue, and
    the watermarks of item groups. Workers may go on. Memory: some 400 bytes for each user of one partition, and the ids of all items.

    Weights, lengths and duplicate window are those of the settings: after a change of them, older entries differ until a rebuild. Users
    are shown as the first 12 hex digits of the SHA-256 of their id.
    """
    chosen = reachable_settings()
    from workers.operations import verify as verification

    found = asyncio.run(verification.verify(chosen, n_users=users, n_items=items, seed=seed, say=warn))
    if as_json:
        print_json(asdict(found) | {"seconds": round(found.seconds, 3), "sound": not found.differences})
    else:
        for line in found.differences:
            tell(line)
        verdict = f"{found.n_differences:,} differences: run `recsys state rebuild`" if found.differences else "no difference"
        tell(f"generation {found.generation}: {_compared(found)}; {verdict}")
    if found.differences:
        raise CommandFailed


def _compared(found: Verification) -> str:
    """Say what was compared with what."""
    parts = [f"{found.n_users:,} of {found.n_users_stored:,} users"]
    if found.n_items or found.n_popularity_buckets:
        parts.append(f"{found.n_item_rows:,} rows of {found.n_items:,} of {found.n_items_numbered:,} items")
        parts.append(f"{found.n_popularity_buckets:,} popularity spans")
    catalogue = f"{found.n_catalogue_items:,} items of the catalogue with their topic"
    text = f"{', '.join(parts)} compared with {found.n_events:,} events, {catalogue}"
    if found.n_merged_ids:
        text += f", {found.n_merged_ids:,} merged ids with theirs"
    if found.partial:
        text += "; the log no longer holds its first events: only users' newest entries were compared, and sums with the least they can be"
    return text


@app.command("generations")
def generations(as_json: JsonOption = False) -> None:
    """List the generations of the state in Redis: which one serves, and which could serve instead.

    Looks at the names of all keys in Redis. Events to apply are those that workers would read again after a switch.
    """
    chosen = reachable_settings()
    from workers.operations import generations as kept

    found = asyncio.run(kept.generations(chosen))
    if as_json:
        print_json([one.figures() for one in found])
        return
    rows = [(str(one.generation), "serves" if one.serves else "kept", _to_apply(one), one.problem) for one in found]
    tell_rows(("generation", "", "events to apply", "why it cannot serve"), rows, folding=("why it cannot serve",))


def _to_apply(one: Generation) -> str:
    return "–" if one.n_behind is None else f"{one.n_behind:,}"


@app.command("use")
def use(
    generation: Annotated[int, typer.Argument(help="A generation that `rebuild --keep-old` left.", min=0)],
    wait_s: Annotated[float, typer.Option("--wait", help="Seconds that workers may take over after the switch.", min=0)] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Let a kept generation of the state serve again; the one that serves now is kept.

    Workers read on from where the kept one stopped, so each event counts once in it. Lists that they make until they have caught up know
    less than those before. Refused where the topics no longer hold everything since then, and where the kept state has another layout.
    """
    chosen = reachable_settings()
    from workers.operations import generations as kept

    done = asyncio.run(kept.use(chosen, generation, wait_s=wait_s, say=warn))
    if as_json:
        print_json(done.figures())
    else:
        tell(f"generation {done.generation} serves instead of {done.before}: {done.n_behind:,} events were left to apply")


@app.command("drop")
def drop(
    generation: Annotated[int, typer.Argument(help="A generation that `rebuild --keep-old` or a killed rebuild left.", min=0)],
    as_json: JsonOption = False,
) -> None:
    """Delete a generation that is not served."""
    from workers.operations import rebuild as rebuilding

    n_dropped = asyncio.run(rebuilding.drop(settings(), generation))
    if as_json:
        print_json({"generation": generation, "n_dropped": n_dropped})
    else:
        tell(f"generation {generation}: {n_dropped:,} keys deleted")
