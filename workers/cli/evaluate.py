"""`recsys evaluate`."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from workers.cli.arguments import checked_text
from workers.cli.console import CommandFailed, JsonOption, print_json, settings, tell, tell_rows, warn
from workers.cli.file_options import Delimiter, Encoding, FileOptions, Header, Map, TimeFormat, Unit, Zone
from workers.errors import SettingsError

if TYPE_CHECKING:
    from recsys.evaluation.cases import Cases
    from workers.operations.evaluation import Protocol
    from workers.operations.evaluation_files import Tables
    from workers.producer.mapping import Kind

PROTOCOLS = ("last-item", "full", "negatives", "temporal", "discovery", "again")
SHOWN = ("hr@10", "ndcg@10", "recall@20", "ndcg@20", "mrr", "map@10", "coverage@10", "gini@10", "novelty@10")
MAX_SEED = 2**31 - 1
MAX_MINUTES = 100_000.0
QUOTE = '"'


Train = Annotated[str | None, typer.Option("--train", help="Interactions that train.", metavar="FILE", callback=checked_text)]
Test = Annotated[str | None, typer.Option("--test", help="Interactions that judge.", metavar="FILE", callback=checked_text)]
Negatives = Annotated[
    str | None, typer.Option("--negatives", help="Items ranked beside the test items.", metavar="FILE", callback=checked_text)
]
Items = Annotated[
    str | None, typer.Option("--items", help="Table of item_id, categories and attributes.", metavar="FILE", callback=checked_text)
]
Log = Annotated[bool, typer.Option("--log", help="Evaluate on this deployment's event log (trainer.log_url).")]
Since = Annotated[str | None, typer.Option("--since", help="With --log: only events from then on.", metavar="DATE")]
ProtocolName = Annotated[
    str | None, typer.Option("--protocol", help=f"One of {', '.join(PROTOCOLS)}; temporal with --log, else last-item.")
]
Kinds = Annotated[str, typer.Option("--kinds", help="Kinds of models, separated by commas.", callback=checked_text)]
Holdout = Annotated[
    float, typer.Option("--holdout", help="Share of the events, the newest, that judge where time splits.", min=0.001, max=0.9)
]
SearchMinutes = Annotated[
    float,
    typer.Option("--search-minutes", help="Search for options this long, all kinds together; 0: defaults.", min=0, max=MAX_MINUTES),
]
NewItems = Annotated[
    int,
    typer.Option("--new-items", help="discovery, again: how often models take in new items during the test.", min=0, max=1_000),
]
Together = Annotated[
    bool,
    typer.Option("--ensemble", help="Also judge all kinds as one ranking, with weights learnt on a validation part. Trains each twice."),
]
TrainOnce = Annotated[
    bool,
    typer.Option("--train-once", help="With --ensemble: train each once, without the validation part, in about half the time."),
]
Seed = Annotated[int, typer.Option("--seed", help="Of training, search and resampling.", min=0, max=MAX_SEED)]


def evaluate(
    train: Train = None,
    test: Test = None,
    negatives: Negatives = None,
    log: Log = False,
    since: Since = None,
    protocol: ProtocolName = None,
    kinds: Kinds = "popular,ials",
    holdout: Holdout = 0.2,
    search_minutes: SearchMinutes = 0.0,
    new_items: NewItems = 0,
    ensemble: Together = False,
    train_once: TrainOnce = False,
    seed: Seed = 0,
    items: Items = None,
    columns: Map = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    header: Header = None,
    time_unit: Unit = None,
    time_format: TimeFormat = None,
    time_zone: Zone = None,
    as_json: JsonOption = False,
) -> None:
    """Train kinds of models on one part of the data and judge them on the other, which is looked at once. Exit code 1 if a kind failed.

    A file is lines of a user and that user's items, oldest first, or a table (.csv, .tsv, .jsonl, .parquet, also compressed) with the
    columns user_id and item_id, and event_ts_ms where a protocol splits by time. Each row is a preference.

    last-item: one test item for each user, ranked among all that the user has not touched; without --test it is each user's last one.
    full: all test items of a user are relevant. negatives: the test item is ranked among those of --negatives. temporal: what each user
    chose after a time, the same for all. discovery and again: each event after that time by itself, for items new to the user or repeated.

    --ensemble: all kinds as one ranking, with weights learnt on a validation part by models trained on the rest; --train-once judges these.

    JSON is by kind: metrics, intervals of 95 %, groups of users, paired tests, train_s, config. Progress goes to standard error.
    """
    chosen = _protocol(protocol, log)
    named = list(dict.fromkeys(name.strip() for name in kinds.split(",") if name.strip()))
    _check_arguments(train, test, negatives, since, log, named)
    _check_extras(chosen, named, new_items, ensemble, train_once)
    options, shared = dict[str, Any](), dict[str, Any]()
    from workers.operations.evaluation import Request, evaluate_kinds
    from workers.operations.evaluation_cases import Files, cases_of_files
    from workers.operations.evaluation_files import read_categories, read_descriptions

    given = (encoding, delimiter, header, time_unit, time_format, time_zone)
    tables = _tables(columns, *given) if columns or train is None else _by_their_names([train, *([test] if test else [])], given)
    if train is None:
        cases, options, shared = _from_log(chosen, holdout, since)
    else:
        cases = cases_of_files(Files(train, test, negatives, tables), chosen, holdout)
    content = None if items is None else read_categories("--items", items, cases.part.item_ids, tables)
    if items is not None:
        cases = replace(cases, descriptions=read_descriptions("--items", items, cases.part.item_ids, tables))
    request = Request(named, chosen, seed, 60.0 * search_minutes, options, shared, new_items, ensemble, train_once)
    found = evaluate_kinds(cases, request, content, warn)
    (print_json if as_json else _show)(found)
    if any("error" in figures for figures in found.values()):
        raise CommandFailed


def _protocol(given: str | None, log: bool) -> Protocol:
    chosen = given or ("temporal" if log else "last-item")
    if chosen not in PROTOCOLS:
        raise SettingsError(f"--protocol: one of {', '.join(PROTOCOLS)}")
    return cast("Protocol", chosen)


def _by_their_names(files: list[str], options: tuple[str | None, ...]) -> Tables:
    """Return how tables are read that may call users, items or times otherwise, as the first one does, and say what was taken for what.

    Times that name no zone are taken for UTC. A column of times that cannot be read in all files is left out: their order counts.
    """
    from workers.operations.evaluation_files import is_table
    from workers.producer.guess import names_of_events

    tables, (encoding, delimiter, header, unit, time_format, zone) = _tables(None, *options), options
    if not is_table(files[0], tables.reading):
        return tables
    try:
        found, seen = names_of_events(files[0], {"encoding": encoding, "delimiter": tables.reading.delimiter, "header": header})
    except SettingsError:
        return tables  # reading the file says what is wrong with it
    times = [pair for pair in found if "event_ts_ms=" in pair]
    named = _tables(found, encoding, delimiter or seen, header, unit, time_format, zone or ("UTC" if times else None))
    if times and (problem := _problem_of(files, named)):
        without = [pair for pair in found if pair not in times]
        untimed = _tables(without, encoding, delimiter or seen, header, unit, time_format, zone)
        if _problem_of(files, untimed):
            return named  # it is not the times: reading the file says what is wrong
        warn(f"{times[0].strip(QUOTE)} is left out, the order of the file counts: {problem.removeprefix('FILE: ')}")
        found, named = without, untimed
    if found:
        warn(f"columns taken by their names: {', '.join(pair.strip(QUOTE) for pair in found)} (--map for others)")
    return named


def _problem_of(files: list[str], tables: Tables) -> str:
    """Return why one of the tables cannot be read so; empty where all can."""
    from workers.operations.evaluation_files import check_table, is_table

    try:
        for file in files:
            if is_table(file, tables.reading):
                check_table(file, tables)
    except SettingsError as error:
        return str(error)
    return ""


def _tables(
    columns: list[str] | None,
    encoding: str | None,
    delimiter: str | None,
    header: str | None,
    time_unit: str | None,
    time_format: str | None,
    time_zone: str | None,
) -> Tables:
    """Return how tables are read: every row is a view. Columns of --map belong to the records that have such a field."""
    from workers.operations.evaluation_files import Tables
    from workers.producer.mapping import is_field, pairs_of

    def options(kind: Kind, other: Kind) -> FileOptions:
        pairs = pairs_of("--map", columns or [])
        own = [f'"{name}={column}"' for name, column in pairs if is_field(kind, name) or not is_field(other, name)]
        return FileOptions(
            own, None, time_unit, time_format, time_zone, None, encoding, delimiter, header, ignore_unknown=True, event_type="view"
        )

    events, items = options("events", "items"), options("items", "events")
    return Tables(events.reading(), lambda: events.mapping("events", True), lambda: items.mapping("items", True))


def _check_arguments(
    train: str | None, test: str | None, negatives: str | None, since: str | None, log: bool, kinds: list[str]
) -> None:
    """Check what needs no file. Raises SettingsError."""
    from recsys.models.kind import nearest
    from recsys.models.registry import MODELS

    if log == (train is not None) or (log and (test is not None or negatives is not None)):
        raise SettingsError("give either --train with its test, or --log, which is split by time")
    if since is not None and not log:
        raise SettingsError("--since: only --log reads it")
    if not kinds:
        raise SettingsError(f"--kinds: some of {', '.join(MODELS)}")
    for kind in kinds:
        if kind not in MODELS:
            raise SettingsError(f"--kinds: there is no kind {kind:.40} that reads histories; {nearest(kind, list(MODELS))}")


def _check_extras(protocol: Protocol, kinds: list[str], new_items: int, ensemble: bool, train_once: bool) -> None:
    """Check options that only some protocols, or several kinds, have. Raises SettingsError."""
    if ensemble:
        from workers.operations.evaluation import MIN_TOGETHER

        if len(kinds) < MIN_TOGETHER:
            raise SettingsError("--ensemble: name two kinds or more, for example --kinds ials,ease")
    if train_once and not ensemble:
        raise SettingsError("--train-once: only with --ensemble, whose weights need a part that no kind has learnt from")
    if new_items and protocol not in ("discovery", "again"):
        raise SettingsError("--new-items: only with --protocol discovery or again, where histories grow event by event")


def _from_log(protocol: Protocol, holdout: float, since: str | None) -> tuple[Cases, dict[str, Any], dict[str, Any]]:
    """Return the cases of the event log, and the deployment's options of training: by kind, and shared by all."""
    since_ms = None if since is None else _time_of(since)
    chosen = settings()
    from workers.operations.evaluation_cases import cases_of_log

    cases = cases_of_log(chosen, protocol, holdout, since_ms)
    return cases, {kind: dict(options) for kind, options in chosen.trainer.options.items()}, {"factors": chosen.trainer.factors}


