"""Measure a step of an embedding table whose loss is sampled: Adam over all items, and Adam over the items of the step.

Examples:
    python -m benchmarks.table_steps
    python -m benchmarks.table_steps --items 10000 100000 --rows 4096 --json

A step reads `--rows` distinct random items of a table of 64 dimensions, adds up a gradient for each, and moves the table. `all` writes
the gradient into a table of zeros and moves every item (`recsys.models.adam`), `rows` reads and moves these items alone
(`recsys.models.row_adam`). One thread; both in turns, the median of `--steps` steps of each in milliseconds of processor time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.figures import Spread, benchmark_parser, emit, run_benchmark
from recsys.models.adam import Adam
from recsys.models.row_adam import RowAdam

FACTORS = 64
N_WARM = 2


def steps_over_all(n_items: int) -> Callable[[torch.Tensor], None]:
    """Return a step of plain Adam for the rows that a batch reads."""
    table = torch.nn.Parameter(torch.zeros(n_items, FACTORS))
    adam = Adam([table], 1e-3)

    def step(rows: torch.Tensor) -> None:
        adam.clear()
        read = table[rows]
        read.backward(torch.ones_like(read))  # type: ignore[no-untyped-call]
        adam.step()

    return step


def steps_over_rows(n_items: int) -> Callable[[torch.Tensor], None]:
    """Return a step that moves the rows of a batch alone."""
    adam = RowAdam(torch.zeros(n_items, FACTORS), 1e-3)

    def step(rows: torch.Tensor) -> None:
        read = adam.read(rows)
        read.backward(torch.ones_like(read))  # type: ignore[no-untyped-call]
        adam.step()

    return step


def measured(n_items: int, n_rows: int, n_steps: int) -> tuple[Spread, Spread]:
    """Return the milliseconds of steps over all items, and over rows."""
    chance = np.random.default_rng(0)
    ways = steps_over_all(n_items), steps_over_rows(n_items)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(N_WARM + n_steps):
        rows = torch.from_numpy(chance.choice(n_items, min(n_rows, n_items), replace=False))
        for way, its_times in zip(ways, times, strict=True):
            started_s = time.process_time()
            way(rows)
            its_times.append(1_000 * (time.process_time() - started_s))
    return Spread(tuple(times[0][N_WARM:])), Spread(tuple(times[1][N_WARM:]))


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--items", nargs="+", type=int, default=[10_000, 100_000, 1_000_000], help="sizes of the table")
    parser.add_argument("--rows", type=int, default=8_192, help="items that a step reads (default: 8,192)")
    parser.add_argument("--steps", type=int, default=15, help="timed steps of each way (default: 15)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, figures = [], {}
    for n_items in options.items:
        over_all, over_rows = measured(n_items, options.rows, options.steps)
        ratio = over_all.median / over_rows.median
        rows.append((f"{n_items:,}", f"{over_all.median:.1f}", f"{over_rows.median:.1f}", f"{ratio:.1f}"))
        figures[str(n_items)] = {"all_ms": round(over_all.median, 2), "rows_ms": round(over_rows.median, 2), "ratio": round(ratio, 2)}
    emit("table_steps", "one step of a table", ("items", "all, ms", "rows, ms", "ratio"), rows, figures, as_json=options.json)
    return 0


if __name__ == "__main__":
    run_benchmark(main)
