"""Time the start of every command beside that of a bare Python.

Examples:
    python -m benchmarks.start --check
    python -m benchmarks.start --repeats 9 --json

Each command's help is one start: it imports what the command line of that command needs. Commands that do their work without a server are
started as they are. A round starts all of them and the two yardsticks, `python -c pass` and `python -c "import typer"`, in turns, so that a
slow moment of the machine meets all. The figure is the processor time, as a multiple of that of the bare Python: its least value over the
rounds, because noise only adds.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import benchmark_parser, machine, run_benchmark
from workers.cli.app import whole_tree

LIMIT_RATIO = 26.0
"""A bare Python takes some 15 ms on a machine of 2024: 0.4 s at most."""
BARE, TYPER = ("python -c pass", "python -c import typer")
EVENT = "user_id,item_id,type,event_ts_ms\nu1,i1,play,1763200000000\n"


@dataclass(frozen=True, slots=True)
class Start:
    """The least processor time and the least elapsed time of one command, in ms."""

    command: str
    cpu_ms: float
    wall_ms: float
    ratio: float


def commands() -> dict[str, list[str]]:
    """Return name ▸ arguments of Python, for the yardsticks, all help pages, and commands that need no server."""
    cli = ["-m", "workers.cli"]
    found = {BARE: ["-c", "pass"], TYPER: ["-c", "import typer"]}
    found |= {f"recsys {' '.join(path)}".strip(): [*cli, *path] for path in (["--version"], ["settings"], ["models", "list"])}
    found["recsys events publish FILE --dry-run"] = [*cli, "events", "publish", "events.csv", "--dry-run"]
    return found | {f"recsys {' '.join(path)} --help": [*cli, *path, "--help"] for path in _paths(whole_tree())}


def _paths(command: Any, above: tuple[str, ...] = ()) -> Iterator[list[str]]:
    yield list(above)
    for name, below in getattr(command, "commands", {}).items():
        yield from _paths(below, (*above, name))


def measure(repeats: int) -> list[Start]:
    """Start every command `repeats` times, in turns."""
    chosen = commands()
    cpu = dict.fromkeys(chosen, float("inf"))
    wall = dict.fromkeys(chosen, float("inf"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECSYS_")} | {"RECSYS_CONFIG": os.devnull}
    environment |= {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "events.csv").write_text(EVENT, "utf-8")
        for _ in range(repeats):
            for name, arguments in chosen.items():
                before_s, started_s = _children_s(), time.perf_counter()
                subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=folder, env=environment)
                wall[name] = min(wall[name], (time.perf_counter() - started_s) * 1e3)
                cpu[name] = min(cpu[name], (_children_s() - before_s) * 1e3)
    return [Start(name, cpu[name], wall[name], cpu[name] / cpu[BARE]) for name in chosen]


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument("--check", action="store_true", help=f"exit with 1 if a command takes more than {LIMIT_RATIO:g} bare Pythons")
    options = parser.parse_args()
    found = sorted(measure(options.repeats), key=lambda one: -one.ratio)
    worst = found[0]
    if options.json:
        starts = [asdict(one) | {"cpu_ms": round(one.cpu_ms), "wall_ms": round(one.wall_ms), "ratio": round(one.ratio, 1)} for one in found]
        print(json.dumps({"machine": machine(), "limit_ratio": LIMIT_RATIO, "worst_ratio": round(worst.ratio, 1), "starts": starts}))
    else:
        for one in found:
            print(f"{one.cpu_ms:6.0f} ms of processor  {one.wall_ms:6.0f} ms elapsed  {one.ratio:5.1f} x  {one.command}")
        print(f"slowest: {worst.ratio:.1f} times a bare Python; the limit is {LIMIT_RATIO:g}")
    return 1 if options.check and worst.ratio > LIMIT_RATIO else 0


if __name__ == "__main__":
    run_benchmark(main)
