"""`recsys rules check | publish | show`."""

from __future__ import annotations

import asyncio
import getpass
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.arguments import checked_id
from workers.cli.console import JsonOption, print_json, settings, tell, tell_rows, utc, warn
from workers.runtime.text import visible

if TYPE_CHECKING:
    from workers.operations.rules_report import RuleReport, UserChanges

app = typer.Typer(help="See what rules do to lists, and publish rules to running workers.", no_args_is_help=True)
SHOWN_USERS = 5
"""Users whose lists are shown; JSON has all of them."""


@app.command("check")
def check(
    users: Annotated[int, typer.Option("--users", help="How many stored users to make lists of.", min=1, max=10_000)] = 200,
    user_id: Annotated[str | None, typer.Option("--user", help="Only this user.", callback=checked_id)] = None,
    rules: Annotated[
        Path | None, typer.Option("--rules", help="Rules of this TOML or JSON file, instead of those of the settings.", metavar="FILE")
    ] = None,
    from_topic: Annotated[
        bool, typer.Option("--from-topic", help="The newest rules of the control topic, and those of the settings.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Another seed chooses other users.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show what rules would do to lists of stored users: each rule's effect, contradictions, and lists before and after.

    Reads the state and the model store; changes nothing and publishes nothing. Rules that cannot be read end with exit code 2 and one line.
    """
    chosen = settings()
    from workers.operations import rules_check

    if rules is not None and from_topic:
        raise typer.BadParameter("--rules and --from-topic name two sets of rules: leave one out")
    if from_topic:
        from workers.lists.topic_rules import with_published
        from workers.operations.rules_topic import read_rules_topic
        from workers.plugins import load_plugins

        found = read_rules_topic(chosen)
        if found.refused:
            warn(f"the newest record is refused: {visible(found.refused)}")
        chosen = chosen.model_copy(update={"lists": with_published(chosen.lists, found.published, load_plugins())})
    if rules is not None:
        chosen = chosen.model_copy(update={"lists": chosen.lists.model_copy(update={"rules": rules_check.read_rules(rules)})})
    made = asyncio.run(rules_check.check_rules(chosen, n_users=users, user_id=user_id, seed=seed, say=warn))
    if as_json:
        print_json(made.figures())
    else:
        _show(made)


@app.command("publish")
def publish(
    file: Annotated[Path, typer.Argument(help="A TOML or JSON file of rules, as for `rules check --rules`.", metavar="FILE")],
    by: Annotated[str, typer.Option("--by", help="Who publishes them; the name of this account unless given.")] = "",
    note: Annotated[str, typer.Option("--note", help="Why, in one line.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Publish rules to the control topic: all workers follow them within seconds, besides those of their settings.

    They replace the set before. A set that workers would refuse is not published: exit code 2 and one line.
    """
    chosen = settings()
    from workers.operations import rules_check, rules_topic

    read = rules_check.read_rules(file)
    before = rules_topic.read_rules_topic(chosen)
    who, now_ms = (by or getpass.getuser())[:256], int(time.time() * 1000)
    made = asyncio.run(rules_topic.publish_rules(chosen, read, before, published_by=who, note=note[:1_024], now_ms=now_ms))
    if as_json:
        print_json(made.model_dump(mode="json"))
    else:
        replaced = "none" if before.published is None else f"version {before.published.version}"
        tell(f"version {made.version} with {len(made.rules):,} rules is published (before: {replaced})")


@app.command("show")
def show(as_json: JsonOption = False) -> None:
    """Show the rules on the control topic: version, who published them and when, and each rule. Changes nothing."""
    chosen = settings()
    from workers.operations.rules_topic import read_rules_topic

    found = read_rules_topic(chosen)
    made = found.published
    if as_json:
        print_json({"published": None if made is None else made.model_dump(mode="json"), "refused": found.refused or None})
        return
    if made is None:
        tell("the control topic holds no rules: workers follow those of their settings")
    else:
        columns = ("rule", "action", "when", "amount", "places", "placements")
        rows = [
            (rule.name, rule.action, rule.when, f"{rule.amount:g}", ", ".join(map(str, rule.places)), list(rule.placements))
            for rule in made.rules
        ]
        tell_rows(columns, rows, folding=("rule", "when"), title=f"rules of version {made.version}")
        note = f": {visible(made.note)}" if made.note else ""
        tell(f"published {utc(made.published_ts_ms, timespec='seconds')} by {visible(made.published_by) or 'nobody named'}{note}")
    if found.refused:
        warn(f"the newest record is refused: {visible(found.refused)}")


def _show(made: RuleReport) -> None:
    rows = [
        (rule.name, rule.action, rule.when, *(f"{n:,}" for n in (rule.items, rule.users, rule.before, rule.after, rule.moved)))
        for rule in made.rules
    ]
    columns = ("rule", "action", "when", "items", "users", "listed before", "after", "moved")
    tell_rows(columns, rows, folding=("rule", "when"), title=f"{len(rows)} rules on {made.n_items:,} items")
    for finding in made.findings:
        tell(f"{finding.kind.replace('_', ' ')}: {finding.text}")
    for user in made.users[:SHOWN_USERS]:
        _show_user(user)
    more = f", {SHOWN_USERS} of them are shown" if len(made.users) > SHOWN_USERS else ""
    tell(f"{made.n_changed:,} of {made.n_users:,} lists differ{more}; {made.n_shorter:,} get shorter; nothing was published")


def _show_user(user: UserChanges) -> None:
    rows = [
        (change.item_id, str(change.before or "–"), str(change.after or "–"), list(change.rules) or ["others took its place"])
        for change in user.changes
    ]
    tell_rows(("item", "place before", "after", "by rule"), rows, title=f"list of {visible(user.user_id)}")
