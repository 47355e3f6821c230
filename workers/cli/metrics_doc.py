"""Writes the table of all metrics in docs/metrics.md.

`python -m workers.cli.metrics_doc` writes it, with `--check` it says whether it is stale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from workers.runtime.collectors import Family, families
from workers.runtime.status import WorkerStatus
from workers.settings import Settings, load_settings

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
HEAD = """# Metrics

<!-- Written by `python -m workers.cli.metrics_doc` from the registries of the workers. Do not edit. -->

Each worker answers `GET /metrics` where `metrics.port` is set ([operations.md](operations.md)). Labels hold partitions, kinds of models,
stages, topics and causes: never a user or an item. A counter's series is named with `_total`; a histogram has `_bucket`, `_sum` and
`_count`.
"""


def worker_families() -> dict[str, list[Family]]:
    """Return kind of worker ▸ its metrics, from the registry of a worker that is built and not started."""
    from workers.stream.app import build_stream
    from workers.trainer.app import build_trainer
    from workers.web.gateway_metrics import GatewayMetrics

    settings: Settings = load_settings()
    found = {}
    for kind, build in (("stream", build_stream), ("trainer", build_trainer)):
        status = WorkerStatus()
        build(settings, status)
        assert status.registry is not None
        found[kind] = families(status.registry)
    found["gateway"] = families(GatewayMetrics().registry)
    return found


def document() -> str:
    """Return the whole page."""
    by_kind = worker_families()
    shared = {family for family in by_kind["stream"] if all(family in of_kind for of_kind in by_kind.values())}
    parts = [HEAD]
    for title, of_it in (
        ("Every worker", sorted(shared, key=lambda family: family.name)),
        *((f"{kind.capitalize()}", [family for family in of_kind if family not in shared]) for kind, of_kind in by_kind.items()),
    ):
        parts.append(f"\n## {title}\n\n| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n")
        for family in of_it:
            labels = ", ".join(f"`{label}`" for label in family.labels)
            parts.append(f"| `{family.name}` | {family.type} | {labels} | {' '.join(family.text.split())} |\n")
    return "".join(parts)


def main(arguments: Sequence[str]) -> int:
    """Write the page; exit code 1 if `--check` finds it stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is stale")
    made = document()
    if parser.parse_args(arguments).check:
        return 0 if DOCUMENT.exists() and DOCUMENT.read_text("utf-8") == made else 1
    DOCUMENT.write_text(made, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
