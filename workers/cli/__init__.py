"""The command line `recsys`. Sub-commands import what they need when they run, so that `--help` is fast.

Exit codes: 0 done, 1 failed, 2 wrong settings or arguments, 130 interrupted. An error is one line on standard error.
"""

from workers.cli.app import main

__all__ = ["main"]
