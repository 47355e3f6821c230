"""Prints and writes the figures of `benchmarks.models`: a table for each split, and its part of docs/quality.md between two marks."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.models.measure import ENSEMBLE, SHOWN, Measured, spread
from benchmarks.models.published import PUBLISHED
from benchmarks.models.tables import SPLITS

TITLES = {"defaults": "shipped defaults", "searched": "after a search"}


def marks(table: str) -> tuple[str, str]:
    """Return the lines before and after the part of a table."""
    return f"<!-- models {table}: written by `python -m benchmarks.models --table {table} --write` -->", f"<!-- end of models {table} -->"


def rows_of(runs: Sequence[Measured]) -> list[tuple[str, ...]]:
    """Return a row for each kind and library: who, HR@10, NDCG@10, seeds, processor seconds and MB of training, error."""
    rows: list[tuple[str, ...]] = []
    for (who, model), group in groupby(runs, key=lambda run: (run.who, run.model)):
        of_seeds = list(group)
        ran = [run for run in of_seeds if not run.error]
        name = _name(who, model, of_seeds[0])
        if not ran:
            rows.append((name, "–", "–", "0", "–", "–", of_seeds[0].error))
            continue
        seconds, memory = (sum(values) / len(ran) for values in ([run.train_cpu_s for run in ran], [run.peak_mb for run in ran]))
        failed = next((run.error for run in of_seeds if run.error), "")
        rows.append((name, *(spread(ran, figure) for figure in SHOWN), str(len(ran)), f"{seconds:.1f}", f"{memory:,.0f}", failed))
    return rows


def _name(who: str, model: str, run: Measured) -> str:
    if who in TITLES:
        minutes = f" of {run.search_minutes:g} minutes" if run.search_minutes else ""
        return f"`{model}`, {TITLES[who]}{minutes}"
    if who.startswith("with "):
        return f"`{model}`, {who}"
    if model == ENSEMBLE:
        return who
    return f"{who} {run.config['version']}: {run.config['model']}" if run.config else who


def markdown(table: str, runs: Sequence[Measured], command: str) -> str:
    """Return the part of a table: what it is, the rows measured here, those published, and the errors of what did not run."""
    split = SPLITS[table]
    lines = [f"`{table}`: {split.said}. Ties have their expected place.", "", "| | HR@10 | NDCG@10 | seeds | training, CPU s | peak, MB |"]
    lines.append("| --- |" + " ---: |" * 5)
    rows = rows_of(runs)
    lines += [f"| {' | '.join(row[:6])} |" for row in rows if row[3] != "0"]
    lines += [f"| {row.model} | {row.hr} | {row.ndcg} | published: {row.source} | | |" for row in PUBLISHED[table]]
    if without := [row for row in rows if row[6]]:
        lines += ["", "Not run: " + "; ".join(f"{row[0]} ({row[6]})" for row in without) + "."]
    chosen = {f"`{run.model}`, seed {run.seed}: {_options(run.config)}": None for run in runs if run.who == "searched" and not run.error}
    if chosen:
        lines += ["", "Found by the searches: " + "; ".join(chosen) + "."]
    lines += ["", f"`{command}`, {datetime.datetime.now(datetime.UTC):%d %B %Y}. One thread; each run in a process of its own, whose"]
    lines += ["peak of memory includes the data. Seconds are processor time of the final training alone."]
    return "\n".join(lines)


def _options(config: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in config.items() if name not in ("seed", "history_length"))


def write(table: str, text: str, document: Path) -> None:
    """Replace the part of a table in the document. Raises ValueError where the document has no such part."""
    start, end = marks(table)
    before, found, rest = document.read_text("utf-8").partition(start)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"{document.name} has no part for {table}: add the lines {start} and {end}")
    document.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", "utf-8")
