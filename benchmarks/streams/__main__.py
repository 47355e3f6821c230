"""Measure how well the list predicts the next item on logs of real behaviour, beside simple baselines.

Examples:
    RECSYS_DATA=… python -m benchmarks.streams
    RECSYS_DATA=… python -m benchmarks.streams --data deskdrop foursquare-nyc --json
    python -m benchmarks.streams --file EVENTS.csv.xz --items ITEMS.csv --events 50000

Test-then-learn over the whole log in time order: before an event is learnt, all items that somebody touched before are ranked for its
user; ties share their mean rank. Two protocols:

* discovery: a target is a user's first touch of an item that somebody touched before, by a user with at least one earlier item. The
  user's own items are left out.
* again: a target is a repeated touch. Nothing is left out.

A touch is an event that weighs more than 0 by the settings: a dislike, a hide and an impression are no touches. Figures are recall at 10
and 20 over all targets and over the newest 60 % of them; constants are chosen, and the list is first trained, on the oldest 40 % only.

The list is the product's: the same engine, events weighed as the settings do, lists of 40 places of which 20 count (40, so that ties
have their mean rank). In a log of more than 100,000 events, four in a row are ranked at once (--batch), each with its user's exact
history; items are learnt after every batch. An item is described when it is first touched. The recipe is trained on the log so far, first
after 40 % of the targets of discovery, then after each further 20 %. A named data set is read from RECSYS_DATA. A
file has the columns user_id, item_id, type and timestamp (whole s or ms), may have `value` for ratings, and is .csv, .csv.xz or .csv.gz;
rows are counted from 1 below the header.

Baselines: popularity (first touches); recent popularity (which decays: half-lives from 10 touches or 15 minutes on); item-kNN (cosine,
whole history or newest 20); user-kNN (cosine, 20 to 320 users); what goes together with, or follows, the last item; and for *again* the
user's own most frequent and most recent items. Nothing is drawn at random but by the list's training (--seed).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from benchmarks.datasets import DatasetMissing
from benchmarks.figures import benchmark_parser, run_benchmark
from benchmarks.streams.limits import missed
from benchmarks.streams.log import NAMED, BadFile, available
from benchmarks.streams.measure import Measuring, Source, executor
from benchmarks.streams.report import show, write

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "quality.md"


def _sources(data: list[str] | None, file: Path | None, items: Path | None, n_events: int) -> list[Source]:
    if file is not None:
        return [Source(file=file, items=items, n_events=n_events)]
    return [Source(name, n_events=n_events) for name in dict.fromkeys(data or available())]


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.prog = "python -m benchmarks.streams"
    named = f"of {', '.join(NAMED)} (default: all that RECSYS_DATA has)"
    parser.add_argument("--data", nargs="+", action="extend", choices=[*NAMED], metavar="NAME", help=named)
    parser.add_argument("--file", type=Path, metavar="EVENTS.csv", help="a log of your own, instead of --data")
    parser.add_argument("--items", type=Path, metavar="ITEMS.csv", help="descriptions of its items: item_id, categories (separated by |)")
    parser.add_argument("--events", type=int, default=0, metavar="N", help="read only the first N events of each (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the list's training (default: 0)")
    parser.add_argument("--batch", type=int, default=0, metavar="N", help="events listed together (default: 1, in a long log 4)")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes (default: 2)")
    parser.add_argument("--write", action="store_true", help="write the figures to docs/quality.md")
    parser.add_argument("--check", action="store_true", help="exit with 1 if the list misses a limit (benchmarks/streams/limits.py)")
    arguments = parser.parse_args()
    for wrong, message in (
        (arguments.data and arguments.file, "choose --data or --file"),
        (arguments.items and not arguments.file, "--items describes the items of --file"),
        (arguments.events < 0 or arguments.batch < 0 or arguments.jobs < 1, "--events and --batch must be at least 0, --jobs at least 1"),
    ):
        if wrong:
            print(f"streams: {message}", file=sys.stderr)
            return 2
    found = []
    try:
        sources = _sources(arguments.data, arguments.file, arguments.items, arguments.events)
        logs = [(log.name, log.notes) for log in (source.read() for source in sources)]
        with executor(arguments.jobs) as pool:
            measuring = Measuring(pool, sources, arguments.batch, arguments.seed)
            for place, (name, notes) in enumerate(logs):
                found.append(measuring.figures(place, name, notes))
                show(found[-1], sys.stderr if arguments.json else sys.stdout)
    except (BadFile, DatasetMissing) as error:
        print(f"streams: {error}", file=sys.stderr)
        return 2
    if arguments.write:
        write(found, "python -m benchmarks.streams " + " ".join(_arguments()), DOCUMENT)
    if arguments.json:
        print(json.dumps({figures.name: figures.as_json() for figures in found}))
    if not arguments.check:
        return 0
    short = list(missed(found, whole=not arguments.events))
    for line in short:
        print(f"streams: short: {line}", file=sys.stderr)
    return 1 if short else 0


def _arguments() -> list[str]:
    return [argument for argument in sys.argv[1:] if argument not in ("--write", "--json", "--check")]


if __name__ == "__main__":
    os.environ.update(ONE_THREAD)  # of the processes that measure
    run_benchmark(main)
