"""Print the demo: its stages while they run, the figures, the models, and two users' homepages."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from recsys.evaluation.gate import GATE_METRIC
from schemas import ModelAnnouncement, RecommendedItem
from workers.demo.figures import HitRates, PublishedEvent, Throughput
from workers.demo.input import DemoInput
from workers.runtime.terminal import DataConsole

PLAIN_WIDTH = 120  # columns where nobody's terminal says how many there are
SAY_EVERY_S = 15.0  # where there is no terminal, a long stage says so often how far it is
N_LISTED = 10
N_WATCHED = 15
N_SOURCES = 2


@dataclass(frozen=True, slots=True)
class Freshness:
    """Quantiles over the events of the paced part, in milliseconds."""

    p50_ms: float
    p99_ms: float
    n_events: int


class Stage:
    """One step of the demo. `advance` moves its bar, `note` is added to the line that stays."""

    def __init__(self, console: Console, title: str, progress: Progress | None, task: TaskID | None, total: int | None) -> None:
        self._console, self._title, self._progress, self._task, self._total = console, title, progress, task, total
        self._done = 0
        self._said_s = self.started_s = time.monotonic()
        self.outcome = ""

    def advance(self, n: int = 1) -> None:
        self._done += n
        self._show(f"{self._title} …")

    def doing(self, what: str) -> None:
        """Show the step that the demo waits for."""
        self._show(f"{self._title}: {what}")

    def note(self, outcome: str) -> None:
        self.outcome = outcome

    def _show(self, text: str) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._done, description=text)
        elif time.monotonic() - self._said_s >= SAY_EVERY_S:
            self._said_s = time.monotonic()
            share = "" if self._total is None else f" {self._done:,} of {self._total:,},"
            self._console.print(f"  {text}{share} {self._said_s - self.started_s:.0f} s")


class Narrator:
    """Prints to one console: bars where it is a terminal, plain lines where it is not."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or DataConsole()
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH

    def say(self, text: str = "") -> None:
        self.console.print(text, soft_wrap=True)

    def show(self, renderable: RenderableType) -> None:
        self.console.print(renderable)

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        """A step with a bar; a line with its outcome and its seconds stays when it ends well."""
        if self.console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30))
            counted = (MofNCompleteColumn(),) if total is not None else ()
            with Progress(*columns, *counted, TimeElapsedColumn(), console=self.console, transient=True) as progress:
                stage = Stage(self.console, title, progress, progress.add_task(f"{title} …", total=total), total)
                yield stage
        else:
            stage = Stage(self.console, title, None, None, total)
            yield stage
        seconds = time.monotonic() - stage.started_s
        outcome = f": {stage.outcome}" if stage.outcome else ""
        self.console.print(Text.assemble(("✓ ", "green"), f"{title}{outcome} ", (f"({seconds:.1f} s)", "dim")))


def header(*, stays: bool = False) -> RenderableType:
    """Announce the steps of the demo."""
    end = "a dashboard goes on until Ctrl-C" if stays else "everything is stopped"
    steps = (
        "1. a Kafka broker and a Valkey start on free ports of this machine, then a stream worker and a trainer\n"
        "2. the catalogue and the first part of the ratings are published in time order, as fast as they go\n"
        "3. the trainer makes its first models and a recipe for lists; the worker takes up what passes the gate\n"
        "4. the rest streams at a steady pace (nobody rates more than ten films a second)\n"
        "   while the trainer retrains and the worker swaps in live what passes the gate\n"
        f"5. models, two homepages, figures; then {end}"
    )
    return Panel(Text(steps), title="streaming recommendations, end to end", title_align="left", box=box.ROUNDED)


def figures_table(bulk: Throughput, paced: Throughput, freshness: Freshness, hits: HitRates, seconds: float) -> RenderableType:
    table = _table("measured", "figure", "how")
    table.add_row(
        "ingest at full speed",
        f"{bulk.events_per_s:,.0f} events/s",
        f"{bulk.n_events:,} events in {bulk.seconds:.1f} s, seen in lists; all on this machine",
    )
    table.add_row("", f"{bulk.lists_per_s:,.0f} lists/s", f"{bulk.n_lists:,} lists: events of one user in a batch share one")
    table.add_row(
        "paced part", f"{paced.events_per_s:,.0f} events/s", f"{paced.n_events:,} events in {paced.seconds:.0f} s, while training"
    )
    table.add_row("", f"{paced.lists_per_s:,.0f} lists/s", f"{paced.n_lists:,} lists")
    method = f"{freshness.n_events:,} events: sent ▸ a list that knows it read from the topic"
    table.add_row("freshness p50", f"{freshness.p50_ms:,.0f} ms", method)
    table.add_row("freshness p99", f"{freshness.p99_ms:,.0f} ms", "the same, 99 of 100 events")
    scored = f"{hits.n_hits:,} of {hits.n_scored:,} ratings ≥ 4 were in the list that had been read before they were sent"
    table.add_row("live hit rate @10", f"{hits.of_lists:.4f}", scored)
    table.add_row(
        "popularity @10",
        f"{hits.of_popularity:.4f}",
        f"{hits.n_hits_popularity:,} of the same, 10 most liked unseen; first events miss in both",
    )
    table.add_row("ratio", f"{hits.ratio:.2f} ×", f"{hits.n_without_list:,} events came from users who had no list yet")
    table.add_row("time", f"{seconds:.0f} s", "from the start of the broker to here")
    return table


def models_table(announcements: Sequence[ModelAnnouncement], taken_up: Mapping[tuple[str, str], str]) -> RenderableType:
    """Every decision of the gate, oldest first. `taken_up` says of (kind, version) when lists were first made with it."""
    title = "models: what the gate decided, on events that no model was trained on"
    table = _table("model", "decision", "why", GATE_METRIC, "champion's", "trained on", "taken up", title=title)
    for announced in announcements:
        table.add_row(
            announced.version,
            announced.action.value,
            announced.reason,
            _figure(announced.challenger_metrics, GATE_METRIC),
            _figure(announced.champion_metrics, GATE_METRIC),
            f"{announced.trained_on.n_events:,}",
            taken_up.get((announced.kind, announced.version), "–"),
        )
    return table


def homepage(
    source: DemoInput, watched: Sequence[PublishedEvent], listed: Sequence[RecommendedItem], user_id: str, model: str
) -> RenderableType:
    """One user's list beside what they rated lately, newest first."""
    left = _table("★", "rated lately", title=f"{user_id}: {len(watched)} ratings")
    for event in list(reversed(watched))[:N_WATCHED]:
        left.add_row(f"{event.value:.0f}", source.title(event.item_id))
    right = _table("#", "title", "score", "from", "because you watched", title=f"their homepage · {model}")
    for item in listed[:N_LISTED]:
        strongest = sorted(item.sources.items(), key=lambda part: -part[1])[:N_SOURCES]
        right.add_row(
            str(item.rank),
            source.title(item.item_id),
            f"{item.score:.1f}",
            " ".join(f"{name} {value:.1f}" for name, value in strongest),
            "; ".join(source.title(reason) for reason in item.because) or "–",
        )
    both = Table.grid(padding=(0, 2), expand=True)
    both.add_column(ratio=2)
    both.add_column(ratio=5)
    both.add_row(left, right)
    return both


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    return table


def _figure(metrics: Mapping[str, Any], name: str) -> str:
    return f"{metrics[name]:.4f}" if name in metrics else "–"
