"""Has everything that is compiled made before a worker joins its group: the first time takes seconds in which nobody sends heartbeats.

    python -m workers.compilation
"""

from __future__ import annotations

import logging
import time

import numpy as np

from recsys.engine import Engine
from workers.list_records import ItemIds, ListHead, encode_lists

log = logging.getLogger(__name__)

SLOW_S = 1.0


def compile_all() -> float:
    """Make a list; seconds that it took. What is compiled is kept where that is possible, and then takes a tenth of a second."""
    started = time.perf_counter()
    engine = Engine()
    engine.ensure_items(2)
    engine.neighbours.hold_all()
    engine.users.load({"u": None})
    slots = np.array([engine.users.slot("u")], np.int64)
    heads = [ListHead("u", 0, 0, None)]
    lists = engine.recommend(slots, {}, 0)
    encode_lists(heads, lists, ItemIds(["a", "b"]).texts(), generated_ts_ms=0, model_versions={}, variant="")
    seconds = time.perf_counter() - started
    if seconds > SLOW_S:
        log.info("compiled in %.1f s", seconds)
    return seconds


if __name__ == "__main__":
    compile_all()
