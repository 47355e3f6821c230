"""Measure kinds of models on public splits, beside published figures and other libraries run on the same split.

Examples:
    RECSYS_DATA=… python -m benchmarks.models --table ml-1m-ncf
    RECSYS_DATA=… python -m benchmarks.models --table ml-1m-sasrec --kinds ials,ease --seeds 1 --search-minutes 0 --others none
    RECSYS_DATA=… python -m benchmarks.models --table ml-1m-ncf --kinds ials --options '{"factors": 192}' --others none
    RECSYS_DATA=… python -m benchmarks.models --table ml-1m-ncf --kinds ials,ease,slim --ensemble --others none
    RECSYS_DATA=… python -m benchmarks.models --table ml-1m-ncf --rows rows.jsonl --others-folder ../libraries --write

Tables: ml-1m-ncf (one item of each user is ranked among 99 given ones) and ml-1m-sasrec (the last item of each user among all). Data comes
from RECSYS_DATA and is never shipped.

Each kind is trained with its shipped defaults, and again after a search of --search-minutes on a validation part of the training data
(`recsys evaluate --search-minutes`). Each run is a process of its own with one thread. The test is looked at once a run, and chooses
nothing. With several seeds a row is the mean ± the standard deviation.

Other libraries run with their own defaults, but for the number of factors (64, as ours), in environments of their own: made under
--others-folder with pip, or the one Python --others-python that has them. What does not install or run is named with its error.
With --rows, finished runs are kept in a file, and a later call goes on from there. --check exits 1 where the best row of a kind that
`benchmarks.models.limits` has a limit for misses it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.datasets import DatasetMissing
from benchmarks.figures import benchmark_parser, emit, run_benchmark
from benchmarks.models.libraries import PACKAGES
from benchmarks.models.limits import missed
from benchmarks.models.measure import Kept, Measured, cases_of, python_with, run_ensemble, run_kind, run_library
from benchmarks.models.report import markdown, rows_of, write
from benchmarks.models.tables import SPLITS
from recsys.models.registry import MODELS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "quality.md"
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def _named(text: str, known: list[str]) -> list[str]:
    """Return the names of a list separated by commas. Raises ValueError that names an unknown one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {name:.40}; there are {', '.join(known)}")
    return names


