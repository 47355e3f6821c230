"""Runs the rows of `benchmarks.models`, each in a process of its own, and keeps those that are finished in a file."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models.libraries import PACKAGES
from benchmarks.models.tables import SPLITS
from recsys.evaluation.case_metrics import case_metrics, places_of_ties
from recsys.evaluation.cases import Cases
from recsys.evaluation.ensemble import Ensemble
from recsys.evaluation.ranking import blocks

SHOWN = ("hr@10", "ndcg@10")
ENSEMBLE = Ensemble.kind
FURTHER = {"RecBole": ("numpy<2",)}
"""Packages, or bounds of them, that a library needs and does not name itself."""
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: who ran (`defaults`, `searched`, `with` options, or a library), which kind or model, with which seed, and its figures or
    `error`."""

    table: str
    who: str
    model: str
    seed: int
    search_minutes: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)
    train_cpu_s: float = 0.0
    peak_mb: float = 0.0
    config: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def key(self) -> tuple[str, str, str, int, float]:
        return self.table, self.who, self.model, self.seed, self.search_minutes


class Kept:
    """Finished runs in a file of JSON lines, so that a benchmark that was ended goes on where it was."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._found = path, dict[tuple[str, str, str, int, float], Measured]()
        if path is not None and path.exists():
            for line in path.read_text("utf-8").splitlines():
                run = Measured(**json.loads(line))
                self._found[run.key] = run

    def of(self, key: tuple[str, str, str, int, float]) -> Measured | None:
        return self._found.get(key)

    def keep(self, run: Measured) -> Measured:
        self._found[run.key] = run
        if self._path is not None and not run.error:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(run)) + "\n")
        return run


def run_kind(table: str, kind: str, seed: int, search_minutes: float, kept: Kept, options: Mapping[str, Any] | None = None) -> Measured:
    """Train one kind of this project in a process of its own, after a search of so many minutes or with these options, and judge it
    once."""
    who = "searched" if search_minutes else "defaults"
    if options:
        who = f"with {_said(options)}"
    asked = {"table": table, "kind": kind, "seed": seed, "search_s": 60 * search_minutes, "options": options or {}}
    return _run(Measured(table, who, kind, seed, search_minutes), asked, kept)


def run_ensemble(
    table: str,
    kinds: Sequence[str],
    seed: int,
    kept: Kept,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    train_once: bool = False,
) -> Measured:
    """Train several kinds in one process, with the defaults or the `options` of some, and judge them once as one ranking.

    `train_once`: by models that have not learnt from the validation part.
    """
    given = options or {}
    who = "ensemble of " + ", ".join(f"`{kind}` with {_said(given[kind])}" if kind in given else f"`{kind}`" for kind in kinds)
    asked = {"table": table, "kinds": list(kinds), "seed": seed, "search_s": 0.0, "options": given, "train_once": train_once}
    if train_once:
        who += "; each trained once, without the validation part"
    return _run(Measured(table, who, ENSEMBLE, seed), asked, kept)


def _run(run: Measured, asked: Mapping[str, Any], kept: Kept) -> Measured:
    """Return a run with its figures: those that are kept, or what a process of its own says."""
    if (found := kept.of(run.key)) is not None:
        return found
    said, error = _last_line([sys.executable, "-m", "benchmarks.models.row", json.dumps(asked)])
    if error := error or str(said.get("error", "")):
        return kept.keep(replace(run, error=error))
    figures = {name: said[name] for name in SHOWN}
    measured = {"train_cpu_s": said["train_cpu_s"], "peak_mb": said["peak_mb"], "config": said["config"]}
    return kept.keep(replace(run, figures=figures, **measured))


def _said(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())


def run_library(table: str, cases: Cases, name: str, python: str, seed: int, kept: Kept) -> Measured:
    """Train another library in its own Python, on the same interactions, and judge its scores as ours are judged."""
    if (found := kept.of((table, name, name, seed, 0.0))) is not None:
        return found
    training = cases.training()
    n_users = int(cases.part.users.max()) + 1
    if training.n_users != n_users:
        raise ValueError(f"{table}: {n_users - training.n_users} users have no training item")
    position = {item: at for at, item in enumerate(cases.part.item_ids)}
    axis = np.array([position[item] for item in training.item_ids])
    with tempfile.TemporaryDirectory(prefix="recsys-libraries-") as folder:
        train, scores = Path(folder) / "train.npz", Path(folder) / "scores.npy"
        np.savez(train, indptr=training.user_starts(), items=axis[training.items], n_items=len(position))
        script = str(Path(__file__).with_name("libraries.py"))
        said, error = _last_line([python, script, name, str(train), str(scores), str(seed)])
        if error:
            return kept.keep(Measured(table, name, name, seed, error=error))
        figures = judged(np.load(scores), cases)
    config = {"version": said["version"], "model": said["model"]}
    return kept.keep(Measured(table, name, name, seed, 0.0, figures, said["train_cpu_s"], said["peak_mb"], config))


def judged(scores: np.ndarray, cases: Cases) -> dict[str, float]:
    """Return the figures of scores (U, I) of all users and items: ties have their expected place, what is not finite is ranked last."""
    scores = np.where(np.isfinite(scores), scores, -np.inf)
    above, tied = np.zeros(len(cases.targets), np.int64), np.zeros(len(cases.targets), np.int64)
    for block in blocks(len(cases), len(cases.part.item_ids)):
        own = cases.of_block(block)
        rows = cases.case_of[own] - block.start
        of_users = np.where(cases.ranked(block), scores[cases.users[block]], np.float32(-np.inf))[rows]
        wanted = of_users[np.arange(len(rows)), cases.targets[own]][:, None]
        above[own] = np.where(np.isneginf(wanted[:, 0]), -1, (of_users > wanted).sum(axis=1))
        tied[own] = (of_users == wanted).sum(axis=1) - 1
    metrics = case_metrics(places_of_ties(above, tied, cases.case_of), cases.case_of, len(cases))
    return {name: round(float(metrics[name].mean()), 5) for name in SHOWN}


def python_with(name: str, folder: Path) -> tuple[str, str]:
    """Return the Python of a library's own environment under `folder`, made and filled if it is not there; or why it could not be."""
    home = folder / name.lower()
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        install = [str(python), "-m", "pip", "install", "--quiet", PACKAGES[name], *FURTHER.get(name, ())]
        for step in ([sys.executable, "-m", "venv", str(home)], install):
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode:
                return str(python), _reason(done.stderr)
        (home / "ready").touch()
    return str(python), ""


def _last_line(command: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Run a command; return the JSON of its last line, or why there is none."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {}, _reason(done.stderr) or f"exit code {done.returncode}"
    return json.loads(lines[-1]), ""


def _reason(errors: str) -> str:
    """Return the line of an error output that says most, without paths."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    said = [line for line in lines if "Error" in line or line.lower().startswith("error")] or lines
    words = [word if "/" not in word else "…" for word in (said[-1] if said else "").split()]
    return "".join(c if c.isprintable() else " " for c in " ".join(words))[:200]


def spread(runs: Sequence[Measured], name: str) -> str:
    """Return the mean over seeds, ± the standard deviation where there are several."""
    values = [run.figures[name] for run in runs]
    mean = f"{statistics.mean(values):.4f}".removeprefix("0")
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}".replace("± 0.", "± .")


def cases_of(table: str) -> Cases:
    """Return the cases of a table."""
    return SPLITS[table].read()
