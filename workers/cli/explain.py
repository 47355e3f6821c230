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


def explain(
    user_id: UserId,
    item_id: Annotated[str | None, typer.Argument(help="An item: why it is on the list, or why not.", callback=checked_id)] = None,
    language: Annotated[str, typer.Option("--language", help="Language of the sentences: en, de, zh, or one of the settings.")] = "en",
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
        tell_rows(("name", "value"), [(name, f"{value:.4f}") for name, value in numbers.items()], title=title)
