"""Run the short set of benchmarks and print, or write to docs/performance.md, what they measured.

Examples:
    python -m benchmarks.performance --check
    python -m benchmarks.performance --only ingest lists
    KAFKA_HOME=… RECSYS_DATA=… python -m benchmarks.performance --full --write

Each benchmark is a process of its own (`python -m benchmarks.NAME --json`). Freshness is measured on an Apache Kafka if KAFKA_HOME names
one, and the cost of an event on a Redis if a redis-server is on the PATH; otherwise on the embedded servers. `--full` runs the long forms
on both servers, judges the real one, and adds `recovery`, which has no target. `--write` replaces the part of docs/performance.md between
its two markers and draws docs/plots/*.svg. A table holds the figures of one run only; figures of benchmarks that did not run are not kept.
If one cannot be run, the others still are, nothing is written, and the exit code is 1.
The duration of the short set is itself a target.

Limits in events/s, lists/s and milliseconds hold for a machine of a certain speed (`benchmarks.machine_speed`), measured before the first
and after the last benchmark: on a slower machine they are as much lower, and the table says where only that made a figure reach its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import run_benchmark
from benchmarks.machine_speed import speed

DOCS = Path(__file__).parents[1] / "docs"
START, END = "<!-- figures: written by `make bench` -->", "<!-- end of figures -->"
SHORT: Mapping[str, Sequence[str]] = {
    "ingest": ("--events", "120000", "--full-events", "30000", "--naive-events", "2500", "--state-repeats", "2"),
    "ingest-zipf": ("--stream", "zipf", "--events", "80000", "--only", "state"),
    "freshness": ("--load", "0.5", "--seconds", "10", "--warm-events", "60000"),
    "freshness-kafka": ("--load", "0.5", "--warm-events", "60000", "--broker", "kafka"),
    "lists": ("--items", "1000000", "--repeats", "1"),
    "state": ("--users", "100000"),
    "scale": ("--only", "users", "--repeats", "3"),
    "scale-redis": ("--only", "users", "--repeats", "3", "--server", "redis"),
    "train": ("--only", "ials", "log", "--threads", "1", "--repeats", "1", "--chosen"),
}
"""The promised figures, in the shortest form that measures them."""
FULL: Mapping[str, Sequence[str]] = {
    "ingest": ("--repeats", "3"),
    "ingest-zipf": ("--stream", "zipf", "--repeats", "3"),
    "freshness": (),
    "freshness-kafka": ("--broker", "kafka"),
    "lists": ("--full",),
    "state": ("--users", "10000", "100000", "1000000"),
    "scale": ("--repeats", "3"),
    "scale-redis": ("--repeats", "3", "--server", "redis"),
    "train": (),
    "recovery": (),
}
REAL: Mapping[str, str] = {"freshness": "freshness-kafka", "scale": "scale-redis"}
"""Scenario ▸ the same scenario on a real server."""
ITSELF = "performance"
"""Scenario name of the duration of the short set."""
TIMEOUT_S = 1_200
Figures = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Target:
    """One promise: a figure, the value that it must reach, and the value to aim at. `more`: higher is better. `is_ratio`: it does not
    depend on the speed of the machine."""

    what: str
    scenario: str
    figure: Callable[[Mapping[str, Any]], float]
    least: float
    aim: float
    more: bool = True
    is_ratio: bool = False

    def ratio(self, measured: float, machine: float = 1.0) -> float:
        """Return 1 if the required value is just reached, more if it is exceeded, on a machine of this speed; one that is faster than that
        of the limits counts as that."""
        reached = measured / self.least if self.more else self.least / measured
        return reached if self.is_ratio else reached / min(1.0, machine)


def _of_size(found: Mapping[str, Any], n_items: int) -> Mapping[str, Any]:
    """Return the figures of one size."""
    case: Mapping[str, Any] = next(case for case in found["cases"] if case["n_items"] == n_items)
    return case


def _case(n_items: int, key: str) -> Callable[[Mapping[str, Any]], float]:
    """Return a reader of the median of a figure of one size."""
    return lambda found: statistics.median(_of_size(found, n_items)[key])


def _least_recall(n_items: int) -> Callable[[Mapping[str, Any]], float]:
    """Return a reader of the lowest recall of any index of one size."""
    return lambda found: min(index["recall_at_100"] for index in _of_size(found, n_items)["index"].values())


def _users_ratio(found: Mapping[str, Any]) -> float:
    """Return the cost of an event among many users beside that among few."""
    return float(found["cost_ratio_users"])


TARGETS = (
    Target("state path, MovieLens 1M, events/s", "ingest", lambda f: f["state_events_per_s"], 40_000, 100_000),
    Target("state path, Zipf stream, events/s", "ingest-zipf", lambda f: f["state_events_per_s"], 15_000, 40_000),
    Target("ratio to the naive Faust agent", "ingest", lambda f: f["ratio_to_naive"], 30, 80, is_ratio=True),
    Target("share of the limit", "ingest", lambda f: f["share_of_limit"], 0.4, 0.7, is_ratio=True),
    Target("lists/s, 4 thousand items, all sources", "ingest", lambda f: f["lists_per_s"], 4_000, 10_000),
    Target("lists/s without the sequence model", "ingest", lambda f: f["lists_without_sequence_per_s"], 10_000, 20_000),
    Target("lists/s, rules and all stages on", "ingest", lambda f: f["lists_with_homepage_per_s"], 6_000, 10_000),
    Target("lists/s, 1 million items, two threads", "lists", _case(1_000_000, "lists_per_s_in_2_threads"), 1_000, 4_000),
    Target("the same, rules and all stages on", "lists", _case(1_000_000, "homepage_lists_per_s_in_2_threads"), 1_500, 3_000),
    Target("recall@100 of the index, 1 million items", "lists", _least_recall(1_000_000), 0.99, 0.99, is_ratio=True),
    Target("freshness at 50 % load, Apache Kafka, p50, ms", "freshness-kafka", lambda f: f["p50_ms"], 30, 10, more=False),
    Target("freshness at 50 % load, Apache Kafka, p99, ms", "freshness-kafka", lambda f: f["p99_ms"], 100, 50, more=False),
    Target("freshness at 50 % load, embedded broker, p50, ms", "freshness", lambda f: f["p50_ms"], 30, 10, more=False),
    Target("freshness at 50 % load, embedded broker, p99, ms", "freshness", lambda f: f["p99_ms"], 100, 50, more=False),
    Target("Redis bytes a user, history 100, embedding 64", "state", lambda f: f["bytes_per_user"], 1_000, 600, more=False, is_ratio=True),
    Target("iALS time against implicit at equal NDCG", "train", lambda f: f["time_ratio_to_implicit"], 1.5, 0.8, more=False, is_ratio=True),
    Target("cost of an event, 10,000 to 1,000,000 users, Redis", "scale-redis", _users_ratio, 1.25, 1.05, more=False, is_ratio=True),
    Target("cost of an event, 10,000 to 1,000,000 users, Valkey", "scale", _users_ratio, 1.25, 1.05, more=False, is_ratio=True),
    Target("the short set of benchmarks, minutes", ITSELF, lambda f: f["took_s"] / 60, 10, 10, more=False),
)


def run(name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Run a benchmark and return its figures. Raises: RuntimeError when it fails."""
    started = time.perf_counter()
    command = [sys.executable, "-m", f"benchmarks.{name.split('-')[0]}", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise RuntimeError(f"{' '.join(command[1:])} ended with {done.returncode}")
    print("\n".join(lines[:-1]), flush=True)
    found: dict[str, Any] = json.loads(lines[-1])
    took_s = round(time.perf_counter() - started)
    return found | {"command": " ".join(["python", *command[1:]]), "took_s": took_s}


def met(figures: Figures) -> list[tuple[Target, float]]:
    """Return the targets whose scenario was run, with the measured values."""
    found = []
    for target in TARGETS:
        if target.scenario in figures:
            try:
                found.append((target, float(target.figure(figures[target.scenario]))))
            except (KeyError, StopIteration):
                continue  # this form of the benchmark does not measure it
    return found


def missed(figures: Figures) -> list[Target]:
    """Return the missed targets. Where the same scenario ran on a real server, only that one counts."""
    judged = ((target, measured) for target, measured in met(figures) if REAL.get(target.scenario) not in figures)
    return [target for target, measured in judged if target.ratio(measured, _speed(figures, target)) < 1]


def usual(*, full: bool) -> list[str]:
    """Return the scenarios for this machine: on a real server where there is one; with `full` also on the embedded one."""
    there = {"kafka": os.environ.get("KAFKA_HOME"), "redis": shutil.which("redis-server")}
    can = [name for name in (FULL if full else SHORT) if there.get(name.partition("-")[2], "always")]
    return can if full else [name for name in can if REAL.get(name) not in can]


def table(figures: Figures) -> str:
    """Return promises and measured values as a Markdown table."""
    lines = ["| what | measured | at least | aim | |", "| --- | ---: | ---: | ---: | --- |"]
    for target, measured in met(figures):
        machine = _speed(figures, target)
        verdict = "**short**" if target.ratio(measured, machine) < 1 else "" if target.ratio(measured) >= 1 else f"machine at {machine:.2f}"
        bound = "" if target.more else "≤ "
        lines.append(f"| {target.what} | {_short(measured)} | {bound}{_short(target.least)} | {bound}{_short(target.aim)} | {verdict} |")
    first = next(iter(figures.values()))["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    where = f"{first['cpus']} cores ({first['cpu_model']}), {first['memory_gib']} GiB, Python {first['python']}"
    lines += ["", f"Machine: {where}, {versions}; broker, Redis and worker all on it.", ""]
    lines += [
        f"* `{one['command']}`: {one['took_s']} s, load before it {one['machine']['load_1m']}" for one in figures.values()
    ]
    machine = next(iter(figures.values())).get("speed", 1.0)
    lines += ["", f"The machine had {machine:.2f} of the speed of the limits' (`benchmarks.machine_speed`)."]
    return "\n".join(lines)


def _speed(figures: Figures, target: Target) -> float:
    """Return the speed of the machine while a figure was measured, 1 for the machine of the limits."""
    return float(figures[target.scenario].get("speed", 1.0))


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def plots(figures: Figures, folder: Path) -> list[str]:
    """Draw the measured values and return the names of the files."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "recsys", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    names = []
    reached = met(figures)
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(reached) + 1))
    for row, (target, measured) in enumerate(reversed(reached)):
        machine = _speed(figures, target)
        ratio = target.ratio(measured, machine)
        axes.barh(row, ratio, color="#3a7d44" if ratio >= 1 else "#b23a48")
        axes.plot(target.ratio(target.aim), row, marker="|", color="black", markersize=12)
        axes.annotate(f" {_short(measured)}", (ratio, row), va="center")
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(reached)), [target.what for target, _ in reversed(reached)])
    axes.set_xscale("log")
    axes.set_xlabel("measured / at least, at the machine's speed (times better than the line at 1); | is the aim")
    names.append(_saved(figure, folder / "targets.svg"))
    if "ingest" in figures:
        found = figures["ingest"]
        figure, axes = pyplot.subplots(figsize=(8, 2.2))
        runs = [name for name in ("naive", "full", "without_sequence", "state", "decode", "redis") if f"{name}_events_per_s" in found]
        values = [found[f"{name}_events_per_s"] for name in runs]
        axes.barh(runs, values, color=["#888888", "#3a7d44", "#3a7d44", "#3a7d44", "#bbbbbb", "#bbbbbb"][: len(runs)])
        for row, value in enumerate(values):
            axes.annotate(f" {value:,}", (value, row), va="center")
        axes.set_xscale("log")
        axes.set_xlabel(f"events/s, {found['stream_name']}: baseline, the worker, and the two limits")
        names.append(_saved(figure, folder / "ingest.svg"))
    loads = {
        f"{broker}, load {load}": found
        for broker, name in (("embedded broker", "freshness"), ("Apache Kafka", "freshness-kafka"))
        for load, found in figures.get(name, {}).get("loads", {}).items()
    }
    if loads:
        figure, axes = pyplot.subplots(figsize=(8, 3))
        percentiles = ("p50_ms", "p90_ms", "p99_ms", "p999_ms")
        for load, found in loads.items():
            axes.plot(range(len(percentiles)), [found[key] for key in percentiles], marker="o", label=load)
        axes.set_xticks(range(len(percentiles)), [key.removesuffix("_ms") for key in percentiles])
        axes.set_yscale("log")
        axes.set_ylabel("ms from event to list")
        axes.legend(frameon=False)
        names.append(_saved(figure, folder / "freshness.svg"))
    return names


def _saved(figure: Any, path: Path) -> str:
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path.name


def write(figures: Figures, document: Path) -> None:
    """Write tables and plots between the markers of a document. Raises: ValueError if it has no markers."""
    text = document.read_text("utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{document.name} has no markers for the figures")
    pictures = "\n\n".join(f"![{name.removesuffix('.svg')}](plots/{name})" for name in plots(figures, document.parent / "plots"))
    document.write_text(f"{before}{START}\n\n{table(figures)}\n\n{pictures}\n\n{END}{after}", "utf-8")


def _add_speed(speeds: list[float], failed: list[str]) -> None:
    """Add the machine's speed of this moment, or why it is not known."""
    try:
        speeds.append(speed())
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        failed.append(f"machine_speed ({error})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FULL, metavar="NAME", help=f"run only these: {', '.join(FULL)}")
    parser.add_argument("--full", action="store_true", help="run the long forms")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and docs/plots (needs the extra `bench`)")
    arguments = parser.parse_args()
    figures, failed, forms = dict[str, dict[str, Any]](), list[str](), FULL if arguments.full else SHORT
    speeds = list[float]()
    _add_speed(speeds, failed)
    started_s = time.perf_counter()
    for name in arguments.only or usual(full=arguments.full):
        try:
            figures[name] = run(name, forms.get(name, FULL[name]))
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            failed.append(f"{name} ({error})")
    if figures and not (arguments.only or arguments.full or failed):
        figures[ITSELF] = {
            "command": "python -m benchmarks.performance",
            "took_s": round(time.perf_counter() - started_s),
            "machine": next(iter(figures.values()))["machine"],
        }
    _add_speed(speeds, failed)
    for found in figures.values() if speeds else ():
        found["speed"] = statistics.fmean(speeds)
    if figures:
        print(table(figures))
    if failed:
        print(f"performance: no figures of: {'; '.join(failed)}{'; nothing is written' if arguments.write else ''}", file=sys.stderr)
    elif arguments.write:
        write(figures, DOCS / "performance.md")
    short = [target.what for target in missed(figures)]
    if short:
        print(f"performance: missed targets: {'; '.join(short)}", file=sys.stderr)
    return 1 if failed or (short and arguments.check) else 0


if __name__ == "__main__":
    run_benchmark(main)
