"""`recsys status`: one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.cli.console import CommandFailed, JsonOption, output, print_json, settings, tell, tell_rows
from workers.runtime.text import visible

if TYPE_CHECKING:
    from workers.operations.status_report import Status

MAX_PARTITIONS = 16
"""Partitions whose lag is shown one by one."""


def status(as_json: JsonOption = False) -> None:
    """Show on one screen how everything is: workers, lag, freshness, models, lists, dead letters, Redis, what is wrong and what to do.

    Exit code 1 if something is wrong. `recsys doctor` looks closer, and longer.
    """
    from workers.operations.status_report import figures, look

    chosen = settings()
    found = look(chosen)
    if as_json:
        print_json(figures(found))
    else:
        _show(found)
    if any(problem.state == "wrong" for problem in found.problems):
        raise CommandFailed


def _show(found: Status) -> None:
    from rich.text import Text

    for name, value in rows(found):
        tell(Text.assemble((f"{name:<13}", "bold"), visible(value)))
    if not found.problems:
        tell(Text.assemble(("well         ", "bold green"), "nothing is wrong"))
        return
    output().print()
    styles = {"wrong": "bold red", "warning": "yellow"}
    shown = [(found.name, Text(found.state, style=styles[found.state]), found.text, found.remedy) for found in found.problems]
    tell_rows(("what", "state", "found", "what to do"), shown, folding=("found", "what to do"))


def rows(found: Status) -> list[tuple[str, str]]:
    """Return the lines of the screen: name and text."""
    return [
        ("workers", _workers(found)),
        ("lag", _lag(found.lag)),
        ("freshness", _freshness(found)),
        ("models", ", ".join(f"{kind} {version}" for kind, version in found.models.items()) or "none serves"),
        ("lists", "–" if found.lists is None else f"{found.lists:,} on the topic" + _items(found)),
        ("dead letters", _letters(found)),
        ("redis", ", ".join(_redis(**server) for server in found.redis) or "–"),
    ]


def _workers(found: Status) -> str:
    if found.workers is None:
        return "–"
    brokers = "" if found.brokers is None else f", {found.brokers} broker{'s' * (found.brokers != 1)}"
    return f"{found.workers} stream worker{'s' * (found.workers != 1)}{brokers}"


def _lag(lag: dict[int, int]) -> str:
    if not lag:
        return "–"
    worst = sorted(lag, key=lambda partition: -lag[partition])[:MAX_PARTITIONS]
    more = f", the largest {MAX_PARTITIONS} of {len(lag)} partitions" if len(lag) > MAX_PARTITIONS else ""
    by_partition = " ".join(f"{partition}:{lag[partition]:,}" for partition in sorted(worst))
    return f"{sum(lag.values()):,} events ({by_partition}{more})"


def _freshness(found: Status) -> str:
    if found.newest_list_age_s is None:
        return "no list yet"
    age = f"newest list {_age(found.newest_list_age_s)} ago"
    delays = found.freshness_ms
    return age if not delays else f"{delays['p50']:,.0f} ms from event to list (p50), {delays['p95']:,.0f} ms (p95); {age}"


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} s"


def _items(found: Status) -> str:
    return "" if found.items is None else f", {found.items:,} items known"


def _letters(found: Status) -> str:
    if found.dead_letters is None:
        return "–"
    recent = ", ".join(f"{n:,} {kind}" for kind, n in found.recent_dead_letters.items())
    return f"{found.dead_letters:,}, within the last hour {recent or 'none'}"


def _redis(server: str, used_mb: float, max_mb: float) -> str:
    bound = f" of {max_mb:,.0f} MB" if max_mb else " MB"
    return f"{server}, {used_mb:,.0f}{bound}"
