"""One training of one kind, in a process of its own, so that its peak of memory is its own: `python -m benchmarks.models.row REQUEST`.

REQUEST is JSON: table, kind, seed, search_s, options. The last line of the output is JSON: the figures of `recsys evaluate`, and peak_mb.
"""

from __future__ import annotations

import json
import resource
import sys

from benchmarks.models.tables import SPLITS
from workers.operations.evaluation import Request, evaluate_kinds
from workers.runtime.threads import limit_threads


def main() -> int:
    asked = json.loads(sys.argv[1])
    limit_threads(1)
    split = SPLITS[asked["table"]]
    cases = split.read()
    request = Request([asked["kind"]], split.protocol, asked["seed"], asked["search_s"], {asked["kind"]: asked["options"]})
    figures = evaluate_kinds(cases, request, say=lambda line: print(line, file=sys.stderr, flush=True))[asked["kind"]]
    figures["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
