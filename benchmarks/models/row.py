"""One training of one kind, or of an ensemble, in a process of its own, so that its peak of memory is its own: `python -m
benchmarks.models.row REQUEST`.

REQUEST is JSON: table, kind, seed, search_s, options; or kinds, with options by kind, and train_once for an ensemble of them. The last
line of the output is JSON: the figures of `recsys evaluate`, and peak_mb. What each kind has alone goes to standard error.
"""

from __future__ import annotations

import json
import resource
import sys

from benchmarks.models.measure import ENSEMBLE, SHOWN
from benchmarks.models.tables import SPLITS
from workers.operations.evaluation import Request, evaluate_kinds
from workers.runtime.threads import limit_threads


def main() -> int:
    asked = json.loads(sys.argv[1])
    limit_threads(1)
    split = SPLITS[asked["table"]]
    cases = split.read()
    together = "kinds" in asked
    kinds, options = (asked["kinds"], asked["options"]) if together else ([asked["kind"]], {asked["kind"]: asked["options"]})
    once = bool(asked.get("train_once"))
    request = Request(kinds, split.protocol, asked["seed"], asked["search_s"], options, ensemble=together, train_once=once)
    found = evaluate_kinds(cases, request, say=lambda line: print(line, file=sys.stderr, flush=True))
    for kind, own in found.items():
        print(kind, *(f"{name} {own[name]}" for name in SHOWN if name in own), file=sys.stderr, flush=True)
    figures = found[ENSEMBLE if together else asked["kind"]]
    figures["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
