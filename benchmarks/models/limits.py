"""What kinds of models must reach on public splits: HR@10 and NDCG@10, near or above the best published rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean

from benchmarks.models.measure import ENSEMBLE, SHOWN, Measured

LEAST = {
    "ml-1m-ncf": {"ials": (0.727, 0.450), "ease": (0.718, 0.449), "slim": (0.715, 0.446), ENSEMBLE: (0.731, 0.4521)},
    "ml-1m-sasrec": {"sasrec": (0.312, 0.183), ENSEMBLE: (0.325, 0.193)},
}
"""By table and model, for its best row: shipped defaults, searched, or with options that are given. That of the ensemble on `ml-1m-ncf` is
the best published row."""


def missed(table: str, runs: Sequence[Measured]) -> Iterator[str]:
    """Yield a line for each model with a limit whose rows, means over their seeds, all fall short of it or could not be run."""
    for model, least in LEAST[table].items():
        own = [run for run in runs if run.model == model]
        rows = [[run for run in own if run.who == who and not run.error] for who in dict.fromkeys(run.who for run in own)]
        means = [[mean(run.figures[name] for run in row) for name in SHOWN] for row in rows if row]
        if own and not any(all(found >= bound for found, bound in zip(row, least, strict=True)) for row in means):
            best = max(means, key=lambda row: row[-1], default=None)
            found = "did not run" if best is None else " / ".join(f"{value:.4f}" for value in best)
            yield f"{table}, {model}: {found}, at least {' / '.join(f'{bound:.4f}' for bound in least)} must be"