def _time_of(text: str) -> int:
    """Return an ISO date or time in milliseconds; without a zone it is UTC. Raises SettingsError."""
    try:
        found = dt.datetime.fromisoformat(text)
        return round((found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise SettingsError("--since: a date or time such as 2026-01-31 or 2026-01-31T08:00:00Z") from None


def _show(found: dict[str, dict[str, Any]]) -> None:
    rows = []
    for kind, figures in found.items():
        if "error" in figures:
            warn(f"{kind}: not trained because {figures['error']}")
            continue
        rows.append((kind, *(f"{figures[name]:.4f}" for name in SHOWN), f"{figures['train_s']:.1f}"))
    tell_rows(("kind", *SHOWN, "train s"), rows)
    for kind, figures in found.items():
        if "error" in figures:
            continue
        if kind == "ensemble":
            tell(f"ensemble: weights {'; '.join(_weights(figures['config']['weights']))}")
        low, high = figures["intervals"]["ndcg@10"]
        tell(f"{kind}: NDCG@10 {low:.4f} to {high:.4f} (95 %), {figures['n_targets']} targets in {figures['n_cases']} lists")
        for other, tests in figures.get("against", {}).items():
            test = tests["ndcg@10"]
            lead = f"{test['mean']:+.4f} ({test['low']:+.4f} to {test['high']:+.4f}, p {test['p_sign_flip']:.3g})"
            tell(f"{kind} against {other}: NDCG@10 {lead}")


def _weights(found: dict[str, dict[str, float]]) -> list[str]:
    """Return what an ensemble weighs, a text for each kind."""
    return [f"{kind} {', '.join(f'{signal} {value:.2f}' for signal, value in own.items())}" for kind, own in found.items()]
