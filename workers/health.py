"""`python -m workers.health [FILE]`, the health check of containers; `workers.runtime.health` describes it."""

from __future__ import annotations

import sys

from workers.runtime.health import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
