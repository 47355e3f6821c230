"""`recsys dlq list | show | redrive`."""

from __future__ import annotations

import base64
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.arguments import checked_text
from workers.cli.console import CommandFailed, JsonOption, print_json, settings, tell, tell_rows, utc, warn
from workers.errors import SettingsError
from workers.runtime.text import visible

if TYPE_CHECKING:
    from schemas import DeadLetter
    from workers.operations.dead_letters import Choice, SourcePlace
    from workers.operations.redrive import Verdict
    from workers.settings import Settings

app = typer.Typer(help="Dead letters: see what was refused and why; send records again that are accepted now.", no_args_is_help=True)
MAX_SHOWN = 20  # letters that were not redriven, shown one by one; the rest is counted
SOURCES = ("events", "items", "users", "models")

Kind = Annotated[str | None, typer.Option("--kind", help="Only this kind: not_json, too_large, invalid_field, …")]
Topic = Annotated[str | None, typer.Option("--topic", help="Only records of this source topic: its name, or events, items, users, models.")]
Since = Annotated[
    float | None, typer.Option("--since", help="Only records refused in the last MINUTES.", metavar="MINUTES", min=0)
]


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option("-n", "--limit", help="At most this many.", min=1, max=10_000)] = 50,
    kind: Kind = None,
    topic: Topic = None,
    since: Since = None,
    count: Annotated[bool, typer.Option("--count", help="Only how many there are, by kind and source topic.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The newest dead letters: where the refused record lies, which field, why. They quote no record; a replay may repeat a letter."""
    from workers.operations.dead_letters import SourcePlace, count_letters, newest_letters

    chosen = settings()
    choice = _choice(chosen, kind, topic, since)
    if count:
        _print_counts(count_letters(chosen, choice), as_json)
        return
    letters = newest_letters(chosen, choice, limit)
    if as_json:
        print_json([{"place": str(SourcePlace.of(letter)), **_fields(letter)} for letter in letters])
        return
    if not letters:
        warn("no such dead letters")
        return
    rows = [(str(SourcePlace.of(letter)), utc(letter.dead_letter_ts_ms), letter.kind, letter.field, letter.reason) for letter in letters]
    tell_rows(("place", "refused", "kind", "field", "reason"), rows, folding=("reason",))


@app.command("show")
def show(
    place: Annotated[
        str, typer.Argument(metavar="PLACE", help="topic:partition:offset, the key of the dead letter.", callback=checked_text)
    ],
    payload: Annotated[bool, typer.Option("--payload", help="Print the refused record itself (it may hold personal data).")] = False,
    as_json: JsonOption = False,
) -> None:
    """All fields of one dead letter, and whether its record still lies in the source topic: present, gone, or changed.

    The record is read and compared by its hash, but printed only with --payload, and then alone: its bytes as they are into a pipe or a
    file, with control characters escaped on a terminal, in base64 with --json. Exit code 1 if there is no such letter, or no record.
    """
    from workers.operations.dead_letters import SourcePlace, look_up

    found = look_up(settings(), SourcePlace.parse(place))
    if found is None:
        warn(f"no dead letter of {place}: see `recsys dlq list`")
        raise CommandFailed
    letter, sighting, value = found
    if value is None and letter.payload_base64 is not None:
        value = base64.b64decode(letter.payload_base64)
    fields: dict[str, Any] = {"place": place, **_fields(letter), "source_record": sighting.value}
    fields["payload_in_letter"] = letter.payload_base64 is not None
    if as_json:
        print_json(fields | ({"payload_base64": None if value is None else base64.b64encode(value).decode()} if payload else {}))
    elif not payload:
        rows = [(name, _content(name, content)) for name, content in fields.items()]
        tell_rows(("field", "value"), rows)
    elif value is not None:
        _write(value)
    if payload and value is None and letter.payload_sha256 is not None:
        warn(f"the record of {place} is {sighting.value} and its letter holds no copy")
        raise CommandFailed


@app.command("redrive")
def redrive(
    places: Annotated[
        list[str] | None, typer.Argument(metavar="[PLACE]...", help="topic:partition:offset, as `recsys dlq list` has it.")
    ] = None,
    kind: Kind = None,
    topic: Topic = None,
    since: Since = None,
    everything: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would become of each letter; send nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Send refused records again that today's decoder and settings accept: the same key and value, to the end of their topic.

    Outcomes: redriven; still_refused, with the new reason; gone (retention or compaction); changed (another record lies there);
    superseded (a newer good record of the same item, user or model is there); already_redriven (several letters of one record);
    undelivered; no_letter. Exit code 1 if any letter's record was not redriven.

    A redriven event carries the same event_id: redriven twice, it counts once within the duplicate window
    (state.duplicate_chunk records of its partition). Beyond the window it counts again, so choose by PLACE or --since when you repeat.
    """
    from workers.operations.dead_letters import SourcePlace, scan
    from workers.operations.redrive import ON_THE_TOPIC, Outcome, Verdict
    from workers.operations.redrive import redrive as redrive_letters

    filtered = kind is not None or topic is not None or since is not None
    if bool(places) + filtered + everything != 1:
        raise SettingsError("redrive: choose letters by PLACE, or by --kind, --topic and --since, or with --all")
    named = frozenset(SourcePlace.parse(place) for place in places or ())
    chosen = settings()
    letters = list(scan(chosen, _choice(chosen, kind, topic, since, named or None)))
    verdicts = redrive_letters(chosen, letters, dry_run=dry_run)
    without = sorted(named - {SourcePlace.of(letter) for letter in letters})
    verdicts += [Verdict(place, Outcome.NO_LETTER, "no dead letter has this key: see `recsys dlq list`") for place in without]
    _report(verdicts, dry_run, as_json)
    if any(verdict.outcome not in ON_THE_TOPIC for verdict in verdicts):
        raise CommandFailed


def _choice(
    chosen: Settings, kind: str | None, topic: str | None, since: float | None, places: frozenset[SourcePlace] | None = None
) -> Choice:
    from workers.operations.dead_letters import Choice

    since_ms = None if since is None else int((time.time() - since * 60) * 1000)
    name = getattr(chosen.topics, topic) if topic in SOURCES else topic
    return Choice(kind=kind, topic=name, since_ms=since_ms, places=places)


def _fields(letter: DeadLetter) -> dict[str, Any]:
    return letter.model_dump(mode="json", exclude={"payload_base64"})


def _print_counts(counts: Counter[tuple[str, str]], as_json: bool) -> None:
    rows = counts.most_common()
    if as_json:
        print_json([{"kind": kind, "source_topic": topic, "letters": n} for (kind, topic), n in rows])
        return
    tell_rows(("kind", "source topic", "records"), [(kind, topic, f"{n:,}") for (kind, topic), n in rows])


def _report(verdicts: list[Verdict], dry_run: bool, as_json: bool) -> None:
    from workers.operations.redrive import ON_THE_TOPIC

    counts = Counter(verdict.outcome.value for verdict in verdicts)
    if as_json:
        letters = [{"place": str(verdict.place), "outcome": verdict.outcome.value, "reason": verdict.reason} for verdict in verdicts]
        print_json({"dry_run": dry_run, "counts": dict(counts), "letters": letters})
        return
    left = [verdict for verdict in verdicts if verdict.outcome not in ON_THE_TOPIC]
    for verdict in left[:MAX_SHOWN]:
        warn(f"{verdict.place}: {verdict.outcome.value}" + (f": {verdict.reason}" if verdict.reason else ""))
    if len(left) > MAX_SHOWN:
        warn(f"… and {len(left) - MAX_SHOWN} more (--json names all)")
    summary = ", ".join(f"{n:,} {outcome}" for outcome, n in counts.most_common()) or "no such dead letters"
    tell(f"{summary} (dry run: nothing was sent)" if dry_run else summary)


def _content(name: str, content: Any) -> str:
    if content is None:
        return ""
    return utc(content) if name.endswith("_ts_ms") else str(content)


def _write(value: bytes) -> None:
    if sys.stdout.isatty():
        text = value.decode(errors="backslashreplace")
        sys.stdout.write("".join(visible(line) + "\n" for line in text.split("\n")))
    else:
        sys.stdout.buffer.write(value)
    sys.stdout.flush()