def _options(text: str) -> dict[str, Any]:
    """Return options in JSON. Raises argparse.ArgumentTypeError."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError('give an object, for example {"factors": 192}')
    return found


def _runs(table: str, kinds: list[str], libraries: list[str], arguments: argparse.Namespace, kept: Kept) -> Iterator[Measured]:
    """Yield the runs in the order of the rows."""
    seeds, minutes = range(arguments.seeds), arguments.search_minutes
    cases = cases_of(table)  # first: without data nothing can run
    if arguments.ensemble:
        yield from (run_ensemble(table, kinds, seed, kept, arguments.options, train_once=arguments.train_once) for seed in seeds)
        kinds = []
    elif arguments.options:
        yield from (run_kind(table, kinds[0], seed, 0.0, kept, arguments.options) for seed in seeds)
        kinds = []
    for kind in kinds:
        yield from (run_kind(table, kind, seed, 0.0, kept) for seed in (seeds if kind not in UNSEEDED else seeds[:1]))
    for kind in kinds:
        if minutes and MODELS[kind].space:
            yield from (run_kind(table, kind, seed, minutes, kept) for seed in seeds)
    for name in libraries:
        python, error = (arguments.others_python, "") if arguments.others_python else python_with(name, arguments.others_folder)
        if error:
            yield Measured(table, name, name, 0, error=error)
            continue
        yield run_library(table, cases, name, python, 0, kept)


UNSEEDED = ("popular", "knn", "ease", "slim")
"""Kinds whose training draws nothing: one seed is all."""


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.prog = "python -m benchmarks.models"
    parser.add_argument("--table", required=True, choices=list(SPLITS), help="the split and its protocol")
    parser.add_argument("--kinds", default="", metavar="A,B", help="kinds of models (default: those of the table)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N − 1 of each kind that draws (default: 5)")
    parser.add_argument("--search-minutes", type=float, default=10.0, metavar="M", help="of each search; 0: none (default: 10)")
    parser.add_argument("--options", type=_options, default={}, metavar="JSON", help="of the only kind, or by kind: one row, with these")
    parser.add_argument("--ensemble", action="store_true", help="one row: all kinds as one ranking (`recsys evaluate --ensemble`)")
    parser.add_argument("--train-once", action="store_true", help="with --ensemble: no kind learns from the validation part")
    parser.add_argument("--others", default="all", metavar="A,B", help=f"some of {', '.join(PACKAGES)}; all, or none (default: all)")
    parser.add_argument("--others-folder", type=Path, metavar="DIR", help="where the libraries' environments are made")
    parser.add_argument("--others-python", metavar="PYTHON", help="one Python that has the libraries")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="keep finished runs in this file, and do not repeat them")
    parser.add_argument("--write", action="store_true", help="write the table to docs/quality.md")
    parser.add_argument("--check", action="store_true", help="exit 1 if the best row of a kind misses its limit")
    arguments = parser.parse_args()
    try:
        kinds = _named(arguments.kinds, list(MODELS)) or list(SPLITS[arguments.table].kinds)
        libraries = list(PACKAGES) if arguments.others == "all" else _named(arguments.others.replace("none", ""), list(PACKAGES))
        if arguments.seeds < 1 or not 0 <= arguments.search_minutes <= 10_000:
            raise ValueError("--seeds must be at least 1, --search-minutes from 0 to 10,000")
        if arguments.options and not arguments.ensemble and len(kinds) != 1:
            raise ValueError("--options: name the one kind that they are for with --kinds")
        by_kind = set(arguments.options) <= set(kinds) and all(isinstance(own, dict) for own in arguments.options.values())
        if arguments.ensemble and not by_kind:
            raise ValueError("--options: with --ensemble they are by kind, for example {\"ials\": {\"factors\": 192}}")
        if arguments.train_once and not arguments.ensemble:
            raise ValueError("--train-once: only with --ensemble")
        if libraries and not (arguments.others_python or arguments.others_folder):
            raise ValueError("--others needs --others-folder, where environments are made, or --others-python; or say --others none")
        runs = []
        for run in _runs(arguments.table, kinds, libraries, arguments, Kept(arguments.rows)):
            runs.append(run)
            said = run.error or ", ".join(f"{name} {value:.4f}" for name, value in run.figures.items())
            print(f"{run.model}, {run.who}, seed {run.seed}: {said}", file=sys.stderr, flush=True)
    except (DatasetMissing, ValueError) as error:
        print(f"models: {error}", file=sys.stderr)
        return 2
    columns = ("", "HR@10", "NDCG@10", "seeds", "training, CPU s", "peak, MB", "error")
    emit("models", arguments.table, columns, rows_of(runs), {"runs": [asdict(run) for run in runs]}, as_json=arguments.json)
    if arguments.write:
        told = [text for text in sys.argv[1:] if text not in ("--write", "--json", "--check")]
        write(arguments.table, markdown(arguments.table, runs, "python -m benchmarks.models " + _shown(told)), DOCUMENT)
    short = list(missed(arguments.table, runs)) if arguments.check else []
    for line in short:
        print(f"models: {line}", file=sys.stderr)
    return 1 if short else 0


def _shown(told: list[str]) -> str:
    """Return the arguments without paths of this machine."""
    hidden = {"--rows", "--others-folder", "--others-python"}
    kept = [text for at, text in enumerate(told) if text not in hidden and (at == 0 or told[at - 1] not in hidden)]
    return " ".join(kept)


if __name__ == "__main__":
    os.environ.update(ONE_THREAD)  # of the processes that train
    run_benchmark(main)
