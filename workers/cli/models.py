"""`recsys models list | show | train | promote | rollback | retire`."""

from __future__ import annotations

import asyncio
import logging.config
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli.arguments import checked_text, checked_texts
from workers.cli.console import CommandFailed, JsonOption, print_document, print_json, reachable_settings, settings, tell, tell_rows, utc
from workers.errors import WorkerError

if TYPE_CHECKING:
    from schemas import ModelAnnouncement
    from workers.models.store import ModelStore
    from workers.settings import Settings

app = typer.Typer(help="List, show, train, promote, roll back and retire models.", no_args_is_help=True)

Version = Annotated[str, typer.Argument(help="A version, such as ials-000003.", callback=checked_text)]
Kind = Annotated[str, typer.Argument(help="A model kind, such as ials.", callback=checked_text)]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the announcement and the history.")]


def _kind_of(version: str) -> str:
    return version.rsplit("-", 1)[0]


def _row(store: ModelStore, kind: str, version: str, champion: str | None) -> dict[str, Any]:
    try:
        manifest, _ = store.manifest(kind, version)
    except WorkerError as error:
        return {"kind": kind, "version": version, "serving": version == champion, "problem": str(error)}
    return {
        "kind": kind,
        "version": version,
        "serving": version == champion,
        "trained_ts_ms": manifest.trained_ts_ms,
        "train_s": manifest.train_s,
        "n_events": manifest.trained_on.n_events,
        "n_items": manifest.n_items,
        "metrics": manifest.metrics,
        "decision": manifest.decision,
        "refit": None if manifest.refit is None else manifest.refit.model_dump(),
        "problem": None,
    }


def _figure(row: dict[str, Any], who: str) -> str:
    from recsys.evaluation.headline import GATE_METRIC

    figure = row["metrics"].get(who, {}).get(GATE_METRIC)
    return "" if figure is None else f"{figure:.4f}"


@app.command("list")
def list_models(kind: Annotated[str | None, typer.Option("--kind", help="Only this kind.")] = None, as_json: JsonOption = False) -> None:
    """Stored versions with the figures they were judged by; ▶ marks what serves."""
    from recsys.evaluation.headline import GATE_METRIC
    from workers.models.manifest import StoreError
    from workers.models.store import open_model_store

    store = open_model_store(settings())
    rows: list[dict[str, Any]] = []
    for name in store.kinds() if kind is None else [kind]:
        try:
            champion = store.champion(name)
        except StoreError as error:  # the others are listed all the same
            rows.append({"kind": name, "version": name, "serving": False, "problem": str(error)})
            champion = None
        rows += [_row(store, name, version, champion) for version in store.versions(name)]
    if as_json:
        print_json(rows)
        return
    shown = []
    for row in rows:
        mark = "▶" if row["serving"] else ""
        if row["problem"] is not None:
            shown.append((mark, row["version"], "", "", "", "", "", "", "", row["problem"]))
            continue
        figures = [_figure(row, who) for who in ("challenger", "champion", "popularity", "recent_popularity")]
        trained, decision = utc(row["trained_ts_ms"], "seconds"), row["decision"] or ""
        shown.append((mark, row["version"], trained, f"{row['n_events']:,}", f"{row['n_items']:,}", *figures, decision))
    judged = (GATE_METRIC, "champion then", "popularity", "recent popularity")
    columns = ("serves", "version", "trained", "events", "items", *judged, "decision")
    tell_rows(columns, shown, folding=("decision",))


@app.command("show")
def show(version: Version, as_json: JsonOption = False) -> None:
    """The manifest of one version, after checking every hash of it; the versions it descends from; and what its kind adds to the list."""
    from workers.models.lineage import lineage, measured_gain
    from workers.models.store import open_model_store

    store = open_model_store(settings())
    kind = _kind_of(version)
    stored = store.load_stored(kind, version)
    shown = stored.manifest.model_dump(mode="json") | {
        "manifest_sha256": stored.manifest_sha256,
        "serving": store.champion(kind) == version,
        "lineage": lineage(store, stored.manifest),
        "gain": measured_gain(store, kind),
        "history": [entry.model_dump(mode="json") for entry in store.history(kind) if entry.version == version],
    }
    if as_json:
        print_json(shown)
    else:
        print_document(shown)


