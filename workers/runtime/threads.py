"""Limits the threads of numerical libraries, of those too that are loaded later."""

from __future__ import annotations

import os
import sys

from threadpoolctl import threadpool_limits


def limit_threads(n: int) -> None:
    """Let numpy's and torch's products take `n` threads of this process; more would take the cores that Redis and the broker need.

    torch reads `OMP_NUM_THREADS` when it is imported, which happens when the first model is loaded.
    """
    os.environ["OMP_NUM_THREADS"] = str(n)
    threadpool_limits(n, user_api="blas")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n)
