"""`recsys explain`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli.arguments import UserId, checked_id
from workers.cli.console import JsonOption, print_json, settings, tell, tell_rows, warn
from workers.cli.lists import check_language
from workers.runtime.text import visible

if TYPE_CHECKING:
    from workers.operations.explain import Explanation, ItemStory
    from workers.settings import Settings


def explain(
    user_id: UserId,
    item_id: Annotated[str | None, typer.Argument(help="An item: why it is on the list, or why not.", callback=checked_id)] = None,
    language: Annotated[str, typer.Option("--language", help="Language of the sentences: en, de, zh, or one of the settings.")] = "en",
    diff: Annotated[bool, typer.Option("--diff", help="Compare with the newest published list: what came, went and moved.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a user's list now and say why it is as it is: sources, features, filters, stages and rules, and why an item is not there.

    Reads the state and the model store; changes nothing and publishes nothing. Exit code 1 for a user of whom nothing is known.
    """
    chosen = settings()
    check_language(chosen, language)
    from workers.operations import explain as explaining

    made = asyncio.run(explaining.explain(chosen, user_id, item_id, language=language, say=warn))
    if as_json:
        print_json(made.figures())
        return
    if diff:
        _show_diff(chosen, made)
        return
    if made.item is None or made.item.absence is None:
        _show_list(made, None if made.item is None else made.item.item_id)
    if made.item is not None:
        _show_item(made.item)


def _show_list(made: Explanation, only: str | None) -> None:
    """Show the places of the list, or that of one item."""
    record = made.record
    rows = [
        (
            str(item.rank),
            item.item_id,
            made.titles.get(item.item_id, ""),
            f"{item.score:.4f}",
            " ".join(f"{name}={part:.3f}" for name, part in sorted(item.sources.items(), key=lambda s: -s[1])),
            item.reason or "–",
            sentence,
            list(item.because),
            list(item.rules),
        )
        for item, sentence in zip(record.items, made.sentences, strict=True)
        if only is None or item.item_id == only
    ]
    columns = ("#", "item", "title", "score", "parts", "reason", "why", "because", "rules")
    title = f"list of {visible(record.user_id)} as it would be made now · models {record.model_version}"
    tell_rows(columns, rows, folding=("title", "parts", "why"), title=title)


def _show_diff(chosen: Settings, made: Explanation) -> None:
    """Show how the list differs from the newest one that was published; a sign says what a colour does."""
    from rich.text import Text

    from workers.lists.reader import newest_list

    published = newest_list(chosen, made.record.user_id)
    before = {} if published is None else {item.item_id: item.rank for item in published.items}
    rows: list[tuple[Text, str, str, str]] = []
    for item in made.record.items:
        sign, style = _change(before.get(item.item_id), item.rank)
        rows.append((Text(sign, style=style), str(item.rank), item.item_id, made.titles.get(item.item_id, "")))
    listed = {item.item_id for item in made.record.items}
    rows += [(Text("-", style="red"), f"was {place}", item_id, "") for item_id, place in before.items() if item_id not in listed]
    against = "no list is published yet" if published is None else f"against list {published.list_id}"
    tell(f"list of {visible(made.record.user_id)} as it would be made now, {against}")
    tell_rows(("change", "#", "item", "title"), rows, folding=("title",))


def _change(before: int | None, now: int) -> tuple[str, str]:
    """Return what happened to an item, as a sign and as a style."""
    if before is None:
        return "+", "bold green"
    if before == now:
        return "=", "dim"
    return (f"up from {before}", "green") if now < before else (f"down from {before}", "yellow")


def _show_item(item: ItemStory) -> None:
    named = f"{item.item_id} ({item.title})" if item.title else item.item_id
    if item.absence is None:
        tell(f"{named} is at place {item.place}")
    else:
        tell(f"{named} is not listed ({item.absence.kind.replace('_', ' ')}): {item.absence.text}")
    if item.sources:
        ranks = [
            (name, f"{raw:.6g}", "–" if rank is None else f"{rank} of {item.n_candidates}") for name, (raw, rank) in item.sources.items()
        ]
        tell_rows(("source", "raw score", "rank"), ranks, title="sources")
    _show_numbers("what each part gave to the score", item.parts)
    _show_numbers("features", item.features)
    if item.passed:
        passed = (f"{name} {'passed' if passes else 'kept it off'}" for name, passes in item.passed.items())
        tell(f"filters: {', '.join(passed)}")
    if item.places:
        steps = (f"{name} {'–' if place is None else place}" for name, place in item.places)
        tell(f"place after each stage: {', '.join(steps)}")


def _show_numbers(title: str, numbers: Mapping[str, float]) -> None:
    if numbers:
        from rich.text import Text

        styles = {name: "green" if value > 0 else "red" if value < 0 else "dim" for name, value in numbers.items()}
        rows = [(name, Text(f"{value:.4f}", style=styles[name])) for name, value in numbers.items()]
        tell_rows(("name", "value"), rows, title=title)
