"""What `benchmarks.streams` prints and writes: a table, JSON, and the part of docs/quality.md between two marks."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.streams.protocol import F64, PROTOCOLS, recalls

START, END = "<!-- figures: written by `python -m benchmarks.streams --write` -->", "<!-- end of figures -->"
COLUMNS = ("recall@10", "recall@20", "last60_recall@10", "last60_recall@20")
JUDGED = "last60_recall@10"
OTHERS = {"last60_recall@20": "recall at 20", "recall@10": "recall at 10 of all targets", "recall@20": "recall at 20 of all targets"}


@dataclass(frozen=True, slots=True)
class Figures:
    """One data set's figures: recalls by protocol and ranker, how many targets a protocol has, the constants that were chosen, notes."""

    name: str
    by_protocol: Mapping[str, Mapping[str, Mapping[str, float]]]
    targets: Mapping[str, int]
    chosen: Mapping[str, Mapping[str, str]]
    notes: Sequence[str] = ()
    seconds: float = 0.0

    def as_json(self) -> dict[str, dict[str, object]]:
        return {protocol: {**self.by_protocol[protocol], "targets": self.targets[protocol]} for protocol in PROTOCOLS}

    def best_baseline(self, protocol: str) -> str:
        """Return the name of the baseline with the highest recall at 10 on the newest 60 % of the targets."""
        rankers = self.by_protocol[protocol]
        return max((name for name in rankers if name != "list"), key=lambda name: rankers[name][JUDGED])

    def ratio(self, protocol: str) -> float | None:
        """Return the list's recall at 10 over the best baseline's, on the newest 60 % of the targets; None without hits."""
        rankers = self.by_protocol[protocol]
        best = rankers[self.best_baseline(protocol)][JUDGED]
        return rankers["list"][JUDGED] / best if best else None


def show(figures: Figures, file: TextIO | None = None) -> None:
    """Print one data set's tables."""
    console = Console(file=file or sys.stdout, width=140)
    for protocol in PROTOCOLS:
        if not figures.targets[protocol]:
            console.print(Text(f"{figures.name}, {protocol}: no targets"))
            continue
        title = Text(f"{figures.name}, {protocol}: {figures.targets[protocol]:,} targets")
        table = Table(title=title, title_justify="left")
        table.add_column("")
        for column in COLUMNS:
            table.add_column(column.replace("last60_", "newest 60 %: "), justify="right")
        table.add_column("chosen on the oldest 40 %")
        for name, values in figures.by_protocol[protocol].items():
            cells = (f"{values[column]:.4f}" for column in COLUMNS)
            table.add_row(name, *cells, Text(figures.chosen[protocol].get(name, "")))
        console.print(table)
        ratio = figures.ratio(protocol)
        best = figures.best_baseline(protocol)
        console.print(Text(f"list ÷ best baseline ({best}), newest 60 %, recall@10: {'–' if ratio is None else f'{ratio:.3f}'}\n"))
    console.print(Text(f"{figures.name}: {'; '.join((*figures.notes, f'{figures.seconds:.0f} s'))}\n"))


def markdown(found: Sequence[Figures], command: str) -> str:
    """Return a table for each protocol, with a column for each data set."""
    parts = []
    for protocol in PROTOCOLS:
        judged = [figures for figures in found if figures.targets[protocol]]
        if not judged:
            continue
        ratios = ["–" if (ratio := figures.ratio(protocol)) is None else f"**{ratio:.2f}**" for figures in judged]
        names = list(judged[0].by_protocol[protocol])
        rows = {name: [f"{figures.by_protocol[protocol][name][JUDGED]:.4f}" for figures in judged] for name in names}
        rows["list ÷ best baseline"] = ratios
        for column, title in OTHERS.items():
            rows[f"list, {title}"] = [f"{figures.by_protocol[protocol]['list'][column]:.4f}" for figures in judged]
        rows["targets"] = [f"{figures.targets[protocol]:,}" for figures in judged]
        for ranker in ("recent_popularity", "item_knn", "user_knn", "last_item"):
            rows[f"{ranker}: chosen"] = [figures.chosen[protocol][ranker] for figures in judged]
        parts.append(f"Protocol *{protocol}*, recall at 10 on the newest 60 % of the targets:\n")
        parts.append("| | " + " | ".join(f"`{figures.name}`" for figures in judged) + " |")
        parts.append("| --- |" + " ---: |" * len(judged))
        parts += [f"| {title} | " + " | ".join(cells) + " |" for title, cells in rows.items()]
        parts.append("")
    minutes = sum(figures.seconds for figures in found) / 60
    parts.append(f"`{command}`, {datetime.datetime.now(datetime.UTC):%d %B %Y}, {minutes:.0f} minutes of one core.")
    return "\n".join(parts)


def write(found: Sequence[Figures], command: str, document: Path) -> None:
    """Replace the part of the document between the marks."""
    text = document.read_text("utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{START}\n\n{markdown(found, command)}\n\n{END}{after}", "utf-8")


def figures_of(name: str, ranks: Mapping[str, Mapping[str, tuple[F64, str]]], notes: Sequence[str], seconds: float) -> Figures:
    """Return the figures of a data set from ranks (T,) and chosen constants by protocol and ranker."""
    by_protocol = {protocol: {ranker: recalls(of) for ranker, (of, _) in rankers.items()} for protocol, rankers in ranks.items()}
    chosen = {protocol: {ranker: words for ranker, (_, words) in rankers.items()} for protocol, rankers in ranks.items()}
    targets = {protocol: len(rankers["list"][0]) for protocol, rankers in ranks.items()}
    return Figures(name, by_protocol, targets, chosen, notes, seconds)
