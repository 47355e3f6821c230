"""Writes docs/openapi.json, the description of the gateway's routes.

`python -m workers.web.openapi_doc` writes it, with `--check` it says whether it is stale.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workers.runtime.status import WorkerStatus
from workers.settings import Settings
from workers.web.access import Clients
from workers.web.app import build_app, openapi_of
from workers.web.gateway_metrics import GatewayMetrics
from workers.web.parts import Parts

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"


def description() -> str:
    """Return the description as it is written. Reads neither environment nor file, and connects to nothing."""
    settings, status, nothing = Settings.model_construct(), WorkerStatus(), None
    parts: Any = (nothing,) * 5
    app = build_app(Parts(settings, Clients(settings.gateway), GatewayMetrics(status), status, *parts))
    return json.dumps(openapi_of(app), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 written or current, 1 stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    made = description()
    if parser.parse_args(arguments).check:
        is_current = DOCUMENT.exists() and DOCUMENT.read_text("utf-8") == made
        print("docs/openapi.json is current" if is_current else "docs/openapi.json is stale: run `python -m workers.web.openapi_doc`")
        return 0 if is_current else 1
    DOCUMENT.write_text(made, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