@app.command("train")
def train(
    kind: Annotated[list[str] | None, typer.Option("--kind", help="Only this kind; may be repeated.", callback=checked_texts)] = None,
    as_json: JsonOption = False,
) -> None:
    """Train now, beside a running trainer or without one, and let the gate decide. Exit code 1 if a kind failed.

    The event log is brought up to date first. One line for each kind says whether its new version was promoted or refused, and why, or why
    nothing was trained. Progress goes to standard error.
    """
    chosen = reachable_settings()
    from workers.cli.worker import logging_config
    from workers.kafka.startup import check_writable
    from workers.trainer.train_now import train_now
    from workers.trainer.training_settings import check_training

    check_training(chosen)
    kinds = list(dict.fromkeys(kind or chosen.trainer.kinds))
    if unknown := [name for name in kinds if name not in chosen.trainer.kinds]:
        raise typer.BadParameter(f"trainer.kinds does not name {unknown[0]}; it names {', '.join(chosen.trainer.kinds)}")
    for name, url in (("log_url", chosen.trainer.log_url), ("model_url", chosen.trainer.model_url)):
        check_writable(f"setting trainer.{name}", url)
    logging.config.dictConfig(logging_config("info"))
    results = asyncio.run(train_now(chosen, kinds))
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        for result in results:
            tell(str(result))
    if any(result.action == "failed" for result in results):
        raise CommandFailed


@app.command("promote")
def promote(version: Version, reason: Reason = "promoted by hand", as_json: JsonOption = False) -> None:
    """Let a stored version serve, whatever the gate said, and announce it. Its files are checked first."""
    from schemas import ModelAction
    from workers.models.store import open_model_store

    chosen = settings()
    store = open_model_store(chosen)
    kind = _kind_of(version)
    before = store.champion(kind)
    stored = store.load_stored(kind, version)
    changed = store.promote(kind, version, metrics=stored.manifest.metrics.get("challenger"), reason=reason)
    announcement = store.announcement(kind, version, ModelAction.PROMOTED, champion=before, reason=reason)
    _announce(chosen, [announcement])
    _say({"kind": kind, "version": version, "before": before, "changed": changed, "action": "promoted"}, as_json)


@app.command("rollback")
def rollback(kind: Kind, reason: Reason = "rolled back by hand", as_json: JsonOption = False) -> None:
    """Let the version before the present one serve again, and announce it."""
    from schemas import ModelAction
    from workers.models.store import open_model_store

    chosen = settings()
    store = open_model_store(chosen)
    before = store.champion(kind)
    version = store.rollback(kind, reason=reason)
    announcement = store.announcement(kind, version, ModelAction.ROLLED_BACK, champion=before, reason=reason)
    _announce(chosen, [announcement])
    _say({"kind": kind, "version": version, "before": before, "changed": True, "action": "rolled_back"}, as_json)


@app.command("retire")
def retire(kind: Kind, reason: Reason = "retired by hand", as_json: JsonOption = False) -> None:
    """Let no version of a kind serve, and train none, until one is promoted or rolled back to."""
    from workers.models.store import open_model_store

    chosen = settings()
    before = open_model_store(chosen).retire(kind, reason=reason)
    _announce(chosen, [], [kind])
    _say({"kind": kind, "version": None, "before": before, "changed": True, "action": "retired"}, as_json)


def _announce(chosen: Settings, made: list[ModelAnnouncement], retired: Sequence[str] = ()) -> None:
    from workers.models.announcements import announce

    asyncio.run(announce(chosen, made, retired=retired))


def _say(done: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(done)
    else:
        now = "nothing" if done["version"] is None else done["version"]
        tell(f"{now} serves now (before: {done['before'] or 'nothing'})")
